"""The dense update against its textbook formula, and what it must preserve."""

import math

import numpy as np
import pytest
import torch
from closure_optimizers import Regression, descend

from sciopt.curvature.self_scaled_broyden import (
    UPDATES,
    SelfScaledBroyden,
    factors,
    update_in_place,
)


def textbook(
    inverse: np.ndarray, s: np.ndarray, y: np.ndarray, tau: float, phi: float
) -> np.ndarray:
    """Urban, Stefanou & Pons (2025), the self-scaled Broyden family."""
    h_y = inverse @ y
    v = math.sqrt(y @ h_y) * (s / (s @ y) - h_y / (y @ h_y))
    middle = inverse - np.outer(h_y, h_y) / (y @ h_y) + phi * np.outer(v, v)
    return middle / tau + np.outer(s, s) / (s @ y)


@pytest.mark.parametrize("n", [1, 2, 7, 150])
@pytest.mark.parametrize("tau", [1.0, 0.3])
@pytest.mark.parametrize("phi", [1.0, 0.0, 0.7, 1.3, 8.0, -0.01, -3.0])
def test_the_update_is_the_formula_symmetric_and_satisfies_the_secant_equation(
    n: int, tau: float, phi: float
) -> None:
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n, n + 2))
    inverse, curved = root @ root.T, np.diag(rng.uniform(0.5, 2.0, n))
    s = rng.normal(size=n)
    y = curved @ s
    expected = textbook(inverse, s, y, tau, phi)
    actual = torch.from_numpy((inverse + inverse.T) / 2)
    h_y = actual @ torch.from_numpy(y)
    y_h_y = float(y @ h_y.numpy())
    terms = factors(torch.from_numpy(s), h_y, float(s @ y), y_h_y, tau, phi)
    update_in_place(actual, terms, tau)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12 * scale)
    np.testing.assert_allclose(actual.numpy() @ y, s, atol=1e-11 * scale)
    np.testing.assert_allclose(actual.numpy(), actual.numpy().T, atol=1e-14 * scale)


@pytest.mark.parametrize("update", UPDATES)
def test_the_inverse_stays_positive_definite_and_the_direction_is_its_product(update: str) -> None:
    task = Regression()
    optimizer = SelfScaledBroyden(task.params, update=update)
    for _ in range(40):
        descend(optimizer, task.loss, task.params, 1)
        memory = optimizer.state[task.params[0]]
        inverse = memory["inverse_hessian"]
        assert torch.linalg.eigvalsh(inverse)[0] > 0
        expected = -inverse @ memory["gradient"]
        error = (memory["direction"] - expected).norm() / expected.norm()
        assert error < 1e-9


def test_tau_and_phi_are_in_the_ranges_that_the_theory_asks_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        b = float(np.exp(rng.normal(scale=3)))
        h = (1 + float(np.exp(rng.normal(scale=3)))) / b
        for name, update in UPDATES.items():
            tau, phi = update(b, h, 100)
            assert 0 < tau <= 1, name
            # The bounds that keep the inverse positive definite: phi > -1 / (b h - 1).
            assert phi > -1 / (b * h - 1), name
    assert UPDATES["bfgs"](4.0, 1.0, 10) == (0.25, 1.0)
    assert UPDATES["unscaled-bfgs"](4.0, 1.0, 10) == (1.0, 1.0)


def test_a_quadratic_is_solved_and_its_inverse_hessian_learned() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + torch.eye(8, dtype=torch.float64)
    x = torch.ones(8, dtype=torch.float64, requires_grad=True)
    optimizer = SelfScaledBroyden([x], update="unscaled-bfgs", tolerance_gradient=1e-10)
    descend(optimizer, lambda: x @ hessian @ x / 2, [x], 200)
    assert x.abs().max() < 1e-9
    inverse = optimizer.state[x]["inverse_hessian"]
    assert torch.dist(inverse @ hessian, torch.eye(8, dtype=torch.float64)) < 0.1


def test_numbers_of_self_scaled_broyden() -> None:
    # b = 2, h = 1: a = 1, c = sqrt(1/2), rho = 1 - c; theta = max(-c, min(1 / rho, -1/2)) = -1/2;
    # sigma = 1/2; tau = min(1/2 * 2^(1/(n-1)), 1/2) = 1/2; phi = (3/2) / (1/2) = 3.
    assert UPDATES["broyden"](2.0, 1.0, 5) == pytest.approx((0.5, 3.0))
