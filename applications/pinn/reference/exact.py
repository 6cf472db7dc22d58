"""A closed form as a reference: its values on a grid of the region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from applications.pinn.reference.gridded import Reference

POINTS = {1: 2001, 2: 129, 3: 33, 4: 13}
FEWEST = 7


def on_grid(
    exact: Callable[..., Any], region: Mapping[str, tuple[float, float]], unknowns: Sequence[str]
) -> Reference:
    """The values of `exact`, a function of coordinates as float64 tensors; error bar zero."""
    points = POINTS.get(len(region), FEWEST)
    axes = {name: np.linspace(low, high, points) for name, (low, high) in region.items()}
    grid = torch.meshgrid(*map(torch.from_numpy, axes.values()), indexing="ij")
    found = exact(*(axis.flatten() for axis in grid))
    several = found if len(unknowns) > 1 else [found]
    if len(several) != len(unknowns):
        raise ValueError(
            f"exact returns {len(several)} values; give one for each of {', '.join(unknowns)}"
        )
    shape = grid[0].shape
    values = {
        name: torch.as_tensor(value).expand(grid[0].numel()).reshape(shape).double().numpy()
        for name, value in zip(unknowns, several, strict=True)
    }
    return Reference(axes, values, error_bar=0.0)
