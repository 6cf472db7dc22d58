"""The dual function of a factor model: its smooth part S, and the supports of rows and limits.

See `dual_newton.py` for the idea.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciopt.quadratic.forms import FactorModel
from sciopt.quadratic.program import QuadraticProgram
from sciopt.quadratic.working_set import Arrays

# A sample takes every so many variables.
STRIDE = 8
# Rows of V gathered at a time, so that memory stays a small multiple of the program's.
CHUNK = 1 << 14

Vector = Float[Tensor, " n"]
Dual = Float[np.ndarray, " _"]


@dataclass(frozen=True)
class DualFunction:
    """S and its derivatives on the device; a sample's sums are multiplied by `weight`.

    `places` are lower bounds, kinks and upper bounds, ascending; `slopes` those between them.
    """

    loadings: Float[Tensor, "n k"]
    specific: Vector
    linear: Vector
    rows: Float[Tensor, "rows n"]
    places: Tensor
    slopes: Tensor
    signs: Tensor
    rates: Tensor
    centers: Tensor
    inverse: Vector
    weight: float = 1.0

    @classmethod
    def of(cls, program: QuadraticProgram, arrays: Arrays) -> DualFunction:
        """Of the whole program."""
        form, parts = program.form, arrays.pieces
        assert isinstance(form, FactorModel)
        costs = len(parts.rates) - len(parts.limits)
        given = (parts.breakpoints, parts.slopes[1:-1], parts.signs[:, 1:-1], parts.rates[:costs])
        of_pieces = [
            torch.as_tensor(each, dtype=torch.float64, device=program.device)
            for each in (*given, parts.centers)
        ]
        specific = form.specific
        fixed = (form.loadings, specific, program.linear, program.rows.matrix)
        return cls(*fixed, *of_pieces, 1 / specific)  # pyright: ignore[reportCallIssue]

    def sample(self) -> DualFunction:
        """Every eighth variable in the place of eight."""
        part = {
            name: getattr(self, name)[..., ::STRIDE].contiguous()
            for name in ("specific", "linear", "rows", "places", "slopes", "signs", "rates")
        }
        return replace(
            self,
            loadings=self.loadings[::STRIDE].contiguous(),
            centers=self.centers[:, ::STRIDE].contiguous(),
            inverse=self.inverse[::STRIDE].contiguous(),
            weight=self.weight * STRIDE,
            **part,
        )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many factors, rows and norm limits there are."""
        return self.loadings.shape[1], len(self.rows), len(self.centers) - len(self.rates)

    def split(self, dual: Dual) -> tuple[Dual, Dual, Dual]:
        """The y, l and eta of a dual point."""
        factors, rows, _ = self.sizes
        return dual[:factors], dual[factors : factors + rows], dual[factors + rows :]

    def force(self, dual: Dual) -> Vector:
        """V y + A'l, the part of -q that the dual point decides."""
        y, rows, _ = (torch.from_numpy(each).to(self.linear) for each in self.split(dual))
        force = self.loadings @ y
        return force.addmv_(self.rows.T, rows) if len(rows) else force

    def point(self, q: Vector, eta: Dual) -> Vector:
        """The minimiser of each variable: what it would be on each line, cut at the kinks."""
        slopes = self.slopes
        if not len(self.centers):
            return torch.minimum(torch.maximum(q * self.inverse, self.places[0]), self.places[1])
        if len(eta):
            slopes = slopes + torch.tensordot(torch.from_numpy(eta).to(q), self.signs, 1)
        point = (q - slopes[0]).mul_(self.inverse)
        for kink, slope in zip(self.places[1:-1], slopes[1:], strict=True):
            right = (q - slope).mul_(self.inverse)
            point = torch.minimum(point, torch.maximum(right, kink, out=right), out=point)
        torch.maximum(point, self.places[0], out=point)
        return torch.minimum(point, self.places[-1], out=point)

    def value(self, q: Vector, point: Vector, force: Vector) -> tuple[float, float, Dual]:
        """S without its parts in y and eta, its derivative along a force, and the norms."""
        objective = torch.addcmul(-q, self.specific, point, value=0.5) @ point
        costs = len(self.rates)
        for rate, center in zip(self.rates, self.centers[:costs], strict=True):
            objective = objective + rate @ (point - center).abs_()
        norms = (point - self.centers[costs:]).abs().sum(1)
        found = torch.cat([torch.stack([objective, point @ force]), norms]).numpy(force=True)
        found = found * self.weight
        return float(found[0]), float(found[1]), found[2:]

    def sums(self, point: Vector) -> Dual:
        """V'w, A w and the norms."""
        held = point.nonzero().squeeze(1)
        centers = self.centers[len(self.rates) :]
        norms = (point - centers).abs().sum(1)
        if 4 * len(held) > len(point):
            parts = [self.loadings.T @ point, self.rows @ point, norms]
        else:
            values = point[held]
            parts = [self.loadings[held].T @ values, self.rows[:, held] @ values, norms]
        return torch.cat(parts).numpy(force=True) * self.weight

    def sides(self, point: Vector) -> Tensor:
        """On which side of each place a variable lies; zero where it is there."""
        return torch.stack(
            [(point > place).byte() - (point < place).byte() for place in self.places]
        )

    def columns(self, point: Vector, index: Tensor) -> Float[Tensor, "some dual"]:
        """The derivative of -q_i, and of phi_i's slope, by the dual point."""
        signs = (point[index] - self.centers[len(self.rates) :, index]).sign()
        return torch.cat([self.loadings[index], self.rows[:, index].T, signs.T], 1)

    def curvature(self, point: Vector, free: Bool[Tensor, " n"]) -> Float[np.ndarray, "dual dual"]:
        """B'diag(1/d) B over the free variables: minus the second derivative of S, but for y's."""
        size = sum(self.sizes)
        found = point.new_zeros(size, size)
        for index in free.nonzero().squeeze(1).split(CHUNK):
            columns = self.columns(point, index)
            columns *= self.inverse[index, None].sqrt()
            found.addmm_(columns.T, columns)
        return found.numpy(force=True) * self.weight

    def separable_gap(self, point: Vector, reduced: Vector, eta: Dual) -> float:
        """What the variables could gain at most, with `reduced` the r of `SeparableOptimum`."""
        best = self.point(torch.addcmul(-reduced, self.specific, point), eta)
        move = best - point
        gain = -(reduced + 0.5 * self.specific * move) * move
        rates = [*self.rates, *eta.tolist()]
        for rate, center in zip(rates, self.centers, strict=True):
            gain += rate * ((point - center).abs() - (best - center).abs())
        return gain.clamp_(min=0).sum().item()

    def typical_curvature(self) -> Dual:
        """What one free variable adds to the curvature by each number of the dual point."""
        some = slice(None, None, max(1, len(self.linear) // CHUNK))
        of_y = (self.loadings[some].square().T @ self.inverse[some]) / len(self.inverse[some])
        of_rows = self.rows.square() @ self.inverse / (self.rows != 0).sum(1).clamp(min=1)
        of_rows = torch.where(of_rows > 0, of_rows, 1)
        of_limits = self.inverse.mean().expand(self.sizes[2])
        return torch.cat([of_y, of_rows, of_limits]).numpy(force=True) * self.weight


@dataclass(frozen=True)
class Support:
    """The part of the dual that is not smooth: each multiplier times the bound it pushes against.

    A range `lower <= a'w <= upper` costs `upper l` where l > 0 and `lower l` where l < 0: a line
    plus a cost |l|. Where one end is infinite l has but one sign, as eta has.
    """

    line: Dual
    cost: Dual
    least: Dual
    most: Dual

    @classmethod
    def of(cls, arrays: Arrays, factors: int) -> Support:
        """Of a program's rows and norm limits."""
        limits = arrays.pieces.limits
        zeros, infinite = np.zeros(factors), np.full(factors, np.inf)
        bottom = np.concatenate([zeros, arrays.row_lower, np.full(len(limits), -np.inf)])
        top = np.concatenate([zeros, arrays.row_upper, limits])
        below, above = np.isfinite(bottom), np.isfinite(top)
        low, high = np.where(below, bottom, top), np.where(above, top, bottom)
        vacuous = ~below & ~above
        low, high = np.where(vacuous, 0, low), np.where(vacuous, 0, high)
        least, most = np.where(below, -np.inf, 0), np.where(above, np.inf, 0)
        least[:factors], most[:factors] = -infinite, infinite
        return cls(0.5 * (low + high), 0.5 * (high - low), least, most)

    @property
    def smooth(self) -> bool:
        """Whether all rows are equations."""
        return not self.cost.any() and bool(
            (self.least == -self.most).all() and (self.most > 0).all()
        )

    def value(self, dual: Dual) -> float:
        """What is taken from S."""
        return float(self.line @ dual + self.cost @ abs(dual))

    def acting(self, dual: Dual) -> Bool[np.ndarray, " dual"]:
        """Which entries are not held at zero."""
        kinked = (self.cost > 0) | (self.least == 0) | (self.most == 0)
        return ~kinked | (dual != 0)

    def slope(self, dual: Dual) -> Dual:
        """The derivative where entries are not held at zero."""
        return self.line + self.cost * np.sign(dual)
