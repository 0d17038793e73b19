import pandas as pd
import pytest

from experiments.studies import sweep_n


def rows_of(kappa: float, shares: dict[str, float]) -> pd.DataFrame:
    """Bits per byte 2 tokens^-0.3 of n=1; n=4 has those of n=1 with `kappa` of its tokens."""
    found = []
    for seed in (0, 1, 2):
        for arm, factor in (("n=1", 1.0), ("n=4", kappa)):
            for end, share in shares.items():
                bits = (2 + 0.01 * seed) * (factor * share) ** -0.3
                found.append({"arm": arm + end, "seed": seed, "value": bits, "run_id": arm + end})
    return pd.DataFrame(found).assign(metric="bits per byte", step=100, count=1)


BUDGETS = {", 25%": 0.25, ", 50%": 0.5, "": 1.0}


def test_the_lag_is_the_share_of_the_tokens_that_n1_needs() -> None:
    quarter, half, full = sweep_n.lag(rows_of(0.8, BUDGETS), "n=4")
    assert quarter.value == 0  # n=1 has no smaller budget that could tell
    assert half.value == pytest.approx(0.8, rel=0.01)
    assert full.value == pytest.approx(0.8, rel=0.01)
    assert full.seeds == 3


def test_the_finding_says_the_lag_at_the_full_budget() -> None:
    text = sweep_n.finding(rows_of(0.8, BUDGETS))
    assert "n=1 needs 0.80 (0.80 to 0.80) of the tokens for the bits per byte of n=4." in text


def test_no_lag_is_said_of_one_budget() -> None:
    rows = rows_of(0.8, {"": 1.0})
    assert sweep_n.lag(rows, "n=4") == []
    assert "tokens" not in sweep_n.finding(rows)
