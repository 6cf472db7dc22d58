"""One parameter's step, `-lr * (product of rates) * direction`, as the equation reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sciopt.engine.plan import Group, Plan
from sciopt.rule import Clock, Rate, Real, Rule, Scope, Signals, State


@dataclass(frozen=True)
class Settings:
    """What of a group belongs to no rule; `lr` and `decay` may be tensors without axes.

    `decay` is the weight decay added to the gradient or, `decoupled`, the factor by which the
    parameter shrinks; None where there is none.
    """

    lr: Real | Tensor
    decay: Real | Tensor | None
    decoupled: bool
    maximize: bool

    @classmethod
    def of(cls, group: Group) -> Settings:
        """Those of a parameter group."""
        lr, decay, decoupled = (
            group["lr"],
            group["weight_decay"],
            group["decoupled_weight_decay"],
        )
        if not decay:
            decay = None
        elif decoupled:
            decay = 1 - lr * decay
        return cls(lr, decay, decoupled, group["maximize"])


class Part(NamedTuple):
    """One parameter in one step, with what the rates that ask for a survey learnt by it."""

    plan: Plan
    settings: Settings
    param: Tensor
    loss_grad: Tensor
    state: State
    clock: Clock
    surveys: Sequence[Tensor | None] = ()
    skip: Tensor | None = None

    def descent(self) -> Tensor:
        """The gradient to be descended: the loss weighted, its sign, the coupled decay added."""
        grad, settings = self.loss_grad, self.settings
        for weight in self.plan.weights:
            grad = grad * weight.rate(self.state, self.clock).to(grad.dtype)
        if settings.maximize:
            grad = -grad
        if settings.decay is not None and not settings.decoupled:
            grad = grad + (settings.decay * self.param).to(grad.dtype)
        return grad

    def signals(self, grad: Tensor) -> Signals:
        """What the rules may read."""
        return Signals(grad, self.loss_grad, self.param, self.clock)


def step_one(part: Part) -> None:
    """Change one parameter and its state in place."""
    move(part, observe_coarse(part))


def observe_coarse(part: Part) -> Tensor | None:
    """Show the gradient to the rates coarser than an element; their product, None without any.

    In the parameter's dtype, and in the shape that broadcasts against it.
    """
    if all(rate.scope is Scope.ELEMENT for rate in part.plan.rates):
        return None
    coarse = [rate for rate in part.plan.rates if rate.scope is not Scope.ELEMENT]
    with undone(part.skip, kept(coarse, part.state)):
        signals = part.signals(part.descent())
        _observe(part, signals, element=False)
        rates = [_applied(rate, part) for rate in coarse]
    return math.prod(rates[1:], start=rates[0]).to(part.param.dtype)


def move(part: Part, coarse: Tensor | None) -> None:
    """Show the gradient to the rates of elements and to the direction, and step."""
    plan, param, state, settings = part.plan, part.param, part.state, part.settings
    element = [rate for rate in plan.rates if rate.scope is Scope.ELEMENT]
    with undone(part.skip, [param, *kept([plan.direction, *element], state)]):
        grad = part.descent()
        signals = part.signals(grad)
        _observe(part, signals, element=True)
        # A number in float64 would carry a parameter without axes, and its state, along.
        rates = [_applied(rate, part).to(param.dtype) for rate in element]
        if coarse is not None:
            rates.append(coarse)
        rate = math.prod(rates[1:], start=rates[0]) if rates else param.new_ones(())
        if plan.direction.after_rates:
            change = plan.direction.direction(grad * rate, signals, state)
        else:
            change = plan.direction.direction(grad, signals, state) * rate
        if settings.decay is not None and settings.decoupled:
            param.mul_(settings.decay)
        param.sub_(change * settings.lr)
        if plan.projection is not None:
            param.copy_(plan.projection.project(param, rate))


def _applied(rate: Rate, part: Part) -> Tensor:
    """The rate, once it is a tensor of its scope's shape."""
    value, shape = rate.rate(part.state, part.clock), rate.scope.shape(part.param)
    if not isinstance(value, Tensor) or value.shape != shape:
        got = f"one of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(
            f"{rate.label} is {rate.scope.value}: for a parameter of shape "
            f"{tuple(part.param.shape)} its rate must be a tensor of shape {shape}, got {got}"
        )
    return value


def _observe(part: Part, signals: Signals, *, element: bool) -> None:
    surveys = part.surveys or [None] * len(part.plan.rates)
    for rate, survey in zip(part.plan.rates, surveys, strict=True):
        if (rate.scope is Scope.ELEMENT) is element:
            rate.observe(signals if survey is None else replace(signals, survey=survey), part.state)


@contextmanager
def undone(skip: Tensor | None, tensors: Sequence[Tensor]) -> Iterator[None]:
    """What happens inside is undone where the step is to be skipped, on the device."""
    if skip is None:
        yield
        return
    before = [tensor.clone() for tensor in tensors]
    yield
    for tensor, old in zip(tensors, before, strict=True):
        tensor.copy_(torch.where(skip.to(tensor.device) == 1, old, tensor))


def kept(rules: Sequence[Rule], state: State) -> list[Tensor]:
    """The state of these rules, the clock apart, which the engine advances."""
    slots = [name for rule in rules for name in rule.slots() if name != "step"]
    return [state[name] for name in slots if state[name] is not None]
