"""Jacobians of residuals that torch can differentiate: whole, or as products only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.curvature.flat import cut
from sciopt.curvature.normal_equations import Solve, Vector

# Rows differentiated at once by `whole`: more are faster until memory is short.
ROWS_AT_ONCE = 256


def whole(
    residual: Float[Tensor, " residuals"], params: Sequence[Tensor]
) -> Float[Tensor, "residuals params"]:
    """D residual / d params, one reverse sweep per residual, many sweeps at once."""
    blocks = []
    for rows in torch.arange(len(residual), device=residual.device).split(ROWS_AT_ONCE):
        seeds = torch.zeros(len(rows), len(residual)).to(residual)
        seeds[torch.arange(len(rows)), rows] = 1.0
        found = torch.autograd.grad(
            residual,
            params,
            seeds,
            retain_graph=True,
            is_grads_batched=True,
            allow_unused=True,
            materialize_grads=True,
        )
        blocks.append(torch.cat([block.reshape(len(rows), -1) for block in found], dim=1))
    return torch.cat(blocks)


class MatrixFree:
    """(JᵀJ + damping I) x = b by conjugate gradients, from products with J and Jᵀ alone.

    J v is the derivative of Jᵀw by w in direction v (reverse mode twice: Pearlmutter 1994). Ends at
    the relative residual `tolerance` or after `iterations`; the step is then an inexact Newton step.
    """

    def __init__(
        self,
        residual: Float[Tensor, " residuals"],
        params: Sequence[Tensor],
        iterations: int,
        tolerance: float = 1e-8,
    ) -> None:
        self.residual, self.params = residual, params
        self.iterations, self.tolerance = iterations, tolerance
        with torch.enable_grad():
            self.seed = torch.zeros_like(residual, requires_grad=True)
            self.pulled = torch.autograd.grad(
                residual, params, self.seed, create_graph=True, materialize_grads=True
            )
        pulled = self.transposed_product(residual.detach())
        # A lower bound of the largest eigenvalue of JJᵀ.
        self.scale = float(pulled @ pulled / (residual @ residual))

    def product(self, v: Vector) -> Float[Tensor, " residuals"]:
        """J v."""
        along = cut(v, self.params)
        (result,) = torch.autograd.grad(
            self.pulled, self.seed, along, retain_graph=True, materialize_grads=True
        )
        return result

    def transposed_product(self, w: Float[Tensor, " residuals"]) -> Vector:
        """Jᵀ w."""
        found = torch.autograd.grad(
            self.residual, self.params, w, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in found])

    def damped(self, damping: float) -> Solve:
        """Conjugate gradients from zero."""

        def solve(b: Vector) -> Vector:
            x, r = torch.zeros_like(b), b.clone()
            direction, square = r.clone(), r @ r
            enough = self.tolerance**2 * float(square)
            for _ in range(self.iterations):
                if float(square) <= enough:
                    break
                image = self.transposed_product(self.product(direction)) + damping * direction
                size = square / (direction @ image)
                x += size * direction
                r -= size * image
                square, previous = r @ r, square
                direction = r + square / previous * direction
            return x

        return solve
