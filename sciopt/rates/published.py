"""A rate that the application computes itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Rate, Scope, Slot, State


@final
@dataclass(frozen=True)
class Published(Rate):
    """r = the value last published under `name`: for a signal that only the application knows.

    With `apply="update"` it multiplies the step, with "loss" the gradient before any rule sees
    it; see `Confidence`. Copied at each `Composed.publish`, and kept until the next.

    Raises:
        ValueError: another `apply`; in a step, nothing published under this name.
    """

    name: str = field(metadata={"key": None})
    scope: Scope = field(default=Scope.MODEL, kw_only=True, metadata={"key": None})  # pyright: ignore[reportIncompatibleVariableOverride]
    apply: str = field(default="update", kw_only=True, metadata={"key": None})

    def __post_init__(self):
        if self.apply not in ("update", "loss"):
            raise ValueError(f'apply must be "update" or "loss", got {self.apply!r}')

    @property
    def label(self) -> str:
        """The name."""
        return self.name

    @property
    def weights_loss(self) -> bool:
        """Whether the gradient is multiplied rather than the step."""
        return self.apply == "loss"

    def slots(self) -> Mapping[str, Slot]:
        """The published value."""
        return {self.name: Slot(self.scope, None, published=True)}

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """Of the scope's shape."""
        return state[self.name]
