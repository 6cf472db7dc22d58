"""`solve` and `backtest` as typed by a newcomer, with right files and with wrong ones."""

import shlex
from collections.abc import Callable
from pathlib import Path

import cvxpy
import numpy as np
import pandas as pd
import pytest
from skfolio import moments

from applications.portfolio import DOMAIN, backtest_command, solve_command
from applications.portfolio.backtest import walk_forward
from applications.portfolio.backtest_command import backtest
from applications.portfolio.solve_command import solve
from sciopt.bench import identity
from sciopt.bench.cli import main

Call = Callable[[str], int]
DAYS = 79
NAMES = ["AAPL", "BRK-B", "MSFT", "SAP SE", "XOM"]


def write_prices(folder: Path) -> pd.DataFrame:
    """Five assets, as untidy as a download may be and still be read; the returns behind them."""
    random = np.random.default_rng(7)
    noise = 0.006 * random.standard_normal((DAYS, 1)) + 0.01 * random.standard_normal((DAYS, 5))
    returns = noise - noise.mean(0) + np.array([0.30, 0.10, 0.25, 0.15, 0.35]) / 252
    dates = pd.bdate_range("2021-01-01", periods=DAYS + 1)
    prices = 100 * np.vstack([np.ones(5), (1 + returns).cumprod(0)])
    written = pd.DataFrame(prices, dates.strftime("%d.%m.%Y"), NAMES)
    written.iloc[::-1].to_csv(folder / "prices.csv", sep=";", index_label="Datum")
    return pd.DataFrame(returns, dates[1:], NAMES)


@pytest.fixture
def returns(tmp_path: Path) -> pd.DataFrame:
    return write_prices(tmp_path)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The exit code of a command typed in a folder with prices.csv; quotes as in a shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def typed(arguments: str) -> int:
        identity._fingerprint.cache_clear()
        monkeypatch.setattr("sys.argv", ["applications.portfolio", *shlex.split(arguments)])
        try:
            main(DOMAIN, {"solve": solve, "backtest": backtest})
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return typed


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than all the rest."""
    monkeypatch.setattr(solve_command, "_figures", lambda *given: {})
    monkeypatch.setattr(backtest_command, "save_figure", lambda figure, stem: None)


def kept_weights(folder: Path) -> pd.Series:
    table = pd.read_csv(folder / "weights.csv")
    return pd.Series(table["weight"].to_numpy(), table["asset"])


def table_rows(output: str) -> list[list[str]]:
    """The cells of every row of the tables printed, headers included."""
    lines = [line.replace("┃", "│") for line in output.splitlines()]
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in lines if "│" in line]


def test_the_portfolio_is_that_of_cvxpy_and_is_printed_kept_and_drawn(
    call: Call, returns: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "solve prices.csv --risk-aversion 20 --max-weight 0.35 --group tech=AAPL,MSFT "
        "--limit 'tech <= 40%' 'BRK-B >= 0.1' 'SAP SE <= 0.25' --out found"
    )
    assert call(arguments) == 0
    weights = cvxpy.Variable(5)
    covariance, mean = returns.cov().to_numpy(), returns.mean().to_numpy()
    limits = {
        "XOM <= 0.35": weights <= 0.35,
        "tech <= 40%": weights[0] + weights[2] <= 0.4,
        "BRK-B >= 0.1": weights[1] >= 0.1,
    }
    others = [weights >= 0, cvxpy.sum(weights) == 1, weights[3] <= 0.25]
    utility = mean @ weights - 10 * cvxpy.quad_form(weights, covariance)
    # The scale makes the tolerances of Clarabel mean something.
    cvxpy.Problem(cvxpy.Maximize(1e4 * utility), [*limits.values(), *others]).solve(
        solver=cvxpy.CLARABEL
    )
    found = kept_weights(tmp_path / "found").to_numpy()
    assert found == pytest.approx(weights.value, abs=1e-5)
    output = capsys.readouterr().out
    assert "dates are not in order (2021-04-22 is followed by 2021-04-21); sorted" in output
    expected = 252 * mean @ found
    volatility = np.sqrt(252 * found @ covariance @ found)
    assert f"{expected:.2%} a year, the sample mean times 252" in output
    assert f"{volatility:.2%} a year, times the root of 252" in output
    assert f"{expected / volatility:.3f} at 0.00% interest" in output
    assert "duality gap" in output
    rows = {cells[0]: cells[1:] for cells in table_rows(output)}
    share = found * (covariance @ found) / (found @ covariance @ found)
    deviation = np.sqrt(252 * np.diag(covariance))
    for asset, *numbers in zip(NAMES, found, 252 * mean, deviation, share, strict=True):
        assert rows[asset] == [f"{100 * number:.2f}" for number in numbers]
    for name, limit in limits.items():
        dual = np.max(limit.dual_value) / 1e4  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert float(rows[name][0]) == pytest.approx(dual, rel=1e-2)
    assert len(table_rows(output)) == 2 + 5 + 6 + 3
    drawn = pd.read_csv(tmp_path / "found/frontier.csv", index_col="series")
    star, line = drawn.loc["utility, risk aversion 20"], drawn.loc["efficient frontier"]
    assert star["x"] == pytest.approx(100 * volatility)
    assert star["y"] == pytest.approx(100 * expected)
    assert np.interp(star["x"], line["x"], line["y"]) == pytest.approx(star["y"], abs=0.02)
    for name in ("frontier", "allocation"):
        assert (tmp_path / f"found/{name}.svg").exists()
        assert (tmp_path / f"found/{name}.png").exists()


@pytest.mark.usefixtures("no_figures")
def test_every_objective_is_best_at_what_it_says(
    call: Call, returns: pd.DataFrame, tmp_path: Path
) -> None:
    """Against each other and against 2000 random portfolios."""
    covariance, mean = returns.cov().to_numpy(), returns.mean().to_numpy()
    random = np.random.default_rng(0).dirichlet(np.full(5, 0.7), 2000)
    objectives = {
        "minimum-variance": "",
        "target-return": "--target 0.3",
        "target-risk": "--target 0.15",
        "maximum-sharpe": "--risk-free 0.02",
    }
    found = {}
    for objective, target in objectives.items():
        assert call(f"solve prices.csv --objective {objective} {target} --out {objective}") == 0
        found[objective] = kept_weights(tmp_path / objective).to_numpy()
    portfolios = np.vstack([random, *found.values()])
    expected = 252 * portfolios @ mean
    volatility = np.sqrt(252 * np.einsum("pi,ij,pj->p", portfolios, covariance, portfolios))
    best = volatility.argmin(), np.where(expected >= 0.3 - 1e-9, volatility, np.inf).argmin()
    best += (np.where(volatility <= 0.15 + 1e-9, expected, -np.inf).argmax(),)
    best += (((expected - 0.02) / volatility).argmax(),)
    assert best == (2000, 2001, 2002, 2003)
    assert expected[2001] == pytest.approx(0.3)
    assert volatility[2002] == pytest.approx(0.15)


@pytest.mark.usefixtures("no_figures")
def test_costs_keep_what_is_held_and_the_trade_is_counted_from_it(
    call: Call, returns: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("held.csv").write_text("asset,weight\nXOM,0.6\nBRK-B,0.4\n")
    assert call("solve prices.csv --held held.csv --cost 10000") == 0
    assert kept_weights(tmp_path / "portfolio").loc["XOM"] == pytest.approx(0.6)
    assert "0.00% of wealth" in capsys.readouterr().out
    assert call("solve prices.csv --held held.csv --cost 5 --every 5") == 0
    found = kept_weights(tmp_path / "portfolio").to_numpy()
    before = np.array([0, 0.4, 0, 0, 0.6])
    weights = cvxpy.Variable(5, nonneg=True)
    net = returns.mean().to_numpy() @ weights - 0.0005 / 5 * cvxpy.norm1(weights - before)
    utility = net - 5 * cvxpy.quad_form(weights, returns.cov().to_numpy())
    budget = cvxpy.sum(weights) == 1
    cvxpy.Problem(
        cvxpy.Maximize(1e4 * utility),
        [budget],  # pyright: ignore[reportArgumentType]  (CVXPY types == as bool)
    ).solve(solver=cvxpy.CLARABEL)
    assert found == pytest.approx(weights.value, abs=1e-4)
    turnover = np.abs(found - before).sum()
    assert turnover > 0.1
    said = f"{turnover:.2%} of wealth, for {turnover * 5e-4:.3%} of it"
    assert said in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
def test_groups_and_a_covariance_may_come_from_files(
    call: Call, returns: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("groups.csv").write_text(
        "asset,sector,country\nAAPL,tech,US\nMSFT,tech,US\nSAP SE,tech,Germany\n"
        "BRK-B,finance,US\nXOM,energy,US\n"
    )
    identity = pd.DataFrame(1e-4 * np.eye(5), returns.columns, returns.columns)
    identity.to_csv("covariance.csv")
    arguments = (
        "solve prices.csv --objective minimum-variance --covariance-file covariance.csv "
        "--groups-file groups.csv --limit 'Germany <= 0.1' 'tech == 0.7'"
    )
    assert call(arguments) == 0
    found = kept_weights(tmp_path / "portfolio")[returns.columns]
    np.testing.assert_allclose(found, [0.3, 0.15, 0.3, 0.1, 0.15])
    identity.iloc[0, 1] = identity.iloc[1, 0] = 2e-4  # a correlation of 2: eigenvalue -1
    identity.to_csv("covariance.csv")
    assert call(arguments) == 2
    assert "covariance.csv: smallest eigenvalue -0.0001" in capsys.readouterr().err
    assert call(f"{arguments} --repair") == 0
    assert "replaced by the nearest covariance, 0.0001 away" in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
def test_weekly_prices_are_not_taken_for_daily_ones_unnoticed(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    weeks = pd.date_range("2020-01-03", periods=105, freq="W-FRI")
    moves = 1 + 0.02 * np.random.default_rng(1).standard_normal((105, 2))
    pd.DataFrame(moves.cumprod(0), weeks, ["A", "B"]).to_csv("weekly.csv")
    arguments = "solve weekly.csv --objective minimum-variance"
    assert call(arguments) == 0
    assert "by their dates there are 52 returns a year, but 252" in capsys.readouterr().out
    assert call(f"{arguments} --periods-per-year 52") == 0
    assert "notice" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("covariance", ["ledoit-wolf", "oas", "ewma", "gerber", "denoised"])
def test_the_covariance_is_the_estimator_s_own(
    covariance: str, call: Call, returns: pd.DataFrame, tmp_path: Path
) -> None:
    names = {"ledoit-wolf": "LedoitWolf", "oas": "OAS", "ewma": "EWCovariance"}
    names |= {"gerber": "GerberCovariance", "denoised": "DenoiseCovariance"}
    assert call(f"solve prices.csv --objective minimum-variance --covariance {covariance}") == 0
    found = kept_weights(tmp_path / "portfolio").to_numpy()
    estimated = getattr(moments, names[covariance])().fit(returns).covariance_
    gradient = estimated @ found
    # Optimality of least variance: no held asset's gradient exceeds the least one.
    assert gradient[found > 0] == pytest.approx(gradient.min(), rel=1e-7)


@pytest.mark.usefixtures("no_figures")
def test_expected_returns_may_come_from_a_file(
    call: Call, returns: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views = [0.05, 0.08, 0.02, 0.11, 0.03]
    rows = [f"{name},{view}" for name, view in zip(NAMES, views, strict=True)]
    Path("views.csv").write_text("\n".join(["asset,return", *reversed(rows)]))
    asked = "solve prices.csv --objective maximum-sharpe --min-weight -5 --max-weight 5"
    assert call(f"{asked} --expected-returns views.csv") == 0
    found = kept_weights(tmp_path / "portfolio").to_numpy()
    # Without active bounds it is the tangency portfolio.
    tangency = np.linalg.solve(returns.cov(), views)
    assert found == pytest.approx(tangency / tangency.sum(), rel=1e-8)
    assert f"{found @ views:.2%} a year, views.csv" in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
def test_stale_prices_are_told_with_asset_and_dates(
    call: Call, returns: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = returns.copy()
    stale.iloc[20:27, 3] = 0.0
    stale.iloc[40:43, 1] = 0.0
    prices = 100 * (1 + stale).cumprod()
    prices.to_csv("stale.csv")
    assert call("solve stale.csv") == 0
    span = f"{returns.index[20]:%Y-%m-%d} to {returns.index[26]:%Y-%m-%d}"
    output = capsys.readouterr().out
    assert f"repeated for SAP SE on 7 dates, {span}: not traded" in output
    assert "BRK-B on" not in output


def test_an_asset_that_stands_still_in_a_window_is_told(
    call: Call, returns: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    still = returns.copy()
    still.iloc[30:60, 2] = 0.0
    (100 * (1 + still).cumprod()).to_csv("still.csv")
    assert call("backtest still.csv --window 20 --every 5") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "non positive variance: ['MSFT'] from" in output
    assert "a price that does not move would be taken for no risk" in output


WRONG_FILES = {
    "held.csv": "asset,weight\nXON,0.5\n",
    "twice.csv": "asset,weight\nXOM,0.5\nXOM,0.5\n",
    "words.csv": "asset,weight\nXOM,half\n",
    "empty.csv": "asset,weight\nXOM,\n",
    "wide.csv": "asset,weight,note\nXOM,0.5,x\n",
    "some.csv": "asset,return\nAAPL,0.1\nXOM,0.1\nMSFT,0.1\n",
    "percent.csv": "asset,return\nAAPL,8\nBRK-B,7\nMSFT,6\nSAP SE,5\nXOM,9\n",
    "groups.csv": "asset,sector\nXOM,energy\n",
    "doubled.csv": "Date,A,A\n2021-01-01,1,2\n2021-01-04,2,3\n2021-01-05,1,3\n",
    "zero.csv": "Date,A,B\n2021-01-01,1,2\n2021-01-04,0,3\n2021-01-05,1,3\n",
}


@pytest.mark.usefixtures("returns")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("solve", "solve needs PRICES before any option"),
        ("solve none.csv", "none.csv: there is no such file"),
        ("solve prices.csv --delimiter ,", "the delimiter ',' does not occur in the header"),
        ("solve prices.csv --holding returns", "prices.csv: these look like prices"),
        ("solve prices.csv --start 2021-13-01", "--start is '2021-13-01'; write a date as"),
        ("solve prices.csv --end 2020-01-01", "its dates run from 2021-01-01 to 2021-04-22"),
        ("solve prices.csv --assets APPL", "unknown asset in prices.csv 'APPL'; did you mean"),
        ("solve prices.csv --max-weight 0.1", "upper bound 0.1 x 5 variables = 0.5 < budget 1"),
        ("solve prices.csv --objective target-risk", "target-risk needs --target, the volatility"),
        ("solve prices.csv --target 0.1", "utility has no target; leave --target out"),
        ("solve prices.csv --objective target-risk --target 15", "15 % is written 0.15"),
        ("solve prices.csv --objective target-risk --target -0.1", "is no volatility"),
        ("solve prices.csv --objective target-risk --target 0.01", "the least volatility within"),
        ("solve prices.csv --objective target-return --target 0.99", "expects 99.00% a year, the"),
        ("solve prices.csv --objective maximum-sharpe --risk-free 3", "the interest of 300.00% a"),
        ("solve prices.csv --objective minimum-variance --cost 5", "--cost has no place in"),
        ("solve prices.csv --cost -5", "cost is -5.0; expected basis points >= 0"),
        ("solve prices.csv --risk-aversion 0", "risk_aversion is 0.0; expected more than 0"),
        ("solve prices.csv --limit 'tech <= 0.3'", "--limit 'tech <= 0.3'"),
        ("solve prices.csv --limit 'XOM 0.3'", "must contain a comparison operator"),
        ("solve prices.csv --group tech:XOM", "--group is 'tech:XOM'; write it as tech=AAPL,MSFT"),
        ("solve prices.csv --group tech=XOM,SAP", "unknown asset of group tech 'SAP'"),
        ("solve prices.csv --groups-file groups.csv", "groups.csv has no row for AAPL, BRK-B"),
        ("solve prices.csv --repair", "none is given"),
        ("solve prices.csv --held held.csv", "unknown asset in held.csv, which the prices lack"),
        ("solve prices.csv --held twice.csv", "twice.csv names XOM twice"),
        ("solve prices.csv --held words.csv", "words.csv, line 2, column 'weight': 'half'"),
        ("solve prices.csv --held empty.csv", "empty.csv gives no weight for XOM"),
        ("solve prices.csv --held wide.csv", "wide.csv has 3 columns; expected asset and weight"),
        ("solve prices.csv --expected-returns held.csv", "held.csv, which the prices lack, 'XON'"),
        ("solve prices.csv --expected-returns some.csv", "no return for BRK-B, SAP SE; add"),
        ("solve prices.csv --expected-returns percent.csv", "8 % is written 0.08"),
        ("solve doubled.csv", "doubled.csv: asset 'A' heads 2 columns"),
        ("solve zero.csv", "zero.csv: A on 2021-01-04: 0 is not a price"),
        ("backtest prices.csv --window 79", "79 returns; a window of 79 leaves none"),
        ("backtest prices.csv --max-weight 0.1", "79 returns; a window of 252 leaves none"),
        ("backtest prices.csv --window 20 --max-weight 0.1", "no portfolio on 2021-01-29: upper"),
        ("backtest prices.csv --covariance-file x.csv", "that a backtest must not look at"),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_one_line_in_words(
    arguments: str, says: str, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in WRONG_FILES.items():
        Path(name).write_text(text)
    assert call(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


def test_contradicting_limits_are_named(
    call: Call, returns: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("solve prices.csv --limit 'XOM >= 0.7' 'MSFT >= 0.6'") == 2
    error = capsys.readouterr().err
    assert "XOM >= 0.7" in error
    assert "MSFT >= 0.6" in error


def test_a_backtest_compares_and_keeps_every_number(
    call: Call, returns: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "backtest prices.csv --window 30 --every 7 --cost 10 --risk-aversion 30"
    assert call(arguments) == 0
    output = capsys.readouterr().out
    summary = pd.read_csv(tmp_path / "backtest/summary.csv", index_col="metric")
    kept = pd.read_csv(tmp_path / "backtest/returns.csv", index_col="date", parse_dates=True)
    assert kept.index.equals(returns.index[30:])
    assert kept.columns.tolist() == [
        "utility, risk aversion 30",
        "minimum-variance",
        "equal weight",
    ]
    by_hand = list(
        walk_forward(returns, lambda p, h: np.full(5, 0.2), window=30, every=7, cost=0.001)
    )
    equal = kept["equal weight"]
    np.testing.assert_allclose(equal, pd.concat([period.returns for period in by_hand]), atol=1e-12)
    annual = (1 + equal).prod() ** (252 / 49) - 1
    assert summary.loc["annual return", "equal weight"] == pytest.approx(annual)
    assert f"{annual:.2%}" in output
    # Minimum variance of the window before each date, from scratch.
    weights = pd.read_csv(
        tmp_path / "backtest/weights-minimum-variance.csv", index_col="date", parse_dates=True
    )
    assert weights.index.equals(returns.index[29:-1:7])
    for date, row in weights.iterrows():
        gradient = returns.loc[:date].tail(30).cov() @ row[:5]
        assert gradient[row[:5] > 0].to_numpy() == pytest.approx(gradient.min(), rel=1e-7)
    assert (tmp_path / "backtest/backtest.svg").exists()
    assert (tmp_path / "backtest/weights-equal-weight.csv").exists()


@pytest.mark.usefixtures("no_figures")
def test_ctrl_c_keeps_what_was_computed(
    call: Call,
    returns: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choices, choose = [], backtest_command.choose

    def interrupted(past, *rest, **more):
        choices.append(past.index[-1])
        if len(choices) == 6:  # the second of two on the third date
            raise KeyboardInterrupt
        return choose(past, *rest, **more)

    monkeypatch.setattr(backtest_command, "choose", interrupted)
    assert call("backtest prices.csv --window 30 --every 7") == 130
    kept = pd.read_csv(tmp_path / "backtest/returns.csv", index_col="date", parse_dates=True)
    assert kept.index.equals(returns.index[30:44])
    assert not kept.isna().to_numpy().any()
    assert f"interrupted: all of it ends on {returns.index[43]:%Y-%m-%d}" in capsys.readouterr().out


def test_ctrl_c_at_once_says_that_nothing_is_kept(
    call: Call,
    returns: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*rest, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(backtest_command, "choose", interrupted)
    assert call("backtest prices.csv --window 30") == 130
    assert "nothing to keep" in capsys.readouterr().out
    assert not (tmp_path / "backtest").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_date_without_a_portfolio_is_told_with_its_reason(
    call: Call, returns: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    greatest = 25.2 * returns.rolling(10).mean().max(axis=1).iloc[9:-1:5]
    target = greatest.iloc[0] - 0.001
    missed = greatest.index[greatest < target]
    assert 0 < len(missed) < len(greatest)
    asked = "--objective target-return --window 10 --every 5 --periods-per-year 25.2"
    assert call(f"backtest prices.csv {asked} --target {target}") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert f"no portfolio on {len(missed)} of {len(greatest)} dates and kept what it h" in output
    assert f"first on {missed[0]:%Y-%m-%d}: no portfolio within the limits expects" in output
