"""All methods on markets of 50 to 1000 assets: seconds to an accuracy, each by its certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from applications.portfolio.claims.reading import (
    CERTIFIED,
    LEAST_DRAWN,
    LOOKS,
    answer_of,
    cut_short,
)
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import final_scores, group_by, median
from sciopt.bench.style import new_figure

ASSETS = (50, 200, 500, 1000)
CURVES_AT = 500  # assets
DRAWS = 3  # markets of each size
ACCURATE = 1e-6  # relative duality gap
TIGHT = "clarabel, tolerance 1e-10"

METHODS: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    "active-set": ("active-set", 1, {}),
    "fista": ("fista", 5000, {}),
    "projected-adam": ("projected-adam", 2000, {}),
    "softmax-adam": ("softmax-adam", 10_000, {"method.decay_steps": 10_000}),
    "clarabel": ("clarabel", 1, {}),
    TIGHT: ("clarabel", 1, {"method.tolerance": 1e-10}),
}
"""Method, steps and settings by the name in verdict and figure."""
LABELS = {
    "active-set": "active set",
    "fista": "FISTA",
    "projected-adam": "Adam, metric projection",
    "softmax-adam": "Adam on softmax logits",
    "clarabel": "CVXPY + Clarabel",
    TIGHT: "CVXPY + Clarabel, tolerance 1e-10",
}

Cell = tuple[str, int]
"""Name of the method, number of assets."""

ALL = [(name, assets, draw) for assets in ASSETS for draw in range(DRAWS) for name in METHODS]
RUNS = [
    Run(
        "synthetic",
        METHODS[name][0],
        METHODS[name][1],
        overrides={"problem.assets": assets, "problem.draw": draw, **METHODS[name][2]},
    )
    for name, assets, draw in ALL
]


def by_cell(results: Sequence[Result]) -> dict[Cell, list[Result]]:
    """Results of one method on markets of one size, the order being that of `RUNS`."""
    where = {id(result): cell[:2] for result, cell in zip(results, ALL, strict=True)}
    return group_by(results, lambda result: where[id(result)])


def seconds_to(result: Result, gap: float) -> float:
    """When the curve first has a relative gap of `gap` or less; infinity if it never has."""
    reached = [record.seconds for record in result.records if record.metrics["relative_gap"] <= gap]
    return min(reached, default=np.inf) if not result.status.failed else np.inf


def judge(results: Sequence[Result]) -> Verdict:
    """Holds at each number of assets where the active set is exact and before all others."""
    cells = by_cell(results)
    seconds = {
        cell: float(median(np.array([seconds_to(result, ACCURATE) for result in group])))
        for cell, group in cells.items()
    }
    numbers: dict[str, float] = {}
    met = []
    for assets in ASSETS:
        gap = final_scores(cells["active-set", assets], "relative_gap").max()
        others = [seconds[name, assets] for name in METHODS if name != "active-set"]
        met.append(bool(gap <= CERTIFIED and seconds["active-set", assets] < min(others)))
        numbers[f"{assets} assets: active set: worst relative gap"] = gap
        for name in METHODS:
            where = f"{assets} assets: {LABELS[name]}"
            numbers[f"{where}: seconds to a relative gap of {ACCURATE:g}"] = seconds[name, assets]
    if short := cut_short(results, RUNS):
        return Verdict(Answer.UNDECIDED, short, numbers)
    where = [str(assets) for assets, holds in zip(ASSETS, met, strict=True) if holds]
    because = (
        f"exact to {CERTIFIED:g} and first to a relative gap of {ACCURATE:g} with "
        f"{', '.join(where) or 'no number of'} assets; times its seconds: "
        + "; ".join(
            f"{LABELS[name]} {_ratios(seconds, name)}" for name in METHODS if name != "active-set"
        )
    )
    return Verdict(answer_of(met), because, numbers)


def _ratios(seconds: Mapping[Cell, float], name: str) -> str:
    """The method's seconds over the active set's, at each number of assets."""
    found = []
    for assets in ASSETS:
        own, first = seconds[name, assets], seconds["active-set", assets]
        found.append(f"{own / first:.2g}" if np.isfinite(own) else "never")
    return "never" if set(found) == {"never"} else ", ".join(found)


def draw(results: Sequence[Result]) -> Figure:
    """The gap against seconds at one size, and seconds to an accuracy against size."""
    figure, (curves, times) = new_figure(1, 2, panel=(4.6, 3.8))
    cells = by_cell(results)
    for name in METHODS:
        draw_curve(curves, cells[name, CURVES_AT][0], name)
        draw_times(times, [cells[name, assets] for assets in ASSETS], name)
    curves.axhline(ACCURATE, color="grey", linewidth=1, linestyle="-")
    curves.set(
        xscale="log",
        yscale="log",
        xlabel="seconds, one core",
        ylabel="relative duality gap",
        title=f"one market of {CURVES_AT} assets",
    )
    times.set(
        xscale="log",
        yscale="log",
        xlabel="assets",
        ylabel="seconds, one core",
        title=f"until the gap is {ACCURATE:g}, median of {DRAWS} markets",
        xticks=ASSETS,
        xticklabels=[str(assets) for assets in ASSETS],
    )
    times.minorticks_off()
    handles, labels = curves.get_legend_handles_labels()
    never = Line2D([], [], color="grey", marker="$?$", markersize=9, linestyle="none")
    figure.legend(
        [*handles, never],
        [*labels, f"never at {ACCURATE:g}: seconds until it ended"],
        loc="outside lower center",
        ncols=3,
    )
    return figure


def look(name: str) -> dict[str, Any]:
    """Line and marker; those of Clarabel at its tight tolerance are grey."""
    return {"color": "grey", "marker": "D", "markersize": 4} if name == TIGHT else {**LOOKS[name]}


def draw_curve(axes: Axes, result: Result, name: str) -> None:
    """The gap along one run; a direct method is one point."""
    gaps = [max(record.metrics["relative_gap"], LEAST_DRAWN) for record in result.records]
    seconds = [record.seconds for record in result.records]
    axes.plot(seconds, gaps, label=LABELS[name], linestyle="-", markevery=[-1], **look(name))


def draw_times(axes: Axes, groups: Sequence[Sequence[Result]], name: str) -> None:
    """Median seconds against assets; a question mark where the accuracy is never reached."""
    reached = np.array(
        [median(np.array([seconds_to(result, ACCURATE) for result in group])) for group in groups]
    )
    ended = np.array([median(np.array([r.last.seconds for r in group])) for group in groups])
    never = np.isinf(reached)
    axes.plot(ASSETS, np.where(never, np.nan, reached), linestyle="-", **look(name))
    unreached = {**look(name), "marker": "$?$", "markersize": 9}
    axes.plot(np.array(ASSETS)[never], ended[never], **unreached, linestyle="none")


CLAIMS: Mapping[str, Claim] = {
    "time-to-accuracy": Claim(
        says=f"The active set is exact, and first to a relative duality gap of {ACCURATE:g} on "
        f"markets of {ASSETS[0]} to {ASSETS[-1]} assets.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    ),
}
