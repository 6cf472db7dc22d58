"""Chebyshev collocation: exact on polynomials, and an independent check of closed forms."""

import numpy as np
import pytest

from applications.pinn.reference.chebyshev import (
    differentiation_matrix,
    solve_boundary_value_problem,
)


def test_polynomials_are_differentiated_exactly() -> None:
    x, d = differentiation_matrix(8)
    assert (x[0], x[-1]) == (-1, 1)
    for power in range(1, 9):
        np.testing.assert_allclose(d @ x**power, power * x ** (power - 1), atol=1e-12)


@pytest.mark.parametrize(("epsilon", "degree"), [(1e-1, 32), (1e-2, 96), (1e-3, 224)])
def test_the_closed_form_of_the_boundary_layer(epsilon: float, degree: int) -> None:
    """-epsilon u'' + u' = 1: u = x - (e^((x - 1) / epsilon) - e^(-1 / epsilon)) / (1 - ...)."""
    x, u = solve_boundary_value_problem(-epsilon, 1, 0, 1, degree)
    decayed = np.exp(-1 / epsilon)
    closed = x - (np.exp((x - 1) / epsilon) - decayed) / (1 - decayed)
    np.testing.assert_allclose(u, closed, atol=1e-12)
    assert u.max() > 0.6


def test_reaction_and_diffusion_in_balance() -> None:
    """-u'' + k² u = k²: u = 1 - cosh(k (x - 1/2)) / cosh(k / 2), a layer at both ends."""
    k = 40.0
    x, u = solve_boundary_value_problem(-1, 0, k**2, k**2, 64)
    np.testing.assert_allclose(u, 1 - np.cosh(k * (x - 0.5)) / np.cosh(k / 2), atol=1e-12)
