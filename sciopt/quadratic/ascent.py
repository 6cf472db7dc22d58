"""Newton's ascent of the dual function: its step, its line search and its polish at the end.

See `dual_newton.py` for the idea.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from sciopt.quadratic.dual_function import Dual, DualFunction, Support, Vector
from sciopt.quadratic.forms import Dense
from sciopt.quadratic.optimum import optimum, working_set_at
from sciopt.quadratic.program import quadratic_program
from sciopt.quadratic.working_set import Arrays

TRIALS = 60
ASCENT = 1e-4
WOLFE = 0.3
EPSILON, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)
# Damping of the multipliers, in units of the curvature that one free variable gives them.
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-1, 1e-9, 1e2


@dataclass(frozen=True)
class Place:
    """A dual point with what has been computed there."""

    dual: Dual
    q: Vector
    point: Vector
    value: float


class Ascent:
    """The iteration, and how much its next step is damped."""

    def __init__(self, function: DualFunction, support: Support, variance: float, tolerance: float):
        self.function, self.support = function, support
        self.variance, self.tolerance = variance, tolerance
        self.damping, self.typical = FIRST_DAMPING, function.typical_curvature()

    def start(self, dual: Dual) -> Place:
        """The place of a dual point."""
        q = self.function.linear - self.function.force(dual)
        point = self.function.point(q, self.function.split(dual)[2])
        value, _ = self._value(dual, q, point, torch.zeros_like(q), np.zeros_like(dual))
        return Place(dual, q, point, value)

    def _value(
        self, dual: Dual, q: Vector, point: Vector, force: Vector, direction: Dual
    ) -> tuple[float, float]:
        """The dual function, and its derivative in a direction whose force is given."""
        y, _, eta = self.function.split(dual)
        of_y, _, of_eta = self.function.split(direction)
        value, rise, norms = self.function.value(q, point, force)
        value += -0.5 * y @ y + eta @ norms - self.support.value(dual)
        rise += -y @ of_y + of_eta @ norms - self.support.slope(dual) @ direction
        return float(value), float(rise)

    def gradient(self, place: Place) -> Dual:
        """Of S."""
        gradient = self.function.sums(place.point)
        factors = self.function.sizes[0]
        gradient[:factors] -= place.dual[:factors]
        return gradient

    def hessian(self, place: Place, free: Bool[Tensor, " n"]) -> Float[np.ndarray, "dual dual"]:
        """Minus that of S."""
        matrix = self.function.curvature(place.point, free)
        factors = self.function.sizes[0]
        matrix[np.arange(factors), np.arange(factors)] += 1
        return matrix

    def advance(self, place: Place) -> tuple[Place, Place | None]:
        """The place after a step; and the exact optimum of its piece, once that seems to be last.

        The place stays as it is where nothing is left to gain.
        """
        sides = self.function.sides(place.point)
        free = (sides != 0).all(0)
        matrix = self.hessian(place, free)
        damped = self.damped(matrix, self.damping)
        direction, promise = self.step(place, self.gradient(place), damped)
        length, gained = 1.0, promise
        if promise > self.tolerance * max(abs(place.value), self.variance):
            before, (place, length) = place, self.ascend(place, direction, promise)
            gained = place.value - before.value
        if length < 1:
            self.damping = min(10 * self.damping, MOST_DAMPING)
        elif gained > 0.25 * promise:
            self.damping = max(1e-3 * self.damping, LEAST_DAMPING)
        if length < 1 or not torch.equal(sides, self.function.sides(place.point)):
            return place, None
        return place, self.polished(place, self.damped(matrix, LEAST_DAMPING), free)

    def damped(self, matrix: np.ndarray, damping: float) -> np.ndarray:
        """With a share of the typical curvature added."""
        return matrix + np.diag(damping * self.typical)

    def step(
        self, place: Place, gradient: Dual, matrix: Float[np.ndarray, "dual dual"]
    ) -> tuple[Dual, float]:
        """The maximiser of the model, as a direction, and the rise that it promises at least."""
        dual, support = place.dual, self.support
        if support.smooth:
            gradient = gradient - support.line
            direction = cho_solve(cho_factor(matrix, check_finite=False), gradient)
            return direction, float(gradient @ direction)
        # The multipliers' own unit, so that the small program is well scaled.
        unit = 1 / np.sqrt(matrix.diagonal())
        small = quadratic_program(
            Dense(torch.from_numpy(matrix * unit * unit[:, None])),
            torch.from_numpy((gradient + matrix @ dual - support.line) * unit),
            budget=None,
            lower=torch.from_numpy(support.least / unit),
            upper=torch.from_numpy(support.most / unit),
            cost=torch.from_numpy(support.cost * unit),
        )
        arrays, scaled = Arrays.of(small), dual / unit
        found = optimum(small, arrays, working_set_at(arrays, scaled), scaled).at.point * unit
        direction = found - dual
        rise = gradient @ direction - support.value(found) + support.value(dual)
        return direction, float(rise)

    def ascend(self, place: Place, direction: Dual, promise: float) -> tuple[Place, float]:
        """A step that raises the dual function enough, and its length.

        Enough is Armijo's share of the promise or, where round-off hides that, not less than
        nothing; and past the whole step's overshooting, a derivative that has all but vanished
        (Wolfe's condition), because steps from few free variables overshoot far.
        """
        function = self.function
        force = function.force(direction)
        room = EPSILON * (abs(place.value) + self.variance)
        low, steep, high, fall, length = 0.0, promise, 1.0, 0.0, 1.0
        best, reached = place, 0.0
        for _ in range(TRIALS):
            dual = place.dual + length * direction
            q = torch.sub(place.q, force, alpha=length)
            point = function.point(q, function.split(dual)[2])
            value, rise = self._value(dual, q, point, force, direction)
            enough = value - place.value >= min(ASCENT * length * promise, room) - room
            if enough and value >= best.value - room:
                best, reached = Place(dual, q, point, value), length
                if rise >= -WOLFE * promise and (rise <= WOLFE * promise or length == 1):
                    break
            if rise >= 0:
                low, steep = length, rise
            else:
                high, fall = length, rise
            if high - low <= 0.1 * reached:
                break
            # Where the derivative would vanish if it were a line.
            share = steep / max(steep - fall, TINY)
            length = low + (high - low) * min(max(share, 0.1), 0.5)
        return best, reached

    def polished(
        self,
        place: Place,
        matrix: Float[np.ndarray, "dual dual"],
        free: Bool[Tensor, " n"],
    ) -> Place:
        """The equations of this piece solved once more, on what round-off has left of them."""
        function, factors = self.function, self.function.sizes[0]
        dual, point = place.dual.copy(), place.point
        acting = np.flatnonzero(self.support.acting(dual))
        factor = cho_factor(matrix[np.ix_(acting, acting)], check_finite=False)
        signs = (point - function.centers[len(function.rates) :]).sign()
        for _ in range(2):
            left = function.sums(point) - self.support.slope(dual)
            left[:factors] -= dual[:factors]
            change = np.zeros_like(dual)
            change[acting] = cho_solve(factor, left[acting])
            force = function.force(change)
            if len(signs):
                force += torch.from_numpy(function.split(change)[2]).to(force) @ signs
            point = torch.where(free, point - force * function.inverse, point)
            dual = dual + change
        point = torch.minimum(torch.maximum(point, function.places[0]), function.places[-1])
        return replace(place, dual=dual, point=point)
