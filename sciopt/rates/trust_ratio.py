"""A rate that listens to the length of a layer's parameter beside that of its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Rate, Real, Scope, Signals, Slot, State, check_range, whole


@final
@dataclass(frozen=True)
class TrustRatio(Rate):
    """r = trust_coefficient * |w| / (|g| + weight_decay * |w| + eps), and 1 where |w| |g| = 0.

    LARS (You, Gitman & Ginsburg 2017, arXiv 1708.03888, equation 6): the step of a layer is a
    fixed fraction of its length. g is the loss's gradient without the decay. `weight_decay` has
    the optimizer's own key in `param_groups`, so it always is the optimizer's: do not set it here.

    Norms are Euclidean over the parameter tensor and summed in float64.
    """

    scope: ClassVar[Scope] = Scope.LAYER
    trust_coefficient: Real = 1e-3
    eps: Real = 0.0
    weight_decay: Real = 0.0

    def __post_init__(self):
        check_range("trust_coefficient", self.trust_coefficient)
        check_range("eps", self.eps)
        check_range("weight_decay", self.weight_decay)

    def slots(self) -> Mapping[str, Slot]:
        """The last ratio."""
        return {"trust_ratio": Slot(Scope.LAYER, 1.0, torch.float64)}

    def observe(self, signals: Signals, state: State) -> None:
        """Take both norms."""
        length = torch.linalg.vector_norm(signals.param, dtype=torch.float64)
        slope = torch.linalg.vector_norm(signals.loss_grad, dtype=torch.float64)
        ratio = self.trust_coefficient * length / (slope + self.weight_decay * length + self.eps)
        ratio = torch.where((length == 0) | (slope == 0), 1.0, ratio)
        state["trust_ratio"].copy_(whole(ratio))

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number."""
        return state["trust_ratio"]
