"""Ways to find the x of least |J x - w|² + damping |x|² for many dampings: one class each.

Each is made of one Jacobian and answers `damped(damping)`: a function of w and Jᵀw, or None where
the matrix is not positive definite in floating point. `factorization` chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import get_blas_funcs
from torch import Tensor

Vector = Float[Tensor, " params"]
Residual = Float[Tensor, " residuals"]
Matrix = Float[Tensor, "residuals params"]
Solve = Callable[[Residual, Vector], Vector]
Inverse = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]


@runtime_checkable
class Factorization(Protocol):
    """A Jacobian prepared for many dampings; `scale` is the trace of JᵀJ."""

    scale: float

    def damped(self, damping: float) -> Solve | None:
        """Solver of the system with this damping; None if it cannot be solved."""
        ...


def gram(tall: Float[Tensor, "m n"]) -> Float[Tensor, "n n"]:
    """AᵀA, of which only the lower triangle is filled on a CPU: that is half the work."""
    if tall.device.type != "cpu":
        return tall.T @ tall
    array = tall.numpy()
    (rank_update,) = get_blas_funcs(("syrk",), (array,))
    # BLAS reads by columns: to it, A stored by rows is Aᵀ.
    if array.flags.f_contiguous:
        product = rank_update(1.0, array, trans=1, lower=1)
    else:
        product = rank_update(1.0, np.ascontiguousarray(array).T, lower=1)
    return torch.from_numpy(product)


class Gram:
    """(AᵀA + damping I)⁻¹ of a tall A, by Cholesky of AᵀA.

    Where the damping is no larger than the rounding errors of AᵀA, by QR of A stacked on
    √damping I, which does not square the condition number. That is some five times the price.
    """

    def __init__(self, tall: Float[Tensor, "m n"]) -> None:
        self.tall = tall
        self.gram = gram(tall)
        self.scale = float(self.gram.diagonal().sum())
        self.rounding = torch.finfo(tall.dtype).eps * self.scale

    @cached_property
    def triangle(self) -> Float[Tensor, "n n"]:
        """R of A = Q R."""
        return torch.linalg.qr(self.tall, mode="r").R

    def inverse(self, damping: float) -> Inverse | None:
        """Two triangular solves; None where the matrix is not positive definite."""
        if damping <= self.rounding:
            return stacked_qr(self.triangle, damping)
        return cholesky(self.gram, damping)


def cholesky(matrix: Float[Tensor, "n n"], damping: float) -> Inverse | None:
    """(matrix + damping I)⁻¹ by its lower factor. Only the lower triangle is read."""
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    return None if failed else lambda b: triangular(factor, b, upper=False)


def stacked_qr(triangle: Float[Tensor, "n n"], damping: float) -> Inverse:
    """(RᵀR + damping I)⁻¹ by QR of R stacked on √damping I."""
    ridge = damping**0.5 * torch.eye(len(triangle), dtype=triangle.dtype, device=triangle.device)
    factor = torch.linalg.qr(torch.cat([triangle, ridge]), mode="r").R
    return lambda b: triangular(factor, b, upper=True)


def triangular(
    factor: Float[Tensor, "n n"], b: Float[Tensor, " n"], upper: bool
) -> Float[Tensor, " n"]:
    """(L Lᵀ)⁻¹ b or, if upper, (RᵀR)⁻¹ b; the signs of the diagonal do not matter."""
    return torch.cholesky_solve(b.unsqueeze(1), factor, upper=upper).squeeze(1)


class NormalEquations:
    """(JᵀJ + damping I)⁻¹ Jᵀw: for more residuals than params.

    What QR finds is refined with the residual w - J x itself (corrected seminormal equations:
    Björck 1996, "Numerical Methods for Least Squares Problems", section 6.6.5). From Jᵀw alone
    the digits lost in forming it would not come back.
    """

    def __init__(self, jacobian: Matrix) -> None:
        self.jacobian = jacobian
        self.gram = Gram(jacobian)
        self.scale = self.gram.scale

    def damped(self, damping: float) -> Solve | None:
        """Two triangular solves; with QR, twice."""
        inverse = self.gram.inverse(damping)
        if inverse is None:
            return None
        if damping > self.gram.rounding:
            return lambda _, pulled: inverse(pulled)
        return lambda w, pulled: self._corrected(inverse, damping, w, pulled)

    def _corrected(self, inverse: Inverse, damping: float, w: Residual, pulled: Vector) -> Vector:
        x = inverse(pulled)
        return x + inverse(self.jacobian.T @ (w - self.jacobian @ x) - damping * x)


class SampleSpace:
    """Jᵀ (JJᵀ + damping I)⁻¹ w: for fewer residuals than params.

    The seminormal equations of a least norm need no correction (Björck 1996, section 6.6.5).
    """

    def __init__(self, jacobian: Matrix) -> None:
        self.jacobian = jacobian
        self.gram = Gram(jacobian.T)
        self.scale = self.gram.scale

    def damped(self, damping: float) -> Solve | None:
        """Two triangular solves and a product with Jᵀ."""
        inverse = self.gram.inverse(damping)
        return None if inverse is None else lambda w, _: self.jacobian.T @ inverse(w)


class Sketched:
    """The system of a random sketch S J C, for Jacobians whose Gram matrix is too large or slow.

    S adds up rows and C combines columns with random signs, each into the numbers given
    (CountSketch: Clarkson & Woodruff 2013, "Low rank approximation and regression in input
    sparsity time"). S changes the matrix only: Jᵀw is that of all rows, so that steps descend. With
    C, the step is the best one within a random subspace, another each time.
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
        all_rows = len(sketch) == len(jacobian)
        self.inner = factorization(sketch) if all_rows else OtherGradient(sketch)
        self.scale = self.inner.scale

    def _gather(self, rows: Tensor) -> Tensor:
        """The rows times C."""
        result = rows.new_zeros(*rows.shape[:-1], self.columns)
        return result.index_add_(rows.ndim - 1, self.buckets, rows * self.factors)

    def damped(self, damping: float) -> Solve | None:
        """C (CᵀJᵀSᵀSJC + damping I)⁻¹ Cᵀ Jᵀw."""
        inner = self.inner.damped(damping)
        if inner is None or not self.combines:
            return inner
        return lambda w, pulled: inner(w, self._gather(pulled))[self.buckets] * self.factors


class OtherGradient:
    """(BᵀB + damping I)⁻¹ Jᵀw, where B = S J is not the matrix that the gradient is of.

    With fewer rows than columns by Woodbury's identity, (I - Bᵀ (BBᵀ + damping I)⁻¹ B) / damping.
    """

    def __init__(self, sketch: Float[Tensor, "rows params"]) -> None:
        self.sketch = sketch
        self.wide = len(sketch) < sketch.shape[1]
        self.gram = Gram(sketch.T if self.wide else sketch)
        self.scale = self.gram.scale

    def damped(self, damping: float) -> Solve | None:
        """Two triangular solves."""
        inverse, sketch = self.gram.inverse(damping), self.sketch
        if inverse is None:
            return None
        if not self.wide:
            return lambda _, pulled: inverse(pulled)
        return lambda _, pulled: (pulled - sketch.T @ inverse(sketch @ pulled)) / damping


def _hashed(
    count: int, buckets: int, like: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A bucket and a sign for each of `count` things."""
    drawn = torch.randint(buckets, (count,), generator=generator)
    signs = 2 * torch.randint(2, (count,), generator=generator) - 1
    return drawn.to(like.device), signs.to(like)


def factorization(jacobian: Matrix) -> NormalEquations | SampleSpace:
    """The one with the smaller Gram matrix."""
    residuals, params = jacobian.shape
    return NormalEquations(jacobian) if residuals >= params else SampleSpace(jacobian)
