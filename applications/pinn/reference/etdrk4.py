"""Periodic evolution equations u_t = L u + N(u): Fourier modes in space, ETDRK4 in time.

Exponential time differencing treats the stiff linear part L exactly and the rest N by a Runge-Kutta
scheme of order four. Its coefficients, such as (e^z - 1) / z, lose all digits near z = 0 if taken
literally; they are averaged over a circle round z instead, which is exact for analytic functions.
Source: Kassam & Trefethen (2005), "Fourth-order time-stepping for stiff PDEs", SIAM J. Sci. Comput.
26, sections 2 and 3; their step is `EtdRk4.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from applications.pinn.reference.gridded import Reference, relative_difference

State = Complex[np.ndarray, "unknowns modes"]
Field = Float[np.ndarray, "unknowns points"]

OVERSAMPLING = 64
"""A kinked initial value sampled on the grid itself leaves aliasing errors of O(points^-2)."""


@dataclass(frozen=True)
class PeriodicEquation:
    """u_t = L u + N(u, u_x) for one or several unknowns, periodic on [left, right], t from 0."""

    unknowns: tuple[str, ...]
    left: float
    right: float
    end_time: float
    initial: Callable[[Float[np.ndarray, " points"]], Field]
    """The unknowns at t = 0, of shape (unknowns, points)."""
    symbol: Callable[[Complex[np.ndarray, " modes"]], State]
    """L on a Fourier mode, given the factor by which d/dx multiplies it: u_xx is `ddx**2`."""
    nonlinear: Callable[[Field, Field], Field]
    """N(u, u_x), of shape (unknowns, points)."""


class EtdRk4:
    """Time steps of one size on the Fourier coefficients of a periodic equation.

    Products are dealiased by the two-thirds rule: N feeds no mode above a third of `points`.
    """

    def __init__(self, equation: PeriodicEquation, points: int, time_step: float) -> None:
        self.points = points
        modes = np.arange(points // 2 + 1)
        self.ddx = 2j * np.pi / (equation.right - equation.left) * modes
        self.kept = modes < points / 3
        self.nonlinear = equation.nonlinear
        z = time_step * equation.symbol(self.ddx)
        on_circle = z[..., None] + np.exp(2j * np.pi * (np.arange(32) + 0.5) / 32)

        def averaged(coefficient: Callable[[np.ndarray], np.ndarray]) -> State:
            return time_step * coefficient(on_circle).mean(axis=-1)

        self.whole, self.half = np.exp(z), np.exp(z / 2)
        self.stage = averaged(lambda z: (np.exp(z / 2) - 1) / z)
        self.first = averaged(lambda z: (-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3)
        self.middle = averaged(lambda z: 2 * (2 + z + np.exp(z) * (z - 2)) / z**3)
        self.last = averaged(lambda z: (-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3)

    def rate(self, state: State) -> State:
        """N(u, u_x) in Fourier space."""
        u = np.fft.irfft(state, self.points)
        u_x = np.fft.irfft(self.ddx * state, self.points)
        return self.kept * np.fft.rfft(self.nonlinear(u, u_x))

    def step(self, state: State) -> State:
        """The coefficients one time step later."""
        n_u = self.rate(state)
        a = self.half * state + self.stage * n_u
        n_a = self.rate(a)
        b = self.half * state + self.stage * n_a
        n_b = self.rate(b)
        c = self.half * a + self.stage * (2 * n_b - n_u)
        n_c = self.rate(c)
        return self.whole * state + self.first * n_u + self.middle * (n_a + n_b) + self.last * n_c


def evolve(
    equation: PeriodicEquation, points: int, steps: int, output: tuple[int, int] = (257, 101)
) -> Reference:
    """The solution on `output` (x, t) points, both ends included; its error bar is still 0.

    `points` must be a multiple of the intervals in x and `steps` of those in t, because nothing is
    interpolated.
    """
    nx, nt = output
    if points % (nx - 1) or steps % (nt - 1):
        raise ValueError(
            f"{points} points and {steps} steps do not contain {nx} x {nt} outputs; give "
            f"multiples of {nx - 1} and {nt - 1}"
        )
    x = np.linspace(equation.left, equation.right, nx)
    t = np.linspace(0, equation.end_time, nt)
    fine = np.linspace(equation.left, equation.right, OVERSAMPLING * points, endpoint=False)
    state = np.fft.rfft(equation.initial(fine))[:, : points // 2 + 1] / OVERSAMPLING
    scheme = EtdRk4(equation, points, equation.end_time / steps)
    u = np.empty((len(equation.unknowns), nx, nt))
    u[:, :, 0] = equation.initial(x)
    for j in range(1, nt):
        for _ in range(steps // (nt - 1)):
            state = scheme.step(state)
        u[:, :-1, j] = np.fft.irfft(state, points)[:, :: points // (nx - 1)]
        u[:, -1, j] = u[:, 0, j]
    return Reference({"x": x, "t": t}, dict(zip(equation.unknowns, u, strict=True)), error_bar=0)


def periodic_reference(equation: PeriodicEquation, points: int, steps: int) -> Reference:
    """The solution with its error bar: its distance from one with half the points and steps."""
    fine, coarse = evolve(equation, points, steps), evolve(equation, points // 2, steps // 2)
    return Reference(fine.axes, fine.values, relative_difference(coarse.values, fine.values))
