"""A group of small parameters end to end in one buffer, which is stepped as one parameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from operator import is_

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from sciopt.engine.fused import FusedKernel, fused_kernel, state_lists
from sciopt.engine.plan import NOT_ASKED_FOR, Group, Plan, Work
from sciopt.projection import Simplex
from sciopt.rule import Direction, Scope, Slot, State


@dataclass(frozen=True)
class Packed:
    """The buffers of a group, and the plan in which they are its only parameter.

    `places`, `gradient_views` and `state_views` are what each of the parameters holds of the
    buffers: a place is an address and a size. `steps` are all clocks, of which the plan's is the
    first.
    """

    plan: Plan
    gradient: Tensor
    steps: Tensor | None
    places: list[int]
    gradient_views: list[Tensor]
    state_views: list[Tensor | None]

    @classmethod
    def of(cls, plan: Plan, group: Group, before: Packed | None) -> Packed | None:
        """The parameters of a plan, and their state, as one; None where they do not stand as one.

        They do not while their clocks differ or a rule has begun only some of its state. The
        buffers that were in use before are kept where the parameters still lie in them.

        Raises:
            ValueError: the group can never be packed.
        """
        params, states = plan.params, plan.states
        if not params:
            return None
        _check(plan)
        if before is not None and before.plan.names == plan.names and before.holds(plan):
            one = before.plan
            return replace(before, plan=_of_one(plan, group, one.params, one.states))
        for name, slot in plan.slots.items():
            if not _stand_as_one(slot, name, [state[name] for state in states]):
                return None
        if before is not None and before.lies_under(params):
            (flat,), gradient = before.plan.params, before.gradient
        else:
            flat = _moved_together(params)
            gradient = torch.zeros_like(flat)
        whole: State = {}
        for name, slot in plan.slots.items():
            whole[name] = _joined(slot, name, plan)
            _share(whole[name], slot, name, plan)
        steps = whole.get("step")
        if steps is not None:
            whole["step"] = states[0]["step"]
        return cls(
            _of_one(plan, group, [flat], [whole]),
            gradient,
            steps,
            _places(params),
            cut(gradient, params),
            list(_values(states)),
        )

    def lies_under(self, params: Sequence[Tensor]) -> bool:
        """Whether these parameters still are views of the buffer."""
        return _places(params) == self.places and all(map(Tensor.is_contiguous, params))

    def holds(self, plan: Plan) -> bool:
        """Whether the plan's parameters and their state still are views of the buffers."""
        return self.lies_under(plan.params) and all(
            map(is_, _values(plan.states), self.state_views)
        )

    def work(self, outer: Plan, group: Group, gradients: list[Tensor], skip: Tensor | None) -> Work:
        """A step of the buffer along these gradients, one for each parameter."""
        torch._foreach_copy_(self.gradient_views, gradients)  # pyright: ignore[reportPrivateImportUsage]
        plan, steps = self.plan, [] if self.steps is None else [self.steps]
        return Work(plan, group, plan.params, [self.gradient], plan.states, steps, skip, outer)

    def finish(self, outer: Plan) -> None:
        """After a step: tell autograd, and share state that a rule has begun in it."""
        # Autograd knows the parameters, not the buffer.
        increment_version(outer.params)
        if outer.begins and any(view is None for view in self.state_views):
            (whole,) = self.plan.states
            for name, slot in outer.slots.items():
                if outer.states[0][name] is None:
                    _share(whole[name], slot, name, outer)
            outer.packed = replace(self, state_views=list(_values(outer.states)))


def set_apart(plan: Plan, *, only_some: bool) -> None:
    """Step a packed group's parameters one by one, each with its own copy of what they shared.

    Needed where `only_some` of them step or are told something, if there is anything to share.
    """
    if plan.packed is None or not only_some:
        return
    model = [name for name, slot in plan.slots.items() if slot.scope is Scope.MODEL]
    if not model and "step" not in plan.names:
        return
    for state in plan.states:
        for name in model:
            state[name] = None if state[name] is None else state[name].clone()
    plan.packed = None


def cut(whole: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """The parts of something laid out as the buffer, in the shapes of the parameters."""
    parts = whole.split([param.numel() for param in params])
    return [part.view(param.shape) for part, param in zip(parts, params, strict=True)]


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


def _stand_as_one(slot: Slot, name: str, values: list[Tensor | None]) -> bool:
    """Whether all parameters have begun the state or none, and show the same where they share."""
    begun = [value for value in values if value is not None]
    if len(begun) < len(values):
        return not begun
    if name != "step" and slot.scope is not Scope.MODEL:
        return True
    return bool((torch.stack(begun) == begun[0]).all())


def _moved_together(params: Sequence[Tensor]) -> Tensor:
    """The new buffer, of which the parameters become views."""
    spans = sorted(
        (param.data_ptr(), param.data_ptr() + param.numel() * param.element_size())
        for param in params
        if param.numel()
    )
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise ValueError(
            "flat=True needs each parameter once and in memory of its own, got two that share "
            "some; tie weights by using one Parameter twice in the network"
        )
    flat = torch.cat([param.detach().reshape(-1) for param in params])
    for param, view in zip(params, cut(flat, params), strict=True):
        param.data = view
    return flat


def _of_one(plan: Plan, group: Group, params: list[Tensor], states: list[State]) -> Plan:
    """The plan with the buffer as its only parameter, executed as the plan is."""
    one = replace(plan, settings=[], params=params, states=states, packed=None, insists=False)
    if plan.programs is not None:
        one.programs = {}
    elif plan.fused != NOT_ASKED_FOR:
        one.fused = fused_kernel(one, group)
    if isinstance(one.fused, FusedKernel):
        # Nobody puts other tensors into the buffers' own state.
        one.fused_state = state_lists(one.fused, states)
    return one


def _joined(slot: Slot, name: str, plan: Plan) -> Tensor | None:
    """All parameters' state in one buffer, None where it has not begun."""
    begun = [state[name] for state in plan.states if state[name] is not None]
    if not begun:
        return None
    for param, value in zip(plan.params, begun, strict=True):
        if value.shape != slot.scope.shape(param):
            raise ValueError(
                f"state {name!r} of a parameter of shape {tuple(param.shape)} has shape "
                f"{tuple(value.shape)}"
            )
    if name == "step":
        return torch.stack(begun)
    if slot.scope is Scope.MODEL:
        return begun[0].clone()
    return torch.cat([value.reshape(-1) for value in begun])


def _share(whole: Tensor | None, slot: Slot, name: str, plan: Plan) -> None:
    """Give each parameter its view."""
    if whole is None:
        return
    if name == "step":
        views = list(whole.unbind())
    elif slot.scope is Scope.MODEL:
        views = [whole] * len(plan.params)
    else:
        views = cut(whole, plan.params)
    for state, view in zip(plan.states, views, strict=True):
        state[name] = view


def _places(params: Sequence[Tensor]) -> list[int]:
    """Address and size of each; those that are contiguous lie where they lay if these are equal."""
    return [*map(Tensor.data_ptr, params), *map(Tensor.numel, params)]


def _values(states: Sequence[State]) -> Iterator[Tensor | None]:
    """All state of all parameters in a fixed order."""
    return chain.from_iterable(map(dict.values, states))
