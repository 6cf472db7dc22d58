"""What `solve` and `backtest` ask of a user in common, and the small files they may be given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from applications.portfolio.backtest import InvalidBacktestError
from applications.portfolio.covariance import InvalidCovarianceError, check_covariance
from applications.portfolio.price_files import read_cells, read_numbers, read_table
from applications.portfolio.prices import Checked, Holding, InvalidPricesError, Missing, check
from applications.portfolio.wishes import InvalidWishesError
from sciopt.bench.identity import InvalidRunError, pick
from sciopt.quadratic import InfeasibleProgram, UnboundedProgram

DAYS_PER_YEAR = 365.25
FEW, ABOUT = 20, 1.5
"""Returns too few to tell how many there are in a year, and the factor that is let pass."""


ODD_RETURN = 3.0
"""Expected return a year beyond which percents are taken for fractions."""


@dataclass(frozen=True)
class PriceOptions:
    """How the file of prices is read, and what of it is used."""

    holding: Holding = "prices"
    """what the file holds; returns are simple ones, 0.01 for 1 %"""
    missing: Missing = "error"
    """about missing prices: refuse, leave out the assets or the dates concerned, or keep only the
    dates common to all assets"""
    assets: tuple[str, ...] = ()
    """the only ones used; none named means all"""
    without: tuple[str, ...] = ()
    """assets left out"""
    start: str = ""
    """first date used, YYYY-MM-DD"""
    end: str = ""
    """last date used, YYYY-MM-DD"""
    delimiter: str = ""
    """between columns of a CSV; found if not given"""
    decimal: str = "."
    """sign before decimals in a CSV"""
    date_format: str = ""
    """of the dates, as %d/%m/%Y; found if not given and only one fits"""


def read_returns(file: Path, options: PriceOptions) -> Checked:
    """The returns of the assets and dates asked for.

    Raises:
        InvalidPricesError: as `read_table` and `check` do, with the file named.
        InvalidRunError: assets or dates that the file does not have.
    """
    table = read_table(
        file,
        delimiter=options.delimiter,
        decimal=options.decimal,
        date_format=options.date_format,
    )
    known = {str(asset): None for asset in table.columns}
    for asset in (*options.assets, *options.without):
        pick(known, asset, f"asset in {file}")
    wanted = options.assets or known
    chosen = [asset in wanted and asset not in options.without for asset in table.columns]
    inside = np.ones(len(table), dtype=bool)
    if options.start:
        inside &= table.index >= _date("start", options.start)
    if options.end:
        inside &= table.index <= _date("end", options.end)
    if not inside.any():
        raise InvalidRunError(
            f"{file} has no date from {options.start or 'its first'} to {options.end or 'its last'}"
            f"; its dates run from {table.index.min():%Y-%m-%d} to {table.index.max():%Y-%m-%d}"
        )
    try:
        return check(table.loc[inside, chosen], missing=options.missing, holding=options.holding)
    except InvalidPricesError as error:
        raise InvalidPricesError(f"{file}: {error}") from None


def _date(option: str, text: str) -> pd.Timestamp:
    try:
        return pd.to_datetime(text, format="%Y-%m-%d")
    except ValueError:
        raise InvalidRunError(f"--{option} is {text!r}; write a date as YYYY-MM-DD") from None


@dataclass(frozen=True)
class GroupOptions:
    """The groups that limits speak of, and a covariance known from elsewhere."""

    group: tuple[str, ...] = ()
    """each as tech=AAPL,MSFT; its other assets are the group 'not tech'"""
    groups_file: Path | None = None
    """CSV with the assets in its first column and a column of names per kind of group"""
    covariance_file: Path | None = None
    """CSV of a covariance per period, assets in header and first column; used as it is"""
    repair: bool = False
    """replace a covariance_file that is none by the nearest that is"""


@contextmanager
def in_words() -> Iterator[None]:
    """A user's mistake ends the command in one line."""
    try:
        yield
    except (
        InvalidPricesError,
        InvalidCovarianceError,
        InvalidWishesError,
        InvalidBacktestError,
        InfeasibleProgram,
        UnboundedProgram,
    ) as error:
        raise InvalidRunError(str(error)) from error


def tell(console: Console, notices: Sequence[str]) -> None:
    """What was done to the data, or looks odd in them."""
    for notice in notices:
        console.print(f"notice: {notice}", style="yellow", markup=False, soft_wrap=True)


def frequency_notices(asset_returns: pd.DataFrame, per_year: float) -> Iterator[str]:
    """A notice where a year of the dates has far fewer or more returns than it is taken to have."""
    dates = asset_returns.index
    years = (dates[-1] - dates[0]).days / DAYS_PER_YEAR
    if years * per_year < FEW or not years:
        return
    by_dates = (len(dates) - 1) / years
    if not 1 / ABOUT < by_dates / per_year < ABOUT:
        yield (
            f"by their dates there are {by_dates:.0f} returns a year, but {per_year:g} are counted "
            "where numbers are annual; see --periods-per-year"
        )


def read_covariance(
    options: GroupOptions, assets: Sequence[str]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The covariance of these assets in the file given, checked, and its notices."""
    file = options.covariance_file
    if file is None:
        if options.repair:
            raise InvalidRunError("--repair changes a --covariance-file, and none is given")
        return None, ()
    table = _small_table(file)
    names = table.iloc[:, 0].tolist()
    values = read_numbers(file, table.iloc[:, 1:]).set_axis(names)
    for asset in assets:
        pick(dict.fromkeys(names), asset, f"asset in {file}")
    try:
        checked, notices = check_covariance(values, repair=options.repair)
    except InvalidCovarianceError as error:
        raise InvalidCovarianceError(f"{file}: {error}") from None
    order = [names.index(asset) for asset in assets]
    return checked.to_numpy()[np.ix_(order, order)], tuple(f"{file}: {n}" for n in notices)


def read_groups(options: GroupOptions, assets: Sequence[str]) -> dict[str, list[str]]:
    """The names of the groups of each asset, first the file's, then those given one by one."""
    file = options.groups_file
    groups: dict[str, list[str]] = {asset: [] for asset in assets}
    if file is not None:
        rows = {str(asset): labels for asset, *labels in _small_table(file).to_numpy().tolist()}
        if absent := [asset for asset in assets if asset not in rows]:
            raise InvalidRunError(f"{file} has no row for {', '.join(absent)}; give each a group")
        groups = {asset: rows[asset] for asset in assets}
    for text in options.group:
        name, sign, members = text.partition("=")
        named = [member.strip() for member in members.split(",") if member.strip()]
        if not sign or not name.strip() or not named:
            raise InvalidRunError(f"--group is {text!r}; write it as tech=AAPL,MSFT")
        for member in named:
            pick(dict.fromkeys(assets), member, f"asset of group {name.strip()}")
        for asset in assets:
            groups[asset].append(name.strip() if asset in named else f"not {name.strip()}")
    return groups


def read_weights(file: Path, assets: Sequence[str]) -> np.ndarray:
    """Weights from a CSV with the columns asset and weight; 0 for assets it lacks."""
    found = _numbers_of(file, assets, "weight", "; write 0 for none")
    return np.array([found.get(asset, 0.0) for asset in assets])


def read_expected_returns(file: Path, assets: Sequence[str]) -> np.ndarray:
    """Expected returns a year from a CSV with the columns asset and return, one for each asset."""
    found = _numbers_of(file, assets, "return", ", or an empty cell")
    if absent := [asset for asset in assets if asset not in found]:
        raise InvalidRunError(
            f"{file} gives no return for {', '.join(absent)}; add a row for each, or leave them "
            f"out: --without {' '.join(absent)}"
        )
    values = np.array([found[asset] for asset in assets])
    if (odd := abs(values) > ODD_RETURN).any():
        k = int(odd.argmax())
        raise InvalidRunError(
            f"{file}: {assets[k]} is expected to return {values[k]:.0%} a year; {values[k]:g} % is "
            f"written {values[k] / 100:g}"
        )
    return values


def _numbers_of(file: Path, assets: Sequence[str], what: str, hint: str) -> dict[str, float]:
    """A number for each asset that a CSV of two columns names."""
    table = _small_table(file)
    if table.shape[1] != 2:
        raise InvalidRunError(f"{file} has {table.shape[1]} columns; expected asset and {what}")
    numbers = read_numbers(file, table.iloc[:, 1:]).to_numpy()[:, 0]
    found = dict(zip(table.iloc[:, 0].tolist(), numbers.tolist(), strict=True))
    for asset, number in found.items():
        pick(dict.fromkeys(assets), asset, f"asset in {file}, which the prices lack,")
        if np.isnan(number):
            raise InvalidRunError(f"{file} gives no {what} for {asset}{hint}")
    return found


def _small_table(file: Path) -> pd.DataFrame:
    """A CSV as text, with each asset once in its first column."""
    header, cells = read_cells(file)
    twice = cells.iloc[:, 0].duplicated().to_numpy()
    if twice.any():
        raise InvalidRunError(f"{file} names {cells.iat[twice.argmax(), 0]} twice; keep one")
    return cells.set_axis(header, axis=1)
