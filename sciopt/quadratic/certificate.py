"""How far from the minimum a point can be, proved by the multipliers found with it.

With g = Qw - c, multipliers l of the rows and r = g + A'l, every feasible v has

    f(v) - f(w) >= g'(v - w) + phi(v) - phi(w) >= -sum_i gap_i - sum_j gap_j

where phi are the variables' piecewise linear functions, gap_i what r_i w_i + phi_i(w_i) exceeds its
least value by, and gap_j the slack of row j times its multiplier. All terms are >= 0 at a feasible
point, so that no digit is lost in their sum, and each least value lies at a breakpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from sciopt.quadratic.forms import Form
from sciopt.quadratic.pieces import Pieces

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Multipliers:
    """Of the rows (positive where the upper bound holds) and of the norm limits (>= 0)."""

    rows: Float[np.ndarray, " rows"]
    limits: Float[np.ndarray, " limits"]


def gap_of_variables(
    pieces: Pieces, form: Form, point: Vector, reduced: Vector, limits: np.ndarray
) -> float:
    """sum_i gap_i, with `reduced` the r above and `limits` the multipliers of the norm limits.

    A variable without a bound to stop it can only be stopped by Q: its part is 0.5 r'Q^-1 r.
    """
    places = pieces.breakpoints
    finite = np.isfinite(places)
    everywhere = bool(finite.all())
    reached = places if everywhere else np.where(finite, places, point)
    saved = reduced * (point - reached)
    if len(pieces.centers):
        saved += pieces.value(point, limits) - pieces.value(reached, limits)
    saved = np.maximum(saved.max(0), 0)
    if everywhere:
        return float(saved.sum())
    slopes = pieces.slopes_with(limits)
    force = np.where(finite[-1], 0, np.minimum(reduced + slopes[-2], 0))
    force += np.where(finite[0], 0, np.maximum(reduced + slopes[1], 0))
    saved[force != 0] = 0
    return float(saved.sum()) + _stopped_by_the_form(form, force)


def gap_of_rows(values: np.ndarray, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray) -> float:
    """sum_j gap_j: multiplier times the distance from the bound that it pushes against."""
    bound = np.where(rows > 0, upper, lower)
    acting = rows != 0
    return float((rows[acting] * (bound - values)[acting]).clip(0).sum())


def _stopped_by_the_form(form: Form, force: Vector) -> float:
    """0.5 r'Q^-1 r, what a force that no bound stops can gain before Q stops it."""
    if not force.any():
        return 0.0
    least = form.lowest_eigenvalue()
    if least > 0:
        return 0.5 * float(force @ force) / least
    try:
        factor = cho_factor(form.block(np.arange(form.size)), lower=True)
    except LinAlgError:
        return float("inf")
    return 0.5 * float(force @ cho_solve(factor, force))
