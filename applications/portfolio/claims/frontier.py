"""The efficient frontier: who is certified on it, at CVXPY's points, and who is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure

from applications.portfolio.claims.reading import (
    LEAST_DRAWN,
    LOOKS,
    answer_of,
    cut_short,
    risk_aversion,
)
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import final_scores, group_by
from sciopt.bench.style import new_figure

RISK_AVERSIONS = (1.0, 1.8, 3.2, 5.6, 10.0, 18.0, 32.0, 56.0, 100.0, 180.0, 320.0, 560.0, 1000.0)
STEPS = 2000
MACHINE_EPSILON = float(np.finfo(np.float64).eps)

LABELS = {
    "clarabel": "CVXPY + Clarabel, default tolerances",
    "active-set": "active set",
    "projected-adam": "Adam, projection in the rate's metric",
    "softmax-adam": "Adam on softmax logits",
    "euclidean-adam": "Adam, Euclidean projection",
}
CLAIMED = ("active-set", "projected-adam")
CERTIFIED = 1e-9  # relative duality gap
SAME_POINT = 1e-3  # percentage points of volatility and return

RUNS = [
    Run("mean-variance", method, STEPS, overrides={"problem.risk_aversion": aversion})
    for method, aversion in product(LABELS, RISK_AVERSIONS)
]


def judge(results: Sequence[Result]) -> Verdict:
    """Holds where both are certified, and at CVXPY's point, at every risk aversion."""
    by_method = group_by(results, lambda result: result.run.method)
    numbers: dict[str, float] = {}
    for method in (*CLAIMED, *(method for method in LABELS if method not in CLAIMED)):
        group = by_method[method]
        numbers[f"{method}: worst relative gap"] = final_scores(group, "relative_gap").max()
        distance = final_scores(group, "frontier_distance").max()
        numbers[f"{method}: worst frontier distance, percentage points"] = distance
    if short := cut_short(results, RUNS):
        return Verdict(Answer.UNDECIDED, short, numbers)
    agrees = np.logical_and.reduce(
        [
            (final_scores(by_method[method], "relative_gap") <= CERTIFIED)
            & (final_scores(by_method[method], "frontier_distance") <= SAME_POINT)
            for method in CLAIMED
        ]
    )
    where = [
        f"{aversion:g}" for aversion, agree in zip(RISK_AVERSIONS, agrees, strict=True) if agree
    ]
    because = (
        f"active set and Adam are both certified to {CERTIFIED:g} and within {SAME_POINT:g} "
        f"percentage points of CVXPY at {len(where)} of {len(agrees)} risk aversions; worst gaps "
        f"{numbers['active-set: worst relative gap']:.1e} and "
        f"{numbers['projected-adam: worst relative gap']:.1e}, that of CVXPY at its default "
        f"tolerances {numbers['clarabel: worst relative gap']:.1e}"
    )
    if agrees.any() and not agrees.all():
        because += f"; at risk aversions {', '.join(where)}"
    return Verdict(answer_of(agrees.tolist()), because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """The frontier in percent a year, and the certificate of each of its points."""
    figure, (plane, gaps) = new_figure(1, 2, panel=(4.4, 3.8))
    for method, group in group_by(results, lambda result: result.run.method).items():
        points = [result.last.metrics for result in group]
        plane.plot(
            [point["annual_volatility"] for point in points],
            [point["annual_return"] for point in points],
            linestyle="-" if method == "clarabel" else "none",
            label=LABELS[method],
            **LOOKS[method],
        )
        gaps.plot(
            [risk_aversion(result) for result in group],
            [max(point["relative_gap"], LEAST_DRAWN) for point in points],
            linestyle=":",
            label=LABELS[method],
            **LOOKS[method],
        )
    gaps.axhline(MACHINE_EPSILON, color="grey", linewidth=1, linestyle="-", label="machine epsilon")
    plane.set(
        xlabel="volatility, % a year",
        ylabel="mean return, % a year",
        title="With a Euclidean projection Adam ends off the frontier",
    )
    gaps.set(
        xscale="log",
        yscale="log",
        xlabel="risk aversion (daily returns)",
        ylabel="relative duality gap",
        title="In its rates' metric Adam is exact, as the active set is",
    )
    figure.legend(*gaps.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "efficient-frontier": Claim(
        says="Adam with a projection in the metric of its own rates finds the efficient frontier "
        "that CVXPY and the exact active set find, every point certified by its duality gap.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    ),
}
