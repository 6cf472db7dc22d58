"""CVXPY's answer: a method at the solver's default tolerances, the reference at tight ones."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float

from applications.portfolio.problems import Problem, Program, pose


def clarabel_weights(
    program: Program, *, tolerance: float, objective_scale: float = 1.0
) -> Float[np.ndarray, " assets"]:
    """Weights that minimise f / objective_scale, by CVXPY with Clarabel.

    An interior point misses the simplex by a few ulps; negative weights are set to zero and the
    rest divided by their sum.

    Raises:
        cvxpy.SolverError: Clarabel failed or fell short of the tolerance.
    """
    # Here because it takes a second, which `list` need not wait for.
    import cvxpy

    covariance = program.covariance.cpu().numpy() * (program.risk_aversion / objective_scale)
    reward = program.mean.cpu().numpy() * (program.return_weight / objective_scale)
    weights = cvxpy.Variable(len(reward), nonneg=True)
    # psd_wrap: with fewer days than assets round-off makes the least eigenvalue negative.
    variance = cvxpy.quad_form(weights, cvxpy.psd_wrap(covariance))
    budget = cvxpy.sum(weights) == 1
    problem = cvxpy.Problem(
        cvxpy.Minimize(0.5 * variance - reward @ weights),
        [budget],  # pyright: ignore[reportArgumentType]  (CVXPY types == as bool)
    )
    problem.solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance
    )
    if problem.status != cvxpy.OPTIMAL:
        raise cvxpy.SolverError(f"{problem.status} at tolerance {tolerance:g}")
    clipped = np.asarray(weights.value).clip(0)
    return clipped / clipped.sum()


@lru_cache(maxsize=256)
def reference_weights(problem: Problem) -> Float[np.ndarray, " assets"]:
    """The problem's solution, to a relative duality gap of about 1e-12.

    Clarabel's tolerances are absolute as well as relative, and the objective of daily returns
    is about 1e-4, so that only one divided by its scale makes 1e-12 mean what it says.
    """
    posed = pose(problem, torch.device("cpu"))
    equal = torch.full_like(posed.mean, 1 / len(posed.assets))
    weights = clarabel_weights(posed, tolerance=1e-12, objective_scale=posed.scale(equal).item())
    weights.setflags(write=False)
    return weights
