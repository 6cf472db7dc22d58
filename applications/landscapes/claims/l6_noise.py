"""L6: in pure noise Adam's step has one size everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

STEPS, BURN_IN = 5000, 3000
BETA1S = (0.0, 0.5, 0.9)
SNRS = (0.1, 0.3, 1.0, 3.0)
DEVIATIONS = (1e-3, 1.0, 1e3)
DECADES = 3.0  # the noise grows by so many to each side of the origin
REGIONS = 10
# Averages over walkers and steps are known to about this.
CLOSE = 0.02
PURE = {
    "problem.deviation": DEVIATIONS,
    "problem.counted_after": BURN_IN,
    "method.lr": (1.0,),
    "method.eps": 1e-30,
}
PLACED = {
    "problem.deviation": (1.0,),
    "problem.growth": 1.0,
    "problem.spread": DECADES,
    "problem.counted_after": BURN_IN,
    "method.lr": (1e-6,),
}

RUNS = [
    *(Run("noise", "adam", STEPS, overrides={**PURE, "method.beta1": beta}) for beta in BETA1S),
    *(Run("noise", "adam", STEPS, overrides={**PURE, "problem.snr": snr}) for snr in SNRS),
    *(Run("noise", method, STEPS, overrides=PLACED) for method in ("adam", "sgd")),
]


def rms_steps(result: Result) -> np.ndarray:
    """(deviations,): root mean square move over walkers and steps, in learning rates."""
    return np.sqrt((result.arrays["rms_move"][:, 0] ** 2).mean(-1)) / result.arrays["lr"]


def mean_steps(result: Result) -> np.ndarray:
    """(deviations,): mean descent over walkers and steps, in learning rates."""
    return -result.arrays["mean_move"][:, 0].mean(-1) / result.arrays["lr"]


def by_region(result: Result) -> np.ndarray:
    """RMS move in learning rates, of the walkers that began in each of REGIONS stretches."""
    squares = result.arrays["rms_move"][0, 0].reshape(REGIONS, -1) ** 2
    return np.sqrt(squares.mean(-1)) / result.arrays["lr"]


def predicted_rms(beta1: float) -> float:
    """sqrt((1 - b) / (1 + b)): that of an average of independent signs of decay b."""
    return sqrt((1 - beta1) / (1 + beta1))


def predicted_mean(snr: float) -> float:
    """Mean over root mean square of the gradient: snr / sqrt(1 + snr²)."""
    return snr / sqrt(1 + snr**2)


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if the RMS step meets its formula at every scale of noise and in every region."""
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, {})
    pure, drifts = results[: len(BETA1S)], results[len(BETA1S) : -2]
    numbers: dict[str, float] = {}
    for beta1, result in zip(BETA1S, pure, strict=True):
        numbers[f"rms_step_beta1_{beta1:g}"] = float(rms_steps(result).mean())
    for snr, result in zip(SNRS, drifts, strict=True):
        numbers[f"mean_step_snr_{snr:g}"] = float(mean_steps(result).mean())
    scale = max(float(np.ptp(rms_steps(result)) / rms_steps(result).mean()) for result in pure)
    numbers["relative_spread_over_noise_scales"] = scale
    for result in results[-2:]:
        regions = by_region(result)
        ratio = float(regions.max() / regions.min())
        numbers[f"{result.run.method}_largest_over_smallest_region"] = ratio
    rms_error = max(
        abs(numbers[f"rms_step_beta1_{beta1:g}"] / predicted_rms(beta1) - 1) for beta1 in BETA1S
    )
    mean_error = max(
        abs(numbers[f"mean_step_snr_{snr:g}"] / predicted_mean(snr) - 1) for snr in SNRS
    )
    adam = numbers["adam_largest_over_smallest_region"]
    because = (
        f"noise of deviation {DEVIATIONS[0]:g} to {DEVIATIONS[-1]:g}: the RMS step is "
        f"lr sqrt((1 - beta1) / (1 + beta1)) to {rms_error:.1%} and differs by {scale:.0e} "
        f"between scales; with drift the mean step is lr snr / sqrt(1 + snr²) to {mean_error:.1%}; "
        f"where noise grows by {2 * DECADES:.0f} decades along the line, Adam's RMS step varies "
        f"by a factor of {adam:.2f}, that of SGD by "
        f"{numbers['sgd_largest_over_smallest_region']:.0e}"
    )
    numbers |= {"greatest_rms_error": rms_error, "greatest_drift_error": mean_error}
    formulas = rms_error <= CLOSE and mean_error <= CLOSE and scale <= CLOSE
    if formulas and adam <= 1.1:
        return Verdict(Answer.HOLDS, because, numbers)
    if formulas:
        condition = f"{because}. Condition: noise that is the same everywhere"
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, condition, numbers)
    return Verdict(Answer.FAILS, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """RMS steps over noise scales and positions, and drift over signal-to-noise ratio."""
    pure, drifts = results[: len(BETA1S)], results[len(BETA1S) : -2]
    figure, (scales, places, drift) = new_figure(1, 3, panel=(3.7, 3.3))
    for beta1, result in zip(BETA1S, pure, strict=True):
        (line,) = scales.plot(DEVIATIONS, rms_steps(result), "o", label=f"β₁ = {beta1:g}")
        scales.axhline(predicted_rms(beta1), color=line.get_color(), linewidth=1)
    scales.set(
        xscale="log",
        ylim=(0, 1.2),
        xlabel="standard deviation of the gradient",
        ylabel="RMS step / lr",
        title="Adam in pure noise:\nlines √((1 - β₁) / (1 + β₁))",
    )
    scales.legend(loc="upper center", ncols=3, columnspacing=1, handletextpad=0.2)
    edges = np.linspace(-DECADES, DECADES, REGIONS + 1)
    places.set(yscale="log", ylim=(1e-3, 1e3))
    for result, name in zip(results[-2:], ("Adam", "SGD"), strict=True):
        places.plot((edges[1:] + edges[:-1]) / 2, by_region(result), marker="o", ms=4, label=name)
    places.set(
        xlabel="position x, where the noise is 10ˣ",
        ylabel="RMS step / lr",
        title="Noise that grows along the line:\nAdam's step is the same everywhere",
    )
    places.legend(loc="upper left")
    drift.plot(SNRS, [mean_steps(result).mean() for result in drifts], "o", label="measured")
    ratio = np.geomspace(0.05, 5, 100)
    drift.plot(ratio, ratio / np.sqrt(1 + ratio**2), label="snr / √(1 + snr²)")
    drift.set(
        xscale="log",
        yscale="log",
        xlabel="signal-to-noise ratio of the gradient",
        ylabel="mean step / lr",
        title="Drift: Adam's step measures\nthe signal-to-noise ratio",
    )
    drift.legend(loc="lower right")
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l6-step-in-noise": Claim(
        says="Adam's normalisation makes the size of its noisy steps independent of the noise's "
        "scale and of position.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
