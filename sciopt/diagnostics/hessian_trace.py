"""The trace of a loss's Hessian, estimated from products with random signs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from sciopt.diagnostics.hessian_product import Loss, differentiable, hessian_product
from sciopt.diagnostics.untouched import untouched


class HessianTrace(NamedTuple):
    """The estimate and its standard error, both in units of loss / parameter^2."""

    trace: float
    standard_error: float


def hessian_trace(
    loss_fn: Loss,
    params: Iterable[Tensor],
    samples: int = 64,
    generator: torch.Generator | None = None,
) -> HessianTrace:
    """The trace tr H = E[z' H z] over random signs z (Hutchinson 1990).

    Each sample costs one product with the Hessian. Its variance is 2 sum of the squared entries
    off the diagonal, so that a diagonal Hessian's trace is exact.

    Args:
        loss_fn: evaluates the loss; see `Loss`. It is evaluated once.
        params: the parameters the Hessian is taken with respect to.
        samples: products with the Hessian, at least two.
        generator: of the signs; one with a fixed seed if not given.

    Raises:
        ValueError: as `top_hessian_eigenvalues`, or fewer than two samples.
    """
    params = differentiable(params)
    if samples < 2:
        raise ValueError(f"a standard error needs two samples or more, got samples = {samples}")
    generator = generator or torch.Generator().manual_seed(0)
    size, like = sum(param.numel() for param in params), params[0]
    drawn = []
    with untouched(params):
        product = hessian_product(loss_fn, params)
        for _ in range(samples):
            bits = torch.randint(2, (size,), device=generator.device, generator=generator)
            signs = (2 * bits - 1).to(like)
            drawn.append((signs.double() * product(signs).double()).sum())
    estimates = torch.stack(drawn)
    return HessianTrace(float(estimates.mean()), float(estimates.std()) / samples**0.5)
