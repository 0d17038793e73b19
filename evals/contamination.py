"""Is a benchmark in the training text? Overlaps of its problems with a corpus' train split.

    python -m evals.contamination --corpus data/stdlib-... --benchmarks humaneval --out FILE.csv

Two rules of the field, problem by problem:

    n-grams      13 words in a row, lower case, punctuation dropped (Brown et al. 2020, Appendix C)
    characters   50 characters in a row, letters and digits only (OpenAI 2023, Appendix C), here at
                 any place of the problem, where they try three

A problem is its prompt and its reference solution, which the model would have to know together. A
problem of fewer than 13 words has no n-gram and can only be found by its characters. Documents are
read one by one, and only the problems are kept in memory.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evals.harness.problems import Problem, Source, add_source, source_of
from mtp.command_line import new_parser
from mtp.data.corpus import open_corpus
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.files import write_atomically

WORDS, CHARACTERS = 13, 50
BLOCK = CHARACTERS // 2
WORD = re.compile(r"[a-z0-9]+")
REFERENCES = {
    "humaneval": lambda p: p.about["prompt"] + p.about["canonical_solution"],
    "mbpp": lambda p: f"{p.about['text']}\n{p.about['code']}",
    "gsm8k": lambda p: f"{p.about['question']}\n{p.about['answer']}",
    "microcode": lambda p: p.fields["prompt"] + p.about["solution"],
}


@dataclass
class Overlap:
    """ngrams: how many the problem has; found: how many of them are in the corpus; characters: the
    longest run found, 0 below CHARACTERS; where: the first document with any of it, -1 if none."""

    problem: str
    ngrams: int
    found: set[tuple[str, ...]] = field(default_factory=set)
    characters: int = 0
    where: int = -1


def overlaps(texts: Sequence[tuple[str, str]], documents: Iterable[str]) -> list[Overlap]:
    """The overlap of each (problem's id, its text), in order."""
    made, squeezed = list[Overlap](), list[str]()
    grams: dict[tuple[str, ...], list[int]] = {}
    blocks: dict[str, list[tuple[int, int]]] = {}
    for number, (name, text) in enumerate(texts):
        words = WORD.findall(text.lower())
        own = dict.fromkeys(ngrams(words))
        made.append(Overlap(name, len(own)))
        for gram in own:
            grams.setdefault(gram, []).append(number)
        squeezed.append("".join(words))
        for at in range(len(squeezed[-1]) - BLOCK + 1):
            blocks.setdefault(squeezed[-1][at : at + BLOCK], []).append((number, at))
    for place, document in enumerate(documents):
        words = WORD.findall(document.lower())
        touched = set[int]()
        for gram in ngrams(words):
            for number in grams.get(gram, ()):
                made[number].found.add(gram)
                touched.add(number)
        text = "".join(words)
        # Any 50 characters of the document hold a whole block that begins at a multiple of 25.
        for start in range(0, len(text) - BLOCK + 1, BLOCK):
            for number, at in blocks.get(text[start : start + BLOCK], ()):
                length = common(squeezed[number], at, text, start)
                if length >= CHARACTERS:
                    made[number].characters = max(made[number].characters, length)
                    touched.add(number)
        for number in touched:
            made[number].where = place if made[number].where < 0 else made[number].where
    return made


def ngrams(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


def common(a: str, i: int, b: str, j: int) -> int:
    """The length of the longest text that a and b share around a[i] and b[j], which are equal."""
    left = 0
    while i - left > 0 and j - left > 0 and a[i - left - 1] == b[j - left - 1]:
        left += 1
    right = 0
    while i + right < len(a) and j + right < len(b) and a[i + right] == b[j + right]:
        right += 1
    return left + right


def texts_of(name: str, source: Source) -> list[tuple[str, str]]:
    """(id, prompt and reference) of each problem of a benchmark."""
    from evals.benchmarks.registry import BENCHMARKS
    from evals.harness.many_samples import Sampled

    choose("benchmark", name, REFERENCES)
    benchmark = BENCHMARKS[name]
    assert isinstance(benchmark, Sampled)
    problems: tuple[Problem, ...] = benchmark.load(source.of(name)).problems
    return [(problem.id, REFERENCES[name](problem)) for problem in problems]


@exit_cleanly
def main() -> None:
    parser = new_parser("evals.contamination", __doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a corpus' folder")
    parser.add_argument("--benchmarks", default="humaneval", help="with commas between")
    add_source(parser)
    parser.add_argument("--out", type=Path, help="a CSV file of all problems")
    args = parser.parse_args()
    source, names = source_of(args), args.benchmarks.split(",")
    for name in names:  # before the packages of benchmarks are imported
        choose("benchmark", name, REFERENCES)
    corpus = open_corpus(args.corpus)
    import pandas as pd

    texts = [text for name in names for text in texts_of(name, source)]
    if not corpus.train.tokens:
        raise BadInput(f"{args.corpus} has no training text")
    documents = (corpus.tokenizer.decode(ids.tolist()) for ids in corpus.train.documents())
    found = overlaps(texts, documents)
    rows = pd.DataFrame(
        {
            "problem": [o.problem for o in found],
            "ngrams": [o.ngrams for o in found],
            "ngrams found": [len(o.found) for o in found],
            "characters": [o.characters for o in found],
            "document": [o.where for o in found],
        }
    )
    if args.out:
        write_atomically(args.out, rows.to_csv(index=False, lineterminator="\n").encode())
    hit = rows[(rows["ngrams found"] > 0) | (rows.characters > 0)]
    print(hit.to_string(index=False) if len(hit) else "no overlap")
    words, characters = (rows["ngrams found"] > 0).sum(), (rows.characters > 0).sum()
    print(
        f"{len(hit)} of {len(rows)} problems: {words} have {WORDS} words in a row in the corpus, "
        f"{characters} have {CHARACTERS} characters"
    )


if __name__ == "__main__":
    main()
