"""Newton's method on the dual of a factor model: O(n k^2) a step, for any number of variables.

With Q = V V' + diag(d) and y standing for V'w, variables meet only through y, the multipliers l of
the rows and eta of the norm limits: given these, each w_i minimises

    0.5 d_i w^2 - q_i w + phi_i(w),    q = c - V y - A'l

alone, in closed form. What remains is to maximise a concave function of k + rows + limits numbers,

    S(y, l, eta) - support(l) - limits @ eta,

whose smooth part S has a piecewise linear gradient. A Newton step maximises the quadratic model of
S less the rest exactly, itself a small program of `program.py`; it is exact once it lands in the
piece where the solution lies, and a line search sees to it that the function rises until then
(Qi & Sun 1993; Lee, Sun & Saunders 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from sciopt.quadratic.certificate import gap_of_rows
from sciopt.quadratic.first_guess import first_guess
from sciopt.quadratic.forms import Dense, FactorModel
from sciopt.quadratic.infeasible import Combination, check_one_by_one, conflict_of_rows
from sciopt.quadratic.optimality import Optimum, judged
from sciopt.quadratic.optimum import CERTIFIED, optimum, working_set_at
from sciopt.quadratic.program import QuadraticProgram, quadratic_program
from sciopt.quadratic.working_set import Arrays, Minimiser

STEPS = 500
TRIALS = 60
BISECTIONS = 40
FEASIBLE = 1e-12
ASCENT = 1e-4
WOLFE = 0.3
EPSILON, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)
# A step that promises a smaller rise than this, relative to the objective, is the last.
PROMISE = 1e-15
# Damping of the multipliers, in units of the curvature that one free variable gives them.
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-1, 1e-9, 1e2
# Multipliers so many times larger than the objective's slopes may be on their way to infinity.
DIVERGING = 1e3
# A sample is an eighth of the variables and not smaller than this; its optimum is found roughly.
STRIDE, LEAST_SAMPLE, ROUGHLY, ROUGH_STEPS = 8, 6000, 1e-4, 15
# Specific variance below this share of the common one is enlarged at first, and the free variables
# up to which the active set may take over.
LEAST_SPECIFIC, MOST_FREE = 1e-4, 2000
# Rows of V gathered at a time, so that memory stays a small multiple of the program's.
CHUNK = 1 << 14

Vector = Float[Tensor, " n"]
Dual = Float[np.ndarray, " _"]


@dataclass(frozen=True)
class DualFunction:
    """S and its derivatives on the device; a sample's sums are multiplied by `weight`.

    `places` are lower bounds, kinks and upper bounds, ascending; `slopes` those between them.
    """

    loadings: Float[Tensor, "n k"]
    specific: Vector
    linear: Vector
    rows: Float[Tensor, "rows n"]
    places: Tensor
    slopes: Tensor
    signs: Tensor
    rates: Tensor
    centers: Tensor
    inverse: Vector
    weight: float = 1.0

    @classmethod
    def of(cls, program: QuadraticProgram, arrays: Arrays) -> DualFunction:
        """Of the whole program."""
        form, parts = program.form, arrays.pieces
        assert isinstance(form, FactorModel)
        costs = len(parts.rates) - len(parts.limits)
        given = (parts.breakpoints, parts.slopes[1:-1], parts.signs[:, 1:-1], parts.rates[:costs])
        of_pieces = [
            torch.as_tensor(each, dtype=torch.float64, device=program.device)
            for each in (*given, parts.centers)
        ]
        specific = form.specific
        fixed = (form.loadings, specific, program.linear, program.rows.matrix)
        return cls(*fixed, *of_pieces, 1 / specific)  # pyright: ignore[reportCallIssue]

    def sample(self) -> DualFunction:
        """Every eighth variable in the place of eight."""
        part = {
            name: getattr(self, name)[..., ::STRIDE].contiguous()
            for name in ("specific", "linear", "rows", "places", "slopes", "signs", "rates")
        }
        return replace(
            self,
            loadings=self.loadings[::STRIDE].contiguous(),
            centers=self.centers[:, ::STRIDE].contiguous(),
            inverse=self.inverse[::STRIDE].contiguous(),
            weight=self.weight * STRIDE,
            **part,
        )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many factors, rows and norm limits there are."""
        return self.loadings.shape[1], len(self.rows), len(self.centers) - len(self.rates)

    def split(self, dual: Dual) -> tuple[Dual, Dual, Dual]:
        """The y, l and eta of a dual point."""
        factors, rows, _ = self.sizes
        return dual[:factors], dual[factors : factors + rows], dual[factors + rows :]

    def force(self, dual: Dual) -> Vector:
        """V y + A'l, the part of -q that the dual point decides."""
        y, rows, _ = (torch.from_numpy(each).to(self.linear) for each in self.split(dual))
        force = self.loadings @ y
        return force.addmv_(self.rows.T, rows) if len(rows) else force

    def point(self, q: Vector, eta: Dual) -> Vector:
        """The minimiser of each variable: what it would be on each line, cut at the kinks."""
        slopes = self.slopes
        if not len(self.centers):
            return torch.minimum(torch.maximum(q * self.inverse, self.places[0]), self.places[1])
        if len(eta):
            slopes = slopes + torch.tensordot(torch.from_numpy(eta).to(q), self.signs, 1)
        point = (q - slopes[0]).mul_(self.inverse)
        for kink, slope in zip(self.places[1:-1], slopes[1:], strict=True):
            right = (q - slope).mul_(self.inverse)
            point = torch.minimum(point, torch.maximum(right, kink, out=right), out=point)
        torch.maximum(point, self.places[0], out=point)
        return torch.minimum(point, self.places[-1], out=point)

    def value(self, q: Vector, point: Vector, force: Vector) -> tuple[float, float, Dual]:
        """S without its parts in y and eta, its derivative along a force, and the norms."""
        objective = torch.addcmul(-q, self.specific, point, value=0.5) @ point
        costs = len(self.rates)
        for rate, center in zip(self.rates, self.centers[:costs], strict=True):
            objective = objective + rate @ (point - center).abs_()
        norms = (point - self.centers[costs:]).abs().sum(1)
        found = torch.cat([torch.stack([objective, point @ force]), norms]).numpy(force=True)
        found = found * self.weight
        return float(found[0]), float(found[1]), found[2:]

    def sums(self, point: Vector) -> Dual:
        """V'w, A w and the norms."""
        held = point.nonzero().squeeze(1)
        centers = self.centers[len(self.rates) :]
        norms = (point - centers).abs().sum(1)
        if 4 * len(held) > len(point):
            parts = [self.loadings.T @ point, self.rows @ point, norms]
        else:
            values = point[held]
            parts = [self.loadings[held].T @ values, self.rows[:, held] @ values, norms]
        return torch.cat(parts).numpy(force=True) * self.weight

    def sides(self, point: Vector) -> Tensor:
        """On which side of each place a variable lies; zero where it is there."""
        return torch.stack(
            [(point > place).byte() - (point < place).byte() for place in self.places]
        )

    def columns(self, point: Vector, index: Tensor) -> Float[Tensor, "some dual"]:
        """The derivative of -q_i, and of phi_i's slope, by the dual point."""
        signs = (point[index] - self.centers[len(self.rates) :, index]).sign()
        return torch.cat([self.loadings[index], self.rows[:, index].T, signs.T], 1)

    def curvature(self, point: Vector, free: Bool[Tensor, " n"]) -> Float[np.ndarray, "dual dual"]:
        """B'diag(1/d) B over the free variables: minus the second derivative of S, but for y's."""
        size = sum(self.sizes)
        found = point.new_zeros(size, size)
        for index in free.nonzero().squeeze(1).split(CHUNK):
            columns = self.columns(point, index)
            columns *= self.inverse[index, None].sqrt()
            found.addmm_(columns.T, columns)
        return found.numpy(force=True) * self.weight

    def separable_gap(self, point: Vector, reduced: Vector, eta: Dual) -> float:
        """What the variables could gain at most, with `reduced` the r of `SeparableOptimum`."""
        best = self.point(torch.addcmul(-reduced, self.specific, point), eta)
        move = best - point
        gain = -(reduced + 0.5 * self.specific * move) * move
        rates = [*self.rates, *eta.tolist()]
        for rate, center in zip(rates, self.centers, strict=True):
            gain += rate * ((point - center).abs() - (best - center).abs())
        return gain.clamp_(min=0).sum().item()

    def typical_curvature(self) -> Dual:
        """What one free variable adds to the curvature by each number of the dual point."""
        some = slice(None, None, max(1, len(self.linear) // CHUNK))
        of_y = (self.loadings[some].square().T @ self.inverse[some]) / len(self.inverse[some])
        of_rows = self.rows.square() @ self.inverse / (self.rows != 0).sum(1).clamp(min=1)
        of_rows = torch.where(of_rows > 0, of_rows, 1)
        of_limits = self.inverse.mean().expand(self.sizes[2])
        return torch.cat([of_y, of_rows, of_limits]).numpy(force=True) * self.weight


@dataclass(frozen=True)
class Support:
    """The part of the dual that is not smooth: each multiplier times the bound it pushes against.

    A range `lower <= a'w <= upper` costs `upper l` where l > 0 and `lower l` where l < 0: a line
    plus a cost |l|. Where one end is infinite l has but one sign, as eta has.
    """

    line: Dual
    cost: Dual
    least: Dual
    most: Dual

    @classmethod
    def of(cls, arrays: Arrays, factors: int) -> Support:
        """Of a program's rows and norm limits."""
        limits = arrays.pieces.limits
        zeros, infinite = np.zeros(factors), np.full(factors, np.inf)
        bottom = np.concatenate([zeros, arrays.row_lower, np.full(len(limits), -np.inf)])
        top = np.concatenate([zeros, arrays.row_upper, limits])
        below, above = np.isfinite(bottom), np.isfinite(top)
        low, high = np.where(below, bottom, top), np.where(above, top, bottom)
        vacuous = ~below & ~above
        low, high = np.where(vacuous, 0, low), np.where(vacuous, 0, high)
        least, most = np.where(below, -np.inf, 0), np.where(above, np.inf, 0)
        least[:factors], most[:factors] = -infinite, infinite
        return cls(0.5 * (low + high), 0.5 * (high - low), least, most)

    @property
    def smooth(self) -> bool:
        """Whether all rows are equations."""
        return not self.cost.any() and bool(
            (self.least == -self.most).all() and (self.most > 0).all()
        )

    def value(self, dual: Dual) -> float:
        """What is taken from S."""
        return float(self.line @ dual + self.cost @ abs(dual))

    def acting(self, dual: Dual) -> Bool[np.ndarray, " dual"]:
        """Which entries are not held at zero."""
        kinked = (self.cost > 0) | (self.least == 0) | (self.most == 0)
        return ~kinked | (dual != 0)

    def slope(self, dual: Dual) -> Dual:
        """The derivative where entries are not held at zero."""
        return self.line + self.cost * np.sign(dual)


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


@dataclass(frozen=True)
class SeparableOptimum(Optimum):
    """An optimum whose gap is sharper than of any Q, because Q - diag(d) is positive semidefinite.

    Every feasible v has f(v) - f(w) >= sum_i r_i (v_i - w_i) + 0.5 d_i (v_i - w_i)^2 + phi_i(v_i)
    - phi_i(w_i) less the gap of the rows, with r = Qw - c + A'l, and each term has a least value.
    """

    of_variables: float

    @cached_property
    def gap(self) -> float:
        """How far the objective can be from the minimum."""
        arrays, at = self.arrays, self.at
        values, room = arrays.rows @ at.point, arrays.pieces.limits - arrays.pieces.norms(at.point)
        of_rows = gap_of_rows(values, arrays.row_lower, arrays.row_upper, at.rows)
        return self.of_variables + of_rows + float((at.limits * room).clip(0).sum())


def solve_factor_model(program: QuadraticProgram, start: Vector | None = None) -> Optimum:
    """The optimum of a program whose form is a factor model with every d_i > 0.

    The less of the risk is specific, the more pieces the dual function has. Where some d_i are very
    small they are enlarged at first: which variables are free then hardly changes, and the active
    set finds the rest.

    Raises:
        InfeasibleProgram: no point satisfies the constraints.
    """
    rounder = _rounder(program)
    if rounder is None:
        return _by_newton(program, start)
    near = _by_newton(rounder, start)
    arrays, point = Arrays.of(program), near.at.point
    if len(near.at.free) > MOST_FREE:
        return _by_newton(program, torch.from_numpy(point))
    found = optimum(program, arrays, working_set_at(arrays, point), point)
    return replace(found, passes=near.passes + found.passes)


def _rounder(program: QuadraticProgram) -> QuadraticProgram | None:
    """The program with a least share of specific risk, None where that is there anyway."""
    form = program.form
    assert isinstance(form, FactorModel)
    least = LEAST_SPECIFIC * form.loadings.square().sum(1).mean().item()
    if form.specific.min() >= least:
        return None
    return replace(program, form=FactorModel(form.loadings, form.specific.clamp(min=least)))


def _by_newton(program: QuadraticProgram, start: Vector | None) -> Optimum:
    """The iteration of the module's docstring; the active set where it does not settle."""
    arrays = Arrays.of(program)
    function = DualFunction.of(program, arrays)
    support = Support.of(arrays, function.sizes[0])
    ascent = Ascent(function, support, arrays.variance, PROMISE)
    check_one_by_one(program, arrays)
    place = ascent.start(_first_dual(ascent, arrays, start))
    for step in range(1, STEPS):
        before, (place, settled) = place, ascent.advance(place)
        if settled:
            # Where no variable is free, round-off is all that there is to polish.
            for candidate in (settled, place):
                found = _certified(arrays, function, candidate, step)
                if found:
                    return found
            if place is before and ascent.damping == LEAST_DAMPING:
                break
        if settled or _diverging(function, arrays, place.dual):
            _check_conflict(program, arrays, function, before.dual, place.dual)
    return optimum(program, arrays, *first_guess(arrays))


def _check_conflict(
    program: QuadraticProgram, arrays: Arrays, function: DualFunction, before: Dual, dual: Dual
) -> None:
    """Raise if the dual function rises without end in the last direction, or from zero."""
    for direction in (dual - before, dual):
        largest = abs(direction[function.sizes[0] :]).max(initial=0)
        if largest == 0:
            continue
        direction = direction / largest
        # Mostly the proof is in round numbers, of which Newton's method has but the first digits.
        for rounded in (direction.round(6), direction):
            _, rows, eta = function.split(rounded)
            if eta.min(initial=0) >= 0 and Combination.of(arrays, rows, eta).conflicts:
                raise conflict_of_rows(program, arrays, rows, eta)


def _first_dual(ascent: Ascent, arrays: Arrays, start: Vector | None) -> Dual:
    """Where to start: with the y of a point near the optimum, or near the optimum of a sample."""
    if start is None:
        return _rough_dual(ascent, arrays)
    y = ascent.function.loadings.T @ start.to(ascent.function.linear)
    return _with_budget(ascent, arrays, y.numpy(force=True))


def _rough_dual(ascent: Ascent, arrays: Arrays) -> Dual:
    """The optimum of a sample of the variables, found roughly and in the same way."""
    function = ascent.function
    if len(function.linear) < STRIDE * LEAST_SAMPLE:
        return _with_budget(ascent, arrays, np.zeros(function.sizes[0]))
    sample = Ascent(function.sample(), ascent.support, ascent.variance, ROUGHLY)
    place = sample.start(_rough_dual(sample, arrays))
    for _ in range(ROUGH_STEPS):
        place, settled = sample.advance(place)
        if _diverging(function, arrays, place.dual):
            return _with_budget(ascent, arrays, np.zeros(function.sizes[0]))
        if settled:
            break
    return place.dual


def _with_budget(ascent: Ascent, arrays: Arrays, y: Dual) -> Dual:
    """A dual point at which the first row holds, by bisection for its multiplier alone."""
    function = ascent.function
    dual = np.zeros(sum(function.sizes))
    dual[: len(y)] = y
    if not len(function.rows) or not (arrays.rows[0] == 1).all():
        return dual
    q, eta = function.linear - function.force(dual), function.split(dual)[2]
    target = min(max(0.0, arrays.row_lower[0]), arrays.row_upper[0])
    high = q.abs().max() + arrays.diagonal.max() + abs(arrays.pieces.rates).sum(0).max(initial=0)
    low = -high
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        more = function.point(q - middle, eta).sum() * function.weight > target
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    dual[len(y)] = (0.5 * (low + high)).item()
    return dual


def _diverging(function: DualFunction, arrays: Arrays, dual: Dual) -> bool:
    """Whether multipliers are much larger than the slopes that they have to balance."""
    slopes = abs(arrays.linear).max() + arrays.diagonal.max()
    multipliers = abs(dual[function.sizes[0] :])
    return bool(multipliers.max(initial=0) > DIVERGING * slopes)


def _certified(
    arrays: Arrays, function: DualFunction, place: Place, steps: int
) -> SeparableOptimum | None:
    """The optimum at a place with its certificate, on the CPU, if it is one."""
    _, rows, eta = function.split(place.dual)
    point = place.point.numpy(force=True)
    if not arrays.satisfied_by(point, FEASIBLE):
        return None
    working = working_set_at(arrays, point)
    free = np.flatnonzero((working.states & 1) == 0)
    found = judged(arrays, working, Minimiser(point, rows, eta, free, 0.0, None), steps)
    reduced = torch.from_numpy(found.reduced).to(place.point)
    gap = function.separable_gap(place.point, reduced, eta)
    found = SeparableOptimum(arrays, found.at, working, found.reduced, found.objective, steps, gap)
    return found if found.gap <= CERTIFIED * found.scale else None
