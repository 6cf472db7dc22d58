"""A rate that listens to how far the present batch is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Rate, Real, Scope, Slot, State, check_range


@final
@dataclass(frozen=True)
class Confidence(Rate):
    """r = confidence^power, of a confidence in [0, 1] that is published before each step.

    With `apply="update"` it multiplies the step. With "loss" it multiplies the gradient before
    any rule sees it, as if the loss were weighted; momentum then remembers the weighted gradient.
    Adam cancels a factor of the gradient that varies slowly, and with it only "update" has effect.

    A confidence per sample must weight the loss terms instead: `confidence_weights`.
    """

    scope: ClassVar[Scope] = Scope.MODEL
    power: Real = 1.0
    apply: str = field(default="update", metadata={"key": None})

    def __post_init__(self):
        check_range("power", self.power)
        if self.apply not in ("update", "loss"):
            raise ValueError(f'apply must be "update" or "loss", got {self.apply!r}')

    @property
    def weights_loss(self) -> bool:
        """Whether the gradient is multiplied rather than the step."""
        return self.apply == "loss"

    def slots(self) -> Mapping[str, Slot]:
        """The published confidence."""
        return {"confidence": Slot(Scope.MODEL, None, published=True)}

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number."""
        return state["confidence"] ** self.power
