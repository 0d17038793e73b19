"""Cached, batched, speculative decoding against argmax decoding recomputed from scratch."""

import contextlib
import copy
import functools
import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mtp.decoding import passes as decoding_passes
from mtp.decoding.generate import Gain, Generation, generate, stream
from mtp.decoding.sampling import Sampling
from mtp.decoding.trees import Tree, chain
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.heads import reach
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads
from tests.mtp.decoding.helpers import clockwork, random_model, trained

TYPES = tuple(HEADS)
ROOT = Path(__file__).parents[3]
PROMPTS = [[1, 2, 3], [5], [7, 8, 9, 10, 3, 2, 4]]


@functools.lru_cache(maxsize=16)
@torch.no_grad()
def greedy(
    model: MultiTokenTransformer, prompt: tuple[int, ...], count: int
) -> tuple[list[int], float]:
    """`count` tokens without any cache, and the smallest gap between the two best logits."""
    text, gap = list(prompt), float("inf")
    for _ in range(count):
        best = model(torch.tensor([text]), k=1)[0][0, -1].topk(2)
        text.append(int(best.indices[0]))
        gap = min(gap, float(best.values[0] - best.values[1]))
    return text[len(prompt) :], gap


def fed_with_drafts(
    model: MultiTokenTransformer, text: list[int], k: int, width: int
) -> tuple[list[list[int]], float]:
    """The order of tokens of heads 1..k after a text without its newest token, which the heads
    read, and then their own best drafts; and the smallest gap between the candidates."""
    tokens, ahead, orders, gap = torch.tensor([text[:-1]]), text[-1:], list[list[int]](), math.inf
    for i in range(1, k + 1):
        order = model(tokens, i, torch.tensor([ahead]))[i - 1][0, -1].sort(descending=True)
        orders.append(order.indices.tolist())
        if i > 1:
            ahead = [*ahead, orders[-1][0]]
            gap = min(gap, float(-order.values[: width + 1].diff().max()))
    return orders, gap


@torch.no_grad()
def blockwise(
    model: MultiTokenTransformer, prompt: list[int], max_new: int, tree: Tree, eos: int | None
) -> tuple[list[int], list[int], float]:
    """Tokens, how often each draft is accepted, and the smallest gap; all without a cache.

    Heads that read no tokens run once, over the finished text: their order of tokens at t is their
    candidates for t + i. The others run anew at each t, over the text up to t + 1 and their own
    drafts after it. Of a tree, the longest path is accepted whose ranks are those of the text's
    tokens.
    """
    start, context, k = len(prompt), model.config.context, tree.k
    assert k <= 4  # drafts reach two tokens further
    new, gap = greedy(model, tuple(prompt), min(context - start, max_new + 2))
    text = prompt + new
    reading = reach(model.config, k) > 0
    heads = [logits[0].sort(-1, descending=True) for logits in model(torch.tensor([text]), k)]
    if tree.width > 1 and not reading:  # ties between candidates have no right order either
        gap = min([gap, *(float(-h.values.diff(dim=-1).max()) for h in heads[1:])])
    new = new[:max_new]
    new = new[: new.index(eos) + 1] if eos in new else new
    accepted, newest = [0] * k, start  # the position of the newest certain token
    while newest < start + len(new) - 1:
        path: tuple[int, ...] = ()
        orders = [each.indices[newest - 1].tolist() for each in heads]
        if reading:
            orders, near = fed_with_drafts(model, text[: newest + 1], k, tree.width)
            gap = min(gap, near)
        for i in range(2, k + 1):
            at = newest - 1 + i
            if at >= context:
                break
            longer = (*path, orders[i - 1].index(text[at]))
            if longer not in tree.paths:
                break
            path = longer
        for i in range(len(path) + 1):
            accepted[i] += 1
        newest += len(path) + 1
    return new, accepted, gap


def check(
    model: MultiTokenTransformer,
    prompts: list[list[int]],
    max_new: int,
    k: int | Tree,
    eos: int | None = None,
    gap: float | None = None,
    **options: Any,
) -> Generation:
    """The batch equals the uncached reference, row by row, in its tokens and in its counts."""
    tree = chain(k) if isinstance(k, int) else k
    rows = [blockwise(model, prompt, max_new, tree, eos) for prompt in prompts]
    if gap is not None:
        assume(all(row[2] > gap for row in rows))
    got = generate(model, prompts, max_new, eos=eos, tree=tree, **options)
    assert got.tokens == [row[0] for row in rows]
    assert got.row_forwards == [row[1][0] for row in rows]
    assert got.accepted.tolist() == [sum(each) for each in zip(*(r[1] for r in rows), strict=True)]
    assert got.forwards == max(got.row_forwards)
    return got


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A small random model and what to ask of it; now and then it fills the context exactly."""
    head = draw(st.sampled_from(TYPES))
    n = draw(st.integers(1, 4))
    layers = draw(st.integers(1, 2)) + HEADS[head].layers(n)
    vocab, max_new = draw(st.sampled_from([5, 13])), draw(st.integers(1, 14))
    k = draw(st.integers(1, n))
    paths = set(chain(k).paths) if draw(st.booleans()) else {()}
    for path in draw(st.lists(st.lists(st.integers(0, 4), max_size=k - 1), max_size=6)):
        paths |= {tuple(path[:d]) for d in range(len(path) + 1)}
    prompt = st.lists(st.integers(0, vocab - 1), min_size=1, max_size=9)
    prompts = draw(st.lists(prompt, min_size=1, max_size=4))
    prompts += draw(st.lists(st.sampled_from(prompts), max_size=2))  # they share a prefill
    context = max(map(len, prompts)) + max_new + draw(st.sampled_from([0, 0, 1, 2, 20]))
    return {
        "seed": draw(st.integers(0, 10_000)),
        "config": {"head": head, "n": n, "layers": layers, "vocab": vocab, "context": context}
        | {"dim": draw(st.sampled_from([16, 32])), "kv_heads": draw(st.sampled_from([0, 1, 2]))},
        "ask": (
            prompts,
            max_new,
            Tree(tuple(sorted(paths, key=lambda path: (len(path), draw(st.integers(0, 9)))))),
            draw(st.none() | st.integers(0, vocab - 1)),
        ),
    }


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=cases())
def test_equals_argmax_from_scratch(case: dict[str, Any]) -> None:
    check(random_model(case["seed"], **case["config"]), *case["ask"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases())
def test_equals_argmax_from_scratch_in_float32(case: dict[str, Any]) -> None:
    # Where the two best logits are equal up to rounding, there is no right answer to compare with.
    model = random_model(case["seed"], **case["config"]).float()
    check(model, *case["ask"], gap=1e-5)


@pytest.mark.parametrize("head", TYPES)
def test_random_outputs_vary_and_so_test_something(head: str) -> None:
    models = [random_model(seed, head=head, n=3) for seed in range(6)]
    rows = [row for model in models for row in generate(model, PROMPTS, 24).tokens]
    assert sum(len(set(row)) > 4 for row in rows) >= 6, rows


@pytest.mark.parametrize("head", TYPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trained_drafts_are_accepted_none_some_and_all(head: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(1)
    prompts = [torch.randint(1, 16, (1 + i % 8,), generator=g).tolist() for i in range(16)]
    model = copy.deepcopy(trained(head)).to(dtype)
    for k in (4, 3, 2) if dtype == torch.float64 else (4,):
        got = check(model, prompts, 16, k)
        times = (-got.accepted.diff(append=torch.zeros(1, dtype=torch.long))).tolist()
        assert times[0] and times[-1], f"accepted 0..{k - 1} drafts {times} times"
        # Heads that read the newest token know all of its word, so that they are right or wrong.
        some = k == 2 or sum(times[1:-1]) > 0 or reach(model.config, k) > 0
        assert some, f"accepted 0..{k - 1} drafts {times} times"
        assert got.tokens_per_forward > 1 + 0.4 * (k - 1)


@pytest.mark.parametrize("head", TYPES)
def test_dropping_the_extra_heads_does_not_change_the_output(head: str) -> None:
    for model in (trained(head), random_model(3, head=head, n=4)):
        tokens = generate(model, PROMPTS, 20).tokens
        assert generate(drop_heads(model), PROMPTS, 20, k=1).tokens == tokens


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_eos_and_max_new_cut_a_block_anywhere(k: int) -> None:
    model, prompts = clockwork(), [[0], [15, 3], [1, 2, 3, 4, 5, 6]]
    for end in range(16):
        for max_new in range(1, 13):
            got = generate(model, prompts, max_new, k, eos=end)
            for prompt, new in zip(prompts, got.tokens, strict=True):
                until = (end - prompt[-1] - 1) % 16 + 1
                count = min(max_new, until)
                assert new == [(prompt[-1] + 1 + j) % 16 for j in range(count)]


@pytest.mark.parametrize("max_new", range(2, 12))
def test_the_last_block_counts_in_full_but_not_beyond_the_context(max_new: int) -> None:
    whole = generate(clockwork(context=64), [[3]], max_new)
    assert whole.accepted.tolist() == [-(-(max_new - 1) // 4)] * 4
    assert whole.tokens_per_forward == 4
    full = generate(clockwork(context=1 + max_new), [[3]], max_new)
    assert full.tokens == whole.tokens
    # The text ends at its (1 + max_new)th token; from the newest token on, a pass yields what fits.
    left = (max_new - 1) % 4
    complete = (max_new - 1) // 4
    assert full.accepted.tolist() == [complete + (i <= left) * (left > 0) for i in range(4)]


def test_acceptance_adds_up_to_tokens_per_forward() -> None:
    got = generate(trained("parallel"), PROMPTS, 30)
    assert got.accepted[0] == sum(got.row_forwards)
    assert got.tokens_per_forward == pytest.approx(1 + float(got.acceptance[1:].sum()))
    once = generate(trained("parallel"), PROMPTS, 1)
    assert once.forwards == 0 and [len(row) for row in once.tokens] == [1, 1, 1]


def test_drafts_of_a_shifted_head_are_hardly_ever_accepted() -> None:
    assert generate(clockwork(shift=1), [[0], [5]], 30).accepted.tolist() == [58, 0, 0, 0]
    model = trained("parallel")
    shifted = random_model(0, **vars(model.config))
    shifted.load_state_dict(model.state_dict())
    layers = list(shifted.heads)
    shifted.heads = torch.nn.ModuleList([layers[0], layers[2], layers[3], layers[1]])
    right, wrong = generate(model, PROMPTS, 40), generate(shifted, PROMPTS, 40)
    assert wrong.tokens == right.tokens
    assert right.acceptance[1] > 0.5 and wrong.acceptance[1] < 0.1


def test_calls_leave_nothing_behind() -> None:
    model = trained("causal")
    before = generate(model, PROMPTS, 20)
    generate(model, [[9, 9, 9]] * 5, 30, k=2, eos=4)
    after = generate(model, PROMPTS, 20)
    assert before.tokens == after.tokens and before.accepted.equal(after.accepted)
    model(torch.tensor(PROMPTS[:1]))[0].sum().backward()  # and the model still trains
    model.zero_grad()


BAD = [
    ({"prompts": []}, "no prompts"),
    ({"prompts": [[1], []]}, "prompt 1 is empty"),
    ({"prompts": [[1, 13]]}, "token id 13; token ids go from 0 to 12"),
    ({"prompts": [[-1]]}, "token id -1"),
    ({"k": 0}, "k is 0; it must be from 1 to the model's 2 heads"),
    ({"k": 3}, "k is 3"),
    ({"max_new": 0}, "max_new is 0"),
    ({"eos": 13}, "eos 13"),
    ({"prompts": [[1], [1] * 20], "max_new": 13}, "prompt 1 of 20 .* max_new 13 .* context of 32"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_named_before_anything_is_computed(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(0, n=2)
    monkeypatch.setattr(model, "run_trunk", None)
    monkeypatch.setattr(model, "new_caches", None)
    with pytest.raises(BadInput, match=message):
        generate(**({"model": model, "prompts": [[1]], "max_new": 4} | arguments))


# --------------------------------------------------------------------------------------------------
# pass by pass

TREE = Tree(((), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)))


@functools.cache
def five(head: str) -> tuple[list[list[int]], int]:
    """Five prompts and the end-of-text token that ends their rows at the most different times."""
    g = torch.Generator().manual_seed(2)
    prompts = [torch.randint(1, 16, (1 + i % 6,), generator=g).tolist() for i in range(40)]
    texts = generate(trained(head), prompts, 24).tokens
    found: dict[int, dict[int, list[int]]] = {}  # end of text -> length -> a prompt
    for eos in range(1, 16):
        lengths = [row.index(eos) if eos in row else 24 for row in texts]
        found[eos] = dict(sorted(zip(lengths, prompts, strict=True), key=lambda pair: pair[0]))
    eos = max(found, key=lambda eos: len(found[eos]))
    chosen = list(found[eos].values())
    return [chosen[i * (len(chosen) - 1) // 4] for i in (3, 0, 4, 1, 2)], eos


@contextlib.contextmanager
def batch_sizes(model: MultiTokenTransformer) -> Iterator[list[int]]:
    """The rows of every pass, the prefill first."""
    sizes: list[int] = []
    hook = model.embedding.register_forward_hook(lambda _, given, made: sizes.append(len(made)))
    try:
        yield sizes
    finally:
        hook.remove()


@pytest.mark.parametrize("tree", [chain(1), chain(4), TREE], ids=["k=1", "chain", "tree"])
@pytest.mark.parametrize("head", TYPES)
def test_gains_add_up_to_what_generate_gives(head: str, tree: Tree) -> None:
    model, (prompts, eos) = trained(head), five(head)
    whole = generate(model, prompts, 24, eos=eos, tree=tree)
    first, *passes = stream(model, prompts, 24, eos=eos, tree=tree)
    assert first == [Gain(row, new[:1], 0) for row, new in enumerate(whole.tokens)]
    assert len(passes) == whole.forwards > 2
    joined, counts, finished = [row[:1] for row in whole.tokens], [0] * tree.k, set[int]()
    for gains in passes:
        finished |= {row for row, new in enumerate(joined) if new[-1] == eos or len(new) == 24}
        assert [gain.row for gain in gains] == [row for row in range(5) if row not in finished]
        for row, new, accepted in gains:
            joined[row] += new
            assert 1 <= len(new) <= accepted + 1 <= tree.k
            if len(new) < accepted + 1:  # cut
                assert new[-1] == eos or len(joined[row]) == 24
            for i in range(accepted + 1):
                counts[i] += 1
    assert joined == whole.tokens and counts == whole.accepted.tolist()
    assert all(new[-1] == eos or len(new) == 24 for new in joined)
    assert all(eos not in new[:-1] for new in joined)


@pytest.mark.parametrize("tree", [chain(4), TREE], ids=["chain", "tree"])
@pytest.mark.parametrize("head", TYPES)
def test_rows_that_finish_leave_the_others_as_if_alone(head: str, tree: Tree) -> None:
    model, (prompts, eos) = trained(head), five(head)
    alone = []
    for prompt in prompts:
        gains = [gain for (gain,) in stream(model, [prompt], 24, eos=eos, tree=tree)]
        alone.append([(new, accepted) for _, new, accepted in gains])
    assert len({len(gains) for gains in alone}) >= 3
    together: list[list[Any]] = [[] for _ in prompts]
    with batch_sizes(model) as sizes:
        for gains in stream(model, prompts, 24, eos=eos, tree=tree):
            for row, new, accepted in gains:
                together[row].append((new, accepted))
    assert together == alone
    shapes = list(dict.fromkeys(sizes))
    assert shapes[0] == 5 and len(shapes) >= 2 and sizes == sorted(sizes, reverse=True)
    assert all(after <= before // 2 for before, after in itertools.pairwise(shapes))


def test_the_batch_halves_when_half_of_it_is_done() -> None:
    model = clockwork()
    # to 15 there are 1, 2, 4, 8 and 12 tokens: after pass 1 three rows are left, after 3 two, ..
    with batch_sizes(model) as sizes:
        got = generate(model, [[14], [13], [11], [7], [3]], 20, 1, eos=15)
    assert [len(row) for row in got.tokens] == [1, 2, 4, 8, 12] and got.forwards == 11
    assert got.row_forwards == [0, 1, 3, 7, 11]
    assert sizes == [5] + [5] * 3 + [2] * 4 + [1] * 4


def test_equal_prompts_share_a_prefill() -> None:
    model = clockwork()
    with batch_sizes(model) as sizes:
        got = generate(model, [[3], [0], [3], [3]], 5, 1)
    assert got.tokens == [[4, 5, 6, 7, 8], [1, 2, 3, 4, 5], [4, 5, 6, 7, 8], [4, 5, 6, 7, 8]]
    assert sizes == [2, 4, 4, 4, 4]


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    model = clockwork()
    with batch_sizes(model) as sizes:
        passes = stream(model, [[0], [5]], 30)
        assert sizes == []
        assert next(passes) == [Gain(0, [1], 0), Gain(1, [6], 0)]
        assert next(passes) == [Gain(0, [2, 3, 4, 5], 3), Gain(1, [7, 8, 9, 10], 3)]
        assert sizes == [2, 2]
        assert not torch.is_inference_mode_enabled()  # between two passes
        del passes  # left half-way
        assert sizes == [2, 2]


# --------------------------------------------------------------------------------------------------
# compiled passes

FORK = Tree(((), (0,), (1,), (0, 0), (0, 1)))


@pytest.mark.parametrize("head", ["anticausal", "sequential"])
def test_compiled_passes_decode_the_same_and_in_one_graph(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These heads, a tree and sampling use everything that a pass can do. The graph runs without
    the C++ compiler, which would take 20 s; `make bench-decode`'s test uses it."""
    decoding_passes.compiled_verify.cache_clear()
    eager = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", eager)
    monkeypatch.setattr("mtp.decoding.generate.has_compiler", lambda: True)
    model, sampling = random_model(3, head=head, n=3, layers=4), Sampling(0.8)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    made = [
        generate(model, PROMPTS, 8, tree=FORK, sampling=sampling, compiled=compiled)
        for compiled in (False, True)
    ]
    assert made[1].tokens == made[0].tokens
    assert made[1].accepted.tolist() == made[0].accepted.tolist()
    assert 0 < made[0].accepted[1] < made[0].accepted[0]
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_compiled_passes_need_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadInput, match="C\\+\\+ compiler"):
        generate(trained("parallel"), PROMPTS, 4, compiled=True)


def test_importing_decode_does_not_import_the_compiler() -> None:
    """torch._dynamo takes seconds to import."""
    code = "import sys, mtp.decode; sys.exit('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0


def test_rows_declared_finished_leave_the_others_as_if_alone() -> None:
    model = random_model(3, n=2)
    whole = generate(model, PROMPTS, 12).tokens
    passes = stream(model, PROMPTS, 12)
    made: list[list[int]] = [[] for _ in PROMPTS]
    gains, ended = next(passes), list[int]()
    with contextlib.suppress(StopIteration):
        while True:
            for row, new, _ in gains:
                assert row not in ended
                made[row] += new
            ended = [row for row in (0, 2) if len(made[row]) >= 3 * (row + 1)]
            gains = passes.send(ended)
    assert made[1] == whole[1]
    for row in (0, 2):
        assert 3 * (row + 1) <= len(made[row]) <= 3 * (row + 1) + 1
        assert made[row] == whole[row][: len(made[row])]
