"""A network's channels and reverse sweeps against torch's own layers and nested autograd."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pinn_oracles import derivative, solution_of, torch_network
from torch import Tensor

from applications.pinn.embedding import Embedding
from applications.pinn.language import Condition, Field, Problem
from applications.pinn.methods import Setup
from applications.pinn.network import MLP
from applications.pinn.taylor import closure
from applications.pinn.training import Training

WANTED = [(2, 2), (4, 0), (2, 1), (0, 3), (1, 1)]


@dataclass(frozen=True)
class Plain(Problem):
    region = {"x": (-1.0, 1.0), "t": (0.0, 2.0)}

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Any:
        return u.t - u.xx

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - x)]


class Periodic(Plain):
    periodic = ("x",)


class Odd(Plain):
    symmetry = {"x": "odd"}


class EvenAndPeriodic(Plain):
    symmetry = {"x": "even"}
    periodic = ("x",)


class OddAndEven(Plain):
    region = {"x": (-1.0, 1.0), "t": (-2.0, 2.0)}
    symmetry = {"x": "odd", "t": "even"}


class Layered(Plain):
    def layers(self) -> Mapping[str, tuple[float, float]]:
        return {"x": (0.3, 0.1)}


class Lifted(Plain):
    def lift(self, x: Tensor, t: Tensor) -> Any:
        return torch.sin(2 * x) * torch.exp(-t), t * (1 - x**2)


class ConstantLift(Plain):
    def lift(self, x: Tensor, t: Tensor) -> Any:
        return 1.0, t


@dataclass(frozen=True)
class TwoUnknowns(Problem):
    region = {"x": (-1.0, 1.0), "t": (0.0, 2.0)}
    unknowns = ("u", "v")
    magnitudes = {"v": 3e-5}
    symmetry = {"x": "even"}

    def equations(self, u: Field, v: Field, x: Tensor, t: Tensor) -> Any:
        return [u.t - v, v.t + u.xx]

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, v, x, t: [u - x**2, v.value])]

    def lift(self, x: Tensor, t: Tensor) -> Any:
        return [(x**2, t), (torch.cos(x), torch.exp(x * t))]


CASES: dict[str, tuple[Problem, dict[str, Any]]] = {
    "plain": (Plain(), {}),
    "sine": (Plain(), {"activation": "sin"}),
    "one layer": (Plain(), {"hidden": (9,)}),
    "deep": (Plain(), {"hidden": (4, 3, 5, 4)}),
    "periodic": (Periodic(), {"harmonics": 3}),
    "odd": (Odd(), {}),
    "even and periodic": (EvenAndPeriodic(), {"activation": "sin"}),
    "odd and even": (OddAndEven(), {}),
    "layered": (Layered(), {}),
    "Fourier features": (Periodic(), {"fourier_features": 4}),
    "mirrored Fourier features": (Odd(), {"fourier_features": 4}),
    "lifted": (Lifted(), {}),
    "constant lift": (ConstantLift(), {}),
    "two unknowns": (TwoUnknowns(), {}),
}


def training_of(name: str, **settings: Any) -> Training:
    problem, own = CASES[name]
    setup = Setup(**({"hidden": (6, 5), "condition_points": 8} | own | settings))
    return Training(problem, setup, 0, torch.device("cpu"))


def points_of(problem: Problem, count: int) -> Tensor:
    low, high = torch.tensor(list(problem.region.values()), dtype=torch.float64).T
    unit = torch.rand(
        count, len(low), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return low + (high - low) * unit


def assert_relatively_close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """The largest difference, measured by the largest value."""
    size = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("name", CASES)
def test_every_derivative_is_that_of_nested_autograd(name: str) -> None:
    training = training_of(name)
    problem, params = training.problem, training.initial_params
    points = points_of(problem, 20)
    indices = closure(WANTED)
    found = training.channels(params, points, indices)
    layers = torch_network(training.network, params)
    solution = solution_of(problem, training.network.embedding, layers)
    for channel, index in zip(found, indices, strict=True):
        for k in range(len(problem.unknowns)):
            expected = derivative(solution, points, index)[:, k]
            assert_relatively_close(channel[:, k], expected)


def cotangents(channels: Tensor) -> Tensor:
    return torch.randn(
        channels.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )


@pytest.mark.parametrize("name", CASES)
def test_both_reverse_sweeps_are_those_of_autograd(name: str) -> None:
    training = training_of(name)
    squares, network = training.least_squares, training.network
    points = points_of(training.problem, 7)
    inputs, lift = squares.prepared(points, closure(WANTED), torch.float64)
    params = training.initial_params
    channels, tape = squares.solution(params, inputs, lift)
    cotangent = cotangents(channels)
    carried = squares.transposed(cotangent, lift)
    jacobian = params.new_empty(len(points), network.count)
    network.jacobian(tape, carried, jacobian)

    def by_point(params: Tensor) -> Tensor:
        return (cotangent * squares.solution(params, inputs, lift)[0]).sum(dim=(0, 2))

    expected = torch.func.jacrev(by_point)(params)
    assert isinstance(expected, Tensor)
    assert_relatively_close(jacobian, expected)
    assert_relatively_close(network.gradient(tape, carried), expected.sum(0))


@pytest.mark.parametrize("name", ["odd and even", "two unknowns", "Fourier features"])
def test_the_gradient_is_that_of_torchs_layers(name: str) -> None:
    training = training_of(name)
    squares, network, problem = training.least_squares, training.network, training.problem
    points = points_of(problem, 9)
    indices = closure([(2, 1)])
    inputs, lift = squares.prepared(points, indices, torch.float64)
    channels, tape = squares.solution(training.initial_params, inputs, lift)
    cotangent = cotangents(channels)
    found = network.gradient(tape, squares.transposed(cotangent, lift))
    layers = torch_network(network, training.initial_params)
    solution = solution_of(problem, network.embedding, layers)
    expected_channels = torch.stack([derivative(solution, points, index) for index in indices])
    parts = torch.autograd.grad((cotangent * expected_channels).sum(), list(layers.parameters()))
    expected = torch.cat([(p.T if p.ndim == 2 else p).reshape(-1) for p in parts])
    assert_relatively_close(found, expected)


def embedded(activation: str, hidden: tuple[int, ...]) -> MLP:
    embedding = Embedding(Plain(), {"x": 1.0, "t": 1.0})
    return MLP(embedding, 2, hidden, 1, activation)


def parts_of(network: MLP, samples: Tensor, scale: float) -> list[tuple[Tensor, Tensor]]:
    params = network.initial_params(samples, scale, torch.Generator().manual_seed(0))
    assert params.dtype == torch.float64 and len(params) == network.count
    return network.layers(params)


def test_initial_weights_have_glorots_variance() -> None:
    samples = points_of(Plain(), 256)
    (first, _), (second, bias), (last, last_bias) = parts_of(
        embedded("tanh", (3000, 400)), samples, 2.5
    )
    assert float(first.std()) == pytest.approx(2.5 * math.sqrt(2 / 3002), rel=0.03)
    assert float(second.std()) == pytest.approx(math.sqrt(2 / 3400), rel=0.01)
    assert float(last.std()) == pytest.approx(math.sqrt(2 / 401), rel=0.1)
    assert not bias.any() and not last_bias.any()


def test_initial_weights_of_sines_have_the_variance_of_two_inputs() -> None:
    samples = points_of(Plain(), 256)
    (first, _), (second, _), _ = parts_of(embedded("sin", (3000, 400)), samples, 0.5)
    assert float(first.abs().max()) <= 0.5 / math.sqrt(2)
    assert float(first.std()) == pytest.approx(0.5 * math.sqrt(1 / 6), rel=0.03)
    assert float(second.std()) == pytest.approx(math.sqrt(2 / 3000), rel=0.01)


def test_each_unit_of_the_first_layer_vanishes_at_a_sample() -> None:
    samples = points_of(Plain(), 256)
    (weight, bias), *_ = parts_of(embedded("tanh", (50, 5)), samples, 2.0)
    nearest = (samples @ weight + bias).abs().amin(0)
    torch.testing.assert_close(nearest, torch.zeros_like(nearest), rtol=0, atol=1e-14)
    zeros = (samples @ weight + bias).abs().argmin(0)
    assert len(set(zeros.tolist())) > 30


def test_params_lie_layer_by_layer_weights_before_biases() -> None:
    network = embedded("tanh", (3, 4))
    assert network.count == 2 * 3 + 3 + 3 * 4 + 4 + 4 + 1
    flat = torch.arange(network.count, dtype=torch.float64)
    parts = [part.reshape(-1) for layer in network.layers(flat) for part in layer]
    assert torch.equal(torch.cat(parts), flat)
    assert [tuple(weight.shape) for weight, _ in network.layers(flat)] == [(2, 3), (3, 4), (4, 1)]


def test_float32_differs_from_float64_by_its_rounding_only() -> None:
    double, single = training_of("lifted"), training_of("lifted", precision="float32")
    assert single.initial_params.dtype == torch.float32
    points = points_of(double.problem, 50)
    indices = closure([(2, 1)])
    exact = double.channels(single.initial_params.double(), points, indices)
    found = single.channels(single.initial_params, points, indices)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
