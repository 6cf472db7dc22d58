"""A block active-set method: exact after a few systems of the size of the support.

Suppose which variables are free and which rows act, solve those equations, and change at once all
suppositions that the solution contradicts: free variables beyond their interval are pinned, pinned
ones whose multiplier has the wrong sign are released. This is a primal-dual active-set, that is, a
semismooth Newton method on the optimality conditions (Hintermueller, Ito & Kunisch 2003). Two
departures: variables are pinned until the point is feasible before any is released, and not more
are released at a time than a block that doubles, so that the systems stay as small as the support
of the solution.

Nothing forbids that to cycle. So a block counts only if it lowers the objective; where it does
not, the walk of `walk.py` is taken, and a smaller block tried, in the end a single variable, which
is certain to lower it. Each working set's minimum is therefore lower than the last, none comes
back, and the method ends.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError

from sciopt.quadratic.optimality import Optimum, judged, release, wishes
from sciopt.quadratic.walk import ROUND_OFF, walk
from sciopt.quadratic.working_set import TOLERANCE, Arrays, Minimiser, System, WorkingSet

# Without a feasible point after so many systems, somebody else has to find the first.
PASSES_TO_FEASIBLE = 40
# Systems solved in all before giving up, per variable; far more than ever seen.
MOST = 20
# Walks of no length in a row after which the lowest index goes first (Bland's rule).
PATIENCE = 20
# More variables are not released at a time for a walk: rather fewer are tried.
SHORT = 32
# A walk may start at a point that misses rows by so little: it ends where they hold.
NEARLY = 1e-7

Vector = Float[np.ndarray, " n"]


def active_set(
    arrays: Arrays, working: WorkingSet, point: Vector, most: int | None = None
) -> Optimum | None:
    """The optimum found from these suppositions; None if no feasible point was found.

    `point` lies in the bounds and agrees with the working set's states; if it also satisfies the
    rows, the method cannot fail to find one. After `most` systems the best so far is returned.

    Raises:
        LinAlgError: Q is singular on a set of free variables.
    """
    trial = working.copy()
    found, passes = _feasible(arrays, trial)
    if found is None and arrays.satisfied_by(point, NEARLY):
        trial = working.copy()
        found, used = walk(arrays, trial, point)
        passes += used
    if found is None:
        trial = working.copy()
        found, used = _first_feasible(arrays, trial)
        passes += used
    return None if found is None else _descend(arrays, judged(arrays, trial, found, passes), most)


def _descend(arrays: Arrays, best: Optimum, most: int | None) -> Optimum:
    """From one feasible minimiser to lower ones, until none of its multipliers is wrong."""
    n, passes = len(arrays.linear), best.passes
    block, idle = max(8, 2 * int(n**0.5)), 0
    while passes < (most or MOST * n + 1000) and idle < n + PATIENCE:
        wish, rising = wishes(arrays, best.working, best.at, best.reduced)
        candidates = wish.nonzero()[0]
        if not len(candidates):
            break
        # After too many walks of no length, the lowest index goes first.
        chosen = candidates[:1] if idle > PATIENCE else _both(wish, rising, candidates, block)
        walk_on = partial(_short_walk, point=best.at.point, released=len(chosen))
        for go in (_feasible, walk_on):
            trial = best.working.copy()
            release(arrays, trial, chosen, rising)
            found, used = go(arrays, trial)
            passes += used
            if found and (lower := judged(arrays, trial, found, passes)).objective < best.objective:
                block, idle, best = min(2 * block, n), 0, lower
                break
        else:
            if block == 1 and found:
                best = judged(arrays, trial, found, passes)
            block, idle = max(block // 8, 1), idle + 1
    return best


def _first_feasible(arrays: Arrays, working: WorkingSet) -> tuple[Minimiser | None, int]:
    """The first feasible minimiser; changes `working`.

    Where too few variables are free for an equation to hold, those that help are released.
    """
    passes, few = 0, max(8, int(len(arrays.linear) ** 0.5))
    while passes < PASSES_TO_FEASIBLE:
        found, used = _pin(arrays, working)
        passes += used
        if found is None or not found.short:
            return found, passes
        at = judged(arrays, working, found, passes)
        wish, rising = wishes(arrays, working, found, at.reduced)
        helpful = wish[: len(working.states)].nonzero()[0]
        if not len(helpful):
            return None, passes
        release(arrays, working, _worst(wish, helpful, few), rising)
        few *= 2
    return None, passes


def _feasible(arrays: Arrays, working: WorkingSet) -> tuple[Minimiser | None, int]:
    """The minimiser after pinning, or None where that leaves too few variables free.

    None too where Q is singular on the way, which a walk can do something about.
    """
    try:
        found, used = _pin(arrays, working)
    except LinAlgError:
        return None, 1
    return (found if found and not found.short else None), used


def _short_walk(
    arrays: Arrays, working: WorkingSet, point: Vector, released: int
) -> tuple[Minimiser | None, int]:
    """A walk, which solves a system for each variable that stops it, unless many may."""
    return walk(arrays, working, point) if released <= SHORT else (None, 0)


def _pin(arrays: Arrays, working: WorkingSet) -> tuple[Minimiser | None, int]:
    """The minimiser after pinning and activating until it violates nothing; changes `working`."""
    system = System(arrays, working)
    for passes in range(1, PASSES_TO_FEASIBLE):
        values = system.solve()
        if system.short:
            return system.minimiser(), passes
        room = ROUND_OFF * abs(values).max(initial=0)
        below, above = values < system.low - room, values > system.high + room
        beyond = (below | above).nonzero()[0]
        if not len(beyond):
            found = system.minimiser()
            if not _activate(arrays, working, found.point):
                return found, passes
            system = System(arrays, working)
            continue
        if 2 * len(beyond) > len(values):
            # Pinning all might leave too few for the equations: the larger half.
            ends = np.where(below, system.low, system.high)
            kept = beyond[np.argsort(abs(values - ends)[beyond])[: len(beyond) // 2]]
            below[kept] = above[kept] = False
        working.states[system.free[below]] -= 1
        working.states[system.free[above]] += 1
        system.pin(below, above)
    return None, PASSES_TO_FEASIBLE


def _activate(arrays: Arrays, working: WorkingSet, point: Vector) -> bool:
    """Let rows beyond their range act, and norms that are too long; say if any does."""
    idle = working.rows == 0
    if not idle.any() and not len(arrays.pieces.limits):
        return False
    values = arrays.rows @ point
    room = TOLERANCE * (1 + abs(arrays.rows) @ abs(point))
    over = idle & (values > arrays.row_upper + room)
    under = idle & (values < arrays.row_lower - room)
    norms, limits = arrays.pieces.norms(point), arrays.pieces.limits
    long = ~working.limits & (norms > limits + TOLERANCE * (1 + limits))
    working.rows[over] = 1
    working.rows[under] = -1
    working.limits[long] = True
    return bool(over.any() or under.any() or long.any())


def _both(wish: Vector, rising: np.ndarray, candidates: np.ndarray, block: int) -> np.ndarray:
    """The worst of those that would rise and of those that would fall: a budget needs both."""
    if len(candidates) <= block or block == 1:
        return _worst(wish, candidates, block)
    up = rising[np.minimum(candidates, len(rising) - 1)]
    half = block // 2
    chosen = [_worst(wish, each, half) for each in (candidates[up], candidates[~up])]
    return np.concatenate(chosen)


def _worst(wish: Vector, candidates: np.ndarray, block: int) -> np.ndarray:
    """The `block` candidates of largest wish."""
    if len(candidates) <= block:
        return candidates
    return candidates[np.argpartition(-wish[candidates], block - 1)[:block]]
