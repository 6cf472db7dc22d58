"""Ways to solve (JᵀJ + damping I) x = b for many dampings: one class each.

Each is made of one Jacobian and answers `damped(damping)`: a function of b, or None where the
matrix is not positive definite in floating point. `factorization` chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg.blas import dsyrk, ssyrk
from torch import Tensor

Vector = Float[Tensor, " params"]
Matrix = Float[Tensor, "residuals params"]
Solve = Callable[[Vector], Vector]


class Factorization(Protocol):
    """A Jacobian prepared for many dampings; `scale` is the trace of JᵀJ."""

    scale: float

    def damped(self, damping: float) -> Solve | None:
        """Solver of the system with this damping; None if it cannot be solved."""
        ...


def gram(jacobian: Matrix) -> Float[Tensor, "params params"]:
    """JᵀJ, of which only the lower triangle is filled on a CPU: that is half the work."""
    if jacobian.device.type != "cpu":
        return jacobian.T @ jacobian
    rank_update = dsyrk if jacobian.dtype == torch.float64 else ssyrk
    # BLAS reads by columns: to it, J as torch stores it is Jᵀ.
    transposed: np.ndarray = jacobian.contiguous().numpy().T
    return torch.from_numpy(rank_update(1.0, transposed, lower=1))


def cholesky(matrix: Float[Tensor, "n n"], damping: float) -> Float[Tensor, "n n"] | None:
    """The lower factor of matrix + damping I, of which the lower triangle is read."""
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    return None if failed else factor


def cholesky_solve(factor: Float[Tensor, "n n"], b: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The solution of L Lᵀ x = b."""
    return torch.cholesky_solve(b.unsqueeze(1), factor).squeeze(1)


class NormalEquations:
    """Cholesky of JᵀJ + damping I: for more residuals than params.

    Where the damping is no larger than the rounding errors of JᵀJ, `StackedQR` takes over.
    """

    def __init__(self, jacobian: Matrix) -> None:
        self.jacobian = jacobian
        self.gram = gram(jacobian)
        self.scale = float(self.gram.diagonal().sum())
        self.rounding = torch.finfo(jacobian.dtype).eps * self.scale

    @cached_property
    def stacked(self) -> StackedQR:
        """The same Jacobian without squaring its condition number."""
        return StackedQR(self.jacobian)

    def damped(self, damping: float) -> Solve | None:
        """Two triangular solves."""
        if damping <= self.rounding:
            return self.stacked.damped(damping)
        factor = cholesky(self.gram, damping)
        return None if factor is None else lambda b: cholesky_solve(factor, b)


class SampleSpace:
    """(b - Jᵀ (JJᵀ + damping I)⁻¹ J b) / damping: for fewer residuals than params.

    Loses digits as damping falls below the rounding error of JJᵀ; `refined` gets them back.
    """

    def __init__(self, jacobian: Matrix) -> None:
        self.jacobian = jacobian
        self.gram = gram(jacobian.T)
        self.scale = float(self.gram.diagonal().sum())

    def damped(self, damping: float) -> Solve | None:
        """Woodbury's identity."""
        factor = cholesky(self.gram, damping)
        if factor is None:
            return None
        jacobian = self.jacobian

        def solve(b: Vector) -> Vector:
            return (b - jacobian.T @ cholesky_solve(factor, jacobian @ b)) / damping

        return refined(solve, jacobian, damping)


class StackedQR:
    """QR of J stacked on √damping I, which does not square the condition number.

    J is reduced to its own triangle once. The normal equations of the triangle are refined with
    the residual in J itself (corrected seminormal equations: Björck 1996, "Numerical Methods for
    Least Squares Problems", section 6.6.5). Some five times the price of Cholesky.
    """

    def __init__(self, jacobian: Matrix) -> None:
        self.jacobian = jacobian
        self.triangle = torch.linalg.qr(jacobian, mode="r").R
        self.scale = float(jacobian.square().sum())

    def damped(self, damping: float) -> Solve | None:
        """Two triangular solves, twice."""
        count = self.jacobian.shape[1]
        ridge = damping**0.5 * torch.eye(count).to(self.jacobian)
        triangle = torch.linalg.qr(torch.cat([self.triangle, ridge]), mode="r").R
        if not bool((triangle.diagonal() != 0).all()):
            return None

        def solve(b: Vector) -> Vector:
            half = torch.linalg.solve_triangular(triangle.T, b.unsqueeze(1), upper=False)
            return torch.linalg.solve_triangular(triangle, half, upper=True).squeeze(1)

        return refined(solve, self.jacobian, damping)


class Sketched:
    """The system of a random sketch S J C, for Jacobians whose Gram matrix is too large or slow.

    S adds up rows and C combines columns with random signs, each into the numbers given
    (CountSketch: Clarkson & Woodruff 2013, "Low rank approximation and regression in input
    sparsity time"). With C, the step is the best one within a random subspace, another each time.
    """

    def __init__(
        self,
        jacobian: Matrix,
        rows: int | None,
        columns: int | None,
        generator: torch.Generator,
    ) -> None:
        sketch = jacobian
        if rows is not None and rows < len(sketch):
            buckets, signs = _hashed(len(sketch), rows, sketch, generator)
            sketch = sketch.new_zeros(rows, sketch.shape[1]).index_add_(
                0, buckets, sketch * signs.unsqueeze(1)
            )
        params = sketch.shape[1]
        self.columns = min(columns or params, params)
        self.combines = self.columns < params
        if self.combines:
            self.buckets, signs = _hashed(params, self.columns, sketch, generator)
            # Divided by the length of its column, C keeps lengths.
            gathered = torch.bincount(self.buckets, minlength=self.columns)
            self.factors = signs / gathered.to(sketch).sqrt()[self.buckets]
            sketch = self._gather(sketch)
        self.inner = factorization(sketch)
        self.scale = self.inner.scale

    def _gather(self, rows: Tensor) -> Tensor:
        result = rows.new_zeros(*rows.shape[:-1], self.columns)
        return result.index_add_(rows.ndim - 1, self.buckets, rows * self.factors)

    def damped(self, damping: float) -> Solve | None:
        """C (CᵀJᵀSᵀSJC + damping I)⁻¹ Cᵀ."""
        inner = self.inner.damped(damping)
        if inner is None or not self.combines:
            return inner
        return lambda b: inner(self._gather(b))[self.buckets] * self.factors


def _hashed(
    count: int, buckets: int, like: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A bucket and a sign for each of `count` things."""
    drawn = torch.randint(buckets, (count,), generator=generator)
    signs = 2 * torch.randint(2, (count,), generator=generator) - 1
    return drawn.to(like.device), signs.to(like)


def refined(solve: Solve, jacobian: Matrix, damping: float) -> Solve:
    """One step of iterative refinement with the residual in J itself."""

    def twice(b: Vector) -> Vector:
        x = solve(b)
        return x + solve(b - jacobian.T @ (jacobian @ x) - damping * x)

    return twice


def factorization(jacobian: Matrix) -> NormalEquations | SampleSpace:
    """The smaller of the two Gram matrices."""
    residuals, params = jacobian.shape
    return NormalEquations(jacobian) if residuals >= params else SampleSpace(jacobian)
