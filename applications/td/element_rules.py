"""RMSProp and Adam in TD learning: each entry's change in units of its usual size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from applications.td.rules import PerAgent, Rule, Visit


@dataclass(frozen=True, kw_only=True)
class ElementRule(Rule):
    """c * mean / (sqrt(mean square) + eps) of td_error * trace, for all entries at every step."""

    dense = True
    MEAN_DECAY: ClassVar[float]
    SQUARE_DECAY: ClassVar[float] = 0.999
    EPS: ClassVar[float] = 1e-8

    agent_memory = ("mean_weight", "square_weight")

    def step(self, visit: Visit) -> PerAgent:
        """c, along the direction of `direction`."""
        for name, decay in (("mean", self.MEAN_DECAY), ("square", self.SQUARE_DECAY)):
            # The sum of the weights that the average has given: 1 - decay^steps.
            weight = visit.agent[f"{name}_weight"]
            visit.agent[f"{name}_weight"] = decay * weight + (1 - decay)
        return visit.coefficient

    def direction(
        self,
        visit: Visit,
        update: Float[Tensor, "groups players entries"],
        mean: Float[Tensor, "groups players entries"],
        square: Float[Tensor, "groups players entries"],
    ) -> Float[Tensor, "groups players entries"]:
        """Kingma and Ba (2015), algorithm 1; `mean` and `square` are changed in place."""
        mean_weight, square_weight = (
            visit.agent[f"{name}_weight"][..., None] for name in ("mean", "square")
        )
        mean.mul_(self.MEAN_DECAY).add_(update, alpha=1 - self.MEAN_DECAY)
        square.mul_(self.SQUARE_DECAY).addcmul_(update, update, value=1 - self.SQUARE_DECAY)
        root = (square / square_weight).sqrt_().add_(self.EPS)
        return mean / (mean_weight * root)


@final
@dataclass(frozen=True, kw_only=True)
class RMSProp(ElementRule):
    """Without momentum; the square's bias is taken out."""

    MEAN_DECAY = 0.0


@final
@dataclass(frozen=True, kw_only=True)
class Adam(ElementRule):
    """With momentum 0.9."""

    MEAN_DECAY = 0.9
