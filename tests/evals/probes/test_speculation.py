"""The measures of self-speculative decoding, on a model whose drafts are right by construction."""

import copy
import dataclasses
import math
from functools import partial

import pytest
import torch

from evals.probes.speculation import (
    Divergence,
    Prompts,
    Speed,
    Way,
    acceptance_while_all_run,
    agreement,
    chance,
    divergences,
    exchanged,
    in_bf16,
    measure,
    ranks,
    shifted,
    side_by_side,
    with_one_head,
    with_shared_weights,
)
from mtp.decoding.generate import Generation, generate, stream
from mtp.decoding.trees import Tree, best_tree, chain
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.model import MultiTokenTransformer
from tests.mtp.decoding.helpers import clockwork, trained

PROMPTS = [[1, 2, 3], [12, 3], [7], [13, 14, 2, 15], [4, 5]]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_drafts_that_are_always_right_make_k_tokens_per_forward(k: int) -> None:
    found = measure(clockwork(), PROMPTS, 8, k, repeats=1)
    drafts = [f"acceptance_{i}" for i in range(2, k + 1)]
    speeds = ["tokens_per_second", "tokens_per_second_k1", "speedup"]
    assert list(found) == ["tokens_per_forward", *drafts, *speeds, "identical"]
    assert found["tokens_per_forward"] == k and all(found[name] == 1 for name in drafts)
    assert found["identical"] == 1
    assert all(found[name] > 0 for name in speeds)
    assert math.isclose(
        found["speedup"], found["tokens_per_second"] / found["tokens_per_second_k1"]
    )


def test_drafts_that_are_always_wrong_make_one() -> None:
    found = measure(clockwork(shift=1), PROMPTS, 8, 3, repeats=1)
    assert found["tokens_per_forward"] == found["identical"] == 1
    assert found["acceptance_2"] == found["acceptance_3"] == 0


def test_one_head_against_itself_is_timed_twice() -> None:
    found = measure(trained("parallel"), PROMPTS, 8, 1, repeats=1)
    assert found["tokens_per_second"] != found["tokens_per_second_k1"] and found["identical"] == 1


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_counts_do_not_depend_on_the_batch(batch: int) -> None:
    model = trained("parallel")
    found = measure(model, PROMPTS, 20, 4, eos=6, batch=batch, repeats=1)
    whole = generate(model, PROMPTS, 20, 4, eos=6)
    assert found["tokens_per_forward"] == pytest.approx(whole.tokens_per_forward)
    for i in range(2, 5):
        assert found[f"acceptance_{i}"] == pytest.approx(float(whole.acceptance[i - 1]))
    drafts = sum(found[f"acceptance_{i}"] for i in range(2, 5))
    assert found["tokens_per_forward"] == pytest.approx(1 + drafts)


def test_bad_input_is_named() -> None:
    for arguments, message in [
        ({"batch": 0}, "batch is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"k": 5}, "k is 5"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": [[1]] * 3 + [[]]}, "prompt 3 is empty"),
    ]:
        with pytest.raises(BadInput, match=message):
            measure(
                **({"model": clockwork(), "prompts": PROMPTS, "max_new": 4, "k": 2} | arguments)
            )


# --------------------------------------------------------------------------------------------------
# several ways side by side


def test_every_way_gets_its_own_tokens_and_counts() -> None:
    model, tree = trained("parallel"), Tree(((), (0,), (1,), (0, 0), (0, 1)))
    ways: dict[str, Way] = {
        f"k={k}": partial(generate, model, max_new=20, k=k, eos=6) for k in (1, 2, 4)
    }
    ways["tree"] = partial(generate, model, max_new=20, tree=tree, eos=6)
    for batch in (1, 2, 8):
        found = side_by_side(ways, PROMPTS, batch, repeats=2)
        assert list(found) == list(ways)
        for name, speed in found.items():
            alone = [ways[name]([prompt]) for prompt in PROMPTS]
            assert speed.tokens == [row for each in alone for row in each.tokens]
            assert speed.accepted.tolist() == sum(each.accepted for each in alone).tolist()  # type: ignore[union-attr]
            assert len(speed.seconds) == 2 and min(speed.seconds) > 0
            assert speed.tokens_per_forward == pytest.approx(1 + sum(speed.acceptance))
        assert found["k=1"].acceptance == [] and found["k=1"].tokens_per_forward == 1
        assert len(found["k=4"].acceptance) == 3 and len(found["tree"].acceptance) == 2
        assert found["k=4"].acceptance != found["k=2"].acceptance * 3


def test_ways_take_turns_after_a_warm_up() -> None:
    calls: list[tuple[str, Prompts]] = []

    def logged(name: str, prompts: Prompts) -> Generation:
        calls.append((name, prompts))
        return Generation([[7]] * len(prompts), 1, [1] * len(prompts), torch.tensor([1]))

    ways: dict[str, Way] = {name: partial(logged, name) for name in "ab"}
    found = side_by_side(ways, [[1], [2], [3]], batch=2, repeats=2)
    groups = [[[1], [2]], [[3]]]
    turn, back = ([(name, group) for name in names for group in groups] for names in ("ab", "ba"))
    assert calls == [("a", groups[0]), ("b", groups[0]), *turn, *back]
    assert list(found) == ["a", "b"]
    assert found["a"].tokens == [[7]] * 3
    assert found["a"].accepted.tolist() == [2], "of one repeat, not of all"


def test_speeds_are_tokens_over_the_median_of_the_repeats() -> None:
    speed = Speed([[1, 2], [3], []], torch.tensor([8, 6, 2]), [0.5, 9.0, 1.5])
    assert speed.tokens_per_second == 2
    assert speed.acceptance == [0.75, 0.25] and speed.tokens_per_forward == 2


def test_a_ratio_is_the_median_of_those_of_each_repeat() -> None:
    """Not the ratio of the medians, 2: both were slow in the second repeat."""
    one = Speed([[1, 2]], torch.tensor([2]), [1.0, 9.0, 1.0])
    half = Speed([[1]], torch.tensor([1]), [2.0, 3.0, 1.0])
    assert one.ratios(half) == [4.0, 2 / 3, 2.0] and one.over(half) == 2
    assert one.over(one) == 1


@pytest.mark.parametrize(("batch", "repeats"), [(0, 1), (1, 0), (-1, 1)])
def test_no_batch_or_repeat_is_named(batch: int, repeats: int) -> None:
    with pytest.raises(BadInput, match=f"batch is {batch}, repeats is {repeats}"):
        side_by_side({"a": partial(generate, clockwork(), max_new=4)}, PROMPTS, batch, repeats)


# --------------------------------------------------------------------------------------------------
# drafts, position by position


@torch.no_grad()
def slow_ranks(
    model: MultiTokenTransformer, prompt: list[int], output: list[int], k: int
) -> list[list[int]]:
    """By the definition: the newest token is output[j], and heads 2..k see what is before it."""
    text, found = prompt + output, []
    for newest in range(len(prompt), len(text) - k + 1):
        logits = model(torch.tensor([text[:newest]]), k)
        entry = []
        for i in range(2, k + 1):
            order = logits[i - 1][0, -1].argsort(descending=True).tolist()
            entry.append(order.index(text[newest + i - 1]))
        found.append(entry)
    return found


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("head", ["parallel", "anticausal", "replicated"])
def test_ranks_are_those_of_a_loop_over_positions(head: str, k: int) -> None:
    model = trained(head)
    outputs = generate(model, PROMPTS, 14).tokens
    outputs[1], outputs[2] = outputs[1][:3], outputs[2][:1]  # one position at k=3, none at k=2
    expected = [
        entry
        for prompt, output in zip(PROMPTS, outputs, strict=True)
        for entry in slow_ranks(model, prompt, output, k)
        if entry
    ]
    found = ranks(model, PROMPTS, outputs, k)
    assert found == expected
    if k == 4:
        assert len(found) == 3 * (14 - 3)
        assert all(len({entry[i] for entry in found}) > 1 for i in range(3)), "ranks vary"


def test_where_drafts_are_right_every_rank_is_zero() -> None:
    model = clockwork()
    outputs = generate(model, PROMPTS, 10).tokens
    assert ranks(model, PROMPTS, outputs, 4) == [[0, 0, 0]] * (5 * 7)
    wrong = clockwork(shift=1)  # the token that came is a runner-up of equal logit
    assert all(0 not in entry for entry in ranks(wrong, PROMPTS, outputs, 4))


def test_an_output_shorter_than_k_has_no_ranks() -> None:
    assert ranks(clockwork(), [[0]], [[1, 2]], 4) == []


@pytest.mark.parametrize("nodes", [4, 7, 10])
def test_the_best_tree_accepts_at_least_what_the_chain_does_everywhere(nodes: int) -> None:
    model = trained("parallel")
    texts = generate(model, PROMPTS, 40).tokens
    entries = ranks(model, PROMPTS, texts, 4)
    tree = best_tree(entries, 4, nodes)
    assert len(tree.paths) == nodes and set(chain(4).paths) <= set(tree.paths)
    # Every position of the texts as a prompt's end; the pass after the prefill is what counts.
    starts = [
        prompt + text[:j]
        for prompt, text in zip(PROMPTS, texts, strict=True)
        for j in range(len(text) - 3)
    ]
    accepted = {}
    for name, each in (("chain", chain(4)), ("tree", tree)):
        passes = stream(model, starts, 5, tree=each)
        next(passes)
        accepted[name] = [gain.accepted for gain in next(passes)]
        deepest = [max(d for d in range(4) if tuple(entry[:d]) in each.paths) for entry in entries]
        assert accepted[name] == deepest, "ranks foretell what is accepted"
    assert all(t >= c for t, c in zip(accepted["tree"], accepted["chain"], strict=True))
    assert (sum(accepted["tree"]) > sum(accepted["chain"])) == (nodes > 4)


# --------------------------------------------------------------------------------------------------
# the negative control


@pytest.mark.parametrize("head", ["parallel", "linear", "replicated"])
def test_shifted_drafts_are_hardly_accepted_and_change_nothing(head: str) -> None:
    model = trained(head)
    wrong = shifted(model)
    right, control = (generate(each, PROMPTS, 40) for each in (model, wrong))
    assert control.tokens == right.tokens
    assert right.acceptance[1] > 0.5 and control.acceptance[1] < 0.1
    text = torch.tensor([PROMPTS[0] + right.tokens[0]])
    one, two, three, four = model(text)
    for got, expected in zip(wrong(text), (one, three, four, two), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(model(text)[1], two), "the model itself is as before"


def test_shifted_clockwork_drafts_are_never_accepted() -> None:
    assert generate(shifted(clockwork()), [[0], [5]], 30).accepted.tolist() == [58, 0, 0, 0]


@pytest.mark.parametrize("head", ["parallel", "linear", "replicated"])
def test_exchanged_drafts_are_those_of_the_row_before(head: str) -> None:
    model = trained(head)
    wrong = exchanged(model)
    # the same prompt twice: the row before makes the right drafts
    for prompts in ([PROMPTS[0]] * 2, [PROMPTS[0], PROMPTS[1]]):
        right, control = (generate(each, prompts, 40) for each in (model, wrong))
        assert control.tokens == right.tokens
        same = prompts[0] == prompts[1]
        assert (control.forwards == right.forwards) == same
        share, passes = acceptance_while_all_run(wrong, prompts, 40)
        assert passes > 0 and passes % 2 == 0
        if same:
            assert share == pytest.approx(float(right.acceptance[1]), abs=0.1)
        else:
            assert share < 0.3 < acceptance_while_all_run(model, prompts, 40)[0]


@pytest.mark.parametrize("head", ["causal", "anticausal"])
def test_heads_that_read_one_another_are_not_exchanged(head: str) -> None:
    with pytest.raises(BadInput, match=f"{head} heads cannot be exchanged"):
        exchanged(trained(head))


def test_agreement_by_hand() -> None:
    # after t, head i says t + i
    model = clockwork()
    prompts, outputs = [[0], [8, 1]], [[1, 2, 3], [3, 3, 5]]
    # head 2's drafts 2, 3, 4, 5 and 3, 5, 5, 7, of which two and two have a place in the text:
    # 2, 3 are right and 3, 5 stand against 3, 5
    assert agreement(model, prompts, outputs, 2, (0,)) == 1
    # one place before: 2, 3, 4 against 1, 2, 3 and 3, 5, 5 against 3, 3, 5
    assert agreement(model, prompts, outputs, 2, (-1,)) == pytest.approx(2 / 6)
    # one place after, at two positions: 2 against 3, 3 against 5
    assert agreement(model, prompts, outputs, 2, (1,)) == 0
    assert agreement(model, prompts, outputs, 2, (0, -1, 1)) == pytest.approx(6 / 12)
    # head 3's, one place before: 3, 4, 5 against 2, 3 and so on: never
    assert agreement(model, prompts, outputs, 3, (-1,)) == pytest.approx(0)


def test_acceptance_counts_up_to_the_first_finished_row() -> None:
    # the prefill gives one token and each pass four: rows of 8 tokens take two passes, and in the
    # second all are still there
    assert acceptance_while_all_run(clockwork(), [[0], [5]], 8) == (1.0, 4)
    # drafts for 0 at the row that is at 5 and the other way round: never right
    assert acceptance_while_all_run(exchanged(clockwork()), [[0], [5]], 8)[0] == 0


def test_chance_by_hand() -> None:
    # after t, head 2 says t + 2
    model = clockwork()
    # drafts at 0, 1, 2, 3: 2, 3, 4, 5; tokens 1, 2, 3: two of the 12 pairs are equal
    assert chance(model, [[0]], [[1, 2, 3]]) == pytest.approx(2 / 12)
    # drafts at 9, 1, 1, 1: 11, 3, 3, 3; tokens 1, 1, 1
    assert chance(model, [[4, 9]], [[1, 1, 1]]) == 0
    # drafts at 1, 3, 3, 5: 3, 5, 5, 7; tokens 3, 3, 5: two pairs of 3 and two of 5
    assert chance(model, [[8, 1]], [[3, 3, 5]]) == pytest.approx(4 / 12)
    # both texts as one: drafts 2, 3, 4, 5, 3, 5, 5, 7; tokens 1, 2, 3, 3, 3, 5
    together = chance(model, [[0], [8, 1]], [[1, 2, 3], [3, 3, 5]])
    assert together == pytest.approx((1 * 1 + 2 * 3 + 3 * 1) / (8 * 6))


# --------------------------------------------------------------------------------------------------
# where outputs differ


def test_equal_outputs_have_no_divergence() -> None:
    model = trained("parallel")
    a = generate(model, PROMPTS, 12, k=1, eos=6).tokens
    assert divergences(model, PROMPTS, a, generate(model, PROMPTS, 12, k=4, eos=6).tokens) == []
    # one that ends earlier does not differ
    assert divergences(model, PROMPTS, a, [row[:2] for row in a]) == []


@torch.no_grad()
def gap_by_hand(model: MultiTokenTransformer, text: list[int]) -> float:
    """The distance of the two best logits after `text`, in steps to the next larger number."""
    logits = model(torch.tensor([text]), 1)[0][0, -1]
    second, best = logits.sort().values[-2:]
    step = best.abs().nextafter(torch.full_like(best, math.inf)) - best.abs()
    return float((best.double() - second.double()) / step.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_difference_is_found_with_its_gap(dtype: torch.dtype) -> None:
    model = copy.deepcopy(trained("parallel")).to(dtype)
    a = generate(model, PROMPTS, 12, k=1).tokens
    b = [list(row) for row in a]
    b[1][5] = (b[1][5] + 1) % 16
    b[1][9] = (b[1][9] + 1) % 16  # a later one does not count
    b[4][0] = (b[4][0] + 1) % 16
    b[3] = [*b[3][:11], (b[3][11] + 1) % 16]
    places = ((1, 5), (3, 11), (4, 0))
    gaps = [gap_by_hand(model, PROMPTS[row] + a[row][:at]) for row, at in places]
    for one, other in ((a, b), (b, a)):
        found = divergences(model, PROMPTS, one, other)
        assert [d.position for d in found] == [at for _, at in places]
        assert [d.gap for d in found] == pytest.approx(gaps)
    assert len(set(gaps)) > 1 and max(gaps) > 1


def test_tied_logits_have_no_gap() -> None:
    model = clockwork()
    with torch.no_grad():
        model.unembedding(1)[9] = model.unembedding(1)[4]  # after 3 come 4 and 9 alike
    (found,) = divergences(model, [[1]], [[2, 3, 4, 5]], [[2, 3, 9, 10]])
    assert found == Divergence(2, 0.0)
    (other,) = divergences(model, [[1]], [[2, 3, 4, 5]], [[2, 4, 4, 5]])
    assert other.position == 1 and other.gap > 0


@pytest.mark.parametrize("head", HEADS)
def test_other_arrangements_of_a_model_share_its_weights(head: str) -> None:
    model = copy.deepcopy(trained(head))
    mine = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    tokens = generate(model, PROMPTS, 8).tokens
    one = with_one_head(model)
    for other in (with_shared_weights(model), one):
        made = generate(other, PROMPTS, 8, 1)
        assert other is one or made.tokens == tokens
        after = {weight.untyped_storage().data_ptr() for weight in other.parameters()}
        assert after <= {w.untyped_storage().data_ptr() for w in model.parameters()}
    assert len(mine) >= len({w.untyped_storage().data_ptr() for w in model.parameters()})
    assert generate(model, PROMPTS, 8).tokens == tokens
    counts = (sum(p.numel() for p in each.parameters()) for each in (one, model))
    plain = MultiTokenTransformer(dataclasses.replace(model.config, n=1))
    assert next(counts) == sum(p.numel() for p in plain.parameters()) <= next(counts)
    assert dict(one.named_parameters()).keys() == dict(plain.named_parameters()).keys()


@pytest.mark.parametrize("head", HEADS)
def test_a_model_of_the_first_layers_has_one_head(head: str) -> None:
    model = trained(head)
    half = with_one_head(model, 3)
    plain = MultiTokenTransformer(dataclasses.replace(model.config, n=1, layers=3))
    shapes = [
        {name: weight.shape for name, weight in each.named_parameters()} for each in (half, plain)
    ]
    assert shapes[0] == shapes[1] and half.config == plain.config
    plain.load_state_dict(half.state_dict())
    assert generate(half, PROMPTS, 8).tokens == generate(plain, PROMPTS, 8).tokens


def test_in_bf16_is_a_rounded_copy() -> None:
    model = trained("replicated")
    before = copy.deepcopy(model.state_dict())
    low = in_bf16(model)
    assert {w.dtype for w in low.state_dict().values()} == {torch.bfloat16}
    for name, weight in low.state_dict().items():
        assert torch.equal(weight, before[name].bfloat16())
        assert torch.equal(model.state_dict()[name], before[name])
    with torch.no_grad():
        low.embedding.weight.zero_()
    assert torch.equal(model.embedding.weight, before["embedding.weight"])
    got = generate(in_bf16(model), PROMPTS, 8)
    assert got.acceptance[1] > 0.5, "it still decodes"
