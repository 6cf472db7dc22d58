"""What is refused before a problem is trained, in words that say where and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from applications.pinn.language import (
    Condition,
    Index,
    Problem,
    ProblemError,
    derivatives_used,
    expressions,
    fields,
)
from applications.pinn.reference import Reference

SAMPLES = 64
# Conditions may differ by this much of their size where they meet: rounding and no more.
ROUNDING = 1e-8


def check(problem: Problem) -> None:
    """Raise ProblemError for a problem that cannot be solved as it is written.

    Checked are the region, the names of derivatives, that there are as many conditions along
    each coordinate as the equations have derivatives by it, that values are finite, and that two
    conditions agree where they meet.
    """
    _check_region(problem)
    _check_names(problem)
    _check_axes(problem)
    points = _samples(problem)
    _check_equations(problem, points)
    conditions = list(problem.conditions())
    for condition in conditions:
        _check_condition(problem, condition, points)
    if problem.lift(*points.unbind(1)) is None:
        _check_count(problem, points, conditions)
    if not problem.jumps:
        for first, second in combinations(conditions, 2):
            _check_agreement(problem, first, second, points)


def _check_region(problem: Problem) -> None:
    name = type(problem).__name__
    if not getattr(problem, "region", None):
        raise ProblemError(
            f'{name} has no region; give each coordinate its ends: region = {{"x": (0.0, 1.0)}}'
        )
    for axis, (low, high) in problem.region.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ProblemError(
                f"the region's {axis!r} reaches from {low} to {high}; the lower end must be finite "
                "and less than the upper"
            )
    if not problem.unknowns:
        raise ProblemError(f'{name} has no unknowns; give their names: unknowns = ("u",)')
    if problem.slabs < 1:
        raise ProblemError(f"slabs is {problem.slabs}; give 1 or more")


def _check_names(problem: Problem) -> None:
    named = {
        "periodic": (problem.periodic, "coordinates", problem.region),
        "symmetry": (problem.symmetry, "coordinates", problem.region),
        "rates": (problem.rates, "coordinates", problem.region),
        "layers": (problem.layers(), "coordinates", problem.region),
        "magnitudes": (problem.magnitudes, "unknowns", problem.unknowns),
    }
    for what, (names, kind, known) in named.items():
        for name in names:
            if name not in known:
                raise ProblemError(f"{what} names {name!r}; the {kind} are {', '.join(known)}")


def _check_axes(problem: Problem) -> None:
    for axis in problem.layers():
        if axis in problem.periodic:
            raise ProblemError(
                f"layers names {axis!r}, which is periodic: the network sees it as waves and not "
                "stretched; take it out of `layers` or out of `periodic`"
            )
    for axis, parity in problem.symmetry.items():
        low, high = problem.region[axis]
        if low != -high or parity not in ("odd", "even"):
            raise ProblemError(
                f"symmetry {parity!r} in {axis!r} from {low} to {high}: it must be 'odd' or 'even' "
                "about zero, the middle of the region"
            )


def _samples(problem: Problem) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor(list(problem.region.values()), dtype=torch.float64).T
    shape = SAMPLES, len(problem.region)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _check_equations(problem: Problem, points: Tensor) -> None:
    used, found = _traced(problem, problem.equations, points, "equations")
    if len(found) != len(problem.unknowns):
        raise ProblemError(
            f"equations returns {len(found)} expressions for {len(problem.unknowns)} unknowns "
            f"({', '.join(problem.unknowns)}); give one for each"
        )
    for name, indices in zip(problem.unknowns, used, strict=True):
        if not indices:
            raise ProblemError(f"no equation has {name!r} in it; remove it from the unknowns")


def _traced(
    problem: Problem, equation: Callable[..., Any], points: Tensor, where: str
) -> tuple[list[set[Index]], list[Tensor]]:
    """The derivatives an equation uses and its expressions, after trying it."""
    try:
        used, found = derivatives_used(problem, equation, points)
    except ProblemError as error:
        raise ProblemError(f"in {where}: {error}") from None
    except TypeError as error:
        arguments = ", ".join([*problem.unknowns, *problem.region])
        raise ProblemError(
            f"in {where}: {error}; it is called with ({arguments}), unknowns first"
        ) from error
    if not any(used):
        raise ProblemError(f"in {where}: no unknown occurs, so there is nothing to be met")
    for expression in found:
        if not isinstance(expression, Tensor):
            raise ProblemError(
                f"in {where}: it returns {expression!r}; return an expression of the unknowns"
            )
        if expression.shape != points[:, 0].shape:
            raise ProblemError(
                f"in {where}: an expression has shape {tuple(expression.shape)} for {len(points)} "
                "points; give one number for each point, without sums or means over them"
            )
    return used, found


def _check_condition(problem: Problem, condition: Condition, points: Tensor) -> None:
    where = f"the condition at {condition.label}"
    if condition.axis not in problem.region:
        raise ProblemError(f"{where}: the coordinates are {', '.join(problem.region)}")
    if condition.axis in problem.periodic:
        raise ProblemError(
            f"{where}: {condition.axis!r} is periodic, it has no ends; remove the condition or "
            "take the coordinate out of `periodic`"
        )
    if condition.at not in problem.region[condition.axis]:
        low, high = problem.region[condition.axis]
        raise ProblemError(
            f"{where} is at no end of the region, which reaches from {low} to {high}"
        )
    _traced(problem, condition.equation, points, where)
    for value in _with_zero(problem, condition, _on(problem, condition, points)):
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).nonzero()[0])
            place = ", ".join(
                f"{name} = {float(c):g}"
                for name, c in zip(
                    problem.region, _on(problem, condition, points)[bad], strict=True
                )
            )
            raise ProblemError(f"{where} has the value {float(value[bad])} at {place}")


def _on(problem: Problem, condition: Condition, points: Tensor) -> Tensor:
    points = points.clone()
    points[:, list(problem.region).index(condition.axis)] = condition.at
    return points


def _with_zero(problem: Problem, condition: Condition, points: Tensor) -> list[Tensor]:
    """A condition's expressions for an unknown that is zero: minus what is given."""
    zero = torch.zeros_like(points[:, 0])
    return expressions(condition.equation(*fields(problem, lambda *_: zero), *points.unbind(1)))


def orders_of(problem: Problem, points: Tensor) -> list[int]:
    """The total order of the equations in each coordinate: as many conditions it has to have.

    Each equation is given one unknown, so that the orders of their derivatives have the largest
    sum (Jacobi 1865, "De investigando ordine systematis aequationum differentialium").
    """
    used, _ = derivatives_used(problem, problem.equations, points)
    leaves = {
        (k, index): torch.full_like(points[:, 0], 0.5).requires_grad_()
        for k, indices in enumerate(used)
        for index in indices
    }
    found = expressions(
        problem.equations(*fields(problem, lambda *key: leaves[key]), *points.unbind(1))
    )
    orders = np.full((len(found), len(used), len(problem.region)), -np.inf)
    for row, expression in enumerate(found):
        slopes = torch.autograd.grad(
            expression.sum(), list(leaves.values()), retain_graph=True, allow_unused=True
        )
        for (k, index), slope in zip(leaves, slopes, strict=True):
            if slope is not None:
                orders[row, k] = np.maximum(orders[row, k], index)
    choices = [
        orders[range(len(found)), list(choice)].sum(0) for choice in permutations(range(len(used)))
    ]
    return [int(order) for order in np.maximum(np.max(choices, axis=0), 0)]


def _check_count(problem: Problem, points: Tensor, conditions: list[Condition]) -> None:
    for (name, ends), wanted in zip(
        problem.region.items(), orders_of(problem, points), strict=True
    ):
        if name in problem.periodic or name in problem.symmetry:
            continue
        here = [c for c in conditions if c.axis == name]
        given = sum(len(_with_zero(problem, c, points)) for c in here)
        if given < wanted:
            raise ProblemError(
                f"{given} conditions along {name!r}, but the equations are of order {wanted} in "
                f"it: the solution is not determined. Add conditions at {name} = {ends[0]:g} or "
                f"{ends[1]:g}, or list {name!r} in `periodic`"
            )
        if given > wanted:
            raise ProblemError(
                f"{given} conditions along {name!r}, but the equations are of order {wanted} in it "
                "only: they contradict each other unless some are redundant; leave those out"
            )


def _check_agreement(problem: Problem, first: Condition, second: Condition, points: Tensor) -> None:
    """Two conditions on values must give the same one where their faces meet."""
    none = (0,) * len(problem.region)
    used = [derivatives_used(problem, c.equation, points)[0] for c in (first, second)]
    if first.axis == second.axis:
        if first.at == second.at and used[0] == used[1]:
            raise ProblemError(
                f"two conditions at {first.label} are about the same derivatives: give each once"
            )
        return
    if any(indices - {none} for both in used for indices in both):
        return
    where = _on(problem, second, _on(problem, first, points))
    given = [_values(problem, condition, where) for condition in (first, second)]
    for k in given[0].keys() & given[1].keys():
        gap = (given[0][k] - given[1][k]).abs().max()
        size = max(float(given[0][k].abs().max()), float(given[1][k].abs().max()), 1.0)
        if gap > ROUNDING * size:
            raise ProblemError(
                f"the conditions at {first.label} and {second.label} give "
                f"{problem.unknowns[k]!r} values that differ by {float(gap):.2g} where they meet; "
                "make them agree, or set `jumps = True` if the solution does jump there"
            )


def _values(problem: Problem, condition: Condition, points: Tensor) -> dict[int, Tensor]:
    """Unknowns whose value a condition gives, by its expressions of one unknown each."""
    found: dict[int, Tensor] = {}
    count = len(problem.unknowns)
    base = _with_zero(problem, condition, points)
    for k in range(count):
        one = [torch.ones_like(points[:, 0]) * (j == k) for j in range(count)]
        with_one = expressions(
            condition.equation(*fields(problem, lambda j, _, one=one: one[j]), *points.unbind(1))
        )
        for zero, unit in zip(base, with_one, strict=True):
            slope = unit - zero
            if bool((slope.abs() > ROUNDING).all()):
                found[k] = -zero / slope
    return found


def checked_reference(problem: Problem) -> Reference | None:
    """The problem's reference solution; raise ProblemError if it is one of something else."""
    reference = problem.reference()
    if reference is None:
        return None
    name = type(problem).__name__
    if list(reference.axes) != list(problem.region):
        raise ProblemError(
            f"the reference solution of {name} has axes {', '.join(reference.axes)}; expected the "
            f"coordinates {', '.join(problem.region)}, in that order"
        )
    missing = [unknown for unknown in problem.unknowns if unknown not in reference.values]
    if missing:
        raise ProblemError(
            f"the reference solution of {name} lacks {', '.join(missing)}; it has "
            f"{', '.join(reference.values)}"
        )
    return reference
