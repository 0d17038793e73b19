"""Prompts and completions, for finetuning: the loss is on the completions alone.

    {"prompt": "Write a function to add two numbers.\\n", "completion": "def add(a, b): ..."}

Each line of a `pairs:FILE` source is a record: bos, the prompt, the completion, eos. The two texts
are tokenized each by itself, since a model that is asked gets the prompt alone. A record is a
window of its own: it begins at position 0, sees no other record, and eos pads it to the context.
Head i's target x[t+i] counts where x[t+i] lies in the completion or is its eos, wherever t is.

A record that is longer than the context loses the front of its prompt, bos kept; if its completion
alone is longer, the prompt goes and the completion ends where the context does, without eos.

    {"prompt": "DOCUMENT", "suffix": "\\nTL;DR:", "completion": " SUMMARY"}

A suffix goes on with the prompt, as one text, and stays when a record is too long, while the
completion leaves it room: then it is the end of what stands before it that goes.

    SPLIT-records.bin   uint32 (records, 3): tokens in all, those before the completion, and those
                        of the suffix
"""

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtp.errors import BadInput
from mtp.files import parse_json
from mtp.data.shards import ShardWriter, Split
from mtp.files import file_sha256
from mtp.data.tokenizer import Tokenizer

RECORD_BYTES = 3 * 4  # bytes of a record in SPLIT-records.bin


class Record(NamedTuple):
    prompt: str
    suffix: str
    completion: str


def read_records(file: Path) -> Iterator[Record]:
    """The record of each line; BadInput names the first line that is none."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _record(file, number, line)
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None


def _record(file: Path, number: int, line: bytes) -> Record:
    try:
        values = parse_json(line)
        record = Record(values["prompt"], values.get("suffix", ""), values["completion"])
    except (ValueError, KeyError, TypeError):
        record = None
    if not (record and all(isinstance(each, str) for each in record) and record.completion):
        raise BadInput(
            f'{file} line {number} is not a record with a "prompt", a "completion" and, if it '
            'likes, a "suffix" of type string, the completion not empty'
        )
    return record


def to_text(record: Record) -> str:
    """A record as one text, to be hashed and spooled; `from_text` reads it. With its fields' names
    even the shortest is long enough for the filter against short documents."""
    return json.dumps(record._asdict(), ensure_ascii=False)


def from_text(text: str) -> Record:
    return Record(**json.loads(text))


class Pairs(Split):
    """A split of records. `bytes` counts the completions' text, which is what is scored.

    lengths   (records, 3): tokens in all, those before the completion, bos included, and those of
              the prompt's suffix
    """

    def __init__(
        self,
        files: Sequence[Path],
        dtype: str,
        eos: int,
        text_bytes: int,
        lengths: np.ndarray,
    ) -> None:
        super().__init__(files, dtype, eos, text_bytes)
        self.lengths = lengths.astype(np.int64)
        self._ends = np.cumsum(self.lengths[:, 0])
        self.records = len(self.lengths)

    def records_within(self, tokens: int) -> int:
        """How many of the first records have no more than so many tokens; one at least."""
        return max(min(1, self.records), int(np.searchsorted(self._ends, tokens, side="right")))

    def window(self, index: int, context: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (context+n,) of a record, eos behind it, and whether each is to be predicted.

        At most context + 1 tokens are the record's, whatever n is: head 1 has every one of them as
        its target but the first.
        """
        total, before, suffix = self.lengths[index].tolist()
        end = int(self._ends[index])
        start = end - total
        cut = max(0, min(total - (context + 1), before - 1))
        front = max(1, before - suffix - cut) if suffix else 1  # what stands before the cut
        kept = np.concatenate(
            [self.read(start, start + front), self.read(start + front + cut, end)]
        )
        kept = kept[: context + 1]
        tokens = np.full(context + n, self.eos, dtype=np.int64)
        tokens[: len(kept)] = kept
        place = np.arange(context + n)
        return tokens, (before - cut <= place) & (place < len(kept))

    def cuts(self, context: int) -> tuple[int, int, float]:
        """Records of which the context cuts the prompt alone, those of which it cuts the
        completion, and the share of its positions that hold a record's tokens."""
        total, before, _ = self.lengths.T
        long = total > context + 1
        completions = int((total - before + 1 > context + 1).sum())
        filled = float(np.minimum(total - 1, context).mean() / context) if self.records else 0.0
        return int(long.sum()) - completions, completions, filled

    def summary(self, context: int) -> str:
        """One line about the records in windows of `context`."""
        prompts, completions, filled = self.cuts(context)
        return (
            f"pairs: {self.records} records; a context of {context} cuts {prompts} prompts and "
            f"{completions} completions, and {filled:.0%} of it is filled"
        )


class PairsWriter:
    """Tokenizes records into the shards of `writer` and folder/SPLIT-records.bin."""

    def __init__(self, folder: Path, split: str, writer: ShardWriter, tokenizer: Tokenizer) -> None:
        self.writer = writer
        self.file = folder / f"{split}-records.bin"
        self.tokenizer = tokenizer
        self.lengths: list[tuple[int, int, int]] = []
        self.bytes = 0  # of completions

    def add(self, texts: list[str]) -> None:
        """Texts as `to_text` makes them."""
        records = [from_text(text) for text in texts]
        encode = self.tokenizer.encode_batch
        for prompt, alone, completion, record in zip(
            encode([record.prompt + record.suffix for record in records]),
            encode([record.prompt if record.suffix else "" for record in records]),
            encode([record.completion for record in records]),
            records,
            strict=True,
        ):
            ids = [self.tokenizer.bos, *prompt, *completion, self.tokenizer.eos]
            self.writer.add(ids)
            # A token across the border counts as the suffix's.
            shared = common_prefix(prompt, alone) if record.suffix else len(prompt)
            self.lengths.append((len(ids), 1 + len(prompt), len(prompt) - shared))
            self.bytes += len(record.completion.encode())

    def close(self) -> dict[str, Any]:
        """Write the lengths; returns the manifest's entry for the records."""
        lengths = np.array(self.lengths, dtype=np.uint32).reshape(-1, 3)
        self.file.write_bytes(lengths.tobytes())
        longest = int(lengths[:, 0].max(initial=0))
        sizes = [2**i for i in range(6, 20) if 2**i + 1 < longest]
        return {
            "file": self.file.name,
            "sha256": file_sha256(self.file),
            "records": len(lengths),
            "longest": longest,
            # of which a context of so many tokens cuts something
            "cut_by_context": {str(n): int((lengths[:, 0] > n + 1).sum()) for n in sizes},
        }


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def read_lengths(file: Path) -> np.ndarray:
    """The (records, 3) of a SPLIT-records.bin."""
    return np.fromfile(file, dtype=np.uint32).reshape(-1, 3)
