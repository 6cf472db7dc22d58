"""How a composed step is executed: eager, as the equation reads, or by torch's fused kernels.

Both give the same numbers to round-off. Eager takes any composition, one parameter at a time;
fused takes the compositions torch has a kernel for, all parameters of a group in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.projection import Box, Simplex
from sciopt.rates import InverseTimeDecay, SecondMoment, SumOfSquares
from sciopt.rule import Direction, ModelGradient, Rate, Signals, State

Group = Mapping[str, Any]
Projection = Simplex | Box

_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}


Item = TypeVar("Item")
Layout = tuple[torch.Size, tuple[int, ...]]


def _layouts(tensors: Sequence[Tensor | None]) -> list[Layout]:
    """Shape and strides of each tensor that is there."""
    return [(tensor.shape, tensor.stride()) for tensor in tensors if tensor is not None]


@dataclass
class Plan:
    """One parameter group made ready: rules with its settings, its parameters and their state.

    `settings` are the values the rules were read from; the plan is good while they stay.
    """

    settings: list[Any]
    direction: Direction
    rates: Sequence[Rate]
    params: list[Tensor]
    states: list[State]
    fused: FusedLists | str = field(default="not asked for")


@dataclass(frozen=True)
class Kernel:
    """torch's `_fused_<name>_`: its state by name, in the order of its arguments, and settings."""

    name: str
    state: tuple[str, ...]
    settings: dict[str, Any]


@dataclass
class FusedLists:
    """The kernel, the state it keeps by name, and the shapes and strides it relies on."""

    call: Callable[..., None]
    kernel: Kernel
    kept: frozenset[str]
    layouts: list[Layout]


def dense_gradients(params: Sequence[Tensor]) -> list[Tensor | None]:
    """The parameters' gradients; a sparse one raises TypeError."""
    gradients = [param.grad for param in params]
    for gradient in gradients:
        if gradient is not None and gradient.layout is not torch.strided:
            raise TypeError(
                f"gradients must be dense, got layout {gradient.layout}; for an embedding "
                "set sparse=False or use torch.optim.SparseAdam"
            )
    return gradients


def eager_step(
    work: Sequence[tuple[Plan, Group, list[Tensor | None]]], projection: Projection | None
) -> None:
    """One step of every group, parameter by parameter, as the equation reads.

    A parameter whose gradient is None is left alone, and its clock stands.
    """
    descents = [
        [_descent(param, grad, group) for param, grad in zip(plan.params, grads, strict=True)]
        for plan, group, grads in work
    ]
    model = ModelGradient([grad for group in descents for grad in group if grad is not None])
    for (plan, group, _), grads in zip(work, descents, strict=True):
        for param, state, grad in zip(plan.params, plan.states, grads, strict=True):
            if grad is not None:
                signals = Signals(grad, param, _advance(state.get("step")), model)
                _eager_update(plan, group, signals, state, projection)


def _descent(param: Tensor, grad: Tensor | None, group: Group) -> Tensor | None:
    """The gradient to be descended, with the coupled weight decay in it."""
    if grad is None:
        return None
    if group["maximize"]:
        grad = -grad
    if group["weight_decay"] and not group["decoupled_weight_decay"]:
        grad = grad.add(param, alpha=group["weight_decay"])
    return grad


def _advance(clock: Tensor | None) -> float | Tensor:
    """The step this clock now stands at: on the host a number, which is quicker to work with."""
    if clock is None:
        return math.nan
    clock += 1
    # float32 cannot tell 1 - 0.999^step from its neighbours well enough.
    return clock.double() if clock.is_cuda else clock.item()


def _eager_update(
    plan: Plan, group: Group, signals: Signals, state: State, projection: Projection | None
) -> None:
    """One parameter's step, -lr * (product of rates) * direction."""
    param, direction = signals.param, plan.direction
    rates = [each.rate(signals, state) for each in plan.rates]
    rate = math.prod(rates[1:], start=rates[0]) if rates else param.new_ones(())
    if direction.after_rates:
        update = direction.direction(signals.grad * rate, signals, state)
    else:
        update = direction.direction(signals.grad, signals, state) * rate
    if group["decoupled_weight_decay"]:
        param.mul_(1 - group["lr"] * group["weight_decay"])
    param.sub_(update * group["lr"])
    if projection is not None:
        param.copy_(projection.project(param, rate))


def fused_lists(plan: Plan, group: Group, projection: Projection | None) -> FusedLists | str:
    """What torch's fused kernel needs for this group, or why there is none, in words."""
    kernel = _kernel(plan.direction, plan.rates, decoupled=group["decoupled_weight_decay"])
    if projection is not None:
        return "a projection needs the rates, which fused kernels keep to themselves"
    if kernel is None:
        return "torch has no fused kernel for this direction, these rates and this weight decay"
    if len({(param.device, param.dtype) for param in plan.params}) != 1:
        return "the group's parameters are not of one device and dtype"
    device, operator = plan.params[0].device.type, f"_fused_{kernel.name}_"
    key = _DISPATCH_KEYS.get(device)
    if key is None or not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operator}", key):
        return f"torch has no {operator} for device {device!r}"
    kept = frozenset(name for rule in (plan.direction, *plan.rates) for name in rule.slots())
    layouts = _layouts(plan.params)
    elementwise = kept.intersection(kernel.state) - {"step"}
    if any(_layouts([state[name] for state in plan.states]) != layouts for name in elementwise):
        return "a parameter has overlapping elements or gaps in memory"
    return FusedLists(getattr(torch, operator), kernel, kept, layouts)


def fused_step(lists: FusedLists, plan: Plan, grads: Sequence[Tensor | None], group: Group) -> bool:
    """One step of a group in one call; False, with nothing done, if a parameter was laid out anew.

    The kernels walk parameter, gradient and state by one shape and one set of strides without
    looking, past the end of the shortest.
    """
    params, states, layouts = plan.params, plan.states, lists.layouts
    present = [index for index, grad in enumerate(grads) if grad is not None]
    gradients = [grad for grad in grads if grad is not None]
    if len(present) < len(grads):
        params, states, layouts = (
            _pick(present, params),
            _pick(present, states),
            _pick(present, layouts),
        )
    if _layouts(params) != layouts:
        return False
    # Double backward leaves strides of its own, even where a row is all there is.
    if _layouts(gradients) != layouts:
        gradients = [
            torch.empty_like(param).copy_(gradient)
            for param, gradient in zip(params, gradients, strict=True)
        ]
    # Looked up at every step: a user may have put other tensors there.
    state = [
        [each[name] for each in states] if name in lists.kept else [] for name in lists.kernel.state
    ]
    if not params:
        return True
    lr = group["lr"]
    if isinstance(lr, Tensor):
        lr = lr.to(params[0].device, non_blocking=True)
    if lists.kernel.state[-1] == "step":
        torch._foreach_add_(state[-1], 1)  # pyright: ignore[reportPrivateImportUsage]
    lists.call(
        params,
        gradients,
        *state,
        lr=lr,
        weight_decay=group["weight_decay"],
        maximize=group["maximize"],
        **lists.kernel.settings,
    )
    return True


def _pick(indices: Sequence[int], items: Sequence[Item]) -> list[Item]:
    return [items[index] for index in indices]


def _kernel(direction: Direction, rates: Sequence[Rate], *, decoupled: bool) -> Kernel | None:
    """The fused kernel that is this direction times these rates, if torch has one."""
    match direction, *rates:
        case ExponentialAverage(beta=beta1, after_rates=False), SecondMoment() as second:
            return Kernel(
                "adamw" if decoupled else "adam",
                ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"),
                {
                    "beta1": beta1,
                    "beta2": second.beta,
                    "eps": second.eps,
                    "amsgrad": second.amsgrad,
                },
            )
        case Gradient(), SumOfSquares(eps=eps), InverseTimeDecay(lr_decay=lr_decay) if (
            not decoupled
        ):
            return Kernel("adagrad", ("sum", "step"), {"eps": eps, "lr_decay": lr_decay})
        case [Momentum(dampening=0) as momentum] if not decoupled:
            return Kernel(
                "sgd",
                ("momentum_buffer",),
                {
                    "momentum": momentum.momentum,
                    "dampening": 0.0,
                    "nesterov": momentum.nesterov,
                    "is_first_step": False,
                },
            )
    return None
