"""Activations that act on each element alone, and their slopes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Threshold,
)


def output_and_slope(
    module: nn.Module, before: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """What an elementwise module makes of `before`, and its |derivative| there.

    Neither its hooks nor the graph of `before` see the call, nor does `before` change where the
    module works in place.
    """
    with torch.enable_grad():
        leaf = before.detach().requires_grad_()
        after = module.forward(leaf.clone())
        (slope,) = torch.autograd.grad(after.sum(), leaf)
    return after.detach(), slope.abs()
