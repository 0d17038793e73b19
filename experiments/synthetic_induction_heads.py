"""Which attention heads do the induction that `synthetic-induction` measures?

One run per n of its largest size, on one test story: the prefix-matching score of every attention
head on the way to the next token, and what the strongest one looks at.
"""

import ast
import re

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals import attention, induction
from experiments import figures
from experiments.results import Measure
from experiments.study import Study
from experiments.sweep_n import caption, metric, with_model
from experiments.synthetic_induction import N, base
from mtp.config import TrainConfig
from mtp.corpus import Corpus
from mtp.model import MultiTokenTransformer

SHOWN = 44  # tokens of the story in the picture
LEAST = 0.03  # attention weights below it are not recorded


def runs(scale: str) -> list[TrainConfig]:
    """Of `synthetic-induction`, hence shared with it."""
    return [with_model(base(scale)[-1], n=n) for n in N]


def look(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Prefix-matching scores, and the strongest head's weights over a story's beginning."""
    story = induction.questions(corpus, model.config.context, 1)[0].tokens[: model.config.context]
    tokens = torch.tensor(story, device=model.embedding.weight.device)
    maps = attention.maps(model, tokens)  # (layers, H, T, T)
    scores = attention.prefix_matching(maps, tokens)
    # the same for attention that is even over all that a token sees
    even = torch.ones_like(maps[:1, :1]).tril()
    even = attention.prefix_matching(even / even.sum(-1, keepdim=True), tokens)
    rows = [Measure("prefix matching, even attention", float(even), len(story))]
    rows += [
        Measure(f"prefix matching, layer {i + 1} head {j + 1}", float(score), len(story))
        for i, layer in enumerate(scores)
        for j, score in enumerate(layer)
    ]
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    rows.append(Measure(f"strongest head: layer {layer + 1} head {head + 1}", float(scores.max())))
    for t, token in enumerate(story[:SHOWN]):
        rows.append(Measure(f"token {t} {corpus.tokenizer.decode([token])!r}", float(token)))
        for s, weight in enumerate(maps[layer, head, t, : t + 1].tolist()):
            if weight >= LEAST:
                rows.append(Measure(f"strongest head, token {t} looks at {s}", weight))
    return rows


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper.iloc[:0]  # it shows no attention


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, axes = figures.panels(3, 4.6, 4.6)
    found = {n: scores_of(rows[rows.n == n]) for n in N if (rows.n == n).any()}
    for panel, (n, scores) in zip(axes, found.items(), strict=False):
        heat(panel, scores)
        panel.set_title(f"n={n}: prefix matching")
    strongest = max(found, key=lambda n: found[n].to_numpy().max())
    look_panel(axes[2], rows[rows.n == strongest], strongest)
    even = metric(rows, "prefix matching, even attention").value.mean()
    what = f"next-token path; one test story, on which even attention scores {even:.2f}"
    return figures.finish(picture, caption(rows, what, paper=False))


def scores_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores by layer and head."""
    parts = rows.metric.str.extract(r"^prefix matching, layer (\d+) head (\d+)$").astype(float)
    kept = rows.assign(layer=parts[0], head=parts[1]).dropna(subset=["layer"])
    return kept.pivot_table(index="layer", columns="head", values="value")


def heat(axes: Axes, scores: pd.DataFrame) -> None:
    axes.imshow(scores, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="auto")
    for (i, j), value in ((at, scores.iloc[at]) for at in pd.MultiIndex.from_product(
        [range(scores.shape[0]), range(scores.shape[1])]
    )):  # fmt: skip
        colour = "white" if value > 0.6 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=10)
    axes.set_xticks(range(scores.shape[1]), [f"{int(h)}" for h in scores.columns])
    axes.set_yticks(range(scores.shape[0]), [f"{int(i)}" for i in scores.index])
    axes.set_xlabel("attention head")
    axes.set_ylabel("layer on the next-token path")
    axes.grid(False)


def look_panel(axes: Axes, rows: pd.DataFrame, n: int) -> None:
    """The strongest head's weights, row t over what token t looks at; the tokens as labels."""
    words: dict[int, str] = {}
    for name in rows.metric:
        if told := re.fullmatch(r"token (\d+) (.*)", name):
            words[int(told[1])] = ast.literal_eval(told[2]).strip()
    parts = rows.metric.str.extract(r"^strongest head, token (\d+) looks at (\d+)$").astype(float)
    kept = rows.assign(t=parts[0], s=parts[1]).dropna(subset=["t"])
    axes.scatter(kept.s, kept.t, s=60 * kept.value, color=figures.ORANGE, linewidth=0)
    ticks = sorted(words)
    axes.set_xticks(ticks, [words[t] for t in ticks], rotation=90, fontsize=5.5)
    axes.set_yticks(ticks, [words[t] for t in ticks], fontsize=5.5)
    axes.set_ylim(len(ticks) - 0.5, -0.5)
    axes.set_xlabel("... looks at")
    axes.set_ylabel("token ...")
    axes.grid(False)
    which = rows.metric.str.extract(r"^strongest head: (.*)$")[0].dropna().iloc[0]
    axes.set_title(f"n={n}, {which}: who looks where")


STUDY = Study(
    name="synthetic-induction-heads",
    artefact="beyond the paper",
    question="which attention heads copy the names?",
    runs=runs,
    evaluations={"look": look},
    figure=figure,
    paper=paper_rows,
    table=("prefix matching, even attention",),
)
