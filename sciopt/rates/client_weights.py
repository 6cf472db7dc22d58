"""Rates of clients, whose updates are averaged with unequal noise."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def inverse_variance_weights(
    variance: Float[Tensor, "*batch clients"],
) -> Float[Tensor, "*batch clients"]:
    """Weights (1 / v) / sum(1 / v): of all means of independent, unbiased updates the least noisy.

    Its variance is 1 / sum(1 / v), that of the plain mean of n is sum(v) / n^2 (Gauss-Markov).

    Raises:
        ValueError: a variance that is not positive.
    """
    if not (variance > 0).all():
        raise ValueError(
            f"variances must be positive, got {variance.tolist()}; give a client that is exact, or "
            "of unknown noise, the variance it is believed to have"
        )
    # Over the least variance, so that none overflows.
    precision = variance.amin(-1, keepdim=True) / variance
    return precision / precision.sum(-1, keepdim=True)
