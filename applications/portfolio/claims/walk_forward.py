"""A minimum-variance portfolio re-optimised every day for as long as there are prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from applications.portfolio.claims.reading import CERTIFIED, cut_short
from applications.portfolio.problems import TRADING_DAYS
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

YEARS = 32  # of 252 days held; the first of the 33 years of prices fills the first window
RUNS = [Run("walk-forward", "active-set", YEARS)]
STRATEGY, EQUAL = "minimum variance, re-optimised daily", "equal weights, restored daily"


def daily_returns(result: Result) -> pd.DataFrame:
    """Of both strategies, by date."""
    kept = result.arrays
    returns = {STRATEGY: kept["returns"], EQUAL: kept["equal_returns"]}
    return pd.DataFrame(returns, pd.DatetimeIndex(kept["days"]))


def annual_volatilities(result: Result) -> pd.DataFrame:
    """In percent, of both strategies in each calendar year."""
    returns = daily_returns(result)
    by_year = returns.groupby(returns.index.year)  # pyright: ignore[reportAttributeAccessIssue]
    return 100 * TRADING_DAYS**0.5 * by_year.std()


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if every day is certified and the volatility of all days is below equal weights'."""
    (result,) = results
    metrics = result.last.metrics
    by_year = annual_volatilities(result)
    calmer = by_year[STRATEGY].to_numpy() < by_year[EQUAL].to_numpy()
    numbers = {
        "worst relative gap": metrics["worst_relative_gap"],
        "volatility, % a year": metrics["annual_volatility"],
        "volatility of equal weights, % a year": metrics["equal_annual_volatility"],
        "calendar years": float(len(calmer)),
        "of them with less volatility than equal weights": float(calmer.sum()),
        "mean return, % a year": metrics["annual_return"],
        "mean return of equal weights, % a year": metrics["equal_annual_return"],
        "turnover a year": metrics["annual_turnover"],
        "turnover of equal weights a year": metrics["equal_annual_turnover"],
    }
    if short := cut_short(results, RUNS):
        return Verdict(Answer.UNDECIDED, short, numbers)
    certified = metrics["worst_relative_gap"] <= CERTIFIED
    less = metrics["annual_volatility"] < metrics["equal_annual_volatility"]
    days = len(result.arrays["days"])
    because = (
        f"worst relative gap of {days} days {metrics['worst_relative_gap']:.1e}; volatility "
        f"{metrics['annual_volatility']:.1f} % a year against "
        f"{metrics['equal_annual_volatility']:.1f} % of equal weights, lower in {calmer.sum()} of "
        f"{len(calmer)} calendar years; mean return {metrics['annual_return']:.1f} % against "
        f"{metrics['equal_annual_return']:.1f} %, turnover {metrics['annual_turnover']:.1f} "
        f"portfolios a year against {metrics['equal_annual_turnover']:.1f}, trading free"
    )
    return Verdict(Answer.HOLDS if certified and less else Answer.FAILS, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """Wealth of both strategies, and the volatility of the year before each day."""
    returns = daily_returns(results[0])
    figure, (wealth, risk) = new_figure(1, 2, panel=(4.6, 3.4))
    rolling = 100 * TRADING_DAYS**0.5 * returns.rolling(TRADING_DAYS).std()
    for name in returns:
        wealth.plot(returns.index, (1 + returns[name]).cumprod(), label=name, linewidth=1.1)
        risk.plot(returns.index, rolling[name], linewidth=1.1)
    wealth.set(
        yscale="log",
        ylabel="wealth, in units of the first day's",
        title="wealth before trading costs",
    )
    risk.set(
        ylabel="volatility, % a year",
        title=f"volatility of the last {TRADING_DAYS} days",
        ylim=(0, None),
    )
    for axes in (wealth, risk):
        axes.set_xlabel("year")
    wealth.yaxis.set_major_formatter("{x:g}")
    figure.legend(*wealth.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "walk-forward": Claim(
        says="A minimum-variance portfolio re-optimised every day for 32 years is certified every "
        "day and had less risk than equal weights.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    ),
}
