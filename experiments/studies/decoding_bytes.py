"""Table S3: how far ahead can byte models draft for themselves?

Arms: models that predict n = 8, 16, 32 bytes with replicated unembeddings, k up to n, on code. As
in `decoding`, they are trained longer than those of `sweep-bytes` at `cpu` scale, and end-of-text
is ignored.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import byte_sweep
from experiments.decoding_speed import Setting, speed_rows, split_metric, ways_of
from experiments.panels import caption
from experiments.results import Measure
from experiments.study import Study
from experiments.timed import timed
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

N = (8, 16, 32)
LIMIT = "Ratios within 15% of 1 may be noise of the timing."
POWERS = (1, 2, 4, 8, 16, 32)  # labelled
HEADS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)  # Table S3's k
SETTINGS = {
    "smoke": Setting(8, 12, (1,), 1, 0),
    "cpu": Setting(128, 96, (1, 16), 3, 0),
    "gpu": Setting(256, 256, (1, 16), 2, 0),
    "paper": Setting(1024, 1024, (1, 16), 3, 0),
}


def runs(scale: str) -> list[TrainConfig]:
    found = [
        config
        for config in byte_sweep(scale)
        if config.data.tokenizer == "bytes" and config.model.n in N and config.seed == 0
    ]
    if scale == "smoke":  # so that some drafts are right
        found = [dataclasses.replace(c, lr=1e-2) for c in found]
    if scale == "cpu":
        found = [dataclasses.replace(c, epochs=0.15, warmup=100, save_every=250) for c in found]
    return found


@timed
def speeds(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Chains of every k up to n, per batch size, on the first domain (code where there is any)."""
    from evals.probes import speculation
    from evals.probes.domains import domains

    setting, rows = SETTINGS[scale], []
    count = max(8, *setting.batches)
    domain, different = next(iter(domains(corpus, setting.prompt, count).items()))
    prompts = (different * count)[:count]
    ways = ways_of(model, setting.new, [k for k in HEADS if k <= model.config.n])
    for batch in setting.batches:
        some = prompts[: max(8, batch)]
        found = speculation.side_by_side(ways, some, batch, setting.repeats)
        rows += speed_rows(found, domain, batch, min(len(different), len(some)))
    return rows


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S3"]


COLOURS = dict(
    zip(N, ((figures.BLUE, "o"), (figures.GREEN, "s"), (figures.ORANGE, "^")), strict=True)
)


def finding(rows: pd.DataFrame) -> str:
    """Of the fastest chain of each n, at batch 1."""
    found = split_metric(
        rows, r"^speedup, (?P<domain>\w+), chain, k=(?P<k>\d+), batch (?P<batch>\d+)$"
    )
    found = found[found.batch == found.batch.min()].sort_values("value")
    best = found.groupby("n").tail(1).sort_values("n")
    parts = [
        f"n={row.n} {row.value:.2f} times the speed with k={row.k}" for row in best.itertuples()
    ]
    return f"Fastest chain at batch {found.batch.min()}, over k=1: {', '.join(parts)}."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    import pandas as pd

    picture, (left, middle, right) = figures.panels(3)
    forward = split_metric(
        rows, r"^tokens per forward, (?P<domain>\w+), chain, k=(?P<k>\d+), batch (?P<batch>\d+)$"
    )
    forward = forward[forward.batch == forward.batch.max()]
    speed = split_metric(rows, r"^speedup, \w+, chain, k=(?P<k>\d+), batch (?P<batch>\d+)$")
    paper = paper_rows(paper)
    reported = paper.assign(k=pd.to_numeric(paper["head"].str.extract(r"k=(\d+)")[0]))
    figures.paper_panel(right, "Paper, 7B, batch 16")
    for n, (colour, marker) in COLOURS.items():
        style = {"color": colour, "marker": marker, "markersize": 6}
        ours = forward[forward.n == n].sort_values("k")
        left.plot(ours.k, ours.value, label=f"n={n}", **style)
        for batch, line in zip(sorted(speed.batch.unique()), ("-", ":"), strict=False):
            points = speed[(speed.n == n) & (speed.batch == batch)].sort_values("k")
            label = f"n={n}, batch {batch}"
            middle.plot(points.k, points.value, linestyle=line, label=label, **style)
        for metric, line in (("tokens(bytes) per forward", "-"), ("relative speedup", "--")):
            points = reported[(reported.n == n) & (reported.metric == metric)].sort_values("k")
            label = f"n={n}, {'bytes per forward' if line == '-' else 'speedup'}"
            right.plot(points.k, points.value, linestyle=line, label=label, **style)
    left.set_title(f"Bytes per forward pass, {', '.join(forward.domain.unique())}")
    left.set_ylabel("verified and accepted bytes")
    middle.set_title("Measured speedup")
    middle.set_ylabel("bytes/s over those of k=1")
    middle.axhline(1, color=figures.GREY, linewidth=1, linestyle=":")
    right.set_ylabel("ratio to k=1")
    for axes in (left, middle, right):
        axes.set_xlabel("k, heads used")
        axes.set_xscale("log", base=2)
        axes.set_xticks(POWERS, [str(k) for k in POWERS])
        axes.set_ylim(bottom=0)
        axes.legend(handlelength=3.2)
    what = caption(rows, "replicated unembeddings", limit=LIMIT)
    return figures.finish(picture, what, finding(rows))


STUDY = Study(
    name="decoding-bytes",
    artefact="Table S3",
    question="how far ahead can byte models draft for themselves?",
    limits=f"One seed for each n. {LIMIT}",
    runs=runs,
    evaluations={"speeds": speeds},
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=tuple(f"tokens per forward, code, chain, k={k}, batch 16" for k in (2, 8, 16, 32))
    + tuple(f"speedup, code, chain, k={k}, batch 1" for k in (2, 8, 16, 32)),
)
