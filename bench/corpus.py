"""Building a corpus: megabytes of text per second, on one core and on two, beside what the
`tokenizers` library alone makes of the same text with the same tokenizer.

Ours reads records from a .jsonl file, filters, hashes, spools, orders, tokenizes, writes and hashes
shards. Each measurement is a process of its own, pinned to its cores; they take turns.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import common
from mtp.command_line import out_of
from mtp.config import CorpusConfig
from mtp.data.corpus import build
from mtp.data.sources import open_source
from mtp.data.tokenizer import BPE, load
from mtp.errors import exit_cleanly
from mtp.hardware import cores

VOCAB = 8192
BATCH = 4_000_000  # bytes of text that both give the tokenizer at a time


def write_texts(folder: Path, megabytes: float, quick: bool) -> float:
    """Records of the standard library's modules, again and again with a number in front, so that
    none is a duplicate; and a tokenizer. Returns megabytes of text."""
    texts = [d.content.decode(errors="replace") for d in open_source("stdlib", folder).documents()]
    BPE.train(texts[: 20 if quick else 300], 512 if quick else VOCAB).save(folder)
    size, number = 0, 0
    with (folder / "texts.jsonl").open("w") as file:
        while size < 1e6 * megabytes:
            text = f"# {number}\n{texts[number % len(texts)]}"
            file.write(json.dumps({"text": text}) + "\n")
            size, number = size + len(text.encode()), number + 1
    return size / 1e6


def theirs(folder: Path) -> float:
    """Seconds that `tokenizers` takes for all texts, in batches, once they are in memory."""
    tokenizer = load(folder)
    assert isinstance(tokenizer, BPE)
    batches, size = [list[str]()], 0
    for line in (folder / "texts.jsonl").open():
        batches[-1].append(json.loads(line)["text"])
        size += len(batches[-1][-1])
        if size > BATCH:
            batches.append([])
            size = 0
    began = time.perf_counter()
    for batch in batches:
        tokenizer.inner.encode_batch_fast(batch, add_special_tokens=False)
    return time.perf_counter() - began


def ours(folder: Path) -> float:
    source = f"files:{folder / 'texts.jsonl'}"
    config = CorpusConfig(source, f"run:{folder}", validation=0.01)
    with tempfile.TemporaryDirectory(dir=folder) as data:
        began = time.perf_counter()
        build(config, Path(data), progress=False)
        return time.perf_counter() - began


def seconds(case: str, folder: Path, count: int) -> float:
    """One measurement in a process on `count` cores."""
    command = [sys.executable, "-m", "bench.corpus", "--work", case, str(folder)]
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:count]))
    variables = os.environ | {"RAYON_NUM_THREADS": str(count)}
    pinned = ["taskset", "--cpu-list", chosen, *command]
    done = subprocess.run(pinned, env=variables, capture_output=True, text=True, check=True)
    return float(done.stdout)


@exit_cleanly
def main() -> None:
    parser = common.parser("corpus", __doc__, seconds=60)
    common.add_worker(parser, "--work")
    args = parser.parse_args()
    if args.work:
        case, folder = args.work
        print({"ours": ours, "tokenizers": theirs}[case](Path(folder)))
        return
    report = common.Report("corpus", out_of(args))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        megabytes = write_texts(folder, 0.3 if args.quick else args.seconds / 4, args.quick)
        rounds = 1 if args.quick else 2
        for count in [1] if args.quick else sorted({1, min(2, cores())}):
            where = f"{count} core{'s' * (count > 1)}"
            times = {
                case: min(seconds(case, folder, count) for _ in range(rounds))
                for case in ("tokenizers", "ours")
            }
            for case, taken in times.items():
                report.add(f"{case}, {where}", "MB/s", megabytes / taken, "MB/s")
            gain = times["tokenizers"] / times["ours"]
            report.ratio(where, "MB/s over tokenizers alone", gain, ">= 0.8")
    print()
    report.table({"MB/s": ".2f"})
    report.finish()


if __name__ == "__main__":
    main()
