"""A group of small parameters end to end in one buffer, which is stepped as one parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from sciopt.engine.fused import fused_kernel
from sciopt.engine.plan import NOT_ASKED_FOR, Group, Plan, Work
from sciopt.projection import Simplex
from sciopt.rule import Direction, Scope, Slot, State


@dataclass
class Packed:
    """The buffers of a group, and the plan in which they are its only parameter.

    `views` are what each of the parameters holds of the buffers: data, gradient, and state in the
    order of `names`. `steps` holds all clocks, of which the plan's is the first; `together` says
    that all show the same.
    """

    plan: Plan
    flat: Tensor
    gradient: Tensor
    steps: Tensor | None
    together: bool
    names: list[str]
    pointers: list[int]
    gradient_views: list[Tensor]
    state_views: list[Tensor | None]

    @classmethod
    def of(cls, plan: Plan, group: Group) -> Packed:
        """Move the parameters of a plan, and their state, into buffers of their own.

        Raises:
            ValueError: the group cannot be packed.
        """
        _check(plan)
        params, states = plan.params, plan.states
        with torch.no_grad():
            flat = torch.cat([param.detach().reshape(-1) for param in params])
            for param, view in zip(params, _cut(flat, params), strict=True):
                param.data = view
        slots = {name: slot for rule in plan.rules for name, slot in rule.slots().items()}
        whole: State = {}
        for name in slots.keys() - {"step"}:
            whole[name] = _packed_state(name, slots[name], flat, params, states)
        steps = None
        if "step" in slots:
            steps = torch.stack([state["step"] for state in states])
            for state, step in zip(states, steps.unbind(), strict=True):
                state["step"] = step
            whole["step"] = states[0]["step"]
        one = Plan(
            [], plan.direction, plan.weights, plan.rates, [flat], [whole], plan.projection
        )
        if plan.programs is not None:
            one.programs = {}
        elif plan.fused != NOT_ASKED_FOR:
            one.fused = fused_kernel(one, group)
        gradient = torch.zeros_like(flat)
        names = sorted(slots)
        return cls(
            one,
            flat,
            gradient,
            steps,
            together=steps is None or bool((steps == steps[0]).all()),
            names=names,
            pointers=[param.data_ptr() for param in params],
            gradient_views=_cut(gradient, params),
            state_views=[state[name] for state in states for name in names],
        )

    def holds(self, plan: Plan) -> bool:
        """Whether the parameters and their state still are views of the buffers."""
        kept = [state[name] for state in plan.states for name in self.names]
        return [param.data_ptr() for param in plan.params] == self.pointers and all(
            map(is_, kept, self.state_views)
        )

    def work(self, group: Group, gradients: Sequence[Tensor], skip: Tensor | None) -> Work:
        """A step of the buffer along these gradients, one for each parameter."""
        torch._foreach_copy_(self.gradient_views, gradients)  # pyright: ignore[reportPrivateImportUsage]
        steps = [] if self.steps is None else [self.steps]
        return Work(self.plan, group, [self.flat], [self.gradient], self.plan.states, steps, skip)

    def finish(self, plan: Plan) -> None:
        """After a step: tell autograd, and share state that a rule has begun in it."""
        # Autograd knows the parameters, not the buffer.
        increment_version(plan.params)
        if all(view is not None for view in self.state_views):
            return
        (whole,) = self.plan.states
        for place, name in enumerate(self.names):
            if self.state_views[place] is None and whole[name] is not None:
                _share(whole[name], name, plan.params, plan.states)
        self.state_views = [state[name] for state in plan.states for name in self.names]


def _check(plan: Plan) -> None:
    """Raise ValueError if the group cannot be stepped as one parameter."""
    for rule in plan.rules:
        apart = rule.elementwise if isinstance(rule, Direction) else None
        if apart is False or (apart is None and rule.scope not in (Scope.ELEMENT, Scope.MODEL)):
            raise ValueError(
                "flat=True packs a group into one vector, which has no layers and neurons: "
                f"{type(rule).__name__} needs them; use flat=False"
            )
    if isinstance(plan.projection, Simplex):
        raise ValueError("flat=True leaves no last axis to project onto a simplex; use flat=False")
    kinds = {(param.device, param.dtype) for param in plan.params}
    if len(kinds) > 1:
        raise ValueError(
            f"flat=True needs parameters of one device and dtype in a group, got {len(kinds)} "
            "kinds; make a group of each"
        )
    if len({id(param) for param in plan.params}) < len(plan.params):
        raise ValueError("flat=True needs each parameter once in its group")


def _cut(flat: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """The buffer's parts in the shapes of the parameters."""
    parts = flat.split([param.numel() for param in params])
    return [part.view(param.shape) for part, param in zip(parts, params, strict=True)]


def _packed_state(
    name: str, slot: Slot, flat: Tensor, params: Sequence[Tensor], states: Sequence[State]
) -> Tensor | None:
    """The buffer of one state, of which each parameter's dict gets its view."""
    values: list[Any] = [state[name] for state in states]
    if any(value is None for value in values):
        for state in states:
            state[name] = None
        return None
    if slot.scope is Scope.MODEL:
        whole = values[0].clone()
    else:
        whole = torch.cat([value.reshape(-1) for value in values])
    assert slot.scope is Scope.MODEL or whole.shape == flat.shape
    _share(whole, name, params, states)
    return whole


def _share(whole: Tensor, name: str, params: Sequence[Tensor], states: Sequence[State]) -> None:
    views = _cut(whole, params) if whole.ndim else [whole] * len(params)
    for state, view in zip(states, views, strict=True):
        state[name] = view
