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
from torch import Tensor

from sciopt.quadratic import (
    Dense,
    InfeasibleProgram,
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
        InvalidChoiceError: limits that cannot be read, or a target out of reach.
        InfeasibleProgram: limits that exclude each other.
        UnboundedProgram: no least or greatest, as without bounds.
    """
    assets = tuple(str(asset) for asset in asset_returns.columns)
    mean = asset_returns.to_numpy().mean(0)
    if covariance is None:
        covariance = estimated(asset_returns, wishes.covariance)
    program = quadratic_program(
        Dense(torch.tensor(covariance)),
        lower=wishes.min_weight,
        upper=wishes.max_weight,
        cost=wishes.cost / 1e4 / wishes.every if wishes.objective in WEIGHS_COSTS else 0.0,
        held=0.0 if held is None else held,
        rows=limit_rows(wishes.limit, assets, groups or {}),
        names=assets,
    )
    try:
        solution = _solution(program, torch.tensor(mean), wishes)
    except InfeasibleProgram:
        raise InvalidChoiceError(_out_of_reach(program, torch.tensor(mean), wishes)) from None
    return Chosen(assets, solution.point.numpy(), mean, covariance, program, solution)


def _solution(program: QuadraticProgram, mean: Tensor, wishes: Wishes) -> Solution:
    year = wishes.periods_per_year
    match wishes.objective, wishes.target:
        case "utility", _:
            weighed = Dense(wishes.risk_aversion * program.form.block(torch.arange(len(mean))))
            return solve(replace(program, form=weighed, linear=mean))
        case "target-return", float(target):
            rows = program.rows
            least = torch.tensor([target / year, math.inf], dtype=torch.float64)
            with_target = Rows(
                torch.cat([rows.matrix, mean[None]]),
                torch.cat([rows.lower, least[:1]]),
                torch.cat([rows.upper, least[1:]]),
                (*rows.names, "expected return"),
            )
            return solve(replace(program, rows=with_target))
        case "target-risk", float(target):
            return target_risk(program, mean, target**2 / year)
        case "maximum-sharpe", _:
            return max_ratio(program, mean, wishes.risk_free / year)
        case _:
            return solve(program)


def _out_of_reach(program: QuadraticProgram, mean: Tensor, wishes: Wishes) -> str:
    """What the limits leave within reach; if they exclude each other, raises the solver's words."""
    year = wishes.periods_per_year
    safest = solve(program).point
    if wishes.objective == "target-risk":
        least = math.sqrt(
            year * float(safest @ program.form.times(torch.arange(len(mean)), safest))
        )
        return (
            f"the least volatility within the limits is {least:.2%} a year; give a larger --target"
        )
    if wishes.objective == "target-return":
        wanted, instead = f"{wishes.target:.2%}", "give a smaller --target"
    else:
        wanted, instead = f"the interest of {wishes.risk_free:.2%}", "choose minimum-variance"
    boldest = target_risk(program, mean, 1e6 * float(program.form.diagonal().max())).point
    return (
        f"no portfolio within the limits expects {wanted} a year, the boldest "
        f"{year * float(mean @ boldest):.2%}; {instead}"
    )


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
