"""What is claimed of Adam on portfolios, with the runs, the judge and the figure of each claim."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy.stats import spearmanr

from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import bootstrap_interval, final_scores, group_by, median
from sciopt.bench.style import COLOURS, new_figure

RISK_AVERSIONS = (1.0, 1.8, 3.2, 5.6, 10.0, 18.0, 32.0, 56.0, 100.0, 180.0, 320.0, 560.0, 1000.0)
STEPS = 2000
MACHINE_EPSILON = float(np.finfo(np.float64).eps)

FRONTIER_METHODS = {
    "clarabel": "CVXPY + Clarabel, default tolerances",
    "projected-adam": "Adam, projection in the rate's metric",
    "softmax-adam": "Adam on softmax logits",
    "euclidean-adam": "Adam, Euclidean projection",
}
CERTIFIED = 1e-9  # relative duality gap
SAME_POINT = 1e-3  # percentage points of volatility and return


def frontier_runs() -> list[Run]:
    """Every method at every risk aversion."""
    return [
        Run("mean-variance", method, STEPS, overrides={"problem.risk_aversion": risk_aversion})
        for method, risk_aversion in product(FRONTIER_METHODS, RISK_AVERSIONS)
    ]


def judge_frontier(results: Sequence[Result]) -> Verdict:
    """Holds if projected Adam is certified, and at CVXPY's point, at every risk aversion."""
    by_method = group_by(results, lambda result: result.run.method)
    numbers: dict[str, float] = {}
    for method, group in by_method.items():
        numbers[f"{method}: worst relative gap"] = final_scores(group, "relative_gap").max()
        distance = final_scores(group, "frontier_distance").max()
        numbers[f"{method}: worst frontier distance, percentage points"] = distance
    if short := cut_short(results):
        return Verdict(Answer.UNDECIDED, short, numbers)
    projected = by_method["projected-adam"]
    agrees = (final_scores(projected, "relative_gap") <= CERTIFIED) & (
        final_scores(projected, "frontier_distance") <= SAME_POINT
    )
    where = [
        f"{_risk_aversion(result):g}"
        for result, agree in zip(projected, agrees, strict=True)
        if agree
    ]
    because = (
        f"certified to {CERTIFIED:g} and within {SAME_POINT:g} percentage points of CVXPY at "
        f"{len(where)} of {len(projected)} risk aversions; worst gap "
        f"{numbers['projected-adam: worst relative gap']:.1e}, that of CVXPY at its default "
        f"tolerances {numbers['clarabel: worst relative gap']:.1e}"
    )
    if agrees.all():
        return Verdict(Answer.HOLDS, because, numbers)
    if agrees.any():
        condition = f"{because}; at risk aversions {', '.join(where)}"
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, condition, numbers)
    return Verdict(Answer.FAILS, because, numbers)


def draw_frontier(results: Sequence[Result]) -> Figure:
    """The frontier in percent a year, and the certificate of each of its points."""
    figure, (plane, gaps) = new_figure(1, 2, panel=(4.4, 3.8))
    looks = {
        "clarabel": {"color": "black", "marker": "."},
        "projected-adam": {
            "color": COLOURS[0],
            "marker": "o",
            "markersize": 8,
            "fillstyle": "none",
        },
        "softmax-adam": {"color": COLOURS[1], "marker": "x", "markersize": 6},
        "euclidean-adam": {"color": COLOURS[2], "marker": "^", "markersize": 5},
    }
    for method, group in group_by(results, lambda result: result.run.method).items():
        points = [result.last.metrics for result in group]
        plane.plot(
            [point["annual_volatility"] for point in points],
            [point["annual_return"] for point in points],
            linestyle="-" if method == "clarabel" else "none",
            label=FRONTIER_METHODS[method],
            **looks[method],
        )
        gaps.plot(
            [_risk_aversion(result) for result in group],
            # A gap of exactly zero has no place on a log axis.
            [max(point["relative_gap"], 1e-17) for point in points],
            linestyle=":",
            label=FRONTIER_METHODS[method],
            **looks[method],
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
        title="In its rates' metric Adam is exact to round-off",
    )
    figure.legend(*gaps.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


PROXY_BATCHES = (32, 0)
PROXY_METHODS = ("projected-adam-minibatch", "softmax-adam-minibatch")
PROXY_RISK_AVERSIONS = (2.0, 10.0, 50.0)
PROXY_SEEDS = 5
PROXY = 0.75  # least rank correlation that deserves the word
RISKS = ("volatility", "marginal_risk", "risk_contribution")


def proxy_runs() -> list[Run]:
    """Parametrisation x batch x risk aversion; only minibatches have seeds to differ by."""
    return [
        Run(
            "mean-variance",
            method,
            STEPS,
            seed,
            {"problem.risk_aversion": risk_aversion, "method.batch": batch},
        )
        for method, batch, risk_aversion in product(
            PROXY_METHODS, PROXY_BATCHES, PROXY_RISK_AVERSIONS
        )
        for seed in range(PROXY_SEEDS if batch else 1)
    ]


def setting(result: Result) -> str:
    """Parametrisation and batch in words."""
    batch = result.run.overrides["method.batch"]
    weights = result.run.method.startswith("projected")
    return f"{'weights' if weights else 'softmax'}, {f'{batch} days' if batch else 'full batch'}"


def rank_correlations(results: Sequence[Result], risk: str) -> np.ndarray:
    """Spearman's rank correlation over assets of sqrt(v) with `risk`; -1, the worst, if failed."""
    return np.array(
        [
            -1.0
            if result.status.failed
            else spearmanr(result.arrays["sqrt_v"], result.arrays[risk])[0]
            for result in results
        ]
    )


def judge_proxy(results: Sequence[Result]) -> Verdict:
    """Holds in settings whose 95 % interval for volatility is above PROXY at each risk aversion."""
    deciding: dict[str, float] = {}
    explaining: dict[str, float] = {}
    findings: dict[bool, list[str]] = {True: [], False: []}
    for name, group in group_by(results, setting).items():
        cells = group_by(group, _risk_aversion).values()
        ranges = []
        for risk in RISKS:
            medians = [float(median(rank_correlations(cell, risk))) for cell in cells]
            low, high = min(medians), max(medians)
            numbers = deciding if risk == "volatility" else explaining
            numbers[f"{name}: least rank correlation with {risk}"] = low
            numbers[f"{name}: greatest rank correlation with {risk}"] = high
            ranges.append(f"{low:.2f} to {high:.2f} with {risk.replace('_', ' ')}")
        bound = min(
            bootstrap_interval(rank_correlations(cell, "volatility")[None], median)[0]
            for cell in cells
        )
        explaining[f"{name}: lower bound of the rank correlation with volatility"] = bound
        explaining[f"{name}: greatest spread of sqrt(v) over held assets"] = max(
            spread_over_held(result) for result in group
        )
        findings[bound >= PROXY].append(f"{name} ({', '.join(ranges)})")
    numbers = deciding | explaining
    if short := cut_short(results):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = ". ".join(
        f"{verb} for {'; '.join(found)}"
        for verb, found in (("Holds", findings[True]), ("Fails", findings[False]))
        if found
    )
    if not findings[False]:
        return Verdict(Answer.HOLDS, because, numbers)
    answer = Answer.HOLDS_UNDER_CONDITIONS if findings[True] else Answer.FAILS
    return Verdict(answer, because, numbers)


def spread_over_held(result: Result) -> float:
    """Standard deviation over mean of sqrt(v) among assets that weigh more than 0.1 %."""
    held = result.arrays["sqrt_v"][result.arrays["weights"] > 1e-3]
    return float(held.std() / held.mean())


def draw_proxy(results: Sequence[Result]) -> Figure:
    """Two scatters of sqrt(v) against volatility, and all rank correlations."""
    figure, (weights, softmax, table) = new_figure(1, 3, panel=(4.2, 4.2))
    cells = group_by(results, lambda result: (setting(result), _risk_aversion(result)))
    for axes, parametrisation, risk_aversion in (
        (weights, "weights", PROXY_RISK_AVERSIONS[1]),
        (softmax, "softmax", PROXY_RISK_AVERSIONS[-1]),
    ):
        cell = f"{parametrisation}, {PROXY_BATCHES[0]} days", risk_aversion
        correlation = rank_correlations(cells[cell][:1], "volatility")[0]
        scatter_assets(axes, cells[cell][0])
        axes.set_title(
            f"{cell[0]}, risk aversion {risk_aversion:g}:\nrank correlation {correlation:.2f}"
        )
    correlations = np.array(
        [
            [float(median(rank_correlations(cell, risk))) for risk in RISKS]
            for cell in cells.values()
        ]
    )
    table.pcolormesh(correlations, cmap="RdBu_r", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(correlations):
        colour = "white" if abs(value) > 0.6 else "black"
        table.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", color=colour)
    table.invert_yaxis()
    table.grid(False)
    table.set_xticks(np.arange(len(RISKS)) + 0.5, [risk.replace("_", "\n") for risk in RISKS])
    table.set_yticks(
        np.arange(len(cells)) + 0.5, [f"{where}, {aversion:g}" for where, aversion in cells]
    )
    table.set(
        ylabel="parametrisation, batch, risk aversion",
        title="rank correlation of sqrt(v) with,\nmedian over seeds",
    )
    return figure


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


def _risk_aversion(result: Result) -> float:
    return result.run.overrides["problem.risk_aversion"]


def cut_short(results: Sequence[Result]) -> str:
    """Why runs limited to fewer steps than the claim's decide nothing; empty if none is."""
    cut = sum(result.run.max_steps < STEPS for result in results)
    return f"{cut} runs were limited to fewer than {STEPS} steps" if cut else ""


CLAIMS = {
    "efficient-frontier": Claim(
        says="Adam with a projection in the metric of its own rates finds the efficient frontier "
        "that CVXPY finds, every point certified by its duality gap.",
        runs=frontier_runs(),
        judge=judge_frontier,
        draw=draw_frontier,
        headline=True,
    ),
    "sqrt-v-is-risk": Claim(
        says="sqrt(v) is a proxy of an asset's risk, so Adam treads carefully where an asset is "
        "volatile.",
        runs=proxy_runs(),
        judge=judge_proxy,
        draw=draw_proxy,
        headline=True,
    ),
}
