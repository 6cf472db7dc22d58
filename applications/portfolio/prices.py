"""From prices to returns that can be relied on: what is wrong is an error, what is odd a notice.

Nothing is repaired unasked. Dates out of order are the exception: every row carries its date, so
sorting loses nothing, and many sources list the newest first. All that was done or looks odd is
told in `Checked.notices`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

Missing: TypeAlias = Literal["error", "drop-assets", "drop-rows", "common"]
"""What to do about missing prices.

error: refuse, naming the assets.
drop-assets: leave out each asset with a missing price.
drop-rows: leave out each date with a missing price.
common: only the dates from the latest first price to the earliest last one; gaps within: refuse.
"""
Holding: TypeAlias = Literal["prices", "returns"]

JUMP = 0.5
"""A one-day return beyond which a price is looked at: an unadjusted split of 2:1 is -50 %."""
STALE = 5
"""Returns of exactly zero in a row from which a price counts as stale."""
SHOWN = 3
"""Examples named in a message before the rest is counted."""
LONG_PAUSE = 10
"""Times the usual distance between dates."""


class InvalidPricesError(ValueError):
    """Prices that no portfolio can rest on; the message names asset and date and what to do."""


@dataclass(frozen=True)
class Checked:
    """Simple returns p_t / p_tm1 - 1, one row per date and no gaps, and what a reader should know.

    Not annualised. `first` is the date before the first return.
    """

    asset_returns: pd.DataFrame
    notices: tuple[str, ...]


def check(
    table: pd.DataFrame, *, missing: Missing = "error", holding: Holding = "prices"
) -> Checked:
    """The returns of a table (dates, assets) of prices or of returns.

    Raises:
        InvalidPricesError: values that are no prices (or no returns), missing or doubled ones, and
            too few, each with asset and date.
    """
    dates = _dates(table)
    notices = []
    if not dates.is_monotonic_increasing:
        at = int(np.flatnonzero(np.diff(dates.asi8) < 0)[0])
        notices.append(
            f"dates are not in order ({_day(dates[at])} is followed by {_day(dates[at + 1])}); "
            "sorted"
        )
        table = table.sort_index()
    table = table.astype(float)
    _refuse_where(table, table.abs() == np.inf, "is infinite; correct it or leave it empty")
    if holding == "prices":
        _check_prices(table)
    else:
        _check_returns(table)
    table, lost = _without_missing(table, missing)
    notices += lost
    asset_returns = table.pct_change().iloc[1:] if holding == "prices" else table
    _check_enough(asset_returns)
    return Checked(asset_returns, (*notices, *_oddities(asset_returns)))


def _dates(table: pd.DataFrame) -> pd.DatetimeIndex:
    """The index; raise for dates or assets that do not tell rows or columns apart."""
    dates = table.index
    if not isinstance(dates, pd.DatetimeIndex):
        raise InvalidPricesError(
            f"the index holds {dates.dtype}, not dates; make it one by pd.to_datetime"
        )
    if table.shape[1] == 0:
        raise InvalidPricesError("no asset is left; expected at least one column of prices")
    if table.columns.has_duplicates:
        asset = table.columns[table.columns.duplicated()][0]
        raise InvalidPricesError(
            f"asset {asset!r} heads {list(table.columns).count(asset)} columns; rename or delete "
            "all but one"
        )
    for asset in table:
        if not is_numeric_dtype(table[asset]):
            raise InvalidPricesError(f"asset {asset!r} holds {table[asset].dtype}, not numbers")
    if dates.hasnans:
        row = int(np.flatnonzero(dates.isna())[0]) + 1
        raise InvalidPricesError(f"row {row} has no date; give it one or delete it")
    if dates.has_duplicates:
        date = dates[dates.duplicated()][0]
        raise InvalidPricesError(
            f"date {_day(date)} occurs {list(dates).count(date)} times; keep one row"
        )
    return dates


def _check_prices(table: pd.DataFrame) -> None:
    values = table.to_numpy()
    known = values[~np.isnan(values)]
    if len(known) and (known < 0).mean() > 0.2 and np.median(np.abs(known)) < 1:
        raise InvalidPricesError(
            f"these look like returns, not prices: {(known < 0).mean():.0%} are negative and their "
            f"median size is {np.median(np.abs(known)):.2g}; if so, say --holding returns"
        )
    _refuse_where(table, table <= 0, "is not a price, which is > 0; correct it or leave it empty")


def _check_returns(table: pd.DataFrame) -> None:
    values = table.to_numpy()
    known = values[~np.isnan(values)]
    if len(known) and (known > 0).all() and np.median(known) > JUMP:
        raise InvalidPricesError(
            f"these look like prices, not returns: none is negative and their median is "
            f"{np.median(known):.3g}; if so, say --holding prices"
        )
    if len(known) and np.median(np.abs(known)) > 0.1:
        raise InvalidPricesError(
            f"the median size of a return is {np.median(np.abs(known)):.3g}, so that they seem to "
            "be in percent; divide them by 100"
        )
    _refuse_where(table, table <= -1, "is a return of -100 % or less; no price can follow it")


def _refuse_where(table: pd.DataFrame, bad: pd.DataFrame, why: str) -> None:
    if bad.to_numpy().any():
        raise InvalidPricesError(f"{_cells(table, bad)} {why}")


def _cells(table: pd.DataFrame, marked: pd.DataFrame) -> str:
    """`MSFT on 2020-03-02: 0` for the first cell in time, and how many more are like it."""
    row, column = np.argwhere(marked.to_numpy())[0]
    more = int(marked.to_numpy().sum()) - 1
    named = f"{table.columns[column]} on {_day(table.index[row])}: {table.iat[row, column]:g}"
    return named + (f" (and {more} more)" if more else "")


def _without_missing(table: pd.DataFrame, missing: Missing) -> tuple[pd.DataFrame, list[str]]:
    """The table without NaN, by the policy chosen, and what that cost."""
    absent = table.isna()
    if not absent.to_numpy().any():
        return table, []
    incomplete = _incomplete(absent)
    if missing == "drop-assets":
        kept = table.loc[:, ~absent.any()]
        if kept.shape[1] == 0:
            raise InvalidPricesError(f"drop-assets leaves no asset: {incomplete}")
        lost = table.shape[1] - kept.shape[1]
        return kept, [f"{lost} of {table.shape[1]} assets left out: {incomplete}"]
    if missing == "error":
        raise InvalidPricesError(
            f"{incomplete}. Choose --missing drop-assets, drop-rows or common (the dates "
            "that all assets share)"
        )
    if missing == "common":
        kept = _common_span(table)
        if kept.isna().to_numpy().any():
            raise InvalidPricesError(
                f"within the dates that all assets share, {_span(kept)}: "
                f"{_incomplete(kept.isna())}; choose --missing drop-assets or drop-rows"
            )
        lost = len(table) - len(kept)
        return kept, [f"{lost} of {len(table)} dates left out, {_span(kept)} kept: {incomplete}"]
    kept = table.loc[~absent.any(axis=1)]
    return kept, [
        f"{len(table) - len(kept)} of {len(table)} dates left out: {incomplete}. A return across "
        "such a date covers more than one"
    ]


def _common_span(table: pd.DataFrame) -> pd.DataFrame:
    """The dates from the latest of the assets' first prices to the earliest of their last."""
    known = table.notna().to_numpy()
    if not known.any(axis=0).all():
        asset = table.columns[known.any(axis=0).argmin()]
        raise InvalidPricesError(f"asset {asset!r} has no price at all; leave it out")
    first = known.argmax(axis=0).max()
    last = len(table) - 1 - known[::-1].argmax(axis=0).max()
    if first > last:
        raise InvalidPricesError(
            f"no date is common to all assets: one begins on {_day(table.index[first])} and "
            f"another ends on {_day(table.index[last])}; leave one out, or choose --missing "
            "drop-assets"
        )
    return table.iloc[first : last + 1]


def _incomplete(absent: pd.DataFrame) -> str:
    """`values are missing for MSFT 12 (first 2020-01-02), ...`, the worst assets first."""
    counts = absent.to_numpy().sum(axis=0)
    worst = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    named = [
        f"{absent.columns[column]} {counts[column]} "
        f"(first {_day(absent.index[absent.iloc[:, column].to_numpy().argmax()])})"
        for column in worst[:SHOWN]
    ]
    more = f" and {len(worst) - SHOWN} more" if len(worst) > SHOWN else ""
    return f"values are missing for {', '.join(named)}{more}"


def _check_enough(asset_returns: pd.DataFrame) -> None:
    """Raise for fewer than two returns and for an asset that never moves."""
    if len(asset_returns) < 2:
        raise InvalidPricesError(
            f"{len(asset_returns)} returns are left; a covariance needs at least 2 (3 prices)"
        )
    still = asset_returns.columns[asset_returns.std() == 0]
    if len(still):
        raise InvalidPricesError(
            f"the return of {still[0]!r} is the same on all {len(asset_returns)} dates, which a "
            f"minimum-variance portfolio takes for no risk; leave it out: --without {still[0]}"
        )


def _oddities(asset_returns: pd.DataFrame) -> Iterator[str]:
    """What may be right but is often a mistake in the data."""
    jumps = asset_returns.abs() > JUMP
    if (places := np.argwhere(jumps.to_numpy())).size:
        named = [
            f"{asset_returns.columns[column]} {asset_returns.iat[row, column]:+.0%} on "
            f"{_day(asset_returns.index[row])}{_as_split(asset_returns.iat[row, column])}"
            for row, column in places[:SHOWN]
        ]
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        yield f"moves of more than {JUMP:.0%} within one date: {', '.join(named)}{more}"
    yield from _stale(asset_returns)
    dates, assets = asset_returns.shape
    if dates <= assets:
        yield (
            f"{dates} returns of {assets} assets: the sample covariance is singular, and some "
            "portfolio has no risk in it; take a shrunk one (--covariance ledoit-wolf)"
        )
    days = np.diff(pd.DatetimeIndex(asset_returns.index).asi8)
    if days.max() > LONG_PAUSE * np.median(days):
        at = int(days.argmax())
        yield (
            f"no date between {_day(asset_returns.index[at])} and "
            f"{_day(asset_returns.index[at + 1])}: the return of the latter covers all of it"
        )


def _stale(asset_returns: pd.DataFrame) -> Iterator[str]:
    """Where a price repeats itself, which makes an asset look safer than it is."""
    index, runs = asset_returns.index, []
    for asset, still in (asset_returns == 0).items():
        padded = np.concatenate([[False], still.to_numpy(), [False]])
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        runs += [(end - begin, begin, end, asset) for begin, end in edges.reshape(-1, 2)]
    stale = sorted((run for run in runs if run[0] >= STALE), key=lambda run: -run[0])
    if stale:
        named = [
            f"{asset} on {days} dates, {_day(index[begin])} to {_day(index[end - 1])}"
            for days, begin, end, asset in stale[:SHOWN]
        ]
        more = f" and {len(stale) - SHOWN} more spells" if len(stale) > SHOWN else ""
        yield (
            f"the price of the date before is repeated for {', '.join(named)}{more}: not traded, "
            "or filled in? Its risk is underestimated"
        )


def _as_split(asset_return: float) -> str:
    """`: a split of 20:1 not adjusted for?` where the ratio of the prices is about whole."""
    old, new = 1 / (1 + asset_return), 1 + asset_return
    for ratio, form in ((old, "{}:1"), (new, "1:{}")):
        if ratio > 1.5 and abs(ratio / round(ratio) - 1) < 0.05:
            return f" (a split of {form.format(round(ratio))} not adjusted for?)"
    return ""


def _span(table: pd.DataFrame) -> str:
    return f"{_day(table.index[0])} to {_day(table.index[-1])}"


def _day(date: Any) -> str:
    return f"{date:%Y-%m-%d}" if date == date.normalize() else f"{date}"
