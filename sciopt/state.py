"""The state that rules declare: allocated, completed, loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciopt.rule import CLOCK, Rule, Slot, State


def slots_of(rules: Sequence[Rule]) -> dict[str, Slot]:
    """All state the rules keep; only the clock and what is published may be kept by two."""
    slots: dict[str, Slot] = {}
    for rule in rules:
        for name, slot in rule.slots().items():
            if name == "step" and slot != CLOCK:
                raise ValueError(
                    f'"step" is the clock\'s name; {type(rule).__name__} keeps another'
                )
            shared = slot == CLOCK or (slot.published and slot == slots.get(name))
            if name in slots and not shared:
                raise ValueError(f"two rules of one composition keep the state {name!r}")
            slots[name] = slot
    return slots


def complete(state: State, param: Tensor, slots: Mapping[str, Slot]) -> State:
    """The state, in place, with all that is declared and no more, in the parameter's precision."""
    for name in slots.keys() - state.keys():
        state[name] = _fresh(param, slots[name])
    for name in state.keys() - slots.keys():
        del state[name]
    for name, slot in slots.items():
        value, dtype = state[name], slot.dtype or param.dtype
        if isinstance(value, Tensor) and value.dtype != dtype:
            state[name] = value.to(dtype)
    return state


def loaded_state(param: Tensor, loaded: Mapping[str, Any], slots: Mapping[str, Slot]) -> State:
    """A copy of a parameter's loaded state; fresh where torch had not begun it."""
    loaded = {name: value for name, value in loaded.items() if value is not None or name in slots}
    if loaded and loaded.keys() != slots.keys():
        raise ValueError(
            f"the state is of another composition: it holds {sorted(loaded)} where this one "
            f"keeps {sorted(slots)}"
        )
    state: State = {}
    for name, slot in slots.items():
        value = loaded.get(name)
        if value is None:
            state[name] = _fresh(param, slot)
            continue
        own, value = slot.allocate(param, 0.0), torch.as_tensor(value)
        if own.shape != value.shape:
            raise ValueError(
                f"state {name!r} of a parameter of shape {tuple(param.shape)} has shape "
                f"{tuple(value.shape)}; load the state of the same parameters in the same order"
            )
        state[name] = own.copy_(value)
    return state


def _fresh(param: Tensor, slot: Slot) -> Tensor | None:
    return None if slot.initial is None else slot.allocate(param, slot.initial)
