"""How far from the minimum a point can be, proved by the multipliers found with it.

With g = Qw - c, multipliers l of the rows and r = g + A'l, every feasible v has

    f(v) - f(w) >= g'(v - w) + phi(v) - phi(w) >= -sum_i gap_i - sum_j gap_j

where phi are the variables' piecewise linear functions, gap_i what r_i w_i + phi_i(w_i) exceeds its
least value by, and gap_j the slack of row j times its multiplier. All terms are >= 0 at a feasible
point, so that no digit is lost in their sum, and each least value lies at a breakpoint.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from sciopt.quadratic.forms import Form
from sciopt.quadratic.pieces import Pieces

Vector = Float[np.ndarray, " n"]


def gap_of_variables(
    pieces: Pieces,
    form: Form,
    point: Vector,
    reduced: Vector,
    limits: np.ndarray,
    places: Float[np.ndarray, "p n"],
) -> float:
    """sum_i gap_i, with `reduced` the r above and `limits` the multipliers of the norm limits.

    `places` are the breakpoints after `implied_places`. A variable that still has no bound to stop
    it can only be stopped by Q: its part is 0.5 r'Q^-1 r.
    """
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
    gap = float(saved.sum()) + _stopped_by_the_form(form, force)
    if np.isfinite(gap):
        return gap
    # Q is singular: then no proof can tell a force of round-off from one that is there.
    return float(saved.sum() + abs(force).sum() * (1 + abs(point).max()))


def implied_places(
    places: Float[np.ndarray, "p n"],
    rows: Float[np.ndarray, "rows n"],
    row_lower: np.ndarray,
    row_upper: np.ndarray,
) -> Float[np.ndarray, "p n"]:
    """The breakpoints with infinite bounds replaced by those that a row implies.

    Of weights >= 0 that sum to 1 none exceeds 1: what row j leaves to variable i when all others
    take as little of it as they can.
    """
    places = places.copy()
    for row, least, most in zip(rows, row_lower, row_upper, strict=True):
        if np.isfinite(places[[0, -1]]).all():
            break
        _tighten(places, row, most)
        if np.isinf(places[[0, -1]]).any():
            _tighten(places, -row, -least)
    return places


def _tighten(places: Float[np.ndarray, "p n"], row: Vector, most: float) -> None:
    """Bounds implied by `row @ w <= most`, in the place of infinite ones."""
    used = row != 0
    least = np.zeros_like(row)
    for end, side in ((places[0], row > 0), (places[-1], row < 0)):
        least[side] = row[side] * end[side]
    endless = np.isinf(least)
    if not np.isfinite(most) or endless.sum() > 1:
        return
    # Where one variable alone takes endlessly little, the row bounds that one only.
    others = least[~endless].sum() - np.where(endless, 0, least)
    bound = (most - others) / np.where(used, row, 1)
    bounded = used & (endless if endless.any() else np.ones_like(endless))
    upper = bounded & (row > 0) & np.isinf(places[-1])
    lower = bounded & (row < 0) & np.isinf(places[0])
    # At least as far as the other breakpoints, which round-off might deny.
    places[-1, upper] = np.maximum(bound, places[-2])[upper]
    places[0, lower] = np.minimum(bound, places[1])[lower]


def gap_of_rows(
    values: np.ndarray, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray
) -> float:
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
