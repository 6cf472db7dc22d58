"""Whether sqrt(v) is a proxy of an asset's risk, by parametrisation, batch and risk aversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy.stats import spearmanr

from applications.portfolio.claims.reading import answer_of, cut_short, risk_aversion
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import bootstrap_interval, group_by, median
from sciopt.bench.style import new_figure

STEPS = 2000
BATCHES = (32, 0)
METHODS = ("projected-adam-minibatch", "softmax-adam-minibatch")
RISK_AVERSIONS = (2.0, 10.0, 50.0)
SEEDS = 5
PROXY = 0.75  # least rank correlation that deserves the word
RISKS = ("volatility", "marginal_risk", "risk_contribution")

# Only minibatches have seeds to differ by.
RUNS = [
    Run(
        "mean-variance",
        method,
        STEPS,
        seed,
        {"problem.risk_aversion": aversion, "method.batch": batch},
    )
    for method, batch, aversion in product(METHODS, BATCHES, RISK_AVERSIONS)
    for seed in range(SEEDS if batch else 1)
]


def setting(result: Result) -> str:
    """Parametrisation and batch in words."""
    batch = result.run.overrides["method.batch"]
    weights = result.run.method.startswith("projected")
    return f"{'weights' if weights else 'softmax'}, {f'{batch} days' if batch else 'full batch'}"


def rank_correlations(results: Sequence[Result], risk: str) -> Float[np.ndarray, " results"]:
    """Spearman's rank correlation over assets of sqrt(v) with `risk`; -1, the worst, if failed."""
    return np.array(
        [
            -1.0
            if result.status.failed
            else spearmanr(result.arrays["sqrt_v"], result.arrays[risk])[0]
            for result in results
        ]
    )


def median_correlation(results: Sequence[Result], risk: str) -> float:
    """Median over seeds of the rank correlation of sqrt(v) with `risk`."""
    return float(median(rank_correlations(results, risk)))


def lower_bound(results: Sequence[Result]) -> float:
    """Lower end of the 95 % interval of the median rank correlation with volatility."""
    return bootstrap_interval(rank_correlations(results, "volatility")[None], median)[0]


def judge(results: Sequence[Result]) -> Verdict:
    """Holds in settings whose 95 % interval for volatility is above PROXY at each risk aversion."""
    deciding: dict[str, float] = {}
    explaining: dict[str, float] = {}
    findings: dict[bool, list[str]] = {True: [], False: []}
    for name, group in group_by(results, setting).items():
        cells = group_by(group, risk_aversion).values()
        ranges = []
        for risk in RISKS:
            medians = [median_correlation(cell, risk) for cell in cells]
            low, high = min(medians), max(medians)
            numbers = deciding if risk == "volatility" else explaining
            numbers[f"{name}: least rank correlation with {risk}"] = low
            numbers[f"{name}: greatest rank correlation with {risk}"] = high
            ranges.append(f"{low:.2f} to {high:.2f} with {risk.replace('_', ' ')}")
        bound = min(lower_bound(cell) for cell in cells)
        explaining[f"{name}: lower bound of the rank correlation with volatility"] = bound
        explaining[f"{name}: greatest spread of sqrt(v) over held assets"] = max(
            spread_over_held(result) for result in group
        )
        findings[bound >= PROXY].append(f"{name} ({', '.join(ranges)})")
    numbers = deciding | explaining
    if short := cut_short(results, RUNS):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = holds_and_fails(findings[True], findings[False])
    holds = [*(True for _ in findings[True]), *(False for _ in findings[False])]
    return Verdict(answer_of(holds), because, numbers)


def holds_and_fails(holds: Sequence[str], fails: Sequence[str]) -> str:
    """Where the claim holds and where it fails, in words."""
    findings = (("Holds", holds), ("Fails", fails))
    return ". ".join(f"{verb} for {'; '.join(found)}" for verb, found in findings if found)


def spread_over_held(result: Result) -> float:
    """Standard deviation over mean of sqrt(v) among assets that weigh more than 0.1 %."""
    held = result.arrays["sqrt_v"][result.arrays["weights"] > 1e-3]
    return float(held.std() / held.mean())


def draw(results: Sequence[Result]) -> Figure:
    """Two scatters of sqrt(v) against volatility, and all rank correlations."""
    figure, (weights, softmax, table) = new_figure(1, 3, panel=(4.2, 4.2))
    cells = group_by(results, lambda result: (setting(result), risk_aversion(result)))
    for axes, parametrisation, aversion in (
        (weights, "weights", RISK_AVERSIONS[1]),
        (softmax, "softmax", RISK_AVERSIONS[-1]),
    ):
        cell = f"{parametrisation}, {BATCHES[0]} days", aversion
        correlation = rank_correlations(cells[cell][:1], "volatility")[0]
        scatter_assets(axes, cells[cell][0])
        axes.set_title(
            f"{cell[0]}, risk aversion {aversion:g}:\nrank correlation {correlation:.2f}"
        )
    correlations = np.array(
        [[median_correlation(cell, risk) for risk in RISKS] for cell in cells.values()]
    )
    draw_correlations(
        table,
        correlations,
        [f"{where}, {aversion:g}" for where, aversion in cells],
        [risk.replace("_", "\n") for risk in RISKS],
    )
    table.set(
        ylabel="parametrisation, batch, risk aversion",
        title="rank correlation of sqrt(v) with,\nmedian over seeds",
    )
    return figure


def draw_correlations(
    axes: Axes,
    correlations: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """A heat map with its numbers, red for +1, blue for -1."""
    axes.pcolormesh(correlations, cmap="RdBu_r", vmin=-1, vmax=1)
    write_numbers(axes, correlations, "{:.2f}", np.abs(correlations) > 0.6)
    name_cells(axes, rows, columns)


def write_numbers(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    template: str,
    dark: Bool[np.ndarray, "rows columns"],
) -> None:
    """Each value in its cell, in white where the cell is dark."""
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if dark[row, column] else "black"
        text = template.format(value)
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)


def name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Names beside the rows, the first on top, and below the columns."""
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)


def scatter_assets(axes: Axes, result: Result) -> None:
    """sqrt(v) against daily volatility, one labelled dot per asset, its area the weight held."""
    volatility, sqrt_v = 100 * result.arrays["volatility"], result.arrays["sqrt_v"]
    relative = sqrt_v / np.median(sqrt_v)
    axes.scatter(
        volatility, relative, s=10 + 400 * result.arrays["weights"], alpha=0.5, label="assets"
    )
    # Neighbours along the axis are labelled on opposite sides, so that most names stay readable.
    for place, asset in enumerate(np.argsort(volatility)):
        side = -1 if place % 2 else 1
        axes.annotate(
            str(result.arrays["assets"][asset]),
            (volatility[asset], relative[asset]),
            (5 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=6,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xmargin=0.1,
        xlabel="volatility, % a day (area: weight held)",
        ylabel="sqrt(v) relative to its median",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


CLAIMS: Mapping[str, Claim] = {
    "sqrt-v-is-risk": Claim(
        says="sqrt(v) is a proxy of an asset's risk, so Adam treads carefully where an asset is "
        "volatile.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    ),
}
