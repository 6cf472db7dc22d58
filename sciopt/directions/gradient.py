"""The gradient itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Direction, Signals, State


@final
@dataclass(frozen=True)
class Gradient(Direction):
    """d = g: no memory."""

    def direction(
        self,
        vector: Float[Tensor, "*shape"],
        signals: Signals,  # noqa: ARG002
        state: State,  # noqa: ARG002
    ) -> Float[Tensor, "*shape"]:
        """The vector as it is."""
        return vector
