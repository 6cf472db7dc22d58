"""`Composed`: one direction, any rates, one step, as an ordinary `torch.optim.Optimizer`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.engine import Plan, Projection, dense_gradients, eager_step, fused_lists, fused_step
from sciopt.projection import Simplex
from sciopt.rule import CLOCK, Direction, Rate, Real, Rule, Slot, State, check_range

Key = tuple[str, int | None]
"""Where a setting lives in a parameter group: its key, and its place if that holds a tuple."""

RuleT = TypeVar("RuleT", Direction, Rate)

# Settings that change without a new plan: schedulers move lr at every step.
_READ_EACH_STEP = frozenset({"lr", "weight_decay", "maximize"})


class Composed(torch.optim.Optimizer):
    """step = -lr * (product of rates) * direction, for every parameter of every group.

    The settings of the rules live in `param_groups` under torch's names and each group may have
    its own, so schedulers move them as they move torch's. All state is allocated at
    construction; `state_dict` has torch's layout, and loading copies, so that optimizers loaded
    from one dict share nothing.

    Args:
        params: dense real floating-point parameters, or dicts of them with their own settings.
        direction: where to step.
        rates: multipliers of the step; their order does not matter.
        lr: the step size at rate one, at least zero; a tensor without axes is allowed.
        weight_decay: factor of the parameter added to its gradient or, decoupled, of its decay.
        decoupled_weight_decay: shrink the parameter by 1 - lr * weight_decay instead of adding
            to the gradient (Loshchilov & Hutter 2019).
        maximize: ascend.
        projection: applied to every parameter after its update, along the last axis.
        engine: "eager", "fused" (ValueError where torch has no kernel), or "auto": fused where
            possible, equal to round-off.

    Raises:
        ValueError: a setting out of range, no parameters, two rules that keep the same state.
        TypeError: an integer or complex parameter; in `step`, a sparse gradient.
    """

    def __init__(
        self,
        params: ParamsT,
        direction: Direction,
        rates: Sequence[Rate] = (),
        *,
        lr: Real | Tensor = 1e-3,
        weight_decay: Real = 0.0,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        if engine not in ("auto", "fused", "eager"):
            raise ValueError(f'engine must be "auto", "fused" or "eager", got {engine!r}')
        self._direction = direction
        self._rates = tuple(rates)
        self._projection = projection
        self._engine = engine
        self._keys = _setting_keys([direction, *rates])
        self._plans: list[Plan] = []
        defaults = {
            "lr": lr,
            **_settings([direction, *rates], self._keys),
            "weight_decay": weight_decay,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._settings = tuple(defaults)
        self._planned = tuple(key for key in defaults if key not in _READ_EACH_STEP)
        super().__init__(params, defaults)
        self._planned_state = self.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings; what is not given is the optimizer's."""
        super().add_param_group(param_group)
        try:
            group = _checked(self.param_groups[-1])
            _check_params(group["params"], self._projection)
            self._plans.append(self._plan(group))
        except (TypeError, ValueError):
            for param in self.param_groups.pop()["params"]:
                self.state.pop(param, None)
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient.

        Args:
            closure: evaluates the loss with fresh gradients; called once, and its value returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        eager = []
        gradients = [dense_gradients(group["params"]) for group in self.param_groups]
        for index, (group, grads) in enumerate(zip(self.param_groups, gradients, strict=True)):
            plan = self._current_plan(index)
            if isinstance(plan.fused, str):
                eager.append((plan, group, grads))
            elif not fused_step(plan.fused, plan, grads, group):
                if self._engine == "fused":
                    raise ValueError(
                        "a parameter's memory was laid out anew since the fused engine took it; "
                        'make the optimizer after .to(memory_format=...), or use engine="auto"'
                    )
                eager.append((plan, group, grads))
        if eager:
            eager_step(eager, self._projection)
        return loss

    def _current_plan(self, index: int) -> Plan:
        """The group's plan, made anew if its settings or the state have been replaced."""
        if self.state is not self._planned_state or not self.state:
            self._plan_all()
        group, plan = self.param_groups[index], self._plans[index]
        if plan.settings != [group[key] for key in self._planned]:
            plan = self._plans[index] = self._plan(group)
        return plan

    def __getstate__(self) -> dict[str, Any]:
        composition = ("_direction", "_rates", "_projection", "_engine", "_keys")
        names = (*composition, "_settings", "_planned")
        return super().__getstate__() | {name: vars(self)[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over groups and state; where they do not fit, raise and stay as before.

        `load_state_dict` ends here too, with tensors that may still be the caller's own.
        """
        vars(self).update({name: state[name] for name in state.keys() - {"state", "param_groups"}})
        own_groups = vars(self).get("param_groups", state["param_groups"])
        groups, states = [], defaultdict(dict)
        for own, loaded in zip(own_groups, state["param_groups"], strict=True):
            self._check_composition(loaded)
            group = {key: own[key] for key in self._settings} | loaded
            slots = _slots(*self._rules(_checked(group)))
            for param in group["params"]:
                states[param] = _own_state(param, state["state"].get(param, {}), slots)
            groups.append(group)
        before = {name: vars(self).get(name) for name in ("state", "param_groups")}
        super().__setstate__({"state": states, "param_groups": groups})
        try:
            self._plan_all()
        except ValueError:
            vars(self).update(before)
            raise

    def _plan_all(self) -> None:
        self._plans = [self._plan(group) for group in self.param_groups]
        self._planned_state = self.state

    def _check_composition(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError if a loaded group holds nothing of what one of the rules is set by."""
        for rule, keys in zip([self._direction, *self._rates], self._keys, strict=True):
            names = {key for key, _ in keys.values()}
            if names and not names & group.keys():
                raise ValueError(
                    f"the state is of another composition: {type(rule).__name__} needs "
                    f"{sorted(names)}, the loaded group has {sorted(group.keys() - {'params'})}"
                )

    def _rules(self, group: Mapping[str, Any]) -> tuple[Direction, list[Rate]]:
        """Direction and rates with the group's settings, which the rules themselves check."""
        direction = _with_settings(self._direction, self._keys[0], group)
        rates = zip(self._rates, self._keys[1:], strict=True)
        return direction, [_with_settings(rate, keys, group) for rate, keys in rates]

    def _plan(self, group: dict[str, Any]) -> Plan:
        """The group's rules, and each parameter with the state they declare, no more, no less."""
        direction, rates = self._rules(group)
        slots = _slots(direction, rates)
        states = [self.state[param] for param in group["params"]]
        for param, state in zip(group["params"], states, strict=True):
            for name in slots.keys() - state.keys():
                state[name] = _fresh(param, slots[name])
            for name in state.keys() - slots.keys():
                del state[name]
        settings = [group[key] for key in self._planned]
        plan = Plan(settings, direction, rates, group["params"], states)
        if self._engine != "eager":
            plan.fused = fused_lists(plan, group, self._projection)
            if self._engine == "fused" and isinstance(plan.fused, str):
                raise ValueError(f'engine="fused" is not possible: {plan.fused}')
        return plan


def _setting_keys(rules: Sequence[Rule]) -> list[dict[str, Key]]:
    """Each rule's settings by field: the torch key, prefixed by the rule where that is taken."""
    taken: set[Key] = set()
    keys: list[dict[str, Key]] = []
    for rule in rules:
        of_rule: dict[str, Key] = {}
        for each in fields(rule):
            place = each.metadata.get("key", (each.name, None))
            if place is None:
                continue
            if place in taken:
                place = (f"{type(rule).__name__}.{each.name}", None)
            if place in taken:
                raise ValueError(f"a composition can hold one {type(rule).__name__}, got two")
            taken.add(place)
            of_rule[each.name] = place
        keys.append(of_rule)
    return keys


def _settings(rules: Sequence[Rule], keys: Sequence[Mapping[str, Key]]) -> dict[str, Any]:
    """The rules' settings as a parameter group holds them.

    Tuples are pairs, and a place that no rule reads is zero: betas[0] without momentum.
    """
    settings: dict[str, Any] = {}
    for rule, of_rule in zip(rules, keys, strict=True):
        for name, (key, place) in of_rule.items():
            if place is None:
                settings[key] = getattr(rule, name)
            else:
                values = list(settings.get(key, (0.0, 0.0)))
                values[place] = getattr(rule, name)
                settings[key] = tuple(values)
    return settings


def _with_settings(rule: RuleT, keys: Mapping[str, Key], group: Mapping[str, Any]) -> RuleT:
    settings = {
        name: group[key] if place is None else group[key][place]
        for name, (key, place) in keys.items()
    }
    return replace(rule, **settings)


def _slots(direction: Direction, rates: Sequence[Rate]) -> dict[str, Slot]:
    """All state the rules keep; only the clock may be kept by two."""
    slots: dict[str, Slot] = {}
    for rule in (direction, *rates):
        for name, slot in rule.slots().items():
            if name in slots and slot != CLOCK:
                raise ValueError(f"two rules of one composition keep the state {name!r}")
            slots[name] = slot
    return slots


def _fresh(param: Tensor, slot: Slot) -> Tensor | None:
    return None if slot.initial is None else slot.allocate(param, slot.initial)


def _own_state(param: Tensor, loaded: Mapping[str, Any], slots: Mapping[str, Slot]) -> State:
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


def _checked(group: dict[str, Any]) -> dict[str, Any]:
    """The group, once the settings that belong to no rule are in range."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.ndim != 0:
        raise ValueError(f"a tensor lr must have no axes, got shape {tuple(lr.shape)}")
    check_range("lr", float(lr))
    if len(betas := group.get("betas", (0.0, 0.0))) != 2:
        raise ValueError(f"betas must be two numbers, got {betas!r}")
    check_range("weight_decay", group["weight_decay"])
    return group


def _check_params(params: Sequence[Tensor], projection: Projection | None) -> None:
    for param in params:
        if isinstance(projection, Simplex) and not (param.ndim and param.shape[-1]):
            raise ValueError(
                f"a simplex needs a last axis with elements, got a parameter of shape "
                f"{tuple(param.shape)}"
            )
        if not param.is_floating_point() or param.layout is not torch.strided:
            raise TypeError(
                "parameters must be dense, real and floating-point, got "
                f"{param.dtype} with layout {param.layout}; optimise the real view of a complex one"
            )
