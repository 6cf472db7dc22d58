"""A parameter group made ready for its steps, and its part of one step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciopt.projection import Box, Simplex
from sciopt.rule import Clock, Direction, Rate, Real, Rule, Slot, State

if TYPE_CHECKING:
    from sciopt.engine.fused import FusedKernel
    from sciopt.engine.packed import Packed

Group = Mapping[str, Any]
Projection = Simplex | Box
Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]
Programs = tuple[Callable[..., Any] | None, Callable[..., Any]]
"""Compiled: the rates coarser than an element, if there are any, and the rest of the step."""
Fingerprint = tuple[list[int], list[Layout]]
"""Where parameters and state lie, layouts of parameters and gradients: programs rely on them."""
NOT_ASKED_FOR = "not asked for"


@dataclass
class Plan:
    """One parameter group made ready: rules with its settings, its parameters and their state.

    `settings` are the values the rules were read from; the plan is good while they, the
    parameters and their dicts of state stay. `slots` are the state that the rules keep.
    `weights` are the rates that multiply the gradient, `rates` those that multiply the update.
    `fused` is torch's kernel, or why there is none, `fused_state` its state where that is known
    beforehand; `insists` says that a step without it is an error. `programs` and `factors` are
    the compiled engine's own.
    """

    settings: list[Any]
    direction: Direction
    weights: Sequence[Rate]
    rates: Sequence[Rate]
    params: list[Tensor]
    states: list[State]
    slots: Mapping[str, Slot]
    projection: Projection | None
    insists: bool = False
    fused: FusedKernel | str = NOT_ASKED_FOR
    fused_state: list[list[Tensor]] | None = None
    programs: dict[Hashable, tuple[Fingerprint, Programs]] | None = None
    factors: tuple[tuple[Real, Real], ...] | None = None
    packed: Packed | None = None
    dtypes: list[torch.dtype] = field(init=False)
    names: frozenset[str] = field(init=False)
    begins: bool = field(init=False)
    """Whether a rule begins some state at its first gradient."""
    published: tuple[str, ...] = field(init=False)
    """What the application must have published before a step."""

    def __post_init__(self) -> None:
        self.dtypes = [param.dtype for param in self.params]
        self.names = frozenset(self.slots)
        self.begins = any(slot.initial is None for slot in self.slots.values())
        self.published = tuple(name for name, slot in self.slots.items() if slot.published)

    def stands(self) -> bool:
        """Whether the parameters still have the precision that the state was made for."""
        return self.dtypes == [param.dtype for param in self.params]

    @property
    def rules(self) -> list[Rule]:
        """Direction and all rates."""
        return [self.direction, *self.weights, *self.rates]


@dataclass
class Work:
    """One group's part of a step: the parameters that have a gradient, and their clocks to advance.

    `skip` is 1 on the device, a float32 without axes, if the step is to change nothing. `outer`
    is the plan of the group whose buffer this steps, if it is a packed one.
    """

    plan: Plan
    group: Group
    params: Sequence[Tensor]
    gradients: Sequence[Tensor]
    states: Sequence[State]
    steps: Sequence[Tensor]
    skip: Tensor | None = None
    outer: Plan | None = None
    clocks: list[Clock] = field(default_factory=list)


def layouts(tensors: Sequence[Tensor]) -> list[Layout]:
    """Shape, strides and dtype of each tensor."""
    return [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
