"""Rates that listen to surprise, the size of a temporal-difference error."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from sciopt.rates.averages import newest_weight


def surprise_rate(
    td_error: Float[Tensor, "*batch"], coefficient: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch"]:
    """The rate c |td_error|: a big surprise is learnt fast.

    The tabular update then is c |d| d. It overshoots the target by more than it was away from it,
    and so grows, exactly when |d| > 2 / c; from there the error more than squares at every visit.
    c has the unit 1 / reward: with rewards scaled the rule is another one.
    """
    return coefficient * td_error.abs()


def mean_square(
    previous: Float[Tensor, "*batch"],
    td_error: Float[Tensor, "*batch"],
    count: Real[Tensor, "*batch"],
    memory: float,
) -> Float[Tensor, "*batch"]:
    """Moving average of td_error^2 that counts the present error, the `count`-th (from 1).

    The plain mean until `count` reaches 1 / memory, exponential forgetting with weight `memory`
    after that.
    """
    weight = newest_weight(count.to(td_error.dtype), memory)
    return previous + weight * (td_error.square() - previous)


def relative_surprise(
    td_error: Float[Tensor, "*batch"], mean_square: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The unit-free surprise |td_error| / sqrt(mean_square), and 0 where nothing ever surprised.

    With a `mean_square` that counts the present error it is at most 1 / sqrt(memory).
    """
    scale = mean_square.sqrt()
    return torch.where(scale > 0, td_error.abs() / scale, 0.0)
