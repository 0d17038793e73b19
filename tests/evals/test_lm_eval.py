"""lm-evaluation-harness on our models: its own computation gives our scores."""

import functools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evals.benchmarks import choice
from evals.benchmarks.choice import CHOICES, METRICS
from evals.benchmarks.choice_data import TASKS, without_marks
from evals.benchmarks.gsm8k import GSM8K
from evals.harness.generation import completions, draw
from evals.harness.journal import Journal
from evals.harness.likelihood import windows
from evals.harness.one_answer import Work
from evals.harness.problems import Problem, Source
from evals.harness.prompts import prompts
from evals.harness.protocol import Protocol
from mtp.config import TrainConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from mtp.training.run import train
from tests.conftest import BENCHMARK_DATA, bytes_model, write_jsonl

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is missing: pip install .[lm-eval]")
pytest.importorskip("datasets", reason="datasets is missing: pip install .[hf]")

import lm_eval.tasks  # pyright: ignore[reportMissingImports]
from lm_eval import utils  # pyright: ignore[reportMissingImports]
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

from evals.lm_eval import MultiTokenLM, evaluate, main

BYTES = ByteTokenizer()
CONTEXT = 1000


@pytest.fixture(scope="module")
def lm() -> MultiTokenLM:
    return MultiTokenLM(bytes_model(CONTEXT), BYTES)


def instances(*arguments: Any) -> list[Any]:
    return [SimpleNamespace(args=each) for each in arguments]


def rows() -> dict[str, list[dict[str, Any]]]:
    """Records of ARC and COPA: the real ones where they are, else a few of their format."""
    if (BENCHMARK_DATA / "arc").is_dir() and (BENCHMARK_DATA / "copa").is_dir():
        files = {
            "arc-challenge": "arc/arc_challenge.test.jsonl",
            "copa": "copa/superglue_val.jsonl",
        }
        read = {
            name: (BENCHMARK_DATA / file).read_text().split("\n")[:60]
            for name, file in files.items()
        }
        return {name: [json.loads(line) for line in lines] for name, lines in read.items()}
    arc = [
        {
            "question": {
                "stem": f"What is {i} and {i}?",
                "choices": [{"text": str(i * j), "label": "ABCD"[j]} for j in range(4)],
            },
            "answerKey": "C",
        }
        for i in range(9)
    ]
    copa = [
        {
            "premise": f"Ann has {i} cats.",
            "choice1": "She feeds them.",
            "choice2": "The sun shines on the hill.",
            "question": ("cause", "effect")[i % 2],
            "label": 0,
        }
        for i in range(9)
    ]
    return {"arc-challenge": arc, "copa": copa}


YAML = {
    "arc-challenge": "arc/arc_challenge.yaml",
    "copa": "super_glue/copa/default.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
}


def harness_task(
    name: str, records: list[dict[str, Any]], folder: Path, **own: Any
) -> dict[str, Any]:
    """A TaskManager's arguments for the harness's own task on these records: all but the data, and
    what is given here, is its yaml."""
    file = write_jsonl(folder / "theirs.jsonl", *records)
    metrics = [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True}
        for metric in ("acc", "acc_norm", "acc_bytes")
    ]
    config = {
        "include": str(Path(lm_eval.tasks.__file__).parent / YAML[name]),
        "task": f"local_{name}",
        "tag": None,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
    }
    config |= own if own else {"metric_list": metrics}
    (folder / "task.yaml").write_text(json.dumps(config))  # JSON is YAML
    return {"include_path": str(folder), "include_defaults": False}


@pytest.mark.parametrize("name", ["arc-challenge", "copa"])
def test_choice_scores_are_the_harness(
    name: str, lm: MultiTokenLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = rows()[name]
    write_jsonl(tmp_path / TASKS[name].files[0], *records)
    theirs = records
    if name == "arc-challenge":  # the hub's columns, which the harness's task reads
        theirs = [
            {
                "question": record["question"]["stem"],
                "choices": {
                    key: [one[key] for one in record["question"]["choices"]]
                    for key in ("text", "label")
                },
                "answerKey": record["answerKey"],
            }
            for record in records
        ]
    manager = TaskManager(**harness_task(name, theirs, tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    found = evaluate(lm, [f"local_{name}"], task_manager=manager, bootstrap_iters=0)
    samples = sorted(found["samples"][f"local_{name}"], key=lambda sample: sample["doc_id"])

    variant = {"arc-challenge": "0-shot", "copa": "two-spaces"}[name]
    (task,) = (task for task in CHOICES if task.name == name)
    protocol = task.protocol(variant)
    data = task.load(Source(tmp_path), protocol)
    by_id = {problem.id: problem for problem in data.problems}
    made = prompts(data, protocol, BYTES, CONTEXT)
    asked = {each: prompt for each, prompt in made.items() if prompt}
    assert len(asked) == len(made)
    with Journal(tmp_path / "journal", {}) as journal:
        scores = choice.score(Work(lm.model, BYTES, protocol, asked, by_id, journal, 32))
    nats = {record["problem"]: record["nats"] for record in journal.records}
    for sample, (each, problem) in zip(samples, by_id.items(), strict=True):
        theirs_nats = [response[0][0] for response in sample["resps"]]
        assert nats[each] == pytest.approx(theirs_nats, abs=1e-4)
        whole = [arguments[0] + arguments[1] for arguments in sample["arguments"]]
        assert all(t.endswith(c) for t, c in zip(whole, problem.about["choices"], strict=True))
    reported = found["results"][f"local_{name}"]
    names = dict(zip(METRICS, ("acc", "acc_norm", "acc_bytes"), strict=True))
    if name == "copa":  # the harness counts the space that begins its choices
        spaced = {each: with_a_space(problem) for each, problem in by_id.items()}
        raw = [scores[each]["accuracy"] for each in by_id]
        assert reported["acc,none"] == pytest.approx(sum(raw) / len(raw))
        scores = {each: choice.right(spaced[each], nats[each]) for each in by_id}
    for ours, theirs_name in names.items():
        right = [scores[each][ours] for each in by_id]
        assert reported[f"{theirs_name},none"] == pytest.approx(sum(right) / len(right))


def with_a_space(problem: Problem) -> Problem:
    choices = tuple(f" {each}" for each in problem.about["choices"])
    return replace(problem, about={**problem.about, "choices": choices})


def test_hellaswags_text_is_the_harness() -> None:
    from lm_eval.tasks.hellaswag.utils import preprocess  # pyright: ignore[reportMissingImports]

    texts = [
        " [header] How to [title] Do it.  Now [step] go. ",
        "a [title] b",
        "x  [y]  z",
        "[a] b",
    ]
    assert [without_marks(text) for text in texts] == [preprocess(text) for text in texts]


@pytest.mark.parametrize("context", [1, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 30])
def test_rolling_windows_are_the_harness(context: int, count: int) -> None:
    theirs = utils.get_rolling_token_windows(list(range(count)), -1, context, 1)
    assert [tuple(part) for part in windows(range(count), -1, context)] == [
        utils.make_disjoint_window(pair) for pair in theirs
    ]


def test_rolling_is_the_sum_over_the_text(lm: MultiTokenLM) -> None:
    short, empty, long = "the cat sat", "", "abc " * CONTEXT
    found = lm.loglikelihood_rolling(instances((short,), (empty,), (long,)))
    (whole,) = lm.loglikelihood(instances(("", short)))
    assert found[0] == pytest.approx(whole[0], abs=1e-4)
    assert found[1] == 0
    assert found[2] < 20 * found[0]


def test_generation_arguments(lm: MultiTokenLM) -> None:
    greedy = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
    sampled = {
        "until": "x",
        "max_gen_toks": 12,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    asked = [("the cat", greedy), ("a", sampled), ("one", greedy | {"max_gen_toks": 3})]
    found = lm.generate_until(instances(*asked))
    for context, length, answer in (("the cat", 12, found[0]), ("one", 3, found[2])):
        tokens = generate(lm.model, [[BYTES.bos, *BYTES.encode(context)]], length, 1, BYTES.eos)
        assert answer == BYTES.decode(tokens.tokens[0]).split("\n\n")[0]
    assert "x" not in found[1]
    for name in ("max_new_tokens", "max_tokens", "max_completion_tokens"):  # other names of it
        given = {"until": [], name: 3}
        assert lm.generate_until(instances(("one", given))) == [found[2]]
    assert lm.options({"max_gen_toks": 3, "max_tokens": 9})["max_new"] == 3
    assert lm.options({})["max_new"] == 256
    for asked_for, given in ((CONTEXT - 1, CONTEXT - 1), (CONTEXT, CONTEXT // 2)):
        assert lm.options({"max_gen_toks": asked_for})["max_new"] == given
    with pytest.raises(BadInput, match="unknown generation argument 'num_beams'; choose one of"):
        lm.generate_until(instances(("a", {"num_beams": 4})))


HENS = [
    {
        "question": f"Ann has {i} hens. She buys {10 * i} more. How many has she?",
        "answer": f"She has {i}+{10 * i}={11 * i} hens.\n#### {11 * i}",
    }
    for i in range(1, 13)
]
UNTIL = ("Question:", "</s>", "<|im_end|>")  # as the harness's gsm8k has it


@pytest.fixture(scope="module")
def counting() -> MultiTokenTransformer:
    """A model that has seen problems in words, and mostly answers with a number."""
    model = bytes_model(384)
    lines = [f"Question: {r['question']}\nAnswer: {r['answer']}\n\nQuestion:" for r in HENS]
    rows = [[BYTES.bos, *BYTES.encode(line)] for line in lines]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [BYTES.eos] * (longest - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    for _ in range(90):
        logits = model.logits(model.latents(tokens[:, :-1], 1)[0])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_generated_answers_to_gsm8k_are_the_harness(
    counting: MultiTokenTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness's own task, prompts, stops and filter give the answers that our drawing gives, in
    batches of another size, with heads that draft; and both find the same ones right. Every other
    reference is the number that the model says."""
    protocol = Protocol(
        "gsm8k", "harness", template="Question: {question}\nAnswer:", stops=UNTIL, max_new=60
    )
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    questions = [protocol.template.format_map(record) for record in HENS]
    said = completions(counting, BYTES, questions, UNTIL, protocol.max_new)
    numbers = [re.findall(r"\d+", answer) for answer in said]
    records = [
        record | {"answer": f"So many.\n#### {found[-1] if found and i % 2 else 1_234_567}"}
        for i, (record, found) in enumerate(zip(HENS, numbers, strict=True))
    ]
    write_jsonl(tmp_path / "gsm8k" / "test.jsonl", *records)
    generation = {"until": list(UNTIL), "do_sample": False, "max_gen_toks": protocol.max_new}
    own = {"generation_kwargs": generation, "num_fewshot": 0, "fewshot_split": None}
    options = harness_task("gsm8k", records, tmp_path, **own)
    found = evaluate(
        MultiTokenLM(counting, BYTES),
        ["local_gsm8k"],
        task_manager=TaskManager(**options),
        bootstrap_iters=0,
    )
    by_rule = [s for s in found["samples"]["local_gsm8k"] if s["filter"] == "flexible-extract"]
    theirs = sorted(by_rule, key=lambda sample: sample["doc_id"])

    data = GSM8K.load(Source(tmp_path, own=True).of("gsm8k"))
    made = prompts(data, protocol, BYTES, counting.config.context)
    asked = {name: prompt for name, prompt in made.items() if prompt}
    with Journal(tmp_path / "journal", {}) as journal:
        drawn = draw(counting, BYTES, asked, protocol, journal, batch=5, k=2)
    answers = [(problem, drawn[problem.id][0]) for problem in data.problems]
    assert [sample["resps"][0][0] for sample in theirs] == [answer for _, answer in answers]
    assert [sample["arguments"][0][0] for sample in theirs] == questions
    assert len({answer for _, answer in answers}) > 3
    assert sum("#### " in answer for _, answer in answers) > 6  # and so they end at a stop
    right = [verdict == "passed" for verdict in GSM8K.check.verdicts(answers, protocol, False)]
    assert [sample["exact_match"] == 1 for sample in theirs] == right
    assert right == [bool(i % 2 and numbers[i]) for i in range(len(HENS))] and any(right)
    score = found["results"]["local_gsm8k"]["exact_match,flexible-extract"]
    assert score == pytest.approx(sum(right) / len(right))


@pytest.fixture(scope="module")
def run(
    make_config: Callable[..., TrainConfig], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("harness") / "run"
    train(make_config(model={"context": 128}, tokens=4 * 128), folder, data)
    return folder


def test_the_command_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = harness_task("copa", rows()["copa"], tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    only_ours = functools.partial(TaskManager, include_defaults=False)  # indexing all takes long
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", only_ours)

    def call(*args: str) -> int:
        folder = options["include_path"]
        common = ["--checkpoint", str(run), "--include-path", folder, "--limit", "5"]
        monkeypatch.setattr(sys, "argv", ["lm_eval", *common, *args])
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    out = tmp_path / "results" / "out.json"  # in a folder that is made
    assert call("--tasks", "local_copa", "--output", str(out)) == 0
    assert "local_copa" in capsys.readouterr().out
    reported = json.loads(out.read_text())
    assert reported["n-samples"]["local_copa"]["effective"] == 5
    assert call("--tasks", "local_copa,nothing") == 2
    assert "error: lm-evaluation-harness has no task 'nothing'" in capsys.readouterr().err
    monkeypatch.setattr("evals.lm_eval.evaluate", None)  # what cannot be written is told before it
    for place, reason in ((tmp_path, "Is a directory"), (out / "a", "File exists")):
        assert call("--tasks", "local_copa", "--output", str(place)) == 2
        assert capsys.readouterr().err == f"error: {place} cannot be written: {reason}\n"
