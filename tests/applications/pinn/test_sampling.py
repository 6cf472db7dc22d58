"""Points lie in the region, in half of it, in layers; and are drawn by their chances."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor

from applications.pinn.problems import PROBLEMS, BoundaryLayer, Burgers, Convection
from applications.pinn.sampling import chances, chosen, on_face, placed, spread


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("law", ["sobol", "uniform"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_points_lie_in_the_region_and_reach_its_ends(name: str, law: Any) -> None:
    problem = PROBLEMS[name]
    points = spread(problem, 512, law, stream())
    assert points.shape == (512, len(problem.region)) and points.dtype == torch.float64
    for x, (axis, (low, high)) in zip(points.unbind(1), problem.region.items(), strict=True):
        if axis in problem.symmetry:
            low = 0.0
        assert float(x.min()) >= low and float(x.max()) <= high
        assert float(x.min()) < low + 0.05 * (high - low)
        assert float(x.max()) > high - 0.05 * (high - low)


def test_without_layers_random_points_are_uniform() -> None:
    points = spread(Convection(), 4000, "uniform", stream())
    assert kstest(points[:, 0].numpy() / 6.283185307179586, "uniform").pvalue > 0.01
    assert kstest(points[:, 1].numpy(), "uniform").pvalue > 0.01


def test_sobol_points_are_more_even_than_random_ones() -> None:
    def unevenness(law: Any) -> float:
        points = spread(Burgers(), 1024, law, stream())
        return kstest(points[:, 0].numpy(), "uniform").statistic

    assert unevenness("sobol") < 0.2 * unevenness("uniform")


def test_every_other_point_is_spread_evenly_in_the_stretched_coordinate() -> None:
    problem = BoundaryLayer(width=1e-3)
    points = spread(problem, 4000, "uniform", stream())[:, 0]
    assert kstest(points[::2].numpy(), "uniform").pvalue > 0.01
    first = torch.asinh(torch.tensor((0.0 - 1.0) / 1e-3).double())
    unit = 1 - torch.asinh((points[1::2] - 1) / 1e-3) / first
    assert kstest(unit.numpy(), "uniform").pvalue > 0.01
    assert float((points > 1 - 5e-3).double().mean()) > 0.1


def test_the_two_corners_of_the_unit_cube_are_those_of_the_region() -> None:
    class Layers(Burgers):
        def layers(self) -> Mapping[str, tuple[float, float]]:
            return {"t": (0.0, 1e-3)}

    corners = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]).double()
    found = placed(Layers(), corners)
    expected = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_a_face_fixes_one_coordinate_and_leaves_the_points_it_was_given() -> None:
    points = spread(Burgers(), 20, "sobol", stream())
    before = points.clone()
    found = on_face(points, (1, 0.25))
    assert torch.equal(points, before)
    assert torch.equal(found[:, 0], points[:, 0]) and bool((found[:, 1] == 0.25).all())
    assert on_face(points, None) is points


@pytest.mark.parametrize("law", ["sobol", "uniform"])
def test_the_same_stream_gives_the_same_points_and_goes_on(law: Any) -> None:
    one, other = stream(7), stream(7)
    first = spread(Burgers(), 50, law, one)
    assert torch.equal(first, spread(Burgers(), 50, law, other))
    assert not torch.equal(first, spread(Burgers(), 50, law, one))


def test_half_of_the_chances_are_the_residuals_and_half_are_even() -> None:
    size = torch.tensor([0.0, 1.0, 4.0, 9.0], dtype=torch.float32)
    expected = torch.tensor([0.0, 1.0, 2.0, 3.0]).double() / 1.5 + 1
    torch.testing.assert_close(chances(size, 0.5), expected)
    assert float(chances(size, 1.0).mean()) == pytest.approx(2.0)


def test_where_nothing_is_left_all_points_have_the_same_chance() -> None:
    assert torch.equal(chances(torch.zeros(5), 0.5), torch.ones(5).double())


CHANCES = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3], dtype=torch.float64)


def drawn(count: int, draws: int) -> list[tuple[int, ...]]:
    generator = stream(3)
    return [tuple(chosen(CHANCES, count, generator).tolist()) for _ in range(draws)]


def test_one_point_is_drawn_as_often_as_its_chance_says() -> None:
    draws = 20_000
    found = torch.bincount(torch.tensor(drawn(1, draws)).flatten(), minlength=5)
    assert chisquare(found.numpy(), (draws * CHANCES).numpy()).pvalue > 0.01


def test_two_points_are_drawn_one_after_the_other_without_replacement() -> None:
    draws = 20_000
    pairs = list(itertools.permutations(range(5), 2))
    found = drawn(2, draws)
    counts = [sum(pair == other for other in found) for pair in pairs]
    p = CHANCES.tolist()
    expected = [draws * p[i] * p[j] / (1 - p[i]) for i, j in pairs]
    assert sum(counts) == draws
    assert chisquare(counts, expected).pvalue > 0.01


def test_all_points_are_chosen_once_if_all_are_wanted() -> None:
    chance = torch.rand(100, generator=stream(), dtype=torch.float64)
    assert sorted(chosen(chance, 100, stream()).tolist()) == list(range(100))


def test_the_choice_is_that_of_the_stream() -> None:
    chance: Tensor = torch.rand(1000, generator=stream(), dtype=torch.float64)
    one, same, other = (chosen(chance, 50, stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
