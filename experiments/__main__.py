"""python -m experiments list | plan | run | status | plot STUDY [--scale S] [--launcher L]

list     the studies and the artefacts of the paper they reproduce
plan     a study's runs with parameters, tokens, FLOPs and hours, before anything starts
run      train and evaluate what is missing, then write results/STUDY/SCALE.csv and its figure
status   how far each run is, and why failed ones failed
plot     redraw the figure from the committed rows; without STUDY, every figure
"""

from pathlib import Path

from experiments.plan import show_plan
from experiments.plot import plot, plot_all
from experiments.run import run
from experiments.status import show_status
from experiments.study import SCALES, STUDIES, find, plan, scale_label
from mtp.command_line import new_parser
from mtp.errors import BadInput, exit_cleanly

ROOT = Path("results")


@exit_cleanly
def main() -> None:
    parser = new_parser("experiments", __doc__)
    parser.add_argument("command", choices=("list", "plan", "run", "status", "plot"))
    parser.add_argument("study", nargs="?", help=", ".join(STUDIES))
    parser.add_argument("--scale", default="cpu", help=", ".join(SCALES) + " (default: cpu)")
    parser.add_argument("--launcher", default="local", help="local, debug, slurm (default: local)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", dest="overrides",
        help="change a field of every run, e.g. --set model.dim=256; such rows get their own file",
    )  # fmt: skip
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="FIELD=VALUE",
        help="partition, account, hours, nodes, gpus, cpus, memory_gb, ...; also from slurm.toml",
    )  # fmt: skip
    parser.add_argument("--retry", action="store_true", help="run failed runs again")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are kept")
    parser.add_argument("--results", type=Path, default=ROOT, help="where rows and figures go")
    args = parser.parse_args()
    if args.command == "list":
        list_studies()
    elif args.study is None:
        if args.command != "plot":
            raise BadInput(f"{args.command} needs a study; choose one of: {', '.join(STUDIES)}")
        plot_all(args.results)
    else:
        study = find(args.study)
        configs = plan(study, args.scale, args.overrides)
        label = scale_label(args.scale, args.overrides)
        if args.command == "plan":
            show_plan(study, label, configs, args.data)
        elif args.command == "status":
            show_status(study, configs, args.runs)
        elif args.command == "plot":
            plot(study, args.results / study.name / f"{label}.csv", args.results)
        else:
            run(study, label, configs, args)


def list_studies() -> None:
    for name in STUDIES:
        study = find(name)
        print(f"{name:26} {study.artefact}: {study.question}")


if __name__ == "__main__":
    main()
