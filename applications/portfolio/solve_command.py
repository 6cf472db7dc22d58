"""`python -m applications.portfolio solve`: weights for a file of prices, with their certificate.

python -m applications.portfolio solve prices.csv --objective maximum-sharpe --max-weight 0.2
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from applications.portfolio.command_options import (
    GroupOptions,
    PriceOptions,
    frequency_notices,
    in_words,
    read_covariance,
    read_expected_returns,
    read_groups,
    read_returns,
    read_weights,
    tell,
)
from applications.portfolio.drawing import draw_allocation, draw_frontier
from applications.portfolio.wishes import (
    TARGETS,
    WEIGHS_COSTS,
    Chosen,
    InvalidWishesError,
    Wishes,
    choose,
    estimator_of,
)
from sciopt.bench import Domain, style
from sciopt.bench.cli import names_first
from sciopt.bench.figures import save_figure

if TYPE_CHECKING:
    from applications.portfolio.estimator import MeanVariance

OBJECTIVES = {
    "utility": "return less the price of its variance",
    "minimum-variance": "variance",
    "target-return": "variance",
    "target-risk": "return",
    "maximum-sharpe": "Sharpe ratio",
}
SHOWN = 5e-5
"""Weight from which an asset counts as held."""
NO_RISK = 1e-12
"""Share of the assets' mean variance below which a portfolio's is round-off."""
MOST_ROWS = 40
"""Of a table."""
POINTS = 100
"""Of the frontier that is drawn."""


@dataclass(frozen=True)
class SolveOptions:
    """Which prices, which portfolio, and where the answer goes."""

    portfolio: tyro.conf.OmitArgPrefixes[Wishes] = field(default_factory=Wishes)
    groups: tyro.conf.OmitArgPrefixes[GroupOptions] = field(default_factory=GroupOptions)
    prices: tyro.conf.OmitArgPrefixes[PriceOptions] = field(default_factory=PriceOptions)
    held: Path | None = None
    """CSV with the columns asset and weight: what is held now, from which trades are counted"""
    expected_returns: Path | None = None
    """CSV with the columns asset and return: what each is expected to return a year, instead of the
    sample's mean; 0.08 is 8 %"""
    out: Path = Path("portfolio")
    """folder of weights.csv and the figures"""


def solve(domain: Domain, arguments: list[str]) -> None:
    """PRICES.csv [options]: the portfolio of an objective, its certificate and its frontier.

    Raises:
        InvalidRunError: prices, wishes or files that cannot work, in words.
    """
    names = names_first(arguments, ["PRICES"], "solve")
    prog = f"applications.{domain.name} solve PRICES.csv"
    options = tyro.cli(SolveOptions, args=arguments, prog=prog)
    console = Console()
    wishes = options.portfolio
    with in_words():
        wishes.check()
        if wishes.cost and wishes.objective not in WEIGHS_COSTS:
            raise InvalidWishesError(
                f"--cost has no place in {wishes.objective}, which does not weigh returns; "
                f"choose --objective {', '.join(WEIGHS_COSTS)}"
            )
        checked = read_returns(Path(names[0]), options.prices)
        asset_returns, year = checked.asset_returns, wishes.periods_per_year
        assets = [str(asset) for asset in asset_returns.columns]
        covariance, notices = read_covariance(options.groups, assets)
        held = None if options.held is None else read_weights(options.held, assets)
        expected = None
        if options.expected_returns is not None:
            expected = read_expected_returns(options.expected_returns, assets) / year
        frequency = frequency_notices(asset_returns, year)
        tell(console, [*checked.notices, *frequency, *notices])
        estimator = estimator_of(
            wishes,
            assets,
            groups=read_groups(options.groups, assets),
            held=held,
            expected=expected,
            covariance=covariance,
        )
        chosen = choose(asset_returns, estimator, wishes)
    _print(console, names[0], asset_returns, options, chosen, held)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = pd.DataFrame({"asset": chosen.assets, "weight": chosen.weights})
    weights.to_csv(options.out / "weights.csv", index=False)
    with style.context():
        for name, figure in _figures(wishes, chosen, asset_returns, estimator).items():
            save_figure(figure, options.out / name)
    console.print(f"weights and figures: {options.out}", soft_wrap=True, highlight=False)


def _print(
    console: Console,
    file: str,
    asset_returns: pd.DataFrame,
    options: SolveOptions,
    chosen: Chosen,
    held: np.ndarray | None,
) -> None:
    """The weights, what they are expected to do, and the proof that there are no better ones."""
    wishes = options.portfolio
    dates = asset_returns.index
    console.print(
        f"{file}: {asset_returns.shape[1]} assets, {len(dates)} returns, {dates[0]:%Y-%m-%d} to "
        f"{dates[-1]:%Y-%m-%d}; {wishes.periods_per_year:g} a year",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_weights_table(wishes, chosen, held))
    console.print(_summary_table(options, chosen, held))
    active = list(_active(wishes, chosen))
    if not active:
        return
    table = Table("constraint", "multiplier", title="what holds it back", title_justify="left")
    table.columns[1].justify = "right"
    for name, multiplier in active[:MOST_ROWS]:
        table.add_row(name, f"{multiplier:.3e}")
    console.print(table)
    console.print(
        f"multiplier: what the objective, {OBJECTIVES[wishes.objective]} per period, would gain "
        "for each unit of room",
        highlight=False,
    )


def _weights_table(wishes: Wishes, chosen: Chosen, held: np.ndarray | None) -> Table:
    """Every asset held or traded, the heaviest first."""
    table = Table("asset", "weight", title=title_of(wishes), title_justify="left")
    for head in () if held is None else ("held", "trade"):
        table.add_column(head)
    for head in ("mean", "volatility", "share of risk"):
        table.add_column(head)
    for column in table.columns[1:]:
        column.justify = "right"
    weights, year = chosen.weights, wishes.periods_per_year
    before = np.zeros_like(weights) if held is None else held
    after = [
        100 * year * chosen.mean,
        100 * np.sqrt(year * np.diag(chosen.covariance)),
        100 * weights * (chosen.covariance @ weights) / (chosen.variance or np.nan),
    ]
    shown = np.maximum(np.abs(weights), np.abs(before)) > SHOWN
    order = [k for k in np.argsort(-weights, kind="stable") if shown[k]]
    for k in order[:MOST_ROWS]:
        row = [chosen.assets[k], f"{100 * weights[k]:.2f}"]
        if held is not None:
            row += [f"{100 * before[k]:.2f}", f"{100 * (weights[k] - before[k]):+.2f}"]
        table.add_row(*row, *(f"{values[k]:.2f}" for values in after))
    table.caption = "percent; mean and volatility a year"
    if others := len(weights) - min(len(order), MOST_ROWS):
        table.caption += f"\n{others} more assets in weights.csv"
    return table


def _summary_table(options: SolveOptions, chosen: Chosen, held: np.ndarray | None) -> Table:
    """What is expected a year, and the certificate."""
    wishes = options.portfolio
    table = Table(show_header=False, title="what it promises", title_justify="left")
    year, solution = wishes.periods_per_year, chosen.solution
    expected, volatility = year * chosen.expected_return, (year * chosen.variance) ** 0.5
    source = options.expected_returns or f"the sample mean times {year:g}"
    table.add_row("expected return", f"{expected:.2%} a year, {source}")
    table.add_row("volatility", f"{volatility:.2%} a year, times the root of {year:g}")
    if chosen.variance > NO_RISK * chosen.covariance.diagonal().mean():
        ratio = f"{(expected - wishes.risk_free) / volatility:.3f}"
    else:
        ratio = "none, for want of risk,"
    table.add_row("Sharpe ratio", f"{ratio} at {wishes.risk_free:.2%} interest")
    if held is not None:
        turnover = float(np.abs(chosen.weights - held).sum())
        paid = turnover * wishes.cost / 1e4
        table.add_row("traded", f"{turnover:.2%} of wealth, for {paid:.3%} of it")
    table.add_row("duality gap", f"{solution.gap:.1e}: no portfolio is better by more")
    table.add_row("relative gap", f"{solution.relative_gap:.1e}")
    table.add_row("constraint violation", f"{solution.residual:.1e}")
    return table


def _active(wishes: Wishes, chosen: Chosen) -> Iterator[tuple[str, float]]:
    """The limits and largest weights that the portfolio would break if it might."""
    names = {"min_return": f"{TARGETS['target-return']} >= {wishes.target or 0:.2%} a year"}
    for name, multiplier in chosen.solution.multipliers.items():
        if multiplier and name not in ("budget", "variance"):
            yield names.get(name, name), abs(multiplier)
    multipliers = chosen.solution.reduced_cost.abs().tolist()
    for k in np.argsort(multipliers)[::-1]:
        if multipliers[k] and chosen.weights[k] == wishes.max_weight:
            yield f"{chosen.assets[k]} <= {wishes.max_weight:g}", multipliers[k]
        elif multipliers[k] and wishes.min_weight:
            yield f"{chosen.assets[k]} >= {wishes.min_weight:g}", multipliers[k]


def title_of(wishes: Wishes) -> str:
    """The objective with its number."""
    if wishes.objective == "utility":
        return f"utility, risk aversion {wishes.risk_aversion:g}"
    if wishes.target is not None:
        return f"{wishes.objective} {100 * wishes.target:.4g}% a year"
    return wishes.objective


def _figures(
    wishes: Wishes, chosen: Chosen, asset_returns: pd.DataFrame, estimator: MeanVariance
) -> dict[str, Figure]:
    """The frontier under the same constraints and costs, and the weights along it."""
    from skfolio.optimization import ObjectiveFunction

    # From least variance on, up to the riskiest asset's volatility.
    riskiest = max(chosen.covariance.diagonal().max(), chosen.variance)
    along = estimator.set_params(
        objective_function=ObjectiveFunction.MINIMIZE_RISK,
        efficient_frontier_size=POINTS,
        min_return=None,
        max_variance=riskiest,
    )
    weights = np.asarray(along.fit(asset_returns).weights_)
    year, covariance = wishes.periods_per_year, chosen.covariance
    variances = np.einsum("pi,ij,pj->p", weights, covariance, weights)
    volatility = np.sqrt(year * variances.clip(0))  # round-off may make them negative
    expected = year * weights @ chosen.mean
    frontier = pd.DataFrame({"volatility": volatility, "return": expected})
    assets = pd.DataFrame(
        {
            "volatility": np.sqrt(year * np.diag(covariance)),
            "return": year * chosen.mean,
            "weight": chosen.weights,
        },
        chosen.assets,
    )
    point = (year * chosen.variance) ** 0.5, year * chosen.expected_return
    return {
        "frontier": draw_frontier(frontier, assets, point, title_of(wishes)),
        "allocation": draw_allocation(
            pd.DataFrame(weights, columns=list(chosen.assets)), volatility, point[0]
        ),
    }
