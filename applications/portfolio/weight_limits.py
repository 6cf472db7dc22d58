"""What a portfolio may be, in a user's words, as the rows, bounds and norm limits of a program."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from skfolio.exceptions import GroupNotFoundError, SkfolioError
from skfolio.typing import ArrayLike, LinearConstraints, MultiInput, StrArray
from skfolio.utils.equations import equations_to_matrix

from sciopt.quadratic import InfeasibleProgram, NormLimit, Rows

Vector = Float[np.ndarray, " assets"]


@dataclass(frozen=True)
class Row:
    """`lower <= coefficients @ w <= upper`."""

    name: str
    coefficients: Vector
    lower: float
    upper: float


@dataclass(frozen=True)
class Limits:
    """All that weights have to obey; `names` are those of the assets."""

    budget: float | tuple[float, float] | None
    lower: Vector
    upper: Vector
    rows: tuple[Row, ...]
    norm_limits: tuple[NormLimit, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Exposures:
    """Loadings of assets on named factors, which may belong to families."""

    loadings: Float[np.ndarray, "assets factors"]
    names: StrArray
    families: StrArray | None = None


def as_rows(rows: Sequence[Row]) -> Rows | None:
    """The rows as one matrix, None if there are none."""
    if not rows:
        return None
    return Rows(
        torch.tensor(np.array([row.coefficients for row in rows], dtype=float)),
        torch.tensor([row.lower for row in rows], dtype=torch.float64),
        torch.tensor([row.upper for row in rows], dtype=torch.float64),
        tuple(row.name for row in rows),
    )


def equation_rows(
    equations: LinearConstraints | str, groups: StrArray, exposures: Exposures | None
) -> Iterator[Row]:
    """Each text as an `equation_row`.

    One that names an unknown group is left out with a warning, as by skfolio: a step before this
    one may have dropped its assets.
    """
    for text in np.atleast_1d(equations).tolist():
        try:
            yield equation_row(text, groups, exposures)
        except GroupNotFoundError as error:
            warnings.warn(f"{text!r} is left out: {error}", stacklevel=2)


def equation_row(text: str, groups: StrArray, exposures: Exposures | None = None) -> Row:
    """A text in skfolio's language of linear constraints, as a row named by it.

    Besides that language 30% stands for 0.3, and names may hold signs and blanks, such as BRK-B,
    which skfolio reads as a difference.

    Raises:
        SkfolioError: a text that cannot be read, or a name that is unknown.
    """
    families = [] if exposures is None else [exposures.names]
    families += [] if exposures is None or exposures.families is None else [exposures.families]
    names = {str(name) for layer in [*groups, *families] for name in layer}
    named = sorted((name for name in names if not name.isalnum()), key=len, reverse=True)
    plain = {name: f"n{k}n" for k, name in enumerate(named)}
    asked = re.sub(r"([\d.]+)\s*%", lambda found: f"{float(found[1]) / 100:g}", text)
    for name, instead in plain.items():
        asked = asked.replace(name, instead)

    def as_plain(layers: Iterable[StrArray]) -> StrArray:
        return np.array([[plain.get(str(name), str(name)) for name in layer] for layer in layers])

    factors = {}
    if exposures is not None:
        factors = {"loading_matrix": exposures.loadings, "factor_groups": as_plain(families)}
    try:
        equal, value, below, most = equations_to_matrix(
            as_plain(groups), [asked], raise_if_group_missing=True, **factors
        )
    except SkfolioError as error:
        says = str(error).replace(asked, text)
        for name, instead in plain.items():
            says = says.replace(instead, name)
        raise type(error)(says) from None
    if len(value):
        return Row(text, equal[0], value[0], value[0])
    return Row(text, below[0], -math.inf, most[0])


def inequality_rows(left: ArrayLike, right: ArrayLike, assets: int) -> Iterator[Row]:
    """The rows of `left @ w <= right`."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if left.ndim != 2 or left.shape[1] != assets or right.shape != left.shape[:1]:
        raise ValueError(
            f"left_inequality must be (inequalities, {assets}) and right_inequality as long, got "
            f"{left.shape} and {right.shape}"
        )
    for k, (coefficients, most) in enumerate(zip(left, right, strict=True)):
        yield Row(f"left_inequality row {k}", coefficients, -math.inf, most)


def exposure_rows(
    exposures: Exposures | None, least: MultiInput | None, most: MultiInput | None
) -> Iterator[Row]:
    """`least <= loadings' w <= most` for every factor that either says something of."""
    if least is None and most is None:
        return
    if exposures is None:
        raise ValueError(
            "min_exposures and max_exposures need factor_loadings, or a prior_estimator with a "
            "factor model"
        )
    lower = _of_factors(least, exposures.names, -math.inf, "min_exposures")
    upper = _of_factors(most, exposures.names, math.inf, "max_exposures")
    for name, column, low, high in zip(
        exposures.names, exposures.loadings.T, lower, upper, strict=True
    ):
        if math.isfinite(low) or math.isfinite(high):
            yield Row(f"exposure to {name}", column, float(low), float(high))


def _of_factors(
    values: MultiInput | None, names: StrArray, otherwise: float, what: str
) -> np.ndarray:
    """One number for each factor."""
    if values is None:
        return np.full(len(names), otherwise)
    if isinstance(values, dict):
        if unknown := set(values) - set(names.tolist()):
            raise ValueError(
                f"{what} names {', '.join(sorted(map(str, unknown)))}; the factors are "
                f"{', '.join(map(str, names))}"
            )
        return np.array([values.get(name, otherwise) for name in names.tolist()])
    found = np.asarray(values, dtype=float)
    if found.shape not in ((), (len(names),)):
        raise ValueError(
            f"{what} must be one number or one for each of {len(names)} factors, got "
            f"shape {found.shape}"
        )
    return np.broadcast_to(found, len(names))


def budget_range(
    budget: float | None, least: float | None, most: float | None
) -> float | tuple[float, float] | None:
    """What the weights sum to, as `quadratic_program` takes it."""
    if least is None and most is None:
        return None if budget is None else float(budget)
    if budget is not None:
        raise ValueError("min_budget and max_budget need budget=None, of which they are the range")
    return (
        -math.inf if least is None else float(least),
        math.inf if most is None else float(most),
    )


def leverage_limits(
    budget: float | tuple[float, float] | None,
    assets: int,
    *,
    max_short: float | None,
    max_long: float | None,
    max_leverage: float | None,
) -> Iterator[NormLimit]:
    """The least of all limits on sum_i |w_i|.

    With sum w = budget, the short positions sum to `(sum_i |w_i| - budget) / 2`, the long ones to
    `(sum_i |w_i| + budget) / 2`.
    """
    limits: list[tuple[float, str]] = []
    if max_leverage is not None:
        limits.append((float(max_leverage), "max_leverage"))
    if max_short is not None or max_long is not None:
        if not isinstance(budget, float):
            raise ValueError(
                "max_short and max_long need a budget that is one number; with a range, or none, "
                "limit max_leverage, the sum of both"
            )
        if max_short is not None:
            limits.append((budget + 2 * float(max_short), "max_short"))
        if max_long is not None:
            limits.append((2 * float(max_long) - budget, "max_long"))
    if limits:
        limit, name = min(limits)
        yield NormLimit(torch.zeros(assets, dtype=torch.float64), limit, name)


def within_reach(
    lower: Vector, upper: Vector, held: Vector, max_turnover: float, names: Sequence[str]
) -> tuple[Vector, Vector]:
    """The bounds, narrowed to what a trade of at most `max_turnover` in each asset reaches."""
    low, high = np.maximum(lower, held - max_turnover), np.minimum(upper, held + max_turnover)
    if (crossed := low > high).any():
        k = int(crossed.argmax())
        raise InfeasibleProgram(
            f"{names[k]}: weights from {lower[k]:g} to {upper[k]:g} are out of reach from the "
            f"previous weight {held[k]:g} with max_turnover {max_turnover:g}"
        )
    return low, high


def check_bounds(lower: Vector, upper: Vector, names: Sequence[str]) -> None:
    """Raise InfeasibleProgram for the first asset whose bounds cross."""
    if (crossed := lower > upper).any():
        k = int(crossed.argmax())
        raise InfeasibleProgram(
            f"{names[k]}: min_weights {lower[k]:g} exceeds max_weights {upper[k]:g}"
        )
