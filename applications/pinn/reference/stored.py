"""The reference solutions kept in `data/`, and how each is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from applications.pinn.reference.cole_hopf import burgers
from applications.pinn.reference.etdrk4 import periodic_reference
from applications.pinn.reference.gridded import Reference
from applications.pinn.reference.periodic_equations import (
    ALLEN_CAHN,
    GRAY_SCOTT,
    KDV,
    KURAMOTO_SIVASHINSKY,
    REACTION_DIFFUSION,
)
from applications.pinn.reference.stiff_ode import (
    robertson,
    van_der_pol,
    van_der_pol_along_its_arc,
)

DATA = Path(__file__).parents[3] / "data"

STORED: Mapping[str, Callable[[], Reference]] = {
    "burgers_viscosity_0.01_over_pi": lambda: burgers(0.01 / math.pi),
    "burgers_viscosity_0.01": lambda: burgers(0.01),
    "allen_cahn": lambda: periodic_reference(ALLEN_CAHN, points=8192, steps=4000),
    "kdv": lambda: periodic_reference(KDV, points=1024, steps=80000),
    "kuramoto_sivashinsky": lambda: periodic_reference(KURAMOTO_SIVASHINSKY, 1024, steps=80000),
    "reaction_diffusion": lambda: periodic_reference(REACTION_DIFFUSION, points=1024, steps=4000),
    "gray_scott": lambda: periodic_reference(GRAY_SCOTT, points=1024, steps=40000),
    "robertson": robertson,
    "van_der_pol": van_der_pol,
    "van_der_pol_arc": van_der_pol_along_its_arc,
}
"""Name of the file in `data/` -> the function that computes what it holds."""


def path_of(name: str) -> Path:
    """The file of a stored reference solution.

    Raises:
        ValueError: no reference solution has this name.
    """
    if name not in STORED:
        raise ValueError(f"no reference solution {name!r}; there are {', '.join(STORED)}")
    return DATA / f"{name}.npz"


def stored(name: str) -> Reference:
    """The reference solution of this name, read from its file."""
    return Reference.load(path_of(name))
