"""The largest eigenvalues of a symmetric matrix that is known by its products with vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Eigenpairs(NamedTuple):
    """Eigenvalues from the largest down, unit eigenvectors as rows, and residuals |A v - e v|."""

    values: Float[np.ndarray, " count"]
    vectors: Float[Tensor, "count n"]
    residuals: Float[np.ndarray, " count"]


@dataclass
class Lanczos:
    """Lanczos iteration with full reorthogonalisation and thick restarts.

    Every product is orthogonalised twice against the whole basis, so that no copy of a converged
    eigenvalue appears; a full basis is replaced by the better half of its Ritz vectors (Wu &
    Simon 2000). One Krylov space holds one eigenvector of a multiple eigenvalue. `top` therefore
    starts again in the orthogonal complement of what it found until nothing larger turns up.

    Args:
        product: A v for a vector v.
        draw: a random vector, of the dtype and device that `product` works in.
        tolerance: of residuals, relative to the largest |eigenvalue| met.
        basis_size: vectors kept at once, beside the eigenvectors found.
        max_products: limit of products; `top` warns where it is reached.
    """

    product: Callable[[Tensor], Tensor]
    draw: Callable[[], Tensor]
    tolerance: float
    basis_size: int
    max_products: int
    scale: float = field(default=0.0, init=False)
    products: int = field(default=0, init=False)
    unfinished: bool = field(default=False, init=False)

    def top(self, count: int) -> Eigenpairs:
        """The `count` largest eigenvalues, of which every residual is within the tolerance."""
        size = self.draw().numel()
        vectors = self.draw().new_empty(0, size)
        found = Eigenpairs(np.empty(0), vectors, np.empty(0))
        while True:
            missing = count - len(found.values)
            floor = found.values[-1] if missing == 0 else -np.inf
            more = self._krylov(found.vectors, max(missing, 1), floor)
            values = np.concatenate([found.values, more.values])
            order = np.argsort(-values, kind="stable")[:count]
            improved = bool(np.any(order >= len(found.values)))
            found = Eigenpairs(
                values[order],
                torch.cat([found.vectors, more.vectors])[torch.as_tensor(order)],
                np.concatenate([found.residuals, more.residuals])[order],
            )
            if not np.isfinite(values).all():
                return Eigenpairs(np.full(count, np.nan), *_blank(found.vectors, count))
            if self.unfinished:
                return self._cut_short(found, count)
            # A random start misses no eigenvalue: only copies need a second look.
            if len(values) >= size or (len(order) == count and (count == 1 or not improved)):
                return found

    def _cut_short(self, found: Eigenpairs, count: int) -> Eigenpairs:
        """What was found, filled up with NaN."""
        lacking = count - len(found.values)
        vectors, residuals = _blank(found.vectors, lacking)
        warnings.warn(
            f"Lanczos used up its {self.max_products} products; the residuals tell how far it "
            "came; raise max_products or tolerance",
            RuntimeWarning,
            stacklevel=5,
        )
        return Eigenpairs(
            np.append(found.values, residuals),
            torch.cat([found.vectors, vectors]),
            np.append(found.residuals, residuals),
        )

    def _krylov(self, known: Tensor, wanted: int, floor: float) -> Eigenpairs:
        """The top eigenpairs of one Krylov space orthogonal to the rows of `known`.

        At most `wanted`; fewer if the space is invariant before. Gives up early, with what it
        has, where its largest value has settled below `floor`.
        """
        first, room = len(known), min(self.basis_size, known.shape[1] - len(known))
        basis = known
        projected = np.zeros((room, room))
        vector = self.draw()
        for _ in range(2):
            vector = vector - known.T @ (known @ vector)
        filled = 0
        while True:
            if first + filled == len(basis):
                rows = min(max(filled, 16), room - filled)
                basis = torch.cat([basis, basis.new_empty(rows, basis.shape[1])])
            basis[first + filled] = vector / vector.norm()
            filled += 1
            used = basis[: first + filled]
            vector, coefficients = _orthogonalised(self.product(used[-1]), used)
            self.products += 1
            column = coefficients[first:].double().cpu().numpy()
            projected[:filled, filled - 1] = projected[filled - 1, :filled] = column
            exhausted = first + filled == known.shape[1]
            coupling = 0.0 if exhausted else float(vector.norm())
            if not np.isfinite(column).all() or not np.isfinite(coupling):
                return Eigenpairs(np.full(wanted, np.nan), *_blank(known, wanted))

            values, turns = np.linalg.eigh(projected[:filled, :filled])
            values, turns = values[::-1], turns[:, ::-1]
            residuals = coupling * np.abs(turns[-1])
            self.scale = max(self.scale, float(np.abs(values).max()))
            self.unfinished = not self._done(values, residuals, coupling, wanted, floor)
            if not self.unfinished or self.products >= self.max_products:
                kept = min(wanted, filled)
                return Eigenpairs(
                    values[:kept], _rotated(turns[:, :kept], used[first:]), residuals[:kept]
                )
            if filled == room:
                filled = wanted + (room - wanted) // 2
                basis[first : first + filled] = _rotated(turns[:, :filled], used[first:])
                projected[:] = 0.0
                np.fill_diagonal(projected[:filled, :filled], values[:filled])

    def _done(
        self,
        values: np.ndarray,
        residuals: np.ndarray,
        coupling: float,
        wanted: int,
        floor: float,
    ) -> bool:
        bound = self.tolerance * self.scale
        if coupling <= bound:
            return True
        settled = residuals[0] <= self.tolerance**0.5 * self.scale
        if settled and values[0] + residuals[0] <= floor:
            return True
        return len(values) >= wanted and bool((residuals[:wanted] <= bound).all())


def _orthogonalised(vector: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """The part of the vector orthogonal to the basis' rows, and its coefficients in them.

    Twice is enough (Parlett 1998, section 6.9).
    """
    coefficients = basis @ vector
    vector = vector - basis.T @ coefficients
    correction = basis @ vector
    return vector - basis.T @ correction, coefficients + correction


def _rotated(turns: np.ndarray, basis: Tensor) -> Tensor:
    return torch.from_numpy(turns.T.copy()).to(basis) @ basis


def _blank(like: Tensor, rows: int) -> tuple[Tensor, np.ndarray]:
    return like.new_full((rows, like.shape[1]), torch.nan), np.full(rows, np.nan)
