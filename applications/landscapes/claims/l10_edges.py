"""L10, first part: the curvature sets the largest stable rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short, distance
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

STEPS = 5000
SHARPNESS, BETA = 4.0, 0.9
AVERAGE_EDGE = 2 * (1 + BETA) / (1 - BETA)  # 38, for an average of the gradient
EDGES = {
    "sgd": 2 / SHARPNESS,
    "momentum": 2 * (1 + BETA) / SHARPNESS,
    "nesterov": 2 * (1 + BETA) / (SHARPNESS * (1 + 2 * BETA)),
    # In its first step Adam's rate is 1 / |g|; from the start (1, 1) that makes every curvature 1.
    "frozen-adam": AVERAGE_EDGE,
    "adam": AVERAGE_EDGE,
}
LABELS = {
    "sgd": "gradient descent, 2 / L",
    "momentum": "heavy ball, 2(1 + β) / L",
    "nesterov": "Nesterov, 2(1 + β) / (L(1 + 2β))",
    "frozen-adam": "Adam, rates frozen, 38 / L'",
    "adam": "Adam itself",
}
FACTORS = (0.5, 0.8, 0.9, 0.95, 0.99, 1.01, 1.05, 1.1, 1.2, 1.5)
CONVERGED = 1e-6

RUNS = [
    Run(
        "quadratic",
        method,
        STEPS,
        overrides={
            "problem.sharpness": SHARPNESS,
            "method.lr": tuple(factor * edge for factor in FACTORS),
        },
    )
    for method, edge in EDGES.items()
]


def final_distance(result: Result) -> np.ndarray:
    """Of each rate's descent; that of a diverged one is where it was stopped."""
    return distance(result, result.arrays["x"])[0]


def stable(result: Result) -> np.ndarray:
    """Which rates have brought the descent to the minimum."""
    return (result.arrays["diverged_step"][0] == 0) & (final_distance(result) <= CONVERGED)


def preconditioned_sharpness(result: Result) -> np.ndarray:
    """(second half of the steps, rates, n): step size times curvature along each axis."""
    half = len(result.arrays["step_size"]) // 2
    curvatures = SHARPNESS * np.array([0.1, 1.0])
    return result.arrays["step_size"][half:, 0] * curvatures


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if 0.99 of the edge converges and 1.01 diverges, and so on both sides of it."""
    numbers: dict[str, float] = {}
    below = np.array(FACTORS) < 1
    sharp = []
    for result in results[:-1]:
        method = result.run.method
        diverged = result.arrays["diverged_step"][0] > 0
        converged = stable(result)
        numbers[f"{method}_edge"] = EDGES[method]
        numbers[f"{method}_largest_stable_over_edge"] = max(np.array(FACTORS)[converged], default=0)
        numbers[f"{method}_smallest_diverging_over_edge"] = min(
            np.array(FACTORS)[diverged], default=np.inf
        )
        sharp.append(bool(converged[below].all() and diverged[~below].all()))
    adam = results[-1]
    numbers["adam_fraction_diverged"] = float((adam.arrays["diverged_step"] > 0).mean())
    sharpness = preconditioned_sharpness(adam)
    numbers["adam_mean_preconditioned_sharpness"] = float(sharpness.mean())
    numbers["adam_part_of_steps_beyond_38"] = float((sharpness > AVERAGE_EDGE).mean())
    half = len(adam.arrays["path"]) // 2
    wander = np.sqrt((adam.arrays["path"][half:, 0] ** 2).mean(axis=(0, 2))) / adam.arrays["lr"]
    numbers["adam_least_rms_distance_in_lr"] = float(wander.min())
    numbers["adam_greatest_rms_distance_in_lr"] = float(wander.max())
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = (
        "largest stable and smallest diverging rate, over the predicted edge: "
        + "; ".join(
            f"{LABELS[r.run.method]}: {numbers[f'{r.run.method}_largest_stable_over_edge']:g} and "
            f"{numbers[f'{r.run.method}_smallest_diverging_over_edge']:g}"
            for r in results[:-1]
        )
        + f". Adam itself, at {FACTORS[0]:g} to {FACTORS[-1]:g} of the frozen edge, diverges in "
        f"{numbers['adam_fraction_diverged']:.0%} of descents and converges in "
        f"{stable_for_good(adam).mean():.0%}: as sqrt(v) follows the gradient, step size times "
        f"curvature hovers at {numbers['adam_mean_preconditioned_sharpness']:.1f} on average, "
        f"{numbers['adam_part_of_steps_beyond_38']:.0%} of the time beyond 38, and the distance "
        f"at {numbers['adam_least_rms_distance_in_lr']:.3f} to "
        f"{numbers['adam_greatest_rms_distance_in_lr']:.3f} lr"
    )
    if not any(sharp):
        return Verdict(Answer.FAILS, because, numbers)
    if not all(sharp):
        where = ", ".join(
            LABELS[r.run.method] for r, one in zip(results, sharp, strict=False) if one
        )
        condition = f"{because}. Condition: {where}"
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, condition, numbers)
    if numbers["adam_fraction_diverged"] == 0:
        condition = f"{because}. Condition: rates that do not follow the gradient"
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, condition, numbers)
    return Verdict(Answer.HOLDS, because, numbers)


def stable_for_good(result: Result) -> np.ndarray:
    """Which rates stayed converged through the second half of the steps."""
    half = len(result.arrays["path"]) // 2
    return distance(result, result.arrays["path"][half:, 0]).max(0) <= CONVERGED


def decades_per_step(result: Result) -> np.ndarray:
    """Of each rate, log10 of the distance gained or lost, up to 1e-100 or the divergence."""
    path = distance(result, result.arrays["path"][:, 0])
    growth = []
    for course in path.T:
        last = int(np.flatnonzero(course > 1e-100)[-1])
        stopped = np.flatnonzero(course == course[-1])
        last = min(last, int(stopped[0]))
        growth.append(np.log10(course[last] / course[0]) / max(last, 1))
    return np.array(growth)


def draw(results: Sequence[Result]) -> Figure:
    """How fast each rate converges or diverges, and what Adam does at its frozen edge."""
    figure, (speed, course) = new_figure(1, 2, panel=(4.8, 4.2))
    for result in results:
        # Heavy ball and frozen Adam are one descent in two metrics: their lines coincide.
        frozen = result.run.method == "frozen-adam"
        speed.plot(
            FACTORS,
            decades_per_step(result),
            marker="s" if frozen else "o",
            ms=8 if frozen else 4,
            fillstyle="none" if frozen else "full",
            label=LABELS[result.run.method],
        )
    speed.axvline(1, color="black", linewidth=1)
    speed.axhline(0, color="black", linewidth=1)
    speed.annotate("diverges", (0.5, 0.008))
    speed.annotate("converges", (1.5, -0.015), ha="right")
    speed.set(
        ylim=(-0.1, 0.1),
        xlabel="learning rate / predicted edge",
        ylabel="growth of distance [decades/step]",
        title=f"The edge of stability on a quadratic\nof sharpness L = {SHARPNESS:g}",
    )
    adam = results[-1]
    shown = slice(1, None, 4)
    for factor in (0.5, 1.5):
        sharpness = SHARPNESS * adam.arrays["step_size"][shown, 0, FACTORS.index(factor), -1]
        label = f"Adam itself, lr {factor:g} × the edge"
        course.plot(adam.arrays["path_steps"][shown], sharpness, linewidth=1, label=label)
    course.axhline(AVERAGE_EDGE, color="black", linewidth=1)
    course.annotate(
        f"frozen edge {AVERAGE_EDGE:.0f}", (0, AVERAGE_EDGE), (6, 3), textcoords="offset points"
    )
    course.set(
        ylim=(0, 1.6 * AVERAGE_EDGE),
        xlabel="step",
        ylabel="step size × curvature",
        title="Adam's own rates rise beyond the edge,\nuntil a burst of gradients takes them back",
    )
    course.legend(loc="upper right")
    figure.legend(*speed.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l10-stability-edges": Claim(
        says="The curvature sets the largest stable rate: 2 / L for gradient descent, "
        "2(1 + β) / L for the heavy ball, 2(1 + β) / (L(1 + 2β)) for Nesterov, 38 / L' for Adam "
        "in the metric of its rates.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    )
}
