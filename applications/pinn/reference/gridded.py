"""A solution given by its values on a grid, and the file it is kept in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Reference:
    """Values of the solution on a grid, with an error bar.

    Raises:
        ValueError: an axis does not strictly increase, or values do not fit the axes.
    """

    axes: Mapping[str, Float[np.ndarray, " points"]]
    """Strictly increasing values of each coordinate, in the problem's order: x before t."""
    values: Mapping[str, Float[np.ndarray, "*grid"]]
    """Each unknown on the grid of the axes: `values["u"][i, j]` is u at (x[i], t[j])."""
    error_bar: float
    """Relative L2 error to reckon with, the largest over the unknowns; how it was obtained is said
    by the function that made the reference and in data/README.md."""

    def __post_init__(self) -> None:
        for name, axis in self.axes.items():
            if axis.ndim != 1 or len(axis) < 2 or not (np.diff(axis) > 0).all():
                raise ValueError(
                    f"axis {name!r} of shape {axis.shape} must be one-dimensional and strictly "
                    "increasing, with two values at least"
                )
        grid = tuple(len(axis) for axis in self.axes.values())
        if not grid or not self.values:
            raise ValueError("a reference needs at least one axis and one unknown")
        for name, value in self.values.items():
            if value.shape != grid:
                raise ValueError(
                    f"{name!r} has shape {value.shape}; the axes ({', '.join(self.axes)}) ask for "
                    f"{grid}"
                )
            if not np.isfinite(value).all():
                raise ValueError(f"{name!r} has values that are not finite")
        if not (math.isfinite(self.error_bar) and self.error_bar >= 0):
            raise ValueError(f"error_bar is {self.error_bar}; give a number of at least 0")

    def save(self, path: Path) -> None:
        """Write an npz archive; the same values give the same bytes (with the same zlib)."""
        arrays = {"error_bar": np.float64(self.error_bar)}
        arrays |= {f"axis.{name}": axis for name, axis in self.axes.items()}
        arrays |= {f"value.{name}": value for name, value in self.values.items()}
        np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what `save` wrote.

        Raises:
            ValueError: the file holds something else, or arrays that do not fit each other.
        """
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if "error_bar" not in arrays:
            raise ValueError(
                f"{path} is no reference solution: expected error_bar, axis.* and value.*, got "
                f"{', '.join(arrays) or 'nothing'}"
            )
        error_bar = float(arrays.pop("error_bar"))
        parts: dict[str, dict[str, np.ndarray]] = {"axis": {}, "value": {}}
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            if kind not in parts or not rest:
                raise ValueError(f"{path} holds {name!r}; expected error_bar, axis.* and value.*")
            parts[kind][rest] = array
        try:
            return cls(parts["axis"], parts["value"], error_bar)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def relative_difference(
    values: Mapping[str, Float[np.ndarray, "*grid"]],
    reference: Mapping[str, Float[np.ndarray, "*grid"]],
) -> float:
    """|values - reference| / |reference| in the Euclidean norm, the largest over the unknowns."""
    return max(
        float(np.linalg.norm(values[name] - exact) / np.linalg.norm(exact))
        for name, exact in reference.items()
    )
