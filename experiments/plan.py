"""What a study would run: parameters, tokens, FLOPs and time, before anything starts."""

import argparse
import functools
import math
import sysconfig
from pathlib import Path

from experiments.launch.slurm_options import SlurmOptions
from experiments.status import about, count_of, minutes
from experiments.study import Study, run_folder, run_names, study_place
from mtp.config import CorpusConfig, TrainConfig
from mtp.data import installed
from mtp.data.sources import open_source
from mtp.data.tokenized import training_tokens
from mtp.errors import BadInput
from mtp.hardware import GPU_MEMORY, expected_flops, flops_of, has_gpu
from mtp.model.memory import check_memory, training_bytes
from mtp.model.sizes import parameter_counts, run_flops_per_token
from mtp.training.budgets import own_tokens

BYTES_PER_TOKEN = 3.0  # of a small BPE, for budgets in epochs of a corpus that is not built
LARGE = ("gpu", "paper")  # scales that no CPU should run


def rate_for(scale: str, gpu: str | None, gpus: int) -> tuple[float, str]:
    """FLOP/s, and on what: `gpus` GPUs of the kind asked for, else this machine. For a scale that
    is meant for GPUs on a machine without one, a single H100, which the text says."""
    if gpus < 1:
        raise BadInput(f"--gpus is {gpus}; it must be at least 1")
    if gpu:
        return flops_of(gpu, gpus)
    if gpus > 1:
        raise BadInput("--gpus needs --device, the kind of GPU")
    if scale in LARGE and not has_gpu():
        rate, _ = flops_of("H100", 1)
        return rate, "one H100, assumed: no GPU is here (--device, --gpus)"
    return expected_flops()


def show_plan(
    study: Study, scale: str, label: str, configs: list[TrainConfig], data: Path,
    rate: tuple[float, str], every: bool, gpu: str | None = None, gpus: int = 1,
) -> str:  # fmt: skip
    """A summary line; with `every`, also a line per run, and for GPUs the memory that it needs on
    each. A run that continues a shorter one has the FLOPs and the time of its own steps. Returns
    why a run cannot have the GPUs that were asked for; "" if all can."""
    missing = ""  # a source that is to be fetched first; `run` refuses it
    for source in {config.data.source for config in configs} - {""}:
        try:
            open_source(source, data)
        except BadInput as error:
            if source not in {config.data.source for config in study.runs(scale)}:
                raise  # a mistake in --set
            missing = f"run will refuse this: {error}"
    names = run_names(study, configs)
    ranks = gpus if scale == "paper" else 1  # smaller runs have a GPU each
    wide = min(34, max(8, *map(len, names)))
    if every:
        print(f"{study.name} at scale {label}: {study.artefact}")
        print(f"{'run':{wide}} {'parameters':>12} {'tokens':>8} {'FLOPs':>8} {'time':>8}")
    total, seconds, unknown, shared = 0.0, 0.0, 0, False
    here = rate == expected_flops()
    own = own_tokens(configs, lambda config: budget(config, data)[0])
    for config, name, new in zip(configs, names, own, strict=True):
        tokens, guessed = budget(config, data)
        shared |= new < tokens
        flops = new * run_flops_per_token(config)
        known = not math.isnan(flops)
        speed = expected_flops(config.model.dim)[0] if here else rate[0]
        if known:
            total, seconds = total + flops, seconds + flops / speed
        unknown += not known
        if not every:
            continue
        parameters = parameter_counts(config.model)["total"]
        size = f"{parameters:12,}" if parameters < 1e9 else f"{parameters / 1e9:11.2f}B"
        if known:
            count = "~" * guessed + f"{tokens:.2g}"
            text = f"{count:>8} {flops:8.1e} {minutes(flops / speed):>8}"
        else:
            text = f"{config.epochs:.3g} passes over a corpus that is not built"
        print(f"{name[:wide]:{wide}} {size} {text}")
        if scale in LARGE or gpu:
            print(f"{'':{wide}} {memory_of(config, ranks)}")
    left_out = f"; {unknown} runs not counted: build their corpus first" if unknown else ""
    runs = count_of(len(configs))
    start = "" if every else f"{study.name} at scale {label}: "
    left_out += " (shared steps counted once)" * shared
    print(f"{start}{runs}, {total:.1e} FLOPs, {about(seconds)} of training{left_out}")
    if missing:
        print(missing)
    if scale in LARGE or gpu:
        named = {f"{study.name}, {name}": c for name, c in zip(names, configs, strict=True)}
        return misfit(named, gpu, ranks)
    return ""


def show_slurm(
    study: Study, args: argparse.Namespace, configs: list[TrainConfig], options: SlurmOptions
) -> str:
    """The jobs that the slurm launcher would submit if no run had begun: what each kind asks for,
    and its script. Returns why they could not train; "" if they could."""
    from experiments.launch.base import planned_job
    from experiments.launch.dry_run import describe
    from mtp.data.batches import check_divides

    place = study_place(args.study)
    jobs = [
        planned_job(place, args.scale, config, run_folder(config, args.runs), args.data)
        for config in configs
    ]
    print(describe(jobs, args.runs / "logs" / study.name, options))
    for config, name in zip(configs, run_names(study, configs), strict=True):
        try:
            check_divides(config.batch, options.world)
        except BadInput as error:
            return f"{study.name}, {name}: {error}"
    return ""


def memory_of(config: TrainConfig, ranks: int) -> str:
    """E.g. "23.1 GB on each of 64: weights 1.2, gradients 2.0, ..." """
    parts = training_bytes(config, config_precision(config), ranks)
    found = ", ".join(f"{name} {each / 1e9:.1f}" for name, each in parts.items())
    where = f" on each of {ranks} GPUs" if ranks > 1 else ""
    return f"{sum(parts.values()) / 1e9:.1f} GB{where}: {found}"


def misfit(configs: dict[str, TrainConfig], gpu: str | None, ranks: int) -> str:
    """Why the first run that cannot have the GPUs cannot; "" if all can. If the GPUs are only
    assumed, it is printed instead."""
    from mtp.data.batches import check_divides

    kind = gpu or "H100"
    for name, config in configs.items():
        try:
            check_divides(config.batch, ranks)
            check_memory(config, config_precision(config), ranks, GPU_MEMORY[kind], kind)
        except BadInput as error:
            if gpu:
                return f"{name}: {error}"
            print(f"{name}: {error}; see --device and --gpus")
            break  # the first says enough
    return ""


def config_precision(config: TrainConfig) -> str:
    """What the config trains in on a GPU of today."""
    return "bf16" if config.precision == "auto" else config.precision


def budget(config: TrainConfig, data: Path) -> tuple[float, bool]:
    """Tokens of a run, and whether they are a guess: of a budget in epochs, by the size of the
    source if its corpus is not built; nan if that cannot be seen either."""
    if config.tokens:
        return config.tokens, False
    from mtp.data.batches import epoch_tokens
    from mtp.data.corpus import open_if_built

    if corpus := open_if_built(config.data, data):
        return config.epochs * epoch_tokens(corpus.train, config.model.context), False
    if files := open_source(config.data.source, data).tokens:
        tokens = training_tokens(files, config.data.validation)
        most = 1e6 * config.data.max_mb / BYTES_PER_TOKEN
        return config.epochs * (min(tokens, most) if most else tokens), True
    text = source_bytes(config.data)
    return config.epochs * text / (1 if config.data.tokenizer == "bytes" else BYTES_PER_TOKEN), True


@functools.cache
def source_bytes(data: CorpusConfig) -> float:
    """About the bytes of a source of files, by their sizes; nan of other sources."""
    kind, _, where = data.source.partition(":")
    if data.source == "installed":
        size = float(sum(file.size or 0 for file in installed.files()))
        return min(size, 1e6 * data.max_mb) if data.max_mb else size
    if data.source == "stdlib":
        files = Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")
        files = [f for f in files if "test" not in str(f) and "site-packages" not in str(f)]
    elif kind in ("files", "pairs"):
        path = Path(where).expanduser()
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    else:
        return math.nan
    size = float(sum(file.stat().st_size for file in files))
    return min(size, 1e6 * data.max_mb) if data.max_mb else size
