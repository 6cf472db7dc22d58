"""Every problem of the suite: checked, and its closed form put into its own equations."""

import dataclasses

import numpy as np
import pytest
import torch
from pinn_oracles import derivative
from torch import Tensor

from applications.pinn.checks import check
from applications.pinn.language import (
    Condition,
    Index,
    Problem,
    derivatives_used,
    expressions,
    fields,
)
from applications.pinn.problems import PROBLEMS
from applications.pinn.reference import stored
from applications.pinn.scales import scales_of, sizes

SOLVED = [name for name, problem in PROBLEMS.items() if type(problem).exact is not Problem.exact]


def points_of(problem: Problem, count: int) -> Tensor:
    low, high = torch.tensor(list(problem.region.values()), dtype=torch.float64).T
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(count, len(low), generator=generator, dtype=torch.float64)
    return low + (high - low) * unit


def exact_values(problem: Problem, points: Tensor) -> Tensor:
    found = problem.exact(*points.unbind(1))
    several = found if len(problem.unknowns) > 1 else [found]
    return torch.stack(list(several), dim=1)


def misfits(problem: Problem, condition: Condition | None, points: Tensor) -> list[Tensor]:
    """An equation's expressions of the closed form, by nested autograd."""
    equation = problem.equations if condition is None else condition.equation
    if condition is not None:
        points[:, list(problem.region).index(condition.axis)] = condition.at
    values = {
        index: derivative(lambda p: exact_values(problem, p), points, index).detach()
        for index in set().union(*derivatives_used(problem, equation, points)[0])
    }

    def value(unknown: int, index: Index) -> Tensor:
        return values[index][:, unknown]

    return expressions(equation(*fields(problem, value), *points.unbind(1)))


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_problem_can_be_solved_as_it_is_written(name: str) -> None:
    check(PROBLEMS[name])


@pytest.mark.parametrize("name", SOLVED)
def test_the_closed_form_meets_equations_and_conditions_to_round_off(name: str) -> None:
    problem = PROBLEMS[name]
    scales = scales_of(problem)
    for condition in (None, *problem.conditions()):
        equation = problem.equations if condition is None else condition.equation
        for found, size in zip(
            misfits(problem, condition, points_of(problem, 200)),
            sizes(problem, equation, scales),
            strict=True,
        ):
            largest = size
            if problem.layers():
                # Within a layer of width w the terms are as large as 1/w.
                largest = 1 / min(width for _, width in problem.layers().values())
            torch.testing.assert_close(
                found, torch.zeros_like(found), rtol=0, atol=1e-12 * max(largest, 1.0)
            )


def test_a_wrong_closed_form_is_noticed() -> None:
    faster = dataclasses.replace(PROBLEMS["convection"], speed=30.1)

    class Mistaken(type(PROBLEMS["convection"])):
        def exact(self, x: Tensor, t: Tensor) -> Tensor:
            return faster.exact(x, t)

    (found,) = misfits(Mistaken(), None, points_of(Mistaken(), 50))
    assert float(found.abs().max()) > 0.05


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_reference_covers_the_region_and_every_unknown(name: str) -> None:
    problem = PROBLEMS[name]
    reference = problem.reference()
    assert reference is not None
    assert list(reference.axes) == list(problem.region)
    assert set(problem.unknowns) <= set(reference.values)
    for axis, (low, high) in problem.region.items():
        given = np.asarray(reference.axes[axis])
        assert low <= given[0] and given[-1] <= high
        spacing = np.diff(given).max()
        assert given[0] - low <= spacing and high - given[-1] <= spacing


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_reference_meets_the_initial_values(name: str) -> None:
    problem = PROBLEMS[name]
    reference = problem.reference()
    assert reference is not None
    *space, last = reference.axes
    conditions = [
        c for c in problem.conditions() if c.axis == last and c.at == reference.axes[last][0]
    ]
    grid = np.meshgrid(*(reference.axes[axis] for axis in space), indexing="ij")
    points = torch.tensor(
        np.stack([g.ravel() for g in grid], axis=1) if space else np.empty((1, 0))
    )
    for condition in conditions:
        at = torch.full((len(points), 1), condition.at, dtype=torch.float64)
        used, _ = derivatives_used(problem, condition.equation, torch.cat([points, at], dim=1))
        if any(sum(index) for indices in used for index in indices):
            continue
        first = [torch.tensor(reference.values[u][..., 0].ravel()) for u in problem.unknowns]
        found = expressions(
            condition.equation(
                *fields(problem, lambda k, _, first=first: first[k]), *points.unbind(1), at[:, 0]
            )
        )
        for misfit in found:
            assert float(misfit.abs().max()) <= max(10 * reference.error_bar, 1e-12)


def test_what_is_added_to_allen_cahn_leaves_nothing_of_the_kink() -> None:
    reference = stored("allen_cahn")
    x, t = (torch.tensor(reference.axes[name]) for name in ("x", "t"))
    added, _ = PROBLEMS["allen-cahn"].lift(x.unsqueeze(1), t)
    early = np.asarray(reference.axes["t"]) < 0.1
    whole, rest = (
        np.abs(np.fft.rfft(values[:-1, early], axis=0))[60:].max(axis=0)
        for values in (reference.values["u"], reference.values["u"] - added.numpy())
    )
    assert early.sum() == 10
    assert (rest < 3e-3 * whole).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_with_other_settings_it_is_still_a_problem(name: str) -> None:
    problem = PROBLEMS[name]
    for field in dataclasses.fields(problem):
        value = getattr(problem, field.name)
        if isinstance(value, float):
            other = dataclasses.replace(problem, **{field.name: 1.5 * value})
            check(other)
