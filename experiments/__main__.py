"""The studies: list, plan, run, status, plot, report, compare.

    python -m experiments list
    python -m experiments run sweep-n --scale smoke
    python -m experiments run sweep-n --seeds 0,1,2 --n 1,2,3,4 --set lr=1e-3,4e-3
    python -m experiments run my_study.py                  a study in a file of your own
    python -m experiments compare sweep-n/cpu sweep-n/cpu-lr=0.01
    python -m experiments compare runs/first runs/second   runs of mtp.train

Rows and figures go to results/mine, which git ignores; --renew writes to results/, where the
committed ones are.
"""

import argparse
from pathlib import Path

from experiments.changes import Changes, variations
from experiments.study import SCALES, STUDIES, Study, find, plan
from mtp.command_line import COMMITTED, MINE, new_parser
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.hardware import PEAK_FLOPS


@exit_cleanly
def main() -> None:
    args = _parser().parse_args()
    if args.command == "list":
        list_studies()
    elif args.command == "compare":
        from experiments.compare import compare

        compare(args.names, args.runs, (MINE, COMMITTED), args.out)
    elif args.command == "report":
        from experiments.report import write

        print(f"page: {write(args.results, args.out)}")
    elif args.command == "plot" and args.study is None:
        from experiments.plot import plot_all

        for root in [args.results] if args.results else [COMMITTED, MINE]:
            plot_all(root)
    else:
        if args.command == "run" and not args.study:
            raise BadInput(f"run needs a study; choose one of: {', '.join(STUDIES)}, FILE.py")
        args.results = args.results or (COMMITTED if args.renew else MINE)
        changes = variations(args.overrides, args.seeds, args.n)
        names = [args.study] if args.study else STUDIES
        choose("scale", args.scale, SCALES)
        studies = [study for study in map(find, names) if args.study or args.scale in study.scales]
        wanted = [(study, one) for study in studies for one in changes]
        # Planned before anything runs, so that a mistake in the last one is reported at once.
        {"plan": plans, "status": states, "run": runs, "plot": plots}[args.command](wanted, args)


def list_studies() -> None:
    for name in STUDIES:
        study = find(name)
        print(f"{name:26} {study.artefact}: {study.question}")


def plans(wanted: list[tuple[Study, Changes]], args: argparse.Namespace) -> None:
    from experiments.launch.slurm_options import SlurmOptions, slurm_options
    from experiments.plan import rate_for, show_plan, show_slurm

    slurm = SlurmOptions()
    if args.slurm or args.launcher != "local":
        from experiments.launch.launchers import check_choice  # submitit takes a while to import

        slurm = slurm_options(args.slurm)
        check_choice(args.launcher, args.slurm)
    if args.launcher == "slurm" and not args.study:
        raise BadInput("plan --launcher slurm needs a study")
    rate = rate_for(args.scale, args.device, args.gpus)
    planned = [(study, one, plan(study, args.scale, one)) for study, one in wanted]
    refused = list[str]()
    for study, one, configs in planned:
        label = one.label(args.scale)
        refusal = show_plan(
            study, args.scale, label, configs, args.data, rate, bool(args.study), args.device,
            args.gpus,
        )  # fmt: skip
        if args.launcher == "slurm":
            refusal = show_slurm(study, args, configs, slurm) or refusal
        if refusal and len(planned) > 1:
            print(f"run will refuse this: {refusal}")
        refused += [refusal] * bool(refusal)
    print(f"times: {rate[0]:.1e} FLOP/s on {rate[1]}; evaluation comes on top")
    if refused and args.study:  # of all studies, some need more than others
        one = len(planned) == 1
        raise BadInput(refused[0] if one else f"{len(refused)} of {len(planned)} plans do not fit")


def states(wanted: list[tuple[Study, Changes]], args: argparse.Namespace) -> None:
    from experiments.launch.squeue import Queue
    from experiments.status import show_status

    queue = Queue()
    for study, one in wanted:
        configs = plan(study, args.scale, one)
        show_status(study, one.label(args.scale), configs, args.runs, queue, bool(args.study))


def plots(wanted: list[tuple[Study, Changes]], args: argparse.Namespace) -> None:
    from experiments.plot import plot

    for study, one in wanted:
        name = Path(study.name) / f"{one.label(args.scale)}.csv"
        if args.results == MINE and not (MINE / name).exists() and (COMMITTED / name).exists():
            raise BadInput(f"no rows of yours in {MINE / name}; --renew takes the committed ones")
        plot(study, args.results / name, args.results)


def runs(wanted: list[tuple[Study, Changes]], args: argparse.Namespace) -> None:
    from experiments.run import run

    planned = [(study, one, plan(study, args.scale, one)) for study, one in wanted]
    for study, one, configs in planned:
        run(study, one.label(args.scale), one.text, configs, args)
    if len(planned) > 1:
        from experiments.compare import compare

        print()
        files = [args.results / s.name / f"{one.label(args.scale)}.csv" for s, one in wanted]
        study = wanted[0][0].name
        compare([str(f) for f in files], args.runs, (), args.results / f"{study}-compared")


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("experiments", __doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the studies and the artefacts that they reproduce")
    study = f"{', '.join(STUDIES)}, or FILE.py"

    def command(name: str, help: str) -> argparse.ArgumentParser:
        each = commands.add_parser(name, help=help, description=help)
        each.add_argument("study", nargs="?", metavar="STUDY", help=study)
        scales = ", ".join(SCALES)
        each.add_argument("--scale", default="cpu", help=f"{scales} (default: cpu)")
        each.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE[,VALUE]", dest="overrides",
            help="change a field of every run; several values are compared; may be repeated",
        )  # fmt: skip
        each.add_argument("--seeds", default="", metavar="0,1,2", help="instead of the study's")
        each.add_argument("--n", default="", metavar="1,2,4", help="instead of the study's")
        where = each.add_mutually_exclusive_group()
        where.add_argument("--results", type=Path, help="where rows and figures are (results/mine)")
        where.add_argument("--renew", action="store_true", help="use the committed ones: results/")
        each.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are (runs)")
        each.add_argument("--data", type=Path, default=Path("data"), help="of corpora (data)")
        return each

    def add_launcher(to: argparse.ArgumentParser, help: str) -> None:
        to.add_argument("--launcher", default="local", help=help)
        to.add_argument(
            "--slurm", action="append", default=[], metavar="FIELD=VALUE",
            help="partition, hours, gpus, .., setup=LINE, extra.NAME=VALUE; also from slurm.toml",
        )  # fmt: skip

    planned = command("plan", "Show runs, parameters, tokens, FLOPs and time; start nothing.")
    planned.add_argument(
        "--device", metavar="GPU", help=f"times and memory for: {', '.join(PEAK_FLOPS)}"
    )
    planned.add_argument("--gpus", type=int, default=1, help="how many (default: 1)")
    add_launcher(planned, "slurm: also print the jobs and their scripts, submit nothing")
    command("status", "Show how far the runs are, and why failed ones failed.")
    command("plot", "Redraw a figure from its rows; without STUDY, every figure.")
    started = command("run", "Train and evaluate what is missing; write rows and a figure.")
    add_launcher(started, "local, debug, slurm (default: local)")
    started.add_argument("--retry", action="store_true", help="run failed runs again")
    compared = commands.add_parser(
        "compare", help="Compare studies or runs: curves and differences.",
        description="Plot the curves of studies or runs together, and print their differences.",
    )  # fmt: skip
    compared.add_argument(
        "names", nargs="+", metavar="NAME", help="STUDY/LABEL, a file of rows, or a run's folder"
    )
    compared.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are (runs)")
    compared.add_argument(
        "--out", type=Path, default=MINE / "compared", help="(results/mine/compared)"
    )  # fmt: skip
    page = commands.add_parser(
        "report", help="One page of all committed rows and figures.",
        description="Write one static page of all rows and figures in a folder, with the paper's.",
    )  # fmt: skip
    page.add_argument("--results", type=Path, default=COMMITTED, help="where rows are (results)")
    page.add_argument("--out", type=Path, help="the page (index.html beside the rows)")
    return parser


if __name__ == "__main__":
    main()
