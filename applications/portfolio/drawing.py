"""Figures of a portfolio: the frontier it lies on, what is held along it, and a walk forward.

Each is a pure function of numbers; returns and volatilities come in as fractions a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from applications.portfolio.backtest import Backtest
from sciopt.bench.style import COLOURS, new_figure

NAMED = 9
"""Assets with a colour of their own; the others are one grey area."""
ALL_LABELLED = 60
"""Assets up to which those not held are labelled too."""
NEGLIGIBLE = 1e-3
"""Weight below which an asset is not shown."""
FEW_FOLD = 2.5
"""Wealth that has not grown by more is drawn on a linear axis, which has more ticks."""
PLACES = tuple(product((6, -6, 0), (0, 7, -7)))
"""Where a label may stand beside its point, in points of type, the first free one is taken."""


def draw_frontier(
    frontier: pd.DataFrame, assets: pd.DataFrame, chosen: tuple[float, float], title: str
) -> Figure:
    """The frontier, every asset by itself, and the portfolio chosen.

    Both tables have `volatility` and `return`, as has the pair; assets also have `weight`, and the
    heaviest are labelled first.
    """
    figure, axes = new_figure(panel=(6.4, 4.4))
    percent = 100 * frontier
    axes.plot(percent["volatility"], percent["return"], label="efficient frontier")
    held = assets["weight"].abs().to_numpy() > NEGLIGIBLE
    for marked, fill, label in (
        (held, COLOURS[1], "asset held"),
        (~held, "none", "asset not held"),
    ):
        if marked.any():
            axes.scatter(
                100 * assets.loc[marked, "volatility"],
                100 * assets.loc[marked, "return"],
                s=22,
                facecolors=fill,
                edgecolors=COLOURS[1],
                label=label,
            )
    point = 100 * chosen[0], 100 * chosen[1]
    axes.plot(*point, marker="*", markersize=14, color=COLOURS[2], linestyle="none", label=title)
    axes.set(xlabel="volatility, % a year", ylabel="expected return, % a year")
    axes.set_title("Efficient frontier and single assets")
    axes.margins(0.08)
    figure.legend(loc="outside lower center", ncols=2)
    labelled = assets if len(assets) <= ALL_LABELLED else assets.loc[held]
    _label_points(figure, axes, 100 * labelled.sort_values("weight", ascending=False), point)
    return figure


def _label_points(
    figure: Figure, axes: Axes, points: pd.DataFrame, star: tuple[float, float]
) -> None:
    """Names beside the points, each where nothing is covered; those without room are left out."""
    figure.draw_without_rendering()  # settles the layout, so that extents mean something
    pixels = axes.transData.transform(points[["volatility", "return"]].to_numpy())
    covered = [_around(pixel, 6) for pixel in pixels]
    covered.append(_around(axes.transData.transform(star), 18))
    frontier, *_ = axes.lines
    covered += [_around(place, 2) for place in axes.transData.transform(frontier.get_xydata())]
    for name, volatility, expected in zip(
        points.index, points["volatility"], points["return"], strict=True
    ):
        for x, y in PLACES:
            text = axes.annotate(
                str(name),
                (volatility, expected),
                (x, y),
                textcoords="offset points",
                ha={1: "left", -1: "right", 0: "center"}[int(np.sign(x))],
                va="center",
                fontsize="small",
            )
            extent = text.get_window_extent()
            inside = axes.bbox.containsx(extent.x0) and axes.bbox.containsx(extent.x1)
            if inside and not any(extent.overlaps(other) for other in covered):
                covered.append(extent)
                break
            text.remove()


def _around(pixel: np.ndarray, distance: float) -> Bbox:
    return Bbox([pixel - distance, pixel + distance])


def draw_allocation(
    weights: pd.DataFrame, volatility: Float[np.ndarray, " points"], chosen: float
) -> Figure:
    """Weights (points, assets) along the frontier, stacked; short positions below zero."""
    figure, axes = new_figure(panel=(6.4, 4.0))
    largest = weights.abs().max().sort_values(ascending=False, kind="stable")
    named = largest.index[:NAMED][largest.iloc[:NAMED] > NEGLIGIBLE]
    shown = weights[named]
    labels, colours = [str(name) for name in named], list(COLOURS[: len(named)])
    rest = weights.drop(columns=named)
    rest = rest[rest.columns[rest.abs().max() > NEGLIGIBLE]]
    parts = [*shown.to_numpy().T]
    if rest.shape[1]:
        parts.append(rest.sum(axis=1).to_numpy())
        labels.append(f"{rest.shape[1]} others")
        colours.append("lightgrey")
    percent = 100 * np.array(parts)
    x = 100 * np.asarray(volatility)
    areas = axes.stackplot(x, percent.clip(0), labels=labels, colors=colours, linestyle="-")
    if (percent < 0).any():
        axes.stackplot(x, percent.clip(max=0), colors=colours, linestyle="-")
        axes.axhline(0, color="black", linewidth=0.8, linestyle="-")
    line = axes.axvline(100 * chosen, color="black", label="chosen portfolio")
    axes.set(xlabel="volatility, % a year", ylabel="weight, %", title="Weights along the frontier")
    axes.margins(0)
    figure.legend(handles=[*areas, line], loc="outside right upper")
    return figure


def draw_backtest(tests: Mapping[str, Backtest], cost: float) -> Figure:
    """Wealth, drawdown and turnover of every strategy over the same dates."""
    figure, (wealth, drawdown, turnover) = new_figure(3, 1, panel=(7.0, 2.3))
    for number, (name, test) in enumerate(tests.items()):
        colour = COLOURS[number]
        wealth.plot(test.wealth(), label=name, color=colour, linewidth=1.2)
        drawdown.plot(100 * test.drawdown(), color=colour, linewidth=1)
        # The first purchase is the same for all and would dwarf the rest.
        turnover.plot(100 * test.turnover.iloc[1:], color=colour, linewidth=1, marker=".")
    wealth.set(
        ylabel="wealth, start = 1",
        title=f"Out of sample, {10_000 * cost:g} basis points paid on what is traded",
    )
    extent = pd.concat([test.wealth() for test in tests.values()])
    if extent.max() > FEW_FOLD * extent.min():
        wealth.set_yscale("log")
        wealth.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        wealth.yaxis.set_major_formatter("{x:g}")
        wealth.yaxis.set_minor_locator(NullLocator())
    drawdown.set(ylabel="drawdown, %")
    turnover.set(ylabel="turnover, % of wealth", xlabel="date (the first purchase is not shown)")
    for axes in (drawdown, turnover):
        axes.sharex(wealth)
    for axes in (wealth, drawdown):
        axes.tick_params(labelbottom=False)
    figure.legend(loc="outside lower center", ncols=len(tests))
    return figure
