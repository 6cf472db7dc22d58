"""The Burgers equation in closed form: Cole-Hopf transform, Gauss-Hermite quadrature."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from applications.pinn.reference.gridded import Reference, relative_difference


def cole_hopf(
    x: Float[np.ndarray, " nx"],
    t: Float[np.ndarray, " nt"],
    viscosity: float,
    nodes: int = 300,
) -> Float[np.ndarray, "nx nt"]:
    """u(x, t) = -∫ sin(πy) f(y) e^(-z²) dz / ∫ f(y) e^(-z²) dz, f = e^(-cos(πy) / (2π viscosity)).

    It solves u_t + u u_x = viscosity u_xx with u(x, 0) = -sin(πx) and u(±1, t) = 0.
    Here y = x - z √(4 viscosity t), so that t = 0 needs no case of its own. The quadrature is
    Gauss-Hermite with `nodes` nodes; it loses all digits once f varies faster than the nodes lie
    apart (small viscosity) or wraps round many periods (large): see `burgers`.
    Source: Basdevant et al. (1986), "Spectral and finite difference solutions of the Burgers
    equation", Computers & Fluids 14, section 2.
    """
    z, weight = np.polynomial.hermite.hermgauss(nodes)
    u = np.empty((len(x), len(t)))
    for j, time in enumerate(t):
        y = x[:, None] - z * math.sqrt(4 * viscosity * time)
        exponent = -np.cos(np.pi * y) / (2 * np.pi * viscosity) + np.log(weight)
        # A common factor cancels in the quotient; without it the exponentials overflow.
        f = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        u[:, j] = -(np.sin(np.pi * y) * f).sum(axis=1) / f.sum(axis=1)
    return u


# It takes most of a second, and every start of a run asks for it.
@lru_cache(maxsize=8)
def burgers(viscosity: float) -> Reference:
    """The solution for x in [-1, 1] (257 points) and t in [0, 1] (101 points).

    The error bar is the largest change with 200 or 250 nodes instead of 300.

    Raises:
        ValueError: if they differ by more than 1e-9, which happens outside about [0.001, 0.5].
    """
    axes = {"x": np.linspace(-1, 1, 257), "t": np.linspace(0, 1, 101)}
    values = {"u": cole_hopf(axes["x"], axes["t"], viscosity)}
    error_bar = max(
        relative_difference({"u": cole_hopf(axes["x"], axes["t"], viscosity, nodes)}, values)
        for nodes in (200, 250)
    )
    if not error_bar <= 1e-9:
        raise ValueError(
            f"viscosity {viscosity:g} has no trustworthy reference solution: 200 to 300 "
            f"quadrature nodes differ by {error_bar:.1e}; take one between 0.001 and 0.5"
        )
    return Reference(axes, values, error_bar)
