"""What portfolio a user of the command line wants, as a `MeanVariance` that finds it.

Wishes are per year, as users think of them; the estimator's parameters are per period, as the
returns are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from sciopt.quadratic import InfeasibleProgram, Solution

if TYPE_CHECKING:
    # Imported where it is used: it takes two seconds, which `list` need not wait for.
    from applications.portfolio.estimator import MeanVariance

Objective: TypeAlias = Literal[
    "utility", "minimum-variance", "target-return", "target-risk", "maximum-sharpe"
]
Covariance: TypeAlias = Literal["sample", "ledoit-wolf", "oas", "ewma", "gerber", "denoised"]
WEIGHS_COSTS = ("utility", "target-risk", "maximum-sharpe")
"""Objectives in units of return, from which costs can be subtracted."""
TARGETS = {"target-return": "expected return", "target-risk": "volatility"}


class InvalidWishesError(ValueError):
    """Wishes that cannot be meant; the message says what to give instead."""


@dataclass(frozen=True)
class Wishes:
    """What portfolio is wanted."""

    objective: Objective = "utility"
    """greatest 'expected return - risk_aversion / 2 variance', least variance, least variance for
    an expected return, greatest return for a volatility, greatest Sharpe ratio"""
    risk_aversion: float = 10.0
    """price of variance under utility; 1 is bold, 100 timid"""
    target: float | None = None
    """expected return or volatility a year; 0.12 is 12 %"""
    risk_free: float = 0.0
    """interest a year, which the Sharpe ratio is in excess of"""
    min_weight: float = 0.0
    """of each asset; below zero allows to sell short"""
    max_weight: float = 1.0
    """of each asset"""
    limit: tuple[str, ...] = ()
    """on assets or groups, such as "tech <= 0.3" "AAPL >= 0.05" "tech <= 2 * energy" """
    covariance: Covariance = "sample"
    """how it is estimated, by skfolio where it is not the sample's"""
    cost: float = 0.0
    """basis points paid on what is traded; subtracted from the objective where that is a return"""
    every: int = 21
    """returns until the portfolio is chosen again, over which the cost of trading is spread"""
    periods_per_year: float = 252
    """returns in a year: 252 for days of trading, 52 for weeks, 12 for months"""

    def check(self) -> None:
        """Raise InvalidWishesError for numbers that cannot be meant."""
        if (self.target is not None) != (self.objective in TARGETS):
            needs = TARGETS.get(self.objective)
            raise InvalidWishesError(
                f"{self.objective} needs --target, the {needs} a year"
                if needs
                else f"{self.objective} has no target; leave --target out, or choose --objective "
                "target-return or target-risk"
            )
        if self.target is not None and abs(self.target) >= 1:
            raise InvalidWishesError(
                f"--target {self.target:g} is {self.target:.0%} a year; {self.target:g} % is "
                f"written {self.target / 100:g}"
            )
        if self.objective == "target-risk" and not (self.target or 0) > 0:
            raise InvalidWishesError(f"--target {self.target} is no volatility, which is > 0")
        for name in ("risk_aversion", "periods_per_year", "every"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidWishesError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.cost < math.inf:
            raise InvalidWishesError(f"cost is {self.cost}; expected basis points >= 0")


@dataclass(frozen=True)
class Chosen:
    """The portfolio wanted, and the moments per period that it rests on."""

    assets: tuple[str, ...]
    weights: Float[np.ndarray, " assets"]
    mean: Float[np.ndarray, " assets"]
    covariance: Float[np.ndarray, "assets assets"]
    solution: Solution

    @classmethod
    def of(cls, fitted: MeanVariance) -> Chosen:
        """What an estimator has found."""
        assert isinstance(fitted.solution_, Solution)
        moments = fitted.prior_estimator_.return_distribution_
        assets = tuple(str(asset) for asset in fitted.feature_names_in_)
        return cls(
            assets, np.asarray(fitted.weights_), moments.mu, moments.covariance, fitted.solution_
        )

    @property
    def variance(self) -> float:
        """Per period, w'Qw."""
        return max(float(self.weights @ self.covariance @ self.weights), 0.0)

    @property
    def expected_return(self) -> float:
        """Per period, mu'w, costs not deducted."""
        return float(self.mean @ self.weights)


def estimator_of(
    wishes: Wishes,
    assets: Sequence[str],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    held: Float[np.ndarray, " assets"] | None = None,
    expected: Float[np.ndarray, " assets"] | None = None,
    covariance: Float[np.ndarray, "assets assets"] | None = None,
) -> MeanVariance:
    """The estimator of what is wanted; moments per period are estimated unless given.

    Raises:
        InvalidWishesError: limits that cannot be read.
    """
    from skfolio.exceptions import SkfolioError
    from skfolio.optimization import ObjectiveFunction

    from applications.portfolio.estimator import MeanVariance
    from applications.portfolio.priors import prior
    from applications.portfolio.weight_limits import equation_row

    # The names that limits may use: of the assets, and of each kind of group.
    layers = zip(*((groups or {}).get(asset, ()) for asset in assets), strict=True)
    labels = np.array([list(assets), *layers])
    for limit in wishes.limit:
        try:
            equation_row(limit, labels)
        except SkfolioError as error:
            raise InvalidWishesError(
                f"--limit {limit!r}: {error}; write it as 'tech <= 0.3' with a group or an asset"
            ) from None
    year, target = wishes.periods_per_year, wishes.target or 0.0
    of_objective = {
        "utility": ("MAXIMIZE_UTILITY", {"risk_aversion": wishes.risk_aversion / 2}),
        "minimum-variance": ("MINIMIZE_RISK", {}),
        "target-return": ("MINIMIZE_RISK", {"min_return": target / year}),
        "target-risk": ("MAXIMIZE_RETURN", {"max_variance": target**2 / year}),
        "maximum-sharpe": ("MAXIMIZE_RATIO", {"risk_free_rate": wishes.risk_free / year}),
    }
    objective, parameters = of_objective[wishes.objective]
    weighed = wishes.cost if wishes.objective in WEIGHS_COSTS else 0.0
    return MeanVariance(
        ObjectiveFunction[objective],
        prior_estimator=prior(wishes.covariance, mean=expected, covariance=covariance),
        min_weights=wishes.min_weight,
        max_weights=wishes.max_weight,
        transaction_costs=weighed / 1e4 / wishes.every,
        previous_weights=held,
        groups=labels,
        linear_constraints=list(wishes.limit) or None,
        **parameters,
    )


def choose(asset_returns: pd.DataFrame, estimator: MeanVariance, wishes: Wishes) -> Chosen:
    """What the estimator finds for returns; where there is nothing, why, in figures a year.

    Raises:
        InvalidWishesError: a target out of reach, or an asset that does not move.
        InfeasibleProgram: limits that exclude each other.
        UnboundedProgram: no least or greatest, as without bounds.
    """
    from skfolio.exceptions import NonPositiveVarianceError

    try:
        return Chosen.of(estimator.fit(asset_returns))
    except NonPositiveVarianceError as error:
        begin, end = asset_returns.index[[0, -1]]
        raise InvalidWishesError(
            f"{error} from {begin:%Y-%m-%d} to {end:%Y-%m-%d}: a price that does not move would be "
            "taken for no risk; leave the asset out by --without"
        ) from None
    except InfeasibleProgram:
        raise InvalidWishesError(_out_of_reach(asset_returns, estimator, wishes)) from None


def _out_of_reach(asset_returns: pd.DataFrame, estimator: MeanVariance, wishes: Wishes) -> str:
    """What the limits leave within reach; if they exclude each other, raises the solver's words."""
    from skfolio.optimization import ObjectiveFunction

    def extreme(objective: ObjectiveFunction, value: str) -> float:
        free = {"objective_function": objective, "min_return": None, "max_variance": None}
        other = type(estimator)(**(estimator.get_params(deep=False) | free))
        values = other.fit(asset_returns).problem_values_
        assert isinstance(values, dict)
        return values[value]

    year = wishes.periods_per_year
    variance = extreme(ObjectiveFunction.MINIMIZE_RISK, "risk")
    if wishes.objective == "target-risk":
        return (
            f"the least volatility within the limits is {(year * variance) ** 0.5:.2%} a year; "
            "give a larger --target"
        )
    if wishes.objective == "target-return":
        wanted, instead = f"{wishes.target:.2%}", "give a smaller --target"
    else:
        wanted, instead = f"the interest of {wishes.risk_free:.2%}", "choose minimum-variance"
    most = year * extreme(ObjectiveFunction.MAXIMIZE_RETURN, "expected_return")
    return (
        f"no portfolio within the limits expects {wanted} a year, the boldest {most:.2%}; {instead}"
    )
