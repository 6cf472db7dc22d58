"""L9: how a rate follows the size of the gradient that it divides by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

STEPS, RATE = 100, 0.01
GRADIENTS = tuple(float(f"{10.0**power:.3g}") for power in np.linspace(-4, 4, 17))
EXPECTED = {"sgd": 0.0, "adagrad": -1.0, "rmsprop": -1.0, "adam": -1.0}
LABELS = {"sgd": "SGD", "adagrad": "AdaGrad", "rmsprop": "RMSProp", "adam": "Adam"}
# eps = 1e-8 beside a gradient of 1e-4 bends the line by that much at its end.
EXACT = 1e-3

RUNS = [
    Run(
        "slopes",
        method,
        STEPS,
        overrides={"method.lr": (RATE,), "problem.slopes": GRADIENTS, "problem.factor": 1.0},
    )
    for method in EXPECTED
]


def rates(result: Result) -> np.ndarray:
    """Each coordinate's rate in the last step, without the learning rate."""
    return result.arrays["step_size"][-1, 0, 0] / RATE


def slope(result: Result) -> float:
    """Of log rate over log gradient, by least squares."""
    return float(np.polyfit(np.log(GRADIENTS), np.log(rates(result)), 1)[0])


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if every slope is the one expected."""
    slopes = {result.run.method: slope(result) for result in results}
    decades = np.log10(max(GRADIENTS) / min(GRADIENTS))
    numbers = {f"{method}_slope": value for method, value in slopes.items()}
    numbers["decades"] = float(decades)
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    listed = ", ".join(f"{LABELS[method]} {value:.4f}" for method, value in slopes.items())
    because = f"slopes of log rate over log |gradient|, {decades:.0f} decades: {listed}"
    right = all(abs(slopes[method] - value) <= EXACT for method, value in EXPECTED.items())
    return Verdict(Answer.HOLDS if right else Answer.FAILS, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """Rate against gradient."""
    figure, axes = new_figure(1, 1, panel=(5.6, 4.2))
    for result, marker in zip(results, "osx+", strict=True):
        method = result.run.method
        label = f"{LABELS[method]}: slope {slope(result):.3f}"
        axes.plot(GRADIENTS, rates(result), marker=marker, ms=4, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="gradient |g| of the coordinate",
        ylabel=f"rate after {results[0].last.step} steps",
        title="Adaptive rates undo the gradient's size",
    )
    axes.legend(loc="upper right")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l9-rate-slope": Claim(
        says="An adaptive rate falls as the inverse of the gradient's size, over eight decades of "
        "it, and that of SGD not at all.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
