"""One step of all groups, each by its engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciopt.engine.compiled import compiled_step
from sciopt.engine.fused import advance, fused_step
from sciopt.engine.packed import cut
from sciopt.engine.plan import Work
from sciopt.engine.update import Part, Settings, kept, step_one, undone
from sciopt.rule import Clock, Model, Rate, State


def run(works: Sequence[Work]) -> None:
    """One step of every group; a parameter without a gradient is left alone, its clock too."""
    others = [work for work in works if isinstance(work.plan.fused, str) or not fused_step(work)]
    if not others:
        return
    for work in others:
        work.clocks = _clocks(work)
        advance(work.steps, work.skip)
    surveys = _surveys(others)
    for work in others:
        parts = _parts(work, surveys)
        if work.plan.programs is None:
            for part in parts:
                step_one(part)
        else:
            compiled_step(parts)


def _clocks(work: Work) -> list[Clock]:
    """The clocks after this step; on the host numbers, and one clock for all that show the same."""
    if "step" not in work.plan.names:
        return [Clock(None)] * len(work.states)
    steps: list[Tensor] = [state["step"] for state in work.states]
    if not all(step.is_cpu for step in steps):
        # float32 cannot tell 1 - 0.999^step from its neighbours well enough.
        counts = torch.stack([step.to(steps[0].device) for step in steps]).double() + 1
        stack = Clock(counts)
        return [Clock(count, stack, place) for place, count in enumerate(counts.unbind())]
    values = [step.item() + 1 for step in steps]
    by_value = {value: Clock(value) for value in set(values)}
    return [by_value[value] for value in values]


def _parts(work: Work, surveys: Sequence[Tensor | None]) -> list[Part]:
    plan, settings, skip = work.plan, Settings.of(work.group), work.skip
    each = zip(work.params, work.gradients, work.states, work.clocks, strict=True)
    return [Part(plan, settings, *of_param, surveys, skip) for of_param in each]


def _surveys(works: Sequence[Work]) -> list[Tensor | None]:
    """What each rate learns of all parameters; the first group's rates ask, for all groups."""
    rates = works[0].plan.rates
    asking = [type(rate).survey is not Rate.survey for rate in rates]
    if not any(asking):
        return []
    params: list[Tensor] = []
    gradients: list[Tensor] = []
    states: list[State] = []
    for work in works:
        descents = [part.descent() for part in _parts(work, [])]
        if work.outer is not None:
            descents = cut(descents[0], work.outer.params)
        gradients += descents
        params += work.params if work.outer is None else work.outer.params
        states += work.states if work.outer is None else work.outer.states
    if not params:
        return []
    model = Model(params, gradients, states)
    listeners = [rate for rate, asks in zip(rates, asking, strict=True) if asks]
    with undone(works[0].skip, [each for state in states for each in kept(listeners, state)]):
        return [
            rate.survey(model) if asks else None for rate, asks in zip(rates, asking, strict=True)
        ]
