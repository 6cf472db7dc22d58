"""What `solve` and `backtest` ask of a user in common, and the small files they may be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from applications.portfolio.price_files import read_cells, read_numbers, read_table
from applications.portfolio.prices import Checked, Holding, InvalidPricesError, Missing, check
from sciopt.bench.identity import InvalidRunError, pick


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
    """of the dates, as %%d/%%m/%%Y; found if not given and only one fits"""


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


def read_groups(
    file: Path | None, given: Sequence[str], assets: Sequence[str]
) -> dict[str, list[str]]:
    """The groups of each asset: a column each of the file's, then `tech=AAPL,MSFT` as given.

    An asset of which a given group says nothing is in `not tech`.
    """
    groups: dict[str, list[str]] = {asset: [] for asset in assets}
    if file is not None:
        rows = {str(asset): labels for asset, *labels in _small_table(file).to_numpy().tolist()}
        if absent := [asset for asset in assets if asset not in rows]:
            raise InvalidRunError(f"{file} has no row for {', '.join(absent)}; give each a group")
        groups = {asset: rows[asset] for asset in assets}
    for text in given:
        name, sign, members = text.partition("=")
        named = [member.strip() for member in members.split(",") if member.strip()]
        if not sign or not name.strip() or not named:
            raise InvalidRunError(f"--group is {text!r}; write it as tech=AAPL,MSFT")
        for member in named:
            pick(dict.fromkeys(assets), member, f"asset of group {name.strip()}")
        for asset in assets:
            groups[asset].append(name.strip() if asset in named else f"not {name.strip()}")
    return groups


def read_weights(file: Path, assets: Sequence[str]) -> pd.Series:
    """Weights by asset from a CSV with the columns asset and weight; 0 for assets it lacks."""
    table = _small_table(file)
    if table.shape[1] != 2:
        raise InvalidRunError(f"{file} has {table.shape[1]} columns; expected asset and weight")
    named = table.iloc[:, 0].tolist()
    for asset in named:
        pick(dict.fromkeys(assets), asset, f"asset in the prices, named in {file}:")
    weights = pd.Series(read_numbers(file, table.iloc[:, 1:]).to_numpy()[:, 0], named)
    if weights.isna().any():
        raise InvalidRunError(f"{file} gives no weight for {weights.index[weights.isna()][0]}")
    return weights.reindex(assets, fill_value=0.0)


def _small_table(file: Path) -> pd.DataFrame:
    """A CSV as text, with each asset once in its first column."""
    header, cells = read_cells(file)
    assets = cells.iloc[:, 0]
    if assets.duplicated().any():
        raise InvalidRunError(
            f"{file} names {assets[np.asarray(assets.duplicated())].iloc[0]} twice; keep one"
        )
    return cells.set_axis(header, axis=1)
