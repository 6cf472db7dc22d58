"""Rates and sizes read off equations whose wave numbers are known."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from applications.pinn.language import Condition, Field, Problem
from applications.pinn.problems import PROBLEMS, BoundaryLayer, Convection, Robertson, Wave
from applications.pinn.scales import region_points, scales_of, sizes, starting_values

PI = math.pi


@dataclass(frozen=True)
class Heat(Problem):
    region = {"x": (0.0, 1.0), "t": (0.0, 1.0)}

    waves: float = 3.0
    diffusion: float = 0.5

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Any:
        return u.t - self.diffusion * u.xx

    def conditions(self) -> list[Condition]:
        def start(u: Field, x: Tensor, t: Tensor) -> Tensor:
            return 2 * (u - torch.cos(2 * PI * self.waves * x))

        ends = [Condition("x", end, lambda u, x, t: u.x) for end in (0.0, 1.0)]
        return [Condition("t", 0.0, start), *ends]


@pytest.mark.parametrize("speed", [30.0, 50.0])
def test_a_wave_that_is_carried_turns_over_with_its_speed(speed: float) -> None:
    rates = scales_of(Convection(speed=speed)).rates
    assert rates == pytest.approx({"x": 1.0, "t": speed}, rel=1e-3)


def test_a_driven_solution_has_the_waves_of_what_drives_it() -> None:
    rates = scales_of(PROBLEMS["helmholtz"]).rates
    assert rates == pytest.approx({"x": PI, "y": 4 * PI}, rel=1e-3)


def test_a_wave_equation_turns_over_with_the_speed_of_its_waves() -> None:
    # sin πx + sin(4πx)/2 has variance 5/8 - (2/π)² and a derivative of mean square 5π²/2.
    along = math.sqrt(5 * PI**2 / 2 / (5 / 8 - 4 / PI**2))
    for speed in (2.0, 7.0):
        rates = scales_of(Wave(speed=speed)).rates
        assert rates == pytest.approx({"x": along, "t": speed * along}, rel=1e-2)


@pytest.mark.parametrize(("waves", "diffusion"), [(3.0, 0.5), (1.0, 4.0)])
def test_diffusion_decays_with_the_square_of_the_wave_number(
    waves: float, diffusion: float
) -> None:
    problem = Heat(waves=waves, diffusion=diffusion)
    along = 2 * PI * waves
    rates = scales_of(problem).rates
    assert rates == pytest.approx({"x": along, "t": diffusion * along**2}, rel=1e-2)


def test_what_is_slower_than_the_region_is_measured_by_the_region() -> None:
    rates = scales_of(Heat(waves=0.0, diffusion=1e-3)).rates
    assert rates == pytest.approx({"x": 2.0, "t": 2.0})
    periodic = scales_of(PROBLEMS["burgers"]).rates
    assert periodic["x"] == pytest.approx(PI, rel=1e-3)


def test_a_problem_with_conditions_at_both_ends_of_the_last_axis_has_no_rate_of_change() -> None:
    class Membrane(Heat):
        def equations(self, u: Field, x: Tensor, t: Tensor) -> Any:
            return 1e6 * u.xx + u.tt

        def conditions(self) -> list[Condition]:
            later = Condition("t", 1.0, lambda u, x, t: u.value)
            return [*super().conditions(), later]

    assert scales_of(Membrane()).rates["t"] == 2.0


def test_starting_values_are_those_of_the_condition_whatever_its_factor() -> None:
    problem = Heat()
    points = region_points(problem, 64)
    values, waves = starting_values(problem, points)
    expected = torch.cos(6 * PI * points[:, :1])
    torch.testing.assert_close(values, expected, rtol=1e-14, atol=1e-14)
    # The ends ask for a derivative: they give no value. x and t of the one that does:
    ((along, in_time),) = waves
    assert along == pytest.approx(6 * PI, rel=0.05)
    assert in_time == 0.0


def test_the_size_of_an_expression_is_its_largest_term() -> None:
    problem = Heat()
    scales = scales_of(problem)
    along = scales.rates["x"]
    inside = sizes(problem, problem.equations, scales)
    assert inside == pytest.approx([0.5 * along**2], rel=1e-12)
    start, end, _ = problem.conditions()
    assert sizes(problem, start.equation, scales) == pytest.approx([2.0])
    assert sizes(problem, end.equation, scales) == pytest.approx([along])


def test_the_size_is_in_the_unknowns_own_unit() -> None:
    class Small(Heat):
        magnitudes = {"u": 1e-6}

    scales = scales_of(Heat())
    one, other = (sizes(p, p.equations, scales)[0] for p in (Heat(), Small()))
    assert other == pytest.approx(1e-6 * one, rel=1e-12)


def test_every_size_and_rate_of_the_suite_is_positive_and_finite() -> None:
    for problem in PROBLEMS.values():
        scales = scales_of(problem)
        found = [*scales.rates.values(), *sizes(problem, problem.equations, scales)]
        assert all(math.isfinite(value) and value > 0 for value in found)


def test_within_a_layer_the_wave_number_is_that_of_the_stretched_coordinate() -> None:
    problem = replace(BoundaryLayer(), width=1e-3)
    x = torch.tensor([[0.0], [0.9], [0.999], [1.0]], dtype=torch.float64)
    h = 1e-7
    stretch = torch.asinh((x + h - 1) / 1e-3) - torch.asinh((x - h - 1) / 1e-3)
    found = scales_of(problem).local(problem, x)
    torch.testing.assert_close(found, stretch / (2 * h), rtol=1e-6, atol=0)


def test_without_a_layer_the_wave_number_is_the_same_everywhere() -> None:
    scales = scales_of(Convection())
    points = region_points(Convection(), 8)
    expected = torch.tensor(list(scales.rates.values())).double().expand(8, 2)
    torch.testing.assert_close(scales.local(Convection(), points), expected)


def test_rates_given_with_the_problem_stand_in_the_place_of_those_found() -> None:
    class Known(Heat):
        rates = {"x": 5.0}

    class Clocked(Heat):
        rates = {"t": 0.25}

    # The rate of time follows from the wave number given, unless it is given itself.
    assert scales_of(Known()).rates == pytest.approx({"x": 5.0, "t": 0.5 * 25}, rel=1e-12)
    found = scales_of(Heat()).rates["x"]
    assert scales_of(Clocked()).rates == {"x": found, "t": 0.25}
    assert scales_of(PROBLEMS["van-der-pol"]).rates == {"s": 4.0}


def test_a_layer_in_time_replaces_the_rate_of_change() -> None:
    assert scales_of(Robertson()).rates == {"t": 2 / 1e5}
