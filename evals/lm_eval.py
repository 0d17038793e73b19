"""lm-evaluation-harness drives a run of ours.

    python -m evals.lm_eval --checkpoint runs/mine --tasks arc_challenge,copa,gsm8k
    python -m evals.lm_eval --checkpoint runs/mine --tasks mine --include-path tasks/

The harness brings prompts, data (from the Hugging Face hub, unless a task's yaml names files) and
scores; the model gives likelihoods by head 1 and greedy or sampled text by all heads.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evals.harness.generation import completions
from evals.harness.likelihood import Request, likelihoods, request, windows
from mtp.command_line import add_device, device_of, new_parser
from mtp.data import tokenizer
from mtp.data.tokenizer import Tokenizer
from mtp.decoding.sampling import Sampling
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.files import must_be_writable, write_atomically
from mtp.hardware import dtype_of
from mtp.model.loading import load_model
from mtp.model.model import MultiTokenTransformer

try:
    from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
except ImportError:

    def missing() -> None:
        raise BadInput(
            "this needs lm-evaluation-harness; install it: .venv/bin/pip install -e '.[lm-eval]'"
        )

    (exit_cleanly(missing) if __name__ == "__main__" else missing)()
    raise  # unreachable: both have left

MAX_NEW = 256  # tokens of an answer where the task does not say
SAMPLING = ("temperature", "top_k", "top_p")
# Tokens of an answer at most, as the harness's models have it; the first that is given counts.
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class MultiTokenLM(LM):
    """A model and its tokenizer behind the harness's interface."""

    def __init__(self, model: MultiTokenTransformer, text: Tokenizer) -> None:
        super().__init__()
        self.model, self.text = model, text

    @classmethod
    def of_run(cls, run: Path, device: str = "cpu", precision: str = "float32") -> "MultiTokenLM":
        """The trained model of a run's folder."""
        return cls(load_model(run, device, dtype_of(precision)), tokenizer.load(run))

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """ln p of each continuation after its context, and whether it is the greedy one."""
        pairs = [request(self.text, *each.args) for each in requests]
        return [(found.nats, found.greedy) for found in likelihoods(self.model, pairs)]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """ln p of each whole text, in windows of the model's context."""
        parts: list[Request] = []
        owners: list[int] = []
        for index, each in enumerate(requests):
            tokens = self.text.encode(each.args[0])
            cut = windows(tokens, self.text.bos, self.model.config.context)
            parts += cut
            owners += [index] * len(cut)
        sums = [0.0] * len(requests)
        for owner, found in zip(owners, likelihoods(self.model, parts), strict=True):
            sums[owner] += found.nats
        return sums

    def generate_until(self, requests: list[Any]) -> list[str]:
        """What follows each context, up to one of the texts in `until`."""
        groups: dict[str, list[int]] = {}
        for index, each in enumerate(requests):
            groups.setdefault(json.dumps(each.args[1], sort_keys=True), []).append(index)
        found = [""] * len(requests)
        for options, members in groups.items():
            contexts = [requests[i].args[0] for i in members]
            own = self.options(json.loads(options))
            made = completions(self.model, self.text, contexts, **own)
            for index, answer in zip(members, made, strict=True):
                found[index] = answer
        return found

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The harness's generation arguments as ours. Raises BadInput for unknown ones. Answers
        that leave no room for a prompt are cut to half of the context."""
        for key in given:
            choose("generation argument", key, ("until", *LENGTHS, "do_sample", *SAMPLING))
        stops = given.get("until") or []
        context = self.model.config.context
        asked = (int(given[name]) for name in LENGTHS if given.get(name) is not None)
        longest = next(asked, min(MAX_NEW, context // 2))
        sampling = {key: given[key] for key in SAMPLING if key in given}
        if not sampling.get("temperature") or given.get("do_sample") is False:
            sampling = {}  # greedy, whatever the others say
        return {
            "stops": [stops] if isinstance(stops, str) else stops,
            "max_new": longest if longest < context else context // 2,
            "sampling": Sampling(**sampling),
        }


def evaluate(model: LM, tasks: Iterable[Any], **options: Any) -> dict[str, Any]:
    """The harness's results for a model; `options` go to its `simple_evaluate`."""
    from lm_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]

    found = simple_evaluate(model, tasks=list(tasks), **options)
    assert found is not None  # None is for ranks other than the first
    return dict(found)


@exit_cleanly
def main() -> None:
    """Run tasks of lm-evaluation-harness on a trained model."""
    parser = new_parser("evals.lm_eval", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder")
    parser.add_argument("--tasks", required=True, help="the harness's names, with commas between")
    parser.add_argument("--num-fewshot", type=int, help="solved examples (default: the task's)")
    parser.add_argument("--limit", type=int, help="documents of each task at most")
    parser.add_argument("--include-path", help="a folder with yaml files of more tasks")
    parser.add_argument("--output", type=Path, help="write results, versions and settings here")
    add_device(parser)
    args = parser.parse_args()
    place = device_of(args)
    if args.output:
        must_be_writable(args.output)
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import make_table  # pyright: ignore[reportMissingImports]

    model = MultiTokenLM.of_run(args.checkpoint, *place)
    manager = TaskManager(include_path=args.include_path)
    tasks = [name.strip() for name in args.tasks.split(",")]
    if unknown := set(tasks) - set(manager.all_tasks):
        raise BadInput(
            f"lm-evaluation-harness has no task {min(unknown)!r}; `lm_eval ls tasks` lists them"
        )
    options = {"num_fewshot": args.num_fewshot, "limit": args.limit, "log_samples": False}
    found = evaluate(model, tasks, task_manager=manager, **options)
    print(make_table(found))
    if args.output:
        write_atomically(args.output, json.dumps(found, default=str, indent=1).encode())


if __name__ == "__main__":
    main()
