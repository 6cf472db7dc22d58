"""The Fourier integrator against closed forms, another formula and another time integrator."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from applications.pinn.reference import relative_difference, stored
from applications.pinn.reference.cole_hopf import cole_hopf
from applications.pinn.reference.etdrk4 import PeriodicEquation, evolve, periodic_reference
from applications.pinn.reference.periodic_equations import (
    ALLEN_CAHN,
    GRAY_SCOTT,
    KDV,
    KURAMOTO_SIVASHINSKY,
    REACTION_DIFFUSION,
)

EQUATIONS = {
    "allen_cahn": ALLEN_CAHN,
    "gray_scott": GRAY_SCOTT,
    "kdv": KDV,
    "kuramoto_sivashinsky": KURAMOTO_SIVASHINSKY,
    "reaction_diffusion": REACTION_DIFFUSION,
}


def scalar(
    initial: Callable[[np.ndarray], np.ndarray],
    symbol: Callable[[np.ndarray], np.ndarray],
    nonlinear: Callable[[np.ndarray, np.ndarray], np.ndarray],
    left: float = -1.0,
    right: float = 1.0,
) -> PeriodicEquation:
    return PeriodicEquation(
        unknowns=("u",),
        left=left,
        right=right,
        end_time=1,
        initial=lambda x: initial(x)[None],
        symbol=lambda ddx: symbol(ddx)[None],
        nonlinear=nonlinear,
    )


@pytest.mark.parametrize("part", ["linear", "nonlinear"])
def test_advection_and_diffusion_of_a_sine(part: str) -> None:
    """u_t + 3 u_x = 0.1 u_xx, the advection once in L and once in N."""
    in_n = 3.0 if part == "nonlinear" else 0.0
    equation = scalar(
        lambda x: np.sin(2 * np.pi * x),
        lambda ddx: 0.1 * ddx**2 - (3 - in_n) * ddx,
        lambda u, u_x: -in_n * u_x,
    )
    reference = evolve(equation, points=32, steps=2000, output=(17, 11))
    x, t = reference.axes["x"][:, None], reference.axes["t"]
    exact = np.exp(-0.1 * (2 * np.pi) ** 2 * t) * np.sin(2 * np.pi * (x - 3 * t))
    np.testing.assert_allclose(reference.values["u"], exact, atol=1e-13 if in_n == 0 else 1e-9)


def test_a_soliton_keeps_its_shape() -> None:
    """u_t + u u_x + u_xxx = 0 is solved by 3 c sech²(√c (x - c t) / 2)."""
    c = 4.0
    equation = scalar(
        lambda x: 3 * c / np.cosh(np.sqrt(c) / 2 * x) ** 2,
        lambda ddx: -(ddx**3),
        lambda u, u_x: -u * u_x,
        left=-20,
        right=20,
    )
    reference = evolve(equation, points=512, steps=4000, output=(257, 5))
    x, t = reference.axes["x"][:, None], reference.axes["t"]
    exact = 3 * c / np.cosh(np.sqrt(c) / 2 * (x - c * t)) ** 2
    assert relative_difference(reference.values, {"u": exact}) < 1e-8


def test_the_burgers_equation_agrees_with_cole_hopf() -> None:
    equation = scalar(
        lambda x: -np.sin(np.pi * x), lambda ddx: 0.01 * ddx**2, lambda u, u_x: -u * u_x
    )
    reference = evolve(equation, points=1024, steps=2000, output=(257, 11))
    exact = cole_hopf(reference.axes["x"], reference.axes["t"], 0.01)
    assert relative_difference(reference.values, {"u": exact}) < 1e-9


def test_halving_the_step_divides_the_error_by_sixteen() -> None:
    equation = scalar(
        lambda x: -np.sin(np.pi * x), lambda ddx: 0.1 * ddx**2, lambda u, u_x: -u * u_x
    )
    exact = {"u": cole_hopf(np.linspace(-1, 1, 33), np.linspace(0, 1, 3), 0.1)}
    errors = [
        relative_difference(evolve(equation, 128, steps, output=(33, 3)).values, exact)
        for steps in (20, 40)
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)


def implicit(
    equation: PeriodicEquation, points: int, tolerance: float, t: np.ndarray
) -> np.ndarray:
    """Matrices of trigonometric collocation in space, not dealiased, and Radau in time."""
    unknowns, identity = len(equation.unknowns), np.eye(points)
    length = equation.right - equation.left
    ddx = 2j * np.pi / length * np.arange(points // 2 + 1)
    modes = np.fft.rfft(identity, axis=0)
    d = np.fft.irfft(ddx[:, None] * modes, points, axis=0)
    linear = np.fft.irfft(equation.symbol(ddx)[..., None] * modes, points, axis=1)

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        u = flat.reshape(unknowns, points)
        return ((linear @ u[..., None])[..., 0] + equation.nonlinear(u, u @ d.T)).ravel()

    def jacobian(_: float, flat: np.ndarray) -> np.ndarray:
        """Of the linear part as it is, of N by complex steps."""
        u = flat.reshape(unknowns, points).astype(complex)
        blocks = np.zeros((unknowns, points, unknowns, points))
        for j in range(unknowns):
            aside = np.zeros((unknowns, 1), complex)
            aside[j] = 1e-30j
            by_u = np.imag(equation.nonlinear(u + aside, u @ d.T)) / 1e-30
            by_u_x = np.imag(equation.nonlinear(u, u @ d.T + aside)) / 1e-30
            blocks[:, :, j] = by_u[..., None] * identity + by_u_x[..., None] * d
            blocks[j, :, j] += linear[j]
        return blocks.reshape(unknowns * points, -1)

    x = equation.left + length * np.arange(points) / points
    start = equation.initial(x).ravel()
    solution = solve_ivp(
        rate, (0, t[-1]), start, "Radau", t, jac=jacobian, rtol=tolerance, atol=tolerance
    )
    assert solution.success
    return solution.y.reshape(unknowns, points, len(t))


@pytest.mark.parametrize(
    ("name", "points", "tolerance", "difference"),
    [
        ("allen_cahn", 256, 1e-7, 6e-5),  # the kink at 256 points
        ("gray_scott", 128, 1e-9, 1e-8),
        ("kdv", 256, 1e-9, 5e-8),
        ("kuramoto_sivashinsky", 256, 1e-9, 1e-6),  # rounding errors, amplified
        ("reaction_diffusion", 64, 1e-10, 2e-6),  # the slight kink at 64 points
    ],
)
def test_the_stored_solution_agrees_with_an_implicit_method(
    name: str, points: int, tolerance: float, difference: float
) -> None:
    reference = stored(name)
    other = implicit(EQUATIONS[name], points, tolerance, reference.axes["t"][::10])
    values = {n: u[: -1 : 256 // points, ::10] for n, u in reference.values.items()}
    others = dict(zip(EQUATIONS[name].unknowns, other, strict=True))
    assert relative_difference(others, values) < difference


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_initial_value_and_the_period_are_kept(name: str) -> None:
    equation = EQUATIONS[name]
    reference = evolve(equation, points=512, steps=2000, output=(33, 3))
    initial = equation.initial(reference.axes["x"])
    for u, u_0 in zip(reference.values.values(), initial, strict=True):
        np.testing.assert_array_equal(u[:, 0], u_0)
        np.testing.assert_allclose(u[0], u[-1], atol=1e-12)


@pytest.mark.parametrize("name", ["kdv", "kuramoto_sivashinsky"])
def test_the_mean_is_conserved(name: str) -> None:
    u = evolve(EQUATIONS[name], points=512, steps=4000, output=(513, 3)).values["u"]
    np.testing.assert_allclose(u[:-1].mean(axis=0), 0, atol=1e-9)


def test_the_energy_of_kdv_is_conserved() -> None:
    u = evolve(KDV, points=512, steps=4000, output=(513, 5)).values["u"]
    np.testing.assert_allclose((u[:-1] ** 2).mean(axis=0), 0.5, atol=1e-8)


def test_kuramoto_sivashinsky_amplifies_a_perturbation_ten_thousandfold() -> None:
    """Why its error bar is far above rounding: data/README.md quotes the factor."""
    original = KURAMOTO_SIVASHINSKY

    def aside(x: np.ndarray) -> np.ndarray:
        return original.initial(x) + 1e-9 * np.sin(8 * x + 0.3)

    u, other = (
        evolve(equation, points=256, steps=2000, output=(257, 2)).values["u"]
        for equation in (original, replace(original, initial=aside))
    )
    before, after = np.linalg.norm(other - u, axis=0) / np.linalg.norm(u, axis=0)
    assert 1e4 < after / before < 1e5


def test_one_pulse_splits_in_two() -> None:
    v = evolve(GRAY_SCOTT, points=256, steps=1000, output=(257, 3)).values["v"][:-1]
    peaks = (v > np.roll(v, 1, axis=0)) & (v >= np.roll(v, -1, axis=0)) & (v > 0.1)
    assert list(peaks.sum(axis=0)[[0, -1]]) == [1, 2]


def test_the_error_bar_covers_the_error() -> None:
    equation = scalar(
        lambda x: -np.sin(np.pi * x), lambda ddx: 0.02 * ddx**2, lambda u, u_x: -u * u_x
    )
    reference = periodic_reference(equation, points=512, steps=400)
    exact = cole_hopf(reference.axes["x"], reference.axes["t"], 0.02)
    error = relative_difference(reference.values, {"u": exact})
    assert error <= reference.error_bar < 1e-4


def test_outputs_between_the_grid_points_are_refused() -> None:
    with pytest.raises(ValueError, match="300 points and 100 steps do not contain 257 x 101"):
        evolve(KDV, points=300, steps=100)
