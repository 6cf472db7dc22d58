"""Why no point satisfies all constraints, in words, each sentence checked before it is said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sciopt.quadratic.program import InfeasibleProgram, QuadraticProgram, UnboundedProgram
from sciopt.quadratic.working_set import Arrays

# A conflict smaller than this, relative to the numbers in it, is round-off.
CONFLICT = 1e-9
# A multiplier so much smaller than the largest is round-off.
NOISE = 1e-7
SHOWN = 5


def check_one_by_one(program: QuadraticProgram, arrays: Arrays) -> None:
    """Raise InfeasibleProgram if one row alone, or one norm limit, cannot hold in the bounds."""
    lower, upper = arrays.pieces.breakpoints[[0, -1]]
    for name, row, least, most in zip(
        program.rows.names, arrays.rows, arrays.row_lower, arrays.row_upper, strict=True
    ):
        low, high = (reach(row, lower, upper), -reach(-row, lower, upper))
        if low > most + CONFLICT * (1 + abs(most)):
            raise InfeasibleProgram(_sentence(program, name, row, "lower", low, ">", most))
        if high < least - CONFLICT * (1 + abs(least)):
            raise InfeasibleProgram(_sentence(program, name, row, "upper", high, "<", least))
    centers = arrays.pieces.centers[len(arrays.pieces.rates) - len(program.norm_limits) :]
    for limit, center in zip(program.norm_limits, centers, strict=True):
        nearest = abs(np.clip(center, lower, upper) - center).sum()
        if nearest > limit.limit + CONFLICT * (1 + limit.limit):
            raise InfeasibleProgram(
                f"{limit.name}: within the bounds the sum of absolute distances is at least "
                f"{nearest:.6g} > limit {limit.limit:g}"
            )


def reach(row: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """The least value of row @ w within the bounds."""
    rising, falling = row > 0, row < 0
    return float(row[rising] @ lower[rising] + row[falling] @ upper[falling])


def _sentence(
    program: QuadraticProgram,
    name: str,
    row: np.ndarray,
    side: str,
    sum_: float,
    sign: str,
    bound: float,
) -> str:
    """`upper bounds 0.02 x 20 = 0.4 < budget 1`, or as much as there is to say."""
    used = np.flatnonzero(row)
    what = f"{name} {bound:g}" if np.isfinite(bound) else name
    values = (program.upper if side == "upper" else program.lower).numpy(force=True)[used]
    if (row[used] == 1).all() and len(set(values)) == 1:
        return f"{side} bound {values[0]:g} x {len(used)} variables = {sum_:.6g} {sign} {what}"
    extreme = "at most" if side == "upper" else "at least"
    return (
        f"within the bounds on {_names(program, used)} the value of {name} is {extreme} "
        f"{sum_:.6g} {sign} {bound:g}"
    )


def _names(program: QuadraticProgram, index: np.ndarray) -> str:
    shown = [program.name_of(int(variable)) for variable in index[:SHOWN]]
    more = f" and {len(index) - SHOWN} more" if len(index) > SHOWN else ""
    return ", ".join(shown) + more


@dataclass(frozen=True)
class Combination:
    """Multipliers of the rows and of the norm limits, as Farkas's lemma takes them.

    Within the bounds the combination is at least `least`, and the constraints allow at most
    `allowed`: if that is less, no point satisfies all of them.
    """

    rows: np.ndarray
    limits: np.ndarray
    least: float
    allowed: float

    @classmethod
    def of(cls, arrays: Arrays, rows: np.ndarray, limits: np.ndarray) -> Combination:
        """The largest multiplier becomes 1, and what is round-off beside it 0."""
        largest = max(abs(rows).max(initial=0), abs(limits).max(initial=0), np.finfo(float).tiny)
        rows = np.where(abs(rows) > NOISE * largest, rows / largest, 0)
        limits = np.where(limits > NOISE * largest, limits / largest, 0)
        acting = rows != 0
        bounds = np.where(rows > 0, arrays.row_upper, arrays.row_lower)[acting]
        allowed = float(bounds @ rows[acting]) + float(limits @ arrays.pieces.limits)
        combined = rows @ arrays.rows
        combined[abs(combined) < CONFLICT * max(abs(combined).max(initial=0), 1)] = 0
        return cls(rows, limits, _least(arrays, combined, limits), allowed)

    @property
    def conflicts(self) -> bool:
        """Whether it proves that no point satisfies the constraints."""
        return self.least > self.allowed + CONFLICT * (1 + abs(self.allowed))

    def without_superfluous(self, arrays: Arrays) -> Combination:
        """Without the terms, from the smallest on, that the proof can do without."""
        found, count = self, len(self.rows)
        order = np.argsort(np.concatenate([abs(self.rows), self.limits]), kind="stable")
        for term in order:
            rows, limits = found.rows.copy(), found.limits.copy()
            if term < count:
                rows[term] = 0
            else:
                limits[term - count] = 0
            fewer = Combination.of(arrays, rows, limits)
            if fewer.conflicts:
                found = fewer
        return found


def conflict_of_rows(
    program: QuadraticProgram, arrays: Arrays, rows: np.ndarray, limits: np.ndarray
) -> InfeasibleProgram:
    """The error that multipliers prove by Farkas's lemma, or as much as they tell."""
    found = Combination.of(arrays, rows, limits)
    if found.conflicts:
        found = found.without_superfluous(arrays)
    named = dict(zip(program.rows.names, found.rows, strict=True))
    of_limits = zip(program.norm_limits, found.limits, strict=True)
    named |= {limit.name: by for limit, by in of_limits}
    terms = {name: by for name, by in named.items() if by}
    together = " and ".join(terms) or "the bounds"
    if not found.conflicts:
        return InfeasibleProgram(
            f"no point satisfies {together} within the bounds on each variable, as far as an "
            "interior point method can tell"
        )
    combination = " ".join(f"{by:+.4g} {name}" for name, by in terms.items())
    return InfeasibleProgram(
        f"{together} exclude each other: within the bounds the combination {combination} is at "
        f"least {found.least:.6g}, and these constraints allow at most {found.allowed:.6g}"
    )


def _least(arrays: Arrays, combined: np.ndarray, limits: np.ndarray) -> float:
    """The least of combined @ w + sum_l limits_l |w - center_l| within the bounds."""
    bounds = arrays.pieces.breakpoints
    # Without a bound the sum ends at a kink, or nowhere if its slope out there is downhill.
    downhill = np.isinf(bounds) & (np.sign(bounds) * combined < -limits.sum())
    places = np.where(np.isfinite(bounds), bounds, 0.0)
    values = combined * places
    costs = len(arrays.pieces.centers) - len(limits)
    for by, center in zip(limits, arrays.pieces.centers[costs:], strict=True):
        values = values + by * abs(places - center)
    return float(np.where(downhill, -np.inf, values).min(0).sum())


def endless(program: QuadraticProgram, direction: np.ndarray) -> UnboundedProgram:
    """The error that names the variables in whose direction the objective falls without end."""
    order = np.argsort(-abs(direction))
    large = order[abs(direction[order]) > 1e-3 * abs(direction).max(initial=0)]
    moves = ", ".join(
        f"{program.name_of(int(variable))} {'up' if direction[variable] > 0 else 'down'}"
        for variable in large[:SHOWN]
    )
    return UnboundedProgram(
        f"the objective falls without end along {moves}: give these variables bounds, or Q a ridge"
    )
