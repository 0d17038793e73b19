"""CUDA graphs of the passes that verify drafts.

An eager pass launches some 20 kernels for each layer, which takes a small or medium model longer
than the kernels themselves. A CUDA graph records the launches once and repeats them as one. It
repeats them with the same shapes and at the same addresses, so:

    shapes   each (B, M, W) has a graph of its own; W grows in steps of GRAPH_WINDOW
    inputs   are copied into the tensors that the graph was recorded with
    outputs  lie in the graph's memory, which the next replay overwrites, so they are copied too
    caches   are changed in place and stay where they are, until rows leave the batch: the graphs of
             the larger batch are then dropped

The first pass of a shape is an ordinary one, which also prepares what may not happen during a
recording; the second records. A pass can be repeated, since it only writes to slots after the
certain tokens. Random numbers are drawn outside.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mtp.decoding.passes import CachedModel

GRAPH_WINDOW = 256  # slots: fewer graphs, at the price of reading some empty slots

Inputs = tuple[Tensor, Tensor, Tensor | None]
Outputs = tuple[Tensor, Tensor, Tensor]
Record = Callable[[Callable[[], Outputs]], tuple[Callable[[], None], Outputs]]


def record_on_gpu(run: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
    """Record what `run` launches. Returns a function that launches it again, and the outputs, which
    that function fills."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    # Not torch.cuda.graph, which empties the allocator's cache and collects garbage each time.
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            outputs = run()
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay, outputs


class GraphedVerify:
    """`CachedModel.verify` of one CachedModel, recorded at each of its shapes and replayed."""

    def __init__(self, record: Record = record_on_gpu) -> None:
        self.record = record
        self.rows = 0
        self.seen: set[int] = set()  # windows whose first pass is done
        self.graphs: dict[int, tuple[Inputs, Callable[[], None], Outputs]] = {}

    def __call__(
        self, cached: CachedModel, block: Tensor, fed: Tensor, uniform: Tensor | None
    ) -> Outputs:
        if len(block) != self.rows:  # the caches have moved
            self.rows = len(block)
            self.seen.clear()
            self.graphs.clear()
        window = cached.window  # M is the same in all passes
        if window not in self.seen:
            self.seen.add(window)
            return cached.verify(block, fed, uniform)
        given = block, fed, uniform
        if window not in self.graphs:
            held = block.clone(), fed.clone(), None if uniform is None else uniform.clone()
            with torch.cuda.device_of(block):  # else the current GPU's launches are recorded
                self.graphs[window] = held, *self.record(partial(cached.verify, *held))
        held, replay, outputs = self.graphs[window]
        for target, source in zip(held, given, strict=True):
            if target is not None and source is not None:
                target.copy_(source)
        replay()
        along, block, fed = (each.clone() for each in outputs)
        return along, block, fed
