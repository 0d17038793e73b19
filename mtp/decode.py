"""Continue a prompt with a trained model.

    python -m mtp.decode --checkpoint runs/first --prompt "def __init__(self"

On a terminal, accepted drafts are green. Speed and tokens per forward pass go to stderr.
"""

import itertools
import os
import sys
import time
from pathlib import Path

from mtp.checkpoint import run_config
from mtp.command_line import add_device, device_of, new_parser
from mtp.data.tokenizer import load
from mtp.errors import BadInput, exit_cleanly


@exit_cleanly
def main() -> None:
    parser = new_parser("mtp.decode", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder")
    parser.add_argument("--prompt", required=True, help="the text to continue; - reads stdin")
    parser.add_argument("--max-new", type=int, default=128, help="tokens (default: 128)")
    parser.add_argument("--k", type=int, help="heads in use (default: all; 1: no drafts)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy (default)")
    parser.add_argument("--top-k", type=int, default=0, help="sample from the k best; 0: all")
    parser.add_argument("--top-p", type=float, default=1.0, help="sample from the nucleus")
    parser.add_argument("--seed", type=int, default=0)
    add_device(parser, timed=True)
    args = parser.parse_args()
    run_config(args.checkpoint)  # a missing run is reported before torch is imported
    device, precision = device_of(args)
    from mtp.decoding.generate import stream
    from mtp.decoding.sampling import Sampling
    from mtp.hardware import dtype_of
    from mtp.model.loading import load_model

    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed)
    model = load_model(args.checkpoint, device, dtype_of(precision))
    tokenizer = load(args.checkpoint)
    try:
        text = sys.stdin.read() if args.prompt == "-" else args.prompt
        text.encode()
    except UnicodeError:
        raise BadInput("the prompt is not UTF-8") from None
    prompt = [tokenizer.bos, *tokenizer.encode(text)]
    start, produced, accepted, count = time.perf_counter(), list[int](), 0, -1
    passes = stream(model, [prompt], args.max_new, args.k, tokenizer.eos, sampling=sampling)
    first = next(passes)  # reports bad arguments before anything is printed
    shown = tokenizer.decode(prompt)
    green = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def show(draft: bool, end: bool = False) -> None:
        nonlocal shown
        new = tokenizer.decode(prompt + produced)[len(shown) :]
        if end or not new.endswith("\ufffd"):  # U+FFFD: a character that needs more tokens
            print(f"\033[32m{new}\033[0m" if draft and green and new else new, end="", flush=True)
            shown += new

    print(text, end="", flush=True)
    for ((_, tokens, drafts),) in itertools.chain([first], passes):
        for i, token in enumerate(tokens):
            produced.append(token)
            show(draft=i < drafts)
        accepted, count = accepted + drafts, count + 1
    show(draft=False, end=True)
    seconds = time.perf_counter() - start
    print()
    print(
        f"{len(produced)} tokens in {seconds:.2f} s ({len(produced) / seconds:.0f} tokens/s), "
        f"{count} forward passes after the prompt's, "
        f"{1 + accepted / max(count, 1):.2f} tokens per forward",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
