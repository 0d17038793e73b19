"""Table 1, 200B tokens: what does n do to the next-token model, and to decoding?

One size, one budget, n = 1, 2, 4, 6, 8 parallel heads; n heads take their layers from the trunk.
The paper scores pass@k on HumanEval and MBPP at 7B. Models of our `cpu` scale solve none of those:
the next-token model is judged by bits per byte, where differences show at any scale.

Section 3.1 predicts what small models show: below about 1B parameters, n > 1 loses.
"""

import dataclasses
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals import heldout, speculation
from experiments import figures
from experiments.results import Measure
from experiments.study import Study
from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size
from mtp.corpus import Corpus
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer

N = (1, 2, 4, 6, 8)


def base(scale: str) -> TrainConfig:
    """The n=1 run of a scale; the three sweeps share it."""
    if scale == "smoke":
        return TrainConfig(
            model=ModelConfig(dim=32, layers=9, attn_heads=2, vocab=300, context=32),
            data=CorpusConfig(vocab=300, max_mb=0.3, validation=0.2),
            batch=4, tokens=2_560, lr=3e-3, warmup=5, log_every=5,
        )  # fmt: skip
    if scale == "cpu":
        return TrainConfig(
            model=ModelConfig(dim=128, layers=10, attn_heads=4, vocab=2048, context=256),
            data=CorpusConfig(vocab=2048, validation=0.03),
            batch=4, tokens=4e5, lr=4e-3, warmup=40, log_every=20, save_every=100,
        )  # fmt: skip
    if scale == "gpu":
        return TrainConfig(
            model=size("100M", vocab=32_000, context=1024),
            data=CorpusConfig(source="pypi-v1", vocab=32_000),
            batch=64, tokens=65e6, lr=1e-3, warmup=100, log_every=20, save_every=200,
        )  # fmt: skip
    return TrainConfig(  # Tables S13 and S14, code 7B 200B; the corpus is the user's to name
        model=size("6.7B", vocab=32_000, context=4096),
        data=CorpusConfig(source="", vocab=32_000),
        batch=2048, micro=1, tokens=25_000 * 2048 * 4096, lr=3e-4, warmup=2000,
        log_every=10, save_every=500,
    )  # fmt: skip


def with_model(config: TrainConfig, seed: int = 0, **changes: object) -> TrainConfig:
    model = dataclasses.replace(config.model, **changes)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(config, model=model, seed=seed)


def seeds(scale: str) -> range:
    return range({"cpu": 2, "gpu": 2}.get(scale, 1))


def runs(scale: str) -> list[TrainConfig]:
    return [with_model(base(scale), seed, n=n) for seed in seeds(scale) for n in N]


# --------------------------------------------------------------------------------------------------
# evaluations, shared by the three sweeps


def likelihood(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Loss and accuracy per head, and bits per byte, on the whole validation split."""
    found = heldout.measure(model, corpus)
    rows = [Measure("bits per byte", found.bits_per_byte, found.targets[0])]
    for i, count in enumerate(found.targets):
        rows.append(Measure(f"loss, head {i + 1} (nats)", found.loss[i], count))
        rows.append(Measure(f"accuracy, head {i + 1} (%)", 100 * found.accuracy[i], count))
    return rows


def decoding(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Greedy self-speculation with all n heads against the same model with k=1 (section 3.2)."""
    prompts, length, new, repeats = {"smoke": (2, 8, 12, 1), "cpu": (8, 64, 96, 2)}.get(
        scale, (64, 256, 256, 3)
    )
    texts = [
        d[: length + 1].tolist() for d in corpus.validation.documents() if len(d) > length + new
    ]
    if not texts:
        raise BadInput(f"no validation document has {length + new} tokens to prompt with")
    texts = (texts * prompts)[:prompts] if len(texts) < prompts else texts[:prompts]
    found = speculation.measure(model, texts, new, model.config.n, repeats=repeats)
    return decoding_measures(found, len(texts), model.config.n)


def not_yet(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """The paper's own columns, empty until the code benchmarks are measured."""
    return [
        Measure(f"{benchmark} pass@{k} (%)", None)
        for benchmark in ("MBPP", "HumanEval")
        for k in (1, 10, 100)
    ]


EVALUATIONS = {"likelihood": likelihood, "decoding": decoding, "passk": not_yet}


def decoding_measures(found: dict[str, float], prompts: int, k: int) -> list[Measure]:
    """The rows of one measurement of self-speculation with k heads."""
    rows = [
        Measure("tokens per forward", found["tokens_per_forward"], prompts),
        Measure("speedup over k=1", found["speedup"], prompts),
        Measure("tokens/s, k=1", found["tokens_per_second_k1"], prompts),
        Measure("tokens/s, k=n", found["tokens_per_second"], prompts),
        Measure("same tokens as k=1", found["identical"], prompts),
    ]
    for i in range(2, k + 1):
        rows.append(Measure(f"acceptance, head {i} (%)", 100 * found[f"acceptance_{i}"], prompts))
    return rows


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & paper.data.str.startswith("200B")]


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    figures.spread(left, metric(rows, "bits per byte"), "n", figures.BLUE, "bits per byte")
    left.set_title("Next-token model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    decoding_panel(middle, rows, "n")
    paper_points(right, paper_rows(paper), "n", "Paper, 7B on 200B tokens")
    for axes in (left, middle, right):
        axes.set_xlabel("n, future tokens predicted")
    return figures.finish(picture, caption(rows, "parallel heads, equal parameters"))


def metric(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows.metric == name]


def decoding_panel(axes: Axes, rows: pd.DataFrame, x: str, order: Sequence[str] = ()) -> None:
    """Tokens per forward and measured speedup of self-speculation with all heads."""
    forward, speedup = metric(rows, "tokens per forward"), metric(rows, "speedup over k=1")
    figures.spread(axes, forward, x, figures.GREEN, "tokens per forward", order=order)
    figures.spread(axes, speedup, x, figures.ORANGE, "speedup over k=1", "s", order)
    axes.axhline(1, color=figures.GREY, linewidth=1, linestyle=":")
    axes.set_title("Self-speculative decoding")
    axes.set_ylabel("ratio, greedy, batch 1")
    axes.set_ylim(0, 1.3 * max(1.0, forward.value.max()))  # NaN where nothing was decoded
    axes.legend(loc="upper left")


def paper_points(
    axes: Axes, paper: pd.DataFrame, x: str, title: str, order: Sequence[str] = ()
) -> None:
    """The paper's pass@1 on HumanEval and MBPP, in a panel marked as the paper's."""
    figures.paper_panel(axes, title)
    for benchmark, colour, marker in (
        ("MBPP", figures.BLUE, "o"),
        ("HumanEval", figures.RED, "s"),
    ):
        points = metric(paper, f"{benchmark} pass@1 (%)")
        figures.spread(axes, points, x, colour, benchmark, marker, order)
    axes.set_ylabel("pass@1 (%): higher is better")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left")


def in_millions(size: str) -> float:
    """The parameters of a size as study.size_name writes it."""
    return float(size[:-1]) * {"M": 1, "B": 1000}[size[-1]]


def caption(rows: pd.DataFrame, what: str, paper: bool = True) -> str:
    """Which runs, on what data and machine; the same lines under every figure. `paper`: it has a
    grey panel."""
    first, seeds = rows.iloc[0], rows.seed.nunique()
    points = f"points are {seeds} seeds, lines their mean" if seeds > 1 else "one seed"
    sizes = ", ".join(sorted(rows["size"].unique()))
    sources, _, tokenizers = zip(*(text.rpartition(", ") for text in rows.data), strict=True)
    data = ", ".join(" and ".join(dict.fromkeys(part)) for part in (sources, tokenizers))
    return (
        f"Ours ({first.scale} scale): {sizes} non-embedding parameters, {data}, {what};\n"
        f"{points}; {first.device}." + " Grey panel: the paper's." * paper
    )


STUDY = Study(
    name="sweep-n",
    artefact="Table 1, 200B tokens",
    question="what does n do to the next-token model and to decoding?",
    runs=runs,
    evaluations=EVALUATIONS,
    figure=figure,
    paper=paper_rows,
    table=(
        "bits per byte",
        "accuracy, head 1 (%)",
        "tokens per forward",
        "speedup over k=1",
        "MBPP pass@1 (%)",
        "HumanEval pass@1 (%)",
    ),
)
