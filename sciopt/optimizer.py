"""`Composed`: one direction, any rates, one step, as an ordinary `torch.optim.Optimizer`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.autograd import _profiler_enabled  # pyright: ignore[reportPrivateImportUsage]
from torch.optim.optimizer import (
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from sciopt.checks import check_choice, check_params, check_rules, dense_gradients
from sciopt.engine import (
    Packed,
    Plan,
    Projection,
    Work,
    found_nonfinite,
    fused_kernel,
    raise_if_nonfinite,
    require_compiler,
    run,
    set_apart,
)
from sciopt.rule import Clock, Direction, Rate, Real, Scope, Slot, State
from sciopt.settings import checked, setting_keys, settings_of, with_settings
from sciopt.state import complete, loaded_state, slots_of

# Settings that change without a new plan, if no rule reads them: schedulers move lr at every step.
_READ_EACH_STEP = frozenset({"lr", "weight_decay", "maximize"})


class Options(TypedDict, total=False):
    """What `Composed` takes beside the rules, lr and weight decay."""

    maximize: bool
    projection: Projection | None
    engine: str
    flat: bool
    on_nonfinite: str


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
        lr: the step size at rate one, at least zero; a tensor without axes is allowed. A CUDA graph
            captures a number as it was: there, change a tensor on the device in place.
        weight_decay: factor of the parameter added to its gradient or, decoupled, of its decay.
        decoupled_weight_decay: shrink the parameter by 1 - lr * weight_decay instead of adding
            to the gradient (Loshchilov & Hutter 2019).
        maximize: ascend.
        projection: applied to every parameter after its update, along the last axis.
        engine: how a step is executed, equal to round-off. "eager": as the equation reads, any
            composition; "fused": torch's kernel (ValueError where there is none); "auto": fused
            where possible, else eager; "compiled": by TorchInductor, in few passes over the
            memory, for large parameters. The first step then takes seconds to compile; changing
            lr, a weight decay that is not zero, or a published value compiles nothing anew;
            changing betas does, and a new pattern of missing gradients.
        flat: pack each group's parameters into one buffer, which saves a small network's step
            most of its time. Rates must be per element or per model. `param.data` becomes a view
            of the buffer: views of a parameter's memory that were taken before see no further
            steps, saving a single parameter saves the whole buffer, every layout becomes
            contiguous, gradients are copied (one more buffer), and a clock in `state` must not be
            changed in place, apart from the others. A step in which only some
            parameters have a gradient sets their clocks apart, and from then on each is stepped
            alone. Do not use it under FSDP, with memory that is shared between processes, or with
            CUDA graphs captured before.
        on_nonfinite: what a NaN or an infinity in any gradient does. "propagate": it enters the
            step, as in torch; "skip": the step changes nothing, clocks included, which is decided
            on the device without waiting for it; "raise": FloatingPointError naming step and
            parameter, before anything is changed, at the price of waiting for the device.

    State that a changed setting makes needless, such as the buffer at momentum 0, is dropped.

    Raises:
        ValueError: a setting out of range, no parameters, two rules that keep the same state; in
            `step`, a value that has not been published.
        TypeError: an integer or complex parameter, a rule that is none; in `step`, a sparse
            gradient.
        RuntimeError: engine="compiled" without a compiler.
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
        flat: bool = False,
        on_nonfinite: str = "propagate",
    ):
        check_choice("engine", engine, ("auto", "fused", "compiled", "eager"))
        check_choice("on_nonfinite", on_nonfinite, ("propagate", "skip", "raise"))
        check_rules(direction, rates)
        self._direction = direction
        self._rates = tuple(rates)
        self._projection = projection
        self._engine = engine
        self._flat = flat
        self._on_nonfinite = on_nonfinite
        self._steps = 0
        self._keys = setting_keys([direction, *rates])
        self._plans: list[Plan] = []
        self._stepped: list[Sequence[Tensor]] = []
        of_rules = settings_of([direction, *rates], self._keys)
        defaults = {
            **of_rules,
            "lr": lr,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._settings = tuple(defaults)
        self._planned = tuple(
            key for key in defaults if key in of_rules or key not in _READ_EACH_STEP
        )
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings; what is not given is the optimizer's."""
        super().add_param_group(param_group)
        try:
            group = checked(self.param_groups[-1])
            check_params(group["params"], self._direction, self._projection)
            if self._engine == "compiled":
                for device in {param.device.type for param in group["params"]}:
                    require_compiler(device)
            self._plans.append(self._plan(group))
        except (RuntimeError, TypeError, ValueError):
            for param in self.param_groups.pop()["params"]:
                self.state.pop(param, None)
            raise

    def publish(
        self, name: str, value: Real | Tensor, params: Iterable[Tensor] | None = None
    ) -> None:
        """Tell the rules that listen to `name` its value for the steps to come.

        Args:
            name: what the rule calls it, such as "confidence" or "td_error".
            value: a number, or a tensor that broadcasts against the scope's shape: no axes for a
                layer or the model, (rows, 1, ...) for neurons. Copied, on the device.
            params: those it is for; all if not given.

        Raises:
            ValueError: no rule listens to `name`, or `value` does not fit; nothing is published.
            TypeError: `value` is no number.
        """
        slot = self._published(name)
        own = [param for group in self.param_groups for param in group["params"]]
        if params is None:
            params = own
        params = [params] if isinstance(params, Tensor) else list(params)
        for param in set(params).difference(own):
            raise ValueError(
                f"{name!r} was published for a parameter of shape {tuple(param.shape)} that is "
                "not this optimizer's"
            )
        for param in params:
            _check_fits(value, slot.scope.shape(param), f"{name!r} is {slot.scope.value}")
        if isinstance(value, Tensor) and params:
            # Once, not once for each parameter: a copy from the host waits for the device.
            value = value.to(params[0].device)
        only_some = slot.scope is Scope.MODEL and set(params) != set(own)
        for plan in self._plans:
            set_apart(plan, only_some=only_some)
        with torch.no_grad():
            for param in params:
                _publish(self.state[param], name, slot, param, value)

    def _published(self, name: str) -> Slot:
        """The slot of this name; ValueError if no rule listens to it."""
        slots = slots_of([self._direction, *self._rates])
        published = sorted(key for key, slot in slots.items() if slot.published)
        if name not in published:
            raise ValueError(f"no rule listens to {name!r}; those here listen to {published}")
        return slots[name]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient.

        Args:
            closure: evaluates the loss with fresh gradients; called once, and its value returned.
        """
        if torch.compiler.is_compiling():
            return _uncompiled_step(self, closure)
        # torch's wrapper looks for hooks and tells a profiler, which costs as much as a small step.
        hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        watched = hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
        step = _watched_step if watched or _profiler_enabled() else Composed._step
        return step(self) if closure is None else step(self, closure)

    # torch wraps a step that is not marked so.
    step.hooked = True  # pyright: ignore[reportFunctionMemberAccess]

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # What torch.no_grad() does, in a fifth of its time.
        recording = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            self._descend()
        finally:
            torch._C._set_grad_enabled(recording)
        return loss

    def _descend(self) -> None:
        groups = self.param_groups
        if len(self._plans) != len(groups):
            self._plan_all()
        gradients = [dense_gradients(group["params"]) for group in groups]
        skip = None
        if self._on_nonfinite != "propagate":
            skip = self._found_nonfinite(gradients)
            # State that a rule has yet to begin could not be put back: wait for the device, once.
            if skip is not None and self._begins() and bool(skip):
                self._stepped = [[] for _ in groups]
                return
        self._stepped = []
        works = [self._work(*each, skip) for each in enumerate(gradients)]
        run(works)
        self._steps += 1
        for work in works:
            if work.outer is not None and work.outer.packed is not None:
                work.outer.packed.finish(work.outer)

    def last_rates(self) -> dict[str, dict[Tensor, Tensor]]:
        """The rates applied in the last step: by rate, then by parameter that had a gradient.

        Each has the shape of its scope and is computed now, from the state that the step left and
        from settings and published values as they are, so that a step costs nothing for it: read
        it before a scheduler moves betas, or the next value is published. Rates of one label have
        their scopes behind it. Empty dicts before the first step.
        """
        found: dict[str, dict[Tensor, Tensor]] = {}
        for rate, label, keys in zip(
            self._rates, _labels(self._rates), self._keys[1:], strict=True
        ):
            of_rule = found[label] = {}
            for group, params in zip(self.param_groups, self._stepped, strict=False):
                rule = with_settings(rate, keys, group)
                for param in params:
                    state = self.state[param]
                    clock = _standing_clock(state.get("step"))
                    if clock is not None:
                        of_rule[param] = rule.rate(state, clock).clone()
        return found

    def _found_nonfinite(self, gradients: Sequence[Sequence[Tensor | None]]) -> Tensor | None:
        """1 if the step is to be skipped; raises if that is asked for."""
        if self._on_nonfinite == "raise":
            raise_if_nonfinite(self.param_groups, gradients, self.state, self._steps)
            return None
        present = [grad for of_group in gradients for grad in of_group if grad is not None]
        return found_nonfinite(present) if present else None

    def _begins(self) -> bool:
        """Whether some state has yet to begin."""
        states = (state for plan in self._plans if plan.begins for state in plan.states)
        return any(value is None for state in states for value in state.values())

    def _work(self, index: int, gradients: Sequence[Tensor | None], skip: Tensor | None) -> Work:
        """One group's part of the step."""
        group, plan = self.param_groups[index], self._current_plan(index)
        for name in plan.published:
            if any(state[name] is None for state in plan.states):
                raise ValueError(
                    f"a rule listens to {name!r}, which has not been published for every "
                    f"parameter; call optimizer.publish({name!r}, value) before step()"
                )
        grads = [grad for grad in gradients if grad is not None]
        params, states = plan.params, plan.states
        if len(grads) < len(params):
            present = [place for place, grad in enumerate(gradients) if grad is not None]
            params = [params[place] for place in present]
            states = [states[place] for place in present]
        self._stepped.append(params)
        if skip is not None and params:
            skip = skip.to(params[0].device, non_blocking=True)
        if plan.packed is not None and len(grads) == len(plan.params):
            return plan.packed.work(plan, group, grads, skip)
        set_apart(plan, only_some=bool(params))
        steps = [state["step"] for state in states] if "step" in plan.names else []
        return Work(plan, group, params, grads, states, steps, skip)

    def _current_plan(self, index: int) -> Plan:
        """The group's plan, made anew if its settings, parameters or state have been replaced."""
        group, plan = self.param_groups[index], self._plans[index]
        params, size = group["params"], len(plan.names)
        if (
            plan.settings == list(map(group.get, self._planned))
            and len(params) == len(plan.params)
            and all(map(is_, params, plan.params))
            and all(map(is_, map(self.state.get, params), plan.states))
            and list(map(len, plan.states)).count(size) == len(params)
            and (plan.stands() if plan.packed is None else plan.packed.holds(plan))
        ):
            return plan
        plan = self._plans[index] = self._plan(group, plan.packed)
        return plan

    def __getstate__(self) -> dict[str, Any]:
        composition = ("_direction", "_rates", "_projection", "_keys", "_settings", "_planned")
        names = (*composition, "_engine", "_flat", "_on_nonfinite", "_steps")
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
            slots = slots_of(self._rules(checked(group)))
            for param in group["params"]:
                states[param] = loaded_state(param, state["state"].get(param, {}), slots)
            groups.append(group)
        before = {name: vars(self).get(name) for name in ("state", "param_groups")}
        super().__setstate__({"state": states, "param_groups": groups})
        try:
            self._plan_all()
        except ValueError:
            vars(self).update(before)
            raise
        self._stepped = []

    def _plan_all(self) -> None:
        # Where there are plans already, buffers of theirs may still be in use.
        packed = [plan.packed for plan in vars(self).get("_plans", [])]
        packed += [None] * len(self.param_groups)
        self._plans = [self._plan(*each) for each in zip(self.param_groups, packed, strict=False)]

    def _check_composition(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError if a loaded group holds nothing of what one of the rules is set by."""
        for rule, keys in zip([self._direction, *self._rates], self._keys, strict=True):
            names = {key for key, _ in keys.values()}
            if names and not names & group.keys():
                raise ValueError(
                    f"the state is of another composition: {type(rule).__name__} needs "
                    f"{sorted(names)}, the loaded group has {sorted(group.keys() - {'params'})}"
                )

    def _rules(self, group: Mapping[str, Any]) -> tuple[Direction, *tuple[Rate, ...]]:
        """Direction and rates with the group's settings, which the rules themselves check."""
        direction = with_settings(self._direction, self._keys[0], group)
        rates = zip(self._rates, self._keys[1:], strict=True)
        return direction, *(with_settings(rate, keys, group) for rate, keys in rates)

    def _plan(self, group: dict[str, Any], before: Packed | None = None) -> Plan:
        """The group's rules, and each parameter with the state they declare, no more, no less.

        `before` is what the group's parameters were packed in, if they were.
        """
        direction, *rates = self._rules(group)
        slots = slots_of([direction, *rates])
        plan = Plan(
            [group[key] for key in self._planned],
            direction,
            [rate for rate in rates if rate.weights_loss],
            [rate for rate in rates if not rate.weights_loss],
            list(group["params"]),
            [complete(self.state[param], param, slots) for param in group["params"]],
            slots,
            self._projection,
            insists=self._engine == "fused",
        )
        if self._engine == "compiled":
            plan.programs = {}
        elif self._engine != "eager":
            plan.fused = fused_kernel(plan, group)
            if plan.insists and isinstance(plan.fused, str):
                raise ValueError(f'engine="fused" is not possible: {plan.fused}')
        if self._flat:
            plan.packed = Packed.of(plan, group, before)
        return plan


_watched_step = torch.optim.Optimizer.profile_hook_step(Composed._step)


# A compiled training loop would compile the step anew at every count of its clocks.
@torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]
def _uncompiled_step(optimizer: Composed, closure: Callable[[], Any] | None) -> Any:
    return optimizer.step(closure)


def _publish(state: State, name: str, slot: Slot, param: Tensor, value: Real | Tensor) -> None:
    """Write the value into a parameter's state."""
    if state.get(name) is None:
        state[name] = slot.allocate(param, 0.0)
    if isinstance(value, Tensor):
        state[name].copy_(value)
    else:
        state[name].fill_(value)


def _check_fits(value: Real | Tensor, shape: tuple[int, ...], scope: str) -> None:
    """Raise ValueError unless the value broadcasts to the shape, TypeError if it is no number."""
    if not isinstance(value, (Tensor, int, float)):
        raise TypeError(f"{scope}: expected a number or a tensor, got {value!r}")
    if isinstance(value, Tensor):
        try:
            value.expand(shape)
        except RuntimeError as error:
            raise ValueError(
                f"{scope}: expected a value that broadcasts to shape {shape}, got shape "
                f"{tuple(value.shape)}"
            ) from error


def _standing_clock(step: Tensor | None) -> Clock | None:
    """The clock as it stands after a step, None where all steps so far were skipped."""
    if step is None:
        return Clock(None)
    count = step.item() if step.is_cpu else step.double()
    return Clock(count) if count != 0 else None


def _labels(rates: Sequence[Rate]) -> list[str]:
    """The rates' labels, with scopes or numbers behind them where they would be alike."""
    labels = [rate.label for rate in rates]
    scoped = [
        label if labels.count(label) == 1 else f"{label}({rate.scope.name})"
        for label, rate in zip(labels, rates, strict=True)
    ]
    return [
        label if scoped.count(label) == 1 else f"{label} {1 + scoped[:place].count(label)}"
        for place, label in enumerate(scoped)
    ]
