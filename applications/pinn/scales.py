"""Scales read off the equations: how fast things change along each coordinate, how large terms are.

The equations are linearised where the conditions put the solution. If a(u_α) is the coefficient
of a derivative u_α, and κ the wave number along each coordinate, the term's size is |a| κ^α. Time
is scaled so that the largest of the other terms turns it over once per unit; each residual is
divided by its largest term. Both make numbers of order one, from the problem alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.language import Index, Problem, derivatives_used, expressions, fields

SAMPLES = 512
# A spread below this is rounding around a constant.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Scales:
    """`rates`: changes per unit of each coordinate; `size` of an equation: see `sizes`."""

    rates: Mapping[str, float]
    values: Float[Tensor, "samples unknowns"]
    points: Float[Tensor, "samples coordinates"]

    def local(
        self, problem: Problem, points: Float[Tensor, "points coordinates"]
    ) -> Float[Tensor, "points coordinates"]:
        """The wave numbers at each point: within a layer, those of the stretched coordinate."""
        columns = []
        for x, (name, rate) in zip(points.unbind(1), self.rates.items(), strict=True):
            if name in problem.layers():
                position, width = problem.layers()[name]
                columns.append(((x - position) ** 2 + width**2).rsqrt())
            else:
                columns.append(torch.full_like(x, rate))
        return torch.stack(columns, dim=1)


Derivatives = dict[tuple[int, Index], Tensor]


def linearised(
    problem: Problem,
    equation: Callable[..., Any],
    points: Float[Tensor, "samples coordinates"],
    values: Float[Tensor, "samples unknowns"],
) -> tuple[list[Tensor], list[Derivatives]]:
    """Each expression with all derivatives zero, and its coefficient of each derivative."""
    used, _ = derivatives_used(problem, equation, points)
    none = (0,) * len(problem.region)
    leaves = {
        (k, index): (values[:, k] if index == none else torch.zeros_like(points[:, 0]))
        .clone()
        .requires_grad_()
        for k, indices in enumerate(used)
        for index in indices | {none}
    }
    with torch.enable_grad():
        results = expressions(
            equation(*fields(problem, lambda k, index: leaves[k, index]), *points.unbind(1))
        )
        coefficients = []
        for result in results:
            found = torch.autograd.grad(
                (result + 0 * sum(leaves.values())).sum(),
                list(leaves.values()),
                retain_graph=True,
            )
            coefficients.append(dict(zip(leaves, found, strict=True)))
    return [result.detach() for result in results], coefficients


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


def region_points(problem: Problem, count: int) -> Float[Tensor, "samples coordinates"]:
    """Sobol points of the region."""
    low, high = torch.tensor(list(problem.region.values()), dtype=torch.float64).T
    sobol = torch.quasirandom.SobolEngine(len(low), scramble=True, seed=0)
    return low + (high - low) * sobol.draw(count, dtype=torch.float64)


def wave_numbers(
    value: Float[Tensor, " samples"], points: Float[Tensor, "samples coordinates"]
) -> list[float]:
    """Along each coordinate, the size of a function's slope in units of its spread."""
    if not value.requires_grad:
        return [0.0] * points.shape[1]
    (slope,) = torch.autograd.grad(value.sum(), points, allow_unused=True, retain_graph=True)
    spread = rms(value.detach() - value.detach().mean())
    if slope is None or spread <= ROUNDING:
        return [0.0] * points.shape[1]
    return [rms(column) / spread for column in slope.unbind(1)]


def with_zero(
    problem: Problem, equation: Callable[..., Any], points: Float[Tensor, "samples coordinates"]
) -> list[Float[Tensor, " samples"]]:
    """An equation's expressions for unknowns that are zero: what drives them."""
    zero = torch.zeros_like(points[:, 0])
    return expressions(equation(*fields(problem, lambda *_: zero), *points.unbind(1)))


@torch.enable_grad()
def starting_values(
    problem: Problem, points: Float[Tensor, "samples coordinates"]
) -> tuple[Float[Tensor, "samples unknowns"], list[list[float]]]:
    """The unknowns where a condition gives them, carried along its axis, and their wave numbers.

    Zero where no condition gives a value.
    """
    values = torch.zeros(len(points), len(problem.unknowns), dtype=torch.float64)
    none, names = (0,) * len(problem.region), list(problem.region)
    waves = []
    for condition in reversed(list(problem.conditions())):
        face = points.clone()
        face[:, names.index(condition.axis)] = condition.at
        _, slopes = linearised(problem, condition.equation, face, torch.zeros_like(values))
        misfits = with_zero(problem, condition.equation, face.requires_grad_())
        for misfit, slope in zip(misfits, slopes, strict=True):
            alone = [key for key, coefficient in slope.items() if bool(coefficient.any())]
            if len(alone) != 1 or alone[0][1] != none or not bool((slope[alone[0]] != 0).all()):
                continue
            value = -misfit / slope[alone[0]]
            values[:, alone[0][0]] = value.detach()
            waves.append(wave_numbers(value, face))
    return values, waves


@torch.enable_grad()
def source_waves(
    problem: Problem, points: Float[Tensor, "samples coordinates"]
) -> list[list[float]]:
    """Wave numbers of what drives the equations."""
    places = points.clone().requires_grad_()
    return [wave_numbers(e, places) for e in with_zero(problem, problem.equations, places)]


def scales_of(problem: Problem) -> Scales:
    """Wave numbers of the coordinates of space, then the rate of time (the last coordinate)."""
    points = region_points(problem, SAMPLES)
    values, given = starting_values(problem, points)
    found = [*given, *source_waves(problem, points)]
    rates = {}
    for axis, (name, (low, high)) in enumerate(problem.region.items()):
        whole = 2 * math.pi if name in problem.periodic else 2.0
        rates[name] = max([whole / (high - low), *(waves[axis] for waves in found)])
    rates |= problem.rates
    time = list(problem.region)[-1]
    if time not in problem.layers() and time not in problem.rates:
        rates[time] = max(rates[time], rate_of_change(problem, rates, points, values))
    return Scales(rates, values, points)


def rate_of_change(
    problem: Problem,
    rates: Mapping[str, float],
    points: Float[Tensor, "samples coordinates"],
    values: Float[Tensor, "samples unknowns"],
) -> float:
    """The largest rate at which an unknown changes along the last coordinate; 0 if none does.

    Only where the equation is an evolution: all conditions along that coordinate at its lower end.
    """
    *_, time = problem.region
    ends = [c.at for c in problem.conditions() if c.axis == time]
    if not ends or any(at != problem.region[time][0] for at in ends):
        return 0.0
    found = 0.0
    for coefficients in linearised(problem, problem.equations, points, values)[1]:
        steady, orders = 0.0, {}
        for (_, index), coefficient in coefficients.items():
            if index[-1] == 0:
                steady = max(steady, rms(coefficient) * waves_to(rates, index))
            elif not any(index[:-1]):
                orders[index[-1]] = max(orders.get(index[-1], 0.0), rms(coefficient))
        if orders and orders[max(orders)] > 0:
            found = max(found, (steady / orders[max(orders)]) ** (1 / max(orders)))
    return found


def waves_to(rates: Mapping[str, float], index: Index) -> float:
    """κ^α."""
    return math.prod(rate**order for rate, order in zip(rates.values(), index, strict=True))


def sizes(problem: Problem, equation: Callable[..., Any], scales: Scales) -> list[float]:
    """The size of each expression's largest term; 1 for one without any."""
    found = []
    for coefficients in linearised(problem, equation, scales.points, scales.values)[1]:
        terms = [
            rms(coefficient)
            * problem.magnitudes.get(problem.unknowns[k], 1.0)
            * waves_to(scales.rates, index)
            for (k, index), coefficient in coefficients.items()
        ]
        found.append(max(terms) or 1.0)
    return found
