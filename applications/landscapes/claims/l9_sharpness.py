"""L9: whether adaptive rates find sharper minima, and whether sharp minima generalise worse.

The literature disagrees: Keskar et al. (2017) and Wilson et al. (2017) say yes, Dinh et al. (2017)
that sharpness can be scaled away, Andriushchenko et al. (2023) that the correlation can have either
sign. Here one network and one data set are measured, at equal training loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import rankdata

from applications.landscapes.claims.reading import cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import COLOURS, new_figure

STEPS = 1500
BATCHES = (16, 64, 256)
SEEDS = 3


def _grid(lowest: float, highest: float) -> tuple[float, ...]:
    return tuple(float(f"{rate:.3g}") for rate in np.geomspace(lowest, highest, 11))


RATES = {
    "sgd": _grid(1e-2, 3.2),
    "momentum": _grid(1e-3, 0.32),
    "adagrad": _grid(3e-3, 0.32),
    "rmsprop": _grid(1e-4, 0.032),
    "adam": _grid(1e-4, 0.032),
}
LABELS = {
    "sgd": "SGD",
    "momentum": "momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
}
ADAPTIVE = ("adagrad", "rmsprop", "adam")
# A tenth of the loss of guessing: what has not been learnt has no minimum to speak of.
TRAINED = log(10) / 10
FEWEST = 20
# A rank correlation below it, in every seed, is none.
WEAK = 0.1

RUNS = [
    Run(
        "digits",
        method,
        STEPS,
        seed,
        {"problem.batch_size": batch, "method.lr": rates},
    )
    for seed in range(SEEDS)
    for batch in BATCHES
    for method, rates in RATES.items()
]

PAIRS = {
    "adaptive_and_sharpness": "an adaptive method and\nsharpness",
    "sharpness_and_accuracy": "sharpness and\ntest accuracy",
    "adaptive_and_accuracy": "an adaptive method and\ntest accuracy",
    "rate_correlation_and_accuracy": "ρ(rate, |parameter|) and\ntest accuracy",
    "rate_correlation_and_sharpness": "ρ(rate, |parameter|) and\nsharpness",
}


def trained(results: Sequence[Result]) -> dict[str, np.ndarray]:
    """All networks of the results that learnt their images, in columns."""
    columns: dict[str, list[np.ndarray]] = {}
    for result in results:
        kept = result.arrays["loss"] < TRAINED
        table = {
            "adaptive": np.full(kept.size, float(result.run.method in ADAPTIVE)),
            "method": np.full(kept.size, list(RATES).index(result.run.method)),
            "batch": np.full(kept.size, result.run.overrides["problem.batch_size"]),
            "sharpness": result.arrays["sharpness"],
            "accuracy": result.arrays["test_accuracy"],
            "loss": result.arrays["loss"],
            "rate_correlation": result.arrays["rate_rank_correlation"],
        }
        for name, values in table.items():
            columns.setdefault(name, []).append(values[kept])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def excess_sharpness(table: Mapping[str, np.ndarray]) -> Float[np.ndarray, " networks"]:
    """Sharpness over what networks of the same training loss have, a parabola in logarithms."""
    losses, sharpness = np.log(table["loss"]), np.log(table["sharpness"])
    return np.exp(sharpness - np.polyval(np.polyfit(losses, sharpness, 2), losses))


def partial_rank_correlation(
    one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], given: Float[np.ndarray, " n"]
) -> float:
    """Spearman's correlation of two quantities with a third held fixed; NaN if one is constant."""
    ranks = [rankdata(values) for values in (one, other, given)]
    if min(np.ptp(values) for values in ranks) == 0:
        return float("nan")
    (_, direct, first), (_, _, second), _ = np.corrcoef(ranks)
    return float((direct - first * second) / np.sqrt((1 - first**2) * (1 - second**2)))


def correlations(results: Sequence[Result], pair: str) -> tuple[list[float], list[float]]:
    """The pair's rank correlation in every seed, as it is and at equal training loss."""
    left, right = pair.split("_and_")
    plain, partial = [], []
    for seed in sorted({result.run.seed for result in results}):
        table = trained([result for result in results if result.run.seed == seed])
        adaptive = table["adaptive"] == 1
        rows = adaptive if left == "rate_correlation" else np.full(adaptive.size, True)
        if rows.sum() < 4:
            plain.append(float("nan"))
            partial.append(float("nan"))
            continue
        one, other, loss = (table[name][rows] for name in (left, right, "loss"))
        plain.append(float(np.corrcoef(rankdata(one), rankdata(other))[0, 1]))
        partial.append(partial_rank_correlation(one, other, loss))
    return plain, partial


def found(values: Sequence[float], sign: int) -> bool | None:
    """Whether every seed has a correlation of that sign; None if the seeds disagree."""
    signed = sign * np.array(values)
    if (signed >= WEAK).all():
        return True
    return False if (signed < WEAK).all() else None


def judge(results: Sequence[Result]) -> Verdict:
    """Both halves at equal training loss, each decided only where all seeds agree."""
    plain, partial = {}, {}
    for pair in PAIRS:
        plain[pair], partial[pair] = correlations(results, pair)
    numbers = {f"partial_{pair}": float(np.median(values)) for pair, values in partial.items()}
    for pair in PAIRS:
        numbers[f"partial_{pair}_low"] = min(partial[pair])
        numbers[f"partial_{pair}_high"] = max(partial[pair])
        numbers[f"plain_{pair}"] = float(np.median(plain[pair]))
    for method in RATES:
        of_method = [result for result in results if result.run.method == method]
        numbers[f"{method}_best_test_accuracy"] = _best_accuracy(of_method)
    counts = [
        len(trained([result for result in results if result.run.seed == seed])["loss"])
        for seed in {result.run.seed for result in results}
    ]
    numbers["fewest_trained_networks_of_a_seed"] = min(counts)
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    if min(counts) < FEWEST:
        because = f"only {min(counts)} networks of a seed reached a loss below {TRAINED:.2f}"
        return Verdict(Answer.UNDECIDED, because, numbers)
    sharper = found(partial["adaptive_and_sharpness"], 1)
    worse = found(partial["sharpness_and_accuracy"], -1)
    said = {True: "yes", False: "no", None: "the seeds disagree"}
    because = (
        "on this network and these images, at equal training loss: do adaptive methods find "
        f"sharper minima: {said[sharper]} (partial rank correlation "
        f"{_span(partial['adaptive_and_sharpness'])} over the seeds); are sharper minima worse in "
        f"test: {said[worse]} ({_span(partial['sharpness_and_accuracy'])}); adaptive methods and "
        f"test accuracy: {_span(partial['adaptive_and_accuracy'])}; the correlation of rates with "
        "parameters' magnitude, and test accuracy: "
        f"{_span(partial['rate_correlation_and_accuracy'])}"
    )
    return Verdict(_answer(sharper, worse), because, numbers)


def _answer(sharper: bool | None, worse: bool | None) -> Answer:
    if sharper and worse:
        return Answer.HOLDS
    if sharper is False or worse is False:
        return Answer.HOLDS_UNDER_CONDITIONS if sharper or worse else Answer.FAILS
    return Answer.UNDECIDED


def _span(values: Sequence[float]) -> str:
    return f"{min(values):+.2f} to {max(values):+.2f}"


def _best_accuracy(results: Sequence[Result]) -> float:
    """Over learning rates and batch sizes, the median of the seeds."""
    seeds = {result.run.seed for result in results}
    return float(
        np.median(
            [
                max(np.nanmax(r.arrays["test_accuracy"]) for r in results if r.run.seed == seed)
                for seed in seeds
            ]
        )
    )


def draw(results: Sequence[Result]) -> Figure:
    """Sharpness against loss, its excess by method, test error against it, the correlations."""
    figure, ((falls, excess), (test, bars)) = new_figure(2, 2, panel=(5.0, 3.9))
    for (method, label), colour in zip(LABELS.items(), COLOURS, strict=False):
        of_method = [result for result in results if result.run.method == method]
        losses, sharpness = _gathered(of_method, "loss"), _gathered(of_method, "sharpness")
        marker = "o" if method in ADAPTIVE else "x"
        falls.plot(
            losses, sharpness, marker, ms=3, alpha=0.7, color=colour, linestyle="none",
            label=label, rasterized=True,
        )  # fmt: skip
    falls.axvline(TRAINED, color="grey", linewidth=1)
    falls.annotate(
        "learnt", (TRAINED, 1), (-4, -2), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right", va="top", color="grey",
    )  # fmt: skip
    falls.set(
        xscale="log",
        yscale="log",
        ylim=(1e-3, None),
        xlabel="training loss",
        ylabel="sharpness: top Hessian eigenvalue",
        title="Sharpness goes with the training loss,\nwhatever the method",
    )
    falls.legend(loc="lower right", markerscale=1.5)
    table = trained(results)
    if len(table["loss"]) >= FEWEST:
        _draw_excess(excess, table)
        _draw_accuracy(figure, test, table)
    _draw_correlations(bars, results)
    return figure


def _draw_excess(axes: Axes, table: Mapping[str, np.ndarray]) -> None:
    ratios, shift = excess_sharpness(table), np.linspace(-0.25, 0.25, len(BATCHES))
    for method, colour in zip(range(len(RATES)), COLOURS, strict=False):
        for place, (batch, marker) in zip(shift, zip(BATCHES, "os^", strict=True), strict=True):
            chosen = ratios[(table["method"] == method) & (table["batch"] == batch)]
            x, look = method + place, {"color": colour, "linestyle": "none"}
            axes.plot(
                np.full(chosen.size, x), chosen, marker, ms=3, alpha=0.4, rasterized=True, **look
            )
            if chosen.size:
                axes.plot([x - 0.1, x + 0.1], [np.median(chosen)] * 2, "-", color="black", lw=2)
    for batch, marker in zip(BATCHES, "os^", strict=True):
        axes.plot([], [], marker, color="grey", linestyle="none", label=f"batches of {batch}")
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks(range(len(RATES)), LABELS.values(), fontsize=8)
    axes.set(
        yscale="log",
        ylabel="sharpness / usual at that loss",
        title="Sharper or flatter than others of the same\ntraining loss (bars: medians)",
    )
    axes.set_ylim(ratios.min() / 1.5, 2 * ratios.max())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left", fontsize=7, ncols=len(BATCHES))


def _draw_accuracy(figure: Figure, axes: Axes, table: Mapping[str, np.ndarray]) -> None:
    points = axes.scatter(
        table["sharpness"], 100 * (1 - table["accuracy"]), c=table["loss"], s=12,
        norm=LogNorm(1e-4, TRAINED), cmap="viridis", rasterized=True,
    )  # fmt: skip
    figure.colorbar(points, ax=axes, label="training loss")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="sharpness",
        ylabel="test error [%]",
        title="Test error against sharpness:\ncompare points of one colour",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def _draw_correlations(axes: Axes, results: Sequence[Result]) -> None:
    for row, pair in enumerate(PAIRS):
        plain, partial = correlations(results, pair)
        axes.plot(
            plain, np.full(len(plain), row - 0.15), "o", color=COLOURS[4], fillstyle="none",
            label="as it is" if row == 0 else None,
        )  # fmt: skip
        axes.plot(
            partial, np.full(len(partial), row + 0.15), "o", color=COLOURS[0],
            label="at equal training loss" if row == 0 else None,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(PAIRS)), PAIRS.values(), fontsize=8)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set(
        xlim=(-1, 1),
        ylim=(len(PAIRS) + 0.1, -0.5),
        xlabel="rank correlation, one dot per seed",
        title="What correlates once the\ntraining loss is held fixed",
    )
    axes.legend(loc="lower right", fontsize=7, frameon=True, framealpha=1)


def _gathered(results: Sequence[Result], name: str) -> np.ndarray:
    return np.concatenate([result.arrays[name] for result in results])


CLAIMS: Mapping[str, Claim] = {
    "l9-sharpness": Claim(
        says="Adaptive methods find sharper minima than SGD at the same training loss, and sharper "
        "minima generalise worse.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
