"""The stiff equations of the suite that are periodic in space; all quantities are dimensionless."""

from __future__ import annotations

import numpy as np

from applications.pinn.reference.etdrk4 import Field, PeriodicEquation

ALLEN_CAHN = PeriodicEquation(
    unknowns=("u",),
    left=-1,
    right=1,
    end_time=1,
    initial=lambda x: (x**2 * np.cos(np.pi * x))[None],
    symbol=lambda ddx: (1e-4 * ddx**2 + 5)[None],
    nonlinear=lambda u, _: -5 * u**3,
)
"""u_t = 10^-4 u_xx + 5 u - 5 u³. Continued periodically, u(x, 0) has a kink at x = ±1."""

KDV = PeriodicEquation(
    unknowns=("u",),
    left=-1,
    right=1,
    end_time=1,
    initial=lambda x: np.cos(np.pi * x)[None],
    symbol=lambda ddx: (-(0.022**2) * ddx**3)[None],
    nonlinear=lambda u, u_x: -u * u_x,
)
"""u_t + u u_x + 0.022² u_xxx = 0: a cosine that breaks up into solitons.

Source: Zabusky & Kruskal (1965), Physical Review Letters 15, 240.
"""

KURAMOTO_SIVASHINSKY = PeriodicEquation(
    unknowns=("u",),
    left=0,
    right=2 * np.pi,
    end_time=1,
    initial=lambda x: (np.cos(x) * (1 + np.sin(x)))[None],
    symbol=lambda ddx: (-100 / 16**2 * ddx**2 - 100 / 16**4 * ddx**4)[None],
    nonlinear=lambda u, u_x: -100 / 16 * u * u_x,
)
"""u_t + (100/16) u u_x + (100/16²) u_xx + (100/16⁴) u_xxxx = 0: chaotic."""

REACTION_DIFFUSION = PeriodicEquation(
    unknowns=("u",),
    left=0,
    right=2 * np.pi,
    end_time=1,
    initial=lambda x: np.exp(-((x - np.pi) ** 2) / (2 * (np.pi / 4) ** 2))[None],
    symbol=lambda ddx: (5 * ddx**2 + 5)[None],
    nonlinear=lambda u, _: -5 * u**2,
)
"""u_t = 5 u_xx + 5 u (1 - u)."""

FEED, KILL = 0.04, 0.06


def _pulse(x: np.ndarray) -> Field:
    pulse = np.exp(10 * (np.cos(np.pi * x) - 1))
    return np.stack([1 - pulse / 2, pulse / 4])


def _autocatalysis(u: Field, _: Field) -> Field:
    reaction = u[0] * u[1] ** 2
    return np.stack([FEED - reaction, reaction])


GRAY_SCOTT = PeriodicEquation(
    unknowns=("u", "v"),
    left=-1,
    right=1,
    end_time=500,
    initial=_pulse,
    symbol=lambda ddx: np.stack([2e-4 * ddx**2 - FEED, 1e-4 * ddx**2 - (FEED + KILL)]),
    nonlinear=_autocatalysis,
)
"""u_t = 2·10^-4 u_xx - u v² + F (1 - u), v_t = 10^-4 v_xx + u v² - (F + k) v, F = 0.04, k = 0.06.

One pulse, u = 1 - p/2 and v = p/4 with p = e^(10 (cos πx - 1)), splits in two that move apart.
"""
