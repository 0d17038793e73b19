"""What the studies of decoding measure: ways to decode side by side, and drafts along texts.

Their rows, for a kind of text ("code"), a way ("chain, k=4") and a batch size:

    speedup, code, chain, k=4, batch 1             tokens/s over those of k=1, in the same run
    speedup, code, chain, k=1 again, batch 1       the A/A control: k=1 over itself, timed twice
    .., lowest of 5 repeats                        the ends of its interval
    ms to the end of a batch, code, chain, k=4, batch 1     and ms per token: latency (Figure S10)
    tokens per forward, code, chain, k=4, batch 1  along the model's own text, as the decoder goes
    distinct 4-grams (%), code, chain, k=4, batch 1         how much that text repeats itself
    tokens per forward, code, human text, k=4      of passes that begin anywhere in human text
    tokens per forward, code, own text, k=4        the same in the model's own continuations
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from experiments.results import Measure

if TYPE_CHECKING:
    from evals.probes.speculation import Speed, Way
    from mtp.data.corpus import Corpus
    from mtp.decoding.generate import Generation
    from mtp.model.model import MultiTokenTransformer

TEMPERATURE = 0.8
ONE, AGAIN = "chain, k=1", "chain, k=1 again"
SINGLE, HALF = "n=1 model", "n=1 model, half"
ENDS = ("lowest", "highest")


@dataclass(frozen=True)
class Setting:
    """prompt, new       tokens of each prompt and of its continuation
    batches, repeats     batch sizes (the number of prompts is the batch size, eight at least), and
                         how often each is timed
    nodes                of the tree
    texts, stride        how many texts drafts are followed along, and at each which place
    """

    prompt: int
    new: int
    batches: tuple[int, ...]
    repeats: int
    nodes: int
    texts: int
    stride: int

    @property
    def length(self) -> int:
        return self.prompt + self.new


# --------------------------------------------------------------------------------------------------
# side by side


def ways_of(model: MultiTokenTransformer, new: int, heads: Sequence[int]) -> dict[str, Way]:
    """The greedy chain of k heads, for each k."""
    return {f"chain, k={k}": partial(decoder(model, new), k=k) for k in heads}


def with_control(ways: dict[str, Way]) -> dict[str, Way]:
    """The A/A control: the way that the others are compared with, once more."""
    return ways | {AGAIN: ways[ONE]}


def decoder(model: MultiTokenTransformer, new: int) -> Callable[..., Generation]:
    """`generate`, with CUDA graphs on a GPU: else launches, not passes, would be timed there."""
    from mtp.decoding.generate import generate

    on_gpu = model.embedding.weight.is_cuda
    return partial(generate, model, max_new=new, compiled=on_gpu)


def speed_rows(found: dict[str, Speed], domain: str, batch: int, count: int) -> list[Measure]:
    """The rows of one batch size, over `count` different prompts."""
    from evals.probes.drafts import distinct

    rows = []
    for way, speed in found.items():
        where = f"{domain}, {way}, batch {batch}"
        sampled = way.startswith("T=")
        baseline = found[f"T={TEMPERATURE}, k=1" if sampled else ONE]
        end = 1e3 * speed.median_seconds / -(-len(speed.tokens) // batch)
        new = max(map(len, speed.tokens))
        rows += [
            Measure(f"tokens/s, {where}", speed.tokens_per_second, count),
            Measure(f"speedup, {where}", speed.over(baseline), count),
            Measure(f"ms to the end of a batch, {where}", end, count),
            Measure(f"ms per token, {where}", end / new, count),
        ]
        if way == AGAIN:
            ratios = sorted(speed.ratios(baseline))
            for name, value in zip(ENDS, (ratios[0], ratios[-1]), strict=True):
                what = f"speedup, {where}, {name} of {len(ratios)} repeats"
                rows.append(Measure(what, value, count))
        if way in (SINGLE, HALF):  # their text means nothing
            continue
        if not sampled:
            same = float(speed.tokens == baseline.tokens)
            rows.append(Measure(f"same tokens as k=1, {where}", same, count))
        rows.append(Measure(f"tokens per forward, {where}", speed.tokens_per_forward, count))
        rows.append(share(f"distinct 4-grams (%), {where}", distinct(speed.tokens), count))
        for i, accepted in enumerate(speed.acceptance, 2):
            rows.append(Measure(f"acceptance, head {i} (%), {where}", 100 * accepted, count))
    return rows


def share(metric: str, value: float | None, count: int) -> Measure:
    """In percent; without a value if there was nothing to count."""
    return Measure(metric, None if value is None else 100 * value, count)


# --------------------------------------------------------------------------------------------------
# along texts


def text_rows(
    model: MultiTokenTransformer, corpus: Corpus, setting: Setting, batch: int, most: int = 0
) -> list[Measure]:
    """Of each kind of text (`most`: of the first kinds alone), human texts and the model's own
    continuations of the same prompts: what a pass that begins there makes, and how much they repeat
    themselves. An n=1 model has no drafts."""
    from evals.probes import drafts
    from evals.probes.domains import domains
    from mtp.decoding.generate import generate

    rows, n = list[Measure](), model.config.n
    found = domains(corpus, setting.length, setting.texts)
    for domain, human in list(found.items())[: most or None]:
        prompts = [text[: setting.prompt] for text in human]
        outputs = list[list[int]]()
        for i in range(0, len(prompts), batch):
            outputs += generate(model, prompts[i : i + batch], setting.new, 1).tokens
        own = [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
        for kind, texts in (("human", human), ("own", own)):
            where = f"{domain}, {kind} text"
            written = [text[setting.prompt :] for text in texts]
            four = drafts.distinct(written)
            rows.append(share(f"distinct 4-grams (%), {where}", four, len(texts)))
            if n == 1:
                continue
            accepted = drafts.accepted_along(model, texts, setting.prompt, setting.stride, batch)
            places = accepted.numel()
            for k in range(2, n + 1):
                made = drafts.tokens_per_forward(accepted, k)
                rows.append(Measure(f"tokens per forward, {where}, k={k}", made, places))
            for i in range(2, n + 1):
                right = float((accepted >= i - 1).double().mean())
                rows.append(share(f"accepted, head {i} (%), {where}", right, places))
    return rows
