"""Tables of prices or returns as files hold them: CSV or parquet, wide or long.

Wide is a column of dates and a column per asset, long the three columns date, asset and price. What
cannot be read for certain is an error that names the file's line and column, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pandas as pd
from pandas.errors import ParserError

from applications.portfolio.prices import InvalidPricesError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "-")
"""What stands for a missing value, in any case."""
DATE_FORMATS = ("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y", "%b %d, %Y")
"""Tried where dates are not YYYY-MM-DD."""
LONG = (
    {"date", "day", "datetime", "timestamp"},
    {"asset", "ticker", "symbol"},
    {"price", "close", "adj close", "adj_close", "value", "return"},
)
"""Names of the three columns of a long table, in any case."""
ONE_ASSET = {"open", "high", "low", "close"}
ZONE = r"(?<=:\d\d)\s*(?:Z|[+-]\d\d:?\d\d)$"
"""The time zone after a time of day: the date wanted is the exchange's own."""


def read_table(
    file: Path, *, delimiter: str = "", decimal: str = ".", date_format: str = ""
) -> pd.DataFrame:
    """The table (dates, assets) of a file, in its order, NaN where a value is missing.

    Args:
        file: CSV; or parquet, known by its suffix .parquet or .pq.
        delimiter: between the columns of a CSV; found from its first lines if not given.
        decimal: the sign before decimals of a CSV.
        date_format: as strptime reads it; if not given, the only one that fits all dates.

    Raises:
        InvalidPricesError: naming the file, and the line and column.
    """
    if file.suffix in (".parquet", ".pq"):
        with _blamed_on(file):
            return _of_parquet(file, date_format)
    header, cells = read_cells(file, delimiter)
    with _blamed_on(file):
        _refuse_one_asset(header)
        if _is_long(header):
            return _of_long(header, cells, decimal, date_format)
        values = _numbers(cells.iloc[:, 1:].set_axis(header[1:], axis=1), decimal)
        return values.set_axis(_dates(cells.iloc[:, 0], header[0], date_format))


def read_cells(file: Path, delimiter: str = "") -> tuple[list[str], pd.DataFrame]:
    """The header of a CSV, and every cell below it as text without surrounding space.

    Columns are numbered, rows by the file's lines, counted from 0. Raises as `read_table`.
    """
    with _blamed_on(file):
        return _cells(_text(file), delimiter)


def read_numbers(file: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of `read_cells` as floats. Raises as `read_table`."""
    with _blamed_on(file):
        return _numbers(cells, ".")


@contextmanager
def _blamed_on(file: Path) -> Iterator[None]:
    """Say in which file it is that an error occurs."""
    try:
        if not file.is_file():
            raise InvalidPricesError(": there is no such file")
        yield
    except InvalidPricesError as error:
        raise InvalidPricesError(f"{file}{error}") from None


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidPricesError(f", line {line}: not UTF-8 text; save it as CSV UTF-8") from None
    if not text.strip():
        raise InvalidPricesError(" is empty")
    return text


def _cells(text: str, delimiter: str) -> tuple[list[str], pd.DataFrame]:
    delimiter = _delimiter(text.splitlines(), delimiter)
    try:
        # Blank lines are kept until lines have been counted.
        table = pd.read_csv(
            StringIO(text),
            sep=delimiter,
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    except ParserError as error:
        says = str(error).partition("C error: ")[2].strip()
        raise InvalidPricesError(f": {says}; the header sets the number of columns") from None
    table = table.fillna("").apply(lambda column: column.str.strip())
    table = table.loc[:, (table != "").any()]
    header, cells = table.iloc[0].tolist(), table.iloc[1:]
    cells = cells.loc[(cells != "").any(axis=1)].set_axis(range(len(header)), axis=1)
    for number, name in enumerate(header[1:], start=2):
        if not name:
            raise InvalidPricesError(f", line 1: column {number} has no name; name its asset")
    if not len(cells):
        raise InvalidPricesError(" holds a header and no prices")
    return header, cells


def _delimiter(lines: list[str], given: str) -> str:
    """The one given, or that which divides most of the first lines as it does the header."""
    header, first = lines[0], lines[:20]
    if not header.strip():
        raise InvalidPricesError(", line 1: blank; the header must come first")
    counts = {sign: header.count(sign) for sign in DELIMITERS}
    fitting = {
        sign: (sum(line.count(sign) == count for line in first), count)
        for sign, count in counts.items()
        if count
    }
    found = max(fitting, key=lambda sign: fitting[sign], default="")
    if given in header and given:
        return given
    if given:
        instead = f", but the {DELIMITERS[found]} {found!r} does" if found else ""
        raise InvalidPricesError(
            f", line 1: the delimiter {given!r} does not occur in the header {header!r}{instead}"
        )
    if not found:
        raise InvalidPricesError(
            f", line 1: one column only, {header!r}; expected more, "
            "divided by comma, semicolon, tab or |; another sign is named by --delimiter"
        )
    return found


def _refuse_one_asset(header: list[str]) -> None:
    if {name.lower() for name in header} >= ONE_ASSET:
        raise InvalidPricesError(
            f", line 1: {', '.join(header)} are columns of one asset; expected a column of "
            "(adjusted) closing prices per asset, headed by the asset's name"
        )


def _is_long(header: list[str]) -> bool:
    lowered = {name.lower() for name in header}
    return len(header) == len(LONG) and all(lowered & names for names in LONG)


def _of_long(
    header: list[str], cells: pd.DataFrame, decimal: str, date_format: str
) -> pd.DataFrame:
    """The wide table; a date on which an asset does not occur is a missing value."""
    place = [
        next(column for column, name in enumerate(header) if name.lower() in names)
        for names in LONG
    ]
    dates, assets, prices = (cells.iloc[:, column] for column in place)
    values = _numbers(prices.to_frame(header[place[2]]), decimal).iloc[:, 0]
    keys = pd.DataFrame({"date": _dates(dates, header[place[0]], date_format), "asset": assets})
    twice = keys.duplicated()
    if twice.any():
        line = keys.index[twice][0]
        date, asset = keys.loc[line]
        raise InvalidPricesError(
            f", line {line + 1}: {asset} on {date:%Y-%m-%d} for the second time; delete one"
        )
    wide = keys.assign(value=values).pivot(index="date", columns="asset", values="value")
    wide.index.name = wide.columns.name = None
    return wide.reindex(columns=assets.unique())


def _numbers(cells: pd.DataFrame, decimal: str) -> pd.DataFrame:
    """The cells as floats; rows are numbered by the file's lines less one."""
    missing = cells.apply(lambda column: column.str.lower().isin(MISSING))
    pointed = cells if decimal == "." else cells.apply(lambda c: c.str.replace(decimal, "."))
    values = pointed.mask(missing).apply(lambda c: pd.to_numeric(c, errors="coerce"))
    bad = values.isna() & ~missing
    if not bad.to_numpy().any():
        return pd.DataFrame(values, dtype=float)
    row, column = (int(k) for k in next(zip(*bad.to_numpy().nonzero(), strict=True)))
    text = cells.iat[row, column]
    hint = ""
    if decimal == "." and re.fullmatch(r"[+-]?\d+,\d+", text):
        hint = "; a comma before decimals is told by --decimal ,"
    elif row == 0:
        hint = "; if the line is part of the header, keep only the one that names the assets"
    more = int(bad.to_numpy().sum()) - 1
    raise InvalidPricesError(
        f", line {cells.index[row] + 1}, column {cells.columns[column]!r}: {text!r} is not a "
        f"number{hint}" + (f" ({more} more like it)" if more else "")
    )


def _dates(texts: pd.Series, name: str, date_format: str) -> pd.DatetimeIndex:
    """The dates; a format is accepted if it alone fits all of them."""
    if date_format:
        return _parsed_or_blamed(texts, name, date_format)
    texts = texts.str.replace(ZONE, "", regex=True)
    iso = _parsed(texts, "ISO8601")
    if not iso.isna().any():
        return iso
    fitting = [form for form in DATE_FORMATS if not _parsed(texts, form).isna().any()]
    if len(fitting) > 1:
        raise InvalidPricesError(
            f", column {name!r}: {texts.iloc[0]!r} may be read as {' or as '.join(fitting)}, and "
            f"so may all other dates; say which by --date-format {fitting[0]}"
        )
    if fitting:
        return _parsed(texts, fitting[0])
    likeliest = min(("ISO8601", *DATE_FORMATS), key=lambda form: _parsed(texts, form).isna().sum())
    return _parsed_or_blamed(texts, name, likeliest)


def _parsed(texts: pd.Series, form: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(texts.to_numpy(), format=form, errors="coerce"))


def _parsed_or_blamed(texts: pd.Series, name: str, form: str) -> pd.DatetimeIndex:
    dates = _parsed(texts, form)
    for line, text, date in zip(texts.index + 1, texts, dates, strict=True):
        if pd.isna(date):
            expected = "YYYY-MM-DD, or say how to read it by --date-format"
            expected = expected if form == "ISO8601" else form
            raise InvalidPricesError(
                f", line {line}, column {name!r}: {text!r} is not a date; expected {expected}"
            )
    return dates


def _of_parquet(file: Path, date_format: str) -> pd.DataFrame:
    """A parquet file's table: its index, or else its first column, holds the dates."""
    try:
        table = pd.read_parquet(file)
    except ImportError:
        raise InvalidPricesError(
            ": parquet needs the package pyarrow (pip install pyarrow); or save the table as CSV"
        ) from None
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise InvalidPricesError(f" is not parquet: {error}") from None
    if table.columns.nlevels > 1:
        raise InvalidPricesError(
            f": its columns have {table.columns.nlevels} levels; select one, such as "
            "prices['Close'], before saving"
        )
    if not isinstance(table.index, pd.DatetimeIndex):
        table = table.set_index(table.columns[0])
        if not isinstance(table.index, pd.DatetimeIndex):
            texts = pd.Series(table.index.astype(str), index=range(len(table)))
            table.index = _dates(texts, str(table.index.name), date_format)
    table.index = pd.DatetimeIndex(table.index).tz_localize(None).rename(None)
    table.columns = [str(name) for name in table.columns]
    return table
