"""Walking forward against sums done by hand, and what must hold for any prices."""

import numpy as np
import pandas as pd
import pytest

from applications.portfolio.backtest import Backtest, Period, summary, walk_forward

DATES = pd.bdate_range("2020-01-01", periods=6)
# Two days to look at, four to hold.
BY_HAND = pd.DataFrame(
    {"A": [0.0, 0.0, 1.0, 0.0, 0.5, -0.5], "B": [0.0, 0.1, 0.0, 0.5, 0.0, 0.0]}, index=DATES
)


def equal(past: pd.DataFrame, held: np.ndarray) -> np.ndarray:
    return np.full(past.shape[1], 1 / past.shape[1])


def random_returns(days: int, assets: int) -> pd.DataFrame:
    values = 0.02 * np.random.default_rng(0).standard_normal((days, assets))
    return pd.DataFrame(values, pd.bdate_range("2020-01-01", periods=days), list("ABCDE")[:assets])


def test_weights_drift_and_trades_are_paid_as_by_hand() -> None:
    periods = list(walk_forward(BY_HAND, equal, window=2, every=2, cost=0.01))
    first, second = periods
    # Halves become 1 and 1/2, then 1 and 3/4: wealth 1.5, then 1.75. Buying all costs 1 %.
    assert first.decided == DATES[1]
    assert first.turnover == pytest.approx(1)
    np.testing.assert_allclose(first.returns, [1.5 * 0.99 - 1, 1.75 / 1.5 - 1])
    # Held 4/7 and 3/7; back to halves trades 1/14 twice. Then 3/4 and 1/2, then 3/8 and 1/2.
    assert second.decided == DATES[3]
    assert second.turnover == pytest.approx(1 / 7)
    assert second.cost == pytest.approx(0.01 / 7)
    np.testing.assert_allclose(second.returns, [1.25 * (1 - 0.01 / 7) - 1, 0.875 / 1.25 - 1])


def test_the_summary_is_that_of_the_net_returns() -> None:
    test = Backtest.of(list(walk_forward(BY_HAND, equal, window=2, every=2, cost=0.01)), "AB")
    wealth = [1, 1.485, 1.7325, 1.7325 * 1.25 * (1 - 0.01 / 7)]
    wealth.append(wealth[-1] * 0.7)
    np.testing.assert_allclose(test.wealth(), wealth)
    found = summary(test, periods_per_year=2, risk_free=0.03)
    assert found["annual return"] == pytest.approx(wealth[-1] ** 0.5 - 1)  # four days, two years
    returns = np.diff(wealth) / wealth[:-1]
    volatility = np.std(returns, ddof=1) * np.sqrt(2)
    assert found["annual volatility"] == pytest.approx(volatility)
    assert found["Sharpe ratio"] == pytest.approx((2 * returns.mean() - 0.03) / volatility)
    assert found["largest drawdown"] == pytest.approx(-0.3)
    assert found["annual turnover"] == pytest.approx((1 + 1 / 7) / 2)
    assert found["annual costs"] == pytest.approx(0.01 * (1 + 1 / 7) / 2)
    assert found["rebalancings"] == 2


def test_a_loss_from_the_first_day_on_is_a_drawdown_from_the_money_put_in() -> None:
    falling = pd.DataFrame({"A": [0.0, 0.0, -0.1, -0.1]}, index=DATES[:4])
    test = Backtest.of(list(walk_forward(falling, equal, window=2, every=1)), "A")
    assert test.drawdown().min() == pytest.approx(0.81 - 1)


def test_equal_weights_every_day_for_nothing_earn_the_mean_return() -> None:
    returns = random_returns(40, 4)
    test = Backtest.of(list(walk_forward(returns, equal, window=5, every=1)), "ABCD")
    np.testing.assert_allclose(test.returns, returns.iloc[5:].mean(axis=1), atol=1e-15)


def test_what_is_bought_once_earns_what_it_is_worth() -> None:
    """Whoever keeps the drifted weights pays nothing, however many dates of rebalancing pass."""
    returns = random_returns(60, 3)

    def buy_and_hold(past: pd.DataFrame, held: np.ndarray) -> np.ndarray:
        return held if held.any() else np.array([0.5, 0.3, 0.2])

    test = Backtest.of(
        list(walk_forward(returns, buy_and_hold, window=10, every=7, cost=0.01)), "ABC"
    )
    worth = (1 + returns.iloc[10:]).prod() @ [0.5, 0.3, 0.2]
    assert test.wealth().iloc[-1] == pytest.approx(0.99 * worth)
    assert test.turnover.iloc[1:].max() == pytest.approx(0, abs=1e-14)


def test_no_choice_depends_on_a_later_return() -> None:
    returns = random_returns(80, 3)
    changed = returns.copy()
    changed.iloc[50:] += 0.1

    def best_mean(past: pd.DataFrame, held: np.ndarray) -> np.ndarray:
        assert len(past) == 20
        return (past.mean() == past.mean().max()).to_numpy(dtype=float)

    walks = [list(walk_forward(r, best_mean, window=20, every=5)) for r in (returns, changed)]
    decided_before = [
        (a.weights, b.weights) for a, b in zip(*walks, strict=True) if a.decided < returns.index[50]
    ]
    assert len(decided_before) == 7  # after returns 20, 25, ..., 50
    for a, b in decided_before:
        np.testing.assert_array_equal(a, b)


def test_money_not_invested_earns_nothing() -> None:
    returns = random_returns(6, 2)
    (period,) = walk_forward(returns, lambda past, held: np.array([0.2, 0.1]), window=5, every=9)
    np.testing.assert_allclose(period.returns, returns.iloc[5:] @ [0.2, 0.1])


def test_without_a_choice_the_drifted_weights_are_kept_and_the_reason_is_told() -> None:
    def once(past: pd.DataFrame, held: np.ndarray) -> np.ndarray:
        if held.any():
            raise ValueError("no asset earns the target")
        return np.array([0.5, 0.5])

    first, second = walk_forward(BY_HAND, once, window=2, every=2, cost=0.01)
    np.testing.assert_allclose(second.weights, [4 / 7, 3 / 7])
    assert (second.turnover, second.cost) == (0, 0)
    assert (first.kept_because, second.kept_because) == ("", "no asset earns the target")


def refuse(past: pd.DataFrame, held: np.ndarray) -> np.ndarray:
    raise ValueError("max weight 0.2 x 2 < 1")


@pytest.mark.parametrize(
    ("choose", "window", "every", "says"),
    [
        (refuse, 2, 2, "no portfolio on 2020-01-02: max weight 0.2 x 2 < 1"),
        (equal, 6, 2, "6 returns; a window of 6 leaves none .* or a window below 6"),
        (equal, 1, 2, "window 1, every 2 and cost 0; expected at least 2 returns"),
        (equal, 2, 0, "every 0"),
    ],
)
def test_what_cannot_be_walked_is_refused(choose, window: int, every: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        list(walk_forward(BY_HAND, choose, window=window, every=every))


def test_periods_line_up_by_date() -> None:
    periods: list[Period] = list(walk_forward(BY_HAND, equal, window=2, every=3))
    test = Backtest.of(periods, ["A", "B"])
    assert test.returns.index.equals(DATES[2:])
    assert test.weights.index.equals(DATES[[1, 4]])
    assert test.weights.columns.tolist() == ["A", "B"]
