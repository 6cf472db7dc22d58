"""Rates of single samples, which weight the terms of the loss before they are summed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Real, check_range


def confidence_weights(
    probability: Float[Tensor, "*batch"], power: Real
) -> Float[Tensor, "*batch"]:
    """Weights p^power of the probability p that the network gives each label, without its graph.

    The weighted sum of cross-entropies has the gradient of the generalised cross-entropy, the sum
    of (1 - p^power) / power (Zhang & Sabuncu 2018, arXiv 1805.07836). Power 0 is cross-entropy,
    1 the mean absolute error, which forgives wrong labels and learns slowly.

    Raises:
        ValueError: a negative power.
    """
    check_range("power", power)
    return probability.detach() ** power
