"""Compare studies, or runs of mtp.train: one plot of their curves, one table of differences.

Arms are named by what differs. Runs that differ in their seed alone are one arm: its curve is their
mean, and a difference is taken within each seed. A run that comes twice, or another one of the same
config and seed, is left out: it is no further seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import provenance, results
from experiments.arms import arm_names
from experiments.findings import Difference, differences
from mtp.checkpoint import run_config
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.overrides import config_id, from_dict
from mtp.training.progress import is_trained, read_status

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOSS, VALIDATION = "training loss, head 1 (nats)", "validation loss, head 1 (nats)"


@dataclass
class Run:
    """A run: its name, its config, its curve (tokens and head 1's loss), its numbers by metric, and
    how far it is if it is not finished."""

    name: str
    config: TrainConfig
    tokens: list[float]
    loss: list[float]
    values: dict[str, float]
    left: str = ""
    arm: str = ""


def compare(names: Sequence[str], runs: Path, roots: Sequence[Path], out: Path) -> None:
    """Print the table, and write OUT.csv, OUT.png and OUT.svg.

    names  results files, STUDY or STUDY/LABEL of one in `roots`, or folders of runs
    """
    loaded = [run for name in names for run in load(name, runs, roots)]
    found = distinct(loaded)
    if len(found) < 2:
        which = f"{names[0]} is one run" if len(loaded) < 2 else "there is one config and seed"
        raise BadInput(f"{which}; compare needs two or more")
    for run in found:
        if run.left:
            print(f"{run.name} is not finished: {run.left}")
    for run, arm in zip(found, arm_names([run.config for run in found], seeds=False), strict=True):
        run.arm = arm
    shared = [m for m in found[0].values if all(m in run.values for run in found)]
    rows = _rows(found, shared)
    print(_table(rows, shared))
    from experiments.figures import save

    _, png = save(figure(found, rows), out)
    rows.to_csv(out.with_suffix(".csv"), index=False)
    print(f"\nrows: {out.with_suffix('.csv')}\nfigure: {png}")


def distinct(loaded: Sequence[Run]) -> list[Run]:
    """The first run of each config and seed; the others are named."""
    found = dict[str, Run]()
    for run in loaded:
        first = found.setdefault(config_id(run.config), run)
        if first is not run:
            same = "is there twice" if run.name == first.name else f"repeats {first.name}"
            print(f"{run.name} {same}: the same config and seed; left out")
    return list(found.values())


def load(name: str, runs: Path, roots: Sequence[Path]) -> list[Run]:
    """The runs that a name stands for. Raises BadInput if it stands for none."""
    for folder in (Path(name), runs / name):
        if (folder / "config.json").exists():
            return [_from_folder(folder)]
    study, _, label = name.partition("/")
    files = [Path(name), *(root / study / f"{label or 'cpu'}.csv" for root in roots)]
    for file in files:
        if file.suffix == ".csv" and file.exists():
            return _from_results(file)
    raise BadInput(
        f"{name} is neither a run's folder nor results ({', '.join(map(str, files[1:]))})"
    )


def _from_folder(folder: Path) -> Run:
    logged, values = provenance.metrics(folder), dict[str, float]()
    curve = [row for row in logged if "loss" in row]
    if not curve:
        raise BadInput(f"{folder} has no metrics yet; train it first")
    for file in sorted((folder / "evals").glob("*.json")):
        for measure in (results.load_record(file) or {}).get("measures", []):
            if measure["value"] is not None and "step" not in measure:
                values[measure["metric"]] = measure["value"]
    if checked := [row for row in logged if "validation_loss" in row]:
        values[VALIDATION] = checked[-1]["validation_loss"][0]
    values[LOSS] = curve[-1]["loss"][0]  # last: the headline is of the first
    tokens = [float(row["tokens"]) for row in curve]
    status = read_status(folder)
    done = is_trained(folder) or "steps" not in status
    left = "" if done else f"step {status.get('step')} of {status['steps']}"
    loss = [row["loss"][0] for row in curve]
    return Run(str(folder), run_config(folder), tokens, loss, values, left)


def _from_results(file: Path) -> list[Run]:
    rows = results.read(file)
    known = provenance.read(file.with_suffix(".json"))
    made = []
    for name, own in rows.groupby("run_id", sort=False):
        if name not in known:
            raise BadInput(
                f"{file.with_suffix('.json')} does not describe run {name}, so its configuration "
                "is unknown; run the study again"
            )
        last = own[own.step == own.step.max()].dropna(subset="value")
        values = {str(m): float(v) for m, v in zip(last.metric, last.value, strict=True)}
        run, curve = known[str(name)], known[str(name)]["curve"]
        config = from_dict(TrainConfig, run["config"])
        loss = curve["loss"][0] if curve["loss"] else []
        tokens = [float(t) for t in curve["tokens"]]
        made.append(Run(str(name), config, tokens, loss, values))
    return made


def _rows(found: list[Run], metrics: list[str]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"arm": run.arm, "seed": run.config.seed, "metric": metric, "value": run.values[metric]}
        for run in found
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "metric", "value"])


def _table(rows: pd.DataFrame, metrics: list[str]) -> str:
    """A block per metric: each arm's mean over seeds, and its difference from the first arm."""
    if not metrics:
        return "these runs have no metric in common"
    lines, first = list[str](), str(rows.arm.iloc[0])
    compared = list[Difference]()
    for metric in metrics:
        own = rows[rows.metric == metric]
        apart = {d.arm: d for d in differences(own, "arm", first)}
        compared += apart.values()
        wide = max(len(arm) for arm in own.arm)
        lines.append(metric)
        for arm in dict.fromkeys(own.arm):
            mean, seeds = own[own.arm == arm].value.mean(), len(own[own.arm == arm])
            end = _difference(apart[arm]) if arm in apart else ""
            lines.append(f"  {arm:{wide}} {mean:10.4f}  {seeds} seed{'s' * (seeds > 1)}{end}")
    if compared:
        known = any(d.interval for d in compared)
        over = "[90% interval over seeds]" if known else "an interval needs two seeds"
        lines.append(f"differences: from {first}, within seeds; {over}")
    return "\n".join(lines)


def _difference(d: Difference) -> str:
    if d.interval is None:
        return f"  {d.mean:+.4f}"
    low, high = d.interval
    return f"  {d.mean:+.4f} [{low:+.4f}, {high:+.4f}]{'' if d.decided else ' undecided'}"


def figure(found: list[Run], rows: pd.DataFrame) -> Figure:
    """The curves of head 1's training loss; every seed a thin line, their mean a thick one."""
    import numpy as np

    from experiments import figures

    picture, (axes,) = figures.panels(1, width=9.0, height=4.8)
    colours = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.RED, figures.PURPLE,
               figures.GREY, figures.BLACK)  # fmt: skip
    arms = list(dict.fromkeys(run.arm for run in found))
    for i, arm in enumerate(arms):
        own = [run for run in found if run.arm == arm and run.tokens]
        if not own:
            continue
        style: dict[str, Any] = {"color": colours[i % len(colours)]}
        style["linestyle"] = ("-", "--", ":")[i // len(colours) % 3]
        for run in own:
            axes.plot(run.tokens, run.loss, linewidth=0.8, alpha=0.5, **style)
        until = min(run.tokens[-1] for run in own)
        at = np.array([t for t in own[0].tokens if t <= until])
        mean = np.mean([np.interp(at, run.tokens, run.loss) for run in own], axis=0)
        axes.plot(at, mean, label=arm, **style)
    axes.set_xlabel("tokens trained on")
    axes.set_ylabel("training loss of head 1 (nats)")
    axes.set_title("Training curves")
    axes.legend()
    seeds = {len({r.config.seed for r in found if r.arm == arm}) for arm in arms}
    caption = "Thin lines: runs; thick: mean over seeds." if max(seeds) > 1 else "One run per line."
    return figures.finish(picture, caption, _headline(rows))


def _headline(rows: pd.DataFrame) -> str:
    """The first metric of the table, against the first arm."""
    if not len(rows):
        return ""
    from experiments.findings import against

    metric = str(rows.metric.iloc[0])
    first = rows[rows.metric == metric]
    lower = "loss" in metric or "bits" in metric
    return against(first, "arm", str(first.arm.iloc[0]), metric, lower)
