"""Bounds, costs and norm limits as one convex, piecewise linear function of each variable.

A bound is a breakpoint beyond which the slope is infinite, a cost `cost |w - held|` is a breakpoint
where the slope jumps by twice the cost. So a variable is always in one of a few states: `free` in
the interval between two breakpoints, where the function is a line of known slope, or `pinned` at a
breakpoint, where its slope may be anything between those of its two neighbours. Breakpoint j lies
between the intervals j and j + 1; state 2j is "free in interval j", state 2j + 1 "pinned at
breakpoint j".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sciopt.quadratic.program import QuadraticProgram

Vector = Float[np.ndarray, " n"]
States = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Pieces:
    """The functions `phi_i(w_i) = sum_k rate_ki |w_i - center_ki|` between the bounds.

    The first kinks are costs; the last `limits` of them are norm limits, whose rates are unknown
    multipliers and stand as zero here. With p breakpoints, `ends` is (p + 2, n): the breakpoints
    between -inf and inf. `slopes` is (p + 1, n), the slope in each interval without the norm
    limits, and `signs` (limits, p + 1, n) the slope of each |w - center| of these. `left` and
    `right`, (p, n), are the intervals of positive length beside each breakpoint.
    """

    ends: np.ndarray
    slopes: np.ndarray
    signs: np.ndarray
    left: np.ndarray
    right: np.ndarray
    rates: np.ndarray
    centers: np.ndarray
    limits: np.ndarray
    each: Int[np.ndarray, " n"]
    """0 to n - 1, to pick from a row per variable"""

    @property
    def breakpoints(self) -> np.ndarray:
        """Where the slopes jump, ascending, (p, n)."""
        return self.ends[1:-1]

    def slopes_with(self, limit_multipliers: np.ndarray) -> np.ndarray:
        """Slope in each interval with the norm limits at these multipliers, (p + 1, n)."""
        if not len(limit_multipliers):
            return self.slopes
        return self.slopes + np.tensordot(limit_multipliers, self.signs, 1)

    def value(self, point: np.ndarray, limit_multipliers: np.ndarray) -> np.ndarray:
        """Phi of each variable with the norm limits at these multipliers; leading axes allowed."""
        found = np.zeros_like(point)
        costs = len(self.rates) - len(self.limits)
        for kink, center in enumerate(self.centers):
            rate = self.rates[kink] if kink < costs else limit_multipliers[kink - costs]
            found += rate * abs(point - center)
        return found

    def norms(self, point: Vector) -> np.ndarray:
        """`sum_i |w_i - center_i|` of each norm limit."""
        return abs(point - self.centers[len(self.rates) - len(self.limits) :]).sum(1)

    def state_at(self, point: Vector) -> States:
        """Pinned where the point lies on a breakpoint, free elsewhere."""
        below = (self.breakpoints < point).sum(0)
        at = (self.breakpoints <= point).sum(0) > below
        return 2 * below + at


def pieces(program: QuadraticProgram) -> Pieces:
    """The functions of the program's bounds, costs and norm limits."""
    lower, upper = program.lower.numpy(force=True), program.upper.numpy(force=True)
    n = len(lower)
    cost = program.cost.numpy(force=True)
    costs = [(cost, program.held.numpy(force=True))] if cost.any() else []
    limits = [(np.zeros(n), limit.center.numpy(force=True)) for limit in program.norm_limits]
    rates = np.array([rate for rate, _ in costs + limits]).reshape(-1, n)
    centers = np.array([center for _, center in costs + limits]).reshape(-1, n)
    inside = np.clip(centers, lower, upper)
    order = np.argsort(inside, 0, kind="stable")
    # Interval j lies above the first j - 1 kinks in their order; beyond the bounds there is none.
    signs = np.full((len(centers), len(centers) + 1, n), -1.0)
    for place in range(len(centers)):
        for kink in range(len(centers)):
            signs[kink, place + 1 :, order[place] == kink] = 1.0
    inner = np.einsum("kn,kjn->jn", rates, signs)
    infinite = np.full((1, n), np.inf)
    breakpoints = np.concatenate([lower[None], np.sort(inside, 0), upper[None]])
    padding = np.zeros((len(limits), 1, n))
    return Pieces(
        ends=np.concatenate([-infinite, breakpoints, infinite]),
        slopes=np.concatenate([-infinite, inner, infinite]),
        signs=np.concatenate([padding, signs[len(costs) :], padding], 1),
        left=_intervals_left(breakpoints),
        right=_intervals_right(breakpoints),
        rates=rates,
        centers=centers,
        limits=np.array([limit.limit for limit in program.norm_limits]),
        each=np.arange(n),
    )


def _intervals_left(breakpoints: np.ndarray) -> np.ndarray:
    """The nearest interval of positive length to the left of each breakpoint."""
    found = np.repeat(np.arange(len(breakpoints))[:, None], breakpoints.shape[1], 1)
    for j in range(1, len(breakpoints)):
        found[j] = np.where(breakpoints[j] == breakpoints[j - 1], found[j - 1], found[j])
    return found


def _intervals_right(breakpoints: np.ndarray) -> np.ndarray:
    """The nearest interval of positive length to the right of each breakpoint."""
    last = len(breakpoints)
    return last - _intervals_left(breakpoints[::-1])[::-1]
