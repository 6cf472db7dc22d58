"""The optimizers of sciopt as what they are, a direction and rates, with a grid of learning rates.

Jacobi preconditioning and Newton's method, which are told the Hessian, stand beside them to be
compared with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from applications.landscapes.rules import (
    FirstGradient,
    Hessian,
    InverseCurvature,
    NewtonDirection,
)
from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.rates import InverseNorm, SecondMoment, SquareAverage, SumOfSquares
from sciopt.rule import Direction, Rate, Scope

Rules = tuple[Direction, Sequence[Rate]]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """An optimizer; each of its learning rates makes a descent of its own."""

    lr: tuple[float, ...] = (0.1,)
    """Learning rates, which descend in lockstep."""
    lr_schedule: Literal["constant", "inverse-sqrt"] = "constant"
    """Whether the learning rate of a step is lr, or lr / sqrt(step)."""

    def __post_init__(self) -> None:
        if not self.lr or not all(0 <= lr < float("inf") for lr in self.lr):
            raise ValueError(f"got lr = {self.lr}; use one or more finite numbers >= 0")

    @abstractmethod
    def rules(self, hessian: Hessian | None) -> Rules:
        """Direction and rates without the learning rate; `hessian` is None where there is none.

        Raises:
            ValueError: a method that needs the Hessian where there is none.
        """


@dataclass(frozen=True, kw_only=True)
class SGD(Method):
    """Gradient descent, with momentum if set: no rates."""

    lr: tuple[float, ...] = (1e-3,)
    momentum: float = 0.0
    """Decay of the sum of gradients."""
    nesterov: bool = False
    """Whether to look ahead."""

    def rules(self, hessian: Hessian | None) -> Rules:  # noqa: ARG002
        """No rates."""
        return Momentum(self.momentum, nesterov=self.nesterov), []


@dataclass(frozen=True, kw_only=True)
class NormalizedSGD(Method):
    """The gradient over its norm: every step is lr long."""

    def rules(self, hessian: Hessian | None) -> Rules:  # noqa: ARG002
        """One rate per descent, which is a row."""
        return Gradient(), [InverseNorm(Scope.NEURON)]


@dataclass(frozen=True, kw_only=True)
class AdaGrad(Method):
    """Rates from the sum of squared gradients."""

    eps: float = 1e-10
    """Added to the square root."""

    def rules(self, hessian: Hessian | None) -> Rules:  # noqa: ARG002
        """The sum."""
        return Gradient(), [SumOfSquares(self.eps)]


@dataclass(frozen=True, kw_only=True)
class RMSProp(Method):
    """Rates from averaged squares that start at zero."""

    lr: tuple[float, ...] = (0.01,)
    alpha: float = 0.99
    """Decay of the average."""
    eps: float = 1e-8
    """Added to the square root."""

    def rules(self, hessian: Hessian | None) -> Rules:  # noqa: ARG002
        """The average."""
        return Gradient(), [SquareAverage(self.alpha, self.eps)]


@dataclass(frozen=True, kw_only=True)
class Adam(Method):
    """Averaged gradient, rates from averaged squares."""

    beta1: float = 0.9
    """Decay of the average gradient."""
    beta2: float = 0.999
    """Decay of the average square."""
    eps: float = 1e-8
    """Added to the square root."""
    amsgrad: bool = False
    """Whether rates never rise."""

    def rules(self, hessian: Hessian | None) -> Rules:  # noqa: ARG002
        """Averages free of bias."""
        second = SecondMoment(self.beta2, self.eps, self.amsgrad)
        return ExponentialAverage(self.beta1), [second]


@dataclass(frozen=True, kw_only=True)
class FrozenAdam(Method):
    """Adam whose rates stay those of its first step, its average free of the bias correction.

    The correction weighs early gradients up to 1 / (1 - beta1) times as much, so that near the
    edge of stability a descent would first grow by many powers of ten.
    """

    beta1: float = 0.9
    """Decay of the average gradient."""
    eps: float = 1e-8
    """Added to the first gradient's size."""

    def rules(self, hessian: Hessian | None) -> Rules:  # noqa: ARG002
        """The damped sum is an average of gradients that begins with the first."""
        return Momentum(self.beta1, dampening=self.beta1), [FirstGradient(self.eps)]


@dataclass(frozen=True, kw_only=True)
class Jacobi(Method):
    """Gradient descent preconditioned by the Hessian's diagonal."""

    def rules(self, hessian: Hessian | None) -> Rules:
        """One rate per coordinate."""
        return Gradient(), [InverseCurvature(_needed(hessian))]


@dataclass(frozen=True, kw_only=True)
class Newton(Method):
    """Newton's method with the exact Hessian, damped by lr."""

    lr: tuple[float, ...] = (1.0,)

    def rules(self, hessian: Hessian | None) -> Rules:
        """No rates."""
        return NewtonDirection(_needed(hessian)), []


def _needed(hessian: Hessian | None) -> Hessian:
    if hessian is None:
        raise ValueError(
            "jacobi and newton need the Hessian, which slopes, dormant, reddi, sparse-losses, "
            "noise and digits do not give; use another method, or a landscape such as quadratic"
        )
    return hessian


METHODS: Mapping[str, Method] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "normalized-sgd": NormalizedSGD(),
    "adagrad": AdaGrad(),
    "rmsprop": RMSProp(),
    "adam": Adam(),
    "amsgrad": Adam(amsgrad=True),
    "frozen-adam": FrozenAdam(),
    "jacobi": Jacobi(),
    "newton": Newton(),
}
