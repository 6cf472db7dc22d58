"""Linear two-point boundary value problems by Chebyshev collocation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def differentiation_matrix(
    degree: int,
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "points points"]]:
    """The degree + 1 Chebyshev points, rising from -1 to 1, and D with (D u)_i = u'(x_i).

    D is exact for polynomials up to that degree.
    Source: Trefethen (2000), "Spectral Methods in MATLAB", chapter 6.
    """
    angle = np.pi * np.arange(degree + 1) / degree
    x = -np.cos(angle)
    c = (-1.0) ** np.arange(degree + 1)
    c[[0, -1]] *= 2
    # x_i - x_j by the product formula, which loses no digits between neighbours.
    plus, minus = angle[:, None] + angle, angle[:, None] - angle
    difference = 2 * np.sin(plus / 2) * np.sin(minus / 2) + np.eye(degree + 1)
    d = np.outer(c, 1 / c) / difference
    d -= np.diag(d.sum(axis=1))
    return x, d


def solve_boundary_value_problem(
    second: float, first: float, zeroth: float, right_side: float, degree: int
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Points x and u of second u'' + first u' + zeroth u = right_side on [0, 1], u(0) = u(1) = 0.

    A boundary layer of width w asks for a degree of several w^(-1/2), because Chebyshev points
    are quadratically dense at the ends.
    """
    nodes, d = differentiation_matrix(degree)
    d = 2 * d
    operator = second * d @ d + first * d + zeroth * np.eye(degree + 1)
    inner = slice(1, -1)
    u = np.zeros(degree + 1)
    u[inner] = np.linalg.solve(operator[inner, inner], np.full(degree - 1, right_side))
    return (nodes + 1) / 2, u
