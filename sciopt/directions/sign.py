"""The sign of the gradient, or of its average: every element moves by the same length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Direction, Real, Scope, Signals, Slot, State, check_range, torch_key


@final
@dataclass(frozen=True)
class Sign(Direction):
    """d = sign(beta1 * m + (1 - beta1) * g), and then m = beta2 * m + (1 - beta2) * g.

    Lion's direction (Chen et al. 2023, arXiv 2302.06675, algorithm 2): the new gradient counts
    for more in the step than in the memory, beta1 < beta2. With both betas zero it is signSGD's
    (Bernstein et al. 2018) and keeps no state. An element whose average is zero rests.
    """

    beta1: Real = field(default=0.0, metadata=torch_key("betas", 0))
    beta2: Real = field(default=0.0, metadata=torch_key("betas", 1))

    def __post_init__(self):
        check_range("betas[0]", self.beta1, below=1.0)
        check_range("betas[1]", self.beta2, below=1.0)

    def slots(self) -> Mapping[str, Slot]:
        """The average m."""
        return {} if self.beta1 == self.beta2 == 0 else {"exp_avg": Slot(Scope.ELEMENT)}

    def direction(
        self,
        vector: Float[Tensor, "*shape"],
        signals: Signals,  # noqa: ARG002
        state: State,
    ) -> Float[Tensor, "*shape"]:
        """-1, 0 or 1 per element."""
        if self.beta1 == self.beta2 == 0:
            return vector.sign()
        signs = state["exp_avg"].lerp(vector, 1 - self.beta1).sign_()
        state["exp_avg"].lerp_(vector, 1 - self.beta2)
        return signs
