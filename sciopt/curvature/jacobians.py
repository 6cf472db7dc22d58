"""Jacobians of residuals that torch can differentiate: whole, or as products only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciopt.curvature.flat import move, values_of
from sciopt.curvature.normal_equations import Matrix, Residual, Solve, Vector
from sciopt.engine.packed import cut

# Rows differentiated at once by `whole`: more are faster until memory is short.
ROWS_AT_ONCE = 256


def whole(residual: Residual, params: Sequence[Tensor]) -> Matrix:
    """D residual / d params, one reverse sweep per residual, many sweeps at once."""
    jacobian = residual.new_empty(len(residual), sum(param.numel() for param in params))
    for begin in range(0, len(residual), ROWS_AT_ONCE):
        block = jacobian[begin : begin + ROWS_AT_ONCE]
        seeds = residual.new_zeros(len(block), len(residual))
        seeds.diagonal(begin).fill_(1.0)
        found = torch.autograd.grad(
            residual,
            params,
            seeds,
            retain_graph=True,
            is_grads_batched=True,
            materialize_grads=True,
        )
        # Torch leaves the zeros of a parameter that no residual depends on unbatched.
        batched = [
            part.expand(len(block), *param.shape).reshape(len(block), -1)
            for part, param in zip(found, params, strict=True)
        ]
        torch.cat(batched, dim=1, out=block)
    return jacobian


class MatrixFree:
    """The x of least |J x - w|² + damping |x|² from products with J and Jᵀ alone.

    By conjugate gradients in the form that keeps w - J x (CGLS: Björck 1996, "Numerical Methods for
    Least Squares Problems", section 7.4). They end at the relative residual `tolerance` or after
    `iterations`; the step is then an inexact Newton step. J v is the derivative of Jᵀw by w in
    direction v: reverse mode twice. Params may move between two products: they are moved back, and
    the residuals evaluated once more.
    """

    def __init__(
        self,
        closure: Callable[[], Residual],
        params: Sequence[Tensor],
        iterations: int,
        tolerance: float = 1e-8,
    ) -> None:
        self.closure, self.params, self.origin = closure, params, values_of(params)
        self.iterations, self.tolerance = iterations, tolerance
        self._record()
        along = self.residual.detach()
        # A lower bound of the largest eigenvalue of JJᵀ.
        self.scale = float(self.transposed_product(along).square().sum() / (along @ along))

    def _record(self) -> None:
        """Write the graphs of r and of Jᵀw as a function of w."""
        with torch.enable_grad():
            self.residual = self.closure()
            self.seed = torch.zeros_like(self.residual, requires_grad=True)
            self.pulled = torch.autograd.grad(
                self.residual, self.params, self.seed, create_graph=True, materialize_grads=True
            )
        self.versions = [param._version for param in self.params]

    def _return(self) -> None:
        """Be back at the origin: a graph is void once its params have been written to."""
        if self.versions != [param._version for param in self.params]:
            move(self.params, self.origin, self.origin, 0.0)
            self._record()

    def product(self, v: Vector) -> Residual:
        """J v."""
        self._return()
        # A parameter that no residual depends on has no graph to go through.
        pairs = zip(self.pulled, cut(v, self.params), strict=True)
        used, along = zip(*[pair for pair in pairs if pair[0].requires_grad], strict=True)
        return torch.autograd.grad(used, self.seed, along, retain_graph=True)[0]

    def transposed_product(self, w: Residual) -> Vector:
        """Jᵀ w."""
        self._return()
        found = torch.autograd.grad(
            self.residual, self.params, w, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in found])

    def damped(self, damping: float) -> Solve:
        """Conjugate gradients from zero."""

        def solve(w: Residual, pulled: Vector) -> Vector:
            x, left, downhill = torch.zeros_like(pulled), w.clone(), pulled
            direction, square = downhill, downhill @ downhill
            enough = self.tolerance**2 * float(square)
            for _ in range(self.iterations):
                if float(square) <= enough:
                    break
                image = self.product(direction)
                size = square / (image @ image + damping * (direction @ direction))
                x = x + size * direction
                left = left - size * image
                downhill = self.transposed_product(left) - damping * x
                square, before = downhill @ downhill, square
                direction = downhill + square / before * direction
            return x

        return solve
