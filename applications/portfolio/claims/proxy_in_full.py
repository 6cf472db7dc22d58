"""W4 in full: parametrisation x batch x problem, and how far from the solution each run ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from applications.portfolio.claims.proxy import (
    PROXY,
    RISKS,
    SEEDS,
    STEPS,
    draw_correlations,
    holds_and_fails,
    lower_bound,
    median_correlation,
    name_cells,
    write_numbers,
)
from applications.portfolio.claims.reading import answer_of, cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import final_scores, group_by, median
from sciopt.bench.style import new_figure

PARAMETRISATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "weights, metric projection": ("projected-adam-minibatch", {"method.metric": "rate"}),
    "weights, Euclidean projection": ("projected-adam-minibatch", {"method.metric": "euclidean"}),
    "softmax": ("softmax-adam-minibatch", {}),
}
BATCHES = {"1 day": 1, "32 days": 32, "256 days": 256, "all days": 0}
PROBLEMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "2": ("mean-variance", {"problem.risk_aversion": 2.0}),
    "10": ("mean-variance", {"problem.risk_aversion": 10.0}),
    "50": ("mean-variance", {"problem.risk_aversion": 50.0}),
    "min var": ("minimum-variance", {}),
}
ERRORS_SHOWN = (1e-8, 1.0)  # ends of the colour scale

Cell = tuple[str, str, str]
"""Parametrisation, batch, problem."""


def run_of(cell: Cell, seed: int) -> Run:
    """The run of one seed in this cell."""
    parametrisation, batch, name = cell
    method, of_method = PARAMETRISATIONS[parametrisation]
    problem, of_problem = PROBLEMS[name]
    settings = {**of_problem, **of_method, "method.batch": BATCHES[batch]}
    return Run(problem, method, STEPS, seed, settings)


# In full batch all seeds are one and the same run.
ALL = [
    (cell, seed)
    for cell in product(PARAMETRISATIONS, BATCHES, PROBLEMS)
    for seed in range(SEEDS if BATCHES[cell[1]] else 1)
]
RUNS = [run_of(cell, seed) for cell, seed in ALL]


def by_cell(results: Sequence[Result]) -> dict[Cell, list[Result]]:
    """Results of the same cell, the order being that of `RUNS`."""
    where = {id(result): cell for result, (cell, _) in zip(results, ALL, strict=True)}
    return group_by(results, lambda result: where[id(result)])


def objective_error(results: Sequence[Result]) -> float:
    """Median over seeds of f less CVXPY's, relative; its size, as round-off has either sign."""
    return float(median(np.abs(final_scores(results, "objective_difference"))))


def judge(results: Sequence[Result]) -> Verdict:
    """Holds for a parametrisation and batch whose 95 % interval is above PROXY in all problems."""
    cells = by_cell(results)
    numbers: dict[str, float] = {}
    findings: dict[bool, list[str]] = {True: [], False: []}
    for parametrisation, batch in product(PARAMETRISATIONS, BATCHES):
        groups = [cells[parametrisation, batch, problem] for problem in PROBLEMS]
        medians = [median_correlation(group, "volatility") for group in groups]
        bound = min(lower_bound(group) for group in groups)
        where = f"{parametrisation}, {batch}"
        numbers[f"{where}: least rank correlation with volatility"] = min(medians)
        numbers[f"{where}: greatest rank correlation with volatility"] = max(medians)
        numbers[f"{where}: lower bound of the least"] = bound
        finding = f"{where} ({min(medians):.2f} to {max(medians):.2f})"
        findings[bound >= PROXY].append(finding)
    errors = []
    for parametrisation in PARAMETRISATIONS:
        worst = max(objective_error(cells[parametrisation, "all days", p]) for p in PROBLEMS)
        numbers[f"{parametrisation}, all days: worst objective error"] = worst
        errors.append(f"{worst:.1e} with {parametrisation}")
    if short := cut_short(results, RUNS):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = (
        f"rank correlation of sqrt(v) with volatility over the problems. "
        f"{holds_and_fails(findings[True], findings[False])}. Worst objective error in full "
        f"batch: {'; '.join(errors)}"
    )
    holds = [*(True for _ in findings[True]), *(False for _ in findings[False])]
    return Verdict(answer_of(holds), because, numbers)


def table(
    cells: Mapping[Cell, Sequence[Result]], risk: str | None
) -> Float[np.ndarray, "rows problems"]:
    """Median correlation with `risk`, or objective error, by parametrisation and batch."""
    return np.array(
        [
            [
                median_correlation(cells[*row, problem], risk)
                if risk
                else objective_error(cells[*row, problem])
                for problem in PROBLEMS
            ]
            for row in product(PARAMETRISATIONS, BATCHES)
        ]
    )


def draw(results: Sequence[Result]) -> Figure:
    """Three tables of rank correlations and one of objective errors."""
    figure, axes = new_figure(1, 4, panel=(3.1, 4.8))
    cells = by_cell(results)
    rows = [", ".join(row) for row in product(PARAMETRISATIONS, BATCHES)]
    for panel, risk in zip(axes, RISKS, strict=False):
        draw_correlations(panel, table(cells, risk), rows, list(PROBLEMS))
        panel.set_title(f"rank correlation of sqrt(v)\nwith {risk.replace('_', ' ')}")
    errors = table(cells, None)
    low, high = ERRORS_SHOWN
    shown = errors.clip(low, high)
    axes[-1].pcolormesh(shown, cmap="Greys", norm=LogNorm(low, high))
    write_numbers(axes[-1], errors, "{:.0e}", shown > 2e-4)
    name_cells(axes[-1], rows, list(PROBLEMS))
    axes[-1].set_title("objective less CVXPY's,\nrelative")
    for place, panel in enumerate(axes):
        panel.set_xlabel("risk aversion, or minimum variance")
        panel.hlines(range(0, len(rows) + 1, len(BATCHES)), 0, len(PROBLEMS), color="black")
        if place:
            panel.tick_params(labelleft=False)
    figure.suptitle(f"Median of {SEEDS} seeds where days are drawn")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "sqrt-v-in-full": Claim(
        says="sqrt(v) is a proxy of an asset's volatility: by parametrisation, batch and problem.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    ),
}
