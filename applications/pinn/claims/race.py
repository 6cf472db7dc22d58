"""All methods on the suite: error against seconds, and how often each is how close to the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from applications.pinn.claims.reading import ERROR, at_seconds, seconds_compared
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import group_by, median
from sciopt.bench.style import COLOURS, new_figure, plot_curves

SEEDS = 2
# A relative error below which a method has begun to solve a problem.
BEGUN = 0.5
PROBLEMS = (
    "burgers",
    "allen-cahn",
    "kdv",
    "convection",
    "wave",
    "boundary-layer-1e-3",
)
# About ten seconds each on one core.
STEPS = {
    "adam": 1500,
    "lbfgs": 1200,
    "broyden": 1000,
    "newton-cg": 40,
    "gauss-newton": 200,
    "gauss-newton-broyden": 400,
}
LABELS = {
    "adam": "Adam",
    "lbfgs": "L-BFGS",
    "broyden": "self-scaled Broyden",
    "newton-cg": "Newton-CG",
    "gauss-newton": "Gauss-Newton",
    "gauss-newton-broyden": "Gauss-Newton, then Broyden",
}
SETTINGS = {"gauss-newton-broyden": {"method.stage_steps": (100,)}}
RUNS = [
    Run(problem, method, STEPS[method], seed, SETTINGS.get(method, {}))
    for problem in PROBLEMS
    for method in STEPS
    for seed in range(SEEDS)
]


def errors(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Median error of each method at equal seconds, problem by problem."""
    found = {}
    for problem, group in group_by(results, lambda result: result.run.problem).items():
        seconds = seconds_compared(group)
        methods = group_by(group, lambda result: result.run.method)
        found[problem] = {
            method: float(median(at_seconds(runs, ERROR, seconds)))
            for method, runs in methods.items()
        }
    return found


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if Gauss-Newton is within a factor of two of the best on every problem.

    A problem on which no method is below `BEGUN` by then decides nothing.
    """
    found = errors(results)
    numbers = {
        f"{problem}: {LABELS[method]}": error
        for problem, by_method in found.items()
        for method, error in by_method.items()
    }
    decided = [p for p, by_method in found.items() if min(by_method.values()) < BEGUN]
    first = [p for p in decided if found[p]["gauss-newton"] <= 2 * min(found[p].values())]
    gains = [found[p]["adam"] / found[p]["gauss-newton"] for p in decided]
    undecided = ", ".join(p for p in found if p not in decided)
    because = (
        f"at equal seconds Gauss-Newton is within a factor of two of the best on {len(first)} of "
        f"{len(decided)} problems"
        + (f"; its error is {np.median(gains):.2g} times smaller than Adam's" if gains else "")
        + (f"; on {undecided} no method has an error below {BEGUN:g} yet" if undecided else "")
    )
    answer = (
        Answer.UNDECIDED
        if not decided
        else Answer.HOLDS
        if len(first) == len(found)
        else Answer.HOLDS_UNDER_CONDITIONS
        if 2 * len(first) > len(found)
        else Answer.FAILS
    )
    return Verdict(answer, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """A panel for each problem, and the performance profile (Dolan & Moré 2002)."""
    figure, axes = new_figure(2, 4, panel=(3.4, 2.8))
    groups = group_by(results, lambda result: result.run.problem)
    for panel, (problem, group) in zip(axes.flat, groups.items(), strict=False):
        panel.set_prop_cycle(color=list(COLOURS[: len(LABELS)]))
        plot_curves(panel, group, ERROR, label=lambda result: LABELS[result.run.method])
        panel.set(xscale="log", yscale="log", title=problem)
        panel.set(xlabel="seconds of training", ylabel="relative L2 error")
    axes.flat[-1].set_visible(False)
    found, profile = errors(results), axes.flat[len(PROBLEMS)]
    ratios = {
        method: sorted(e[method] / min(e.values()) for e in found.values()) for method in STEPS
    }
    for colour, (method, values) in zip(COLOURS, ratios.items(), strict=False):
        shares = np.arange(1, len(values) + 1) / len(values)
        profile.step(values, shares, where="post", color=colour, label=LABELS[method])
    profile.set(
        xscale="log",
        xlabel="error at equal seconds, times the best",
        ylabel="share of problems",
        title="performance profile",
    )
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Median and range of {SEEDS} seeds, one core")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "race": Claim(
        says="On stiff PDEs, Gauss-Newton has the least error at equal seconds.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
