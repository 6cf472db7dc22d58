"""From past returns and a user's wishes to the program that states them, and to its answer.

Wishes are per year, as users think of them; means, covariances and programs are per period, as the
returns are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from sciopt.quadratic import (
    Dense,
    QuadraticProgram,
    Rows,
    Solution,
    max_ratio,
    quadratic_program,
    solve,
    target_risk,
)

Objective: TypeAlias = Literal[
    "utility", "minimum-variance", "target-return", "target-risk", "maximum-sharpe"
]
Covariance: TypeAlias = Literal["sample", "ledoit-wolf", "oas", "ewma", "gerber", "denoised"]
WEIGHS_COSTS = ("utility", "target-risk", "maximum-sharpe")
"""Objectives in units of return, from which costs can be subtracted."""
TARGETS = {"target-return": "expected return", "target-risk": "volatility"}


Vector = Float[np.ndarray, " assets"]


class InvalidChoiceError(ValueError):
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
    """expected return or volatility a year; 0.12 is 12 %%"""
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
        """Raise InvalidChoiceError for numbers that cannot be meant."""
        if (self.target is not None) != (self.objective in TARGETS):
            needs = TARGETS.get(self.objective)
            raise InvalidChoiceError(
                f"{self.objective} needs --target, the {needs} a year"
                if needs
                else f"{self.objective} has no target; leave --target out, or choose --objective "
                "target-return or target-risk"
            )
        if self.target is not None and abs(self.target) >= 1:
            raise InvalidChoiceError(
                f"--target {self.target:g} is {self.target:.0%} a year; {self.target:g} % is "
                f"written {self.target / 100:g}"
            )
        if self.objective == "target-risk" and not (self.target or 0) > 0:
            raise InvalidChoiceError(f"--target {self.target} is no volatility, which is > 0")
        for name in ("risk_aversion", "periods_per_year", "every"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidChoiceError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.cost < math.inf:
            raise InvalidChoiceError(f"cost is {self.cost}; expected basis points >= 0")


@dataclass(frozen=True)
class Chosen:
    """Weights and what they rest on.

    `program` has the constraints and costs, and 0.5 w'Qw alone as its objective.
    """

    assets: tuple[str, ...]
    weights: Vector
    mean: Vector
    covariance: Float[np.ndarray, "assets assets"]
    program: QuadraticProgram
    solution: Solution

    @property
    def variance(self) -> float:
        """Per period, w'Qw."""
        return float(self.weights @ self.covariance @ self.weights)

    @property
    def expected_return(self) -> float:
        """Per period, mu'w, costs not deducted."""
        return float(self.mean @ self.weights)


def choose(
    asset_returns: pd.DataFrame,
    wishes: Wishes,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    held: Vector | None = None,
    covariance: Float[np.ndarray, "assets assets"] | None = None,
) -> Chosen:
    """The portfolio wanted, by the returns' mean and their covariance unless that is given.

    Raises:
        InvalidChoiceError: wishes that cannot be read.
        InfeasibleProgram: wishes that exclude each other or the target.
    """
    assets = tuple(str(asset) for asset in asset_returns.columns)
    mean = asset_returns.to_numpy().mean(0)
    if covariance is None:
        covariance = estimated(asset_returns, wishes.covariance)
    cost = wishes.cost / 1e4 / wishes.every if wishes.objective in WEIGHS_COSTS else 0.0
    rows = limit_rows(wishes.limit, assets, groups or {})
    tilt = torch.tensor(mean)
    per_year = wishes.periods_per_year
    if wishes.objective == "target-return":
        assert wishes.target is not None
        name = f"expected return >= {wishes.target:.4g} a year"
        rows = Rows(
            torch.cat([rows.matrix, per_year * tilt[None]]),
            torch.cat([rows.lower, torch.tensor([wishes.target], dtype=torch.float64)]),
            torch.cat([rows.upper, torch.tensor([math.inf], dtype=torch.float64)]),
            (*rows.names, name),
        )
    program = quadratic_program(
        Dense(torch.tensor(covariance)),
        lower=wishes.min_weight,
        upper=wishes.max_weight,
        cost=cost,
        held=0.0 if held is None else held,
        rows=rows,
        names=assets,
    )
    solution = _solution(program, tilt, wishes)
    return Chosen(assets, solution.point.numpy(), mean, covariance, program, solution)


def _solution(program: QuadraticProgram, tilt: torch.Tensor, wishes: Wishes) -> Solution:
    match wishes.objective:
        case "utility":
            weighed = Dense(wishes.risk_aversion * program.form.matrix)  # pyright: ignore[reportAttributeAccessIssue]
            return solve(replace(program, form=weighed, linear=tilt))
        case "target-risk":
            assert wishes.target is not None
            return target_risk(program, tilt, wishes.target**2 / wishes.periods_per_year)
        case "maximum-sharpe":
            return max_ratio(program, tilt, wishes.risk_free / wishes.periods_per_year)
        case _:
            return solve(program)


def estimated(asset_returns: pd.DataFrame, by: Covariance) -> Float[np.ndarray, "assets assets"]:
    """The covariance (assets, assets) per period; the sample's has the divisor T - 1."""
    if by == "sample":
        return np.atleast_2d(np.cov(asset_returns.to_numpy(), rowvar=False))
    # Here because it takes a second, which `list` need not wait for.
    from skfolio.moments import OAS, DenoiseCovariance, EWCovariance, GerberCovariance, LedoitWolf

    # Told not to clip eigenvalues unasked: the solver takes what is semidefinite to round-off.
    estimator = {
        "ledoit-wolf": LedoitWolf,
        "oas": OAS,
        "ewma": EWCovariance,
        "gerber": GerberCovariance,
        "denoised": DenoiseCovariance,
    }[by](nearest=False)
    return estimator.fit(asset_returns.to_numpy()).covariance_


def limit_rows(
    limits: Sequence[str], assets: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Rows:
    """Each limit, in skfolio's language of linear constraints, as a row named by its text."""
    from skfolio.exceptions import SkfolioError
    from skfolio.utils.equations import equations_to_matrix

    names = sorted({*assets, *(g for labels in groups.values() for g in labels)}, key=len)
    # skfolio reads BRK-B as a difference, so that such names are replaced by plain ones.
    plain = {name: f"n{k}n" for k, name in enumerate(reversed(names)) if not name.isalnum()}
    layers = [list(assets), *zip(*(groups.get(asset, ()) for asset in assets), strict=True)]
    labels = np.array([[plain.get(name, name) for name in layer] for layer in layers])
    matrix, lower, upper = [], [], []
    for limit in limits:
        text = re.sub(r"([\d.]+)\s*%", lambda found: f"{float(found[1]) / 100:g}", limit)
        for name, replaced in plain.items():
            text = text.replace(name, replaced)
        try:
            equal, value, below, most = equations_to_matrix(
                labels, [text], raise_if_group_missing=True
            )
        except SkfolioError as error:
            says = str(error).replace(text, limit)
            raise InvalidChoiceError(
                f"--limit {limit!r}: {says}; write it as 'tech <= 0.3' with a group or an asset"
            ) from None
        matrix.append(np.concatenate([equal, below])[0])
        upper.append(np.concatenate([value, most])[0])
        lower.append(value[0] if len(value) else -math.inf)
    return Rows(
        torch.tensor(np.array(matrix).reshape(-1, len(assets))),
        torch.tensor(lower, dtype=torch.float64),
        torch.tensor(upper, dtype=torch.float64),
        tuple(limits),
    )
