"""The number an answer comes to: as people write it, and by lm-evaluation-harness's rules."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.benchmarks import gsm8k
from evals.benchmarks.gsm8k_numbers import RULES, last_number
from evals.harness.problems import Source
from evals.harness.prompts import prompts
from evals.harness.protocol import cut
from mtp.data.tokenizer import ByteTokenizer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so $1,800.00.", "1800"),
        ("it is -3", "-3"),
        ("it is \u22123.", "-3"),
        ("it is 5 \u2212 3 = 2", "2"),
        ("5 and then 7 apples, 8.", "8"),
        ("half is .5", "0.5"),
        ("a half is 1/2.", "0.5"),
        ("that is 60/2", "30"),
        ("that is 60/2=30 in 2 days", "2"),
        (r"that is \frac{1}{2}", "0.5"),
        (r"that is \dfrac{-3}{4} of it", "-0.75"),
        ("on 12/5/2024", "2024"),
        ("by 1/0", "0"),
        ("a rate of 1.5/3", "3"),
        ("10,000,000 people", "10000000"),
        ("70 000 people", "70000"),
        ("70\u00a0000.50 people", "70000.5"),
        ("-1\u202f234\u202f567", "-1234567"),
        ("12 eggs and 3400 hens", "3400"),
        ("1234 567", "567"),
        ("70 0000", "0"),
        ("he has 5 100,000 times", "100000"),
        (r"it is $1\,800$", "1800"),
        (r"\boxed{1{,}800}", "1800"),
        (r"\boxed{18} as 3 x 6 is 18, in 5 steps", "18"),
        (r"\boxed{7}, no: \boxed{\text{about }{8}} of 9", "8"),
        (r"\boxed{9", "9"),
        (r"\boxed{none} 4", "4"),
        ("1" * 5000, "1" * 5000),
        ("no number", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Fraction(Decimal(number)))


WORDS = st.text(alphabet="abc $=\n")


@given(st.decimals(-(10**6), 10**6, places=2), WORDS, st.sampled_from(",\u202f\u00a0"))
def test_a_number_is_found_however_it_is_written(number: Decimal, words: str, part: str) -> None:
    written = f"{number:,}".replace(",", part)
    for sign in "-\u2212":
        assert last_number(f"1 {words} {written.replace('-', sign)}{words}.") == Fraction(number)


@given(st.integers(-999, 999), st.integers(1, 999), WORDS)
def test_a_fraction_is_its_value(over: int, under: int, words: str) -> None:
    assert last_number(f"1 {words} {over}/{under}{words}.") == Fraction(over, under)
    assert last_number(rf"1 {words}\frac{{{over}}}{{{under}}}{words}.") == Fraction(over, under)


@pytest.mark.parametrize(
    ("answer", "last", "strict", "flexible"),
    [
        ("He has 900+900=1800.\n#### 1,800", True, True, True),
        ("He has 1800.", True, False, True),
        ("#### 1800 hens in 3 days", False, True, False),
        ("#### 3, no: #### 1800", True, False, True),
        ("1800.00", True, False, False),
        ("It is $1,800.", True, False, True),
        ("It is 1 800", True, False, False),
        ("####1800", True, False, True),
        ("It is 1800. Really.", True, False, True),
        ("", False, False, False),
    ],
)
def test_each_rule_finds_its_own(answer: str, last: bool, strict: bool, flexible: bool) -> None:
    reference = "900*2=<<900*2=1800>>1800\n#### 1,800"
    found = [RULES[rule](answer, reference) for rule in ("last", "strict", "flexible")]
    assert found == [last, strict, flexible]


@given(
    st.text(alphabet="ab 0137.,$-#\n", max_size=30) | st.sampled_from(["#### 1,3.", "$1.0 #### 13"])
)
def test_strict_and_flexible_are_lm_evaluation_harnesss(answer: str) -> None:
    harness: Any = pytest.importorskip("lm_eval.filters.extraction")
    metrics: Any = pytest.importorskip("lm_eval.api.metrics")
    yaml: Any = pytest.importorskip("yaml")
    place = Path(metrics.__file__).parents[1] / "tasks" / "gsm8k" / "gsm8k.yaml"
    task = yaml.safe_load(place.read_text())
    (metric,) = task["metric_list"]
    for reference in ("so 13\n#### 13", "#### 1,307", "#### -3"):
        for each in task["filter_list"]:
            settings = {k: v for k, v in each["filter"][0].items() if k != "function"}
            (((found,)),) = harness.RegexFilter(**settings).apply([[answer]], [{}])
            score = metrics.exact_match_hf_evaluate(
                [found], [reference], metric["regexes_to_ignore"], metric["ignore_case"]
            )
            ours = RULES[each["name"].partition("-")[0]](answer, reference)
            assert ours == bool(score["exact_match"])


@pytest.mark.parametrize("rule", ["strict", "flexible"])
def test_its_variants_ask_as_the_harness_does(files: Path, rule: str) -> None:
    protocol = gsm8k.GSM8K.protocol(rule)
    data = gsm8k.GSM8K.other[rule](Source(files, own=True).of("gsm8k"))
    made = prompts(data, protocol, ByteTokenizer(), 8192)["gsm8k/9"]
    assert made and made.shots == 5 and made.text.endswith("How many has she?\nAnswer:")
    shown = "How many has she?\nAnswer: She has 0+1000=<<0+1000=1000>>1000 hens.\n#### 1,000\n\nQu"
    assert shown in made.text and rule == data.problems[0].about["rule"]
    assert gsm8k.right(data.problems[0], "1000") == (rule == "flexible")
    assert gsm8k.right(data.problems[0], "#### 1000 of 5") == (rule == "strict")


@pytest.mark.parametrize("variant", ["wei", "train"])
def test_a_run_on_question_ends_an_answer(variant: str) -> None:
    answer = "The answer is 6.\nQuestion: What is 3 + 4?"
    assert last_number(cut(answer, gsm8k.GSM8K.protocol(variant).stops)) == 6
