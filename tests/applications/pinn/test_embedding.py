"""Periodicity and parity are exact, with all derivatives; stretched coordinates are asinh."""

import math
from dataclasses import dataclass
from typing import Any

import mpmath
import pytest
import torch
from pinn_oracles import derivative, seen
from torch import Tensor

from applications.pinn.embedding import Embedding, asinh_derivatives, stretched
from applications.pinn.language import Condition, Field, Problem
from applications.pinn.methods import Setup
from applications.pinn.taylor import closure
from applications.pinn.training import Training

INDICES = closure([(4, 0), (2, 2), (0, 1)])


@dataclass(frozen=True)
class Ring(Problem):
    region = {"x": (-0.5, 2.5), "t": (0.0, 1.0)}
    periodic = ("x",)

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Any:
        return u.t - u.xx

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u.value)]


def channels(problem: Problem, points: Tensor, **settings: Any) -> Tensor:
    setup = Setup(hidden=(7, 6), **settings)
    training = Training(problem, setup, 0, torch.device("cpu"))
    return training.channels(training.initial_params, points, INDICES)


def points_of(problem: Problem, count: int = 40) -> Tensor:
    low, high = torch.tensor(list(problem.region.values()), dtype=torch.float64).T
    generator = torch.Generator().manual_seed(3)
    return low + (high - low) * torch.rand(count, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("settings", [{}, {"harmonics": 4}, {"fourier_features": 5}])
def test_a_periodic_coordinate_has_no_ends(settings: dict[str, Any]) -> None:
    points = points_of(Ring())
    there = points + torch.tensor([3.0, 0.0])
    here, again = channels(Ring(), points, **settings), channels(Ring(), there, **settings)
    for one, other in zip(here, again, strict=True):
        assert float(one.abs().max()) > 0
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * float(one.abs().max()))


PARITIES = [{"x": "odd"}, {"x": "even"}, {"x": "odd", "t": "even"}, {"x": "odd", "t": "odd"}]


@pytest.mark.parametrize("settings", [{}, {"fourier_features": 5}])
@pytest.mark.parametrize("periodic", [(), ("x",)])
@pytest.mark.parametrize("parities", PARITIES)
def test_a_symmetric_solution_is_its_own_mirror_image(
    parities: dict[str, str], periodic: tuple[str, ...], settings: dict[str, Any]
) -> None:
    attributes = {
        "region": {"x": (-1.0, 1.0), "t": (-2.0, 2.0)},
        "symmetry": parities,
        "periodic": periodic,
    }
    problem = type("Mirrored", (Ring,), attributes)()
    points = points_of(problem)
    solution = channels(problem, points, **settings)
    for axis, name in enumerate(problem.region):
        if name not in parities:
            continue
        mirror = points.clone()
        mirror[:, axis] *= -1
        for index, here, there in zip(
            INDICES, solution, channels(problem, mirror, **settings), strict=True
        ):
            sign = (-1) ** (index[axis] + (parities[name] == "odd"))
            size = float(here.abs().max())
            torch.testing.assert_close(there, sign * here, rtol=0, atol=1e-13 * size)
        if parities[name] == "odd":
            mirror[:, axis] = 0
            assert float(channels(problem, mirror, **settings)[0].abs().max()) < 1e-15


def test_features_and_their_derivatives_are_those_of_autograd() -> None:
    class Layered(Ring):
        def layers(self) -> dict[str, tuple[float, float]]:
            return {"t": (1.0, 1e-2)}

    frequencies = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    embedding = Embedding(Layered(), {"x": 1.0, "t": 4.0}, 2, frequencies)
    points = points_of(Layered())
    found = embedding.features(points, INDICES)
    assert found.shape == (len(INDICES), 40, 12)
    for channel, index in zip(found, INDICES, strict=True):
        expected = derivative(lambda p: seen(embedding, p) + 0 * p.sum(), points, index)
        size = float(expected.detach().abs().max()) or 1.0
        torch.testing.assert_close(channel, expected.detach(), rtol=0, atol=1e-12 * size)


def test_derivatives_of_asinh_are_those_of_fifty_digits() -> None:
    y = torch.linspace(-30, 30, 25, dtype=torch.float64)
    with mpmath.workdps(50):
        rows = [mpmath.taylor(mpmath.asinh, mpmath.mpf(float(v)), 4) for v in y]
    for order, found in enumerate(asinh_derivatives(y)):
        expected = [float(row[order]) * math.factorial(order) for row in rows]
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-15
        )


def test_a_layer_is_seen_linearly_inside_and_logarithmically_outside() -> None:
    position, width = 0.3, 1e-4
    inside = torch.linspace(-0.01, 0.01, 5, dtype=torch.float64)
    torch.testing.assert_close(
        stretched(position + width * inside, position, width), inside, rtol=1e-4, atol=1e-12
    )
    outside = torch.tensor([1e-2, 1e-1, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        stretched(position + outside, position, width),
        torch.log(2 * outside / width),
        rtol=1e-5,
        atol=0,
    )
