"""What matters most: Gauss-Newton with one ingredient left out at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from applications.pinn.claims.reading import ERROR, at_seconds, seconds_compared
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import group_by, median
from sciopt.bench.style import COLOURS, new_figure

SEEDS = 3
STEPS = 250
# With the error this many times larger, an ingredient matters.
MATTERS = 10.0
PROBLEMS = {"burgers": "Burgers 0.01/π", "convection": "convection, speed 30"}
FIXED_SIZE = {"burgers": (20, 20, 20), "convection": (160,)}

VARIANTS: dict[str, Mapping[str, Any]] = {
    "as it is": {},
    "points fixed": {"method.redraw_every": 0},
    "points redrawn evenly": {"method.sampling": "uniform"},
    "inputs and residuals not scaled": {"method.scaled": False},
    "no acceleration": {"method.acceleration": False},
    "half the promised decrease": {"method.target": 0.5},
    "float32": {"method.precision": "float32"},
    "the other activation": {"method.activation": "other"},
    "large from the start": {"method.hidden": "fixed", "method.widen": 1.0},
}


def settings(problem: str, variant: str) -> dict[str, Any]:
    """The overrides of a variant on a problem."""
    found = dict(VARIANTS[variant])
    if found.get("method.activation") == "other":
        found["method.activation"] = {"burgers": "sin", "convection": "tanh"}[problem]
    if found.get("method.hidden") == "fixed":
        found["method.hidden"] = FIXED_SIZE[problem]
    return found


CHOICES = {
    "where points are drawn": ("points fixed", "points redrawn evenly"),
    "scaling": ("inputs and residuals not scaled",),
}
DETAILS = ("no acceleration", "half the promised decrease")

CELLS = [(problem, variant) for problem in PROBLEMS for variant in VARIANTS]
RUNS = [
    Run(problem, "gauss-newton", STEPS, seed, settings(problem, variant))
    for problem, variant in CELLS
    for seed in range(SEEDS)
]


def errors(results: Sequence[Result]) -> dict[tuple[str, str], np.ndarray]:
    """Error of each seed at equal seconds, problem by problem and variant by variant."""
    cells = [cell for cell in CELLS for _ in range(SEEDS)]
    where = {id(result): cell for result, cell in zip(results, cells, strict=True)}
    groups = group_by(results, lambda result: where[id(result)])
    seconds = {
        problem: seconds_compared([r for r in results if r.run.problem == problem])
        for problem in PROBLEMS
    }
    return {cell: at_seconds(group, ERROR, seconds[cell[0]]) for cell, group in groups.items()}


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if points, and scaling, each cost more than any detail of the optimizer, everywhere."""
    found = {cell: float(median(scores)) for cell, scores in errors(results).items()}
    ratios = {
        (problem, variant): found[problem, variant] / found[problem, "as it is"]
        for problem, variant in CELLS
        if variant != "as it is"
    }
    numbers = {f"{p}: {v}: error, times that as it is": r for (p, v), r in ratios.items()}
    numbers |= {f"{problem}: error as it is": found[problem, "as it is"] for problem in PROBLEMS}
    matters: dict[str, bool] = {}
    for problem in PROBLEMS:
        detail = max(ratios[problem, variant] for variant in DETAILS)
        for what, variants in CHOICES.items():
            worst = max(ratios[problem, variant] for variant in variants)
            matters[f"{what} on {problem} ({worst:.2g} times the error, details {detail:.2g})"] = (
                worst >= max(detail, MATTERS)
            )
    yes = "; ".join(name for name, more in matters.items() if more)
    no = "; ".join(name for name, more in matters.items() if not more)
    because = f"matters more, and tenfold: {yes or 'nothing'}. Does not: {no or 'nothing'}"
    most = max(ratios, key=lambda cell: min(ratios[p, cell[1]] for p in PROBLEMS))[1]
    least = min(ratios[problem, most] for problem in PROBLEMS)
    because += f". What costs most on every problem is {most}: at least {least:.2g} times"
    answer = (
        Answer.HOLDS
        if all(matters.values())
        else Answer.HOLDS_UNDER_CONDITIONS
        if any(matters.values())
        else Answer.FAILS
    )
    return Verdict(answer, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """Median error and range of the seeds of each variant, a panel for each problem."""
    found = errors(results)
    figure, axes = new_figure(1, 2, panel=(5.2, 3.6))
    for panel, (problem, title) in zip(axes, PROBLEMS.items(), strict=True):
        for y, variant in enumerate(reversed(VARIANTS)):
            scores = found[problem, variant]
            middle = float(median(scores))
            panel.errorbar(
                middle,
                y,
                xerr=[[middle - scores.min()], [scores.max() - middle]],
                color=COLOURS[0] if variant == "as it is" else COLOURS[1],
                marker="o",
            )
        panel.axvline(float(median(found[problem, "as it is"])), color=COLOURS[0], linewidth=0.7)
        panel.set(xscale="log", xlabel="relative L2 error at equal seconds", title=title)
        panel.set_yticks(range(len(VARIANTS)), list(reversed(VARIANTS)))
    figure.suptitle(f"Gauss-Newton, one thing changed: median and range of {SEEDS} seeds")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "what-matters": Claim(
        says="Where points are drawn and how inputs are scaled matters more than any detail of "
        "the optimizer.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
