"""The measures of self-speculative decoding, on a model whose drafts are right by construction."""

import math

import pytest
from test_decode import clockwork, trained

from evals.speculation import measure
from mtp.decode import generate
from mtp.errors import BadInput

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
