"""Held-out likelihood: loss per head, bits per byte and accuracy on the validation split.

    python -m evals.probes.held_out --checkpoint runs/first

prints them for a run, on the text that its corpus holds out, and keeps them in
RUN/evals/held-out.json, where `python -m experiments compare` finds them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtp.checkpoint import run_config
from mtp.command_line import new_parser
from mtp.errors import BadInput, exit_cleanly
from mtp.files import write_atomically

if TYPE_CHECKING:
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer


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


def measure(model: MultiTokenTransformer, corpus: Corpus, batch: int = 16) -> HeldOut:
    """Score every token of the validation split once, each with up to `context` tokens before it:
    the split is cut into windows of that length. Of pairs (mtp/data/pairs.py), only completions are
    scored."""
    import torch

    from mtp.data.batches import evaluation_batches
    from mtp.objective.cross_entropy import score

    model.eval()
    config, split = model.config, corpus.validation
    device = model.embedding.weight.device
    sums = torch.zeros(3, config.n, dtype=torch.float64)
    for x, y in evaluation_batches(split, batch, config.context, config.n):
        sums += score(model, x.to(device), y.to(device))
    nats, targets, correct = sums
    return HeldOut(
        loss=(nats / targets).tolist(),
        accuracy=(correct / targets).tolist(),
        targets=[int(t) for t in targets],
        bits_per_byte=float(nats[0]) / math.log(2) / split.bytes,
    )


@exit_cleanly
def main() -> None:
    parser = new_parser("evals.probes.held_out", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are (data)")
    args = parser.parse_args()
    config = run_config(args.checkpoint)
    from mtp.data.corpus import build
    from mtp.hardware import default_device
    from mtp.model.loading import load_model
    from mtp.training.run import check_corpus, saved_tokenizer

    corpus = build(config.data, args.data, saved_tokenizer=saved_tokenizer(args.checkpoint))
    check_corpus(args.checkpoint, corpus)
    if not corpus.validation.tokens:
        raise BadInput(f"the corpus of {args.checkpoint} holds out no text; see data.validation")
    rows = measure(load_model(args.checkpoint, default_device()), corpus).rows()
    for metric, value, count in rows:
        print(f"{metric:24} {value:10.4f}  of {count:,} targets")
    kept = [{"metric": metric, "value": value, "count": count} for metric, value, count in rows]
    (args.checkpoint / "evals").mkdir(exist_ok=True)
    text = json.dumps({"measures": kept}, indent=1)
    write_atomically(args.checkpoint / "evals" / "held-out.json", text.encode())


if __name__ == "__main__":
    main()
