"""Bad and odd prices: the message names the asset, the date and what to do."""

import numpy as np
import pandas as pd
import pytest

from applications.portfolio.prices import InvalidPricesError, check

DATES = pd.bdate_range("2020-01-01", periods=30)


def prices() -> pd.DataFrame:
    """Two assets, 30 business days, nothing wrong."""
    days = np.arange(30)
    return pd.DataFrame({"AAA": 100 + 3 * np.sin(days), "BBB": 50 + 2 * np.cos(days)}, index=DATES)


def with_cells(asset: str, rows: list[int], value: float) -> pd.DataFrame:
    table = prices()
    table.iloc[rows, table.columns.get_loc(asset)] = value
    return table


def refusal(table: pd.DataFrame, **policy: str) -> str:
    with pytest.raises(InvalidPricesError) as raised:
        check(table, **policy)  # pyright: ignore[reportArgumentType]
    return str(raised.value)


def test_clean_prices_become_simple_returns_without_notice() -> None:
    checked = check(prices())
    assert checked.notices == ()
    by_hand = prices().to_numpy()[1:] / prices().to_numpy()[:-1] - 1
    np.testing.assert_allclose(checked.asset_returns, by_hand, rtol=1e-13)
    assert checked.asset_returns.index.equals(DATES[1:])


def test_dates_out_of_order_are_sorted_and_told() -> None:
    checked = check(prices().iloc[::-1])
    assert "(2020-02-11 is followed by 2020-02-10); sorted" in checked.notices[0]
    pd.testing.assert_frame_equal(checked.asset_returns, check(prices()).asset_returns)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (with_cells("BBB", [7], 0), "BBB on 2020-01-10: 0 is not a price, which is > 0"),
        (with_cells("AAA", [9, 11], -5), "AAA on 2020-01-14: -5 (and 1 more) is not a price"),
        (with_cells("AAA", [3], np.inf), "AAA on 2020-01-06: inf is infinite"),
        (with_cells("BBB", list(range(30)), 7.0), "'BBB' is the same on all 29 dates"),
        (with_cells("AAA", [2], np.nan), "values are missing for AAA 1 (first 2020-01-03). Choose"),
        (prices().iloc[:2], "1 returns are left; a covariance needs at least 2 (3 prices)"),
        (prices()[[]], "no asset is left"),
        (prices().set_axis(["AAA", "AAA"], axis=1), "asset 'AAA' heads 2 columns"),
        (prices().astype({"BBB": str}), "asset 'BBB' holds str, not numbers"),
        (prices().reset_index(drop=True), "the index holds int64, not dates"),
        (pd.concat([prices(), prices().iloc[[4]]]), "date 2020-01-07 occurs 2 times; keep one"),
        (prices().set_axis([*DATES[:5], pd.NaT, *DATES[6:]]), "row 6 has no date"),
        (check(prices()).asset_returns, "look like returns, not prices"),
    ],
)  # fmt: skip
def test_wrong_prices_are_named(table: pd.DataFrame, says: str) -> None:
    assert says in refusal(table)


def test_prices_percents_and_ruin_are_no_returns() -> None:
    returns = check(prices()).asset_returns
    assert "look like prices, not returns" in refusal(prices(), holding="returns")
    assert "seem to be in percent" in refusal(100 * returns, holding="returns")
    returns.iat[3, 1] = -1.0
    says = refusal(returns, holding="returns")
    assert "BBB on 2020-01-07: -1 is a return of -100 % or less" in says


def test_returns_are_taken_as_they_are() -> None:
    returns = check(prices()).asset_returns
    assert check(returns, holding="returns").asset_returns.equals(returns)


def test_each_policy_for_missing_prices_keeps_and_tells_what_it_says() -> None:
    late = with_cells("BBB", [0, 1, 2], np.nan)
    by_asset = check(late, missing="drop-assets")
    assert by_asset.asset_returns.columns.tolist() == ["AAA"]
    assert by_asset.notices == (
        "1 of 2 assets left out: values are missing for BBB 3 (first 2020-01-01)",
    )
    common = check(late, missing="common")
    assert common.asset_returns.index.equals(DATES[4:])
    assert common.notices == (
        "3 of 30 dates left out, 2020-01-06 to 2020-02-11 kept: "
        "values are missing for BBB 3 (first 2020-01-01)",
    )
    hole = with_cells("BBB", [10], np.nan)
    by_row = check(hole, missing="drop-rows")
    assert by_row.asset_returns.index.equals(DATES[1:].delete(9))
    assert (
        "1 of 30 dates left out: values are missing for BBB 1 (first 2020-01-15)"
        in (by_row.notices[0])
    )
    # The return across the hole covers both days.
    expected = hole["BBB"].iloc[11] / hole["BBB"].iloc[9] - 1
    assert by_row.asset_returns.loc[DATES[11], "BBB"] == pytest.approx(expected)


def test_policies_that_cannot_help_say_so() -> None:
    hole = with_cells("BBB", [0, 10], np.nan)
    says = refusal(hole, missing="common")
    assert "all assets share, 2020-01-02 to 2020-02-11: values are missing for BBB 1" in says
    assert "first 2020-01-15" in says
    both = with_cells("BBB", [10], np.nan)
    both.iloc[5, 0] = np.nan
    assert "drop-assets leaves no asset" in refusal(both, missing="drop-assets")
    assert "'BBB' has no price at all" in refusal(
        with_cells("BBB", list(range(30)), np.nan), missing="common"
    )
    apart = with_cells("AAA", list(range(15)), np.nan)
    apart.iloc[12:, 1] = np.nan
    says = refusal(apart, missing="common")
    assert "one begins on 2020-01-22 and another ends on 2020-01-16" in says


def test_an_unadjusted_split_is_noticed_as_such() -> None:
    split = prices()
    split.iloc[12:, 0] /= 20
    split.iloc[20:, 1] *= 2.6
    (notice,) = check(split).notices
    assert "AAA -95% on 2020-01-17 (a split of 20:1 not adjusted for?)" in notice
    assert "BBB +1" in notice
    assert notice.endswith("on 2020-01-29")  # 2.6 is no ratio of a split
    reverse = prices()
    reverse.iloc[12:, 0] *= 10
    assert "AAA +914% on 2020-01-17 (a split of 1:10 not" in check(reverse).notices[0]


def test_fewer_returns_than_assets_and_long_pauses_are_noticed() -> None:
    short = pd.concat({"A": prices(), "B": prices() + 1}, axis=1).droplevel(0, axis=1)
    short = short.set_axis(list("ABCD"), axis=1).iloc[:5]
    assert "4 returns of 4 assets: the sample covariance is singular" in check(short).notices[0]
    paused = prices().drop(DATES[5:21])
    (notice,) = check(paused).notices
    assert "no date between 2020-01-07 and 2020-01-30" in notice
