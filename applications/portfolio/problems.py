"""Long-only mean-variance problems: 20 S&P 500 stocks that ship with skfolio, and larger markets.

The weights w live on the simplex {w >= 0, sum w = 1} and minimise

    f(w) = 0.5 risk_aversion w'Qw - mu'w

with mu and Q the sample mean and covariance (divisor days - 1) of simple daily returns. The
minimum-variance problem drops mu. Nothing is annualised: f and its parts are daily.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import ClassVar, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

TRADING_DAYS = 252  # per year


@dataclass(frozen=True, kw_only=True)
class Window:
    """The days and assets whose sample moments pose the problem."""

    start: str = "2013-01-02"
    """first day of prices, YYYY-MM-DD; the first return is the next trading day's"""
    end: str = "2022-12-28"
    """last day of prices, YYYY-MM-DD"""
    assets: tuple[str, ...] = ()
    """tickers to choose from; none named means all 20"""


@dataclass(frozen=True, kw_only=True)
class MeanVariance(Window):
    """Least 0.5 risk_aversion w'Qw - mu'w: expected return, less a price on its variance."""

    risk_aversion: float = 10.0
    """price of daily variance in units of daily mean return; 1 is bold, 1000 is timid"""
    return_weight: ClassVar[float] = 1.0


@dataclass(frozen=True, kw_only=True)
class MinimumVariance(Window):
    """Least 0.5 w'Qw: the left end of the efficient frontier, whatever the mean returns."""

    risk_aversion: ClassVar[float] = 1.0
    return_weight: ClassVar[float] = 0.0


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Mean-variance on returns drawn from ten factors, for any number of assets.

    Betas to the first factor, the market, are near one; volatilities are 1 to 3 % a day.
    """

    assets: int = 500
    """how many"""
    days: int = 0
    """of returns; 0 takes twice as many as assets"""
    draw: int = 0
    """which market is drawn"""
    risk_aversion: float = 10.0
    """price of daily variance in units of daily mean return"""
    shrinkage: float = 0.0
    """share of the identity, at the average variance, in Q; with more of it more assets are held"""
    return_weight: float = 1.0
    """weight of the mean returns; 0 minimises variance alone"""


@dataclass(frozen=True, kw_only=True)
class WalkForward(Window):
    """Re-optimised on a window of past returns, day after day; one step is one year of days."""

    start: str = "1990-01-02"
    """first day of prices, YYYY-MM-DD; the first portfolio is held a window later"""
    window: int = 252
    """daily returns that each portfolio is chosen from"""
    every: int = 1
    """days from one choice to the next"""
    risk_aversion: float = 10.0
    """price of daily variance in units of daily mean return"""
    return_weight: float = 0.0
    """weight of the mean returns; 0 minimises variance alone"""


Problem: TypeAlias = MeanVariance | MinimumVariance | Synthetic | WalkForward

PROBLEMS: dict[str, Problem] = {
    "mean-variance": MeanVariance(),
    "mean-variance-bold": MeanVariance(risk_aversion=2.0),
    "mean-variance-timid": MeanVariance(risk_aversion=50.0),
    "minimum-variance": MinimumVariance(),
    "synthetic": Synthetic(),
    "walk-forward": WalkForward(),
}


@dataclass(frozen=True)
class Program:
    """f(w) = 0.5 risk_aversion w'Qw - return_weight mu'w, and the days behind Q and mu.

    `deviations` are the returns less their mean, scaled by sqrt(days / (days - 1)), so that the
    mean of d d' over days is Q: a gradient of days drawn at random is unbiased.
    """

    assets: tuple[str, ...]
    asset_returns: Float[Tensor, "days assets"]
    deviations: Float[Tensor, "days assets"]
    mean: Float[Tensor, " assets"]
    covariance: Float[Tensor, "assets assets"]
    risk_aversion: float
    return_weight: float
    ridge: float = 0.0
    """what shrinkage has added to the variances, the share of the sample's Q being `share`"""
    share: float = 1.0

    def objective(self, weights: Float[Tensor, " assets"]) -> Float[Tensor, ""]:
        """f(w)."""
        variance = weights @ self.covariance @ weights
        return 0.5 * self.risk_aversion * variance - self.return_weight * (self.mean @ weights)

    def gradient(self, weights: Float[Tensor, " assets"]) -> Float[Tensor, " assets"]:
        """risk_aversion Q w - return_weight mu."""
        return self.risk_aversion * (self.covariance @ weights) - self.return_weight * self.mean

    def sampled_gradient(
        self, weights: Float[Tensor, " assets"], days: Int[Tensor, " batch"]
    ) -> Float[Tensor, " assets"]:
        """The gradient estimated from some days; its mean over all days is `gradient`."""
        deviations = self.deviations[days]
        sampled = (deviations @ weights) @ deviations / len(days)
        variance_gradient = self.share * sampled + self.ridge * weights
        mean = self.asset_returns[days].mean(0)
        return self.risk_aversion * variance_gradient - self.return_weight * mean

    def duality_gap(self, weights: Float[Tensor, " assets"]) -> Float[Tensor, ""]:
        """Upper bound of f(w) - min f on the simplex: w'g - min_i g_i with g the gradient.

        The certificate of Frank and Wolfe (Jaggi 2013, section 2): f is convex, and the linear
        model of f at w is least at a vertex.
        """
        gradient = self.gradient(weights)
        return weights @ (gradient - gradient.min())

    def scale(self, weights: Float[Tensor, " assets"]) -> Float[Tensor, ""]:
        """What gaps are relative to: |f(w)| or, if larger, the average asset's risk term.

        That term is 0.5 risk_aversion trace(Q) / assets. It is needed since f, a difference,
        passes through zero at some risk aversion.
        """
        average_variance = self.covariance.diagonal().mean()
        return torch.maximum(
            self.objective(weights).abs(), 0.5 * self.risk_aversion * average_variance
        )


def pose(problem: Problem, device: torch.device) -> Program:
    """The problem's sample moments in float64 on `device`.

    Raises:
        ValueError: settings of the problem that cannot work, naming the setting.
    """
    if isinstance(problem, WalkForward):
        raise ValueError("walk-forward is one program for each day; only active-set solves it")
    if not (math.isfinite(problem.risk_aversion) and problem.risk_aversion >= 0):
        raise ValueError(f"risk_aversion is {problem.risk_aversion}; expected a finite number >= 0")
    synthetic = isinstance(problem, Synthetic)
    table = synthetic_returns(problem) if synthetic else window_returns(problem)
    asset_returns = torch.tensor(table.to_numpy(), dtype=torch.float64, device=device)
    days = len(asset_returns)
    mean = asset_returns.mean(0)
    deviations = (asset_returns - mean) * math.sqrt(days / (days - 1))
    covariance = deviations.T @ deviations / days
    shrinkage = problem.shrinkage if synthetic else 0.0
    ridge = shrinkage * covariance.diagonal().mean().item()
    covariance *= 1 - shrinkage
    covariance.diagonal().add_(ridge)
    return Program(
        assets=tuple(table.columns),
        asset_returns=asset_returns,
        deviations=deviations,
        mean=mean,
        covariance=covariance,
        risk_aversion=problem.risk_aversion,
        return_weight=problem.return_weight,
        ridge=ridge,
        share=1 - shrinkage,
    )


def synthetic_returns(problem: Synthetic) -> pd.DataFrame:
    """Simple daily returns, one row per day, one column per asset.

    Raises:
        ValueError: fewer than two assets or three days, or a shrinkage outside [0, 1].
    """
    n, days = problem.assets, problem.days or 2 * problem.assets
    if n < 2 or days < 3:
        raise ValueError(f"assets is {n} and days is {days}; expected at least 2 and 3")
    if not 0 <= problem.shrinkage <= 1:
        raise ValueError(f"shrinkage is {problem.shrinkage}; expected a number from 0 to 1")
    rng = np.random.default_rng(problem.draw)
    loadings = rng.normal(0, 0.5, (n, 10))
    loadings[:, 0] = rng.normal(1, 0.35, n)
    factors = rng.normal(size=(days, 10)) * np.r_[0.010, np.full(9, 0.005)]
    noise = rng.normal(size=(days, n))
    noise *= rng.uniform(0.008, 0.03, n)
    table = factors @ loadings.T
    table += rng.normal(3e-4, 2e-4, n)
    table += noise
    return pd.DataFrame(table, columns=[f"asset {asset}" for asset in range(n)])


def window_returns(window: Window) -> pd.DataFrame:
    """Simple daily returns p_t / p_tm1 - 1 of the window, one row per day, one column per asset.

    Raises:
        ValueError: dates or assets that leave fewer than two returns of two assets.
    """
    prices = sp500_prices()
    start, end = _date("start", window.start), _date("end", window.end)
    if start >= end:
        raise ValueError(f"start {window.start} is not before end {window.end}; swap them")
    assets = list(window.assets or prices.columns)
    unknown = sorted(set(assets) - set(prices.columns))
    if unknown or len(set(assets)) < max(len(assets), 2):
        raise ValueError(
            f"assets is {', '.join(assets)}; expected two or more different ones of "
            f"{', '.join(prices.columns)}"
        )
    chosen = prices.loc[pd.Timestamp(start) : pd.Timestamp(end), assets]
    if len(chosen) < 3:
        first, last = prices.index[0].date(), prices.index[-1].date()
        raise ValueError(
            f"{len(chosen)} days of prices from {window.start} to {window.end}; at least 3 are "
            f"needed, and the data run from {first} to {last}"
        )
    return chosen.pct_change().iloc[1:]


def _date(field: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{field} is {text!r}, not a date; write it as YYYY-MM-DD") from error


@lru_cache
def sp500_prices() -> pd.DataFrame:
    """Adjusted daily closing prices in dollars of 20 stocks, 1990-01-02 to 2022-12-28."""
    # Here because it takes a second, which `list` need not wait for.
    from skfolio.datasets import load_sp500_dataset

    return load_sp500_dataset()
