"""The gradient noise scale: the batch size from which on larger batches stop to help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sciopt.diagnostics.hessian_product import differentiable, evaluated, flat
from sciopt.diagnostics.untouched import untouched

Batch = TypeVar("Batch")


class GradientNoise(NamedTuple):
    """tr S / |G|^2 and its parts; S is one sample's gradient covariance, G the true gradient.

    Both parts are unbiased and their quotient is not: average the parts over steps, then divide.
    `squared_norm` can come out negative where noise outweighs all samples; then `scale` is inf.
    """

    scale: float
    covariance_trace: float
    squared_norm: float


def gradient_noise_scale(
    loss_fn: Callable[[Batch], Tensor],
    params: Iterable[Tensor],
    batches: Sequence[Batch],
    batch_size: int,
) -> GradientNoise:
    """The simple noise scale tr S / |G|^2 in samples (McCandlish et al. 2018, appendix A.1).

    From the mean |g|^2 of the small batches and the |g|^2 of their union, whose expectations are
    |G|^2 + tr S / size. Batches of one sample give the most precise numbers, larger ones those
    that a training loop has at hand.

    Args:
        loss_fn: the mean loss of a batch; see `Loss`.
        params: the parameters.
        batches: two or more, of samples drawn independently.
        batch_size: samples in each.

    Raises:
        ValueError: fewer than two batches, an empty batch, and as `top_hessian_eigenvalues`.
    """
    params = differentiable(params)
    if len(batches) < 2 or batch_size < 1:
        raise ValueError(
            f"got {len(batches)} batches of {batch_size} samples; expected two or more batches of "
            "one sample or more"
        )
    size = sum(param.numel() for param in params)
    mean = torch.zeros(size, dtype=torch.float64, device=params[0].device)
    deviation = torch.zeros_like(mean[0])
    with untouched(params):
        for count, batch in enumerate(batches, 1):
            loss = evaluated(lambda batch=batch: loss_fn(batch))
            gradient = flat(torch.autograd.grad(loss, params, materialize_grads=True), mean)
            # Welford's update: squares of large means would cancel in a small variance.
            change = gradient - mean
            mean += change / count
            deviation += change @ (gradient - mean)
    covariance_trace = batch_size * float(deviation) / (len(batches) - 1)
    squared_norm = float(mean @ mean) - covariance_trace / (batch_size * len(batches))
    scale = covariance_trace / squared_norm if squared_norm > 0 else float("inf")
    return GradientNoise(scale, covariance_trace, squared_norm)
