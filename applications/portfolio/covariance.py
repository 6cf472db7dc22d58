"""A covariance given by hand: whether it can be one, and the nearest that can.

A matrix put together from pairs of assets (views, different histories, rounding) may give some
portfolio a negative variance. A solver then fails or, worse, returns a portfolio that is optimal
for nothing, so that it is found here and repaired only when asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

ROUND_OFF = 1e-10
"""Of eigenvalues, relative to the largest."""
SINGULAR = 1e-12
"""Least eigenvalue over largest below which weights hang on round-off."""


class InvalidCovarianceError(ValueError):
    """A matrix that is no covariance; the message names the assets and what to do."""


def check_covariance(
    covariance: pd.DataFrame, *, repair: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The covariance (assets, assets), positive semidefinite, and what a reader should know of it.

    Eigenvalues below zero by no more than round-off are left alone. With `repair` others are set
    to zero, which gives the nearest positive semidefinite matrix in the Frobenius norm (Higham
    1988, theorem 2.1), and variances of single assets grow a little.

    Raises:
        InvalidCovarianceError: not square, not symmetric, not finite, no variance for an asset, or
            not positive semidefinite unless `repair`.
    """
    _check_entries(covariance)
    values = covariance.to_numpy(dtype=float)
    symmetric = (values + values.T) / 2
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    least, largest = eigenvalues[0], eigenvalues[-1]
    if least >= -ROUND_OFF * largest:
        notices = tuple(_conditioning(least, largest))
        return pd.DataFrame(symmetric, covariance.index, covariance.columns), notices
    nearest = (vectors * eigenvalues.clip(0)) @ vectors.T
    nearest = (nearest + nearest.T) / 2
    distance = np.linalg.norm(nearest - symmetric)
    found = (
        f"smallest eigenvalue {least:.3g} (largest {largest:.3g}): a portfolio mostly of "
        f"{_main_assets(covariance, vectors[:, 0])} has a negative variance"
    )
    changed = f"{distance:.3g} away, {distance / np.linalg.norm(symmetric):.2%} of its norm"
    if not repair:
        raise InvalidCovarianceError(
            f"{found}. The nearest covariance is {changed}; take it by repair=True (--repair), or "
            "correct the entries"
        )
    notice = f"{found}; replaced by the nearest covariance, {changed}"
    return pd.DataFrame(nearest, covariance.index, covariance.columns), (notice,)


def _check_entries(covariance: pd.DataFrame) -> None:
    rows, columns = covariance.index.tolist(), covariance.columns.tolist()
    if rows != columns:
        wrong = next((f"{r!r} and {c!r}" for r, c in zip(rows, columns, strict=False) if r != c),
                     f"{len(rows)} rows and {len(columns)} columns")  # fmt: skip
        raise InvalidCovarianceError(
            f"rows and columns must name the same assets in the same order, got {wrong}"
        )
    values = covariance.to_numpy(dtype=float)
    if (places := np.argwhere(~np.isfinite(values))).size:
        row, column = places[0]
        raise InvalidCovarianceError(
            f"the covariance of {rows[row]} and {rows[column]} is {values[row, column]}"
        )
    if (values.diagonal() <= 0).any():
        at = int((values.diagonal() <= 0).argmax())
        raise InvalidCovarianceError(
            f"the variance of {rows[at]} is {values[at, at]:g}; expected a number > 0"
        )
    unequal = np.abs(values - values.T)
    row, column = np.unravel_index(unequal.argmax(), values.shape)
    if unequal[row, column] > 1e-8 * np.sqrt(values[row, row] * values[column, column]):
        raise InvalidCovarianceError(
            f"not symmetric: {rows[row]} with {rows[column]} is {values[row, column]:g}, but "
            f"{rows[column]} with {rows[row]} is {values[column, row]:g}"
        )


def _conditioning(least: float, largest: float) -> Iterator[str]:
    if least <= SINGULAR * largest:
        yield (
            f"singular to round-off: smallest eigenvalue {least:.3g}, largest {largest:.3g}. Some "
            "portfolio has no variance, and weights need not be unique"
        )


def _main_assets(covariance: pd.DataFrame, vector: np.ndarray) -> str:
    """`+0.71 A -0.70 B`: the assets that matter most in a portfolio."""
    most = np.argsort(-np.abs(vector), kind="stable")[:3]
    return " ".join(f"{vector[k]:+.2f} {covariance.columns[k]}" for k in most)
