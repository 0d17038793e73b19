"""What the studies of induction share: runs and their arms, evaluations, the onset of copying."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments import figures
from experiments.evaluations import LIMIT
from experiments.onsets import Curve, of_arm
from experiments.panels import metric
from experiments.results import Measure
from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size
from mtp.data.sources import generator_options

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from evals.probes import induction
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

STORIES = "python:synthetic.stories"
SHORT = 3  # layers of "n=1 short", which are one fewer than those of `small`
RAMP = "ramp:0.2:0.4"
VALIDATION_TOKENS = {"cpu": 8_192, "night": 16_384}  # scored at each kept step; else 65,536


@dataclass(frozen=True)
class Arm:
    """n; layers added; whether n=1 has the path that n=2 has without added layers; whether head 2
    joins late; the order of names in roll calls ("" where the corpus is the user's)."""

    n: int = 1
    extra: int = 0
    short: bool = False
    ramped: bool = False
    order: str = "random"


ONE, TWO, PLUS = Arm(), Arm(2), Arm(2, extra=1)
NIGHT = (ONE, Arm(short=True), TWO, PLUS, Arm(2, extra=1, ramped=True))


def in_order(arms: tuple[Arm, ...], order: str) -> list[Arm]:
    return [dataclasses.replace(arm, order=order) for arm in arms]


BOTH = [*in_order((ONE, PLUS), "random"), *in_order((ONE, PLUS), "cyclic")]
ARMS = {
    "smoke": BOTH,
    "cpu": BOTH,
    "night": [
        *in_order(NIGHT, "random"), *in_order(NIGHT, "cyclic"), *in_order((ONE, PLUS), "none"),
    ],
    "gpu": [*in_order((ONE, TWO, PLUS), "random"), *in_order((ONE, PLUS), "cyclic")],
    "paper": in_order((ONE, TWO), ""),
}  # fmt: skip
SEEDS = {"smoke": 1, "cpu": 3, "night": 10}


def with_arm(config: TrainConfig, arm: Arm, seed: int) -> TrainConfig:
    """The run of an arm, from the n=1 run of its size. Without roll calls copying takes longer to
    learn, so there are three times as many tokens."""
    layers = SHORT if arm.short else config.model.layers
    data, source = config.data, config.data.source
    if arm.order not in ("", "random"):
        data = dataclasses.replace(data, source=f"{source},order={arm.order}")
    if arm.order == "none":
        longer = {"tokens": 3 * config.tokens, "keep_every": 3 * config.keep_every}
        config = dataclasses.replace(config, **longer)
        count = int(generator_options(source)[1]["count"])
        source = data.source.replace(f"count={count}", f"count={3 * count}")
        data = dataclasses.replace(data, source=source)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, n=arm.n, extra_layers=arm.extra, layers=layers),
        objective=dataclasses.replace(
            config.objective, schedule=RAMP if arm.ramped else config.objective.schedule
        ),
        data=data,
        seed=seed,
    )


def arm_of(config: TrainConfig) -> str:
    """E.g. "n=1 short, cyclic" and "n=2 +1 layer ramped, random", whatever --set has changed of all
    arms."""
    model = config.model
    name = f"n={model.n}" + " short" * (model.n == 1 and model.layers == SHORT)
    name += f" +{model.extra_layers} layer" * bool(model.extra_layers)
    name += " ramped" * (config.objective.schedule == RAMP)
    if not config.data.source.startswith(STORIES):
        return name
    order = generator_options(config.data.source)[1].get("order", "random")
    return f"{name}, {'no calls' if order == 'none' else order}"


TWO_PLUS = "n=2 +1 layer"
INTERACTION = {
    f"{TWO_PLUS}, random": 1.0, "n=1, random": -1.0,
    f"{TWO_PLUS}, cyclic": -1.0, "n=1, cyclic": 1.0,
}  # fmt: skip
STYLES = {
    arm + end: (colour, style)
    for end, style in ((", random", "-"), (", cyclic", "--"), (", no calls", ":"), ("", "-"))
    for arm, colour in (
        ("n=1", figures.BLUE), (TWO_PLUS, figures.ORANGE), ("n=1 short", figures.GREEN),
        ("n=2", figures.RED), (f"{TWO_PLUS} ramped", figures.PURPLE),
    )
}  # fmt: skip


def stories(count: int, vocab: int, validation: float = 0.01) -> CorpusConfig:
    return CorpusConfig(f"{STORIES}?count={count}", vocab=vocab, validation=validation)


def small(vocab: int) -> ModelConfig:
    """0.2M parameters without embeddings, four layers to the next token."""
    return ModelConfig(64, SHORT + 1, 4, vocab=vocab, context=128, embedding_std=0.125)


def base(scale: str) -> list[TrainConfig]:
    """The n=1 run of each size of a scale. The learning rate of the small ones is constant after
    the warm-up, so that it is the same whenever copying sets in."""
    if scale == "smoke":
        model = dataclasses.replace(small(600), dim=32, attn_heads=2)
        return [
            TrainConfig(
                model=model, data=stories(200, 600, 0.1), batch=4, tokens=5_120, lr=3e-3, warmup=2,
                log_every=5, keep_every=5,
            )
        ]  # fmt: skip
    if scale == "cpu":  # half of the vocabulary would leave too few names of two tokens
        return [
            TrainConfig(
                model=small(768), data=stories(12_000, 768), batch=8, tokens=2.15e6, lr=4e-3,
                min_lr=1.0, warmup=100, log_every=70, save_every=700, keep_every=70,
            )
        ]  # fmt: skip
    if scale == "night":  # 1024, because stories alone have fewer names
        return [
            TrainConfig(
                model=small(1024), data=stories(24_000, 1024), batch=8, tokens=4e6, lr=4e-3,
                min_lr=1.0, warmup=100, log_every=70, save_every=700, keep_every=70,
            )
        ]  # fmt: skip
    if scale == "gpu":
        return [
            TrainConfig(
                model=size(name, vocab=2048, context=1024), data=stories(2_000_000, 2048),
                batch=64, tokens=2e8, lr=5e-4, warmup=100, log_every=20, save_every=500,
                keep_every=150,
            )
            for name in ("1M", "3M", "10M", "30M")
        ]  # fmt: skip
    # Table S13. The corpus is yours, hf:roneneldan/TinyStories for one: with 32,000 tokens none of
    # our stories' names would stay in two pieces.
    return [
        TrainConfig(
            model=size(name, vocab=32_000, context=2048), data=CorpusConfig("", vocab=32_000),
            batch=128, tokens=100_000 * 262_144, lr=1e-4, warmup=2000, log_every=100,
            save_every=1000, keep_every=1000,
        )
        for name in ("1M", "3M", "10M", "30M", "100M", "300M", "1B")
    ]  # fmt: skip


def runs(scale: str) -> list[TrainConfig]:
    return [
        with_arm(each, arm, seed)
        for seed in range(SEEDS.get(scale, 2))
        for each in base(scale)
        for arm in ARMS[scale]
    ]


NAMES = "second tokens of names (%)"
NATS = "second tokens of names (nats)"
RIGHT = Curve(f"{NAMES}, over training", 70.0)
LIKELY = Curve(f"{NATS}, over training", 0.5, falling=True)
HELD_OUT = "held-out loss, last step (nats)"
DRAWN = "a name mentioned before, drawn"


def names(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the last step: accuracy on held-out names, with its interval over stories, their loss,
    what guesses have, and accuracy on names of any pieces; and the loss on held-out text."""
    from evals.probes import held_out, induction
    from evals.statistics import intervals

    asked = asked_names(model, corpus, scale)
    replies = induction.replies(model, asked)
    stories_: dict[int, list[bool]] = {}
    for question, reply in zip(asked, replies, strict=True):
        stories_.setdefault(id(question.tokens), []).append(reply.right)
    low, high = intervals.bootstrap(list(stories_.values()))
    floors, count = induction.floors(asked), len(asked)
    known = len(induction.pieces(corpus).held_out)
    rows = [
        share(f"{NAMES}, last step", [reply.right for reply in replies]),
        Measure(f"{NAMES}, last step, 90% interval, low", 100 * low, len(stories_)),
        Measure(f"{NAMES}, last step, 90% interval, high", 100 * high, len(stories_)),
        nats(f"{NATS}, last step", replies),
        Measure(f"{NAMES}, {DRAWN}", 100 * floors.drawn, count),
        Measure(f"{NATS}, {DRAWN}", floors.drawn_nats, count),
        Measure(f"{NAMES}, the commonest one", 100 * floors.commonest, count),
        Measure("held-out names of two tokens", known, known),
    ]
    asked = induction.questions(corpus, model.config.context, stories_of(scale), held_out=False)
    # They could know none of the held-out names: no such pair is in the training text.
    rows.append(
        share(f"{NAMES}, n-grams of the training text", induction.by_ngrams(corpus.train, asked))
    )
    right = [reply.right for reply in induction.replies(model, asked)]
    for seen, what in ((True, "seen"), (False, "not seen")):
        some = [r for question, r in zip(asked, right, strict=True) if question.seen == seen]
        rows.append(share(f"{NAMES} of any pieces, {what} in training, last step", some))
    found = held_out.measure(model, corpus, limit=LIMIT.get(scale))
    return [*rows, Measure(HELD_OUT, found.loss[0], found.targets[0])]


def stories_of(scale: str) -> int:
    return {"smoke": 10, "cpu": 150, "night": 150}.get(scale, 100)


def asked_names(
    model: MultiTokenTransformer, corpus: Corpus, scale: str
) -> list[induction.Question]:
    """Held-out names; or names of any pieces, as in the paper, if the corpus has too few of
    them."""
    from evals.probes import induction

    held_out = induction.has_held_out(corpus)
    return induction.questions(corpus, model.config.context, stories_of(scale), held_out)


def share(name: str, right: list[bool]) -> Measure:
    return Measure(name, 100 * sum(right) / len(right) if right else None, len(right))


def nats(name: str, replies: list[induction.Reply]) -> Measure:
    count = len(replies)
    return Measure(name, sum(r.nats for r in replies) / count if count else None, count)


def progress(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: accuracy and loss on names, and the loss on held-out text that an honest
    choice of a step needs."""
    from evals.probes import induction
    from mtp.data.batches import evaluation_batches
    from mtp.objective.cross_entropy import score

    asked = asked_names(model, corpus, scale)
    replies = induction.replies(model, asked)
    config, device = model.config, model.embedding.weight.device
    tokens = VALIDATION_TOKENS.get(scale, 65_536)
    loss = targets = 0.0
    for window in evaluation_batches(corpus.validation, 16, config.context, 1, tokens):
        found, count, _ = score(model, window.to(device))[:, 0].tolist()
        loss, targets = loss + found, targets + count
    return [
        share(RIGHT.metric, [reply.right for reply in replies]),
        nats(LIKELY.metric, replies),
        Measure("held-out loss, over training (nats)", loss / targets, int(targets)),
    ]


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Per run: size, arm, n, seed, `best` over training on the test metric, and `honest`, the value
    at the step of the lowest held-out loss."""
    import pandas as pd

    found = []
    for _, run in rows.groupby("run_id", sort=False):
        key = run.iloc[0][["size", "arm", "n", "seed"]]
        test = metric(run, RIGHT.metric).set_index("step").value
        loss = metric(run, "held-out loss, over training (nats)").set_index("step").value
        found.append((*key, test.max(), test.loc[loss.index[int(loss.argmin())]]))
    return pd.DataFrame(found, columns=["size", "arm", "n", "seed", "best", "honest"])


def mentions(rows: pd.DataFrame) -> str:
    return f"{int(metric(rows, f'{NAMES}, last step')['count'].max())} mentions of names"


# --------------------------------------------------------------------------------------------------
# panels


def curves(axes: Axes, rows: pd.DataFrame, styles: Mapping[str, tuple[str, str]]) -> None:
    """Accuracy on names over training, a line per run: arm -> colour and line style. Grey: the
    threshold of an onset, and the guesses without copying."""
    for arm, (colour, style) in styles.items():
        points = metric(rows[rows.arm == arm], RIGHT.metric)
        for i, (_, run) in enumerate(points.groupby("run_id")):
            run = run.sort_values("step")
            axes.plot(
                run.step, run.value, color=colour, linestyle=style, linewidth=1.6,
                label=arm * (not i),
            )  # fmt: skip
    axes.axhline(RIGHT.threshold, color=figures.BLACK, linewidth=1, linestyle=":")
    for name, style in ((DRAWN, "--"), ("the commonest one", "-.")):
        if len(values := metric(rows, f"{NAMES}, {name}").value):
            axes.axhline(values.mean(), color=figures.GREY, linewidth=1.2, linestyle=style,
                         label=name)  # fmt: skip
    axes.set_xlabel("step (lines: seeds)")
    axes.set_ylabel("right (%)")
    axes.set_ylim(0, 103)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def onset_panel(axes: Axes, table: pd.DataFrame, styles: Mapping[str, tuple[str, str]]) -> None:
    """A line per arm of experiments/onsets.py's table: the onset of each seed as a point, a hollow
    triangle at the end of a run without one; the median as a dash, from five seeds on with its 90%
    interval."""
    from evals.statistics.onset import median

    arms = [arm for arm in styles if (table.arm == arm).any()]
    for i, arm in enumerate(arms):
        colour, own = styles[arm][0], table[table.arm == arm]
        for seen, marker, face in ((True, "o", colour), (False, ">", "none")):
            part = own[own.seen == seen]
            axes.scatter(part.time, [i] * len(part), s=36, marker=marker, color=colour,
                         facecolor=face, zorder=3)  # fmt: skip
        found = median(of_arm(table, arm))
        if math.isfinite(found.value):
            axes.plot((found.value,) * 2, (i - 0.25, i + 0.25), color=colour)
        if found.low > 0:
            end = found.high if math.isfinite(found.high) else own.time.max()
            axes.plot((found.low, end), (i + 0.2,) * 2, color=colour, linewidth=1.6)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("step (triangles: none by then)")
