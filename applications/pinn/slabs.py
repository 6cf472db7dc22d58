"""Time slabs: consecutive intervals of the last coordinate, each a problem of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.language import Condition, Field, Index, Problem, derivatives_used

Channels = Callable[[Tensor, tuple[Index, ...]], Float[Tensor, "channels points unknowns"]]


def boundaries(problem: Problem) -> list[float]:
    """The ends of the slabs, the region's two ends included."""
    low, high = list(problem.region.values())[-1]
    count = problem.slabs
    return [low + (high - low) * k / count for k in range(count)] + [high]


def slab(problem: Problem, number: int, before: Channels | None) -> Problem:
    """The problem on one slab, which goes on where the network of the slab before ends.

    `before` gives that network's derivatives at points; the conditions at the beginning of time
    are replaced by them, up to the order below the equations' own.
    """
    if problem.slabs == 1:
        return problem
    *space, time = problem.region
    ends = boundaries(problem)
    region = {name: problem.region[name] for name in space} | {
        time: (ends[number], ends[number + 1])
    }
    conditions = list(problem.conditions())
    if before is not None:
        others = [condition for condition in conditions if condition.axis != time]
        conditions = [_continued(problem, ends[number], before), *others]
    kind = type(
        type(problem).__name__,
        (type(problem),),
        {"region": region, "slabs": 1, "conditions": lambda _: conditions},
    )
    return kind(**{f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)})


def _continued(problem: Problem, at: float, before: Channels) -> Condition:
    """What the equations need at the beginning of a slab, from the network before."""
    *space, time = problem.region
    samples = torch.zeros(1, len(problem.region), dtype=torch.float64)
    used, _ = derivatives_used(problem, problem.equations, samples)
    orders = [max((index[-1] for index in indices), default=0) for indices in used]
    wanted: list[Index] = [(*(0 for _ in space), k) for k in range(max(orders))]

    def equation(*arguments: Any) -> list[Tensor]:
        unknowns: Sequence[Field] = arguments[: len(orders)]
        points = torch.stack(arguments[len(orders) :], dim=1).detach()
        given = before(points, tuple(wanted))
        return [
            (getattr(field, time * k) if k else field.value) - given[k, :, number].to(points)
            for number, (field, order) in enumerate(zip(unknowns, orders, strict=True))
            for k in range(order)
        ]

    return Condition(time, at, equation)
