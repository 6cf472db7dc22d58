"""L10: whether adaptive rates approximate the curvature, and the best fixed rate 1 / lambda_max."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import rankdata

from applications.landscapes.claims.reading import cut_short
from applications.landscapes.problems import PROBLEMS, NoisyQuadratic
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import group_by
from sciopt.bench.style import COLOURS, new_figure
from sciopt.diagnostics.effective_rates import correlation

SEEDS = 3
QUADRATICS = {"noisy-quadratic": "axis-aligned", "rotated-noisy-quadratic": "rotated"}
NOISE = {
    "no noise": {"problem.noise_scale": 0.0},
    "even noise": {"problem.covariance": "isotropic"},
    "noise as curvature": {"problem.covariance": "hessian"},
}
QUADRATIC_STEPS, QUADRATIC_RATE = 3000, 0.01
BATCHES = {8: "batches of 8", 64: "batches of 64", 0: "full batch"}
DIGITS_STEPS, DIGITS_RATE = 1500, 1e-3
SHARPNESSES = (1.0, 100.0)
CONDITION = 100.0
TIMES_SHARPNESS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.05, 4.0, 61))
DESCENT_STEPS = 500
DIGITS_RATES = tuple(float(f"{x:.3g}") for x in np.geomspace(0.1, 10, 21))
FULL_BATCH_STEPS = 300

PROXY = 0.75  # least rank correlation that deserves the word
SLOPE_MARGIN = 0.2
ABOUT = (0.5, 2.5)  # times 1 / lambda_max; descent is stable below 2

RUNS = [
    *(
        Run(problem, "adam", QUADRATIC_STEPS, seed, {"method.lr": (QUADRATIC_RATE,), **noise})
        for problem in QUADRATICS
        for noise in NOISE.values()
        for seed in range(SEEDS if "problem.covariance" in noise else 1)
    ),
    *(
        Run(
            "digits",
            "adam",
            DIGITS_STEPS,
            seed,
            {
                "method.lr": (DIGITS_RATE,),
                "problem.batch_size": batch,
                "problem.diagonals": True,
            },
        )
        for batch in BATCHES
        for seed in range(SEEDS)
    ),
    *(
        Run(
            "noisy-quadratic",
            "sgd",
            DESCENT_STEPS,
            overrides={
                "method.lr": tuple(x / sharpness for x in TIMES_SHARPNESS),
                "problem.condition": (CONDITION,),
                "problem.sharpness": sharpness,
                "problem.noise_scale": 0.0,
            },
        )
        for sharpness in SHARPNESSES
    ),
    *(
        Run(
            "digits",
            "sgd",
            FULL_BATCH_STEPS,
            seed,
            {"method.lr": DIGITS_RATES, "problem.batch_size": 0},
        )
        for seed in range(SEEDS)
    ),
]
STEPS = [run.max_steps for run in RUNS]


def setting(result: Result) -> str:
    """Landscape and noise in words."""
    overrides = result.run.overrides
    if result.run.problem == "digits":
        return f"digits, {BATCHES[overrides['problem.batch_size']]}"
    (noise,) = (name for name, chosen in NOISE.items() if chosen.items() <= overrides.items())
    return f"{QUADRATICS[result.run.problem]}, {noise}"


def sqrt_v(result: Result) -> Float[np.ndarray, " n"]:
    """Adam's 1 / rate at the end, the root of its second moment plus eps."""
    if result.run.problem == "digits":
        return result.arrays["inverse_rate"][0]
    (rate,) = result.run.overrides["method.lr"]
    return rate / result.arrays["step_size"][-1, 0, 0]


def hessian(result: Result) -> Float[np.ndarray, "n n"]:
    """Of the result's quadratic."""
    problem = PROBLEMS[result.run.problem]
    assert isinstance(problem, NoisyQuadratic)
    return problem.hessian()[0].numpy()


def curvature(result: Result) -> Float[np.ndarray, " n"]:
    """The diagonal of the Hessian at the end."""
    if result.run.problem == "digits":
        return result.arrays["hessian_diagonal"][0]
    return hessian(result).diagonal()


def fit(curvatures: Float[np.ndarray, " n"], roots: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Rank correlation of sqrt(v) with a diagonal, and the slope of their logarithms."""
    both = (curvatures > 0) & np.isfinite(curvatures) & np.isfinite(roots)
    if both.sum() < 3:
        return float("nan"), float("nan")
    slope = np.polyfit(np.log(curvatures[both]), np.log(roots[both]), 1)[0]
    return correlation(rankdata(curvatures), rankdata(roots)), float(slope)


def condition_left(result: Result) -> float:
    """Condition number in the metric of the rates; that of the landscape itself is 1e4."""
    root = sqrt_v(result) ** -0.5
    eigenvalues = np.linalg.eigvalsh(root[:, None] * hessian(result) * root)
    return float(eigenvalues[-1] / eigenvalues[0])


def best_times_sharpness(result: Result) -> dict[str, float]:
    """The best learning rate of the grid times the largest eigenvalue, at the start and the end."""
    if result.run.problem == "digits":
        loss = result.arrays["loss"]
        best = int(np.nanargmin(loss))
        rate = result.arrays["lr"][best]
        return {
            "digits, λ at the start": float(rate * result.arrays["start_sharpness"]),
            "digits, λ where it ends": float(rate * result.arrays["sharpness"][best]),
        }
    sharpness = result.run.overrides["problem.sharpness"]
    distances = np.linalg.norm(result.arrays["x"][0], axis=-1)
    best = result.arrays["lr"][int(distances.argmin())]
    return {f"quadratic of sharpness {sharpness:g}": float(best * sharpness)}


def judge(results: Sequence[Result]) -> Verdict:
    """Where sqrt(v) is as the curvature, where as its root; the best rate in units of 1 / λ."""
    adam = [result for result in results if result.run.method == "adam"]
    sgd = [result for result in results if result.run.method == "sgd"]
    numbers: dict[str, float] = {}
    kinds: dict[str, list[str]] = {"curvature": [], "root": [], "neither": []}
    for name, group in group_by(adam, setting).items():
        fits = np.array([fit(curvature(result), sqrt_v(result)) for result in group])
        alike, slope = np.median(fits, axis=0)
        numbers[f"{name}: rank correlation of sqrt(v) with the Hessian"] = float(alike)
        numbers[f"{name}: slope of log sqrt(v) over log Hessian"] = float(slope)
        words = f"{name} (rank correlation {alike:.2f}, slope {slope:.2f})"
        kinds[_kind(alike, slope)].append(words)
    numbers |= _more_numbers(adam)
    products: dict[str, list[float]] = {}
    for result in sgd:
        for name, value in best_times_sharpness(result).items():
            products.setdefault(name, []).append(value)
    best = {name: float(np.median(values)) for name, values in products.items()}
    numbers |= {f"{name}: best rate times λ_max": value for name, value in best.items()}
    if short := cut_short(results, STEPS):
        return Verdict(Answer.UNDECIDED, short, numbers)
    about = {name: ABOUT[0] <= value <= ABOUT[1] for name, value in best.items()}
    because = (
        f"sqrt(v) is as the curvature for {_listed(kinds['curvature'])}; as its square root for "
        f"{_listed(kinds['root'])}; as neither for {_listed(kinds['neither'])}. The best fixed "
        "rate of a grid times λ_max: "
        + ", ".join(f"{value:.2g} ({name})" for name, value in best.items())
    )
    if all(about.values()) and not kinds["root"] and not kinds["neither"]:
        return Verdict(Answer.HOLDS, because, numbers)
    if kinds["curvature"] or kinds["root"] or any(about.values()):
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, because, numbers)
    return Verdict(Answer.FAILS, because, numbers)


def _kind(alike: float, slope: float) -> str:
    if alike >= PROXY and abs(slope - 1) <= SLOPE_MARGIN:
        return "curvature"
    return "root" if alike >= PROXY and abs(slope - 0.5) <= SLOPE_MARGIN else "neither"


def _more_numbers(adam: Sequence[Result]) -> dict[str, float]:
    """What the diagonal rates leave of the condition number, and the Fisher information."""
    numbers = {}
    for name, group in group_by(adam, setting).items():
        if name.startswith("digits"):
            for key in ("fisher_diagonal", "empirical_fisher_diagonal"):
                fits = [fit(result.arrays[key][0], sqrt_v(result)) for result in group]
                alike, slope = np.median(fits, axis=0)
                words = key.replace("_diagonal", "").replace("fisher", "Fisher").replace("_", " ")
                numbers[f"{name}: rank correlation with the {words}"] = float(alike)
                numbers[f"{name}: slope over the {words}"] = float(slope)
        else:
            left = float(np.median([condition_left(result) for result in group]))
            numbers[f"{name}: condition number left of 1e4"] = left
    return numbers


def _listed(words: Sequence[str]) -> str:
    return "; ".join(words) or "nothing"


def draw(results: Sequence[Result]) -> Figure:
    """sqrt(v) against the Hessian's diagonal, and the best fixed rate."""
    figure, ((aligned, rotated), (digits, best)) = new_figure(2, 2, panel=(4.8, 3.6))
    groups = group_by([r for r in results if r.run.method == "adam"], setting)
    for axes, kind, title in (
        (aligned, "axis-aligned", "Axis-aligned, κ = 10,000: the noise decides the slope"),
        (rotated, "rotated", "Rotated: the rates leave κ nearly as it was"),
        (digits, "digits", "Digits: the smaller the batch, the more alike"),
    ):
        chosen = {name: group[0] for name, group in groups.items() if name.startswith(kind)}
        _scatter(axes, chosen)
        axes.set_title(title)
    digits.set_xlabel("diagonal of the Hessian of the training loss")
    _draw_best(best, [result for result in results if result.run.method == "sgd"])
    return figure


def _scatter(axes: Axes, chosen: Mapping[str, Result]) -> None:
    for (name, result), colour, marker in zip(chosen.items(), COLOURS, "osx", strict=False):
        diagonal, roots = curvature(result), sqrt_v(result)
        alike, slope = fit(diagonal, roots)
        label = f"{name.split(', ')[1]}: ρ = {alike:.2f}, slope {slope:.2f}"
        many = result.run.problem == "digits"
        if not many:
            label += f", κ left {condition_left(result):.0f}"
        axes.plot(
            diagonal,
            roots / np.median(roots),
            marker,
            ms=1.5 if many else 4,
            color=colour,
            linestyle="none",
            rasterized=many,
            label=label,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="diagonal of the Hessian",
        ylabel="Adam's sqrt(v) over its median",
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.4)
    for axis in (axes.xaxis, axes.yaxis):
        narrow = np.ptp(np.log10(axis.get_view_interval())) < 2.5
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left", fontsize=7)


def _draw_best(axes: Axes, results: Sequence[Result]) -> None:
    for result in results:
        rates = result.arrays["lr"]
        if result.run.problem == "digits":
            scale, values = float(result.arrays["start_sharpness"]), result.arrays["loss"]
            look, label = {"color": COLOURS[1], "linestyle": "-"}, "digits: training loss"
        else:
            scale = result.run.overrides["problem.sharpness"]
            values = np.linalg.norm(result.arrays["x"][0], axis=-1)
            look = {"color": COLOURS[0], "linestyle": "--"}
            label = "quadratics: distance"
        known = axes.get_legend_handles_labels()[1]
        finite = np.nan_to_num(values, nan=np.inf)
        relative = np.where(finite < 1e3 * finite.min(), finite / finite.min(), np.nan)
        axes.plot(
            rates * scale, relative, marker=".", label=None if label in known else label, **look
        )
    for edge, words in ((1, "1 / λ"), (2, "2 / λ")):
        axes.axvline(edge, color="grey", linewidth=1, linestyle=":")
        axes.annotate(
            words, (edge, 0.98), (2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top", color="grey", fontsize=7,
        )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="fixed learning rate times λ_max at the start",
        ylabel="end value over the best of the grid",
        title="The best fixed rate is a few times 1 / λ_max",
    )
    axes.legend(loc="lower left", fontsize=7)


CLAIMS: Mapping[str, Claim] = {
    "l10-curvature": Claim(
        says="Adaptive rates approximate the inverse curvature, and the best fixed learning rate "
        "is about 1 / λ_max.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
