"""L2: steps of a fixed length cannot settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short, distance
from applications.landscapes.problems import Quadratic
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import COLOURS, new_figure

STEPS = 4000
RATES = (0.1, 0.03, 0.01)
EXACT = 1e-9
LINE = {"problem.start": (1.234,), "problem.condition": (1.0,)}
VALLEY = {"problem.start": (3.0, 2.0), "problem.condition": (10.0,), "problem.sharpness": 10.0}

RUNS = [
    Run("quadratic", method, STEPS, overrides={**place, "method.lr": RATES})
    for place, method in ((LINE, "normalized-sgd"), (VALLEY, "normalized-sgd"), (VALLEY, "sgd"))
]


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if the last two steps undo one another, each as long as the learning rate."""
    numbers: dict[str, float] = {}
    for name, result in zip(("line", "valley"), results, strict=False):
        gap, back, along = cycle(result)
        numbers[f"{name}_gap_error"] = float(np.abs(gap - 1).max())
        numbers[f"{name}_return_error"] = float(back.max())
        numbers[f"{name}_gap_along_greatest_curvature"] = float(along.min())
    numbers["sgd_final_distance"] = float(distance(results[2], results[2].arrays["x"]).max())
    numbers["normalised_mean_distance"] = float(
        distance(results[1], results[1].arrays["path"][-2:]).mean(0).min()
    )
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = (
        f"after {STEPS} steps every descent is in a two-cycle: in units of the learning rate the "
        f"gap is 1 to {max(numbers['line_gap_error'], numbers['valley_gap_error']):.0e} and the "
        "second step returns to "
        f"{max(numbers['line_return_error'], numbers['valley_return_error']):.0e}; "
        f"{numbers['valley_gap_along_greatest_curvature']:.6f} of the gap is along the eigenvector "
        f"of the greatest curvature; SGD at the same rates is {numbers['sgd_final_distance']:.0e} "
        "from the minimum"
    )
    exact = all(
        numbers[f"{name}_{error}_error"] <= EXACT
        for name in ("line", "valley")
        for error in ("gap", "return")
    )
    aligned = numbers["valley_gap_along_greatest_curvature"] >= 1 - EXACT
    return Verdict(Answer.HOLDS if exact and aligned else Answer.FAILS, because, numbers)


def cycle(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per rate: gap and return error of the last steps over lr, part along the last axis."""
    before, between, last = result.arrays["path"][-3:, 0]
    rates = result.arrays["lr"]
    gap = np.linalg.norm(last - between, axis=-1)
    back = np.linalg.norm(last - before, axis=-1)
    return gap / rates, back / rates, np.abs((last - between)[:, -1]) / gap


def draw(results: Sequence[Result]) -> Figure:
    """The end of a path in the valley, and distances over the steps."""
    figure, (plane, course) = new_figure(1, 2, panel=(4.8, 3.8))
    problem = Quadratic(start=(3.0, 2.0), condition=(10.0,), sharpness=10.0)
    x, y = np.meshgrid(np.linspace(-0.2, 0.8, 101), np.linspace(-0.15, 0.15, 101))
    loss = problem.loss(torch.tensor(np.stack([x, y], axis=-1)), 1).numpy()
    plane.contour(x, y, loss, np.geomspace(1e-3, 1, 10), colors="0.7", linewidths=0.6)
    normalised, sgd = results[1], results[2]
    plane.plot(*normalised.arrays["path"][:200, 0, 0].T, marker="o", ms=3, linewidth=0.8)
    ends = normalised.arrays["path"][-2:, 0, 0]
    plane.annotate("", ends[0], ends[1], arrowprops={"arrowstyle": "<->", "color": "black"})
    gap = f"gap {np.linalg.norm(ends[1] - ends[0]):.10g}"
    plane.annotate(gap, ends.mean(0), (-6, 0), textcoords="offset points", ha="right", va="center")
    plane.set(
        xlim=(-0.2, 0.8),
        ylim=(-0.15, 0.15),
        xlabel="x (curvature 1)",
        ylabel="y (curvature 10)",
        title="Contours of the loss: the normalised gradient, lr 0.1,\n"
        "ends in a two-cycle along the greatest curvature",
    )
    # Every step at first, then about a hundred a decade.
    shown = np.unique(np.geomspace(1, len(normalised.arrays["path"]) - 1, 300).astype(int))
    steps = normalised.arrays["path_steps"][shown]
    for rate, colour in enumerate(COLOURS[: len(RATES)]):
        lr = RATES[rate]
        here, before = (
            distance(normalised, normalised.arrays["path"][shown - back, 0, rate])
            for back in (0, 1)
        )
        low, high = np.minimum(here, before), np.maximum(here, before)
        course.fill_between(steps, low, high, color=colour, alpha=0.3, linewidth=0)
        course.plot(steps, high, "-", color=colour, lw=1.2, label=f"normalised, lr {lr:g}")
        course.plot(steps, low, "-", color=colour, lw=1.2)
        away = distance(sgd, sgd.arrays["path"][shown, 0, rate])
        course.plot(steps, away, ":", color=colour, lw=1.2, label=f"SGD, lr {lr:g}")
        course.axhline(lr / 2, color=colour, linewidth=0.6, linestyle="--")
    course.set(
        xscale="log",
        yscale="log",
        ylim=(1e-8, 10),
        xlabel="step",
        ylabel="distance to the minimum",
        title="Bands: the two ends of the cycle, lr apart,\naround lr / 2 (dashed); SGD converges",
    )
    figure.legend(*course.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l2-two-cycle": Claim(
        says="A normalised gradient never settles: at a constant rate it ends in a two-cycle "
        "whose gap is exactly the learning rate.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
