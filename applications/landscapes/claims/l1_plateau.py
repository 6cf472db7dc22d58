"""L1: one rate for all places fails on a plateau around a sharp basin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short, distance, steps_to_settle
from applications.landscapes.problems import PlateauBasin
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import COLOURS, new_figure

STEPS = 10_000
RATES = tuple(float(rate) for rate in np.logspace(-6, 6, 241))
FIXED = {"sgd": "SGD", "momentum": "SGD with momentum"}
ADAPTIVE = {"adagrad": "AdaGrad", "rmsprop": "RMSProp", "adam": "Adam"}
LABELS = FIXED | ADAPTIVE
LANDSCAPE = PlateauBasin()

RUNS = [Run("plateau-basin", method, STEPS, overrides={"method.lr": RATES}) for method in LABELS]


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if no rate of the fixed methods settles, and some of each adaptive one does."""
    by_method = {result.run.method: result for result in results}
    counts = {m: int((steps_to_settle(r) < np.inf).sum()) for m, r in by_method.items()}
    numbers: dict[str, float] = {f"{m}_rates_that_settle": float(counts[m]) for m in by_method}
    for method, result in by_method.items():
        numbers[f"{method}_fewest_steps"] = float(steps_to_settle(result).min())
    numbers["rates_tried"] = float(by_method["sgd"].arrays["lr"].size)
    numbers["sgd_final_distance_at_best"] = float(final_distance(by_method["sgd"]).min())
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    settled = {
        name: f"{counts[m]}" + (f" ({_range(by_method[m])})" if counts[m] else "")
        for m, name in LABELS.items()
    }
    because = (
        f"of {int(numbers['rates_tried'])} learning rates over twelve decades, so many reach the "
        f"minimum within {STEPS} steps and stay: "
        + ", ".join(f"{name} {count}" for name, count in settled.items())
    )
    if any(counts[method] for method in FIXED):
        return Verdict(Answer.FAILS, because, numbers)
    crossed = [method for method in ADAPTIVE if counts[method]]
    if len(crossed) == len(ADAPTIVE):
        return Verdict(Answer.HOLDS, because, numbers)
    answer = Answer.HOLDS_UNDER_CONDITIONS if crossed else Answer.FAILS
    return Verdict(answer, because, numbers)


def _range(result: Result) -> str:
    rates = result.arrays["lr"][steps_to_settle(result)[0] < np.inf]
    return f"lr {rates.min():.2g} to {rates.max():.2g}"


def final_distance(result: Result) -> np.ndarray:
    """Of each rate's descent to the minimum."""
    return distance(result, result.arrays["x"])[0]


def draw(results: Sequence[Result]) -> Figure:
    """Paths on the landscape, where each rate ends, and how soon it settles."""
    figure, ((plane, basin), (ends, steps)) = new_figure(2, 2, panel=(5.2, 3.9))
    edge = 2 / LANDSCAPE.sharpness
    for number, (colour, result) in enumerate(zip(COLOURS, results, strict=False)):
        method, rates = result.run.method, result.arrays["lr"]
        style: dict[str, Any] = {"color": colour, "linestyle": ":" if method in FIXED else "-"}
        for rate in _shown(result):
            path = result.arrays["path"][:, 0, rate]
            left = final_distance(result)[rate]
            label = f"{LABELS[method]}, lr {rates[rate]:.2g}: ends {left:.2g} away"
            plane.plot(*path.T, **style, label=label)
            near = path[_around(np.abs(path).max(-1) < 5 * LANDSCAPE.width)]
            basin.plot(*near.T, **style, marker="o", ms=3, linewidth=1.2)
        reached = steps_to_settle(result)[0]
        ends.plot(rates, final_distance(result), **style, label=LABELS[method])
        steps.plot(rates, reached, **style, marker="o", ms=2)
        never = np.where(np.isinf(reached), STEPS * 1.4 ** (number + 1), np.nan)
        steps.plot(rates, never, color=colour, linestyle="-", linewidth=3, solid_capstyle="butt")
    _draw_slope(figure, plane)
    _draw_basin(basin)
    plane.plot(*LANDSCAPE.start, "ws", ms=5, markeredgecolor="black")
    plane.annotate("start", LANDSCAPE.start, (6, -3), textcoords="offset points")
    plane.legend(loc="upper left", fontsize=7, frameon=True)
    tolerance = LANDSCAPE.tolerance * float(np.linalg.norm(LANDSCAPE.start))
    ends.axhline(tolerance, color="black", linewidth=1, linestyle="--")
    offset: dict[str, Any] = {"textcoords": "offset points"}
    ends.annotate("at the minimum", (1e6, tolerance), (0, -10), ha="right", **offset)
    steps.axhline(STEPS, color="black", linewidth=1, linestyle="--")
    top = STEPS * 1.4 ** (len(results) + 2)
    steps.annotate("bars: rates that never do", (1e6, top), (0, -6), ha="right", **offset)
    for axes in (ends, steps):
        axes.axvline(edge, color="grey", linewidth=1)
        axes.set(xscale="log", yscale="log", xlim=(RATES[0], RATES[-1]), xlabel="learning rate")
    ends.annotate("2 / sharpness", (edge, 1e-5), (-3, 0), fontsize=7, ha="right", **offset)
    ends.set(
        ylim=(1e-6, 1e6),
        ylabel=f"final distance, {results[0].last.step} steps",
        title="Where each learning rate ends: SGD creeps,\n"
        "or cannot stay, which it can below 2 / sharpness",
    )
    steps.set(
        ylim=(50, top),
        ylabel="steps until there for good",
        title="How soon each learning rate settles at the minimum",
    )
    figure.legend(*ends.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _shown(result: Result) -> list[int]:
    """Rates whose paths are drawn: SGD's largest stable one and one fit for the plateau; best."""
    method, rates = result.run.method, result.arrays["lr"]
    if method in ADAPTIVE:
        return [int(np.argmin(steps_to_settle(result)[0]))]
    if method == "sgd":
        stable = int(np.searchsorted(rates, 2 / LANDSCAPE.sharpness)) - 1
        return [stable, int(np.searchsorted(rates, 0.2))]
    return []


def _around(inside: np.ndarray) -> np.ndarray:
    """Places of points inside and of their neighbours, up to 200: the rest lies on the minimum."""
    places = np.flatnonzero(inside | np.roll(inside, 1) | np.roll(inside, -1))
    return places[:200]


def _draw_slope(figure: Figure, axes: Axes) -> None:
    """The size of the gradient, which is what tells a plateau from a basin."""
    low, high = -4.0, 12.0
    side = np.linspace(low, high, 161)
    points = torch.tensor(np.stack(np.meshgrid(side, side), axis=-1)).requires_grad_()
    (gradient,) = torch.autograd.grad(LANDSCAPE.loss(points, 1).sum(), points)
    slope = gradient.norm(dim=-1).clamp(min=1e-3, max=1e2)
    filled = axes.contourf(
        side, side, slope, np.logspace(-3, 2, 11), norm=LogNorm(1e-3, 1e4), cmap="Greys"
    )
    bar = figure.colorbar(filled, ax=axes, label="slope |∇f|", shrink=0.9)
    bar.set_ticks([1e-3, 1e-2, 1e-1, 1, 10, 100])
    axes.grid(False)
    axes.set_aspect("equal")
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        xlabel="x",
        ylabel="y",
        title="Paths over the plateau: the slope falls\nby a million from the basin to the start",
    )


def _draw_basin(axes: Axes) -> None:
    """The basin, by contours of the loss."""
    half = 4 * LANDSCAPE.width
    side = np.linspace(-half, half, 121)
    loss = LANDSCAPE.loss(torch.tensor(np.stack(np.meshgrid(side, side), axis=-1)), 1).numpy()
    top = LANDSCAPE.sharpness * LANDSCAPE.width**2 / 2
    lines = axes.contour(
        side, side, loss, top * np.array([0.1, 0.3, 0.5, 0.7, 0.8, 0.9]), colors="0.6", linewidths=1
    )
    axes.clabel(lines, fmt="%g", fontsize=7)
    axes.grid(False)
    axes.set_aspect("equal")
    axes.set(
        xlim=(-half, half),
        ylim=(-half, half),
        xlabel="x",
        ylabel="y",
        title=f"The same in the basin (contours of the loss, {top:g} on the\nplateau): "
        "adaptive paths end at the minimum",
    )


CLAIMS: Mapping[str, Claim] = {
    "l1-plateau-and-basin": Claim(
        says="No fixed learning rate crosses a plateau and settles in the sharp basin behind it; "
        "adaptive rates do both.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    )
}
