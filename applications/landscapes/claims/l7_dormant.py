"""L7: what a parameter does that had no gradient for long, and then has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

BETA1, BETA2 = 0.9, 0.999
DENSE = tuple(range(201))
WIDE = (0, 9, 99, 999, 9999)
LONG, AFTER = 12_000, 60
SPIKE_AFTER, SKIPPED = 300, 1000
UNIT = {"method.lr": (1.0,), "method.eps": 1e-200}

RUNS = [
    Run("dormant", "adam", len(DENSE), overrides={**UNIT, "problem.dormant_steps": DENSE}),
    Run("dormant", "adam", max(WIDE) + 1, overrides={**UNIT, "problem.dormant_steps": WIDE}),
    Run("dormant", "adam", LONG + AFTER, overrides={**UNIT, "problem.dormant_steps": (LONG,)}),
    Run(
        "dormant",
        "adam",
        LONG + SPIKE_AFTER,
        overrides={**UNIT, "problem.dormant_steps": (LONG,), "problem.lasting": False},
    ),
    Run(
        "dormant",
        "adam",
        SKIPPED + 1,
        overrides={**UNIT, "problem.dormant_steps": (SKIPPED,), "problem.skipped": True},
    ),
]
ASKED = [run.max_steps for run in RUNS]


def predicted_first_step(dormant: np.ndarray) -> np.ndarray:
    """(1-b1)/sqrt(1-b2) · sqrt(1-b2^n)/(1-b1^n) learning rates, n = dormant + 1."""
    n = np.asarray(dormant) + 1.0
    return (1 - BETA1) / sqrt(1 - BETA2) * np.sqrt(1 - BETA2**n) / (1 - BETA1**n)


def first_steps(result: Result) -> np.ndarray:
    """Of each variant, the step at its first gradient; NaN where the path does not hold it."""
    dormant = np.array(result.run.overrides["problem.dormant_steps"])
    steps, path = result.arrays["path_steps"], result.arrays["path"][:, :, 0, 0]
    found = np.full(len(dormant), np.nan)
    for variant, k in enumerate(dormant):
        if k + 1 < len(steps) and steps[k + 1] == k + 1:
            found[variant] = path[k, variant] - path[k + 1, variant]
    return found


def burst(result: Result) -> np.ndarray:
    """The steps after the dormancy, while the gradient lasts."""
    return -np.diff(result.arrays["path"][LONG:, 0, 0, 0])


def judge(results: Sequence[Result]) -> Verdict:
    """Holds where the first step is longer than lr: from some dormancy on, which is named."""
    if short := cut_short(results, ASKED):
        return Verdict(Answer.UNDECIDED, short, {})
    dense, wide, lasting, spike, skipped = results
    numbers: dict[str, float] = {}
    first = first_steps(dense)
    longer = np.flatnonzero(first > 1)
    numbers["dormant_steps_until_a_burst"] = float(longer[0]) if len(longer) else np.inf
    for dormant, step in zip(WIDE, first_steps(wide), strict=True):
        numbers[f"first_step_over_lr_after_{dormant}"] = float(step)
    steps = burst(lasting)
    numbers |= {
        "peak_over_lr": float(steps.max()),
        "peak_at_step": float(steps.argmax() + 1),
        "travel_of_one_spike_over_lr": float(np.abs(spike.arrays["x"]).item()),
        "first_step_over_lr_if_skipped": float(first_steps(skipped)[0]),
        "greatest_error_of_the_formula": max(
            float(np.abs(first - predicted_first_step(np.array(DENSE))).max()),
            float(np.abs(first_steps(wide) - predicted_first_step(np.array(WIDE))).max()),
        ),
    }
    because = (
        f"Adam's first step after 9, 99, 999 and 9999 dormant steps is "
        f"{', '.join(f'{step:.6f}' for step in first_steps(wide)[1:])} lr; with a gradient that "
        f"lasts, after {LONG}, the longest is {numbers['peak_over_lr']:.4f} lr, at step "
        f"{numbers['peak_at_step']:.0f}; one spike alone moves it by "
        f"{numbers['travel_of_one_spike_over_lr']:.3f} lr. Where a dormant parameter is skipped, "
        f"not given a gradient of zero, the first step is "
        f"{numbers['first_step_over_lr_if_skipped']:.4f} lr"
    )
    if not len(longer):
        return Verdict(Answer.FAILS, because, numbers)
    if longer[0] <= 1:
        return Verdict(Answer.HOLDS, because, numbers)
    return Verdict(
        Answer.HOLDS_UNDER_CONDITIONS,
        f"{because}. Condition: at least {longer[0]} dormant steps with gradients of zero; after "
        "fewer the first step is shorter than lr",
        numbers,
    )


def draw(results: Sequence[Result]) -> Figure:
    """The first step over the dormancy, and the burst that follows."""
    dense, wide, lasting, spike, skipped = results
    figure, (first, course) = new_figure(1, 2, panel=(4.6, 3.5))
    dormant = np.unique(np.geomspace(1, 1e5, 200).astype(int))
    first.plot(dormant, predicted_first_step(dormant), color="black", lw=1, label="closed form")
    for result, marker in ((dense, "."), (wide, "o")):
        lengths = result.run.overrides["problem.dormant_steps"]
        label = f"measured, {len(lengths)} from {min(lengths)} to {max(lengths)}"
        first.plot(lengths, first_steps(result), marker, ms=4, label=label)
    label = "measured, no gradient at all (None)"
    first.plot(SKIPPED, first_steps(skipped), "D", ms=5, fillstyle="none", label=label)
    first.axhline(1, color="grey", linewidth=1)
    longer = np.flatnonzero(first_steps(dense) > 1)
    if len(longer):
        first.annotate(
            f"longer than lr from\n{longer[0]} dormant steps on",
            (longer[0], 1),
            (1.4e3, 1.5),
            arrowprops={"arrowstyle": "->"},
        )
    first.set(
        xscale="log",
        xlim=(1, 1e5),
        ylim=(0, 3.5),
        xlabel="steps with a gradient of zero",
        ylabel="first step / lr",
        title="The step that wakes a dormant parameter",
    )
    first.legend(loc="upper left", fontsize=7)
    travel = float(np.abs(spike.arrays["x"]).item())
    for result, label in (
        (lasting, f"gradient lasts: up to {burst(lasting).max(initial=0):.4f} lr"),
        (spike, f"one spike: {travel:.3f} lr in all"),
    ):
        steps = burst(result)[:AFTER]
        course.plot(np.arange(1, len(steps) + 1), steps, marker="o", ms=3, label=label)
    course.axhline(1, color="grey", linewidth=1)
    for axes, x in ((first, 1e5), (course, AFTER)):
        axes.annotate("lr", (x, 1), (0, 3), textcoords="offset points", ha="right", color="grey")
    course.set(
        xlabel=f"step after {LONG} dormant ones",
        ylabel="step / lr",
        ylim=(0, 8.5),
        title="The burst that follows: a lasting gradient\nadds up before sqrt(v) has caught up",
    )
    course.legend(loc="upper right")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l7-dormant-burst": Claim(
        says="A parameter that had no gradient for long wakes with a burst under Adam.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    )
}
