"""Every objective of mean and variance as a point of one frontier.

The minimisers of `w'Qw - 2t (mu'w - costs)` for t >= 0 are the portfolios that no other beats in
both return and risk. Least risk is t = 0, utility is t = 1 / (2 risk_aversion), the greatest ratio
and the greatest return lie further on. A least return moves t up, a greatest variance moves it
down: where a limit binds, its portfolio is the answer to all objectives alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from skfolio.optimization import ObjectiveFunction

from applications.portfolio.weight_limits import Limits, Row, as_rows
from sciopt.quadratic import (
    Dense,
    FactorModel,
    InfeasibleProgram,
    QuadraticProgram,
    Solution,
    UnboundedProgram,
    corners,
    frontier,
    max_ratio,
    quadratic_program,
    solve,
    target_risk,
)

ROUND_OFF = 1e-9
"""By how much of itself a limit may be missed."""
ANY_VARIANCE = 1e6
"""Times the largest variance of an asset: a limit that no bounded portfolio meets."""

Vector = Float[np.ndarray, " assets"]


@dataclass(frozen=True)
class Choice:
    """What is asked for: an objective over the limits, returns net of costs and fees.

    `covariance` is in a form without ridge. `offset` is what a return has to exceed in a ratio, and
    `paid` what selling assets outside of the universe costs whatever the weights.
    """

    objective: ObjectiveFunction
    covariance: Dense | FactorModel
    expected: Vector
    limits: Limits
    cost: Vector
    held: Vector
    paid: float
    risk_aversion: float
    l2: float
    offset: float
    min_return: float | None
    max_variance: float | None

    def variance(self, weights: Vector) -> float:
        """The portfolio's, w'Qw."""
        used = torch.from_numpy(weights.nonzero()[0])
        product = self.covariance.times(used, torch.from_numpy(weights)[used])
        return float(weights @ product.numpy())

    def expected_return(self, weights: Vector) -> float:
        """What mu'w is less fees and what the trades cost."""
        return float(self.expected @ weights - self.cost @ abs(weights - self.held) - self.paid)

    @property
    def weighing(self) -> tuple[float, float]:
        """The factors of Q and of I in the form R of the objective.

        `Q + l2 I` under the root of a ratio, else twice what is minimised or taken off the return.
        """
        return {
            ObjectiveFunction.MINIMIZE_RISK: (2.0, 2 * self.l2),
            ObjectiveFunction.MAXIMIZE_UTILITY: (2 * self.risk_aversion, 2 * self.l2),
            ObjectiveFunction.MAXIMIZE_RETURN: (0.0, 2 * self.l2),
            ObjectiveFunction.MAXIMIZE_RATIO: (1.0, self.l2),
        }[self.objective]

    def program(
        self, risk: float, ridge: float, *, expected: float = 0.0, costly: bool = True
    ) -> QuadraticProgram:
        """`0.5 w'(risk Q + ridge I)w - expected (mu'w - costs)` over the limits."""
        return quadratic_program(
            self._form(risk, ridge),
            expected * self.expected,
            budget=self.limits.budget,
            lower=self.limits.lower,
            upper=self.limits.upper,
            cost=self.cost if costly else 0.0,
            held=self.held,
            rows=as_rows(self.limits.rows),
            norm_limits=self.limits.norm_limits,
            names=self.limits.names,
        )

    @property
    def tilt(self) -> torch.Tensor:
        """Expected returns of the assets less fees."""
        return torch.from_numpy(self.expected)

    def _form(self, scale: float, ridge: float = 0.0) -> Dense | FactorModel:
        """Scale Q + ridge I."""
        form = self.covariance
        if isinstance(form, FactorModel):
            return FactorModel(scale**0.5 * form.loadings, scale * form.specific + ridge)
        matrix = scale * form.matrix
        matrix.diagonal().add_(ridge)
        return Dense(matrix)


def answer(choice: Choice) -> Solution:
    """The portfolio of the objective within all limits, with its certificate.

    Raises:
        InfeasibleProgram: limits that exclude each other.
        UnboundedProgram: no least or greatest, as without bounds.
    """
    if choice.max_variance is not None and choice.l2:
        raise ValueError("l2_coef makes another quadratic form than that of max_variance; drop one")
    least, greatest = choice.min_return, choice.max_variance
    rows = choice.limits.rows
    if least is not None and not choice.cost.any():
        # Without costs a least return is one more row.
        rows = (*rows, Row("min_return", choice.expected, least + choice.paid, math.inf))
    try:
        found = _of_objective(replace(choice, limits=replace(choice.limits, rows=rows)))
    except InfeasibleProgram:
        _check_reach(choice)
        raise
    if least is not None and _short_of(least, choice, found):
        _check_reach(choice)
        (found,) = at_returns(choice, [least])
    if greatest is not None and choice.variance(weights_of(found)) > greatest * (1 + ROUND_OFF):
        _check_reach(choice)
        found = _greatest_return(choice)
    return found


def weights_of(solution: Solution) -> Vector:
    """The solution's weights as an array."""
    return solution.point.numpy()


def _short_of(least: float, choice: Choice, found: Solution) -> bool:
    return choice.expected_return(weights_of(found)) < least - ROUND_OFF * abs(least)


def _check_reach(choice: Choice) -> None:
    """Raise InfeasibleProgram if not even the greatest return is as much as `min_return`."""
    if choice.min_return is None:
        return
    boldest = _greatest_return(replace(choice, l2=0.0))
    if _short_of(choice.min_return, choice, boldest):
        within = "" if choice.max_variance is None else f" and max_variance {choice.max_variance:g}"
        raise InfeasibleProgram(
            f"the greatest expected return within the limits{within} is "
            f"{choice.expected_return(weights_of(boldest)):.6g} < min_return {choice.min_return:g}"
        )


def _of_objective(choice: Choice) -> Solution:
    """Without a limit on returns net of costs, nor, but for the greatest return, on variance."""
    match choice.objective:
        case ObjectiveFunction.MINIMIZE_RISK:
            return solve(choice.program(*choice.weighing, costly=False))
        case ObjectiveFunction.MAXIMIZE_UTILITY:
            return solve(choice.program(*choice.weighing, expected=1))
        case ObjectiveFunction.MAXIMIZE_RETURN:
            return _greatest_return(choice)
    program = choice.program(*choice.weighing)
    try:
        return max_ratio(program, choice.tilt, choice.offset + choice.paid)
    except InfeasibleProgram:
        greatest = choice.expected_return(weights_of(_greatest_return(replace(choice, l2=0.0))))
        raise InfeasibleProgram(
            f"no portfolio within the limits is expected to return more than the risk-free rate "
            f"{choice.offset:g} per period; the greatest expected return is {greatest:.6g}"
        ) from None


def _greatest_return(choice: Choice) -> Solution:
    """Of greatest expected return, with a variance of at most `max_variance`."""
    if choice.l2:
        return solve(choice.program(0.0, 2 * choice.l2, expected=1))
    program = choice.program(1.0, 0.0)
    most = ANY_VARIANCE * float(program.diagonal.max())
    if choice.max_variance is not None:
        most = min(choice.max_variance, most)
    try:
        found = target_risk(program, choice.tilt, most)
    except InfeasibleProgram:
        # Raises in words if the limits exclude each other without the variance.
        safest = weights_of(solve(replace(program, cost=torch.zeros_like(program.cost))))
        raise InfeasibleProgram(
            f"the least variance within the limits is {choice.variance(safest):.6g} > max_variance "
            f"{most:g}"
        ) from None
    if choice.max_variance is None and choice.variance(weights_of(found)) > 0.5 * most:
        raise UnboundedProgram("the expected return grows without end: give the weights bounds")
    return found


def at_returns(choice: Choice, targets: Sequence[float]) -> list[Solution]:
    """The portfolios of least risk with these expected returns net of costs, all within reach.

    Between corners of the frontier weights are mixtures and returns are linear in t, which gives
    the t of each target; objective and gap of a solution are those of the program at its t.
    """
    program = choice.program(*choice.weighing)
    path = corners(program, choice.tilt)
    reached = [choice.expected_return(corner.point.numpy()) for corner in path]
    at = np.interp(targets, reached, [corner.t for corner in path])
    return frontier(program, choice.tilt, at.tolist())


def efficient_frontier(choice: Choice, size: int) -> list[Solution]:
    """`size` portfolios from least risk to greatest return, evenly spaced in return."""
    ends = [
        answer(replace(choice, objective=objective))
        for objective in (ObjectiveFunction.MINIMIZE_RISK, ObjectiveFunction.MAXIMIZE_RETURN)
    ]
    low, high = (choice.expected_return(weights_of(end)) for end in ends)
    return at_returns(choice, np.linspace(low, high, size).tolist())
