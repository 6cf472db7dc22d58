"""A rate that listens to the length of the whole model's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Rate, Scope, Signals, State


@final
@dataclass(frozen=True)
class InverseModelNorm(Rate):
    """r = 1 / |g| over all parameters, so that a gradient step has the length lr.

    Where the gradient is zero the rate is zero too: there is nothing to follow, and 0/0 would
    end the run.
    """

    scope: ClassVar[Scope] = Scope.MODEL

    def rate(self, signals: Signals, state: State) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number for the model."""
        norm = signals.model.norm.to(signals.grad.device)
        return torch.where(norm == 0, 0.0, 1 / norm)
