"""Prompts and completions, for finetuning. Only the completions count in the loss.

    {"prompt": "Write a function to add two numbers.\\n", "completion": "def add(a, b): ..."}

Each line of a `pairs:FILE` source is a record: bos, the prompt, the completion, eos. The two texts
are tokenized separately, since a model in use gets the prompt alone. Each record is a window of its
own: it begins at position 0, sees no other record, and is padded with eos to the context. Head i's
target x[t+i] counts if x[t+i] is in the completion or is its eos, wherever t is.

A record that is longer than the context loses the beginning of its prompt, but keeps bos. If the
completion alone is longer than the context, the whole prompt is dropped, and the completion is cut
at the end of the context, without eos.

    {"prompt": "DOCUMENT", "suffix": "\\nTL;DR:", "completion": " SUMMARY"}

A suffix continues the prompt as one text. If a record is too long, the suffix stays as long as the
completion leaves room for it: the text before the suffix then loses its end.

    SPLIT-records.bin   uint32 (records, 3): the number of tokens in all, before the completion, and
                        in the suffix
"""

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtp.data.shards import Shard, ShardWriter, Split
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput
from mtp.files import file_sha256, parse_json

RECORD_BYTES = 3 * 4  # bytes of a record in SPLIT-records.bin


class Record(NamedTuple):
    prompt: str
    suffix: str
    completion: str


def read_records(file: Path) -> Iterator[Record]:
    """The record on each line. BadInput names the first line that is not a record."""
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
            f'{file} line {number} is not a record with a "prompt", a "completion" and, optionally,'
            ' a "suffix" of type string; the completion must not be empty'
        )
    return record


def to_text(record: Record) -> str:
    """A record as one text, to be hashed and spooled; `from_text` reads it back. Because of the
    field names, even the shortest record passes the filter against short documents."""
    return json.dumps(record._asdict(), ensure_ascii=False)


def from_text(text: str) -> Record:
    return Record(**json.loads(text))


class Pairs(Split):
    """A split of records. `bytes` counts only the completions' text, since only that is scored.

    lengths  (records, 3): the number of tokens in all, before the completion (with bos), and in the
             prompt's suffix
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        eos: int,
        text_bytes: int,
        lengths: np.ndarray,
    ) -> None:
        super().__init__(shards, eos, text_bytes)
        self.lengths = lengths.astype(np.int64)
        self._ends = np.cumsum(self.lengths[:, 0])
        self.records = len(self.lengths)

    def records_within(self, tokens: int) -> int:
        """How many records fit in the first `tokens` tokens; at least one."""
        return max(min(1, self.records), int(np.searchsorted(self._ends, tokens, side="right")))

    def window(self, index: int, context: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens (context+n,) of a record, padded with eos, and whether each is to be
        predicted.

        At most context + 1 tokens are from the record, whatever n is: all of them but the first are
        targets of head 1.
        """
        total, before, suffix = self.lengths[index].tolist()
        end = int(self._ends[index])
        start = end - total
        cut = max(0, min(total - (context + 1), before - 1))
        front = max(1, before - suffix - cut) if suffix else 1  # the tokens before the cut
        kept = np.concatenate(
            [self.read(start, start + front), self.read(start + front + cut, end)]
        )
        kept = kept[: context + 1]
        tokens = np.full(context + n, self.eos, dtype=np.int64)
        tokens[: len(kept)] = kept
        place = np.arange(context + n)
        return tokens, (before - cut <= place) & (place < len(kept))

    def cuts(self, context: int) -> tuple[int, int, float]:
        """What a context cuts: how many records lose only prompt tokens, how many lose completion
        tokens, and the share of positions that are filled."""
        total, before, _ = self.lengths.T
        long = total > context + 1
        completions = int((total - before + 1 > context + 1).sum())
        filled = float(np.minimum(total - 1, context).mean() / context) if self.records else 0.0
        return int(long.sum()) - completions, completions, filled

    def summary(self, context: int) -> str:
        """A line about the records in windows of `context`."""
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
        """Add records, as texts from `to_text`."""
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
            # A token across the border belongs to the suffix.
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
            # context -> how many records it cuts
            "cut_by_context": {str(n): int((lengths[:, 0] > n + 1).sum()) for n in sizes},
        }


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens both lists begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def read_lengths(file: Path) -> np.ndarray:
    """The lengths (records, 3) in a SPLIT-records.bin."""
    return np.fromfile(file, dtype=np.uint32).reshape(-1, 3)
