"""L3: what one rate per parameter can and cannot do about an ill-conditioned quadratic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short, steps_to_settle
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import COLOURS, LINE_STYLES, new_figure

STEPS = 2000
# It is told the whole Hessian of a quadratic.
NEWTON_STEPS = 20
CONDITIONS = tuple(float(condition) for condition in np.logspace(1, 6, 21))
RATES = tuple(float(rate) for rate in np.logspace(-3, 2, 41))
LABELS = {
    "sgd": "SGD",
    "momentum": "momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "jacobi": "Jacobi",
    "newton": "Newton",
}
ADAPTIVE = ("adagrad", "rmsprop", "adam")
PHASES = ("sgd", "adagrad", "adam")
PLACES = {"quadratic": "axis-aligned", "rotated-quadratic": "rotated"}
# Of unequal lengths, so that no single step length is right for all of them by luck.
START = (1.0, -0.6, 0.8, -1.3, 0.5, 1.1)
# A method does not notice the conditioning if the worst of five decades costs less than this.
FLAT = 2.0

RUNS = [
    Run(
        problem,
        method,
        NEWTON_STEPS if method == "newton" else STEPS,
        overrides={
            "problem.condition": CONDITIONS,
            "problem.start": START,
            "problem.tolerance": 1e-2,
            **({} if method == "newton" else {"method.lr": RATES}),
        },
    )
    for problem in PLACES
    for method in LABELS
]
ASKED = [run.max_steps for run in RUNS]


def fewest_steps(result: Result) -> np.ndarray:
    """Steps to settle at the best learning rate of each condition number."""
    return steps_to_settle(result).min(-1)


def judge(results: Sequence[Result]) -> Verdict:
    """Holds where adaptive rates do not notice the conditioning and AdaGrad is ahead of Jacobi."""
    fewest = {
        (PLACES[result.run.problem], result.run.method): fewest_steps(result) for result in results
    }
    numbers: dict[str, float] = {}
    for (place, method), steps in fewest.items():
        reached = np.isfinite(steps)
        conditions = np.array(CONDITIONS)[reached]
        numbers[f"{place}_{method}_largest_condition_settled"] = conditions.max(initial=0.0)
        numbers[f"{place}_{method}_steps_at_condition_10"] = float(steps[0])
    flat = {place: _flat_methods(fewest, place) for place in PLACES.values()}
    ahead = {place: _adagrad_over_jacobi(fewest, place) for place in PLACES.values()}
    deciding = {
        "axis-aligned_worst_spread_of_an_adaptive_method": _worst_spread(fewest, "axis-aligned"),
        "rotated_worst_spread_of_an_adaptive_method": _worst_spread(fewest, "rotated"),
        "axis-aligned_adagrad_steps_over_jacobi": ahead["axis-aligned"],
        "rotated_adagrad_steps_over_jacobi": ahead["rotated"],
        "axis-aligned_sgd_exponent": exponent(fewest["axis-aligned", "sgd"]),
        "rotated_adagrad_exponent": exponent(fewest["rotated", "adagrad"]),
    }
    numbers = deciding | numbers
    if short := cut_short(results, ASKED):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = (
        f"steps at the best of {len(RATES)} rates, condition 10 to 1e6: axis-aligned, "
        f"{', '.join(LABELS[m] for m in flat['axis-aligned']) or 'none'} of the adaptive methods "
        f"need no more than {FLAT:g} times as many at the worst condition as at the best, while "
        f"those of SGD grow as condition^{deciding['axis-aligned_sgd_exponent']:.2f}; rotated, "
        f"{', '.join(LABELS[m] for m in flat['rotated']) or 'none'} do, and those of AdaGrad "
        f"grow as condition^{deciding['rotated_adagrad_exponent']:.2f}. AdaGrad's steps over "
        f"Jacobi's: {ahead['axis-aligned']:.3g} axis-aligned, {ahead['rotated']:.3g} rotated"
    )
    needed = deciding["axis-aligned_sgd_exponent"] > 0.5
    if not needed or not flat["axis-aligned"]:
        return Verdict(Answer.FAILS, because, numbers)
    everywhere = len(flat["rotated"]) == len(ADAPTIVE) and max(ahead.values()) < 1
    if everywhere:
        return Verdict(Answer.HOLDS, because, numbers)
    behind = [place for place, ratio in ahead.items() if not ratio < 1]
    conditions = "Condition: the eigenvectors must be the axes"
    if behind:
        conditions += (
            f". Its second half fails {' and '.join(behind)}: Jacobi preconditioning, which is "
            "told the Hessian's diagonal, is the faster"
        )
    return Verdict(Answer.HOLDS_UNDER_CONDITIONS, f"{because}. {conditions}", numbers)


def _flat_methods(fewest: Mapping[tuple[str, str], np.ndarray], place: str) -> list[str]:
    return [method for method in ADAPTIVE if _spread(fewest[place, method]) <= FLAT]


def _worst_spread(fewest: Mapping[tuple[str, str], np.ndarray], place: str) -> float:
    return max(_spread(fewest[place, method]) for method in ADAPTIVE)


def _spread(steps: np.ndarray) -> float:
    return float(steps.max() / steps.min()) if np.isfinite(steps.min()) else np.inf


def _adagrad_over_jacobi(fewest: Mapping[tuple[str, str], np.ndarray], place: str) -> float:
    """Geometric mean over the condition numbers that both settle at."""
    adagrad, jacobi = fewest[place, "adagrad"], fewest[place, "jacobi"]
    both = np.isfinite(adagrad) & np.isfinite(jacobi)
    return float(np.exp(np.log(adagrad[both] / jacobi[both]).mean())) if both.any() else np.nan


def exponent(steps: np.ndarray) -> float:
    """Of the power law between steps and condition, by least squares where there are steps."""
    reached = np.isfinite(steps)
    if reached.sum() < 2:
        return np.nan
    return float(np.polyfit(np.log(np.array(CONDITIONS)[reached]), np.log(steps[reached]), 1)[0])


def draw(results: Sequence[Result]) -> Figure:
    """Steps against condition number, and the phase diagram of rate and condition number."""
    figure, rows = new_figure(2, 1 + len(PHASES), panel=(3.3, 3.0))
    titles = {
        "axis-aligned": "Axes are eigenvectors: no adaptive\nrate notices the conditioning",
        "rotated": "Rotated: all but Newton\npay for the conditioning",
    }
    mesh = None
    for row, (problem, place) in zip(rows, PLACES.items(), strict=True):
        by_method = {r.run.method: r for r in results if r.run.problem == problem}
        for number, (method, result) in enumerate(by_method.items()):
            row[0].plot(
                CONDITIONS,
                fewest_steps(result),
                color=COLOURS[number],
                linestyle=LINE_STYLES[number % len(LINE_STYLES)],
                marker="o",
                ms=2,
                label=LABELS[method],
            )
        row[0].set(
            xscale="log",
            yscale="log",
            ylim=(0.8, STEPS),
            xlabel="condition number",
            ylabel="steps at the best rate",
            title=titles[place],
        )
        for axes, method in zip(row[1:], PHASES, strict=True):
            mesh = _draw_phases(axes, by_method[method])
            axes.set_title(f"{LABELS[method]}, {place}")
        row[1].axhline(2, color="black", linewidth=1, linestyle="--")
        row[1].annotate("2 / λ_max", (9e5, 2), (0, 3), textcoords="offset points", ha="right")
    if mesh is not None:
        figure.colorbar(mesh, ax=rows[:, -1], label="steps to settle (grey: not within the limit)")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    return figure


def _draw_phases(axes: Axes, result: Result) -> QuadMesh:
    steps = steps_to_settle(result)
    mesh = axes.pcolormesh(
        CONDITIONS,
        result.arrays["lr"],
        np.ma.masked_invalid(steps.T),
        norm=LogNorm(1, STEPS),
        rasterized=True,
    )
    axes.set(xscale="log", yscale="log", xlabel="condition number", ylabel="learning rate")
    axes.set_facecolor("0.9")
    axes.grid(False)
    return mesh


CLAIMS: Mapping[str, Claim] = {
    "l3-anisotropy": Claim(
        says="An anisotropic loss needs a rate per parameter, and AdaGrad's rates serve it better "
        "than simple preconditioning does.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    )
}
