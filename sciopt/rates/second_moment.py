"""Rates that listen to an element's squared gradients: their sum, or a decaying average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import (
    CLOCK,
    Clock,
    Rate,
    Real,
    Scope,
    Signals,
    Slot,
    State,
    check_range,
    torch_key,
)


@final
@dataclass(frozen=True)
class SumOfSquares(Rate):
    """r = 1 / (sqrt(sum of g^2) + eps): AdaGrad's (Duchi, Hazan & Singer 2011).

    The sum starts at `initial_accumulator_value`.
    """

    scope: ClassVar[Scope] = Scope.ELEMENT
    eps: Real = 1e-10
    initial_accumulator_value: Real = 0.0

    def __post_init__(self):
        check_range("eps", self.eps)
        check_range("initial_accumulator_value", self.initial_accumulator_value)

    def slots(self) -> Mapping[str, Slot]:
        """The clock, which torch's checkpoints hold, and the sum."""
        return {"step": CLOCK, "sum": Slot(Scope.ELEMENT, self.initial_accumulator_value)}

    def observe(self, signals: Signals, state: State) -> None:
        """Add the squares of this gradient."""
        state["sum"].addcmul_(signals.grad, signals.grad)

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per element."""
        return state["sum"].sqrt().add_(self.eps).reciprocal_()


@final
@dataclass(frozen=True)
class SquareAverage(Rate):
    """r = 1 / (sqrt(v) + eps), v = alpha * v + (1 - alpha) * g^2: RMSProp's (Hinton 2012).

    Starts at v = 0 without correction, so that early steps are long. `centered` subtracts the
    square of the average gradient from v, which leaves its variance (Graves 2013).
    """

    scope: ClassVar[Scope] = Scope.ELEMENT
    alpha: Real = 0.99
    eps: Real = 1e-8
    centered: bool = False

    def __post_init__(self):
        check_range("alpha", self.alpha, below=1.0)
        check_range("eps", self.eps)

    def slots(self) -> Mapping[str, Slot]:
        """The clock, which torch's checkpoints hold, v, and the average gradient if centred."""
        slots = {"step": CLOCK, "square_avg": Slot(Scope.ELEMENT)}
        return slots | {"grad_avg": Slot(Scope.ELEMENT)} if self.centered else slots

    def observe(self, signals: Signals, state: State) -> None:
        """Average the square of this gradient and, if centred, the gradient."""
        grad = signals.grad
        state["square_avg"].mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
        if self.centered:
            state["grad_avg"].lerp_(grad, 1 - self.alpha)

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per element."""
        square = state["square_avg"]
        if self.centered:
            mean = state["grad_avg"]
            # Round-off can take the variance of a constant gradient below zero.
            square = square.addcmul(mean, mean, value=-1).clamp_min_(0)
        return square.sqrt().add_(self.eps).reciprocal_()


@final
@dataclass(frozen=True)
class SecondMoment(Rate):
    """r = 1 / (sqrt(v / (1 - beta^step)) + eps), v = beta * v + (1 - beta) * g^2: Adam's.

    Kingma & Ba 2015, algorithm 1. With `amsgrad` v is replaced by the largest v so far (Reddi,
    Kale & Kumar 2018); as in torch the maximum is taken before the bias is corrected.
    """

    scope: ClassVar[Scope] = Scope.ELEMENT
    beta: Real = field(default=0.999, metadata=torch_key("betas", 1))
    eps: Real = 1e-8
    amsgrad: bool = False

    def __post_init__(self):
        check_range("betas[1]", self.beta, below=1.0)
        check_range("eps", self.eps)

    def slots(self) -> Mapping[str, Slot]:
        """The clock, v, and the largest v if asked for."""
        slots = {"step": CLOCK, "exp_avg_sq": Slot(Scope.ELEMENT)}
        return slots | {"max_exp_avg_sq": Slot(Scope.ELEMENT)} if self.amsgrad else slots

    def observe(self, signals: Signals, state: State) -> None:
        """Average the square of this gradient, and keep the largest average if asked for."""
        grad = signals.grad
        square = state["exp_avg_sq"].mul_(self.beta).addcmul_(grad, grad, value=1 - self.beta)
        if self.amsgrad:
            state["max_exp_avg_sq"].copy_(torch.maximum(state["max_exp_avg_sq"], square))

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:
        """One number per element."""
        square = state["max_exp_avg_sq" if self.amsgrad else "exp_avg_sq"]
        return (square.sqrt() * clock.debias(self.beta, 0.5)).add_(self.eps).reciprocal_()
