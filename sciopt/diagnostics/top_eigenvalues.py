"""Sharpness: the largest eigenvalues of a loss's Hessian."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.diagnostics.hessian_product import (
    Loss,
    Product,
    differentiable,
    hessian_product,
    unflat,
)
from sciopt.diagnostics.lanczos import Eigenpairs, Lanczos
from sciopt.diagnostics.untouched import untouched


class HessianEigenvalues(NamedTuple):
    """Eigenvalues, most extreme first; `vectors[k]` has one tensor per parameter and unit length.

    `residuals` are the norms |H v - value v| but for round-off of the parameters' dtype: an
    eigenvalue lies at most that far from `value`.
    """

    values: Float[np.ndarray, " count"]
    vectors: list[list[Tensor]]
    residuals: Float[np.ndarray, " count"]


def top_hessian_eigenvalues(
    loss_fn: Loss,
    params: Iterable[Tensor],
    count: int = 1,
    *,
    largest: bool = True,
    tolerance: float | None = None,
    basis_size: int = 100,
    max_products: int = 1000,
    generator: torch.Generator | None = None,
) -> HessianEigenvalues:
    """The `count` largest eigenvalues of the Hessian of the loss, by Lanczos iteration.

    The loss is evaluated once; a product with the Hessian costs about two gradients, and a
    handful to a few dozen of them are needed. Layers without a second derivative (cuDNN's
    recurrent ones, flash attention, compiled modules) must be replaced by their plain versions.

    Args:
        loss_fn: evaluates the loss; see `Loss`.
        params: the parameters the Hessian is taken with respect to.
        count: how many eigenvalues, counting copies.
        largest: the largest, or else the smallest, which are negative at a saddle.
        tolerance: of residuals, relative to the largest |eigenvalue|; the machine precision to
            the power 2/3 if not given. An isolated eigenvalue is exact to its square.
        basis_size: vectors of the parameters' size kept at once, before a restart.
        max_products: limit of products with the Hessian; a warning says that it was reached.
        generator: of the start vector; one with a fixed seed if not given.

    Raises:
        ValueError: no parameters, one that needs no gradient, a loss without graph or with
            several elements, a count out of range.
    """
    params = differentiable(params)
    size = sum(param.numel() for param in params)
    if not 1 <= count <= size:
        raise ValueError(f"count must be 1 to {size}, the number of elements, got {count}")
    with untouched(params):
        product = hessian_product(loss_fn, params)
        signed = product if largest else lambda vector: -product(vector)
        pairs = top_eigenpairs(
            signed, params[0], size, count, tolerance, basis_size, max_products, generator
        )
    return HessianEigenvalues(
        pairs.values if largest else -pairs.values,
        [unflat(vector, params) for vector in pairs.vectors],
        pairs.residuals,
    )


def top_eigenpairs(
    product: Product,
    like: Tensor,
    size: int,
    count: int = 1,
    tolerance: float | None = None,
    basis_size: int = 100,
    max_products: int = 1000,
    generator: torch.Generator | None = None,
) -> Eigenpairs:
    """The top eigenpairs of a product of vectors of dtype and device of `like`."""
    generator = generator or torch.Generator().manual_seed(0)

    def draw() -> Float[Tensor, " n"]:
        return torch.randn(size, dtype=like.dtype, device=generator.device, generator=generator).to(
            like.device
        )

    relative = torch.finfo(like.dtype).eps ** (2 / 3) if tolerance is None else tolerance
    return Lanczos(product, draw, relative, max(basis_size, count + 2), max_products).top(count)
