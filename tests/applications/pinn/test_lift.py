"""The lift's derivatives are Leibniz's, and what it meets is met whatever the network says."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pinn_oracles import derivative
from torch import Tensor

from applications.pinn.language import Condition, Field, Problem
from applications.pinn.lift import lift_at
from applications.pinn.methods import Setup
from applications.pinn.taylor import closure
from applications.pinn.training import Training

INDICES = closure([(2, 2), (4, 0), (0, 3)])


@dataclass(frozen=True)
class Sine(Problem):
    """Its initial and boundary values are met by construction."""

    region = {"x": (-1.0, 1.0), "t": (0.0, 1.0)}

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Any:
        return u.t - u.xx

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u + torch.sin(torch.pi * x))]

    def lift(self, x: Tensor, t: Tensor) -> Any:
        return -torch.sin(torch.pi * x), t * (1 - x**2)


def random_points(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return unit * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])


def network(points: Tensor) -> Tensor:
    x, t = points.unbind(1)
    return (torch.exp(x) * torch.cos(3 * t) + x**3 * t).unsqueeze(1)


def test_the_solutions_derivatives_are_those_of_the_product() -> None:
    points = random_points(20)
    lift = lift_at(Sine(), points, INDICES)
    assert lift is not None
    given = torch.stack([derivative(network, points, index).detach() for index in INDICES])

    def solution(points: Tensor) -> Tensor:
        offset, factor = Sine().lift(*points.unbind(1))
        return offset.unsqueeze(1) + factor.unsqueeze(1) * network(points)

    for channel, index in zip(lift.apply(given), INDICES, strict=True):
        expected = derivative(solution, points, index).detach()
        torch.testing.assert_close(channel, expected, rtol=1e-12, atol=1e-12)


def test_the_cotangent_is_that_of_the_transposed_map() -> None:
    points = random_points(20)
    lift = lift_at(Sine(), points, INDICES)
    assert lift is not None
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, len(INDICES), 20, 1, generator=generator, dtype=torch.float64)
    moved = lift.apply(one) - lift.apply(torch.zeros_like(one))
    torch.testing.assert_close(
        (other * moved).sum(), (lift.transposed(other) * one).sum(), rtol=1e-12, atol=1e-12
    )


def test_what_the_lift_meets_is_met_whatever_the_network_says() -> None:
    training = Training(Sine(), Setup(hidden=(5,)), 0, torch.device("cpu"))
    params = 100 * training.initial_params
    points = random_points(20)
    start = points * torch.tensor([1.0, 0.0])
    expected = -torch.sin(torch.pi * start[:, :1])
    assert torch.equal(training.values(params, start), expected)
    for end in (-1.0, 1.0):
        points[:, 0] = end
        found = training.values(params, points)
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-15)


def test_a_problem_without_a_lift_has_none() -> None:
    class Plain(Sine):
        def lift(self, x: Tensor, t: Tensor) -> Any:
            return None

    assert lift_at(Plain(), random_points(3), INDICES) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lift_is_computed_in_float64_and_then_rounded(dtype: torch.dtype) -> None:
    exact = lift_at(Sine(), random_points(5), INDICES)
    assert exact is not None and exact.offset.dtype == torch.float64
    rounded = exact.to(dtype)
    assert torch.equal(rounded.offset, exact.offset.to(dtype))
    for (*_, one), (*_, other) in zip(rounded.terms, exact.terms, strict=True):
        assert torch.equal(one, other.to(dtype))
