"""The four models that the paper's authors released: the benchmarks of Table 1, and Table S2.

    make evaluate-released CHECKPOINTS=FOLDER DATA_DIR=data/benchmarks

FOLDER is a download of facebook/multi-token-prediction:

    7B_200B_1  7B_200B_4  7B_1T_1  7B_1T_4      each with params.json and consolidated.pth
    tokenizer.model                             Llama 2's, for all of them

Each is imported once, to runs/released/NAME; answers are kept beside them. Models of equal training
are measured side by side, n=1 first, so that paired differences are reported too. Nothing is done
twice: the same command continues.

The paper gives neither its prompts nor its code prompts of Table S2. Ours are the default variants
of the benchmarks, and functions of the standard library, which the models may well have seen.
`--scale smoke` tries the path with a few problems and short answers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.harness.candidates import Candidate, Measured, Options
from evals.harness.journal import Journal
from evals.harness.problems import add_source, source_of
from evals.harness.rows import table, write
from evals.harness.verdicts import Judging
from experiments import figures, results
from experiments.decoding_speed import ways_of
from experiments.timed import alone_on
from mtp.command_line import add_out, default_precision, new_parser, out_of
from mtp.config import CorpusConfig, TrainConfig
from mtp.data import tokenizer
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.hardware import default_device

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINED = ("200B", "1T")  # tokens of code
NAMES = {trained: (f"7B_{trained}_1", f"7B_{trained}_4") for trained in TRAINED}
DECODING = "7B_1T_4"  # the one of them in Table S2
PAPER_NAMES = {"humaneval": "HumanEval", "mbpp": "MBPP", "apps": "APPS/Intro"}
KS = (1, 10, 100)


@dataclass(frozen=True)
class Scale:
    """None leaves what the benchmark says: all problems, 200 samples, its temperatures. Of
    decoding: tokens of a prompt and of what follows it, prompts at once and in all, repeats."""

    samples: int | None
    temperatures: tuple[float, ...] | None
    max_new: int | None
    limit: int | None
    prompt: int
    new: int
    batch: int
    prompts: int
    repeats: int
    max_mb: float  # of the standard library


SCALES = {
    "smoke": Scale(2, (0.2, 0.8), 8, 3, 8, 12, 2, 4, 1, 0.3),
    "paper": Scale(None, None, None, None, 512, 512, 42, 168, 3, 0.0),
}


# --------------------------------------------------------------------------------------------------
# the checkpoints


def check(folder: Path) -> None:
    """Raise BadInput that names the files which a download lacks."""
    names = [name for pair in NAMES.values() for name in pair]
    lack = [
        name
        for name in names
        if not (folder / name / "params.json").is_file()
        or not list((folder / name).glob("consolidated*.pth"))
    ]
    if lack:
        raise BadInput(
            f"{folder} lacks {', '.join(lack)}; it must hold facebook/multi-token-prediction: "
            f"{', '.join(names)}, each with params.json and consolidated.pth, and tokenizer.model"
        )


def imported(folder: Path, name: str, runs: Path) -> Path:
    """The run of a checkpoint, imported if it does not exist yet. Raises BadInput if the files are
    not such a model, or if neither folder has a tokenizer."""
    dest = runs / name
    if dest.exists():
        return dest
    text = tokenizer.load_if_any(folder / name) or tokenizer.load_if_any(folder)
    if text is None:
        raise BadInput(f"{folder} has no tokenizer.model; it belongs beside the four checkpoints")
    print(f"importing {name}", flush=True)
    from mtp.formats import folders

    model = folders.read_model(folder / name)
    if f"{model.config.n}" != name.rpartition("_")[2]:
        raise BadInput(f"{folder / name} has {model.config.n} heads; its name says otherwise")
    folders.save_run(dest, model, text, TrainConfig(tokens=1e6), [])
    return dest


# --------------------------------------------------------------------------------------------------
# what is measured


def decoding(candidate: Candidate, scale: Scale, out: Path, data: Path) -> list[Measured]:
    """Tokens per forward pass and speedup over k=1 of the greedy chain, for every k, on code."""
    from evals.probes.domains import domains
    from evals.probes.speculation import side_by_side
    from mtp.data.corpus import build

    text = tokenizer.saved_name(candidate.text, candidate.folder)
    corpus = build(CorpusConfig("stdlib", text, max_mb=scale.max_mb, validation=0.5), data)
    prompts = domains(corpus, scale.prompt, scale.prompts)["code"]
    origin = f"functions of the standard library of Python {corpus.manifest['python']}"
    asked = {"prompt": scale.prompt, "new": scale.new, "batch": scale.batch, "k": "1..n"}
    kept = asked | {"repeats": scale.repeats, "data": origin, "weights": candidate.weights()}
    with Journal(out / candidate.name / "decoding.jsonl", kept) as journal:
        journal.check("decoding speeds", is_speeds)
        if not journal.records:
            ways = ways_of(candidate.model(), scale.new, range(1, candidate.config.n + 1))
            with alone_on(candidate.device):
                found = side_by_side(ways, prompts, min(scale.batch, len(prompts)), scale.repeats)
            values = dict[str, float]()
            for k, speed in enumerate(found.values(), 1):
                values[f"tokens per forward, k={k}"] = speed.tokens_per_forward
                values[f"speedup, k={k}"] = speed.over(found["chain, k=1"])
                values[f"tokens/s, k={k}"] = speed.tokens_per_second
            journal.add({"values": values})
        values = journal.records[0]["values"]
    protocol, count = json.dumps(asked), len(prompts)
    return [
        Measured("decoding", "code", candidate.name, metric, "0", value, None, None, count,
                 protocol, origin)
        for metric, value in values.items()
    ]  # fmt: skip


def is_speeds(record: Mapping[str, Any]) -> bool:
    values = record.get("values")
    return isinstance(values, dict) and all(isinstance(v, int | float) for v in values.values())


def measure(args: argparse.Namespace) -> pd.DataFrame:
    """Import, measure, write OUT/SCALE.csv."""
    choose("scale", args.scale, SCALES)
    for name in args.benchmarks.split(","):
        choose("benchmark of the paper's Table 1:", name, PAPER_NAMES)
    check(args.checkpoints)
    import pandas as pd

    from evals.benchmarks.registry import chosen  # its packages take a second to import

    wanted = chosen(args.benchmarks, [])
    scale = SCALES[args.scale]
    options = Options(
        out=args.runs / f"answers-{args.scale}",
        source=source_of(args),
        samples=scale.samples,
        temperatures=scale.temperatures,
        max_new=scale.max_new,
        limit=scale.limit,
        batch=args.batch,
        judging=Judging(allow_unsandboxed=args.allow_unsandboxed),
    )
    data = [benchmark.data(protocol, options) for benchmark, protocol in wanted]
    device = default_device()
    precision = default_precision(device, timed=True)
    folders = {
        name: imported(args.checkpoints, name, args.runs)
        for pair in NAMES.values()
        for name in pair
    }
    file, found, rows = args.out / f"{args.scale}.csv", list[Measured](), pd.DataFrame()
    for pair in NAMES.values():
        candidates = [Candidate(folders[name], device, precision) for name in pair]
        for (benchmark, protocol), problems in zip(wanted, data, strict=True):
            found += benchmark.measure(candidates, problems, protocol, options)
            rows = write(file, found, precision, device)
        if DECODING in pair:
            found += decoding(candidates[1], scale, options.out, args.data)
            rows = write(file, found, precision, device)
    return rows


# --------------------------------------------------------------------------------------------------
# the figure


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """A panel for each benchmark and one for decoding, the paper's numbers beside ours."""
    benchmarks = [name for name in PAPER_NAMES if (rows.benchmark == name).any()]
    picture, axes = figures.panels(len(benchmarks) + 1, height=4.8)
    for place, name in zip(axes, benchmarks, strict=False):
        pass_panel(place, name, rows, paper)
    decoding_panel(axes[-1], rows, paper)
    axes[0].legend()
    asked = json.loads(rows.protocol.iloc[0])
    return figures.finish(
        picture,
        f"Ours: {asked['samples']} samples for each problem, 90% intervals over problems, at the "
        "temperature that is best by the test scores, as in the paper.\n"
        f"Diamonds and dashes: the paper's (Tables 1, S2). {rows.device.iloc[0]}.",
    )


def pass_panel(axes: Axes, name: str, rows: pd.DataFrame, paper: pd.DataFrame) -> None:
    rows = rows[(rows.benchmark == name) & (rows.temperature == "oracle")]
    paper = paper[(paper.artefact == "Table 1") & (paper.unit == "token")]
    ticks = [(trained, k) for trained in TRAINED for k in KS]
    for n, colour, shift in ((1, figures.BLUE, -0.16), (4, figures.ORANGE, 0.16)):
        for at, (trained, k) in enumerate(ticks):
            model = NAMES[trained][0 if n == 1 else 1]
            ours = rows[(rows.checkpoint == model) & (rows.metric == f"pass@{k}")]
            for low, value, high in 100 * ours[["low", "value", "high"]].to_numpy():
                error = [[max(0, value - low)], [max(0, high - value)]]
                axes.errorbar(
                    at + shift, value, yerr=error, fmt="o", color=colour, zorder=3,
                    label=f"n={n}" if at == 0 else None,
                )  # fmt: skip
            theirs = paper[(paper.n == n) & paper.data.str.startswith(f"{trained} ")]
            theirs = theirs[theirs.metric == f"{PAPER_NAMES[name]} pass@{k} (%)"]
            axes.scatter(
                [at + shift] * len(theirs), theirs.value, marker="D", s=42, facecolor="none",
                edgecolor=colour, label=f"n={n}, the paper's" if at == 0 else None,
            )  # fmt: skip
    axes.set_xticks(range(len(ticks)), [f"@{k}\n{trained}" for trained, k in ticks])
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set_ylim(0, 105)
    axes.set_title(PAPER_NAMES[name])
    axes.set_xlabel("k of pass@k, tokens of training")
    axes.set_ylabel("pass@k, %")


def decoding_panel(axes: Axes, rows: pd.DataFrame, paper: pd.DataFrame) -> None:
    rows = rows[rows.benchmark == "decoding"]
    rows = rows.assign(k=rows.metric.str.extract(r"k=(\d+)", expand=False))
    paper = paper[(paper.artefact == "Table S2") & paper.data.str.startswith("code")]
    paper = paper.assign(k=paper["head"].str.extract(r"k=(\d+)", expand=False))
    for ours, theirs, colour in (
        ("tokens per forward", "tokens per forward", figures.GREEN),
        ("speedup", "relative speedup", figures.RED),
    ):
        points = rows[rows.metric.str.startswith(ours)].sort_values("k")
        axes.plot(points.k, points.value, "o-", color=colour, label=ours)
        points = paper[paper.metric == theirs].sort_values("k")
        axes.plot(
            points.k, points.value, "D--", color=colour, markerfacecolor="none",
            linewidth=1.2, label=f"{ours}, the paper's",
        )  # fmt: skip
    axes.set_title(f"{DECODING} as its own draft model")
    axes.set_xlabel("k, heads used")
    axes.set_ylabel("ratio to k=1, greedy, code")
    axes.set_ylim(bottom=0)
    axes.legend()


@exit_cleanly
def main() -> None:
    parser = new_parser("experiments.evaluate_released", __doc__)
    say = parser.add_argument
    say("--checkpoints", type=Path, required=True, metavar="FOLDER", help="the download")
    say("--scale", default="paper", help=f"{', '.join(SCALES)} (default: paper)")
    say("--benchmarks", default=",".join(PAPER_NAMES), help="(default: humaneval,mbpp,apps)")
    add_source(parser)
    say("--batch", type=int, default=32, help="answers drawn at once; 32")
    say("--allow-unsandboxed", action="store_true", help="run programs without bubblewrap")
    say("--runs", type=Path, default=Path("runs/released"), help="where the imported are kept")
    say("--data", type=Path, default=Path("data"), help="where corpora are kept")
    add_out(parser, "evaluate-released")
    args = parser.parse_args()
    args.out = out_of(args)
    rows = measure(args)
    print(table(rows))
    for file in figures.save(figure(rows, results.paper()), args.out / args.scale):
        print(file)


if __name__ == "__main__":
    main()
