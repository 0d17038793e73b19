"""What the benchmarks share: rows, tables, interleaved timing, peak memory, fresh processes.

Numbers that are compared are measured side by side, in one run. Rows go to
results/mine/bench/NAME.csv, one for each number; with --renew to the committed ones.
"""

import argparse
import ctypes
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from mtp import hardware, records
from mtp.command_line import add_out, new_parser
from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.hardware import default_device, device_name, synchronize

COLUMNS = ("bench", "case", "metric", "value", "unit", "device", "threads", "versions", "commit")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or each profile prints lines of its own
DEVICE = default_device()


def parser(bench: str, doc: str | None, seconds: float) -> argparse.ArgumentParser:
    """The command line of a benchmark: --seconds, --quick and --out."""
    new = new_parser(f"bench.{bench}", doc)
    about = f"about how long the whole takes (default: {seconds:g})"
    new.add_argument("--seconds", type=float, default=seconds, help=about)
    new.add_argument("--quick", action="store_true", help="tiny shapes, to see that it works")
    add_out(new, "bench")
    return new


def add_worker(parser: argparse.ArgumentParser, flag: str) -> None:
    """An option with which a benchmark starts itself in another process."""
    parser.add_argument(flag, nargs=2, help=argparse.SUPPRESS)


class Report:
    """The rows of one benchmark. `extra` names more libraries whose versions matter."""

    def __init__(self, bench: str, out: Path, extra: str = "") -> None:
        self.bench, self.out, self.extra, self.start = bench, out, extra, time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.ratios: dict[str, dict[str, Any]] = {}
        print(f"bench-{bench} on {device_name()}, {torch.get_num_threads()} threads, ", end="")
        print(records.versions() + extra, flush=True)

    def add(self, case: str, metric: str, value: float, unit: str) -> None:
        self.rows.append({"case": case, "metric": metric, "value": value, "unit": unit})

    def ratio(self, case: str, metric: str, value: float, expected: str = "") -> None:
        """Add a ratio; `expected` is a bound such as "<= 1.1" or ">= 1.5"."""
        self.add(case, metric, value, "ratio")
        line = f"{case}: {metric} {value:.3f}"
        kept: dict[str, Any] = {"value": round(value, 4)}
        if expected:
            sign, limit = expected.split()
            met = value <= float(limit) if sign == "<=" else value >= float(limit)
            line += f" (expected {expected}: {'met' if met else 'MISSED'})"
            kept |= {"expected": expected, "met": met}
        self.ratios[f"{case}: {metric}"] = kept
        print(line, flush=True)

    def table(self, metrics: dict[str, str]) -> None:
        """Print a line for each case and a column for each metric, in the metric's format."""
        found = {(r["case"], r["metric"]): r["value"] for r in self.rows}
        cases = list(dict.fromkeys(case for case, metric in found if metric in metrics))
        cells = [["", *metrics]]
        for case in cases:
            values = ((found.get((case, m)), f) for m, f in metrics.items())
            cells.append([case, *("" if v is None else format(v, f) for v, f in values)])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for first, *rest in cells:
            line = [text.rjust(w) for text, w in zip(rest, widths[1:], strict=True)]
            print("  ".join([first.ljust(widths[0]), *line]).rstrip())
        print(flush=True)

    def finish(self) -> None:
        """Write the rows, and print a summary in one line of JSON."""
        self.write()
        seconds = round(time.monotonic() - self.start, 1)
        print(json.dumps(self._common() | {"seconds": seconds, "ratios": self.ratios}))

    def write(self) -> None:
        """Write the rows so far."""
        common, text = self._common(), io.StringIO()
        rows = [common | row for row in self.rows]
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(text, index=False, lineterminator="\n")
        write_atomically(self.out / f"{self.bench}.csv", text.getvalue().encode())

    def _common(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "device": device_name(),
            "threads": torch.get_num_threads(),
            "versions": records.versions() + self.extra,
            "commit": records.commit(),
        }


# --------------------------------------------------------------------------------------------------
# transformers, which ours is compared with


def transformers() -> Any:
    """The package. Raises BadInput if it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        message = "this benchmark needs transformers: .venv/bin/pip install -e '.[bench]'"
        raise BadInput(message) from None


def llama(config: ModelConfig, **options: Any) -> Any:
    """A LlamaForCausalLM with the shape of an n=1 `config`; `options` go to its LlamaConfig."""
    shape = transformers().LlamaConfig(
        hidden_size=config.dim,
        intermediate_size=config.ffn,
        num_hidden_layers=config.layers,
        num_attention_heads=config.attn_heads,
        num_key_value_heads=config.key_value_heads,
        vocab_size=config.vocab,
        max_position_embeddings=config.context,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=False,
        **options,
    )
    return transformers().LlamaForCausalLM(shape).to(DEVICE)


# --------------------------------------------------------------------------------------------------
# time

Times = dict[str, list[float]]  # seconds of each round, by case


def interleave(
    cases: Mapping[str, Callable[[], object]], seconds: float, warm: int = 1, rounds: int = 2
) -> Times:
    """Time the cases in turn, A B C A B C ..., for `seconds` and at least `rounds` rounds, so that
    drift and other load affect all alike. Each is called `warm` times before that."""
    for case in cases.values():
        for _ in range(warm):
            case()
    times: Times = {name: [] for name in cases}
    end, done = time.monotonic() + seconds, 0
    while done < rounds or time.monotonic() < end:
        for name, case in cases.items():
            synchronize(DEVICE)
            start = time.perf_counter()
            case()
            synchronize(DEVICE)
            times[name].append(time.perf_counter() - start)
        done += 1
    return times


def median(times: Times, case: str) -> float:
    return statistics.median(times[case])


def ratio(times: Times, a: str, b: str) -> float:
    """Time of a over time of b: the median of the ratios of each round."""
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


# --------------------------------------------------------------------------------------------------
# memory


@contextmanager
def peak_memory() -> Iterator[SimpleNamespace]:
    """Sets `.bytes` at the end: the peak above the use at the start. On a GPU it is of allocations,
    else of the process's resident memory, which is only exact in a fresh process."""
    found = SimpleNamespace(bytes=0.0)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        found.bytes = float(torch.cuda.max_memory_allocated() - before)
        return
    with suppress(OSError, AttributeError):  # give freed memory back to the system (glibc)
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with suppress(OSError):  # Linux: reset the peak to the present size
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    yield found
    found.bytes = _resident("VmHWM") - before


def _resident(field: str) -> float:
    """A field of /proc/self/status in bytes; on systems other than Linux, the peak so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith(field)).split()[1])
    except (OSError, StopIteration):
        return hardware.peak_memory("cpu")


# --------------------------------------------------------------------------------------------------
# processes


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `python -m module arguments` with pipes; each line that it prints is JSON."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> Any:
    """The next line that a process prints, as JSON. RuntimeError if it has ended."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended with exit code {process.wait()}")
    return json.loads(line)


def in_fresh_process(module: str, *arguments: object) -> Any:
    """The line of JSON that `python -m module arguments` prints."""
    with start(module, *arguments) as process:
        return answer(process)
