"""Which attention heads do the induction that `synthetic-induction` measures?

One run of each n, of its largest size. Where a name begins again, how much does each attention head
on the way to the next token look at what followed that beginning before (prefix matching)? And what
does the strongest one look at in a stretch of one story? The paper's figures show no attention.

At `cpu` scale the n=2 run is of the seed that does not learn to copy, and the other seed does
(docs/studies/synthetic-induction.md). So the figure compares a model that copies with one that does
not, and not n=1 with n=2.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import with_model
from experiments.name_copying import NAMES, N, asked_names, base, share
from experiments.panels import caption, metric
from experiments.results import Measure
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

COPIED = f"{NAMES}, last step"
SHOWN = 44  # tokens of the story in the picture
LEAST = 0.03  # attention weights below it are not recorded


def runs(scale: str) -> list[TrainConfig]:
    """Of `synthetic-induction`, hence shared with it."""
    return [with_model(base(scale)[-1], n=n) for n in N]


def look(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """How many names the model copies, prefix-matching scores where names begin again (means over
    stories), and the strongest head's weights in the stretch of a story where most names begin and
    begin again."""
    import torch

    from evals.probes import attention, induction

    asked = asked_names(model, corpus, scale)
    stories = {id(question.tokens): question.tokens for question in asked}
    places = {key: [q.at for q in asked if id(q.tokens) == key] for key in stories}
    found, even = [], []
    for key, story in stories.items():
        tokens, at = on(model, story), on(model, places[key])
        weights = attention.maps(model, tokens)  # (layers, H, T, T)
        level = torch.ones_like(weights[:1, :1]).tril()
        level = level / level.sum(-1, keepdim=True)  # even over all that a token sees
        found.append(attention.prefix_matching(weights, tokens, at) * len(at))
        even.append(float(attention.prefix_matching(level, tokens, at)) * len(at))
    scores = sum(found[1:], found[0]) / len(asked)
    rows = [share(COPIED, induction.answers(model, asked))]
    rows.append(Measure("prefix matching, even attention", sum(even) / len(asked), len(asked)))
    rows += [
        Measure(f"prefix matching, layer {i + 1} head {j + 1}", float(score), len(asked))
        for i, layer in enumerate(scores)
        for j, score in enumerate(layer)
    ]
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    rows.append(Measure(f"strongest head: layer {layer + 1} head {head + 1}", float(scores.max())))
    key, start = max(
        ((key, start) for key, at in places.items() for start in range(at[-1])),
        key=lambda place: begins_again(stories[place[0]], places[place[0]], place[1]),
    )
    story = stories[key][: model.config.context]
    weights = attention.maps(model, on(model, story))[layer, head]  # (T, T)
    for t, token in list(enumerate(story))[start : start + SHOWN]:
        rows.append(Measure(f"token {t} {corpus.tokenizer.decode([token])!r}", float(token)))
        if t in places[key]:
            rows.append(Measure(f"a name begins again at {t}", 1))
        for s, weight in enumerate(weights[t, : t + 1].tolist()):
            if weight >= LEAST and s >= start:
                rows.append(Measure(f"strongest head, token {t} looks at {s}", weight))
    return rows


def on(model: MultiTokenTransformer, numbers: list[int]) -> torch.Tensor:
    import torch

    return torch.tensor(numbers[: model.config.context], device=model.embedding.weight.device)


def begins_again(story: list[int], places: list[int], start: int) -> int:
    """How many of the places in the stretch from `start` on have their first occurrence in it."""
    return sum(start <= story.index(story[t]) for t in places if start <= t < start + SHOWN)


# --------------------------------------------------------------------------------------------------
# the figure


def finding(rows: pd.DataFrame) -> str:
    parts = []
    for n in dict.fromkeys(rows.n):
        own = rows[rows.n == n]
        strongest = own[own.metric.str.startswith("strongest head: ")].iloc[0]
        where, copied = strongest.metric.removeprefix("strongest head: "), metric(own, COPIED).value
        parts.append(
            f"n={n} copies {copied.mean():.0f}% of names, and its {where} puts "
            f"{100 * strongest.value:.0f}% of its attention where the name was before"
        )
    return f"{'; '.join(parts)}."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, axes = figures.panels(3, 4.6, 4.6)
    found = {n: scores_of(rows[rows.n == n]) for n in N if (rows.n == n).any()}
    for panel, (n, scores) in zip(axes, found.items(), strict=False):
        heat(panel, scores)
        copied = metric(rows[rows.n == n], COPIED).value.mean()
        panel.set_title(f"n={n}, {copied:.0f}% of names right: prefix matching")
    strongest = max(found, key=lambda n: found[n].to_numpy().max())
    look_panel(axes[2], rows[rows.n == strongest], strongest)
    even = metric(rows, "prefix matching, even attention").value.mean()
    what = "next-token path, where names begin again (orange); "
    what += f"even attention would score {even:.3f}"
    limit = (
        "One seed of each n, and seeds differ in whether they learn to copy: not an effect of n."
    )
    what = caption(rows, what, paper=False, limit=limit)
    return figures.finish(picture, what, finding(rows))


def scores_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores by layer and head."""
    parts = rows.metric.str.extract(r"^prefix matching, layer (\d+) head (\d+)$").astype(float)
    kept = rows.assign(layer=parts[0], head=parts[1]).dropna(subset=["layer"])
    return kept.pivot_table(index="layer", columns="head", values="value")


def heat(axes: Axes, scores: pd.DataFrame) -> None:
    import pandas as pd

    axes.imshow(scores, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="auto")
    for (i, j), value in ((at, scores.iloc[at]) for at in pd.MultiIndex.from_product(
        [range(scores.shape[0]), range(scores.shape[1])]
    )):  # fmt: skip
        colour = "white" if value > 0.6 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(scores.shape[1]), [f"{int(h)}" for h in scores.columns])
    axes.set_yticks(range(scores.shape[0]), [f"{int(i)}" for i in scores.index])
    axes.set_xlabel("attention head")
    axes.set_ylabel("layer on the next-token path")
    axes.grid(False)


def look_panel(axes: Axes, rows: pd.DataFrame, n: int) -> None:
    """The strongest head's weights, row t over what token t looks at. Labels: the names that begin
    again, and what they find."""
    words: dict[int, str] = {}
    for name in rows.metric:
        if token := re.fullmatch(r"token (\d+) (.*)", name):
            words[int(token[1])] = ast.literal_eval(token[2]).strip()
    parts = rows.metric.str.extract(r"^strongest head, token (\d+) looks at (\d+)$").astype(float)
    kept = rows.assign(t=parts[0], s=parts[1]).dropna(subset=["t"])
    again = rows.metric.str.extract(r"^a name begins again at (\d+)$")[0].dropna().astype(int)
    for part, colour in ((~kept.t.isin(again), figures.GREY), (kept.t.isin(again), figures.ORANGE)):
        axes.scatter(kept[part].s, kept[part].t, s=60 * kept[part].value, color=colour, linewidth=0)
    copied = kept[kept.t.isin(again) & (kept.value > 0.2)]  # to name every token is too much
    seen, asking = sorted({int(s) for s in copied.s}), sorted({int(t) for t in copied.t})
    axes.set_xticks(seen, [words[t] for t in seen], rotation=90)
    axes.set_yticks(asking, [words[t] for t in asking])
    axes.set_xlim(min(words) - 0.5, max(words) + 0.5)
    axes.set_ylim(max(words) + 0.5, min(words) - 0.5)
    axes.set_xlabel("… looks at (area: share of its attention)")
    axes.set_ylabel("each token …")
    axes.grid(False)
    which = rows.metric.str.extract(r"^strongest head: (.*)$")[0].dropna().iloc[0]
    axes.set_title(f"n={n}, {which}: who looks where")


STUDY = Study(
    name="synthetic-induction-heads",
    artefact="beyond the paper",
    question="which attention heads copy the names?",
    limits=(
        "One seed of each n, and the one of n=2 did not come to copy: the rows compare a model "
        "that copies with one that does not. No head is removed to test its part."
    ),
    runs=runs,
    evaluations={"look": look},
    figure=figure,
    finding=finding,
    table=(COPIED, "prefix matching, even attention"),
)
