"""The Burgers reference solution against other quadratures, the literature and the equation."""

import math

import numpy as np
import pytest

from applications.pinn.reference import burgers
from applications.pinn.reference.cole_hopf import cole_hopf

THIN = 0.01 / math.pi


def trapezoid(x: np.ndarray, t: float, viscosity: float) -> np.ndarray:
    """Cole-Hopf by the trapezoid rule in the heat kernel's own variable."""
    eta = np.linspace(-3, 3, 20001)
    y = x[:, None] - eta
    exponent = -np.cos(np.pi * y) / (2 * np.pi * viscosity) - eta**2 / (4 * viscosity * t)
    f = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return -(np.sin(np.pi * y) * f).sum(axis=1) / f.sum(axis=1)


@pytest.mark.parametrize("nodes", [120, 200, 330])
def test_the_number_of_nodes_does_not_matter(nodes: int) -> None:
    x, t = np.linspace(-1, 1, 41), np.linspace(0, 1, 11)
    reference = cole_hopf(x, t, THIN)
    np.testing.assert_allclose(cole_hopf(x, t, THIN, nodes), reference, atol=1e-13)


@pytest.mark.parametrize("t", [0.02, 0.3, 0.5, 1.0])
def test_an_independent_quadrature_agrees(t: float) -> None:
    x = np.concatenate([np.linspace(-1, 1, 21), np.linspace(-0.02, 0.02, 9)])
    u = cole_hopf(x, np.array([t]), THIN)[:, 0]
    np.testing.assert_allclose(u, trapezoid(x, t, THIN), atol=1e-13)


def test_the_largest_slope_is_that_of_the_literature() -> None:
    # Basdevant et al. (1986): at x = 0 and t = 1.6037 / pi.
    h = 1e-6
    left, right = cole_hopf(np.array([-h, h]), np.array([1.55, 1.6037, 1.65]) / math.pi, THIN)
    before, at, after = (left - right) / (2 * h)
    assert at == pytest.approx(152.00516, abs=1e-5)
    assert max(before, after) < at


def test_it_solves_the_equation() -> None:
    viscosity, h = 0.1, 1e-3
    x, t = np.linspace(-0.9, 0.9, 7), np.array([0.2, 0.7])

    def u(dx: float, dt: float) -> np.ndarray:
        return cole_hopf(x + dx, t + dt, viscosity)

    u_t = (u(0, h) - u(0, -h)) / (2 * h)
    u_x = (u(h, 0) - u(-h, 0)) / (2 * h)
    u_xx = (u(h, 0) - 2 * u(0, 0) + u(-h, 0)) / h**2
    np.testing.assert_allclose(u_t + u(0, 0) * u_x, viscosity * u_xx, atol=1e-4)
    assert np.abs(u_t).max() > 0.1


def test_the_conditions_hold_on_the_grid() -> None:
    reference = burgers(0.02)
    x, t, u = reference.axes["x"], reference.axes["t"], reference.values["u"]
    assert [x[0], x[-1], t[0], t[-1]] == [-1, 1, 0, 1]
    np.testing.assert_allclose(u[:, 0], -np.sin(np.pi * x), atol=1e-15)
    np.testing.assert_allclose(u[[0, -1]], 0.0, atol=1e-13)
    np.testing.assert_allclose(u[:, 50], trapezoid(x, t[50], 0.02), atol=1e-12)


@pytest.mark.parametrize("viscosity", [1e-4, 10.0])
def test_a_viscosity_beyond_the_quadrature_is_refused(viscosity: float) -> None:
    with pytest.raises(ValueError, match=r"quadrature nodes differ by .* between 0.001 and 0.5"):
        burgers(viscosity)
