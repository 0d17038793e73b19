"""GSM8K (Cobbe et al. 2021): word problems, after examples that are solved in words.

As in the paper's Figure S13: 8 shots of chain of thought, nucleus sampling with 0.95, 200 samples,
temperatures .2 to 1.4. The paper does not say which eight examples. `wei` are the usual ones (Wei
et al. 2022, Table 20); `train` are the first eight of the training set, without their
<<calculator>> notes. An answer is right if its last number equals the reference's.

`strict` and `flexible` are the task gsm8k of lm-evaluation-harness with its two rules: 5 shots in
the form of the training set, notes and #### included. The harness draws other five examples for
each problem; here they are the first five. evals/benchmarks/gsm8k_numbers.py has all rules.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from evals.benchmarks.gsm8k_numbers import MARK, RULES, SAID, last_number
from evals.harness.many_samples import Sampled, by_rule
from evals.harness.problems import Dataset, Problem, Source, field
from evals.harness.protocol import Protocol
from mtp.errors import BadInput

SHA256 = {
    "test.jsonl": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    "train.jsonl": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
}
HUB = "openai/gsm8k"
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
NOTE = re.compile(r"<<.*?>>")


def protocol(variant: str) -> Protocol:
    return Protocol(
        benchmark="gsm8k",
        variant=variant,
        shots=8,
        template="Q: {question}\nA:",
        solved=" {answer}\n\n",
        stops=("\nQ:", "\nQuestion:", "\n\n"),
        post=f"cut at the first stop; {SAID['last']}",
        max_new=256,
        samples=200,
        top_p=0.95,
    )


def harness(rule: str) -> Protocol:
    """The task of lm-evaluation-harness with one of its rules."""
    return Protocol(
        benchmark="gsm8k",
        variant=rule,
        shots=5,
        template="Question: {question}\nAnswer:",
        solved=" {answer}\n\n",
        stops=("Question:", "</s>", "<|im_end|>"),
        post=f"cut at the first stop; {SAID[rule]}",
        max_new=256,
        samples=200,
        top_p=0.95,
    )


def load(source: Source) -> Dataset:
    records, origin = source.read("test.jsonl", SHA256["test.jsonl"], (HUB, "main", "test"))
    return dataset(records, WEI, origin)


def load_train(source: Source) -> Dataset:
    """The problems, with examples from the training set."""
    tests = load(source)
    found, origin = source.read("train.jsonl", SHA256["train.jsonl"], (HUB, "main", "train"))
    examples = [(field(r, "question", origin), in_words(r, origin)) for r in found[:8]]
    return dataset((p.about for p in tests.problems), examples, f"{tests.origin}, {origin}")


def load_harness(source: Source, rule: str) -> Dataset:
    """The problems, with examples from the training set as they stand there."""
    tests = load(source)
    found, origin = source.read("train.jsonl", SHA256["train.jsonl"], (HUB, "main", "train"))
    examples = [(field(r, "question", origin), field(r, "answer", origin)) for r in found[:5]]
    records = [{**p.about, "rule": rule} for p in tests.problems]
    return dataset(records, examples, f"{tests.origin}, {origin}")


def in_words(record: Mapping[str, Any], origin: str) -> str:
    """The reasoning of a reference, with its result phrased as in Wei et al."""
    reasons, _, result = field(record, "answer", origin).partition("\n#### ")
    return f"{' '.join(NOTE.sub('', reasons).split())} The answer is {result.strip()}."


def dataset(
    records: Iterable[Mapping[str, Any]], examples: Iterable[tuple[str, str]], origin: str
) -> Dataset:
    problems = [
        Problem(f"gsm8k/{i}", {"question": field(r, "question", origin), "answer": ""}, r)
        for i, r in enumerate(records)
    ]
    for p in problems:
        if last_number(field(p.about, "answer", origin).partition(MARK)[2]) is None:
            raise BadInput(f"{origin}: the answer of record {p.id} has no number after ####")
    shown = [
        Problem(f"example/{i}", {"question": q, "answer": a}, {})
        for i, (q, a) in enumerate(examples)
    ]
    return Dataset(tuple(problems), tuple(shown), origin)


def right(problem: Problem, answer: str) -> bool:
    return RULES[problem.about.get("rule", "last")](answer, problem.about["answer"])


WEI = (
    (
        "There are 15 trees in the grove. Grove workers will plant trees in the grove today. After "
        "they are done, there will be 21 trees. How many trees did the grove workers plant today?",
        "There are 15 trees originally. Then there were 21 trees after some more were planted. So "
        "there must have been 21 - 15 = 6. The answer is 6.",
    ),
    (
        "If there are 3 cars in the parking lot and 2 more cars arrive, how many cars are in the "
        "parking lot?",
        "There are originally 3 cars. 2 more cars arrive. 3 + 2 = 5. The answer is 5.",
    ),
    (
        "Leah had 32 chocolates and her sister had 42. If they ate 35, how many pieces do they "
        "have left in total?",
        "Originally, Leah had 32 chocolates. Her sister had 42. So in total they had 32 + 42 = 74. "
        "After eating 35, they had 74 - 35 = 39. The answer is 39.",
    ),
    (
        "Jason had 20 lollipops. He gave Denny some lollipops. Now Jason has 12 lollipops. How "
        "many lollipops did Jason give to Denny?",
        "Jason started with 20 lollipops. Then he had 12 after giving some to Denny. So he gave "
        "Denny 20 - 12 = 8. The answer is 8.",
    ),
    (
        "Shawn has five toys. For Christmas, he got two toys each from his mom and dad. How many "
        "toys does he have now?",
        "Shawn started with 5 toys. If he got 2 toys each from his mom and dad, then that is 4 "
        "more toys. 5 + 4 = 9. The answer is 9.",
    ),
    (
        "There were nine computers in the server room. Five more computers were installed each "
        "day, from monday to thursday. How many computers are now in the server room?",
        "There were originally 9 computers. For each of 4 days, 5 more computers were added. So "
        "5 * 4 = 20 computers were added. 9 + 20 is 29. The answer is 29.",
    ),
    (
        "Michael had 58 golf balls. On tuesday, he lost 23 golf balls. On wednesday, he lost 2 "
        "more. How many golf balls did he have at the end of wednesday?",
        "Michael started with 58 golf balls. After losing 23 on tuesday, he had 58 - 23 = 35. "
        "After losing 2 more, he had 35 - 2 = 33 golf balls. The answer is 33.",
    ),
    (
        "Olivia has $23. She bought five bagels for $3 each. How much money does she have left?",
        "Olivia had 23 dollars. 5 bagels for 3 dollars each will be 5 x 3 = 15 dollars. So she has "
        "23 - 15 dollars left. 23 - 15 is 8. The answer is 8.",
    ),
)

GSM8K = Sampled(
    "gsm8k",
    (protocol("wei"), protocol("train"), harness("strict"), harness("flexible")),
    TEMPERATURES,
    load,
    by_rule(right),
    other={
        "train": load_train,
        "strict": partial(load_harness, rule="strict"),
        "flexible": partial(load_harness, rule="flexible"),
    },
)
