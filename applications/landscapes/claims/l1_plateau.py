"""L1: one rate for all places fails on a plateau around a sharp basin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    figure, (plane, ends, steps) = new_figure(1, 3, panel=(4.0, 3.7))
    edge = 2 / LANDSCAPE.sharpness
    for colour, result in zip(COLOURS, results, strict=False):
        method, rates = result.run.method, result.arrays["lr"]
        style = {"color": colour, "linestyle": ":" if method in FIXED else "-"}
        if method == "sgd":
            # The largest stable rate, and one that leaves the plateau.
            shown = [int(np.searchsorted(rates, edge)) - 1, int(np.searchsorted(rates, 0.2))]
        else:
            shown = [int(np.argmin(steps_to_settle(result)[0]))] if method in ADAPTIVE else []
        for rate in shown:
            label = f"{LABELS[method]}, lr {rates[rate]:.2g}"
            path = result.arrays["path"][:, 0, rate]
            plane.plot(*path.T, **style, marker="o", ms=2.5, linewidth=1, label=label)
        ends.plot(rates, final_distance(result), **style, label=LABELS[method])
        steps.plot(rates, steps_to_settle(result)[0], **style, marker="o", ms=2)
    _draw_slope(figure, plane)
    plane.legend(loc="lower right", fontsize=7, frameon=True)
    tolerance = LANDSCAPE.tolerance * float(np.linalg.norm(LANDSCAPE.start))
    ends.axhline(tolerance, color="black", linewidth=1, linestyle="--")
    ends.axvline(edge, color="grey", linewidth=1)
    offset = {"textcoords": "offset points"}
    ends.annotate("settled below", (1e6, tolerance), (0, -10), ha="right", **offset)
    ends.annotate("2 /\nsharpness", (edge, 1e-5), (-2, 0), ha="right", fontsize=7, **offset)
    for axes in (ends, steps):
        axes.set(xscale="log", yscale="log", xlim=(RATES[0], RATES[-1]), xlabel="learning rate")
    ends.set(
        ylim=(1e-6, 1e6),
        ylabel=f"distance to the minimum after {results[0].last.step} steps",
        title="No fixed rate ends at the minimum: below\n2 / sharpness slow, above it thrown out",
    )
    steps.set(
        ylim=(10, STEPS),
        ylabel="steps until the minimum is reached for good",
        title="Adaptive rates reach it,\nover two decades of the learning rate",
    )
    figure.legend(*ends.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _draw_slope(figure: Figure, axes: Axes) -> None:
    """The size of the gradient, which is what tells a plateau from a basin."""
    side = np.linspace(-4, 10, 141)
    points = torch.tensor(np.stack(np.meshgrid(side, side), axis=-1)).requires_grad_()
    (gradient,) = torch.autograd.grad(LANDSCAPE.loss(points, 1).sum(), points)
    slope = gradient.norm(dim=-1).clamp(min=1e-3)
    mesh = axes.pcolormesh(
        side, side, slope, norm=LogNorm(1e-3, 1e2), cmap="Greys", rasterized=True, zorder=0
    )
    figure.colorbar(mesh, ax=axes, label="slope |∇f|", shrink=0.8)
    axes.plot(*LANDSCAPE.start, "ws", ms=5, markeredgecolor="black")
    axes.grid(False)
    axes.set_aspect("equal")
    axes.set(
        xlim=(-4, 10),
        ylim=(-4, 10),
        xlabel="x",
        ylabel="y",
        title="A plateau around a sharp basin:\nSGD creeps, or is thrown out of the picture",
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
