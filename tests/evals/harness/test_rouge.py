"""ROUGE against its definition, and in scripts that rouge-score's own tokenizer drops."""

import functools
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.harness import rouge
from evals.harness.rouge import TOKENIZERS, TYPES, Score
from mtp.errors import BadInput

# Article 1 of the Universal Declaration of Human Rights, first sentence
PERSIAN = "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند."
PERSIAN_OTHER = "همه آزاد به دنیا می‌آیند و با هم برابرند."
THAI = "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"
THAI_OTHER = "มนุษย์เกิดมามีอิสระและสิทธิ"
FRENCH = "Tous les êtres humains naissent libres et égaux en dignité et en droits."
HINDI = "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।"
UNICODE = TOKENIZERS["unicode"]
WORDS = st.lists(st.sampled_from("abcd"), max_size=7)


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def by_definition(reference: list[str], summary: list[str], n: int) -> Score:
    """n-grams in common, each as often as in the one that has it less often; n = 0: the longest
    common subsequence."""

    @functools.cache
    def common(i: int, j: int) -> int:
        if i == len(reference) or j == len(summary):
            return 0
        if reference[i] == summary[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    def grams(words: list[str]) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    if n:
        a, b = grams(reference), grams(summary)
        hits, recall_of, precision_of = (a & b).total(), a.total(), b.total()
    else:
        hits, recall_of, precision_of = common(0, 0), len(reference), len(summary)
    precision, recall = hits / max(1, precision_of), hits / max(1, recall_of)
    return Score(precision, recall, f1(precision, recall))


@given(WORDS, WORDS, st.sampled_from(["ascii", "ascii-stemmed", "unicode"]))
@settings(deadline=None)
def test_as_defined(reference: list[str], summary: list[str], style: str) -> None:
    found = rouge.score([" ".join(reference)], " ".join(summary), style)
    assert list(found) == list(TYPES)
    for name, n in {"ROUGE-1": 1, "ROUGE-2": 2, "ROUGE-3": 3, "ROUGE-L": 0}.items():
        assert found[name] == pytest.approx(by_definition(reference, summary, n)), name
    assert found["ROUGE-Lsum"] == pytest.approx(found["ROUGE-L"])  # one line each


def test_of_several_references_each_type_takes_its_best() -> None:
    references = ["a b c d e f", "f e d c"]
    found = rouge.score(references, "c d e f", "ascii")
    one, two = (rouge.score([reference], "c d e f", "ascii") for reference in references)
    assert found["ROUGE-1"] == two["ROUGE-1"] and found["ROUGE-1"].f1 > one["ROUGE-1"].f1
    assert found["ROUGE-L"] == one["ROUGE-L"] and found["ROUGE-L"].f1 > two["ROUGE-L"].f1


def test_lsum_takes_lines_in_any_order() -> None:
    reference, summary = "the cat sat\nthe dog ran", "the dog ran\nthe cat sat"
    for style in TOKENIZERS:
        found = rouge.score([reference], summary, style)
        assert found["ROUGE-Lsum"].f1 == 1 > found["ROUGE-L"].f1
        flat = rouge.score([reference.replace("\n", " ")], summary.replace("\n", " "), style)
        assert flat["ROUGE-Lsum"] == flat["ROUGE-L"] == found["ROUGE-L"]


def test_only_the_stemmed_style_stems() -> None:
    found = {style: rouge.score(["running dogs"], "run dog", style) for style in TOKENIZERS}
    right = {style: each["ROUGE-1"].f1 for style, each in found.items()}
    assert right == {"ascii": 0, "ascii-stemmed": 1, "unicode": 0}


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown style of ROUGE 'perl'; choose one of: ascii, asc"):
        rouge.score(["a"], "a", "perl")


# --------------------------------------------------------------------------------------------------
# other scripts


@pytest.mark.parametrize("sentence", [PERSIAN, THAI, HINDI])
def test_rouge_scores_own_tokenizer_finds_nothing_in_other_scripts(sentence: str) -> None:
    for style in ("ascii", "ascii-stemmed"):
        assert TOKENIZERS[style].tokenize(sentence) == []
        assert rouge.score([sentence], sentence, style)["ROUGE-1"].f1 == 0
    assert all(each.f1 == 1 for each in rouge.score([sentence], sentence, "unicode").values())


@pytest.mark.parametrize(("reference", "summary"), [(PERSIAN, PERSIAN_OTHER), (THAI, THAI_OTHER)])
def test_a_number_in_common_is_all_that_it_sees(reference: str, summary: str) -> None:
    reference, unlike = f"{reference} (1948)", f"{HINDI} 1948"
    assert rouge.score([reference], f"{summary} 1948", "ascii")["ROUGE-1"].f1 == 1
    assert rouge.score([reference], unlike, "ascii")["ROUGE-1"].f1 == 1
    good = rouge.score([reference], f"{summary} 1948", "unicode")["ROUGE-1"].f1
    bad = rouge.score([reference], unlike, "unicode")["ROUGE-1"].f1
    assert bad < 0.2 < 0.5 < good < 1


def test_tokens_of_other_scripts() -> None:
    assert UNICODE.tokenize(PERSIAN_OTHER) == [
        "همه", "آزاد", "به", "دنیا", "می\u200cآیند", "و", "با", "هم", "برابرند",
    ]  # fmt: skip
    assert UNICODE.tokenize("น้ำตก 2 แห่ง") == ["น้ำ", "ต", "ก", "2", "แ", "ห่", "ง"]
    assert UNICODE.tokenize("सभी मनुष्यों") == ["सभी", "मनुष्यों"]
    assert UNICODE.tokenize("漢字とABC") == ["漢", "字", "と", "abc"]
    assert UNICODE.tokenize("한국어 문장.") == ["한국어", "문장"]
    assert UNICODE.tokenize("L'été, à Noël_2") == ["l", "été", "à", "noël", "2"]
    assert TOKENIZERS["ascii"].tokenize("L'été, à Noël_2") == ["l", "t", "no", "l", "2"]


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert UNICODE.tokenize("e\u0301te\u0301") == UNICODE.tokenize("été")


def test_french_loses_letters_to_the_ascii_tokenizer() -> None:
    other = FRENCH.replace("êtres", "ètres").replace("dignité", "dignitê")
    assert rouge.score([FRENCH], other, "ascii")["ROUGE-1"].f1 == 1
    assert rouge.score([FRENCH], other, "unicode")["ROUGE-1"].f1 < 1


@given(st.text(st.characters(max_codepoint=127), max_size=40))
@settings(deadline=None)
def test_ascii_text_has_rouge_scores_own_tokens(text: str) -> None:
    assert UNICODE.tokenize(text) == TOKENIZERS["ascii"].tokenize(text)


@given(st.text(max_size=20), st.text(max_size=20))
@settings(deadline=None)
def test_no_letter_or_digit_is_lost_and_a_space_parts_texts(one: str, two: str) -> None:
    tokens = UNICODE.tokenize(one)
    kept = "".join(tokens)
    composed = unicodedata.normalize("NFC", one.lower())
    assert all(c in kept for c in composed if c.isalpha() or c.isdecimal())
    assert all(token and not any(c.isspace() for c in token) for token in tokens)
    assert UNICODE.tokenize(f"{one} . {two}") == tokens + UNICODE.tokenize(two)
