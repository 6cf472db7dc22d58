"""The figure of trainings: the return of each episode, and the rate, over all seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciopt.bench.domain import Result
from sciopt.bench.statistics import bootstrap_interval, interquartile_mean
from sciopt.bench.style import new_figure

POINTS = 100
"""Of a drawn curve; between them it is the mean of the episodes since the point before."""


def draw_training(results: Sequence[Result], title: str) -> Figure:
    """Interquartile mean over the seeds with its 95 % bootstrap interval, and each seed pale.

    A seed that diverged counts from there on as the lowest return that any seed had; the curve ends
    with the shortest of the other seeds.
    """
    figure, (upper, lower) = new_figure(1, 2, panel=(4.2, 3.0))
    returns = _curves(results, "episode_returns", fill_lowest=True)
    _draw(upper, returns, len(results))
    _draw_evaluations(upper, results)
    upper.set(title=title, xlabel="episode", ylabel="episode return [reward]")
    _draw(lower, _curves(results, "rates", fill_lowest=False), len(results))
    lower.set(title="How far steps went", xlabel="episode", ylabel="rate, mean of the episode")
    if any(line.get_ydata().max(initial=0) > 0 for line in lower.get_lines()):
        lower.set_yscale("log")
    lost = sum(result.status.failed for result in results)
    if lost:
        upper.text(0.02, 0.02, f"{lost} of {len(results)} diverged", transform=upper.transAxes)
    if len(results) > 1:
        handles, labels = upper.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _curves(
    results: Sequence[Result], name: str, *, fill_lowest: bool
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "seeds points"]]:
    """Ends of POINTS stretches of episodes, and each seed's mean in each of them."""
    kept = [result.arrays[name] for result in results]
    whole = [len(k) for k, r in zip(kept, results, strict=True) if not r.status.failed]
    episodes = min(whole) if whole else max(map(len, kept))
    edges = np.unique(np.linspace(0, episodes, POINTS + 1).round().astype(int))
    lowest = min((k.min() for k in kept if len(k)), default=0.0) if fill_lowest else np.nan
    filled = np.full((len(kept), episodes), lowest)
    for row, values in zip(filled, kept, strict=True):
        row[: len(values)] = values[:episodes]
    if not episodes:
        return np.empty(0), np.empty((len(kept), 0))
    means = np.add.reduceat(filled, edges[:-1], axis=1) / np.diff(edges)
    return edges[1:].astype(float), means


def _draw(axes: Axes, curves: tuple[np.ndarray, np.ndarray], seeds: int) -> None:
    """One curve of the middle of the seeds, its interval, and those of the seeds behind it."""
    episodes, values = curves
    present = np.isfinite(values).all(0)
    episodes, values = episodes[present], values[:, present]
    if seeds == 1:
        axes.plot(episodes, values[0])
        return
    axes.plot(episodes, values.T, color="grey", alpha=0.3, linewidth=0.6, linestyle="-")
    (line,) = axes.plot(
        episodes,
        interquartile_mean(values, axis=0),
        color="C0",
        linestyle="-",
        label=f"interquartile mean of {seeds} seeds",
    )
    intervals = [bootstrap_interval(column[None]) for column in values.T]
    low, high = np.array(intervals).reshape(-1, 2).T
    axes.fill_between(
        episodes, low, high, color=line.get_color(), alpha=0.2, label="95 % bootstrap interval"
    )


def _draw_evaluations(axes: Axes, results: Sequence[Result]) -> None:
    """The evaluations made along the way, as points: the middle of the seeds that have one."""
    found: dict[int, list[float]] = {}
    for result in results:
        for record in result.records:
            if "evaluation_return" in record.metrics:
                found.setdefault(record.step, []).append(record.metrics["evaluation_return"])
    if found:
        steps = sorted(found)
        middle = [float(interquartile_mean(np.array(found[step]))) for step in steps]
        axes.plot(steps, middle, "o", color="C1", ms=3, label="evaluation")
