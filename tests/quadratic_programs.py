"""Random programs over all forms and kinds of constraints, and CVXPY's answer to them."""

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch

from sciopt.quadratic import (
    Dense,
    FactorModel,
    Form,
    NormLimit,
    QuadraticProgram,
    Returns,
    Rows,
    Shrunk,
    quadratic_program,
)

# Each in turn until one has an answer: Clarabel fails on one random program in thousands.
SOLVERS = {
    cp.CLARABEL: {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10},
    cp.OSQP: {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iter": 200_000},
    cp.SCS: {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 200_000},
}


@dataclass(frozen=True)
class Parts:
    """A program in numbers: Q dense, everything an array."""

    covariance: np.ndarray
    linear: np.ndarray
    budget: tuple[float, float]
    lower: np.ndarray
    upper: np.ndarray
    cost: np.ndarray
    held: np.ndarray
    matrix: np.ndarray
    row_lower: np.ndarray
    row_upper: np.ndarray
    limits: tuple[tuple[np.ndarray, float], ...]
    form: Form

    @property
    def variance(self) -> float:
        """The mean of Q's diagonal, or 1 where there is no risk."""
        return float(np.trace(self.covariance)) / len(self.linear) or 1.0

    def objective(self, point: np.ndarray) -> float:
        """What is minimised, from Q itself."""
        quadratic = 0.5 * point @ self.covariance @ point
        return float(quadratic - self.linear @ point + self.cost @ abs(point - self.held))

    def violation(self, point: np.ndarray) -> float:
        """The largest amount by which a constraint fails to hold."""
        values = self.matrix @ point
        return max(
            (self.lower - point).max(),
            (point - self.upper).max(),
            self.budget[0] - point.sum(),
            point.sum() - self.budget[1],
            (self.row_lower - values).max(initial=-np.inf),
            (values - self.row_upper).max(initial=-np.inf),
            *(abs(point - center).sum() - limit for center, limit in self.limits),
        )

    def program(self) -> QuadraticProgram:
        """The same in the library's words."""
        count = len(self.matrix)
        rows = Rows(
            torch.tensor(self.matrix),
            torch.tensor(self.row_lower),
            torch.tensor(self.row_upper),
            tuple(f"row {j}" for j in range(count)),
        )
        return quadratic_program(
            self.form,
            self.linear,
            budget=self.budget if self.budget[0] < self.budget[1] else self.budget[0],
            lower=self.lower,
            upper=self.upper,
            cost=self.cost,
            held=self.held,
            rows=rows if count else None,
            norm_limits=[
                NormLimit(torch.tensor(center), limit, f"limit {j}")
                for j, (center, limit) in enumerate(self.limits)
            ],
        )


def random_parts(seed: int, most: int = 40) -> Parts:
    """A program of 2 to `most` variables; about one in ten has no feasible point."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, most))
    covariance, form = random_form(rng, n)
    count = int(rng.choice([0, 0, 1, 3, 6]))
    zero_one = rng.choice([0.0, 1.0], size=(count, n))
    general = rng.normal(size=(count, n)) * (rng.random((count, 1)) < 0.5)
    matrix = np.where(rng.random((count, n)) < 0.5, zero_one, general)
    near = matrix @ rng.dirichlet(np.ones(n))
    slack = rng.choice([0.0, 0.05], size=(2, count))
    open_ended = rng.random((2, count)) < 0.5
    costs = rng.random() < 0.4
    held = rng.dirichlet(np.ones(n)) * (rng.random(n) < 0.7) * costs
    limits = [(np.zeros(n), rng.uniform(1, 1.6)), (held, rng.uniform(0.2, 1.5))]
    unbounded = rng.random() < 0.15
    return Parts(
        covariance,
        rng.normal(size=n) * 1e-4 * rng.choice([0, 1, 1, 10]),
        (1.0, 1.0) if rng.random() < 0.5 else (0.5, 1.0),
        np.full(n, -np.inf if unbounded else rng.choice([0, -0.2, -0.05])),
        np.full(n, rng.choice([np.inf, 0.5, 2 / n + 0.05])),
        rng.uniform(0, 2e-4, n) * costs,
        held,
        matrix,
        np.where(open_ended[0], -np.inf, near - slack[0]),
        np.where(open_ended[1], np.inf, near + slack[1]),
        tuple((center, float(limit)) for center, limit in limits if rng.random() < 0.3),
        form,
    )


def random_form(rng: np.random.Generator, n: int) -> tuple[np.ndarray, Form]:
    """Q of daily variances in one of the forms; the last kind has an asset twice."""
    days = int(rng.integers(max(2, n // 2), 3 * n + 2))
    mixed = np.eye(n) + 0.3 * rng.normal(size=(n, n))
    returns = rng.normal(size=(days, n)) @ mixed * 0.01 / days**0.5
    target = rng.uniform(1e-5, 1e-4, n)
    match rng.integers(5):
        case 0:
            ridge = float(rng.choice([0, 1e-6]))
            covariance = returns.T @ returns + ridge * np.eye(n)
            return covariance, Returns(torch.tensor(returns), ridge)
        case 1:
            share = float(rng.uniform(0, 1))
            dense = returns.T @ returns
            covariance = (1 - share) * dense + share * np.diag(target)
            return covariance, Shrunk(Dense(torch.tensor(dense)), torch.tensor(target), share)
        case 2:
            loadings = rng.normal(size=(n, max(1, n // 3))) * 0.01
            covariance = loadings @ loadings.T + np.diag(target)
            return covariance, FactorModel(torch.tensor(loadings), torch.tensor(target))
        case 3:
            returns[:, n // 2] = returns[:, 0]
    covariance = returns.T @ returns
    return covariance, Dense(torch.tensor(covariance))


def by_cvxpy(parts: Parts) -> tuple[str, float]:
    """Status and least objective by CVXPY, variances scaled to one."""
    point = cp.Variable(len(parts.linear))
    values, vectors = np.linalg.eigh(parts.covariance)
    # Eigenvalues of round-off would make an objective without end end at -1e11.
    root = (vectors * np.sqrt(np.where(values > 1e-14 * values[-1], values, 0))).T
    objective = (
        0.5 * cp.sum_squares(root @ point)
        - parts.linear @ point
        + parts.cost @ cp.abs(point - parts.held)
    )
    constraints: list[Any] = [cp.sum(point) >= parts.budget[0], cp.sum(point) <= parts.budget[1]]
    bounded = np.isfinite(parts.lower), np.isfinite(parts.upper)
    if bounded[0].any():
        constraints.append(point[bounded[0]] >= parts.lower[bounded[0]])
    if bounded[1].any():
        constraints.append(point[bounded[1]] <= parts.upper[bounded[1]])
    for row, low, high in zip(parts.matrix, parts.row_lower, parts.row_upper, strict=True):
        constraints += [row @ point >= low] if np.isfinite(low) else []
        constraints += [row @ point <= high] if np.isfinite(high) else []
    constraints += [cp.norm1(point - center) <= limit for center, limit in parts.limits]
    problem = cp.Problem(cp.Minimize(objective / parts.variance), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tolerances so tight that it just misses them
        for solver, tolerances in SOLVERS.items():
            with contextlib.suppress(cp.SolverError):
                problem.solve(solver=solver, **tolerances)
                break
        else:
            raise RuntimeError(f"no solver of CVXPY's has an answer to {parts}")
    value = problem.value if problem.value is not None else float("nan")
    return problem.status.removesuffix("_inaccurate"), float(value) * parts.variance  # pyright: ignore[reportArgumentType]
