"""Each time slab goes on where the one before ends."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pinn_oracles import derivative
from torch import Tensor

from applications.pinn.checks import check
from applications.pinn.language import Condition, Field, Index, Problem, expressions, fields
from applications.pinn.methods import GaussNewton
from applications.pinn.problems import Burgers, KuramotoSivashinsky, Wave
from applications.pinn.slabs import boundaries, slab
from applications.pinn.solve import evaluate, start

CPU = torch.device("cpu")


class SlabbedWave(Wave):
    slabs = 4


def exact_channels(points: Tensor, indices: tuple[Index, ...]) -> Tensor:
    def solution(points: Tensor) -> Tensor:
        return Wave().exact(*points.unbind(1)).unsqueeze(1)

    return torch.stack([derivative(solution, points, index).detach() for index in indices])


def test_slabs_are_consecutive_intervals_of_the_last_coordinate() -> None:
    assert boundaries(SlabbedWave()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert boundaries(Burgers()) == [0.0, 1.0]
    third = slab(SlabbedWave(speed=3.0), 2, exact_channels)
    assert third.region == {"x": (0.0, 1.0), "t": (0.5, 0.75)}
    assert isinstance(third, Wave) and third.speed == 3.0
    assert slab(Burgers(), 0, None) == Burgers()


def test_the_first_slab_has_the_conditions_of_the_problem() -> None:
    first = slab(SlabbedWave(), 0, None)
    assert [c.label for c in first.conditions()] == ["t = 0", "t = 0", "x = 0", "x = 1"]
    check(first)


def test_a_later_slab_begins_with_value_and_velocity_of_the_one_before() -> None:
    second = slab(SlabbedWave(), 1, exact_channels)
    begin, *others = second.conditions()
    assert [begin.label, *(c.label for c in others)] == ["t = 0.25", "x = 0", "x = 1"]
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(30, 2, generator=generator, dtype=torch.float64)
    points[:, 1] = 0.25

    def misfits(wanted: Any) -> list[Tensor]:
        known: dict[Index, Tensor] = {index: wanted(index) for index in ((0, 0), (0, 1))}
        return expressions(
            begin.equation(*fields(second, lambda _, index: known[index]), *points.unbind(1))
        )

    exact = misfits(lambda index: exact_channels(points, (index,))[0, :, 0])
    assert len(exact) == 2, "an equation of second order in time needs both"
    for misfit in exact:
        assert not misfit.any()
    still = misfits(lambda index: torch.zeros(30, dtype=torch.float64))
    assert all(float(misfit.abs().max()) > 0.1 for misfit in still)


@dataclass(frozen=True)
class Oscillator(Problem):
    """u'' + u = 0 as one equation of second order, with a second unknown that decays."""

    region = {"t": (0.0, 3.0)}
    unknowns = ("u", "v")
    slabs = 3

    def equations(self, u: Field, v: Field, t: Tensor) -> list[Tensor]:
        return [u.tt + u, v.t + v]

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, v, t: [u - 1, u.t, v - 1])]

    def exact(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cos(t), torch.exp(-t)


def test_each_unknown_hands_over_the_derivatives_its_own_equation_needs() -> None:
    def before(points: Tensor, indices: tuple[Index, ...]) -> Tensor:
        t = points[:, 0]
        known = {
            (0,): [torch.cos(t), torch.exp(-t)],
            (1,): [-torch.sin(t), -torch.exp(-t)],
        }
        return torch.stack([torch.stack(known[index], dim=1) for index in indices])  # pyright: ignore

    (begin,) = slab(Oscillator(), 1, before).conditions()
    t = torch.tensor([1.0], dtype=torch.float64)
    zero = torch.zeros_like(t)
    found = expressions(begin.equation(*fields(Oscillator(), lambda *_: zero), t))
    expected = [-math.cos(1.0), math.sin(1.0), -math.exp(-1.0)]
    assert [float(f) for f in found] == pytest.approx(expected, rel=1e-15)


def test_a_solution_goes_on_continuously_over_its_slabs() -> None:
    method = GaussNewton(hidden=(10,), slab_steps=40, slab_loss=0.0)
    solver = start(Oscillator(), method, 0, CPU)
    for _ in range(3 * 40):
        solver.step()
    assert len(solver.solved) == 2
    assert evaluate(Oscillator(), solver)["relative_l2_error"] < 1e-5
    networks = [(s.training, s.params) for s in solver.solved]
    networks.append((solver.training, solver.params.detach()))
    for (one, before), (other, after), end in zip(networks, networks[1:], (1.0, 2.0), strict=False):
        at = torch.tensor([[end]], dtype=torch.float64)
        indices = ((0,), (1,))
        left, right = one.channels(before, at, indices), other.channels(after, at, indices)
        torch.testing.assert_close(left[0], right[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(left[1, :, 0], right[1, :, 0], rtol=0, atol=1e-6)


def test_a_slab_is_left_once_equations_and_conditions_are_met_well_enough() -> None:
    method = GaussNewton(hidden=(10,), slab_steps=60, slab_loss=1e-6, redraw_every=1)
    solver = start(Oscillator(), method, 0, CPU)
    ends = []
    for _ in range(60):
        before = len(solver.solved)
        solver.step()
        if len(solver.solved) > before:
            ends.append(solver.solved[-1])
    assert len(ends) == 2, "long before the most steps"
    for finished in ends:
        assert finished.training.fresh[-1] < 1e-6
        losses = finished.training.least_squares.residual(finished.params).square()
        assert float(losses.sum()) < 1e-5


def test_a_slab_is_not_left_while_its_beginning_is_missed() -> None:
    class Slabbed(SlabbedWave):
        slabs = 2

    method = GaussNewton(hidden=(5,), slab_steps=60, slab_loss=1e-3, redraw_every=1)
    solver = start(Slabbed(), method, 0, CPU)
    for _ in range(3):
        with torch.no_grad():
            # Rest solves the equation, and so it does at every point drawn.
            solver.params.zero_()
        solver.step()
    assert not solver.solved


def test_a_slab_begins_with_the_shape_of_the_one_before() -> None:
    problem = SlabbedWave()
    solver = start(problem, GaussNewton(hidden=(5,), slab_steps=2, points_per_param=1.0), 0, CPU)
    for _ in range(2):
        solver.step()
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(20, 2, generator=generator, dtype=torch.float64) / 4
    params, first = solver.params.detach().clone(), solver.training
    solver.step()
    later = points + torch.tensor([0.0, 0.25])
    torch.testing.assert_close(
        solver.training.values(params, later), first.values(params, points), rtol=0, atol=1e-13
    )


def test_values_come_from_the_network_of_their_slab() -> None:
    solver = start(Oscillator(), GaussNewton(hidden=(4,), slab_steps=2), 0, CPU)
    for _ in range(5):
        solver.step()
    points = torch.linspace(0, 3, 31, dtype=torch.float64).unsqueeze(1)
    found = solver.values(points)
    pieces = [(s.training, s.params) for s in solver.solved] + [(solver.training, solver.params)]
    for k, t in enumerate(points[:, 0].tolist()):
        number = min(max(math.ceil(t) - 1, 0), 2)
        training, params = pieces[number]
        expected = training.values(params.detach(), points[k : k + 1])
        torch.testing.assert_close(found[k : k + 1], expected, rtol=0, atol=1e-13)


def test_a_problem_of_one_slab_is_trained_as_a_whole() -> None:
    problem = Burgers()
    solver = start(problem, GaussNewton(hidden=(4,), slab_steps=1), 0, CPU)
    for _ in range(3):
        solver.step()
    assert not solver.solved and solver.training.problem is problem


def test_every_slab_of_the_suite_is_a_problem_that_can_be_solved() -> None:
    problem = KuramotoSivashinsky()
    first = slab(problem, 0, None)
    check(first)
    later = slab(
        problem, 4, lambda points, indices: torch.zeros(len(indices), len(points), 1).double()
    )
    assert later.region["t"] == pytest.approx((0.4, 0.5))
    check(later)
