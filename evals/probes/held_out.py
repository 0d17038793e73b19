"""Held-out likelihood: loss per head, bits per byte and accuracy on the validation split.

    python -m evals.probes.held_out --checkpoint runs/first
    python -m evals.probes.held_out --checkpoint runs/large --limit-tokens 4e6

prints them for a run, on the text that its corpus holds out or on its first documents, and keeps
them in RUN/evals/held-out.json, where `python -m experiments compare` finds them. A killed
measurement continues where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtp.checkpoint import run_config
from mtp.command_line import add_device, device_of, new_parser
from mtp.errors import BadInput, exit_cleanly
from mtp.files import parse_json, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from mtp.data.corpus import Corpus
    from mtp.data.shards import Split
    from mtp.data.tokenizer import Tokenizer
    from mtp.model.model import MultiTokenTransformer

BATCH_TOKENS = 16_384  # of a batch at most, unless a single row has more
SAVE_SECONDS = 30.0  # between two notes of the partial sums
SAME = 1e-5  # two computations of one batch's nats differ by at most this share of them


@dataclass(frozen=True)
class HeldOut:
    """Per head: `loss` in nats per target, `accuracy` as the share of targets that are the top
    prediction, `targets` counted. `bits_per_byte` is head 1's: its summed bits, ends of documents
    included, over the UTF-8 bytes of the text, so that tokenizers can be compared."""

    loss: list[float]
    accuracy: list[float]
    targets: list[int]
    bits_per_byte: float

    def rows(self) -> list[tuple[str, float, int]]:
        """(metric, value, targets) of each number, as rows of results name them."""
        rows = [("bits per byte", self.bits_per_byte, self.targets[0])]
        for i, count in enumerate(self.targets):
            rows.append((f"loss, head {i + 1} (nats)", self.loss[i], count))
            rows.append((f"accuracy, head {i + 1} (%)", 100 * self.accuracy[i], count))
        return rows


def measure(
    model: MultiTokenTransformer,
    corpus: Corpus,
    batch: int = 0,
    limit: int | None = None,
    keep: Path | None = None,
    heads: int = 0,
    beginnings: int = 0,
) -> HeldOut:
    """Score every token of the validation split once, each with up to `context` tokens before it:
    the split is cut into windows of that length. Of pairs (mtp/data/pairs.py), only completions are
    scored.

    batch  windows at once; 0: 16, or more if they are short; fewer if they have more than
           BATCH_TOKENS tokens
    limit  stop at the first end of a document (of pairs, of a record) at or after so many tokens
    keep   a file for the sums so far. If it holds those of a measurement of the same weights and
           text that was killed, this one goes on from there. It is removed at the end.
    heads  score the first so many alone; 0: all
    beginnings  score the first so many bytes of each document; 0: all

    Raises BadInput if the split is empty or the limit is not positive.
    """
    import torch

    from mtp.data.batches import evaluation_batches
    from mtp.objective.cross_entropy import score

    if limit is not None and limit < 1:
        raise BadInput(f"the limit is {limit} tokens; it must be at least 1")
    model.eval()
    config, split = model.config, text_of(corpus, beginnings)
    weight, heads = model.embedding.weight, heads or config.n
    tokens, text_bytes = extent(split, corpus.tokenizer, limit)
    rows = batch or max(16, 4096 // config.context)
    rows = max(1, min(rows, BATCH_TOKENS // config.context))
    batches = evaluation_batches(split, rows, config.context, heads, tokens)
    sums, done, begin = torch.zeros(3, heads, dtype=torch.float64), 0, time.monotonic()
    partial = Partial(keep, f"{corpus.folder.name} {tokens} {rows} {config} {weight.dtype}")
    for number, window in enumerate(batches):
        if 0 < number < done:
            continue
        found = score(model, window.to(weight.device))
        if number == 0:
            done, sums = partial.resume(found) or (1, found)
            continue
        sums += found
        if keep and time.monotonic() - begin > SAVE_SECONDS:
            partial.save(number + 1, sums)
            begin = time.monotonic()
    partial.remove()
    nats, targets, correct = sums
    return HeldOut(
        loss=(nats / targets).tolist(),
        accuracy=(correct / targets).tolist(),
        targets=[int(t) for t in targets],
        bits_per_byte=float(nats[0]) / math.log(2) / text_bytes,
    )


def text_of(corpus: Corpus, beginnings: int = 0) -> Split:
    """The held-out split, or the first so many bytes of each of its documents."""
    from mtp.data.excerpt import Excerpt

    split = corpus.validation
    return Excerpt(split, corpus.tokenizer, beginnings) if beginnings else split


def extent(split: Split, tokenizer: Tokenizer, limit: int | None) -> tuple[int, int]:
    """How many tokens of a split a limit admits, whole documents or records, and the UTF-8 bytes of
    their text (of pairs, of the completions)."""
    from mtp.data.pairs import Pairs

    if limit is None or limit >= split.tokens:
        return split.tokens, split.bytes
    tokens = text_bytes = 0
    if isinstance(split, Pairs):
        for whole, before, _ in split.lengths.tolist():
            completion = split.read(tokens + before, tokens + whole)
            text_bytes += len(tokenizer.decode(completion.tolist()).encode())
            tokens += whole
            if tokens >= limit:
                break
        return tokens, text_bytes
    for document in split.documents():
        text_bytes += len(tokenizer.decode(document.tolist()).encode())
        tokens += len(document)
        if tokens >= limit:
            break
    return tokens, text_bytes


class Partial:
    """The sums over the first batches, in a file.

    what  the text and how it is cut and computed

    The weights are recognised by what they give for the first batch, which is scored again: other
    weights, such as those of another training step, give other nats.
    """

    def __init__(self, file: Path | None, what: str) -> None:
        self.file, self.what = file, what
        self.first: list[list[float]] = []

    def resume(self, first: Tensor) -> tuple[int, Tensor] | None:
        """How many batches are done, and their sums (3, n). None if nothing is kept of these
        weights and this text. `first`: the sums of the first batch."""
        import torch

        self.first = first.tolist()
        if self.file is None:
            return None
        try:
            kept = parse_json(self.file.read_bytes())
            if kept["what"] != self.what:
                return None
            before, sums = (
                torch.tensor(kept[name], dtype=first.dtype) for name in ("first", "sums")
            )
            done = int(kept["done"])
        except (OSError, ValueError, TypeError, KeyError):  # there is none, or it is torn
            return None
        if before.shape != first.shape or sums.shape != first.shape:
            return None
        same = torch.allclose(before[0], first[0], rtol=SAME, atol=0)
        return (done, sums) if same else None

    def save(self, done: int, sums: Tensor) -> None:
        assert self.file
        kept: dict[str, Any] = {"what": self.what, "first": self.first}
        kept |= {"done": done, "sums": sums.tolist()}
        write_atomically(self.file, json.dumps(kept).encode())

    def remove(self) -> None:
        if self.file:
            self.file.unlink(missing_ok=True)


def whole_tokens(text: str) -> int:
    """An argument such as 4000000 or 4e6."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens") from None


@exit_cleanly
def main() -> None:
    parser = new_parser("evals.probes.held_out", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are (data)")
    few = "score the first documents of so many tokens (default: all)"
    parser.add_argument("--limit-tokens", type=whole_tokens, metavar="N", help=few)
    add_device(parser)
    args = parser.parse_args()
    config = run_config(args.checkpoint)
    device, precision = device_of(args)
    from mtp.data.corpus import build
    from mtp.hardware import dtype_of
    from mtp.model.loading import load_model
    from mtp.training.run import check_corpus, saved_tokenizer

    corpus = build(config.data, args.data, saved_tokenizer=saved_tokenizer(args.checkpoint))
    check_corpus(args.checkpoint, corpus)
    if not corpus.validation.tokens:
        raise BadInput(f"the corpus of {args.checkpoint} holds out no text; see data.validation")
    model = load_model(args.checkpoint, device, dtype_of(precision))
    keep = args.checkpoint / "evals" / ".held-out.partial"
    rows = measure(model, corpus, limit=args.limit_tokens, keep=keep).rows()
    for metric, value, count in rows:
        print(f"{metric:24} {value:10.4f}  of {count:,} targets")
    kept = [{"metric": metric, "value": value, "count": count} for metric, value, count in rows]
    (args.checkpoint / "evals").mkdir(exist_ok=True)
    text = json.dumps({"measures": kept}, indent=1)
    write_atomically(args.checkpoint / "evals" / "held-out.json", text.encode())


if __name__ == "__main__":
    main()
