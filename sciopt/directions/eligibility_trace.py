"""The trace of past gradients along which a temporal-difference error is credited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Direction, Real, Scope, Signals, Slot, State


@final
@dataclass(frozen=True)
class EligibilityTrace(Direction):
    """z = discount * lambda_ * z + g, then d = -td_error * z: the step is +lr * td_error * z.

    TD(lambda) with accumulating traces (Sutton & Barto 2018, section 12.2), for a gradient that is
    the value's, not a loss's:

        value.backward()
        optimizer.publish("td_error", reward + discount * next_value - value)
        optimizer.publish("discount", discount_before)
        optimizer.step()

    `discount_before` is the discount that multiplied this value in the TD error of the step
    before. Where there was no such step, at the start of an episode, it is 0 and cuts the trace.

    Traces decay into denormal numbers, which slow a CPU up to a hundredfold;
    `torch.set_flush_denormal(True)` makes them zero.

    Raises:
        ValueError: lambda_ outside of [0, 1].
    """

    lambda_: Real = 0.9

    def __post_init__(self):
        if not 0 <= self.lambda_ <= 1:
            raise ValueError(f"lambda_ must be in [0, 1], got {self.lambda_!r}")

    def slots(self) -> Mapping[str, Slot]:
        """The trace z, and the two numbers that are published before each step."""
        published = Slot(Scope.MODEL, None, published=True)
        return {"trace": Slot(Scope.ELEMENT), "td_error": published, "discount": published}

    def direction(
        self,
        vector: Float[Tensor, "*shape"],
        signals: Signals,  # noqa: ARG002
        state: State,
    ) -> Float[Tensor, "*shape"]:
        """The trace after this gradient, times minus the TD error."""
        trace = state["trace"].mul_(state["discount"] * self.lambda_).add_(vector)
        return trace * -state["td_error"]
