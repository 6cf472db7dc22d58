"""Directions that remember: momentum as a decaying sum, or as an average free of bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import (
    CLOCK,
    Direction,
    Real,
    Scope,
    Signals,
    Slot,
    State,
    check_range,
    torch_key,
)


@final
@dataclass(frozen=True)
class Momentum(Direction):
    """b = momentum * b + (1 - dampening) * g, then d = b, or g + momentum * b with `nesterov`.

    torch does not damp the first gradient: its buffer begins as a copy of it. Undamped, a buffer
    of zeros does the same, so it is allocated at once. Damped, the buffer is None until the first
    gradient, which torch's checkpoints allow for; no clock is needed, and torch keeps none.
    """

    momentum: Real = 0.9
    dampening: Real = 0.0
    nesterov: bool = False

    def __post_init__(self):
        check_range("momentum", self.momentum)
        check_range("dampening", abs(self.dampening))
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening = 0, got "
                f"momentum = {self.momentum}, dampening = {self.dampening}"
            )

    def slots(self) -> Mapping[str, Slot]:
        """The buffer b."""
        if self.momentum == 0:
            return {}
        return {"momentum_buffer": Slot(Scope.ELEMENT, None if self.dampening else 0.0)}

    def direction(
        self,
        vector: Float[Tensor, "*shape"],
        signals: Signals,  # noqa: ARG002
        state: State,
    ) -> Float[Tensor, "*shape"]:
        """The buffer after this gradient, or the look-ahead of Nesterov."""
        if self.momentum == 0:
            return vector
        buffer = state["momentum_buffer"]
        if buffer is None:
            buffer = state["momentum_buffer"] = vector.clone()
        else:
            buffer.mul_(self.momentum).add_(vector, alpha=1 - self.dampening)
        return vector.add(buffer, alpha=self.momentum) if self.nesterov else buffer


@final
@dataclass(frozen=True)
class ExponentialAverage(Direction):
    """m = beta * m + (1 - beta) * g, then d = m / (1 - beta^step): the weights sum to one.

    Adam's direction (Kingma & Ba 2015, algorithm 1); with `after_rates` that of LaProp (Ziyin
    et al. 2020).
    """

    beta: Real = field(default=0.9, metadata=torch_key("betas", 0))

    def __post_init__(self):
        check_range("betas[0]", self.beta, below=1.0)

    def slots(self) -> Mapping[str, Slot]:
        """The clock and the average m."""
        return {"step": CLOCK, "exp_avg": Slot(Scope.ELEMENT)}

    def direction(
        self,
        vector: Float[Tensor, "*shape"],
        signals: Signals,
        state: State,
    ) -> Float[Tensor, "*shape"]:
        """The average free of its bias towards zero."""
        average = state["exp_avg"].lerp_(vector, 1 - self.beta)
        return average * signals.clock.debias(self.beta)
