"""Passes that are recorded once per shape and replayed: on a GPU as CUDA graphs, here by a stand-in
that has the same traps (fixed inputs, outputs that the next replay overwrites)."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mtp.decoding import generate as decoding
from mtp.decoding.generate import generate
from mtp.decoding.graphs import GraphedVerify, Outputs
from mtp.decoding.readers import cached_model
from mtp.decoding.sampling import GREEDY, Sampling
from mtp.decoding.trees import Nodes, Tree, chain
from mtp.model.model import MultiTokenTransformer
from tests.mtp.decoding.helpers import clockwork, trained

FORK = Tree(((), (0,), (1,), (0, 0), (0, 1)))
PROMPTS = [[1, 2, 3], [5], [7, 8, 9, 10, 3, 2, 4], [12, 3, 13, 14], [2] * 11]


class Recorder:
    """Counts recordings and replays."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        self.recorded += 1
        along, block, fed = (torch.full_like(each, -7) for each in run())

        def replay() -> None:
            self.replayed += 1
            for fixed, new in zip((along, block, fed), run(), strict=True):
                fixed.copy_(new)

        return replay, (along, block, fed)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Compiled decoding on this CPU records its passes, and its window grows in steps of 16."""
    found = Recorder()
    monkeypatch.setattr(decoding, "compiled_verify", lambda: GraphedVerify(found))
    monkeypatch.setattr(decoding, "has_compiler", lambda: True)
    monkeypatch.setattr(decoding, "WINDOW", 16)
    return found


def same(model: MultiTokenTransformer, max_new: int, **options: Any) -> int:
    """Check that both decode the same; returns the passes."""
    plain, recorded = (
        generate(model, PROMPTS, max_new, compiled=compiled, **options)
        for compiled in (False, True)
    )
    assert recorded.tokens == plain.tokens
    assert recorded.row_forwards == plain.row_forwards
    assert recorded.accepted.equal(plain.accepted)
    return plain.forwards


@pytest.mark.parametrize("tree", [chain(1), chain(4), FORK], ids=["k=1", "chain", "tree"])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.8)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("head", ["parallel", "anticausal", "sequential"])
def test_replayed_passes_decode_the_same(
    head: str, sampling: Sampling, tree: Tree, recorder: Recorder
) -> None:
    passes = same(trained(head), 45, tree=tree, sampling=sampling, eos=15)
    # Each shape (B, W) has one ordinary pass and then, if there are more, one recording.
    assert 0 < recorder.recorded <= recorder.replayed < passes


def test_shapes_are_few(recorder: Recorder) -> None:
    assert same(clockwork(), 40, k=1) == 39  # all rows end together: B is 5 throughout
    # up to 51 tokens and a node, in steps of 16: 16, 32, 48, 64
    assert recorder.recorded == 4 and recorder.replayed == 39 - 4


@pytest.mark.parametrize("head", ["anticausal", "sequential"])
def test_a_pass_can_be_repeated(head: str) -> None:
    """So the ordinary pass, the recording and the replay of a shape may follow one another."""
    model = trained(head)
    for tree in (chain(4), FORK):
        nodes = Nodes(tree, model.embedding.weight)
        with torch.inference_mode():
            cached = cached_model(model, nodes, GREEDY, 2, 64)
            fed = torch.tensor([3, 2])
            prompts = torch.tensor([[1, 2, 3], [1, 7, 0]])
            newest, block = cached.prefill(prompts, fed, torch.arange(2))
            assert len(newest) == 2
            for _ in range(4):
                first = cached.verify(block, fed, None)
                stored = [copy.copy(cache.k) for cache in cached.caches]
                assert all(map(torch.equal, cached.verify(block, fed, None), first))
                assert all(map(torch.equal, stored, [cache.k for cache in cached.caches]))
                _, block, fed = first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("tree", [chain(1), chain(4), FORK], ids=["k=1", "chain", "tree"])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.8)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("head", ["parallel", "inject", "sequential"])
def test_cuda_graphs_decode_the_same(head: str, sampling: Sampling, tree: Tree) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        model = copy.deepcopy(trained(head)).to("cuda", dtype)
        same(model, 40, tree=tree, sampling=sampling, eos=6)
