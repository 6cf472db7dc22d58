"""Reference solution of the Burgers problem: Cole-Hopf transform, Gauss-Hermite quadrature.

`python -m applications.pinn.reference` writes the stored one again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from applications.pinn.problems import STORED_FILE

STORED_VISCOSITY = 0.01 / math.pi
X = np.linspace(-1.0, 1.0, 257)
T = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True)
class Reference:
    """Values u[i, j] of the solution at (t[i], x[j])."""

    x: Float[np.ndarray, " nx"]
    t: Float[np.ndarray, " nt"]
    u: Float[np.ndarray, "nt nx"]


def cole_hopf(
    x: Float[np.ndarray, " nx"],
    t: Float[np.ndarray, " nt"],
    viscosity: float,
    nodes: int = 300,
) -> Float[np.ndarray, "nt nx"]:
    """u(t, x) = -∫ sin(πy) f(y) e^(-z²) dz / ∫ f(y) e^(-z²) dz, f = e^(-cos(πy) / (2π viscosity)).

    Here y = x - z √(4 viscosity t), so that t = 0 needs no case of its own. The quadrature is
    Gauss-Hermite with `nodes` nodes; it loses all digits once f varies faster than the nodes lie
    apart (small viscosity) or wraps round many periods (large): see `reference_solution`.
    Source: Basdevant et al. (1986), "Spectral and finite difference solutions of the Burgers
    equation", Computers & Fluids 14, section 2.
    """
    z, weight = np.polynomial.hermite.hermgauss(nodes)
    u = np.empty((len(t), len(x)))
    for i, time in enumerate(t):
        y = x[:, None] - z * math.sqrt(4 * viscosity * time)
        exponent = -np.cos(np.pi * y) / (2 * np.pi * viscosity) + np.log(weight)
        # A common factor cancels in the quotient; without it the exponentials overflow.
        f = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        u[i] = -(np.sin(np.pi * y) * f).sum(axis=1) / f.sum(axis=1)
    return u


def reference_solution(viscosity: float) -> Reference:
    """The solution on the grid `T` x `X`: read if stored for this viscosity, computed otherwise.

    Raises:
        ValueError: if two node counts differ by more than 1e-9, which happens outside about
            [0.001, 0.5].
    """
    if viscosity == STORED_VISCOSITY:
        with np.load(STORED_FILE) as stored:
            return Reference(x=stored["x"], t=stored["t"], u=stored["u"])
    u = cole_hopf(X, T, viscosity)
    disagreement = float(np.abs(u - cole_hopf(X, T, viscosity, nodes=200)).max())
    if not disagreement <= 1e-9:
        raise ValueError(
            f"viscosity {viscosity:g} has no trustworthy reference solution: 200 and 300 "
            f"quadrature nodes differ by {disagreement:.1e}; take one between 0.001 and 0.5"
        )
    return Reference(x=X, t=T, u=u)


def store(path: Path = STORED_FILE) -> None:
    """Write the reference solution with its error bar, the largest change with other nodes."""
    u = cole_hopf(X, T, STORED_VISCOSITY)
    others = [cole_hopf(X, T, STORED_VISCOSITY, nodes) for nodes in (100, 150, 200, 250)]
    error_bar = max(float(np.abs(other - u).max()) for other in others)
    np.savez_compressed(path, x=X, t=T, u=u, viscosity=STORED_VISCOSITY, error_bar=error_bar)


if __name__ == "__main__":
    store()
