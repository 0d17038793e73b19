"""Import and export checkpoints; grow and drop heads.

    python -m mtp.convert import SOURCE DEST                     a checkpoint becomes a run's folder
    python -m mtp.convert export RUN DEST --format FORMAT
    python -m mtp.convert grow RUN DEST --n 4 --head linear      a run's folder with more heads
    python -m mtp.convert drop RUN DEST --n 1                    with fewer

    hf           config.json  model.safetensors    an ordinary Llama: head 1
    released     params.json  consolidated.00.pth  the paper's format: parallel heads
    hf-heads     an hf folder with heads.*         and a decoder for transformers' generate
    medusa       an hf folder with medusa/         replicated heads, as vLLM reads Medusa's
    speculators  an hf folder with speculator/     sequential-shared heads, for that library
    all          config.json  model.safetensors    all heads of any type, under our own names

`import` recognises hf, released and all by their files. The run's folder that it writes holds
weights of step 0 and no optimizer: mtp.decode decodes from it, and mtp.train starts from it, with
the data, budget and rates that --set gives.

    python -m mtp.convert grow runs/llama runs/llama-n4 --n 4 --set data.source=files:code \\
        --set tokens=2e9
    python -m mtp.train --run runs/llama-n4
"""

import argparse
from pathlib import Path

from mtp.checkpoint import run_config
from mtp.command_line import new_parser
from mtp.config import TrainConfig
from mtp.data.tokenizer import load, load_if_any
from mtp.errors import exit_cleanly
from mtp.files import refuse_existing
from mtp.head_types import HEADS

FORMATS = (
    "hf",
    "released",
    "hf-heads",
    "medusa",
    "speculators",
    "all",
)  # of mtp/formats/folders.py, which needs torch


@exit_cleanly
def main() -> None:
    args = _parser().parse_args()
    refuse_existing(args.dest)  # before all the reading, and before torch is imported
    if args.command != "import":
        run_config(args.source)
    from mtp.formats import folders
    from mtp.formats.folders import new_folder, read_model, save_run
    from mtp.model.loading import load_model
    from mtp.model.surgery import drop_heads, grow_heads

    tokenizer = load_if_any(args.source)
    without = "mtp.train makes a new one"
    if args.command == "import":
        beside = load(args.tokenizer) if args.tokenizer else tokenizer
        new = TrainConfig(tokens=1e6)
        tokenizer = save_run(args.dest, read_model(args.source), beside, new, args.set)
    else:
        config = run_config(args.source)
        model = load_model(args.source)
        if args.command == "export":
            with new_folder(args.dest) as folder:
                folders.FORMATS[args.format](folder, model, tokenizer)
            without = "the run has none"
        else:
            if args.command == "grow":
                model = grow_heads(model, args.n, args.head or config.model.head, args.matched)
            else:
                model = drop_heads(model, args.n)
            tokenizer = save_run(args.dest, model, tokenizer, config, args.set)
    note = "" if tokenizer else f", without a tokenizer: {without}"
    print(f"{args.dest}: {args.command} of {args.source}{note}")


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("mtp.convert", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, source: str, help: str) -> argparse.ArgumentParser:
        each = commands.add_parser(name, help=help, description=help)
        each.add_argument("source", type=Path, metavar=source)
        each.add_argument("dest", type=Path, metavar="DEST", help="a new folder")
        if name != "export":
            fields = "a field of the new run, e.g. lr=1e-4; may be repeated"
            each.add_argument(
                "--set", action="append", default=[], metavar="field=value", help=fields
            )
        return each

    bring = command(
        "import", "SOURCE", "Make a run's folder from a Llama or a released checkpoint."
    )
    bring.add_argument("--tokenizer", type=Path, help="a folder with its tokenizer, if not SOURCE")
    export = command("export", "RUN", "Write a run's model for other programs.")
    export.add_argument("--format", choices=FORMATS, default="hf", help="default: hf (head 1)")
    grow = command("grow", "RUN", "Make a run's folder of the model with more heads (Table S6).")
    grow.add_argument("--n", type=int, required=True, help="heads in all")
    grow.add_argument(
        "--head", help=f"{', '.join(HEADS.built_in)} or FILE.py:NAME (default: the run's)"
    )
    grow.add_argument("--matched", action="store_true", help="keep the number of layers")
    fewer = "Make a run's folder of the model with fewer heads (section 3.6)."
    drop = command("drop", "RUN", fewer)
    drop.add_argument("--n", type=int, default=1, help="heads in all (default: 1)")
    return parser


if __name__ == "__main__":
    main()
