"""The walk of the primal active-set method: from a feasible point to a lower minimum, surely.

Go from a feasible point towards the minimiser over the working set and stop at the first bound or
row in the way, which then acts; go on until nothing is in the way. The objective never rises
(Nocedal & Wright 2006, algorithm 16.3). Where Q is singular on the working set there are moves
without curvature: along one that does not raise the objective, the walk goes to the end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError

from sciopt.quadratic.working_set import Arrays, Minimiser, System, WorkingSet

NEVER = 2.0
# A share of the force so small is round-off, and a move so long, in units of the point, has no end.
LEVEL, FAR = 1e-10, 1e6
# A move so much smaller than the point is in nobody's way.
ROUND_OFF = 1e-14

Vector = Float[np.ndarray, " n"]


def walk(arrays: Arrays, working: WorkingSet, point: Vector) -> tuple[Minimiser | None, int]:
    """The feasible minimiser at the end of the walk, and the systems solved; changes `working`.

    None where round-off keeps the equations from being met.
    """
    most = 2 * len(point) + len(arrays.rows) + 10
    for passes in range(1, most):
        system = System(arrays, working)
        try:
            system.solve()
        except LinAlgError:
            point = _flat_walk(arrays, working, system, point)
            continue
        found = system.minimiser()
        if found.short:
            return None, passes
        length, pin = _first_in_the_way(arrays, working, point, found.point)
        if length >= 1:
            return found, passes
        point = point + length * (found.point - point)
        pin()
    return None, most


def _flat_walk(arrays: Arrays, working: WorkingSet, system: System, point: Vector) -> Vector:
    """The end of a move along which Q has no curvature; changes `working`.

    Raises:
        LinAlgError: nothing is in the way of such a move.
    """
    free = system.free
    force = system.right - system.block @ point[free]
    flat = system.flat_moves()
    downhill = flat @ (force @ flat)
    level = abs(downhill).max() <= LEVEL * abs(force).max()
    for move in (flat[:, 0], -flat[:, 0]) if level else (downhill,):
        target = point.copy()
        target[free] += FAR * (1 + abs(point).max()) / abs(move).max() * move
        length, pin = _first_in_the_way(arrays, working, point, target)
        if length < 1:
            pin()
            return point + length * (target - point)
    raise LinAlgError("Q is singular, and nothing ends a move that it does not see")


def _first_in_the_way(
    arrays: Arrays, working: WorkingSet, point: Vector, target: Vector
) -> tuple[float, Callable[[], None]]:
    """The share of the way that is free, and what to do at its end."""
    parts, move = arrays.pieces, target - point
    free = ((working.states & 1) == 0).nonzero()[0]
    interval = working.states[free] >> 1
    goal = np.where(move[free] < 0, parts.ends[interval, free], parts.ends[interval + 1, free])
    move[abs(move) <= ROUND_OFF * abs(target).max()] = 0
    of_variables = _shares(goal - point[free], move[free])
    values, change = arrays.rows @ point, arrays.rows @ move
    bound = np.where(change < 0, arrays.row_lower, arrays.row_upper)
    # What changes less than round-off is in nobody's way: a row that depends on acting ones.
    change[abs(change) <= 1e-13 * (abs(arrays.rows) @ abs(move))] = 0
    of_rows = np.where(working.rows == 0, _shares(bound - values, change), NEVER)
    norms = parts.norms(point)
    # Linear on the way, because no variable leaves its interval.
    growth = (parts.signs[:, interval, free] * move[free]).sum(1)
    growth[growth <= 1e-13 * abs(move).sum()] = 0
    of_limits = np.where(working.limits, NEVER, _shares(parts.limits - norms, growth))
    shares = np.concatenate([of_variables, of_rows, of_limits, [1.0]])
    first = int(shares.argmin())

    def pin() -> None:
        if first < len(free):
            working.states[free[first]] += 1 if move[free[first]] > 0 else -1
        elif first < len(free) + len(values):
            row = first - len(free)
            working.rows[row] = 1 if change[row] > 0 else -1
        else:
            working.limits[first - len(free) - len(values)] = True

    return float(shares[first]), pin


def _shares(room: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Which share of each move there is room for, at least none."""
    moving = (move != 0) & np.isfinite(room)
    return np.where(moving, np.maximum(room / np.where(moving, move, 1), 0), NEVER)
