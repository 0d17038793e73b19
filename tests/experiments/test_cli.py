"""The command line of the studies: plans, overrides, and bad input told in one line."""

import re
from pathlib import Path

import pytest

from experiments.changes import Changes, variations
from experiments.status import minutes
from experiments.study import SCALES, STREAM, STUDIES, find, plan, run_folder
from mtp.errors import BadInput
from tests.conftest import Cli, Result


def one_line(result: Result, *words: str) -> None:
    """Exit code 2 and a single line that has every word."""
    assert result.code == 2 and result.err.count("\n") == 1, result
    assert result.err.startswith("error: ") and all(word in result.err for word in words), (
        result.err
    )


def test_list_names_every_study_and_its_artefact(cli: Cli) -> None:
    result = cli("list")
    assert result.code == 0
    for name in STUDIES:
        assert re.search(rf"^{name} +{find(name).artefact}: .*\?$", result.out, re.MULTILINE), name


@pytest.mark.parametrize("study", STUDIES)
def test_plan_prints_a_line_per_run_and_touches_nothing(
    cli: Cli, tmp_path: Path, study: str
) -> None:
    result = cli("plan", study, "--scale", "smoke")
    configs = plan(find(study), "smoke")
    lines = result.out.splitlines()
    assert len(lines) == len(configs) + 4 and len(set(lines)) == len(lines)
    assert all(len(line) <= 80 for line in lines), lines
    runs = "1 run" if len(configs) == 1 else f"{len(configs)} runs"
    assert lines[-2].startswith(f"{runs}, ") and lines[-1].startswith("times: ")
    assert result.code == 0 and not list(tmp_path.iterdir())


def test_plan_counts_parameters_and_tokens(cli: Cli) -> None:
    gpus = ("--device", "H100", "--gpus", "64")
    lines = cli("plan", "sweep-n", "--scale", "paper", *gpus).out.splitlines()
    arm, parameters, tokens, flops, time, unit = lines[6].split()
    assert (arm, parameters, tokens, unit) == ("n=4", "6.74B", "2.1e+11", "days")
    # 6 FLOPs per token and weight, without the embedding, plus attention and 3 more unembeddings
    assert 6 * 6.6e9 * 2.1e11 < float(flops) < 1.3 * 6 * 6.6e9 * 2.1e11
    days = float(flops) / (64 * 0.4 * 989e12) / 86400
    assert float(time) == pytest.approx(days, rel=0.05)
    assert lines[-1] == "times: 2.5e+16 FLOP/s on 64 x H100; evaluation comes on top"


def test_plan_says_what_a_run_needs_on_each_gpu_and_refuses_what_does_not_fit(cli: Cli) -> None:
    paper = ("plan", "sweep-n", "--scale", "paper", "--device", "H100")
    fits = cli(*paper, "--gpus", "64")
    assert fits.code == 0
    lines = [line for line in fits.out.splitlines() if "on each of 64 GPUs" in line]
    assert len(lines) == 5
    line = re.match(r" +([\d.]+) GB on each of 64 GPUs: (.*)", lines[2])
    assert line
    total, parts = line.groups()
    found = {name: float(value) for name, value in (part.split() for part in parts.split(", "))}
    assert [*found] == ["weights", "gradients", "moments", "activations", "logits", "buffers"]
    assert sum(found.values()) == pytest.approx(float(total), abs=0.4) and float(total) < 60
    few = cli(*paper, "--gpus", "1")
    one_line(few, "sweep-n, n=1: ", "GB of it moments", "it fits on 2 devices, with micro=1")
    wide = cli(*paper, "--gpus", "64", "--set", "micro=8")
    one_line(wide, "GB of it activations", "with micro=2 it fits")
    odd = cli(*paper, "--gpus", "7")
    one_line(odd, "sweep-n, n=1: batch 2048 does not divide over 7 ranks; choose a multiple")
    assert "on each of 7 GPUs" in odd.out
    assumed = cli("plan", "sweep-n", "--scale", "paper")
    assert assumed.code == 0 and "see --device and --gpus" in assumed.out


def test_a_plan_that_does_not_fit_does_not_hide_the_others(cli: Cli) -> None:
    gpus = ("--scale", "paper", "--device", "H100", "--gpus", "64")
    every = cli("plan", *gpus)
    assert every.code == 0 and not every.err
    lines = every.out.splitlines()
    named = [line.split(" at scale")[0] for line in lines if " at scale" in line]
    assert named == [name for name in STUDIES if "paper" in find(name).scales]
    before = lines.index(next(line for line in lines if line.startswith("run will refuse this: s")))
    assert lines[before - 1].startswith("sweep-bytes at scale paper: ")
    assert lines[before].startswith("run will refuse this: sweep-bytes, n=1: ")
    two = cli("plan", "sweep-n", *gpus, "--set", "micro=2,8")
    assert "run will refuse this: sweep-n, n=1: the model" in two.out
    one_line(two, "1 of 2 plans do not fit")


def test_short_times_are_not_zero(cli: Cli) -> None:
    quick = ("plan", "--scale", "smoke", "--device", "H100", "--gpus", "8")
    for said in (cli(*quick).out, cli("plan", "sweep-n", *quick[1:]).out):
        assert "FLOPs, under a second of training" in said and "0 s" not in said
    assert [minutes(s) for s in (0.2, 1, 30, 720)] == ["<1 s", "1 s", "30 s", "12 min"]


def test_plan_of_gpu_scales_says_which_gpu_it_takes(cli: Cli) -> None:
    assert "on one H100, assumed" in cli("plan", "sweep-n", "--scale", "gpu").out
    one_line(cli("plan", "sweep-n", "--device", "H1"), "unknown GPU 'H1'", "H100-PCIe")
    one_line(cli("plan", "sweep-n", "--gpus", "8"), "--gpus needs --device")


def test_plan_and_status_of_all_studies_have_a_line_for_each(cli: Cli, tmp_path: Path) -> None:
    plans, states = cli("plan", "--scale", "smoke"), cli("status", "--scale", "smoke")
    assert len(plans.out.splitlines()) == len(STUDIES) + 1 and plans.code == 0
    assert len(states.out.splitlines()) == len(STUDIES)
    for name, plan_, state in zip(
        STUDIES, plans.out.splitlines()[:-1], states.out.splitlines(), strict=True
    ):
        assert plan_.startswith(f"{name} at scale smoke: ") and "not started" in state
    assert not list(tmp_path.iterdir())


def test_plan_guesses_the_tokens_of_a_corpus_that_is_not_built(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("word " * 20_000)
    own = ("--set", "data.source=files:texts", "--set", "data.max_mb=0")
    lines = cli("plan", "sweep-bytes", "--scale", "smoke", *own).out.splitlines()
    assert lines[3].split()[2] == "~2e+03"  # bytes: a share of 0.02 of 100 kB
    one_line(cli("plan", "sweep-bytes", "--set", "data.source=stdlb"), "unknown source 'stdlb'")


def test_status_of_a_study_that_has_not_begun(cli: Cli, tmp_path: Path) -> None:
    result = cli("status", "sweep-n", "--scale", "smoke")
    first, *lines = result.out.splitlines()
    assert first == "sweep-n at scale smoke, 5 runs: 5 not started"
    assert [line.split() for line in lines[::2]] == [
        [f"n={n}", "not", "started"] for n in (1, 2, 4, 6, 8)
    ]
    assert all(len(line) <= 80 for line in lines)
    assert not list(tmp_path.iterdir())


def test_commands_without_a_study(cli: Cli) -> None:
    one_line(cli("run"), "run needs a study", *STUDIES)
    assert cli("plot").code == 0  # every figure there is: none here


RUN = ("run", "sweep-n", "--scale", "smoke")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "sweep-m"), ("unknown study 'sweep-m'", *STUDIES)),
        (("plan", "sweep-n", "--scale", "huge"), ("unknown scale 'huge'", *SCALES)),
        ((*RUN, "--launcher", "ssh"), ("unknown launcher 'ssh'", "local, debug, slurm")),
        ((*RUN, "--set", "model.size=3"), ("size", "dim, layers, attn_heads")),
        ((*RUN, "--set", "modle.dim=3"), ("modle", "did you mean model.dim?")),
        ((*RUN, "--set", "model.dim"), ("model.dim", "field=value")),
        ((*RUN, "--set", "model.dim=wide"), ("model.dim is 'wide'; it must be a whole number",)),
        ((*RUN, "--set", "model.head=serial"), ("serial", "parallel, causal")),
        ((*RUN, "--set", "model.layers=8"), ("model.n 8", "no trunk in 8 layers", "at most 7")),
        ((*RUN, "--set", "data.source=files:none", "--set", "tokens=1e12"), ("none",)),
        ((*RUN, "--set", "data.source=web"), ("unknown source 'web'", "stdlib, installed, ")),
        ((*RUN, "--slurm", "queue=x"), ("unknown --slurm field 'queue'", "one of partition, ")),
        ((*RUN, "--slurm", "hours=long"), ("hours", "'long'")),
        ((*RUN, "--slurm", "hours=2"), ("error: --slurm needs --launcher slurm\n",)),
        ((*RUN, "--launcher", "debug", "--slurm", "hours=2"), ("--slurm needs --launcher slurm",)),
        (("plan", "sweep-n", "--set", "model.vocab=100"), ("model.vocab 100", "bpe tokenizer's")),
        (("run", "sweep-n", "--scale", "paper"), ("--set data.source=", "files:PATH")),
        (("plot", "sweep-n"), ("results/mine/sweep-n/cpu.csv", "run the study first")),
    ],
)  # fmt: skip
def test_bad_input_is_reported_in_one_line_before_anything_is_made(
    cli: Cli, tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = cli(*args)
    one_line(result, *words)
    assert not result.out, "nothing is promised"
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("tool", ["sbatch", "srun", "squeue"])
def test_the_slurm_launcher_without_slurm(
    cli: Cli, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    (tmp_path / "bin").mkdir()
    for other in {"sbatch", "srun", "squeue"} - {tool}:
        (tmp_path / "bin" / other).write_text("#!/bin/sh\necho called >>$0.called\n")
        (tmp_path / "bin" / other).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    one_line(cli(*RUN, "--launcher", "slurm", *small), f"{tool} is not here")
    assert not list((tmp_path / "bin").glob("*.called"))


def test_a_results_file_of_another_version_is_named_before_training(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "results" / "mine" / "sweep-n" / "smoke.csv"
    file.parent.mkdir(parents=True)
    for text, word in [
        ("study,scale,run,value\nsweep-n,smoke,a,1\n", "run_id"),
        ("", "is not a results file"),
        ("\x00\xff", "is not a results file"),
    ]:
        file.write_bytes(text.encode("latin1"))
        one_line(cli(*RUN), str(file.relative_to(tmp_path)), word)
        assert file.read_bytes() == text.encode("latin1")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "data").exists()


def test_folders_that_cannot_be_made_are_named(cli: Cli, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one_line(cli(*RUN, *small, "--runs", "file/runs", "--launcher", "debug"), "file/runs")


# --------------------------------------------------------------------------------------------------
# overrides and run ids


def test_an_override_makes_other_runs_and_another_file() -> None:
    study = find("sweep-n")
    own = {run_folder(c, Path()).name for c in plan(study, "smoke")}
    wide = plan(study, "smoke", Changes(("model.dim=64",)))
    assert all(c.model.dim == 64 for c in wide) and len(wide) == 5
    assert own.isdisjoint(run_folder(c, Path()).name for c in wide)
    assert Changes(("model.dim=64",)).label("smoke") == "smoke-model.dim=64"
    assert Changes().label("smoke") == "smoke"


def test_labels_follow_what_the_overrides_mean() -> None:
    for texts in (
        ["lr=1e-3", "batch=8"],
        ["batch=8", "lr=0.001"],
        ["lr=5", "batch=8", "lr=1e-3"],  # the last one counts
    ):
        assert Changes(tuple(texts)).label("cpu") == "cpu-batch=8,lr=0.001"
    assert Changes(("lr=1e-3",), (0, 2), (1, 4)).label("cpu") == "cpu-lr=0.001,seeds=0,2,n=1,4"
    texts = Changes(("data.source=files:/my/texts",)).label("cpu")
    assert re.fullmatch(r"cpu-data.source=files-my-texts-[0-9a-f]{6}", texts), texts
    other = Changes(("data.source=files:/my-texts",)).label("cpu")
    assert other != texts  # though both read alike


def test_several_values_are_as_many_variations() -> None:
    found = variations(["lr=1e-3,4e-3", "batch=8", "model.head=linear,causal"], "0,1", "")
    assert [one.text for one in found] == [
        f"batch=8, lr={lr}, model.head={head}"
        for lr in ("0.001", "0.004")
        for head in ("linear", "causal")
    ]
    assert all(one.seeds == (0, 1) and one.n == () for one in found)
    (one,) = variations(["data.source=python:synthetic.stories?count=5,seed=1"], "", "")
    assert one.text == "data.source=python:synthetic.stories?count=5,seed=1"
    assert variations([], "", "") == [Changes()]


def test_seeds_and_n_replace_the_studys_own() -> None:
    wanted = Changes(seeds=(0, 1, 2), n=(1, 3))
    configs = plan(find("sweep-n"), "smoke", wanted)
    assert {(c.seed, c.model.n) for c in configs} == {(s, n) for s in (0, 1, 2) for n in (1, 3)}
    assert len(configs) == 6
    grown = plan(find("grow-heads"), "smoke", Changes(seeds=(5,)))
    names = {run_folder(c, Path()).name for c in grown}
    assert all(c.seed % 100 == 5 and c.init in {"", *names} for c in grown)
    with pytest.raises(BadInput, match="--n does not apply to grow-heads"):
        plan(find("grow-heads"), "smoke", Changes(n=(1, 2)))


def test_run_ids_follow_every_field_and_nothing_else() -> None:
    study = find("sweep-n")
    first = plan(study, "smoke")[0]
    name = run_folder(first, Path("a")).name
    assert name == run_folder(plan(study, "smoke")[0], Path("b")).name
    changes = [
        "model.dim=64", "model.layers=11", "model.vocab=301", "model.context=16", "batch=8",
        "model.rope_base=5e4", "model.norm_eps=1e-6", "model.hidden=96", "data.max_mb=0.4",
        "data.validation=0.3", "data.tokenizer=bytes", "data.source=pypi-v1", "tokens=5e3",
        "lr=1e-3", "min_lr=0.1", "warmup=6", "weight_decay=0", "beta1=0.8", "beta2=0.99", "clip=2",
        "precision=float32", "seed=1",
    ]  # fmt: skip
    names = [
        run_folder(plan(study, "smoke", Changes((change,)))[0], Path()).name for change in changes
    ]
    assert len({name, *names}) == 1 + len(changes)
    execution = ["scheme=plain", "attention=sdpa", "compile=off", "micro=2", "log_every=1"]
    execution += ["eval_every=1", "save_every=1"]
    (same,) = {run_folder(plan(study, "smoke", Changes((c,)))[0], Path()).name for c in execution}
    assert same == name and {Changes((c,)).label("smoke") for c in execution} == {"smoke"}


def test_run_ids_do_not_change_from_one_version_to_the_next() -> None:
    """Finished runs would be lost. If a config's fields change on purpose, so may this."""
    from mtp.config import ModelConfig, TrainConfig

    config = TrainConfig(model=ModelConfig(n=4, head="causal"), tokens=1e6, seed=3)
    assert re.fullmatch(r"causal-n4-s3-[0-9a-f]{12}", run_folder(config, Path()).name)


def test_plans_keep_their_order_and_share_runs() -> None:
    n = plan(find("sweep-n"), "smoke")
    assert [c.model.n for c in n] == [1, 2, 4, 6, 8]
    heads = plan(find("sweep-heads"), "smoke")
    assert [(c.model.head, c.model.n, c.model.extra_layers) for c in heads] == [
        ("parallel", 1, 0), ("parallel", 4, 0), ("parallel", 4, 3), ("causal", 4, 0),
        ("anticausal", 4, 0), ("linear", 4, 0), ("replicated", 4, 0),
    ]  # fmt: skip
    assert set(n) & set(heads) == {n[0], n[2]}  # n=1 and n=4 are trained once for both
    units = [(c.data.tokenizer, c.model.n) for c in plan(find("sweep-bytes"), "smoke")]
    assert units == [("bpe", 1), *(("bytes", n) for n in (1, 1, 2, 8, 8))]


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_of_a_study_has_runs_that_the_model_allows(study: str, scale: str) -> None:
    if scale not in find(study).scales:
        with pytest.raises(BadInput, match=f"unknown scale of {study} '{scale}'; choose"):
            plan(find(study), scale)
        return
    configs = plan(find(study), scale)
    assert configs and all(c.model.trunk_layers >= 1 for c in configs)
    assert all(c.data.source or scale == "paper" for c in configs)


@pytest.mark.parametrize("study", STUDIES)
def test_cpu_and_gpu_scale_have_as_many_seeds_of_every_config(study: str) -> None:
    for scale in {"cpu", "gpu"} & {*find(study).scales}:
        configs = plan(find(study), scale)
        seeds = [c.seed % STREAM for c in configs]
        wanted = max(seeds) + 1
        assert wanted >= 2 and sorted(set(seeds)) == list(range(wanted))
        assert all(seeds.count(seed) == seeds.count(0) for seed in seeds)
        assert len(set(configs)) == len(configs)
