"""A rate that listens to the length of the gradient: of a neuron, a layer or the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Model, Rate, Scope, Signals, Slot, State, whole


@final
@dataclass(frozen=True)
class InverseNorm(Rate):
    """r = 1 / |g|_2 over the scope, so that a gradient step of that scope has the length lr.

    Where the gradient is zero the rate is zero too: there is nothing to follow, and 0/0 would
    end the run. A neuron is a row of its tensor, a layer the tensor. Norms are summed in float64;
    the model's also scales by its largest element, so that none overflows or vanishes.

    Raises:
        ValueError: the scope is ELEMENT; that is the direction `Sign`.
    """

    scope: Scope = field(default=Scope.MODEL, metadata={"key": None})  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self):
        if self.scope is Scope.ELEMENT:
            raise ValueError(
                "InverseNorm is per neuron, layer or model; per element take the direction Sign()"
            )

    def slots(self) -> Mapping[str, Slot]:
        """The norm of the last gradient."""
        return {f"{self.scope.name.lower()}_norm": Slot(self.scope, dtype=torch.float64)}

    def survey(self, model: Model) -> Tensor | None:
        """The norm over all parameters, if that is the scope."""
        return model_norm(model.gradients) if self.scope is Scope.MODEL else None

    def observe(self, signals: Signals, state: State) -> None:
        """Take the norm of this gradient."""
        norm = signals.survey
        if norm is None:
            norm = neuron_norms(signals.grad)
            if self.scope is Scope.LAYER:
                # By way of the rows, so that compiled code reads the gradient once for both.
                norm = torch.linalg.vector_norm(norm)
        (own,) = self.slots()
        state[own].copy_(whole(norm))

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per neuron, or one for the layer or the model."""
        (own,) = self.slots()
        return torch.where(state[own] == 0, 0.0, 1 / state[own])


def neuron_norms(grad: Float[Tensor, "*shape"]) -> Float[Tensor, "*rows"]:
    """Euclidean norm of each row in float64, in the shape that broadcasts against the gradient."""
    if grad.ndim < 2:
        return grad.abs().double()
    axes = tuple(range(1, grad.ndim))
    return torch.linalg.vector_norm(grad, dim=axes, keepdim=True, dtype=torch.float64)


def model_norm(gradients: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Euclidean norm over all gradients, in float64 on the first one's device.

    Squares are taken of the gradient over its largest element, so that no gradient is so large
    or small that its norm overflows or vanishes.
    """
    gradients = [gradient for gradient in gradients if gradient.numel()]
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    device = gradients[0].device
    largest = torch.stack([g.abs().amax().double().to(device) for g in gradients]).amax()
    unit = torch.where(largest == 0, 1.0, largest)
    norms = [torch.linalg.vector_norm(g.double() / unit.to(g.device)).to(device) for g in gradients]
    return largest * torch.linalg.vector_norm(torch.stack(norms))
