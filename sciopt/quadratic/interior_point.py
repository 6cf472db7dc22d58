"""Clarabel's view of a program: where the active set may start, or why there is no answer.

Q is lifted, not formed: with `Q = L'L + diag(d)` the product y = Lw becomes a variable, and so does
each |w - center| that costs or is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import clarabel
import numpy as np
from scipy import sparse

from sciopt.quadratic.forms import Dense, FactorModel, Form, Returns, Shrunk
from sciopt.quadratic.working_set import Arrays

Sparse: TypeAlias = Any
"""One of SciPy's sparse classes, between which its functions change as they please."""

SOLVED = ("Solved", "AlmostSolved")


@dataclass(frozen=True)
class InteriorPoint:
    """What Clarabel found: its status, the point or direction, and multipliers.

    `rows` and `limits` are multipliers with the signs of `Solution`; of an infeasible program they
    are Farkas's certificate, and `point` is the direction of an unbounded one.
    """

    status: str
    point: np.ndarray
    rows: np.ndarray
    limits: np.ndarray


def interior_point(arrays: Arrays) -> InteriorPoint:
    """Clarabel's answer at a relative gap of about 1e-9, the objective scaled to variances of 1."""
    n, parts = len(arrays.linear), arrays.pieces
    scale = float(arrays.form.diagonal().mean()) or 1.0
    within, lifts, diagonal = _lifted(arrays.form)
    factor: Sparse = sparse.csr_matrix(np.concatenate(lifts) if lifts else (0, n))
    kinks, many = len(parts.centers), factor.shape[0]
    quadratic = sparse.block_diag(
        [
            sparse.triu(sparse.csc_matrix(within) + sparse.diags(diagonal)),
            sparse.eye(many),
            sparse.csc_matrix((kinks * n, kinks * n)),
        ],
        format="csc",
    )
    linear = np.concatenate([-arrays.linear, np.zeros(many), parts.rates.ravel()])
    lower, upper = parts.breakpoints[0], parts.breakpoints[-1]
    identity: Sparse = sparse.eye(n, format="csr")
    wide = sparse.csr_matrix
    # Blocks of `matrix @ x <= bound`, the equations first.
    equal = np.flatnonzero(arrays.equations)
    above = np.flatnonzero(~arrays.equations & np.isfinite(arrays.row_upper))
    below = np.flatnonzero(~arrays.equations & np.isfinite(arrays.row_lower))
    has_upper, has_lower = np.isfinite(upper), np.isfinite(lower)
    rows = arrays.rows
    blocks = [
        (sparse.hstack([factor, -sparse.eye(many), wide((many, kinks * n))]), np.zeros(many)),
        (_padded(rows[equal], many + kinks * n), arrays.row_upper[equal]),
        (_padded(rows[above], many + kinks * n), arrays.row_upper[above]),
        (_padded(-rows[below], many + kinks * n), -arrays.row_lower[below]),
        (_padded(identity[has_upper], many + kinks * n), upper[has_upper]),
        (_padded(-identity[has_lower], many + kinks * n), -lower[has_lower]),
    ]
    for kink, center in enumerate(parts.centers):
        of_kink = sparse.hstack([wide((n, kink * n)), -identity, wide((n, (kinks - kink - 1) * n))])
        for sign in (1.0, -1.0):
            block = sparse.hstack([sign * identity, wide((n, many)), of_kink])
            blocks.append((block, sign * center))
    costs = kinks - len(parts.limits)
    sums = np.kron(np.eye(kinks)[costs:], np.ones(n))
    blocks.append((sparse.hstack([wide((len(sums), n + many)), wide(sums)]), parts.limits))
    matrix = sparse.vstack([block for block, _ in blocks], format="csc")
    bounds = np.concatenate([bound for _, bound in blocks])
    equations = many + len(equal)
    cones = [clarabel.ZeroConeT(equations), clarabel.NonnegativeConeT(len(bounds) - equations)]  # pyright: ignore[reportAttributeAccessIssue]
    settings = clarabel.DefaultSettings()  # pyright: ignore[reportAttributeAccessIssue]
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    answer = clarabel.DefaultSolver(  # pyright: ignore[reportAttributeAccessIssue]
        quadratic / scale, linear / scale, matrix, bounds, cones, settings
    ).solve()
    dual = np.array(answer.z)
    of_rows = np.zeros(len(rows))
    at = many
    for index, sign in ((equal, 1), (above, 1), (below, -1)):
        of_rows[index] += sign * dual[at : at + len(index)]
        at += len(index)
    of_limits = dual[len(dual) - len(parts.limits) :]
    unscaled = scale if str(answer.status) in SOLVED else 1.0
    return InteriorPoint(
        str(answer.status), np.array(answer.x)[:n], unscaled * of_rows, unscaled * of_limits
    )


def _padded(block: np.ndarray | Sparse, columns: int) -> Sparse:
    """The block with columns of zeros for the variables that it does not use."""
    return sparse.hstack([sparse.csr_matrix(block), sparse.csr_matrix((block.shape[0], columns))])


def _lifted(form: Form) -> tuple[np.ndarray | Sparse, list[np.ndarray], np.ndarray]:
    """Q as a matrix, plus the L'L of factors, plus a diagonal."""
    n = form.size
    nothing, zero = sparse.csc_matrix((n, n)), np.zeros(n)
    if isinstance(form, Dense):
        return form.matrix, [], zero
    if isinstance(form, Returns):
        return nothing, [form.matrix], np.full(n, form.ridge)
    if isinstance(form, FactorModel):
        return nothing, [form.loadings.T], form.specific
    share = 1 - form.intensity if isinstance(form, Shrunk) else 1.0
    added = form.intensity * form.target if isinstance(form, Shrunk) else np.full(n, form.ridge)
    within, lifts, diagonal = _lifted(form.base)
    return share * within, [share**0.5 * lift for lift in lifts], share * diagonal + added
