"""A rate per parameter, itself learnt by gradient descent on the TD error: AutoTIDBD."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def normalised_meta_step(
    rate: Float[Tensor, "*batch"],
    correlation: Float[Tensor, "*batch"],
    largest: Float[Tensor, "*batch"],
    meta_rate: float,
) -> Float[Tensor, "*batch"]:
    """The rate times exp(meta_rate * correlation / largest), never more than exp(meta_rate).

    `correlation` is td_error * feature * (decaying sum of past updates) and `largest` the largest
    of its sizes, slowly forgotten. Mahmood, Sutton, Degris and Pilarski (2012), "Tuning-free
    step-size adaptation"; with traces Kearney et al. (2019, arXiv 1903.03252), AutoTIDBD.
    """
    share = torch.where(largest > 0, correlation / largest, 0.0).clamp(-1, 1)
    return rate * (meta_rate * share).exp()


def next_largest(
    largest: Float[Tensor, "*batch"],
    correlation: Float[Tensor, "*batch"],
    forgetting: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """max(|correlation|, largest + forgetting (|correlation| - largest)), forgetting in [0, 1]."""
    size = correlation.abs()
    return torch.maximum(size, largest + forgetting * (size - largest))


def next_update_sum(
    update_sum: Float[Tensor, "*batch"],
    update: Float[Tensor, "*batch"],
    taken_away: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """update_sum * max(0, 1 - taken_away) + update: how past rates have moved the parameter now.

    `taken_away` = rate * feature * trace is the fraction of its error the update takes away.
    """
    return update_sum * (1 - taken_away).clamp(min=0) + update
