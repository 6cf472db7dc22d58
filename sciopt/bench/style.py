"""How figures look: colour-blind-safe colours, line style as a second cue, median and band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciopt.bench.domain import Result
from sciopt.bench.statistics import group_by, median

# petroff10 (Petroff 2021) was optimised for colour-vision deficiency.
COLOURS = mpl.color_sequences["petroff10"]
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS)
    + cycler(linestyle=[style for style, _ in zip(cycle(LINE_STYLES), COLOURS, strict=False)]),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.dpi": 150,
    "font.size": 9.0,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
    "svg.hashsalt": "sciopt",
}


def context() -> AbstractContextManager[None]:
    """The style, active while a figure is drawn; every `Claim.draw` is called inside it."""
    return mpl.rc_context(STYLE)


def new_figure(
    rows: int = 1, columns: int = 1, *, panel: tuple[float, float] = (3.6, 2.9)
) -> tuple[Figure, Any]:
    """A figure of rows x columns panels, each `panel` inches wide and high, outside pyplot.

    Returns the figure and its axes as `plt.subplots` would: one `Axes`, or an array of them.
    """
    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns)


def plot_curves(
    axes: Axes,
    results: Sequence[Result],
    metric: str,
    *,
    x: str = "seconds",
    label: Callable[[Result], str] = lambda result: result.run.method,
) -> None:
    """The metric along the curves: one line per label, median over seeds and a min-max band.

    `x` is "seconds" or "step". Between its points a run keeps its last value; after a failure
    it counts as infinite.
    """
    for name, group in group_by(results, label).items():
        grid = np.unique([getattr(r, x) for result in group for r in result.records])
        values = np.stack([_on_grid(result, metric, x, grid) for result in group])
        started = ~np.isnan(values).any(axis=0)
        grid, values = grid[started], values[:, started]
        (line,) = axes.plot(grid, median(values, axis=0), label=name)
        finite = np.isfinite(values).all(axis=0)  # a log axis cannot hold an infinite band
        if len(group) > 1 and finite.any():
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(
                grid, low, high, where=finite.tolist(), color=line.get_color(), alpha=0.15
            )


def _on_grid(result: Result, metric: str, x: str, grid: np.ndarray) -> np.ndarray:
    """The run's value at each grid point: NaN before its first record, infinite once failed."""
    places = np.array([getattr(record, x) for record in result.records])
    values = np.array([record.metrics[metric] for record in result.records])
    if result.status.failed:
        values[-1] = np.inf
    index = np.searchsorted(places, grid, side="right") - 1
    return np.where(index >= 0, values[index], np.nan)
