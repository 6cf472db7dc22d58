"""L5: Adam without memory follows the gradient's sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short
from applications.landscapes.problems import Slopes
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

STEPS, RATE = 10, 0.01
EXACT = 1e-15
SLOPES = np.array(Slopes().slopes)
NO_MEMORY = {"method.lr": (RATE,), "method.beta1": 0.0, "method.beta2": 0.0}
LABELS = ("Adam without memory, eps → 0", "Adam without memory, eps = 1e-8", "SGD")

RUNS = [
    Run("slopes", "adam", STEPS, overrides={**NO_MEMORY, "method.eps": 1e-300}),
    Run("slopes", "adam", STEPS, overrides=NO_MEMORY),
    Run("slopes", "sgd", STEPS, overrides={"method.lr": (RATE,)}),
]


def moves(result: Result) -> np.ndarray:
    """(steps, slopes): every move of every coordinate."""
    return np.diff(result.arrays["path"][:, 0, 0], axis=0)


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if every move is -lr sign(g) to round-off, over all decades of the gradient."""
    error = np.abs(moves(results[0]) + RATE * np.sign(SLOPES)).max()
    default = np.abs(moves(results[1]) / RATE + np.sign(SLOPES)).max()
    decades = np.log10(np.abs(SLOPES).max() / np.abs(SLOPES).min())
    numbers = {
        "greatest_error": float(error),
        "decades_of_the_gradient": float(decades),
        "greatest_relative_error_with_default_eps": float(default),
    }
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = (
        f"with betas (0, 0) and eps 1e-300 every move is -lr sign(g) to {error:.1e} over "
        f"{decades:.0f} decades of the gradient; at the default eps of 1e-8 the smallest gradient, "
        f"{np.abs(SLOPES).min():g}, is moved short by {default:.1%}"
    )
    return Verdict(Answer.HOLDS if error <= EXACT else Answer.FAILS, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """The length of a move against the gradient, and by how much it misses lr."""
    figure, (whole, missing) = new_figure(1, 2, panel=(4.4, 3.5))
    order = np.argsort(np.abs(SLOPES))
    sizes = np.abs(SLOPES)[order]
    for result, label, marker in zip(results, LABELS, ("o", "x", "."), strict=True):
        length = np.abs(moves(result)[0])[order] / RATE
        whole.plot(sizes, length, marker=marker, ms=4, label=label)
        if result.run.method == "adam":
            # Round-off of a move of exactly lr is drawn where it would begin to be seen.
            missing.plot(sizes, np.maximum(np.abs(1 - length), 1e-17), marker=marker, ms=4)
    for axes in (whole, missing):
        axes.set(xscale="log", yscale="log", xlabel="gradient |g|")
    whole.set(
        ylabel="length of a move / lr",
        title="Without memory Adam's move is lr,\nwhatever the gradient",
    )
    missing.axhline(EXACT / RATE, color="black", linewidth=1, linestyle=":")
    missing.annotate(
        "counted as equal below", (1e-6, EXACT / RATE), (0, 4), textcoords="offset points"
    )
    missing.set(
        ylabel="|1 - length of a move / lr|",
        title="The default eps shortens the moves\nof small gradients",
    )
    figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l5-sign-descent": Claim(
        says="Adam without memory (betas 0, eps to 0) is sign descent.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
