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
BOLD = 1e9
"""How much more return counts than risk where the greatest return is sought."""
ANY_VARIANCE = 1e6
"""Times the largest variance of an asset: more than any bounded portfolio has."""

Vector = Float[np.ndarray, " assets"]


@dataclass(frozen=True)
class Aim:
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
    def unit(self) -> float:
        """The t at which differences of returns count as much as variances."""
        spread = float(np.ptp(self.expected)) or float(abs(self.expected).max()) or 1.0
        return float(self.covariance.diagonal().mean()) / spread

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


def answer(aim: Aim) -> Solution:
    """The portfolio of the objective within all limits, with its certificate.

    Raises:
        InfeasibleProgram: limits that exclude each other.
        UnboundedProgram: no least or greatest, as without bounds.
    """
    if aim.max_variance is not None and aim.l2:
        raise ValueError("l2_coef makes another quadratic form than that of max_variance; drop one")
    least, greatest = aim.min_return, aim.max_variance
    rows = aim.limits.rows
    if least is not None and not aim.cost.any():
        # Without costs a least return is one more row.
        rows = (*rows, Row("min_return", aim.expected, least + aim.paid, math.inf))
    try:
        found = _of_objective(replace(aim, limits=replace(aim.limits, rows=rows)))
    except InfeasibleProgram:
        _check_reach(aim)
        raise
    if least is not None and _short_of(least, aim, found):
        _check_reach(aim)
        (found,) = at_returns(aim, [least])
    if greatest is not None and aim.variance(weights_of(found)) > greatest * (1 + ROUND_OFF):
        _check_reach(aim)
        found = _greatest_return(aim)
    return found


def weights_of(solution: Solution) -> Vector:
    """The solution's weights as an array."""
    return solution.point.numpy()


def _short_of(least: float, aim: Aim, found: Solution) -> bool:
    return aim.expected_return(weights_of(found)) < least - ROUND_OFF * abs(least)


def _check_reach(aim: Aim) -> None:
    """Raise InfeasibleProgram if not even the greatest return is as much as `min_return`."""
    if aim.min_return is None:
        return
    try:
        boldest = _greatest_return(replace(aim, l2=0.0))
    except UnboundedProgram:
        return  # any return is within reach
    if _short_of(aim.min_return, aim, boldest):
        within = "" if aim.max_variance is None else f" and max_variance {aim.max_variance:g}"
        raise InfeasibleProgram(
            f"the greatest expected return within the limits{within} is "
            f"{aim.expected_return(weights_of(boldest)):.6g} < min_return {aim.min_return:g}"
        )


def _of_objective(aim: Aim) -> Solution:
    """Without a limit on returns net of costs, nor, but for the greatest return, on variance."""
    match aim.objective:
        case ObjectiveFunction.MINIMIZE_RISK:
            return solve(aim.program(*aim.weighing, costly=False))
        case ObjectiveFunction.MAXIMIZE_UTILITY:
            return solve(aim.program(*aim.weighing, expected=1))
        case ObjectiveFunction.MAXIMIZE_RETURN:
            return _greatest_return(aim)
    program = aim.program(*aim.weighing)
    try:
        return max_ratio(program, aim.tilt, aim.offset + aim.paid)
    except InfeasibleProgram:
        greatest = aim.expected_return(weights_of(_greatest_return(replace(aim, l2=0.0))))
        raise InfeasibleProgram(
            f"no portfolio within the limits is expected to return more than the risk-free rate "
            f"{aim.offset:g} per period; the greatest expected return is {greatest:.6g}"
        ) from None


def _greatest_return(aim: Aim) -> Solution:
    """Of greatest expected return, with a variance of at most `max_variance`."""
    if aim.l2:
        return solve(aim.program(0.0, 2 * aim.l2, expected=1))
    variances = aim.covariance.diagonal()
    # A trace of risk aversion chooses the safest among portfolios of equal return.
    trace = (float(np.ptp(aim.expected)) or 1.0) / (BOLD * float(variances.mean()))
    boldest = solve(aim.program(trace, 0.0, expected=1))
    variance = aim.variance(weights_of(boldest))
    if aim.max_variance is None:
        if variance > ANY_VARIANCE * float(variances.max()):
            raise UnboundedProgram("the expected return grows without end: give the weights bounds")
        return boldest
    if variance <= aim.max_variance * (1 + ROUND_OFF):
        return boldest
    try:
        return target_risk(aim.program(1.0, 0.0), aim.tilt, aim.max_variance)
    except InfeasibleProgram:
        safest = weights_of(solve(aim.program(1.0, 0.0, costly=False)))
        raise InfeasibleProgram(
            f"the least variance within the limits is {aim.variance(safest):.6g} > max_variance "
            f"{aim.max_variance:g}"
        ) from None


def at_returns(aim: Aim, targets: Sequence[float]) -> list[Solution]:
    """The portfolios of least risk with these expected returns net of costs, all within reach.

    Between corners of the frontier weights are mixtures and returns are linear in t, which gives
    the t of each target; objective and gap of a solution are those of the program at its t.
    """
    program = aim.program(*aim.weighing)
    path = corners(program, aim.tilt)
    at = [corner.t for corner in path]
    reached = [aim.expected_return(corner.point.numpy()) for corner in path]
    if max(targets) > reached[-1]:
        # Without bounds the path goes on from its last corner along a ray.
        further = 2 * at[-1] + aim.unit
        (beyond,) = frontier(program, aim.tilt, [further])
        gained = aim.expected_return(weights_of(beyond)) - reached[-1]
        if gained > ROUND_OFF * abs(reached[-1]):
            at.append(at[-1] + (further - at[-1]) * (max(targets) - reached[-1]) / gained)
            reached.append(max(targets))
    # Round-off may let a return fall that rises or stays.
    asked = np.interp(targets, np.maximum.accumulate(reached), at)
    return frontier(program, aim.tilt, asked.tolist())


def efficient_frontier(aim: Aim, size: int) -> list[Solution]:
    """`size` portfolios from least risk to greatest return, evenly spaced in return."""
    safest = answer(replace(aim, objective=ObjectiveFunction.MINIMIZE_RISK))
    boldest = answer(replace(aim, objective=ObjectiveFunction.MAXIMIZE_RETURN, l2=0.0))
    low, high = (aim.expected_return(weights_of(end)) for end in (safest, boldest))
    return at_returns(aim, np.linspace(low, high, size).tolist())
