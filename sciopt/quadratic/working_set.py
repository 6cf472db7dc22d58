"""The equations that hold when it is known which variables are free and which constraints act.

Given a state of every variable and the rows and norm limits that act, the minimiser solves one
symmetric system

    [ Q_FF  B' ] [ w_F ]   [ c_F - slope_F - Q_FP w_P ]
    [ B     0  ] [ l   ] = [ bounds - B_P w_P         ]

by Cholesky of Q_FF and of its Schur complement B Q_FF^-1 B', which is as small as the constraints
that act are few (Nocedal & Wright 2006, section 16.2). A norm limit acts as a row whose
coefficients are the signs of w_i - center_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotrs, dpstrf  # pyright: ignore[reportAttributeAccessIssue]

from sciopt.quadratic.certificate import implied_places
from sciopt.quadratic.forms import Form, as_numpy
from sciopt.quadratic.pieces import Pieces, pieces
from sciopt.quadratic.program import QuadraticProgram

TOLERANCE = 1e-11
PUSH = 1e3
# A pivot of Cholesky's method so much smaller than the largest is made of round-off.
SINGULAR = 1e-14
# A pivot so small costs so many digits that the solution is refined.
DELICATE = 1e-6
REFINEMENTS = 2

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Arrays:
    """A program as arrays, with its bounds and costs as pieces."""

    form: Form
    linear: Vector
    pieces: Pieces
    places: Float[np.ndarray, "p n"]
    rows: Float[np.ndarray, "rows n"]
    row_lower: Float[np.ndarray, " rows"]
    row_upper: Float[np.ndarray, " rows"]
    equations: np.ndarray
    diagonal: Vector
    """Q_ii"""
    variance: float
    """the mean of Q_ii"""

    @classmethod
    def of(cls, program: QuadraticProgram) -> Arrays:
        """Share the program's memory where it lies on the CPU."""
        rows, lower, upper = (
            part.numpy(force=True)
            for part in (program.rows.matrix, program.rows.lower, program.rows.upper)
        )
        linear = program.linear.numpy(force=True)
        form = as_numpy(program.form)
        parts = pieces(program)
        places = implied_places(parts.breakpoints, rows, lower, upper)
        diagonal = program.diagonal.numpy(force=True)
        variance = float(diagonal.mean())
        equations = lower == upper
        return cls(form, linear, parts, places, rows, lower, upper, equations, diagonal, variance)

    def satisfied_by(self, point: Vector, tolerance: float) -> bool:
        """Whether rows and norm limits hold up to a share of the numbers in them."""
        values, norms = self.rows @ point, self.pieces.norms(point)
        room = tolerance * (1 + abs(self.rows) @ abs(point))
        inside = (values <= self.row_upper + room) & (values >= self.row_lower - room)
        short = norms <= self.pieces.limits + tolerance * (1 + norms)
        return bool(inside.all() and short.all())


@dataclass
class WorkingSet:
    """What is supposed to hold with equality.

    `states` as in `pieces.py`; `rows` 1 where the upper bound acts, -1 where the lower one does,
    else 0; `limits` says which norm limits act.
    """

    states: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, " rows"]
    limits: np.ndarray

    def copy(self) -> WorkingSet:
        """One that may be changed."""
        return WorkingSet(self.states.copy(), self.rows.copy(), self.limits.copy())


class Factor:
    """The system of a working set, ready for any right-hand side.

    Q may be singular on the free variables where the rows are not, as at a portfolio without
    variance. Then Q + B'SB takes its place: at B w = bounds that is the same system, shifted.

    Raises:
        LinAlgError: Q is singular, to working precision, along moves that no row forbids.
    """

    def __init__(self, block: Float[np.ndarray, "f f"], border: Float[np.ndarray, "b f"]):
        self.border, self.stiffness = border, np.zeros(len(border))
        self.cholesky, firmness = _cholesky(block)
        if firmness < DELICATE and len(border):
            self.stiffness = _stiffness(block, border)
            self.cholesky, firmness = _cholesky(block + (border.T * self.stiffness) @ border)
        if firmness < SINGULAR:
            raise LinAlgError("Q is singular on the free variables")
        self.delicate = firmness < DELICATE
        self.from_border = self._within(border.T)
        self.schur = border @ self.from_border

    def _within(self, right: np.ndarray) -> np.ndarray:
        return dpotrs(self.cholesky, right, lower=1)[0] if right.size else np.zeros_like(right)

    def solve(self, right: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Free variables and multipliers; by least squares where rows are dependent."""
        if self.stiffness.any():
            right = right + (self.stiffness * bounds) @ self.border
        values, multipliers = self._within(right), np.zeros(len(bounds))
        for _ in range(2):  # the second time on what round-off left of the equations
            step = self._within_schur(self.border @ values - bounds)
            values = values - self.from_border @ step
            multipliers += step
        return values, multipliers

    def _within_schur(self, excess: np.ndarray) -> np.ndarray:
        if len(excess) == 1 and self.schur[0, 0] > 0:
            return excess / self.schur[0, 0]
        # A row without free variables has no multiplier of its own.
        sizes = self.schur.diagonal()
        used = sizes > SINGULAR * sizes.max(initial=0)
        scale = np.where(used, 1 / np.sqrt(np.where(used, sizes, 1)), 0)
        scaled = self.schur * scale * scale[:, None]
        return scale * np.linalg.lstsq(scaled, scale * excess, rcond=1e-13)[0]


def _cholesky(block: Float[np.ndarray, "f f"]) -> tuple[np.ndarray, float]:
    """The factor, and its smallest pivot over the largest; zero where there is none."""
    # A symmetric array's transpose is itself in the order that LAPACK wants.
    cholesky, failed = dpotrf(block.T, lower=1, clean=0)
    pivots = cholesky.diagonal() ** 2
    if failed or not len(pivots):
        return cholesky, float(not failed)
    return cholesky, float(pivots.min() / pivots.max())


def _stiffness(
    block: Float[np.ndarray, "f f"], border: Float[np.ndarray, "b f"]
) -> Float[np.ndarray, " b"]:
    """What makes each row weigh as much as the largest variance."""
    sizes = (border * border).sum(1)
    return block.diagonal().max(initial=0) / np.where(sizes > 0, sizes, 1)


class System:
    """The equations of a working set, which shrink as free variables are pinned."""

    def __init__(self, arrays: Arrays, working: WorkingSet):
        self.arrays = arrays
        parts, states = arrays.pieces, working.states
        pinned = states & 1
        self.free = free = (pinned == 0).nonzero()[0]
        interval = states[free] >> 1
        self.point = np.where(pinned, parts.ends[(states + 1) >> 1, parts.each], 0.0)
        self.acting = acting = working.rows.nonzero()[0]
        self.limits = limits = working.limits.nonzero()[0]
        self.low, self.high = parts.ends[interval, free], parts.ends[interval + 1, free]
        self.block = arrays.form.block(free)
        self.border = arrays.rows[acting[:, None], free]
        self.right = arrays.linear[free] - parts.slopes[interval, free]
        upper = working.rows[acting] > 0
        self.bounds = np.where(upper, arrays.row_upper[acting], arrays.row_lower[acting])
        holding = self.point.nonzero()[0]
        if len(holding):
            held = self.point[holding]
            self.bounds -= arrays.rows[acting[:, None], holding] @ held
            self.right -= arrays.form.times(holding, held)[free]
        if len(limits):
            signs = parts.signs[limits[:, None], interval, free]
            centers = parts.centers[len(parts.rates) - len(parts.limits) :][limits]
            of_pinned = (abs(self.point - centers) * pinned).sum(1)
            of_free = (signs * centers[:, free]).sum(1)
            self.border = np.concatenate([self.border, signs])
            of_limits = parts.limits[limits] - of_pinned + of_free
            self.bounds = np.concatenate([self.bounds, of_limits])

    def solve(self) -> Float[np.ndarray, " free"]:
        """The free variables; `short` then says by how much too few are free for the equations.

        Raises:
            LinAlgError: Q is singular, to working precision, on the free variables.
        """
        self.factor = Factor(self.block, self.border)
        values, multipliers = self.factor.solve(self.right, self.bounds)
        for _ in range(REFINEMENTS if self.factor.delicate else 0):
            force = self.right - self.block @ values - multipliers @ self.border
            correction, more = self.factor.solve(force, self.bounds - self.border @ values)
            values, multipliers = values + correction, multipliers + more
        self.values, self.multipliers = values, multipliers
        self.left = self.border @ values - self.bounds
        short = float(abs(self.left).max(initial=0))
        # Not the other way round: where round-off has made NaN, the equations do not hold.
        self.short = 0.0 if short <= TOLERANCE * abs(values).max(initial=1.0) else short
        return values

    def flat_moves(self) -> Float[np.ndarray, "free some"]:
        """Moves that neither Q nor the acting rows see, by Cholesky's method with pivoting."""
        stiff = _stiffness(self.block, self.border)
        matrix = self.block + (self.border.T * stiff) @ self.border
        largest = float(matrix.diagonal().max())
        cholesky, order, rank, _ = dpstrf(matrix.T, tol=SINGULAR * largest, lower=1)
        rank = min(rank, len(matrix) - 1)
        moves = np.zeros((len(matrix), len(matrix) - rank))
        seen = solve_triangular(
            cholesky[:rank, :rank], cholesky[rank:, :rank].T, lower=True, trans=1
        )
        moves[order - 1] = np.concatenate([-seen, np.eye(len(matrix) - rank)])
        return moves

    def pin(self, below: np.ndarray, above: np.ndarray) -> None:
        """Pin free variables at the lower and upper ends of their intervals."""
        gone = below | above
        kept, lost = (~gone).nonzero()[0], gone.nonzero()[0]
        values = np.where(below, self.low, self.high)[lost]
        self.point[self.free[lost]] = values
        # The ends of an interval are on one side of every centre, so that the signs of the norm
        # limits still hold there and their rows shrink as all others do.
        if values.any():
            self.right = self.right - self.block[:, lost] @ values
            self.bounds = self.bounds - self.border[:, lost] @ values
        self.block = self.block[kept[:, None], kept]
        self.border, self.right = self.border[:, kept], self.right[kept]
        self.free = self.free[kept]
        self.low, self.high = self.low[kept], self.high[kept]

    def minimiser(self) -> Minimiser:
        """What `solve` found."""
        arrays, acting = self.arrays, len(self.acting)
        point = self.point.copy()
        point[self.free] = self.values
        of_rows, of_limits = np.zeros(len(arrays.rows)), np.zeros(len(arrays.pieces.limits))
        of_rows[self.acting] = self.multipliers[:acting]
        of_limits[self.limits] = self.multipliers[acting:]
        if self.short:
            # Multipliers so large that the next to be released are those that help.
            push = PUSH * (abs(arrays.linear).max() + arrays.diagonal.max()) / self.short
            of_rows[self.acting] += push * self.left[:acting]
            of_limits[self.limits] += push * self.left[acting:]
        return Minimiser(point, of_rows, of_limits, self.free, self.short, self.factor)


@dataclass(frozen=True)
class Minimiser:
    """The minimiser over a working set, its multipliers, and what was solved on the way."""

    point: Vector
    rows: Float[np.ndarray, " rows"]
    limits: Float[np.ndarray, " limits"]
    free: Int[np.ndarray, " free"]
    short: float
    """by how much the equations of the working set fail to hold, where too few are free"""
    factor: Factor | None
    """None where another method has found it"""
