"""W3 in full: which of precision, start, points and stiffness decides who is stuck.

L-BFGS here is this library's, which goes on in float32 and keeps its memory when points are
redrawn, so that what is left is the method and not its implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure

from applications.pinn.claims.reading import ERROR, share_standing_still
from applications.pinn.claims.stuck import AS_USUAL
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import final_scores, group_by, median
from sciopt.bench.style import COLOURS, new_figure

SEEDS = 3
STEPS = {"adam": 2500, "lbfgs": 1500, "adam-lbfgs": 2000}
LABELS = {"adam": "Adam", "lbfgs": "L-BFGS", "adam-lbfgs": "Adam, then L-BFGS"}
VISCOSITIES = {"0.1": 0.1, "0.01": 0.01, "0.01/π": 0.01 / np.pi}
POINTS = {"fixed": 0, "redrawn": 100}
PRECISIONS = ("float32", "float64")

Conditions = tuple[str, str, str, str]
"""Method, precision, points, viscosity."""


def run_of(conditions: Conditions, seed: int) -> Run:
    """The run of one seed under these conditions."""
    method, precision, points, viscosity = conditions
    settings = {
        **AS_USUAL,
        "method.precision": precision,
        "method.points_per_param": 1.1,
        "method.redraw_every": POINTS[points],
        "method.sampling": "sobol" if points == "fixed" else "adaptive",
        "problem.viscosity": VISCOSITIES[viscosity],
    }
    return Run("burgers-plain", method, STEPS[method], seed, settings)


CELLS = list(product(LABELS, PRECISIONS, POINTS, VISCOSITIES))
RUNS = [run_of(cell, seed) for cell in CELLS for seed in range(SEEDS)]


def by_cell(results: Sequence[Result]) -> dict[Conditions, list[Result]]:
    """Results of the same conditions, the order being that of `RUNS`."""
    cells = [cell for cell in CELLS for _ in range(SEEDS)]
    where = {id(result): cell for result, cell in zip(results, cells, strict=True)}
    return group_by(results, lambda result: where[id(result)])


def judge(results: Sequence[Result]) -> Verdict:
    """Holds where most seeds of L-BFGS stand still and Adam's do not and end lower."""
    groups = by_cell(results)
    numbers: dict[str, float] = {}
    true, stuck, ahead = [], [], []
    for precision, points, viscosity in product(PRECISIONS, POINTS, VISCOSITIES):
        where = f"{precision}, points {points}, viscosity {viscosity}"
        still, error = {}, {}
        for method in LABELS:
            group = groups[method, precision, points, viscosity]
            still[method] = share_standing_still(group, ERROR)
            error[method] = float(median(final_scores(group, ERROR)))
            numbers[f"{where}: {LABELS[method]}: median error"] = error[method]
            numbers[f"{where}: {LABELS[method]}: share standing still"] = still[method]
        stuck += [where] if still["lbfgs"] > 0.5 else []
        ahead += [where] if error["adam"] < error["lbfgs"] else []
        true += [where] if where in stuck and where in ahead and still["adam"] <= 0.5 else []
    count = len(PRECISIONS) * len(POINTS) * len(VISCOSITIES)
    because = (
        f"L-BFGS stands still in most seeds under {len(stuck)} of {count} conditions"
        f"{_listed(stuck)}; Adam ends lower under {len(ahead)}{_listed(ahead)}; both, Adam not "
        f"standing still, under {len(true)}{_listed(true)}"
    )
    answer = (
        Answer.HOLDS
        if len(true) == count
        else Answer.HOLDS_UNDER_CONDITIONS
        if true
        else Answer.FAILS
    )
    return Verdict(answer, because, numbers)


def _listed(names: Sequence[str]) -> str:
    return f" ({'; '.join(names)})" if names else ""


def draw(results: Sequence[Result]) -> Figure:
    """Median error with the range of the seeds, a panel for precision and points."""
    groups = by_cell(results)
    figure, axes = new_figure(1, 4, panel=(2.9, 3.2))
    panels = zip(axes, product(PRECISIONS, POINTS), strict=True)
    for panel, (precision, points) in panels:
        for shift, (method, label) in enumerate(LABELS.items()):
            for x, viscosity in enumerate(VISCOSITIES):
                scores = final_scores(groups[method, precision, points, viscosity], ERROR)
                middle = float(median(scores))
                panel.errorbar(
                    x + 0.2 * (shift - 1),
                    middle,
                    yerr=[[middle - scores.min()], [scores.max() - middle]],
                    color=COLOURS[shift],
                    marker="os^"[shift],
                    label=label if x == 0 else None,
                )
        panel.set(
            xticks=range(len(VISCOSITIES)),
            xticklabels=list(VISCOSITIES),
            xlabel="viscosity",
            yscale="log",
            title=f"{precision}, points {points}",
        )
    axes[0].set_ylabel("relative L2 error")
    low = min(panel.get_ylim()[0] for panel in axes)
    high = max(panel.get_ylim()[1] for panel in axes)
    for panel in axes:
        panel.set_ylim(low, high)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Burgers equation: median and range of {SEEDS} seeds at the end")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "w3-in-full": Claim(
        says="On a stiff PDE, L-BFGS gets stuck while Adam is robust: by precision, start, points "
        "and stiffness.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
