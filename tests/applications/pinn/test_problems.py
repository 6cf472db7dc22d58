"""Networks, derivatives and the equation against torch.nn and closed forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from applications.pinn.methods import LBFGS, Adam, AdamThenLBFGS
from applications.pinn.network import glorot_normal, mlp
from applications.pinn.problems import Burgers, derivatives


def points(count: int = 50) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.rand(2, count, generator=generator, dtype=torch.float64)
    return (2 * x - 1).requires_grad_(), t.clone().requires_grad_()


@pytest.mark.parametrize(("name", "layer"), [("tanh", torch.nn.Tanh), ("sin", None)])
def test_the_network_is_that_of_torch(name: str, layer: Any) -> None:
    class Sine(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sin()

    activation = layer or Sine
    first, second, last = (
        torch.nn.Linear(a, b, dtype=torch.float64) for a, b in ((2, 5), (5, 4), (4, 1))
    )
    network = torch.nn.Sequential(first, activation(), second, activation(), last)
    params = torch.cat(
        [
            part
            for linear in (first, second, last)
            for part in (linear.weight.T.ravel(), linear.bias)
        ]
    )
    inputs = torch.stack(points(), dim=1)
    expected = network(inputs)
    torch.testing.assert_close(
        mlp(params, inputs, (2, 5, 4, 1), name), expected, rtol=0, atol=1e-15
    )


def test_initial_weights_have_glorots_variance() -> None:
    params = glorot_normal((2, 300, 400), np.random.default_rng(0))
    first, bias, second, rest = np.split(params, np.cumsum([600, 300, 120000]))
    assert not bias.any() and not rest.any() and len(rest) == 400
    assert first.std() == pytest.approx(math.sqrt(2 / 302), rel=0.1)
    assert second.std() == pytest.approx(math.sqrt(2 / 700), rel=0.01)


def test_derivatives_are_those_of_the_closed_form() -> None:
    x, t = points()
    u = torch.sin(3 * x) * torch.exp(-2 * t)
    u_x, u_t = derivatives(u, x, t)
    (u_xx,) = derivatives(u_x, x)
    torch.testing.assert_close(
        u_x, 3 * torch.cos(3 * x) * torch.exp(-2 * t), rtol=1e-14, atol=1e-15
    )
    torch.testing.assert_close(u_t, -2 * u, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(u_xx, -9 * u, rtol=1e-14, atol=1e-15)


def travelling_wave(x: Tensor, t: Tensor, viscosity: float) -> Tensor:
    """An exact solution of the equation: a front of height 2a moving with speed c."""
    a, c = 0.7, 0.3
    return c - a * torch.tanh(a * (x - c * t) / (2 * viscosity))


def test_the_residual_vanishes_on_an_exact_solution_and_not_on_others() -> None:
    x, t = points()
    problem = Burgers(viscosity=0.05)
    exact = problem.residual(x, t, travelling_wave(x, t, 0.05))
    torch.testing.assert_close(exact, torch.zeros_like(exact), rtol=0, atol=1e-13)
    assert problem.residual(x, t, travelling_wave(x, t, 0.06)).abs().max() > 0.1


def test_the_lift_meets_every_condition_whatever_the_network_says() -> None:
    x, t = points()
    output = 100 * torch.sin(7 * x + t)
    problem = Burgers()
    torch.testing.assert_close(
        problem.lift(x, torch.zeros_like(t), output), -torch.sin(math.pi * x), rtol=0, atol=0
    )
    for end in (-1.0, 1.0):
        at_end = problem.lift(torch.full_like(x, end), t, output)
        torch.testing.assert_close(at_end, torch.zeros_like(x), rtol=0, atol=1e-15)
    inside = problem.lift(x, t, output) - problem.lift(x, t, torch.zeros_like(x))
    torch.testing.assert_close(inside / output, t * (1 - x**2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"viscosity": 0.0}, "viscosity is 0.0; give a positive number"),
        ({"viscosity": -1.0}, "viscosity is -1.0"),
        ({"viscosity": math.nan}, "viscosity is nan"),
        ({"conditions": "hard"}, "conditions is 'hard'; give 'penalty' or 'lift'"),
        ({"collocation_points": 3}, "collocation_points is 3; give at least 10"),
        ({"condition_points": 1}, "condition_points is 1; give at least 4"),
        ({"hidden": ()}, r"hidden is \(\); give one positive unit count per layer"),
        ({"hidden": (20, 0)}, r"hidden is \(20, 0\)"),
        ({"activation": "relu"}, "activation is 'relu'; give one of tanh, sin"),
    ],
)
def test_a_problem_that_cannot_be_posed_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Burgers(**settings)


@pytest.mark.parametrize("method", [Adam, LBFGS, AdamThenLBFGS])
def test_half_precision_is_refused(method: Any) -> None:
    with pytest.raises(ValueError, match="precision is 'float16'; give 'float32' or 'float64'"):
        method(precision="float16")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (Adam, {"lr": 0.0}, "lr is 0.0; give a positive number"),
        (AdamThenLBFGS, {"lr": math.inf}, "lr is inf"),
        (LBFGS, {"memory": 0}, "memory is 0; give 1 to 10000"),
        (
            LBFGS,
            {"gradient_tolerance": math.nan},
            "gradient_tolerance is nan; give a finite number",
        ),
        (AdamThenLBFGS, {"switch_step": 0}, "switch_step is 0; give at least 1"),
    ],
)
def test_settings_that_cannot_run_are_refused(method: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**settings)
