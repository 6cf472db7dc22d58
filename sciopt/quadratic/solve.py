"""`solve`: the one door to all methods, and the answer with names."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.quadratic.dual_newton import solve_factor_model
from sciopt.quadratic.first_guess import first_guess
from sciopt.quadratic.forms import FactorModel
from sciopt.quadratic.optimality import Optimum
from sciopt.quadratic.optimum import optimum, working_set_at
from sciopt.quadratic.program import QuadraticProgram, Solution
from sciopt.quadratic.working_set import Arrays

# A factor model with more variables than this per factor goes to the dual.
WIDE = 8


def solve(program: QuadraticProgram, start: Float[Tensor, " n"] | None = None) -> Solution:
    """The minimiser with its certificate.

    Dense, returns and shrinkage forms go to the block active set, wide factor models to Newton's
    method on the dual.

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
        found = solve_factor_model(program, start)
        return as_solution(program, found)
    arrays = Arrays.of(program)
    if start is None:
        working, point = first_guess(arrays)
    else:
        lower, upper = arrays.pieces.breakpoints[[0, -1]]
        point = np.clip(start.numpy(force=True).astype(np.float64), lower, upper)
        working = working_set_at(arrays, point)
    return as_solution(program, optimum(program, arrays, working, point))


def as_solution(program: QuadraticProgram, found: Optimum) -> Solution:
    """The optimum with names, on the program's device."""
    arrays, at, point = found.arrays, found.at, found.at.point
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
    parts = arrays.pieces
    slopes, (lower, upper) = parts.slopes_with(at.limits), parts.breakpoints[[0, -1]]
    # The slope on the inner side of each bound; a kink outside of the bounds lies on them here. A
    # variable that is fixed has no inner side.
    above, below = slopes[parts.right[0], parts.each], slopes[parts.left[-1], parts.each]
    above, below = np.where(lower < upper, [above, below], slopes[[1, -2]])
    at_bound = np.where(point == lower, found.reduced + above, 0)
    at_bound = np.where(point == upper, found.reduced + below, at_bound)
    return Solution(
        point=torch.from_numpy(point).to(program.device),
        objective=found.objective,
        gap=found.gap,
        relative_gap=found.gap / found.scale,
        residual=float(violation.max(initial=0)),
        multipliers=multipliers,
        reduced_cost=torch.from_numpy(at_bound).to(program.device),
        iterations=found.passes,
    )
