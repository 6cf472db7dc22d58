"""The optimum of any program: quickly where that is possible, slowly where it is not.

If Q is singular on the support, a proximal ridge is added and taken away again by moving its
centre; if no feasible point is found on the way, Clarabel finds one near the solution, from which
the active set goes on; and if there is no solution, Clarabel's certificate is put into words.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError

from sciopt.quadratic.active_set import active_set
from sciopt.quadratic.first_guess import first_guess
from sciopt.quadratic.forms import Ridged
from sciopt.quadratic.infeasible import check_one_by_one, conflict_of_rows, endless
from sciopt.quadratic.interior_point import SOLVED, interior_point
from sciopt.quadratic.optimality import Optimum, judged
from sciopt.quadratic.program import InfeasibleProgram, QuadraticProgram
from sciopt.quadratic.working_set import Arrays, WorkingSet

# Relative gap above which a proximal term may do better.
CERTIFIED = 1e-11
# Relative gap at which a proximal loop ends; what it leaves is round-off of the ridge.
ACCURATE = 1e-13
UNFINISHED = 1e-9
# Systems after which a point from inside is a better place to go on from.
QUICK = 500
PROXIMAL_STEPS = 60
# Steps that do not halve the gap before the loop ends.
PATIENCE = 5
RIDGE = 1e-8

Vector = Float[np.ndarray, " n"]


def optimum(
    program: QuadraticProgram, arrays: Arrays, working: WorkingSet, point: Vector
) -> Optimum:
    """The optimum by the first method that certifies one, from these suppositions.

    `arrays` are the program's, but for linear terms and costs, which may be others.
    """
    try:
        found = _found(program, arrays, working, point)
        if found.gap > CERTIFIED * found.scale:
            found = _from_inside(program, arrays)
    except LinAlgError:
        return _proximal(program, arrays, *first_guess(arrays))
    if found.gap <= CERTIFIED * found.scale:
        return found
    return min(found, _proximal(program, arrays, *first_guess(arrays)), key=lambda each: each.gap)


def _found(
    program: QuadraticProgram, arrays: Arrays, working: WorkingSet, point: Vector
) -> Optimum:
    """The optimum by the active set, from wherever it finds a feasible point."""
    found = active_set(arrays, working, point, QUICK)
    if found is None:
        # A round objective makes a feasible point easy to find, and from one nothing can go wrong.
        variance = arrays.variance or 1.0
        round_ = active_set(replace(arrays, form=Ridged(arrays.form, variance)), working, point)
        found = round_ and active_set(arrays, round_.working, round_.at.point)
    if found is None:
        check_one_by_one(program, arrays)
    return found or _from_inside(program, arrays)


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
    program: QuadraticProgram, arrays: Arrays, working: WorkingSet, point: Vector
) -> Optimum:
    """Proximal point: min f(w) + ridge/2 |w - w_k|^2, and w_k the minimiser before.

    Every step is a program whose Q is safely positive definite, and the gap is that of the program
    itself (Rockafellar 1976).
    """
    variance = arrays.variance
    ridge = RIDGE * (variance or float(abs(arrays.linear).max())) or 1.0
    ridged = replace(arrays, form=Ridged(arrays.form, ridge))
    center, best, passes, idle = None, None, 0, 0
    for _ in range(PROXIMAL_STEPS):
        if center is not None:
            ridged = replace(ridged, linear=arrays.linear + ridge * center)
        found = _found(program, ridged, working, point)
        passes += found.passes
        working, center = found.working, found.at.point
        point = center
        found = judged(arrays, found.working, found.at, passes)
        idle = 0 if best is None or found.gap < 0.5 * best.gap else idle + 1
        if best is None or found.gap < best.gap:
            best = found
        if idle == PATIENCE:
            break
        if best.gap <= ACCURATE * best.scale:
            break
    assert best is not None
    if best.gap > UNFINISHED * best.scale:
        inside = interior_point(arrays)
        if "DualInfeasible" in inside.status:
            raise endless(program, inside.point)
    return replace(best, passes=passes)


def _from_inside(program: QuadraticProgram, arrays: Arrays) -> Optimum:
    """The optimum from Clarabel's point, by blocks and then one by one."""
    inside = interior_point(arrays)
    if "DualInfeasible" in inside.status:
        raise endless(program, inside.point)
    if inside.status not in SOLVED:
        raise conflict_of_rows(program, arrays, inside.rows, inside.limits)
    snapped = _snapped(arrays, inside.point)
    working = working_set_at(arrays, snapped)
    strong = 1e-6 * max(abs(inside.rows).max(initial=0), 1e-300)
    acting = np.where(abs(inside.rows) > strong, np.sign(inside.rows), 0).astype(int)
    working.rows = np.where(arrays.equations, 1, acting)
    working.limits = inside.limits > strong
    found = active_set(arrays, working, snapped)
    if found is None:
        # More may have seemed to act than are independent.
        working.rows, working.limits[:] = np.where(arrays.equations, 1, 0), False
        found = active_set(arrays, working, snapped)
    if found is None:
        raise InfeasibleProgram("no working set is consistent with the constraints")
    return found


def _snapped(arrays: Arrays, point: np.ndarray) -> np.ndarray:
    """The point moved onto breakpoints that an interior point stops just short of."""
    places = arrays.pieces.breakpoints
    distance = abs(places - point)
    nearest = distance.argmin(0)
    each = arrays.pieces.each
    near = distance[nearest, each] < 1e-7 * (1 + abs(point).max())
    return np.where(near, places[nearest, each], np.clip(point, places[0], places[-1]))
