"""A rate that listens to the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import CLOCK, Clock, Rate, Real, Scope, Slot, State, check_range


@final
@dataclass(frozen=True)
class InverseTimeDecay(Rate):
    """r = 1 / (1 + (step - 1) * lr_decay): the first step is whole."""

    scope: ClassVar[Scope] = Scope.MODEL
    lr_decay: Real = 0.0

    def __post_init__(self):
        check_range("lr_decay", self.lr_decay)

    def slots(self) -> Mapping[str, Slot]:
        """The clock."""
        return {"step": CLOCK}

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number, of the parameter's own clock."""
        slowdown = 1 + (clock.step - 1) * self.lr_decay
        return 1 / torch.as_tensor(slowdown, dtype=torch.float64)
