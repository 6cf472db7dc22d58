"""torch's fused kernels: the compositions that have one, all parameters of a group in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.engine.plan import Group, Layout, Plan, Work, layouts
from sciopt.rates import InverseTimeDecay, SecondMoment, SumOfSquares
from sciopt.rule import Direction, Rate, State

_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}
_PLAIN = (Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class Kernel:
    """torch's `_fused_<name>_`: its state by name, in the order of its arguments, and settings."""

    name: str
    state: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class FusedKernel:
    """The kernel with its settings, and which of its states the composition keeps."""

    call: Callable[..., None]
    state: tuple[tuple[str, bool], ...]


def fused_kernel(plan: Plan, group: Group) -> FusedKernel | str:
    """What torch's fused kernel needs for this group, or why there is none, in words."""
    if plan.projection is not None:
        return "a projection needs the rates, which fused kernels keep to themselves"
    decoupled = group["decoupled_weight_decay"]
    kernel = None if plan.weights else _kernel(plan.direction, plan.rates, decoupled=decoupled)
    if kernel is None:
        return "torch has no fused kernel for this direction, these rates and this weight decay"
    if len({(param.device, param.dtype) for param in plan.params}) > 1:
        return "the group's parameters are not of one device and dtype"
    refusal = _refusal(kernel, plan.params)
    if refusal is not None:
        return refusal
    keeps = tuple((name, name in plan.names) for name in kernel.state)
    call = partial(getattr(torch, f"_fused_{kernel.name}_"), **kernel.settings)
    return FusedKernel(call, keeps)


def _refusal(kernel: Kernel, params: Sequence[Tensor]) -> str | None:
    """Why torch's kernel does not do these parameters right, if it does not."""
    if not params:
        return "the group is empty"
    if any(type(param) not in _PLAIN for param in params):
        return "a parameter is of a subclass of Tensor, which has operators of its own"
    device, operator = params[0].device.type, f"_fused_{kernel.name}_"
    key = _DISPATCH_KEYS.get(device)
    if key is None or not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operator}", key):
        return f"torch has no {operator} for device {device!r}"
    if kernel.name == "sgd" and device == "cpu" and params[0].dtype.itemsize < 4:
        return f"torch's {operator} stores no parameter of {params[0].dtype} on the host"
    if not all(_is_dense(param) for param in params):
        return "a parameter has overlapping elements or gaps in memory"
    return None


def _is_dense(param: Tensor) -> bool:
    """Whether the elements fill the memory from the first to the last, each once."""
    return torch.empty_like(param, device="meta").stride() == param.stride()


def fused_step(work: Work) -> bool:
    """One step of a group in one call; False, with nothing done, if tensors do not lie alike.

    The kernels walk parameter, gradient and state by one shape and one set of strides without
    looking, past the end of the shortest.
    """
    kernel, params, gradients, states = work.plan.fused, work.params, work.gradients, work.states
    assert isinstance(kernel, FusedKernel)
    if not params:
        return True
    # Else looked up at every step: a user may have put other tensors there.
    state = work.plan.fused_state or state_lists(kernel, states)
    if work.outer is None:
        expected = layouts(params)
        for (name, kept), tensors in zip(kernel.state, state, strict=True):
            if kept and name != "step" and layouts(tensors) != expected:
                return _refused(work)
        gradients = _laid_alike(gradients, params, expected)
    group, skip = work.group, work.skip
    lr = group["lr"]
    if isinstance(lr, Tensor):
        lr = lr.to(params[0].device, non_blocking=True)
    advance(work.steps, skip)
    kernel.call(
        params,
        gradients,
        *state,
        lr=lr,
        weight_decay=group["weight_decay"],
        maximize=group["maximize"],
        found_inf=skip,
    )
    if work.outer is None:
        # The kernels do not tell autograd what they wrote to.
        increment_version(params)
    return True


def state_lists(kernel: FusedKernel, states: Sequence[State]) -> list[list[Tensor]]:
    """The kernel's arguments of state, in its order, empty where the composition keeps none."""
    return [[each[name] for each in states] if kept else [] for name, kept in kernel.state]


def _laid_alike(
    gradients: Sequence[Tensor], params: Sequence[Tensor], expected: list[Layout]
) -> Sequence[Tensor]:
    """The gradients in the parameters' layouts: double backward leaves strides of its own."""
    if layouts(gradients) == expected:
        return gradients
    each = zip(params, gradients, strict=True)
    return [torch.empty_like(param).copy_(gradient) for param, gradient in each]


def _refused(work: Work) -> bool:
    if work.plan.insists:
        raise ValueError(
            "a parameter's memory was laid out anew since the fused engine took it; "
            'make the optimizer after .to(memory_format=...), or use engine="auto"'
        )
    return False


def advance(steps: Sequence[Tensor], skip: Tensor | None) -> None:
    """Add one to every clock, or nothing where the step is to be skipped."""
    if skip is not None:
        for step in steps:
            step.add_(1 - skip)
    elif len(steps) == 1 and steps[0].is_cpu:
        # A number would first be made a tensor, which takes longer than adding it.
        steps[0].add_(_one(steps[0].device))
    elif steps:
        torch._foreach_add_([*steps], 1)  # pyright: ignore[reportPrivateImportUsage]


@lru_cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), device=device)


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
