"""The methods: the exact active set, Adam with three ways to stay on the simplex, FISTA, CVXPY."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """What every Adam here has in common; its learning rate falls to zero along a cosine."""

    lr: float
    """learning rate of the first step"""
    beta1: float = 0.9
    """decay of the mean gradient"""
    beta2: float = 0.999
    """decay of the mean squared gradient"""
    eps: float = 1e-12
    """added to sqrt(v); daily gradients are 1e-5 to 1e-1, so torch's 1e-8 would already show"""
    batch: int = 0
    """days drawn with replacement for each gradient; 0 takes the exact gradient of all days"""
    decay_steps: int = 2000
    """steps until the learning rate is zero, where the method ends"""


@dataclass(frozen=True, kw_only=True)
class ProjectedAdam(AdamSettings):
    """Adam on the weights, every step followed by a projection onto the simplex."""

    lr: float = 0.1
    """learning rate of the first step"""
    metric: Literal["rate", "euclidean"] = "rate"
    """distance the projection minimises: in units of Adam's own step sizes, or the plain one"""


@dataclass(frozen=True, kw_only=True)
class SoftmaxAdam(AdamSettings):
    """Adam on logits whose softmax is the weights, so that no projection is needed."""

    lr: float = 0.2
    """learning rate of the first step"""


@dataclass(frozen=True)
class ActiveSet:
    """The exact solution by `sciopt.quadratic`; the whole solve is one step."""


@dataclass(frozen=True)
class Fista:
    """Accelerated projected gradients, restarted where momentum points uphill."""

    tolerance: float = 1e-12
    """relative duality gap at which it ends"""
    check_every: int = 20
    """steps between two looks at the gap"""


@dataclass(frozen=True)
class Clarabel:
    """CVXPY with the interior-point solver Clarabel; the whole solve is one step."""

    tolerance: float = 1e-8
    """on gap and feasibility; 1e-8 is the solver's default"""


Method: TypeAlias = ActiveSet | ProjectedAdam | SoftmaxAdam | Fista | Clarabel

METHODS: dict[str, Method] = {
    "active-set": ActiveSet(),
    "projected-adam": ProjectedAdam(),
    "projected-adam-minibatch": ProjectedAdam(lr=0.01, batch=32),
    "euclidean-adam": ProjectedAdam(metric="euclidean"),
    "softmax-adam": SoftmaxAdam(),
    "softmax-adam-minibatch": SoftmaxAdam(lr=0.05, batch=32),
    "fista": Fista(),
    "clarabel": Clarabel(),
}
