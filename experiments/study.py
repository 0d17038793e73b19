"""What a study is: an artefact of the paper, its runs by scale, what is measured, its figure.

Each study is a file of experiments/studies/ that defines STUDY and is named in STUDIES below, or a
file of your own that is named by its path.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import provenance, results
from experiments.arms import arm_names, run_name, size_name
from experiments.changes import NOTHING, Changes
from experiments.contrasts import Asked
from experiments.results import Measure
from experiments.trials import MARK, SUFFIX, budget_of, figure_of, finding_of, tried, untried
from mtp.config import TrainConfig
from mtp.data.tokenizer import check_vocab, follow_tokenizer, from_name, names_a_path
from mtp.errors import BadInput, choose
from mtp.head_types import DEFAULT, short_name
from mtp.overrides import override
from mtp.plugins import load_file
from mtp.training.budgets import longest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


STREAM = 100  # what a run that continues another adds to its seed, so that it reads other batches
SCALES = ("smoke", "cpu", "night", "gpu", "paper")
STUDIES = (  # experiments/studies/NAME.py, with _ for -
    "sweep-n",
    "sweep-heads",
    "sweep-controls",
    "information",
    "sweep-bytes",
    "grow-heads",
    "decoding",
    "decoding-bytes",
    "synthetic-polynomials",
    "synthetic-pauses",
    "synthetic-induction",
    "synthetic-induction-books",
    "synthetic-induction-heads",
    "synthetic-choices",
)

# f(model, corpus, scale); one with a parameter `keep` also gets a file for partial results
Evaluation = Callable[..., list[Measure]]


def no_rows(paper: pd.DataFrame) -> pd.DataFrame:
    """For an artefact whose values the paper does not print."""
    return paper.iloc[:0]


def head_name(config: TrainConfig) -> str:
    """The head type, with "+3 layers" where layers were added; "continued" from another run."""
    extra = config.model.extra_layers
    name = short_name(config.model.head) + (f" +{extra} layers" if extra else "")
    return f"{name}, continued" if config.init else name


def arm_of(config: TrainConfig) -> str:
    """E.g. "n=4", "n=4 linear", "bytes, n=8 replicated": enough where arms differ in nothing else.
    A study whose arms do has a function of its own."""
    head = head_name(config)
    bytewise = "bytes, " * (config.data.tokenizer == "bytes")
    return f"{bytewise}n={config.model.n}" + f" {head}" * (head != short_name(DEFAULT))


@dataclass(frozen=True)
class Study:
    """A study, as its file declares it.

    runs           scale -> the configs, in the order of the figure; `init` may name one of them
    evaluations    name -> f(model, corpus, scale); each is recorded once per run
    figure         (rows, the paper's rows) -> the picture, from these rows alone
    finding        rows -> what they say, in a sentence with numbers (experiments/findings.py)
    table          the metrics that the summary prints
    paper          all of the paper's rows -> the rows of this artefact, printed below ours
    over_training  like evaluations, but of every kept step of a run (keep_every in its config)
    arm            a config -> the name of its arm, the same for every seed
    contrasts      what is asked of the arms, with what was expected (experiments/contrasts.py)
    scales         those of SCALES that it has runs for
    limits         what its rows cannot say, in a sentence or two
    rates          learning rates at which every arm is tried (experiments/trials.py)
    trial_share    of the budget that a trial has
    selects        the evaluation and its metric by which a rate is chosen; the lowest is best
    """

    name: str
    artefact: str
    question: str
    runs: Callable[[str], list[TrainConfig]]
    evaluations: dict[str, Evaluation]
    figure: Callable[[pd.DataFrame, pd.DataFrame], Figure]
    finding: Callable[[pd.DataFrame], str]
    table: tuple[str, ...]
    paper: Callable[[pd.DataFrame], pd.DataFrame] = no_rows
    over_training: dict[str, Evaluation] = field(default_factory=dict)
    arm: Callable[[TrainConfig], str] = arm_of
    contrasts: tuple[Asked, ...] = ()
    scales: tuple[str, ...] = ("smoke", "cpu", "gpu", "paper")
    limits: str = ""
    rates: tuple[float, ...] = ()
    trial_share: float = 0.5
    selects: tuple[str, str] = ("likelihood", "bits per byte")

    @property
    def records(self) -> list[str]:
        """All that is recorded of a run."""
        return [*self.evaluations, *self.over_training]


def find(name: str) -> Study:
    """A study by its name in STUDIES, or from a file of the user's own that defines STUDY; with
    "/trials" behind it, the study of its learning rates."""
    if name.endswith(SUFFIX):
        return trials(find(name.removesuffix(SUFFIX)))
    if not name.endswith(".py"):
        known = (*STUDIES, "FILE.py")
        if name not in STUDIES:
            raise BadInput(f"unknown study {name!r}; choose one of: {', '.join(known)}")
        return importlib.import_module(f"experiments.studies.{name.replace('-', '_')}").STUDY
    found = getattr(load_file(Path(name)), "STUDY", None)
    if not isinstance(found, Study):
        raise BadInput(f"{name} defines no STUDY; it must be an experiments.study.Study")
    if found.name in STUDIES or not re.fullmatch(r"[\w.-]+", found.name):
        raise BadInput(
            f"{name}: the study's name is {found.name!r}; it must consist of letters, digits, - "
            "and _, and be none of the suite's own"
        )
    return found


def trials(study: Study) -> Study:
    """The study of a study's learning rates (experiments/trials.py). BadInput if it tries none."""
    if not study.rates:
        raise BadInput(f"{study.name} tries no learning rates")
    evaluation, selected = study.selects

    def runs(scale: str) -> list[TrainConfig]:
        arms = {study.arm(config): config for config in longest(study.runs(scale))}
        return tried(list(arms.values()), study.rates, study.trial_share)

    def finding(rows: pd.DataFrame) -> str:
        return finding_of(rows[rows.metric == selected], selected)

    return dataclasses.replace(
        study,
        name=study.name + SUFFIX,
        question="which learning rate is best for each arm?",
        runs=runs,
        evaluations={evaluation: study.evaluations[evaluation]},
        over_training={},
        figure=lambda rows, paper: figure_of(
            rows[rows.metric == selected], selected, finding(rows), study.trial_share
        ),
        finding=finding,
        arm=lambda config: f"{study.arm(untried(config, study.trial_share))}{MARK}{config.lr:g}",
        contrasts=(),
        limits=f"One seed, which the study does not report, and {budget_of(study.trial_share)}.",
    )


def run_names(study: Study, configs: list[TrainConfig]) -> list[str]:
    """A name for each run: its arm, where the study names arms itself, and its seed; else what
    tells it from the others."""
    own = [study.arm(config) for config in configs]
    if len({config.seed for config in configs}) > 1:
        own = [f"{arm} seed={c.seed}" for arm, c in zip(own, configs, strict=True)]
    return own if len(set(own)) == len(own) and study.arm is not arm_of else arm_names(configs)


def study_place(name: str) -> str:
    """What a job finds a study by, which may work in another folder."""
    file = name.removesuffix(SUFFIX)
    return str(Path(file).resolve()) + name[len(file) :] if file.endswith(".py") else name


def plan(study: Study, scale: str, changes: Changes = NOTHING) -> list[TrainConfig]:
    """The study's configs at a scale, with the changes applied to each; equal runs once."""
    choose(f"scale of {study.name}", scale, study.scales)
    planned = study.runs(scale)
    if changes.n:  # of the whole budget
        planned = longest(planned)
    if any(config.init for config in planned):
        if changes.n:
            raise BadInput(f"--n does not apply to {study.name}, whose runs start from one another")
        if changes.seeds and max(changes.seeds) >= STREAM:
            raise BadInput(
                f"--seeds must be below {STREAM} for {study.name}, whose runs continue one another "
                f"with seeds that are {STREAM} higher"
            )
    configs = []
    for seed in changes.seeds or (None,):
        for n in changes.n or (None,):
            own = [*changes.overrides]
            own += [f"model.n={n}"] if n else []
            own += [f"model.head={DEFAULT}"] if n == 1 else []  # one head has no type
            configs += _changed(planned, own, seed)
    if study.over_training and not all(config.keep_every for config in configs):
        raise BadInput(f"{study.name} looks at weights over training; set keep_every above 0")
    return list({run_name(config): config for config in configs}.values())


def _changed(
    planned: list[TrainConfig], overrides: list[str], seed: int | None
) -> list[TrainConfig]:
    configs = [override(config, overrides) for config in planned]
    if seed is not None:  # a run that continues another keeps its distance to it
        configs = [
            dataclasses.replace(new, seed=seed + old.seed // STREAM * STREAM)
            for old, new in zip(planned, configs, strict=True)
        ]
    configs = [  # a tokenizer that is named by a path may be gone one day; ids must not change then
        c if names_a_path(c.data.tokenizer) else follow_tokenizer(c, overrides) for c in configs
    ]
    for c in configs:  # where the size is known before the corpus is built
        if not names_a_path(c.data.tokenizer):
            tokenizer = from_name(c.data.tokenizer)
            size = tokenizer.vocab_size if tokenizer else c.data.vocab
            check_vocab(c, c.data.tokenizer, size)
    by_name = {run_name(old): new for old, new in zip(planned, configs, strict=True)}

    def with_new_start(config: TrainConfig) -> TrainConfig:
        """A run that starts from another planned run starts from it under its new name."""
        start = by_name.get(config.init)
        name = run_name(with_new_start(start)) if start else config.init
        return dataclasses.replace(config, init=name)

    return [with_new_start(config) for config in configs]


def run_folder(config: TrainConfig, runs: Path) -> Path:
    """runs/HEAD-nN-sSEED-HASH: readable, and another folder for any other config."""
    return runs / run_name(config)


# --------------------------------------------------------------------------------------------------
# from runs to rows


def record_file(folder: Path, evaluation: str) -> Path:
    return folder / "evals" / f"{evaluation}.json"


def missing_evaluations(study: Study, folder: Path) -> list[str]:
    return [e for e in study.records if results.load_record(record_file(folder, e)) is None]


def rows_of(
    study: Study, scale: str, config: TrainConfig, runs: Path, changed: str = ""
) -> list[dict[str, Any]]:
    """The rows of one run: one per number of each evaluation on record."""
    folder = run_folder(config, runs)
    rows = []
    for evaluation in study.records:
        record = results.load_record(record_file(folder, evaluation))
        if record is None:
            continue
        common = {
            "study": study.name,
            "scale": scale,
            "run_id": folder.name,
            "arm": study.arm(config),
            "seed": config.seed,
            "size": size_name(config),
            "n": config.model.n,
            "head": head_name(config),
            "unit": "byte" if config.data.tokenizer == "bytes" else "token",
            "changed": changed,
        }
        keys = ("data", "step", "precision", "device", "versions", "commit")
        kept = {key: record[key] for key in keys}
        rows += [common | kept | measure for measure in record["measures"]]
    return rows


def collect(
    study: Study, label: str, configs: list[TrainConfig], runs: Path, root: Path, changed: str = ""
) -> Path:
    """Write ROOT/STUDY/LABEL.csv from the runs' records, and LABEL.json beside it.

    changed  what --set changed of the runs, for a column of that name

    Rows of planned runs that are not finished here (made on another machine) are kept.
    """
    import pandas as pd

    file = root / study.name / f"{label}.csv"
    before = results.read(file) if file.exists() else pd.DataFrame(columns=results.COLUMNS)
    known = provenance.read(file.with_suffix(".json"))
    rows, described = [], {}
    for config in configs:
        folder = run_folder(config, runs)
        if missing_evaluations(study, folder):
            rows += before[before.run_id == folder.name].to_dict("records")
            described |= {name: run for name, run in known.items() if name == folder.name}
        else:
            rows += rows_of(study, label, config, runs, changed)
            described[folder.name] = provenance.describe(config, folder)
    if not rows:
        raise BadInput(f"{study.name} has no finished run at scale {label}; run it first")
    results.write(file, rows)
    provenance.write(file.with_suffix(".json"), described)
    return file
