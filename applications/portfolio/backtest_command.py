"""`python -m applications.portfolio backtest`: what a rule of choice would have earned, and cost.

python -m applications.portfolio backtest prices.csv --objective minimum-variance --cost 10
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from applications.portfolio.backtest import Backtest, Choose, Period, summary, walk_forward
from applications.portfolio.command_options import (
    GroupOptions,
    PriceOptions,
    frequency_notices,
    in_words,
    read_groups,
    read_returns,
    tell,
)
from applications.portfolio.drawing import draw_backtest
from applications.portfolio.solve_command import title_of
from applications.portfolio.wishes import Wishes, choose, estimator_of
from sciopt.bench import Domain, style
from sciopt.bench.cli import names_first
from sciopt.bench.figures import save_figure
from sciopt.bench.identity import InvalidRunError

FORMS = {"Sharpe ratio": "{:.3f}", "annual costs": "{:.3%}", "rebalancings": "{:.0f}"}
"""How metrics are printed; the others in percent."""


@dataclass(frozen=True)
class BacktestOptions:
    """Which prices, which portfolio, how often it is chosen, and where the answer goes."""

    portfolio: tyro.conf.OmitArgPrefixes[Wishes] = field(default_factory=Wishes)
    groups: tyro.conf.OmitArgPrefixes[GroupOptions] = field(default_factory=GroupOptions)
    prices: tyro.conf.OmitArgPrefixes[PriceOptions] = field(default_factory=PriceOptions)
    window: int = 252
    """returns before each choice that it may look at"""
    out: Path = Path("backtest")
    """folder of summary.csv, returns.csv, the weights and the figure"""


def backtest(domain: Domain, arguments: list[str]) -> None:
    """PRICES.csv [options]: choose again and again without look-ahead, with costs, and compare.

    Raises:
        InvalidRunError: prices, wishes or files that cannot work, in words.
    """
    names = names_first(arguments, ["PRICES"], "backtest")
    prog = f"applications.{domain.name} backtest PRICES.csv"
    options = tyro.cli(BacktestOptions, args=arguments, prog=prog)
    console, wishes = Console(), options.portfolio
    with in_words():
        wishes.check()
        checked = read_returns(Path(names[0]), options.prices)
        asset_returns = checked.asset_returns
        if options.groups.covariance_file is not None:
            raise InvalidRunError(
                "--covariance-file was estimated with prices that a backtest must not look at; "
                "choose an estimator by --covariance"
            )
        frequency = frequency_notices(asset_returns, wishes.periods_per_year)
        tell(console, [*checked.notices, *frequency])
        strategies = _strategies(asset_returns, wishes, options)
        periods, interrupted = _walk(console, asset_returns, strategies, options)
    if not all(periods.values()):
        console.print("interrupted before the first portfolio; nothing to keep")
        sys.exit(130)
    assets = [str(asset) for asset in asset_returns.columns]
    tests = {name: Backtest.of(found, assets) for name, found in periods.items()}
    console.print(_table(tests, wishes))
    tell(console, list(_without_choice(tests)))
    _keep(tests, wishes, options.out)
    console.print(f"summary, returns, weights and figure: {options.out}", soft_wrap=True)
    if interrupted:
        last = next(iter(tests.values())).returns.index[-1]
        console.print(f"interrupted: all of it ends on {last:%Y-%m-%d}", style="yellow")
        sys.exit(130)


def _strategies(
    asset_returns: pd.DataFrame, wishes: Wishes, options: BacktestOptions
) -> dict[str, Choose]:
    """The one wished for; least variance under the same limits; and equal weights, without any."""
    assets = [str(asset) for asset in asset_returns.columns]
    groups = read_groups(options.groups, assets)

    def optimised(wishes: Wishes) -> Choose:
        estimator = estimator_of(wishes, assets, groups=groups)
        return lambda past, held: (
            choose(past, estimator.set_params(previous_weights=held), wishes).weights
        )

    least = replace(wishes, objective="minimum-variance", target=None)
    return {
        title_of(wishes): optimised(wishes),
        title_of(least): optimised(least),
        "equal weight": lambda past, _held: np.full(past.shape[1], 1 / past.shape[1]),
    }


def _walk(
    console: Console,
    asset_returns: pd.DataFrame,
    strategies: Mapping[str, Choose],
    options: BacktestOptions,
) -> tuple[dict[str, list[Period]], bool]:
    """The periods of every strategy, and whether Ctrl-C ended them early, all on the same date."""
    walks = [
        walk_forward(
            asset_returns,
            strategy,
            window=options.window,
            every=options.portfolio.every,
            cost=options.portfolio.cost / 1e4,
        )
        for strategy in strategies.values()
    ]
    periods: dict[str, list[Period]] = {name: [] for name in strategies}
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    total = len(range(options.window, len(asset_returns), options.portfolio.every))
    try:
        with bars:
            task = bars.add_task("rebalancings", total=total)
            for row in zip(*walks, strict=True):
                for name, period in zip(strategies, row, strict=True):
                    periods[name].append(period)
                bars.update(task, advance=1, description=f"{row[0].decided:%Y-%m-%d}")
    except KeyboardInterrupt:
        return periods, True
    return periods, False


def _table(tests: Mapping[str, Backtest], wishes: Wishes) -> Table:
    """The summary, a column per strategy."""
    (first, *_) = tests.values()
    dates = first.returns.index
    title = f"out of sample, {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}"
    table = Table("", title=title, title_justify="left")
    for name in tests:
        table.add_column(name, justify="right")
    found = _summaries(tests, wishes)
    for metric, values in found.iterrows():
        form = FORMS.get(str(metric), "{:.2%}")
        table.add_row(str(metric), *(form.format(value) for value in values))
    table.caption = (
        f"{wishes.periods_per_year:g} returns a year; {wishes.cost:g} basis points paid on all "
        "that is traded, the first purchase too"
    )
    return table


def _without_choice(tests: Mapping[str, Backtest]) -> Iterator[str]:
    """Where a strategy had no portfolio to choose, and why."""
    for name, test in tests.items():
        reasons = [(date, why) for date, why in test.kept_because.items() if why]
        if reasons:
            date, why = reasons[0]
            yield (
                f"{name} found no portfolio on {len(reasons)} of {len(test.weights)} dates and "
                f"kept what it held; first on {date:%Y-%m-%d}: {why}"
            )


def _summaries(tests: Mapping[str, Backtest], wishes: Wishes) -> pd.DataFrame:
    """Metrics in rows, strategies in columns."""
    return pd.DataFrame(
        {
            name: summary(
                test, periods_per_year=wishes.periods_per_year, risk_free=wishes.risk_free
            )
            for name, test in tests.items()
        }
    )


def _keep(tests: Mapping[str, Backtest], wishes: Wishes, folder: Path) -> None:
    """Write every number and the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    _summaries(tests, wishes).rename_axis("metric").to_csv(folder / "summary.csv")
    returns = pd.DataFrame({name: test.returns for name, test in tests.items()})
    returns.rename_axis("date").to_csv(folder / "returns.csv")
    for name, test in tests.items():
        weights = test.weights.assign(turnover=test.turnover, cost=test.costs)
        file = f"weights-{name.partition(',')[0].replace(' ', '-')}.csv"
        weights.rename_axis("date").to_csv(folder / file)
    with style.context():
        save_figure(draw_backtest(tests, wishes.cost / 1e4), folder / "backtest")
