"""Rates that listen to how far an error's mean stands out of its size: signal against noise."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def tracking_signal(
    mean: Float[Tensor, "*batch"], mean_size: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """|mean of errors| / mean of |errors|, in [0, 1]; 0 where there was none.

    Trigg and Leach (1967), "Exponential smoothing with an adaptive response rate". Errors of one
    sign give 1; of noise the rate falls to a floor of about the square root of the memory.
    """
    return torch.where(mean_size > 0, mean.abs() / mean_size, 0.0)


def signal_share(
    mean: Float[Tensor, "*batch"], mean_square: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """(mean of errors)^2 / mean of errors^2, in [0, 1]; 0 where there was none.

    The rate of vSGD for a quadratic of curvature 1 (Schaul, Zhang and LeCun 2013, arXiv
    1206.1106, equation 8).
    """
    return torch.where(mean_square > 0, mean.square() / mean_square, 0.0)


def share_memory(
    memory: Float[Tensor, "*batch"], share: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """How many errors vSGD's averages look back after this one: (1 - share) memory + 1."""
    return (1 - share) * memory + 1


def bias_adjusted_gain(
    mean: Float[Tensor, "*batch"],
    mean_square: Float[Tensor, "*batch"],
    spread: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """The optimal stepsize 1 - noise / ((1 + spread) noise + bias^2), bias and noise measured.

    bias^2 = mean^2 and noise = (mean_square - mean^2) / (1 + spread), where `spread` is
    `averages.next_spread` of the steps so far. George and Powell (2006), "Adaptive stepsizes for
    recursive estimation", BAKF of section 4.
    """
    bias = mean.square()
    noise = (mean_square - bias).clamp(min=0) / (1 + spread)
    total = (1 + spread) * noise + bias
    return torch.where(total > 0, (spread * noise + bias) / total, 0.0)
