"""Walking forward: weights chosen from past returns only, held and left to drift, and their cost.

At the close of every `every`-th date the last `window` returns are looked at and trades are made at
that close. Each traded unit costs `cost`, the first purchase out of cash included. Until the next
such date nothing is traded, so that weights drift with the prices: after a day with asset returns r
a weight w_i is `w_i (1 + r_i) / (1 + w'r)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

Weights = Float[np.ndarray, " assets"]
Choose = Callable[[pd.DataFrame, Weights], Weights]
"""From the window's returns and the weights held just before to those wanted."""


class InvalidBacktestError(ValueError):
    """A walk that cannot begin; the message says why and what to give instead."""


@dataclass(frozen=True)
class Period:
    """From one rebalancing to the next.

    `turnover` is sum_i |wanted_i - held_i|, `cost` what trading took of the wealth, and `returns`
    the portfolio's, cost deducted from the first. `kept_because` says why there was no choice and
    the drifted weights were kept; empty where there was one.
    """

    decided: pd.Timestamp
    weights: Weights
    turnover: float
    cost: float
    returns: pd.Series
    kept_because: str = ""


@dataclass(frozen=True)
class Backtest:
    """All periods of one strategy: net returns by date, the rest by date of rebalancing."""

    returns: pd.Series
    weights: pd.DataFrame
    turnover: pd.Series
    costs: pd.Series
    kept_because: pd.Series

    @classmethod
    def of(cls, periods: Sequence[Period], assets: Sequence[str]) -> Backtest:
        """The periods, one after another."""
        decided = pd.DatetimeIndex([period.decided for period in periods])
        return cls(
            pd.concat([period.returns for period in periods]),
            pd.DataFrame([period.weights for period in periods], decided, list(assets)),
            pd.Series([period.turnover for period in periods], decided),
            pd.Series([period.cost for period in periods], decided),
            pd.Series([period.kept_because for period in periods], decided),
        )

    def wealth(self) -> pd.Series:
        """What one unit of money has become, by date, 1 at the first rebalancing."""
        start = pd.Series([1.0], self.weights.index[:1])
        return pd.concat([start, (1 + self.returns).cumprod()])

    def drawdown(self) -> pd.Series:
        """Loss since the highest wealth so far, <= 0."""
        wealth = self.wealth()
        return wealth / wealth.cummax() - 1


def walk_forward(
    asset_returns: pd.DataFrame, choose: Choose, *, window: int, every: int, cost: float = 0.0
) -> Iterator[Period]:
    """One period at a time, so that a caller may show progress and stop in between.

    Where `choose` raises ValueError, as for a target that the window's means do not reach, the
    drifted weights are kept and the period says why. What weights leave of 1 is cash without
    interest.

    Raises:
        InvalidBacktestError: fewer returns than a window and a day, or no choice on the first date.
    """
    if every < 1 or window < 2 or not cost >= 0:
        raise InvalidBacktestError(
            f"window {window}, every {every} and cost {cost:g}; expected at least 2 returns, at "
            "least 1 and a number >= 0"
        )
    if len(asset_returns) <= window:
        raise InvalidBacktestError(
            f"{len(asset_returns)} returns; a window of {window} leaves none to hold a portfolio "
            f"through, so give more prices or a window below {len(asset_returns)}"
        )
    held, kept_because = np.zeros(asset_returns.shape[1]), ""
    for now in range(window, len(asset_returns), every):
        past, ahead = asset_returns.iloc[now - window : now], asset_returns.iloc[now : now + every]
        try:
            wanted, kept_because = choose(past, held), ""
        except ValueError as error:
            if now == window:
                raise InvalidBacktestError(
                    f"no portfolio on {past.index[-1]:%Y-%m-%d}: {error}"
                ) from error
            wanted, kept_because = held, str(error)
        turnover = float(np.abs(wanted - held).sum())
        positions = wanted * (1 + ahead.to_numpy()).cumprod(axis=0)
        wealth = positions.sum(axis=1) + 1 - wanted.sum()
        growth = wealth / np.concatenate([[1.0], wealth[:-1]])
        growth[0] *= 1 - cost * turnover
        held = positions[-1] / wealth[-1]
        returns = pd.Series(growth - 1, ahead.index)
        yield Period(past.index[-1], wanted, turnover, cost * turnover, returns, kept_because)


def summary(
    backtest: Backtest, *, periods_per_year: float = 252, risk_free: float = 0.0
) -> dict[str, float]:
    """What a strategy earned, risked, traded and paid; rates are per year, as fractions.

    The annual return is compounded, the Sharpe ratio is that of arithmetic means, in excess of the
    annual rate `risk_free`.
    """
    returns = backtest.returns
    years = len(returns) / periods_per_year
    volatility = returns.std() * np.sqrt(periods_per_year)
    return {
        "annual return": (1 + returns).prod() ** (1 / years) - 1,
        "annual volatility": volatility,
        "Sharpe ratio": (returns.mean() * periods_per_year - risk_free) / volatility,
        "largest drawdown": backtest.drawdown().min(),
        "annual turnover": backtest.turnover.sum() / years,
        "annual costs": backtest.costs.sum() / years,
        "rebalancings": float((backtest.kept_because == "").sum()),
    }
