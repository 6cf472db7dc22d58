"""The active set where it has most to do: shrinkage that makes more and more assets be held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure

from applications.portfolio.claims.reading import CERTIFIED, LEAST_DRAWN, LOOKS, answer_of
from sciopt.bench import Claim, Result, Run, Verdict
from sciopt.bench.statistics import final_scores, group_by, median
from sciopt.bench.style import new_figure

ASSETS = 500
DRAWS = 3
SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0)
LABELS = {"active-set": "active set", "clarabel": "CVXPY + Clarabel"}

RUNS = [
    Run(
        "synthetic",
        method,
        1,
        overrides={
            "problem.assets": ASSETS,
            "problem.return_weight": 0.0,
            "problem.shrinkage": shrinkage,
            "problem.draw": draw,
        },
    )
    for shrinkage, draw, method in product(SHRINKAGES, range(DRAWS), LABELS)
]


def by_cell(results: Sequence[Result]) -> dict[tuple[str, float], list[Result]]:
    """Results by method and shrinkage."""
    return group_by(
        results, lambda result: (result.run.method, result.run.overrides["problem.shrinkage"])
    )


def worst_gap(results: Sequence[Result]) -> float:
    """The largest relative gap over the markets; infinity if a run failed."""
    return float(final_scores(results, "relative_gap").max())


def seconds(results: Sequence[Result]) -> float:
    """Median over the markets."""
    return float(median(np.array([result.last.seconds for result in results])))


def names_held(results: Sequence[Result]) -> float:
    """Median number of assets with a weight above zero."""
    counts = [np.count_nonzero(result.arrays["weights"]) for result in results]
    return float(median(np.array(counts, dtype=float)))


def judge(results: Sequence[Result]) -> Verdict:
    """Holds at each shrinkage where the active set is certified and no slower than Clarabel."""
    cells = by_cell(results)
    numbers: dict[str, float] = {}
    met = []
    for shrinkage in SHRINKAGES:
        exact, other = cells["active-set", shrinkage], cells["clarabel", shrinkage]
        speedup = seconds(other) / seconds(exact)
        met.append(worst_gap(exact) <= CERTIFIED and speedup >= 1)
        numbers[f"shrinkage {shrinkage:g}: Clarabel's seconds over the active set's"] = speedup
        numbers[f"shrinkage {shrinkage:g}: worst relative gap"] = worst_gap(exact)
        numbers[f"shrinkage {shrinkage:g}: worst relative gap of Clarabel"] = worst_gap(other)
        numbers[f"shrinkage {shrinkage:g}: names held"] = names_held(exact)
    speedups = [value for name, value in numbers.items() if "seconds over" in name]
    gaps = [worst_gap(cells["active-set", shrinkage]) for shrinkage in SHRINKAGES]
    held = [names_held(cells["active-set", shrinkage]) for shrinkage in SHRINKAGES]
    where = [f"{shrinkage:g}" for shrinkage, holds in zip(SHRINKAGES, met, strict=True) if holds]
    because = (
        f"certified to {CERTIFIED:g} and no slower at shrinkages {', '.join(where) or 'none'}; "
        f"{min(speedups):.2g} to {max(speedups):.2g} times as fast, worst gap {max(gaps):.1e}, "
        f"{min(held):.0f} to {max(held):.0f} names held"
    )
    return Verdict(answer_of(met), because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """Seconds, gap and names held against shrinkage."""
    figure, (times, gaps, held) = new_figure(1, 3, panel=(3.5, 3.2))
    cells = by_cell(results)
    for method, label in LABELS.items():
        groups = [cells[method, shrinkage] for shrinkage in SHRINKAGES]
        times.plot(SHRINKAGES, [seconds(g) for g in groups], ls="-", label=label, **LOOKS[method])
        shown = [max(worst_gap(group), LEAST_DRAWN) for group in groups]
        gaps.plot(SHRINKAGES, shown, ls="-", **LOOKS[method])
    exact = [cells["active-set", shrinkage] for shrinkage in SHRINKAGES]
    held.plot(SHRINKAGES, [names_held(group) for group in exact], ls="-", **LOOKS["active-set"])
    times.set(yscale="log", ylabel="seconds, one core", title=f"median of {DRAWS} markets")
    gaps.set(yscale="log", ylabel="relative duality gap", title=f"worst of {DRAWS} markets")
    gaps.axhline(CERTIFIED, color="grey", linewidth=1, linestyle="--", label=f"{CERTIFIED:g}")
    held.set(ylabel=f"assets held, of {ASSETS}", title="the solution", ylim=(0, None))
    for axes in (times, gaps, held):
        axes.set_xlabel("shrinkage towards the identity")
    handles, labels = times.get_legend_handles_labels()
    others, names = gaps.get_legend_handles_labels()
    figure.legend(handles + others, labels + names, loc="outside lower center", ncols=3)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "dense-support": Claim(
        says="The active set is exact and never slower than CVXPY with Clarabel, however many "
        "assets are held.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    ),
}
