"""The quadratic forms Q of `0.5 w'Qw`, never made dense when they are not given so.

Every form answers the same questions about rows and columns of Q, for tensors and, after
`as_numpy`, for arrays: an active-set method asks for a block at a time and for products with a few
columns, and never for all of Q.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = Any
"""A float64 tensor or a float64 array; a form holds one kind only."""


@dataclass(frozen=True)
class Dense:
    """Q itself, symmetric, of shape (n, n)."""

    matrix: Array

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return self.matrix.shape[-1]

    def diagonal(self) -> Array:
        """Q_ii, of shape (n,)."""
        return self.matrix.diagonal()

    def block(self, index: Array) -> Array:
        """Q_ij for i, j in the index, a copy of shape (k, k)."""
        return self.matrix[index[:, None], index]

    def times(self, index: Array, values: Array) -> Array:
        """Q w for the w that is `values` on the index and zero elsewhere, of shape (n, ...)."""
        return self.matrix[index].T @ values

    def lowest_eigenvalue(self) -> float:
        """A lower bound of Q's eigenvalues that costs nothing to know."""
        return 0.0


@dataclass(frozen=True)
class Returns:
    """Q = X'X + ridge I, with X of shape (T, n): Q of n = 50,000 would take 20 GB, X takes T n."""

    matrix: Array
    ridge: float = 0.0

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return self.matrix.shape[-1]

    def diagonal(self) -> Array:
        """Q_ii, of shape (n,)."""
        return (self.matrix * self.matrix).sum(0) + self.ridge

    def block(self, index: Array) -> Array:
        """Q_ij for i, j in the index, of shape (k, k)."""
        columns = self.matrix[:, index]
        return _add_to_diagonal(columns.T @ columns, self.ridge)

    def times(self, index: Array, values: Array) -> Array:
        """Q w for the w that is `values` on the index and zero elsewhere, of shape (n, ...)."""
        found = self.matrix.T @ (self.matrix[:, index] @ values)
        found[index] += self.ridge * values
        return found

    def lowest_eigenvalue(self) -> float:
        """A lower bound of Q's eigenvalues that costs nothing to know."""
        return self.ridge


@dataclass(frozen=True)
class FactorModel:
    """Q = V V' + diag(d), with V of shape (n, k) and d > 0 of shape (n,)."""

    loadings: Array
    specific: Array

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return self.loadings.shape[-2]

    def diagonal(self) -> Array:
        """Q_ii, of shape (n,)."""
        return (self.loadings * self.loadings).sum(1) + self.specific

    def block(self, index: Array) -> Array:
        """Q_ij for i, j in the index, of shape (k, k)."""
        rows = self.loadings[index]
        return _add_to_diagonal(rows @ rows.T, self.specific[index])

    def times(self, index: Array, values: Array) -> Array:
        """Q w for the w that is `values` on the index and zero elsewhere, of shape (n, ...)."""
        found = self.loadings @ (self.loadings[index].T @ values)
        found[index] += _rows_scaled(self.specific[index], values)
        return found

    def lowest_eigenvalue(self) -> float:
        """A lower bound of Q's eigenvalues that costs nothing to know."""
        return float(self.specific.min())


@dataclass(frozen=True)
class Shrunk:
    """Q = (1 - intensity) base + intensity diag(target), target >= 0 of shape (n,)."""

    base: Dense | Returns
    target: Array
    intensity: float

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return self.base.size

    def diagonal(self) -> Array:
        """Q_ii, of shape (n,)."""
        return (1 - self.intensity) * self.base.diagonal() + self.intensity * self.target

    def block(self, index: Array) -> Array:
        """Q_ij for i, j in the index, of shape (k, k)."""
        scaled = (1 - self.intensity) * self.base.block(index)
        return _add_to_diagonal(scaled, self.intensity * self.target[index])

    def times(self, index: Array, values: Array) -> Array:
        """Q w for the w that is `values` on the index and zero elsewhere, of shape (n, ...)."""
        found = (1 - self.intensity) * self.base.times(index, values)
        found[index] += self.intensity * _rows_scaled(self.target[index], values)
        return found

    def lowest_eigenvalue(self) -> float:
        """A lower bound of Q's eigenvalues that costs nothing to know."""
        of_target = self.intensity * float(self.target.min())
        return (1 - self.intensity) * self.base.lowest_eigenvalue() + of_target


@dataclass(frozen=True)
class Ridged:
    """Q = base + ridge I: the form of a proximal step."""

    base: Form
    ridge: float

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return self.base.size

    def diagonal(self) -> Array:
        """Q_ii, of shape (n,)."""
        return self.base.diagonal() + self.ridge

    def block(self, index: Array) -> Array:
        """Q_ij for i, j in the index, of shape (k, k)."""
        return _add_to_diagonal(self.base.block(index), self.ridge)

    def times(self, index: Array, values: Array) -> Array:
        """Q w for the w that is `values` on the index and zero elsewhere, of shape (n, ...)."""
        found = self.base.times(index, values)
        found[index] += self.ridge * values
        return found

    def lowest_eigenvalue(self) -> float:
        """A lower bound of Q's eigenvalues that costs nothing to know."""
        return self.base.lowest_eigenvalue() + self.ridge


Form: TypeAlias = Dense | Returns | FactorModel | Shrunk | Ridged


def _rows_scaled(scales: Array, values: Array) -> Array:
    """Each row of the values, or each value, times its scale."""
    return scales.reshape(-1, *[1] * (values.ndim - 1)) * values


def _add_to_diagonal(block: Array, values: Array | float) -> Array:
    """The block with the values added to its diagonal, in place."""
    block.reshape(-1)[:: block.shape[-1] + 1] += values
    return block


def as_numpy(form: Form) -> Form:
    """The same form on arrays that share the tensors' memory where they lie on the CPU."""
    return _map(form, lambda tensor: tensor.numpy(force=True))


def as_tensors(form: Form, device: torch.device) -> Form:
    """The same form on float64 tensors of the device."""
    return _map(form, lambda values: torch.as_tensor(values, dtype=torch.float64, device=device))


def _map(form: Form, change: Callable[[Any], Array]) -> Form:
    """The form with every matrix and vector changed."""
    changed: dict[str, Any] = {}
    for field in fields(form):
        value = getattr(form, field.name)
        if isinstance(value, (Dense, Returns, FactorModel, Shrunk, Ridged)):
            changed[field.name] = _map(value, change)
        elif isinstance(value, (Tensor, np.ndarray)):
            changed[field.name] = change(value)
    return replace(form, **changed)
