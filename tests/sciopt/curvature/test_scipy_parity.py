"""The same minima as SciPy for as many evaluations, on the problems of Moré, Garbow & Hillstrom."""

import math
import statistics
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
import torch
from more_garbow_hillstrom import PROBLEMS, Problem
from scipy.optimize import least_squares, minimize
from torch import Tensor

from sciopt.curvature.descent import Descent, Stopped
from sciopt.curvature.lbfgs import LBFGS
from sciopt.curvature.self_scaled_broyden import SelfScaledBroyden

# Where both end at a minimum to all digits that matter: at SciPy's own 1e-5 several problems end
# anywhere in a flat valley, and the count is one of luck.
TOLERANCE = 1e-8
METHODS: dict[str, tuple[str, dict[str, float], Callable[[list[Tensor]], Descent]]] = {
    "L-BFGS": (
        "L-BFGS-B",
        {"maxcor": 10, "ftol": 0.0, "maxfun": 10_000, "maxiter": 10_000},
        partial(LBFGS, memory=10, line_search="strong-wolfe", tolerance_gradient=TOLERANCE),
    ),
    "BFGS": (
        "BFGS",
        {"maxiter": 10_000},
        partial(SelfScaledBroyden, update="unscaled-bfgs", tolerance_gradient=TOLERANCE),
    ),
}


def evaluated(problem: Problem, at: Tensor) -> tuple[float, Tensor]:
    x = at.detach().clone().requires_grad_()
    loss = problem.loss(x)
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.item(), gradient


@cache
def scipys(method: str, name: str) -> tuple[float, int, bool]:
    """Loss, evaluations, and whether the tolerance was reached."""
    solver, options, _ = METHODS[method]
    problem = PROBLEMS[name]

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = evaluated(problem, torch.from_numpy(x))
        return loss, gradient.numpy()

    with np.errstate(all="ignore"):
        found = minimize(
            fun,
            problem.start.numpy(),
            jac=True,
            method=solver,
            options=options | {"gtol": TOLERANCE},
        )
    return float(found.fun), found.nfev, bool(np.abs(found.jac).max() <= TOLERANCE)


@cache
def ours(method: str, name: str) -> tuple[float, int, bool]:
    problem = PROBLEMS[name]
    x = problem.start.clone()
    optimizer = METHODS[method][2]([x])

    def closure() -> float:
        loss, x.grad = evaluated(problem, x)
        return loss

    loss = math.inf
    for _ in range(10_000):
        loss = optimizer.step(closure)
        if optimizer.stopped:
            break
    return loss, optimizer.evaluations, optimizer.stopped is Stopped.GRADIENT_SMALL


def agreed(method: str) -> list[str]:
    """Problems on which SciPy reaches the tolerance."""
    return [name for name in PROBLEMS if scipys(method, name)[2]]


@pytest.mark.parametrize("method", METHODS)
def test_where_scipy_converges_ours_does_and_to_the_same_minimum(method: str) -> None:
    names = agreed(method)
    assert len(names) >= 24
    for name in names:
        loss, _, converged = ours(method, name)
        assert converged, name
        assert loss == pytest.approx(scipys(method, name)[0], rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("method", METHODS)
def test_evaluations_are_those_of_scipy(method: str) -> None:
    ratios = {name: ours(method, name)[1] / scipys(method, name)[1] for name in agreed(method)}
    assert statistics.geometric_mean(ratios.values()) <= 1.1, ratios
    assert max(ratios.values()) <= 2.0, ratios


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_formulas_have_the_published_minima(name: str) -> None:
    """By Levenberg-Marquardt of MINPACK, from the published start."""
    problem = PROBLEMS[name]

    def residuals(x: np.ndarray) -> np.ndarray:
        return problem.residuals(torch.from_numpy(x)).numpy()

    def jacobian(x: np.ndarray) -> np.ndarray:
        return torch.func.jacrev(problem.residuals)(torch.from_numpy(x)).numpy()

    # The last bits decide where a start between two valleys goes: a second one may be needed.
    for nudge in (1.0, 1.01, 0.99):
        with np.errstate(all="ignore"):
            found = least_squares(
                residuals,
                nudge * problem.start.numpy(),
                jacobian,  # pyright: ignore[reportArgumentType]
                method="lm",
                xtol=1e-15,
                ftol=1e-15,
                gtol=1e-15,
                max_nfev=20_000,
            )
        loss = 2 * found.cost
        if any(loss == pytest.approx(each, rel=1e-5, abs=1e-12) for each in problem.minima):
            return
    pytest.fail(f"no published minimum is reached; the last run ended at {loss}")
