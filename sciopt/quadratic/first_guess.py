"""Where to start: a working set near which the budget can hold."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sciopt.quadratic.working_set import Arrays, WorkingSet

Vector = Float[np.ndarray, " n"]


def first_guess(arrays: Arrays) -> tuple[WorkingSet, Vector]:
    """A point in the bounds that meets the budget, and a working set with a few variables free.

    Everything starts where moving is counted from, or at its bound nearest zero; what the budget
    lacks is filled in the order of `0.5 Q_ii - c_i`, and the best few variables are free.
    """
    parts = arrays.pieces
    n = len(arrays.linear)
    lower, upper = parts.breakpoints[0], parts.breakpoints[-1]
    base = parts.centers[0] if len(parts.centers) else np.zeros(n)
    point = np.clip(base, lower, upper)
    score = 0.5 * arrays.diagonal - arrays.linear
    few = min(n, max(5, int(n**0.5)))
    budget = [row for row in range(len(arrays.rows)) if (arrays.rows[row] == 1).all()][:1]
    for row in budget:
        target = np.clip(point.sum(), arrays.row_lower[row], arrays.row_upper[row])
        _fill(point, target - point.sum(), score, lower, upper)
    states = parts.state_at(point)
    loose = np.isinf(lower) | np.isinf(upper)
    open_ended = np.isinf(lower) & np.isinf(upper)
    if not len(parts.centers):
        states[open_ended] = 2
    # The best of those that could still grow, or shrink.
    able = (point < upper) & ~open_ended & (loose | (lower < upper))
    candidates = able.nonzero()[0]
    best = (
        candidates[np.argpartition(score[candidates], few - 1)[:few]]
        if len(candidates) > few
        else candidates
    )
    pinned = best[(states[best] & 1) == 1]
    states[pinned] = 2 * parts.right[states[pinned] >> 1, pinned]
    limits = np.zeros(len(parts.limits), dtype=bool)
    return WorkingSet(states, np.where(arrays.equations, 1, 0), limits), point


def _fill(point: Vector, lacking: float, score: Vector, lower: Vector, upper: Vector) -> None:
    """Move variables towards their bounds, the best first, until the sum is what it should be."""
    if lacking == 0:
        return
    room = upper - point if lacking > 0 else point - lower
    first = int(score.argmin() if lacking > 0 else score.argmax())
    if room[first] >= abs(lacking):
        point[first] += lacking
        return
    order = np.argsort(score if lacking > 0 else -score)
    moved = np.minimum(room[order], 1e300)
    taken = np.clip(abs(lacking) - (np.cumsum(moved) - moved), 0, moved)
    point[order] += np.sign(lacking) * taken
