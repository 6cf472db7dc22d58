"""Minimisers of `0.5 w'Qw - c'w - t (tilt'w - sum_i cost_i |w_i - held_i|)` for every t >= 0.

The minimiser is piecewise linear in t, and on a piece everything is known: where it ends, because a
variable meets the end of its interval or a multiplier turns zero, and where on it a quadratic
function of w takes a value. So a frontier is walked from piece to piece, and the portfolio of given
risk or of greatest ratio is solved for exactly on the one piece that holds it (Markowitz 1956;
Stein, Branke & Schmeck 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.quadratic.first_guess import first_guess
from sciopt.quadratic.optimality import Optimum
from sciopt.quadratic.optimum import optimum
from sciopt.quadratic.program import (
    InfeasibleProgram,
    QuadraticProgram,
    Solution,
    UnboundedProgram,
)
from sciopt.quadratic.solve import as_solution
from sciopt.quadratic.working_set import Arrays

# How often the parameter is doubled, or halved in on, before a search ends.
SEARCH = 200
ROUND_UP = 1 + 1e-12
# Pieces of the path so much shorter than their t are passed over.
SHORT = 1e-9
# The t, in units of the path's, that stands for infinity, and that from which a path is followed
# to where it starts.
LARGE, SMALL = 1e9, 1e-6
# A deviation so small a share of the terms that cancel in it is round-off, as is such a share of
# a value.
NO_RISK = 1e-7
# Variables named in a message before the rest is counted.
NAMED = 5

Vector = Float[np.ndarray, " n"]
Quadratic = tuple[float, float, float]
"""Coefficients of 1, s and s^2."""


@dataclass(frozen=True)
class Piece:
    """A piece of the path: `point + s * direction` for s from `back` <= 0 to `ahead` >= 0."""

    t: float
    found: Optimum
    direction: Vector
    back: float
    ahead: float

    def moments(self, arrays: Arrays, tilt: Vector) -> tuple[Quadratic, Quadratic]:
        """w'Qw, and tilt'w less its costs, as functions of s."""
        point, move = self.found.at.point, self.direction
        used = np.flatnonzero((point != 0) | (move != 0))
        pair = np.stack([point, move], 1)
        product = pair.T @ arrays.form.times(used, pair[used])
        slope = _slope_of_costs(arrays, self.found)
        value = float(tilt @ point) - _costs(arrays, point)
        variance = (float(product[0, 0]), 2 * float(product[0, 1]), float(product[1, 1]))
        return variance, (value, float((tilt - slope) @ move), 0.0)


class Path:
    """The family of programs, and the last of its minimisers, from which the next one starts."""

    def __init__(self, program: QuadraticProgram, tilt: Float[Tensor, " n"]):
        if tilt.shape != (program.size,) or not bool(torch.isfinite(tilt).all()):
            raise ValueError(f"tilt must be {program.size} finite numbers, got {tilt}")
        self.program, self.arrays = program, Arrays.of(program)
        self.tilt = tilt.numpy(force=True).astype(np.float64)
        self.working, self.point = first_guess(self.arrays)
        self.spread = float(np.ptp(self.tilt)) or float(abs(self.tilt).max()) or 1.0
        self.unit = self.arrays.variance / self.spread or 1.0
        """the size of t at which value counts as much as risk"""

    def posed_at(self, t: float) -> Arrays:
        """The program at t."""
        linear = self.arrays.linear + t * self.tilt
        parts = self.arrays.pieces
        if not parts.rates.any():
            return replace(self.arrays, linear=linear)
        finite = np.isfinite(parts.slopes)
        slopes = np.where(finite, t * np.where(finite, parts.slopes, 0), parts.slopes)
        costly = replace(parts, slopes=slopes, rates=t * parts.rates)
        return replace(self.arrays, linear=linear, pieces=costly)

    def at(self, t: float) -> Optimum:
        """The minimiser at t, from the last one's suppositions."""
        found = optimum(self.program, self.posed_at(t), self.working, self.point)
        self.working, self.point = found.working, found.at.point
        return found

    def values(self, point: Vector) -> tuple[float, float]:
        """Variance w'Qw, and tilt'w less its costs."""
        used = np.flatnonzero(point)
        variance = float(point @ self.arrays.form.times(used, point[used]))
        return max(variance, 0.0), float(self.tilt @ point) - _costs(self.arrays, point)

    def piece_at(self, t: float) -> Piece:
        """The piece of the path that t lies on."""
        return self.piece(t, self.at(t))

    def piece(self, t: float, found: Optimum) -> Piece:
        """How far the suppositions of a minimiser at t hold on either side of it."""
        at, states = found.at, found.working.states
        assert at.factor is not None
        slope = _slope_of_costs(self.arrays, found)
        direction = np.zeros(len(slope))
        bounds = np.zeros(len(at.factor.border))
        direction[at.free], by = at.factor.solve((self.tilt - slope)[at.free], bounds)
        acting = np.flatnonzero(found.working.rows)
        row_rates, limit_rates = np.zeros(len(at.rows)), np.zeros(len(at.limits))
        row_rates[acting] = by[: len(acting)]
        limit_rates[np.flatnonzero(found.working.limits)] = by[len(acting) :]
        parts, posed = self.arrays.pieces, self.posed_at(t).pieces
        interval, each = states[at.free] >> 1, parts.each
        low, high = parts.ends[interval, at.free], parts.ends[interval + 1, at.free]
        moving, at_free = direction[at.free], at.point[at.free]
        # Everything that must stay >= 0, and how fast it changes with t.
        room = [at_free - low, high - at_free]
        rate = [moving, -moving]
        pinned = np.flatnonzero(states & 1)
        reduced_rate = self.arrays.form.times(at.free, moving) - self.tilt
        reduced_rate += row_rates @ self.arrays.rows
        for side, sign in ((parts.right, 1.0), (parts.left, -1.0)):
            where = side[states[pinned] >> 1, pinned], each[pinned]
            slopes, cost = posed.slopes_with(at.limits)[where], parts.slopes[where]
            growing = np.where(np.isfinite(cost), cost, 0)
            growing = growing + np.tensordot(limit_rates, parts.signs, 1)[where]
            room.append(sign * (found.reduced[pinned] + slopes))
            rate.append(sign * (reduced_rate[pinned] + growing))
        values, change = self.arrays.rows @ at.point, self.arrays.rows @ direction
        idle = found.working.rows == 0
        held = ~idle & ~self.arrays.equations
        room += [(self.arrays.row_upper - values)[idle], (values - self.arrays.row_lower)[idle]]
        rate += [-change[idle], change[idle]]
        room += [(at.rows * found.working.rows)[held], at.limits[found.working.limits]]
        rate += [(row_rates * found.working.rows)[held], limit_rates[found.working.limits]]
        if len(parts.limits):
            growth = (parts.signs[:, interval, at.free] * moving).sum(1)
            slack = ~found.working.limits
            room.append((parts.limits - parts.norms(at.point))[slack])
            rate.append(-growth[slack])
        back, ahead = _reach(np.concatenate(room), np.concatenate(rate))
        return Piece(t, found, direction, max(back, -t), ahead)


def _reach(room: np.ndarray, rate: np.ndarray) -> tuple[float, float]:
    """How far back and ahead everything that has room left, and loses it at a rate, stays >= 0."""
    room, never = room.clip(0), np.full_like(room, np.inf)
    ahead = np.divide(room, -rate, out=never.copy(), where=rate < 0)
    back = np.divide(room, rate, out=never, where=rate > 0)
    return -float(back.min()), float(ahead.min())


def _slope_of_costs(arrays: Arrays, found: Optimum) -> Vector:
    """d/dw of sum_i cost_i |w_i - held_i| where variables are free, at t = 1."""
    states = found.working.states
    slopes = arrays.pieces.slopes[states >> 1, arrays.pieces.each]
    return np.where((states & 1) == 0, slopes, 0)


def _costs(arrays: Arrays, point: Vector) -> float:
    parts = arrays.pieces
    return float(parts.value(point, np.zeros(len(parts.limits))).sum())


def frontier(
    program: QuadraticProgram, tilt: Float[Tensor, " n"], at: Sequence[float]
) -> list[Solution]:
    """The minimisers of `0.5 w'Qw - c'w - t (tilt'w - sum_i cost_i |w_i - held_i|)`.

    Args:
        program: Q, c and the constraints; its costs are in the units of `tilt`.
        tilt: as of mean returns; 1 / t is then the aversion to risk.
        at: the t >= 0, each solved from its neighbour, in any order.

    Returns:
        A solution for each t, in the order given; objective and gap are those of the program at t.
    """
    path = Path(program, tilt)
    found: dict[float, Solution] = {}
    for t in sorted(set(at)):
        if not 0 <= t < np.inf:
            raise ValueError(f"t must be >= 0 and finite, got {t}")
        found[t] = as_solution(program, path.at(t))
    return [found[t] for t in at]


@dataclass(frozen=True)
class Corner:
    """Where two pieces of the path meet; between neighbouring corners points are mixtures."""

    t: float
    point: Float[Tensor, " n"]
    gap: float


def corners(
    program: QuadraticProgram, tilt: Float[Tensor, " n"], most: int = 100_000
) -> list[Corner]:
    """All corners from t = 0 to the last one, beyond which the point stays or runs off for ever.

    Every corner is certified by the program at its t. Pieces shorter than a billionth of their t
    are passed over.

    Raises:
        ValueError: there are more than `most`.
    """
    path = Path(program, tilt)
    piece = path.piece_at(0.0)
    found = [_corner(program, 0.0, piece.found)]
    while piece.t + piece.ahead < LARGE * path.unit:
        if len(found) == most:
            raise ValueError(f"more than {most} corners; the last is at t = {found[-1].t:g}")
        end = piece.t + piece.ahead
        found.append(_corner(program, end, path.at(end)))
        step = SHORT * max(end, path.unit)
        piece = path.piece_at(end + step)
        while piece.ahead == 0 and end + step < LARGE * path.unit:
            step *= 4
            piece = path.piece_at(end + step)
    return found


def _corner(program: QuadraticProgram, t: float, found: Optimum) -> Corner:
    point = torch.tensor(found.at.point, dtype=torch.float64, device=program.device)
    return Corner(t, point, found.gap)


def target_risk(program: QuadraticProgram, tilt: Float[Tensor, " n"], variance: float) -> Solution:
    """The point of greatest `tilt'w - sum_i cost_i |w_i - held_i|` with w'Qw <= variance.

    Its objective is that value and its gap bounds what is missing to the greatest, in the units of
    `tilt`, as are the multipliers; that of "variance" is the price of one unit of w'Qw. The
    program's c is not used.

    Raises:
        InfeasibleProgram: the least possible w'Qw is larger.
    """
    path = Path(replace(program, linear=torch.zeros_like(program.linear)), tilt)
    lowest, _ = path.values(path.at(0.0).at.point)
    if lowest > variance * (1 + 1e-9):
        raise InfeasibleProgram(
            f"the least possible w'Qw under these constraints is {lowest:.6g} > {variance:g}"
        )

    def excess(piece: Piece) -> Quadratic:
        (constant, linear, square), _ = piece.moments(path.arrays, path.tilt)
        return constant - variance, linear, square

    t = _root(path, excess)
    if t is None:
        # Not even the point of greatest value is so risky; at a large t it is the minimiser.
        t = LARGE * max(path.unit, variance / path.spread)
    found = path.at(t)
    solution = as_solution(program, found)
    reached, value = path.values(found.at.point)
    gap = (solution.gap + 0.5 * max(variance - reached, 0)) / t
    return _in_units_of_value(solution, value, gap, 1 / t, {"variance": 0.5 / t})


def max_ratio(
    program: QuadraticProgram, tilt: Float[Tensor, " n"], offset: float = 0.0
) -> Solution:
    """The point of greatest `(tilt'w - sum_i cost_i |w_i - held_i| - offset) / sqrt(w'Qw)`.

    Its objective is the ratio and its gap bounds what is missing to the greatest; it is infinite
    where a point without risk has a value of just the offset. The program's c is not used.

    Raises:
        InfeasibleProgram: no feasible point has a value above the offset.
        UnboundedProgram: a point without risk has a value above the offset, or the greatest ratio
            is approached only by ever larger points.
    """
    path = Path(replace(program, linear=torch.zeros_like(program.linear)), tilt)
    safest = path.at(0.0).at.point
    lowest, _ = path.values(safest)
    if _riskless(path, safest):
        lowest = _least_variance_above(path, offset)

    def excess(piece: Piece) -> Quadratic:
        # d(ratio) = 0 along the path where w'Qw = t (value - offset).
        variance, (value, growth, _) = piece.moments(path.arrays, path.tilt)
        above = value - offset
        return (
            piece.t * above - variance[0],
            above + piece.t * growth - variance[1],
            growth - variance[2],
        )

    t = _root(path, excess)
    if t is None:
        _, value = path.values(path.at(LARGE * path.unit).at.point)
        if value > offset:
            raise UnboundedProgram(
                "the greatest ratio is approached only by ever larger points: bound the variables"
            )
        raise InfeasibleProgram(
            f"no feasible point has tilt'w above the offset {offset:g}; the greatest is {value:.6g}"
        )
    found = path.at(t)
    solution = as_solution(program, found)
    variance, value = path.values(found.at.point)
    gap = solution.gap / (t * lowest**0.5) if lowest > 0 else float("inf")
    ratio = (value - offset) / variance**0.5
    return _in_units_of_value(solution, ratio, gap, 1 / (t * variance**0.5), {})


def _riskless(path: Path, point: Vector) -> bool:
    """Whether the point's variance is round-off, of the terms in it or of the point."""
    variance, _ = path.values(point)
    terms = float(np.sqrt(path.arrays.diagonal) @ abs(point))
    noise = max(NO_RISK * terms, NO_RISK**2 * path.arrays.variance**0.5 * float(abs(point).sum()))
    return variance**0.5 <= noise


def _least_variance_above(path: Path, offset: float) -> float:
    """The least w'Qw with a value of at least the offset, where some point has no risk at all.

    As t falls to zero, the path leads to the point of greatest value among those without risk.

    Raises:
        UnboundedProgram: that value is above the offset.
    """
    piece = path.piece_at(SMALL * path.unit)
    point = piece.found.at.point + max(piece.back, -piece.t) * piece.direction
    _, value = path.values(point)
    largest, size = float(abs(path.tilt).max()), float(abs(point).sum())
    room = NO_RISK * (abs(path.tilt) @ abs(point) + abs(offset)) + NO_RISK**2 * largest * size
    if _riskless(path, point) and value > offset + room:
        order = np.argsort(-abs(point), kind="stable")
        order = order[abs(point[order]) > NO_RISK * abs(point).max()]
        named = [f"{point[k]:+.3g} {path.program.name_of(int(k))}" for k in order[:NAMED]]
        more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
        raise UnboundedProgram(
            f"the ratio has no greatest value: {', '.join(named)}{more} has no risk, w'Qw = 0, and "
            f"a value of {value:.6g} above the offset {offset:g}"
        )

    def short(piece: Piece) -> Quadratic:
        _, (value, growth, _) = piece.moments(path.arrays, path.tilt)
        return value - offset, growth, 0.0

    t = None if value > offset - room else _root(path, short)
    return 0.0 if t is None else path.values(path.at(t).at.point)[0]


def _in_units_of_value(
    solution: Solution, objective: float, gap: float, unit: float, more: dict[str, float]
) -> Solution:
    """The solution of the program at t as that of a program with another objective."""
    multipliers = {name: by * unit for name, by in solution.multipliers.items()}
    return replace(
        solution,
        objective=objective,
        gap=gap,
        relative_gap=gap / max(abs(objective), np.finfo(float).tiny),
        multipliers=multipliers | more,
        reduced_cost=solution.reduced_cost * unit,
    )


def _root(path: Path, excess: Callable[[Piece], Quadratic]) -> float | None:
    """The t > 0 at which a function of the path turns from negative to positive, or None.

    Bisection over pieces: a piece holds the root, or all of it lies to one side.
    """
    low, high, t = 0.0, np.inf, SMALL * path.unit
    for _ in range(SEARCH):
        piece = path.piece_at(t)
        coefficients = excess(piece)
        root = _root_within(coefficients, piece.back, piece.ahead)
        if root is not None and 0 < t + root < LARGE * path.unit:
            return t + root
        if coefficients[0] < 0:
            low = t + piece.ahead
            if low >= LARGE * path.unit:
                return None
        else:
            high = t + piece.back
        if low >= high:
            return high
        if np.isinf(high):
            t = max(2 * low, path.unit)
        else:
            t = (low * high) ** 0.5 if low > 0.1 * high else 0.5 * (low + high)
    return t


def _root_within(coefficients: Quadratic, back: float, ahead: float) -> float | None:
    """The root of a quadratic nearest zero, if it lies between."""
    constant, linear, square = coefficients
    if constant == 0:
        return 0.0
    root = linear * linear - 4 * square * constant
    if root < 0:
        return None
    # Citardauq's form first: no digits are lost where the square term is small.
    pivot = -0.5 * (linear + np.copysign(root**0.5, linear))
    candidates = [constant / pivot] if pivot else []
    candidates += [pivot / square] if square else []
    inside = [s for s in candidates if back * ROUND_UP <= s <= ahead * ROUND_UP]
    return min(inside, key=abs) if inside else None
