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

from sciopt.quadratic.ascent import LEAST_DAMPING, Ascent, Place
from sciopt.quadratic.certificate import gap_of_rows
from sciopt.quadratic.dual_function import STRIDE, Dual, DualFunction, Support, Vector
from sciopt.quadratic.first_guess import first_guess
from sciopt.quadratic.forms import FactorModel
from sciopt.quadratic.infeasible import Combination, check_one_by_one, conflict_of_rows
from sciopt.quadratic.optimality import Optimum, judged
from sciopt.quadratic.optimum import CERTIFIED, optimum, working_set_at
from sciopt.quadratic.program import QuadraticProgram
from sciopt.quadratic.working_set import Arrays, Minimiser

STEPS = 500
BISECTIONS = 40
FEASIBLE = 1e-12
# A step that promises a smaller rise than this, relative to the objective, is the last.
PROMISE = 1e-15
# Multipliers so many times larger than the objective's slopes may be on their way to infinity.
DIVERGING = 1e3
# A sample is not smaller than this; its optimum is found roughly.
LEAST_SAMPLE, ROUGHLY, ROUGH_STEPS = 6000, 1e-4, 15
# Specific variance below this share of the common one is enlarged at first, and the free variables
# up to which the active set may take over.
LEAST_SPECIFIC, MOST_FREE = 1e-4, 2000


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
