"""Parameters of any shapes as one vector, in which curvature is written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.checks import dense_gradients
from sciopt.engine.packed import cut


def values_of(params: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """A copy of all elements, one parameter after the other."""
    return torch.cat([param.detach().reshape(-1) for param in params])


def gradient_of(params: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """A copy of all gradients; zero where a parameter has none."""
    gradients = zip(params, dense_gradients(params), strict=True)
    return torch.cat(
        [(torch.zeros_like(p) if grad is None else grad).reshape(-1) for p, grad in gradients]
    )


def move(
    params: Sequence[Tensor],
    start: Float[Tensor, " n"],
    direction: Float[Tensor, " n"],
    step_size: float,
) -> None:
    """In place, params = start + step_size * direction."""
    parts = zip(params, cut(start, params), cut(direction, params), strict=True)
    for param, from_here, along in parts:
        torch.add(from_here, along, alpha=step_size, out=param)
