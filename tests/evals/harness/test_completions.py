"""Greedy answers of a batch, each up to a stop text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.harness.generation import completions
from evals.harness.protocol import cut
from mtp.data.tokenizer import ByteTokenizer
from mtp.decoding.generate import generate
from mtp.decoding.sampling import Sampling
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from tests.conftest import bytes_model

BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def model() -> MultiTokenTransformer:
    return bytes_model(96)


def greedy(model: MultiTokenTransformer, prompt: str, max_new: int) -> str:
    tokens = [BYTES.bos, *BYTES.encode(prompt)][max_new - model.config.context :]
    return BYTES.decode(generate(model, [tokens], max_new, 1, BYTES.eos).tokens[0])


PROMPTS = ["a", "the cat sat", "x" * 200, "", "whose hat is that"]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_answers_are_greedy_up_to_a_stop(model: MultiTokenTransformer, k: int, batch: int) -> None:
    whole = [greedy(model, prompt, 24) for prompt in PROMPTS]
    assert completions(model, BYTES, PROMPTS, (), 24, k=k, batch=batch) == whole
    stops = [whole[0][5:7], whole[1][9]]
    found = completions(model, BYTES, PROMPTS, stops, 24, k=k, batch=batch)
    assert found == [cut(each, stops) for each in whole] and found != whole


@given(st.text("ab.", max_size=12), st.lists(st.text("ab.", min_size=1, max_size=3), max_size=3))
def test_a_cut_answer_has_no_stop_and_begins_the_whole(answer: str, stops: list[str]) -> None:
    found = cut(answer, stops)
    assert answer.startswith(found) and not any(stop in found for stop in stops)
    assert found == answer or any(answer[len(found) :].startswith(stop) for stop in stops)


def test_batches_have_random_numbers_of_their_own(model: MultiTokenTransformer) -> None:
    how = Sampling(1.0, seed=3)
    drawn = completions(model, BYTES, ["a"] * 6, (), 16, sampling=how, batch=2)
    assert len(set(drawn)) == 6
    assert completions(model, BYTES, ["a"] * 6, (), 16, sampling=how, batch=2) == drawn


@pytest.mark.parametrize("max_new", [0, 96])
def test_no_room_for_a_prompt(model: MultiTokenTransformer, max_new: int) -> None:
    with pytest.raises(BadInput, match=f"max_new is {max_new}; it must be from 1 to 95"):
        completions(model, BYTES, ["a"], (), max_new)
