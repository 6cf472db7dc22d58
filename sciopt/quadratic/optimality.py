"""What the optimality conditions say of a minimiser over a working set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from sciopt.quadratic.certificate import gap_of_rows, gap_of_variables
from sciopt.quadratic.working_set import Arrays, Minimiser, WorkingSet

ROUND_OFF = float(np.finfo(np.float64).eps)

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Optimum:
    """The feasible minimiser over a working set."""

    arrays: Arrays
    at: Minimiser
    working: WorkingSet
    reduced: Float[np.ndarray, " n"]
    """Qw - c + A'l"""
    objective: float
    passes: int

    @cached_property
    def gap(self) -> float:
        """How far the objective can be from the minimum."""
        arrays, parts, at = self.arrays, self.arrays.pieces, self.at
        gap = gap_of_variables(parts, arrays.form, at.point, self.reduced, at.limits, arrays.places)
        gap += gap_of_rows(arrays.rows @ at.point, arrays.row_lower, arrays.row_upper, at.rows)
        if len(parts.limits):
            gap += float((at.limits * (parts.limits - parts.norms(at.point))).clip(0).sum())
        return gap

    @property
    def scale(self) -> float:
        """What relative gaps are relative to."""
        return max(abs(self.objective), self.arrays.variance, np.finfo(float).tiny)


def judged(arrays: Arrays, working: WorkingSet, found: Minimiser, passes: int) -> Optimum:
    """The minimiser with its reduced cost and objective."""
    parts, point = arrays.pieces, found.point
    held = point.nonzero()[0]
    gradient = arrays.form.times(held, point[held]) - arrays.linear
    if not len(found.free) and not found.short and (working.rows != 0).sum() == 1:
        found = _balanced(arrays, working, found, gradient)
    reduced = gradient + found.rows @ arrays.rows
    objective = 0.5 * float(point @ gradient - point @ arrays.linear)
    if len(parts.centers):
        objective += float(parts.value(point, np.zeros(len(parts.limits))).sum())
    return Optimum(arrays, found, working, reduced, objective, passes)


def _balanced(arrays: Arrays, working: WorkingSet, found: Minimiser, gradient: Vector) -> Minimiser:
    """With nothing free, the multiplier of the row that acts at which most would be at peace.

    Any would do; this one lets the keenest to rise and to fall wish equally, so that they can be
    released together and move.
    """
    acting = int(working.rows.nonzero()[0][0])
    row, parts, at = arrays.rows[acting], arrays.pieces, working.states >> 1
    slopes = parts.slopes_with(found.limits)
    used = row > 0
    if not used.any() or (row < 0).any():
        return found
    up = -(gradient + slopes[parts.right[at, parts.each], parts.each])[used] / row[used]
    down = -(gradient + slopes[parts.left[at, parts.each], parts.each])[used] / row[used]
    ends = [end for end in (up.max(), down.min()) if np.isfinite(end)]
    if not ends:
        return found
    by = found.rows.copy()
    by[acting] = sum(ends) / len(ends)
    return replace(found, rows=by)


def wishes(
    arrays: Arrays, working: WorkingSet, found: Minimiser, reduced: Vector
) -> tuple[Float[np.ndarray, " all"], Bool[np.ndarray, " n"]]:
    """How much each supposition wants to be given up, zero where not, and which variables to rise.

    First the variables: a pinned one would move if the force -(Qw - c + A'l) on it is not between
    the slopes beside its breakpoint. Then the rows and the norm limits whose multipliers have the
    wrong sign.
    """
    parts, states = arrays.pieces, working.states
    each = parts.each
    slopes = parts.slopes_with(found.limits)
    room = 16 * ROUND_OFF * (abs(reduced).max() + abs(arrays.linear).max())
    # Where risks cancel to nothing, round-off is that of the terms in Qw.
    deviations = np.sqrt(arrays.diagonal)
    room = np.maximum(room, 2 * ROUND_OFF * (deviations @ abs(found.point)) * deviations)
    pinned = (states & 1) == 1
    at = np.where(pinned, states >> 1, 0)
    rise = -(reduced + slopes[parts.right[at, each], each])
    fall = reduced + slopes[parts.left[at, each], each]
    strongest = np.maximum(rise, fall)
    of_variables = np.where(pinned & (strongest > room), strongest, 0)
    if not len(arrays.rows) + len(parts.limits):
        return of_variables, rise > fall
    wrong_rows = (found.rows * working.rows < 0) & ~arrays.equations
    wrong_limits = working.limits & (found.limits < 0)
    of_rows = np.where(wrong_rows, abs(found.rows), 0)
    of_limits = np.where(wrong_limits, abs(found.limits), 0)
    return np.concatenate([of_variables, of_rows, of_limits]), rise > fall


def release(
    arrays: Arrays,
    working: WorkingSet,
    index: Int[np.ndarray, " released"],
    rising: Bool[np.ndarray, " n"],
) -> None:
    """Give up suppositions, in the numbering of `wishes`."""
    parts, n = arrays.pieces, len(working.states)
    variables = index[index < n]
    at = working.states[variables] >> 1
    above, below = parts.right[at, variables], parts.left[at, variables]
    working.states[variables] = 2 * np.where(rising[variables], above, below)
    rest = index[index >= n] - n
    working.rows[rest[rest < len(working.rows)]] = 0
    working.limits[rest[rest >= len(working.rows)] - len(working.rows)] = False
