"""A group of small parameters end to end in one buffer, which is stepped as one parameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
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

    `pointers`, `gradient_views` and `state_views` are what each of the parameters holds of the
    buffers. `steps` are all clocks, of which the plan's is the first; `together` says that all
    show the same, `begun` that no rule has yet to begin its state.
    """

    plan: Plan
    gradient: Tensor
    steps: Tensor | None
    together: bool
    pointers: list[int]
    gradient_views: list[Tensor]
    state_views: list[Tensor | None]
    begun: bool = False

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
        one = Plan([], plan.direction, plan.weights, plan.rates, [flat], [whole], plan.projection)
        if plan.programs is not None:
            one.programs = {}
        elif plan.fused != NOT_ASKED_FOR:
            one.fused = fused_kernel(one, group)
        gradient = torch.zeros_like(flat)
        return cls(
            one,
            gradient,
            steps,
            together=steps is None or bool((steps == steps[0]).all()),
            pointers=[param.data_ptr() for param in params],
            gradient_views=_cut(gradient, params),
            state_views=list(_values(states)),
        )

    def holds(self, plan: Plan) -> bool:
        """Whether the parameters and their state still are views of the buffers."""
        return list(map(Tensor.data_ptr, plan.params)) == self.pointers and all(
            map(is_, _values(plan.states), self.state_views)
        )

    def work(self, group: Group, gradients: Sequence[Tensor], skip: Tensor | None) -> Work:
        """A step of the buffer along these gradients, one for each parameter."""
        torch._foreach_copy_(self.gradient_views, [*gradients])  # pyright: ignore[reportPrivateImportUsage]
        steps = [] if self.steps is None else [self.steps]
        plan = self.plan
        return Work(plan, group, plan.params, [self.gradient], plan.states, steps, skip, alike=True)

    def finish(self, plan: Plan) -> None:
        """After a step: tell autograd, and share state that a rule has begun in it."""
        # Autograd knows the parameters, not the buffer.
        increment_version(plan.params)
        if self.begun:
            return
        (whole,) = self.plan.states
        for name, value in [*plan.states[0].items()]:
            if value is None and whole[name] is not None:
                _share(whole[name], name, plan.params, plan.states)
        self.state_views = list(_values(plan.states))
        self.begun = all(view is not None for view in self.state_views)


def _values(states: Sequence[State]) -> Iterator[Tensor | None]:
    """All state of all parameters in a fixed order."""
    return chain.from_iterable(map(dict.values, states))


def _check(plan: Plan) -> None:
    """Raise ValueError if the group cannot be stepped as one parameter."""
    for rule in plan.rules:
        if isinstance(rule, Direction):
            packable = rule.elementwise
        else:
            packable = rule.scope in (Scope.ELEMENT, Scope.MODEL)
        if not packable:
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
