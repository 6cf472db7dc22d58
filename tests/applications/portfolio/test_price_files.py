"""Files as users have them, right and wrong: what is read, and which line is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from applications.portfolio.price_files import read_table
from applications.portfolio.prices import InvalidPricesError

DATES = pd.DatetimeIndex(["2020-01-30", "2020-01-31", "2020-02-03"])
TABLE = pd.DataFrame({"AAA": [10.0, 10.5, np.nan], "BBB": [2.0, 1.5, 1.0]}, index=DATES)


def written(folder: Path, text: str, name: str = "prices.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    "text",
    [
        "date,AAA,BBB\n2020-01-30,10,2\n2020-01-31,10.5,1.5\n2020-02-03,,1\n",
        "\ufeffDate;AAA;BBB\r\n30.01.2020;10,0;2,0\r\n31.01.2020;10,5;1,5\r\n03.02.2020;NA;1,0\r\n",
        "day\tAAA\tBBB\n2020/01/30\t10\t2\n\n2020/01/31\t10.5\t1.5\n2020/02/03\t-\t1\n\n",
        "Date,AAA,BBB,\n01/30/2020, 10 , 2 ,\n01/31/2020,10.5,1.5,\n02/03/2020,null,1,\n",
        ",AAA,BBB\n2020-01-30 00:00:00-05:00,1e1,2\n2020-01-31 00:00:00-05:00,10.5,1.5\n"
        "2020-02-03 00:00:00-04:00,nan,1.0\n",
        "Date,Ticker,Close\n2020-01-30,AAA,10\n2020-01-31,AAA,10.5\n2020-01-30,BBB,2\n"
        "2020-01-31,BBB,1.5\n2020-02-03,BBB,1\n",
        "asset|day|price\nAAA|20200130|10\nBBB|20200130|2\nBBB|20200131|1.5\nAAA|20200131|10.5\n"
        "BBB|20200203|1\n",
    ],
    ids=["plain", "european", "tabs, blank line", "american", "time zones", "long", "long, bars"],
)
def test_the_same_prices_are_read_from_any_layout(text: str, tmp_path: Path) -> None:
    decimal = "," if ";" in text else "."
    found = read_table(written(tmp_path, text), decimal=decimal)
    pd.testing.assert_frame_equal(found, TABLE, check_index_type=False, check_freq=False)


def test_a_delimiter_inside_the_names_of_assets_does_not_mislead(tmp_path: Path) -> None:
    file = written(tmp_path, "Date;Foo, Inc;Bar, Inc\n2020-01-30;1;2\n2020-01-31;3;4\n")
    assert read_table(file).columns.tolist() == ["Foo, Inc", "Bar, Inc"]


def test_a_date_format_given_decides_what_is_ambiguous(tmp_path: Path) -> None:
    file = written(tmp_path, "Date,A\n01/02/2020,1\n03/02/2020,2\n")
    found = read_table(file, date_format="%d/%m/%Y").index
    assert list(found) == [pd.Timestamp("2020-02-01"), pd.Timestamp("2020-02-03")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "prices.csv is empty"),
        ("\n  \n", "prices.csv is empty"),
        ("Date,A\n", "holds a header and no prices"),
        ("\nDate,A\n2020-01-30,1\n", "line 1: blank; the header must come first"),
        ("Date A\n2020-01-30 1\n", "line 1: one column only, 'Date A'; expected more, divided"),
        ("Date,A,,B\n2020-01-30,1,2,3\n", "line 1: column 3 has no name; name its asset"),
        ("Date,A\n2020-01-30,1\n2020-01-31,2,3\n", "Expected 2 fields in line 3, saw 3"),
        ("Date,A\n2020-01-30,1\n\n31st,2\n", "line 4, column 'Date': '31st' is not a date; exp"),
        ("Date,A\n31.01.2020,1\n30-02-2020,2\n", "line 3, column 'Date': '30-02-2020' is not"),
        ("Date,A,B\n2020-01-30,1,2\n2020-01-31,1,n.v.\n2020-02-03,x,1\n",
         "line 3, column 'B': 'n.v.' is not a number (1 more like it)"),
        ("Price,Close,Close\nTicker,A,B\nDate,,\n2020-01-30,1,2\n",
         "line 2, column 'Close': 'A' is not a number; if the line is part of the header, keep"),
        ("Date;A\n2020-01-30;1,5\n", "line 2, column 'A': '1,5' is not a number; a comma before"),
        ("Date,A\n01/02/2020,1\n03/02/2020,2\n",
         "'01/02/2020' may be read as %d/%m/%Y or as %m/%d/%Y, and so may all other dates"),
        ("Date,Open,High,Low,Close\n2020-01-30,1,1,1,1\n", "are columns of one asset; expected"),
        ("Date,Ticker,Close\n2020-01-30,A,1\n2020-01-30,B,1\n2020-01-30,A,1\n",
         "line 4: A on 2020-01-30 for the second time; delete one"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_line_and_column(
    text: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidPricesError) as refusal:
        read_table(written(tmp_path, text))
    assert says in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "prices.csv"))


def test_a_wrong_delimiter_is_answered_with_the_right_one(tmp_path: Path) -> None:
    file = written(tmp_path, "Date,A,B\n2020-01-30,1,2\n")
    with pytest.raises(InvalidPricesError, match="';' does not occur in the header 'Date,A,B', but "
                       "the comma ',' does"):  # fmt: skip
        read_table(file, delimiter=";")


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPricesError, match=r"none\.csv: there is no such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("Date,A\n2020-01-30,1\n2020-01-31,Zürich".encode("latin1"))
    with pytest.raises(InvalidPricesError, match=r"latin\.csv, line 3: not UTF-8 text"):
        read_table(tmp_path / "latin.csv")


def test_without_pyarrow_parquet_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(file: Path) -> None:
        raise ImportError("Missing optional dependency 'pyarrow'")

    monkeypatch.setattr(pd, "read_parquet", absent)
    file = written(tmp_path, "PAR1", "prices.parquet")
    with pytest.raises(InvalidPricesError, match="needs the package pyarrow"):
        read_table(file)


@pytest.mark.parametrize(
    "table",
    [TABLE, TABLE.rename_axis("Date").reset_index(), TABLE.tz_localize("America/New_York")],
    ids=["index", "first column", "time zone"],
)
def test_parquet_holds_dates_in_its_index_or_in_its_first_column(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pd, "read_parquet", lambda file: table)
    found = read_table(written(tmp_path, "", "prices.parquet"))
    pd.testing.assert_frame_equal(found, TABLE, check_index_type=False, check_freq=False)


def test_two_levels_of_columns_are_answered_with_the_selection_to_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.concat({"Close": TABLE, "Open": TABLE}, axis=1)
    monkeypatch.setattr(pd, "read_parquet", lambda file: table)
    with pytest.raises(InvalidPricesError, match=r"2 levels; select one, such as prices\['Close"):
        read_table(written(tmp_path, "", "prices.parquet"))
