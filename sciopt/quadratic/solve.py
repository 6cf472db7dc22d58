"""`solve`: the one door to all methods.

Dense, returns and shrinkage forms go to the block active set, large factor models to Newton's
method on the dual. If Q is singular on the support, a proximal ridge is added and taken away again
by moving its centre; if the active set cycles, Clarabel finds a point near the solution from which
it goes on, in the end by single pivots; and if there is no solution, Clarabel's certificate is put
into words.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import LinAlgError
from torch import Tensor

from sciopt.quadratic.active_set import active_set
from sciopt.quadratic.first_guess import first_guess
from sciopt.quadratic.forms import FactorModel, Ridged
from sciopt.quadratic.infeasible import conflict_of_one_row, conflict_of_rows, endless
from sciopt.quadratic.interior_point import SOLVED, interior_point
from sciopt.quadratic.optimality import Optimum, judged
from sciopt.quadratic.program import InfeasibleProgram, QuadraticProgram, Solution
from sciopt.quadratic.working_set import Arrays, WorkingSet

# Relative gap above which a proximal term may do better.
CERTIFIED = 1e-11
# Relative gap at which a proximal loop ends; what it leaves is round-off of the ridge.
ACCURATE = 1e-13
UNFINISHED = 1e-9
PROXIMAL_STEPS = 60
# Steps that do not halve the gap before the loop ends.
PATIENCE = 5
RIDGE = 1e-8
# A factor model with more variables than this per factor goes to the dual.
WIDE = 8


def solve(program: QuadraticProgram, start: Float[Tensor, " n"] | None = None) -> Solution:
    """The minimiser with its certificate.

    Args:
        program: from `quadratic_program`.
        start: a point whose bounds are mostly those of the solution, as of yesterday's program;
            need not be feasible.

    Raises:
        InfeasibleProgram: no point satisfies the constraints; says which exclude each other.
        UnboundedProgram: the objective falls without end; says along which variables.
    """
    form = program.form
    if isinstance(form, FactorModel) and form.size > WIDE * form.loadings.shape[1]:
        from sciopt.quadratic.dual_newton import solve_factor_model

        return solve_factor_model(program, start)
    arrays = Arrays.of(program)
    guess = None if start is None else start.numpy(force=True)
    return _solution(program, arrays, optimum(program, arrays, guess))


def optimum(program: QuadraticProgram, arrays: Arrays, guess: np.ndarray | None) -> Optimum:
    """The optimum by the first method that certifies one."""
    working, point = first_guess(arrays)
    if guess is not None:
        point = np.clip(guess, arrays.pieces.breakpoints[0], arrays.pieces.breakpoints[-1])
        working = working_set_at(arrays, point)
    try:
        found = _found(program, arrays, arrays, working, point)
    except LinAlgError:
        return _proximal(program, arrays, *first_guess(arrays))
    if found.gap <= CERTIFIED * _scale(arrays, found):
        return found
    return min(found, _proximal(program, arrays, *first_guess(arrays)), key=lambda each: each.gap)


def _found(
    program: QuadraticProgram,
    arrays: Arrays,
    posed: Arrays,
    working: WorkingSet,
    point: np.ndarray,
) -> Optimum:
    """The optimum of `posed`, the program with or without a proximal term."""
    found = active_set(posed, working, point)
    if found is None and (conflict := conflict_of_one_row(program, arrays)):
        raise conflict
    return found or _from_inside(program, posed, arrays)


def working_set_at(arrays: Arrays, point: np.ndarray) -> WorkingSet:
    """What holds with equality at a point; rows act where they are met exactly."""
    values = arrays.rows @ point
    room = 1e-12 * (1 + abs(values))
    rows = np.where(abs(values - arrays.row_upper) <= room, 1, 0)
    rows = np.where((rows == 0) & (abs(values - arrays.row_lower) <= room), -1, rows)
    rows[arrays.equations] = 1
    norms = arrays.pieces.norms(point)
    limits = norms >= arrays.pieces.limits * (1 - 1e-12)
    return WorkingSet(arrays.pieces.state_at(point), rows, limits)


def _proximal(
    program: QuadraticProgram, arrays: Arrays, working: WorkingSet, point: np.ndarray
) -> Optimum:
    """Proximal point: min f(w) + ridge/2 |w - w_k|^2, and w_k the minimiser before.

    Every step is a program whose Q is safely positive definite, and the gap is that of the program
    itself (Rockafellar 1976).
    """
    ridge = RIDGE * float(arrays.form.diagonal().mean()) or 1.0
    ridged = replace(arrays, form=Ridged(arrays.form, ridge))
    center, best, passes, idle = None, None, 0, 0
    for _ in range(PROXIMAL_STEPS):
        if center is not None:
            ridged = replace(ridged, linear=arrays.linear + ridge * center)
        found = _found(program, arrays, ridged, working, point)
        passes += found.passes
        working, center = found.working, found.at.point
        point = center
        found = judged(arrays, found.working, found.at, passes)
        idle = 0 if best is None or found.gap < 0.5 * best.gap else idle + 1
        if best is None or found.gap < best.gap:
            best = found
        if idle == PATIENCE:
            break
        if best.gap <= ACCURATE * _scale(arrays, best):
            break
    assert best is not None
    if best.gap > UNFINISHED * _scale(arrays, best):
        inside = interior_point(arrays)
        if "DualInfeasible" in inside.status:
            raise endless(program, inside.point)
    return replace(best, passes=passes)


def _from_inside(program: QuadraticProgram, ridged: Arrays, arrays: Arrays) -> Optimum:
    """The optimum from Clarabel's point, by blocks and then one by one."""
    inside = interior_point(ridged)
    if "DualInfeasible" in inside.status:
        raise endless(program, inside.point)
    if inside.status not in SOLVED:
        raise conflict_of_rows(program, arrays, inside.rows, inside.limits)
    snapped = _snapped(ridged, inside.point)
    working = working_set_at(ridged, snapped)
    strong = 1e-6 * max(abs(inside.rows).max(initial=0), 1e-300)
    acting = np.where(abs(inside.rows) > strong, np.sign(inside.rows), 0).astype(int)
    working.rows = np.where(ridged.equations, 1, acting)
    working.limits = inside.limits > strong
    found = active_set(ridged, working, snapped)
    if found is None:
        # More may have seemed to act than are independent.
        working.rows, working.limits[:] = np.where(ridged.equations, 1, 0), False
        found = active_set(ridged, working, snapped)
    if found is None:
        raise InfeasibleProgram("no working set is consistent with the constraints")
    return found


def _snapped(arrays: Arrays, point: np.ndarray) -> np.ndarray:
    """The point moved onto breakpoints that an interior point stops just short of."""
    places = arrays.pieces.breakpoints
    distance = abs(places - point)
    nearest = distance.argmin(0)
    each = np.arange(len(point))
    near = distance[nearest, each] < 1e-7 * (1 + abs(point).max())
    return np.where(near, places[nearest, each], np.clip(point, places[0], places[-1]))


def _scale(arrays: Arrays, found: Optimum) -> float:
    """What relative gaps are relative to."""
    return max(abs(found.objective), float(arrays.form.diagonal().mean()), 1e-300)


def _solution(program: QuadraticProgram, arrays: Arrays, found: Optimum) -> Solution:
    """The optimum with names, on the program's device."""
    point, at = found.at.point, found.at
    values = arrays.rows @ point
    violation = np.concatenate(
        [
            arrays.row_lower - values,
            values - arrays.row_upper,
            arrays.pieces.norms(point) - arrays.pieces.limits,
        ]
    )
    multipliers = dict(zip(program.rows.names, at.rows.tolist(), strict=True))
    for limit, by in zip(program.norm_limits, at.limits.tolist(), strict=True):
        multipliers[limit.name] = by
    slopes = arrays.pieces.slopes_with(at.limits)
    lower, upper = arrays.pieces.breakpoints[[0, -1]]
    at_bound = np.where(point == lower, found.reduced + slopes[1], 0)
    at_bound = np.where(point == upper, found.reduced + slopes[-2], at_bound)
    options = {"dtype": torch.float64, "device": program.device}
    return Solution(
        point=torch.tensor(point, **options),
        objective=found.objective,
        gap=found.gap,
        relative_gap=found.gap / _scale(arrays, found),
        residual=float(violation.max(initial=0)),
        multipliers=multipliers,
        reduced_cost=torch.tensor(at_bound, **options),
        iterations=found.passes,
    )
