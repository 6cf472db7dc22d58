"""The optimizers that take a closure, and the closure each of them asks for."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sciopt.curvature.descent import Descent
from sciopt.curvature.lbfgs import LBFGS
from sciopt.curvature.newton_cg import NewtonCG
from sciopt.curvature.self_scaled_broyden import SelfScaledBroyden

Make = Callable[..., Descent]
SEARCHES = ("strong-wolfe", "hager-zhang")
METHODS: dict[str, Make] = {
    "LBFGS": LBFGS,
    "SelfScaledBroyden": SelfScaledBroyden,
    "self-scaled BFGS": partial(SelfScaledBroyden, update="bfgs"),
    "BFGS": partial(SelfScaledBroyden, update="unscaled-bfgs"),
    "NewtonCG": partial(NewtonCG, rank=3, refresh_every=2),
}


def closure_of(
    optimizer: Descent, loss_fn: Callable[[], Tensor], params: Sequence[Tensor]
) -> Callable[[], Tensor]:
    """Newton-CG wants the loss with its graph, the others its gradients in `.grad`."""
    if isinstance(optimizer, NewtonCG):
        return loss_fn

    def closure() -> Tensor:
        for param in params:
            param.grad = None
        loss = loss_fn()
        loss.backward()
        return loss

    return closure


def descend(
    optimizer: Descent, loss_fn: Callable[[], Tensor], params: Sequence[Tensor], steps: int
) -> list[float]:
    """The loss after each step, until the optimizer stops."""
    closure = closure_of(optimizer, loss_fn, params)
    losses = []
    while len(losses) < steps and optimizer.stopped is None:
        losses.append(optimizer.step(closure))
    return losses


class Regression:
    """A small network that fits a sine: parameters of several shapes, in two groups."""

    def __init__(self, dtype: torch.dtype = torch.float64, device: str = "cpu", width: int = 6):
        generator = torch.Generator().manual_seed(0)
        shapes = [(width, 1), (width,), (1, width), ()]
        self.params = [
            torch.randn(shape, generator=generator, dtype=torch.float64)
            .to(device, dtype)
            .requires_grad_()
            for shape in shapes
        ]
        self.inputs = torch.linspace(-2, 2, 40, device=device, dtype=dtype)[:, None]
        self.shift = 0.0

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": self.params[:2]}, {"params": self.params[2:]}]

    def loss(self) -> Tensor:
        inner, bias, outer, constant = self.params
        value = torch.tanh(self.inputs @ inner.T + bias) @ outer.T + constant
        return (value - torch.sin(2 * self.inputs + self.shift)).square().mean()
