"""One step of all groups, each by its engine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sciopt.engine.compiled import compiled_step
from sciopt.engine.fused import fused_step
from sciopt.engine.plan import Work
from sciopt.engine.update import Part, Settings, step_one, surveyed
from sciopt.rule import Clock, Model


def run(works: Sequence[Work]) -> None:
    """One step of every group; a parameter without a gradient is left alone, its clock too."""
    others = [work for work in works if isinstance(work.plan.fused, str) or not fused_step(work)]
    if not others:
        return
    for work in others:
        by_step: dict[float, Clock] = {}
        work.clocks = [_clock(state.get("step"), by_step) for state in work.states]
        for step in work.steps:
            step += 1 if work.skip is None else 1 - work.skip
    parts = [_parts(work) for work in others]
    surveys = _surveys([part for of_work in parts for part in of_work])
    for work, of_work in zip(others, parts, strict=True):
        if work.plan.programs is None:
            for part in of_work:
                step_one(part._replace(surveys=surveys))
        else:
            compiled_step([part._replace(surveys=surveys) for part in of_work])


def _clock(step: Tensor | None, by_step: dict[float, Clock]) -> Clock:
    """The clock after this step; on the host a number, and one clock for all that show the same."""
    if step is None:
        return by_step.setdefault(math.nan, Clock(math.nan))
    if step.is_cuda:
        # float32 cannot tell 1 - 0.999^step from its neighbours well enough.
        return Clock((step + 1).double())
    value = step.item() + 1
    return by_step.setdefault(value, Clock(value))


def _parts(work: Work) -> list[Part]:
    settings = Settings.of(work.group)
    each = zip(work.params, work.gradients, work.states, work.clocks, strict=True)
    return [Part(work.plan, settings, *of_param, skip=work.skip) for of_param in each]


def _surveys(parts: Sequence[Part]) -> list[Tensor | None]:
    """What each rate learns of all parameters; the first group's rates ask, for all groups."""
    if not parts:
        return []
    rates = parts[0].plan.rates
    asking = surveyed(rates)
    if not any(asking):
        return []
    model = Model(
        [part.param for part in parts],
        [part.descent() for part in parts],
        [part.state for part in parts],
    )
    return [rate.survey(model) if asks else None for rate, asks in zip(rates, asking, strict=True)]
