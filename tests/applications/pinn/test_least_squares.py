"""Residuals, Jacobian and gradient against torch's layers, finite differences and closed forms."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from pinn_oracles import derivative, solution_of, torch_network
from torch import Tensor

from applications.pinn.language import Condition, Field, derivatives_used, expressions, fields
from applications.pinn.least_squares import Term
from applications.pinn.methods import Setup
from applications.pinn.problems import (
    PROBLEMS,
    BoundaryLayer,
    Burgers,
    KuramotoSivashinsky,
    Robertson,
)
from applications.pinn.training import Training

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class LiftedBurgers(Burgers):
    """Initial values by a lift, so that there is no condition."""

    def conditions(self) -> list[Condition]:
        return []

    def lift(self, x: Tensor, t: Tensor) -> Any:
        return -torch.sin(math.pi * x), t


SMALL: dict[str, Any] = {
    "burgers": Burgers(),
    "lifted": LiftedBurgers(),
    "kuramoto-sivashinsky": KuramotoSivashinsky(),
    "wave": PROBLEMS["wave"],
    "boundary layer": BoundaryLayer(),
    "robertson": Robertson(),
    "gray-scott": PROBLEMS["gray-scott"],
    "five dimensions": PROBLEMS["poisson-5d"],
}


def training_of(name: str, **settings: Any) -> Training:
    given = {"hidden": (6, 5), "condition_points": 7, "points_per_param": 0.3} | settings
    return Training(SMALL[name], Setup(**given), 0, CPU)


def moved(training: Training) -> Tensor:
    """Params at which no symmetry of the start is left."""
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn(training.network.count, generator=generator, dtype=torch.float64)
    return training.initial_params + 0.1 * noise.to(training.initial_params)


def term_by_hand(training: Training, term: Term, solution: Any) -> Tensor:
    """A term's expressions by nested autograd through torch's layers."""
    problem = training.problem
    used, _ = derivatives_used(problem, term.equation, term.points)
    values = {i: derivative(solution, term.points, i) for i in set().union(*used)}
    found = term.equation(
        *fields(problem, lambda k, index: values[index][:, k]), *term.points.unbind(1)
    )
    return torch.stack(expressions(found)) / term.sizes_there


def loss_by_hand(training: Training, params: Tensor) -> tuple[Tensor, Tensor]:
    """Σ over terms mean over points (residual / size)², and its gradient."""
    layers = torch_network(training.network, params)
    solution = solution_of(training.problem, training.network.embedding, layers)
    loss = torch.zeros((), dtype=torch.float64)
    for term in training.least_squares.terms:
        squares = term_by_hand(training, term, solution).square()
        loss = loss + term.weight * squares.sum(0).mean()
    parts = torch.autograd.grad(loss, list(layers.parameters()))
    return loss.detach(), torch.cat([(p.T if p.ndim == 2 else p).reshape(-1) for p in parts])


@pytest.mark.parametrize("weight", [1.0, 10.0])
@pytest.mark.parametrize("name", SMALL)
def test_loss_and_gradient_are_those_of_torchs_layers(name: str, weight: float) -> None:
    training = training_of(name, equation_weight=weight)
    params = moved(training)
    expected_loss, expected = loss_by_hand(training, params)
    loss, gradient = training.least_squares.loss_and_gradient(params)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-11, atol=0)
    size = float(expected.abs().max())
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-11 * size)
    assert training.loss(params) == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_is_the_square_of_the_residual(name: str) -> None:
    training = training_of(name)
    params = moved(training)
    squares = training.least_squares
    residual, jacobian = squares.jacobian(params)
    loss, gradient = squares.loss_and_gradient(params)
    torch.testing.assert_close(residual, squares.residual(params), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(residual.square().sum(), loss, rtol=1e-13, atol=0)
    size = float(gradient.abs().max())
    torch.testing.assert_close(2 * jacobian.T @ residual, gradient, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("name", SMALL)
def test_the_jacobian_is_that_of_autograd_and_of_finite_differences(name: str) -> None:
    training = training_of(name)
    params, squares = moved(training), training.least_squares
    jacobian = squares.jacobian(params)[1].clone()
    expected = torch.func.jacrev(squares.residual)(params)
    assert isinstance(expected, Tensor)
    size = float(expected.abs().max())
    torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-12 * size)
    h = 1e-3
    for column in range(0, len(params), 17):
        unit = torch.zeros_like(params)
        unit[column] = h
        far, near, back, far_back = (squares.residual(params + k * unit) for k in (2, 1, -1, -2))
        difference = (8 * (near - back) - (far - far_back)) / (12 * h)
        torch.testing.assert_close(jacobian[:, column], difference, rtol=0, atol=1e-7 * size)


def test_the_residuals_graph_reaches_the_params_twice() -> None:
    training = training_of("burgers")
    params = moved(training).requires_grad_()
    loss = training.least_squares.residual(params).square().sum()
    (gradient,) = torch.autograd.grad(loss, params, create_graph=True)
    direction = torch.ones_like(params)
    (product,) = torch.autograd.grad((gradient * direction).sum(), params)
    h, at = 1e-4, params.detach()
    ahead, behind = (
        training.least_squares.loss_and_gradient(at + k * h * direction)[1] for k in (1, -1)
    )
    size = float(product.abs().max())
    torch.testing.assert_close(product, (ahead - behind) / (2 * h), rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("name", ["burgers", "robertson", "lifted"])
def test_float32_differs_from_float64_by_its_rounding_only(name: str) -> None:
    single, double = training_of(name, precision="float32"), training_of(name)
    params = moved(single)
    assert params.dtype == torch.float32
    loss, gradient = single.least_squares.loss_and_gradient(params)
    exact_loss, exact = double.least_squares.loss_and_gradient(params.double())
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact_loss, rtol=1e-4, atol=0)
    size = float(exact.abs().max())
    torch.testing.assert_close(gradient.double(), exact, rtol=0, atol=1e-4 * size)


def test_other_points_have_other_residuals_and_the_old_ones_come_back() -> None:
    training = training_of("burgers")
    squares, params = training.least_squares, moved(training)
    term = squares.terms[0]
    first, points = squares.residual(params), term.points
    squares.place(term, points.flip(0)[:10])
    assert len(squares.residual(params)) == len(first) - len(points) + 10
    squares.place(term, points)
    assert torch.equal(squares.residual(params), first)


def test_evaluations_are_counted() -> None:
    training = training_of("burgers")
    squares, params = training.least_squares, moved(training)
    squares.loss_and_gradient(params)
    squares.jacobian(params)
    squares.residual(params)
    assert squares.evaluations == 2


def test_terms_are_the_equations_and_then_the_conditions() -> None:
    terms = training_of("wave").least_squares.terms
    labels = ["equations", "t = 0", "t = 0", "x = 0", "x = 1"]
    assert [term.label for term in terms] == labels
    assert [term.face for term in terms] == [None, (1, 0.0), (1, 0.0), (0, 0.0), (0, 1.0)]
    assert [term.weight for term in terms[1:]] == [1.0] * 4


def test_a_stiff_problem_is_measured_against_its_terms_at_each_point() -> None:
    training = training_of("robertson")
    term = training.least_squares.terms[0]
    t = term.points[:, 0]
    wave = (t**2 + 1e-8).rsqrt()
    # Slopes of the terms times the unknowns' magnitudes 1, 3e-5 and 1.
    first = wave.clamp(min=1e4 * 3e-5)
    second = (3e-5 * wave).clamp(min=(1e4 + 2 * 3e7 * 3e-5) * 3e-5)
    third = wave.clamp(min=2 * 3e7 * 3e-5**2)
    torch.testing.assert_close(
        term.sizes_there, torch.stack([first, second, third]), rtol=1e-12, atol=0
    )


def test_a_stiff_boundary_layer_is_measured_by_the_stretched_wave_number() -> None:
    class Stiff(BoundaryLayer):
        stiff = True

    width = 1e-3
    setup = Setup(hidden=(6, 5), points_per_param=0.3)
    training = Training(Stiff(width=width), setup, 0, CPU)
    inside, left, _ = training.least_squares.terms
    x = torch.linspace(0, 1, 50, dtype=torch.float64).unsqueeze(1)
    wave = ((x[:, 0] - 1) ** 2 + width**2).rsqrt()
    # u.x - width u.xx - 1: convection away from the layer, diffusion within it.
    expected = torch.maximum(wave, width * wave**2).unsqueeze(0)
    found = training.least_squares.sizes_at(inside, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert training.least_squares.sizes_at(left, x[:1]).tolist() == [[1.0]]
    # The residual that is trained is divided by it.
    params = moved(training)
    points = inside.points
    channels = training.channels(params, points, inside.indices)
    first, second = (channels[inside.indices.index((k,)), :, 0] for k in (1, 2))
    wave = ((points[:, 0] - 1) ** 2 + width**2).rsqrt()
    residual = (first - width * second - 1) / torch.maximum(wave, width * wave**2)
    found = training.least_squares.residual(params)[: len(points)]
    expected = residual / math.sqrt(len(points))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ["burgers", "wave", "gray-scott"])
def test_other_problems_are_measured_against_their_terms_over_the_region(name: str) -> None:
    for term in training_of(name).least_squares.terms:
        assert term.sizes_there.flatten().tolist() == pytest.approx(term.sizes)


def test_an_exact_lift_leaves_no_residual() -> None:
    class Given(Burgers):
        def lift(self, x: Tensor, t: Tensor) -> Any:
            return 0.3 + 0 * x, 0 * x

        def conditions(self) -> list[Condition]:
            return [Condition("t", 0.0, lambda u, x, t: u - 0.3)]

        symmetry = {}

    training = Training(Given(), Setup(hidden=(4,)), 0, CPU)
    loss, gradient = training.least_squares.loss_and_gradient(training.initial_params)
    assert float(loss) < 1e-30 and float(gradient.abs().max()) < 1e-15


def test_the_weight_of_the_equations_counts_for_them_alone() -> None:
    one, ten = (
        training_of("burgers", equation_weight=1.0),
        training_of("burgers", equation_weight=10.0),
    )
    params = moved(one)
    light, heavy = one.least_squares.residual(params), ten.least_squares.residual(params)
    inside = len(one.least_squares.terms[0].points)
    torch.testing.assert_close(heavy[:inside], math.sqrt(10) * light[:inside], rtol=1e-13, atol=0)
    assert torch.equal(heavy[inside:], light[inside:])


def test_a_field_of_the_equations_is_a_value_at_each_point() -> None:
    training = training_of("burgers")
    term = training.least_squares.terms[0]
    channels = training.channels(training.initial_params, term.points, term.indices)
    shapes: list[torch.Size] = []

    def equation(u: Field, x: Tensor, t: Tensor) -> Tensor:
        shapes.extend([u.value.shape, u.xx.shape, x.shape])
        return u.t

    training.least_squares.raw(dataclasses.replace(term, equation=equation), channels, term.points)
    assert set(shapes) == {torch.Size([len(term.points)])}
