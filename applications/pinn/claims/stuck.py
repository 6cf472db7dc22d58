"""W3: on a stiff equation, L-BFGS gets stuck while Adam is robust, as such networks are often used.

A plain network, penalties for the conditions, points drawn once. Beside them the same equation
solved as this domain does by default, to show how far away the solution is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from applications.pinn.claims.reading import (
    ERROR,
    at_seconds,
    seconds_compared,
    share_standing_still,
)
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import final_scores, group_by, median, paired_difference
from sciopt.bench.style import COLOURS, new_figure, plot_curves

SAYS = "On a stiff PDE, L-BFGS gets stuck while Adam is robust."
PRECISIONS = ("float32", "float64")
SEEDS = 3
LABELS = {
    "adam": "Adam",
    "scipy-lbfgs": "L-BFGS",
    "adam-scipy-lbfgs": "Adam, then L-BFGS",
}
GAUSS_NEWTON = "gauss-newton"
FEWEST_STEPS = 500

AS_USUAL = {
    "method.hidden": (20, 20, 20),
    "method.first_layer_scale": 1.0,
    "method.scaled": False,
    "method.sampling": "sobol",
    "method.redraw_every": 0,
    "method.condition_points": 50,
}


def stuck_runs(steps: Mapping[str, int], points_per_param: float, cure: int) -> list[Run]:
    """Every method in both precisions on the same problem, then Gauss-Newton as it is."""
    usual = [
        Run(
            "burgers-plain",
            name,
            steps[name],
            seed,
            {
                **AS_USUAL,
                "method.precision": precision,
                "method.points_per_param": points_per_param,
            },
        )
        for precision, name, seed in product(PRECISIONS, LABELS, range(SEEDS))
    ]
    return [*usual, *(Run("burgers", GAUSS_NEWTON, cure, seed) for seed in range(SEEDS))]


def precision_of(result: Result) -> str:
    """The precision of the run's method."""
    return result.run.overrides["method.precision"]


def name_of(result: Result) -> str:
    """The run's method, a key of `LABELS`."""
    return result.run.method


def deciding_numbers(precision: str, results: Sequence[Result]) -> dict[str, float]:
    """Whose error stands still, and who is ahead at equal seconds with its bootstrap interval."""
    seconds = seconds_compared(results)
    methods = group_by(results, name_of)
    numbers = {
        f"{precision}: {LABELS[name]}: share whose error stands still": share_standing_still(
            methods[name], ERROR
        )
        for name in ("scipy-lbfgs", "adam")
    }
    difference = paired_difference(
        at_seconds(methods["adam"], ERROR, seconds),
        at_seconds(methods["scipy-lbfgs"], ERROR, seconds),
    )
    for what, value in zip(("median", "low", "high"), difference, strict=True):
        numbers[f"{precision}: error of Adam minus L-BFGS at equal seconds: {what}"] = value
    return numbers


def explaining_numbers(precision: str, results: Sequence[Result]) -> dict[str, float]:
    """Medians over seeds of errors, losses and residuals, method by method."""
    seconds = seconds_compared(results)
    numbers = {f"{precision}: seconds compared": seconds}
    for name, runs in group_by(results, name_of).items():
        medians = {
            "error at equal seconds": at_seconds(runs, ERROR, seconds),
            "error at the end": final_scores(runs, ERROR),
            "loss at the end": final_scores(runs, "loss"),
            "held-out loss at the end": final_scores(runs, "held_out_loss"),
        }
        for what, scores in medians.items():
            numbers[f"{precision}: {LABELS[name]}: {what}"] = float(median(scores))
        share = share_standing_still(runs, "loss")
        numbers[f"{precision}: {LABELS[name]}: share whose loss stands still"] = share
    return numbers


def judge_stuck(results: Sequence[Result]) -> Verdict:
    """Holds where the error of L-BFGS stands still, Adam's does not, and Adam is ahead.

    Standing still is decided by most seeds; being ahead by the error at equal seconds, paired by
    seed: the bootstrap interval, which of three seeds is their whole range, must exclude zero.
    Where only one half is true, that is the condition.
    """
    answers: dict[str, Answer] = {}
    numbers: dict[str, float] = {}
    words: list[str] = []
    usual = [result for result in results if result.run.method != GAUSS_NEWTON]
    precisions = group_by(usual, precision_of)
    for describe in (deciding_numbers, explaining_numbers):
        for precision, group in precisions.items():
            numbers |= describe(precision, group)
    for precision in precisions:
        answers[precision], half = answer_at(precision, numbers)
        words.append(f"{precision}: {half}: {in_words(precision, numbers)}")
    cure = [result for result in results if result.run.method == GAUSS_NEWTON]
    error, seconds = (
        float(np.median([read(result) for result in cure]))
        for read in (lambda r: r.last.metrics[ERROR], lambda r: r.last.seconds)
    )
    numbers["Gauss-Newton: error at the end"] = error
    numbers["Gauss-Newton: seconds"] = seconds
    words.append(f"Gauss-Newton on points redrawn has {error:.2g} after {seconds:.0f} s")
    because = "; ".join(words)
    shortest = min(result.run.max_steps for result in usual)
    if shortest < FEWEST_STEPS:
        because = f"{shortest} steps are too few, {FEWEST_STEPS} are needed; {because}"
        return Verdict(Answer.UNDECIDED, because, numbers)
    if len(set(answers.values())) == 1:
        return Verdict(next(iter(answers.values())), because, numbers)
    if {Answer.HOLDS, Answer.HOLDS_UNDER_CONDITIONS} & set(answers.values()):
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, because, numbers)
    return Verdict(Answer.UNDECIDED, because, numbers)


def answer_at(precision: str, numbers: Mapping[str, float]) -> tuple[Answer, str]:
    """The answer at one precision and, in words, which half of the sentence is true."""
    lbfgs_stuck = numbers[f"{precision}: L-BFGS: share whose error stands still"] > 0.5
    adam_stuck = numbers[f"{precision}: Adam: share whose error stands still"] > 0.5
    low = numbers[f"{precision}: error of Adam minus L-BFGS at equal seconds: low"]
    high = numbers[f"{precision}: error of Adam minus L-BFGS at equal seconds: high"]
    stuck = lbfgs_stuck and not adam_stuck
    who = {
        (True, True): "both are stuck",
        (True, False): "L-BFGS is stuck",
        (False, True): "Adam is stuck",
        (False, False): "neither is stuck",
    }[lbfgs_stuck, adam_stuck]
    if low <= 0 <= high:
        return Answer.UNDECIDED, f"{who}, and seeds disagree on who is ahead"
    ahead = high < 0
    half = f"{who}, and {'Adam' if ahead else 'L-BFGS'} is ahead"
    if stuck and ahead:
        return Answer.HOLDS, half
    return (Answer.HOLDS_UNDER_CONDITIONS if stuck or ahead else Answer.FAILS), half


def in_words(precision: str, numbers: Mapping[str, float]) -> str:
    """What decided the answer at one precision."""

    def of(name: str, what: str) -> float:
        return numbers[f"{precision}: {LABELS[name]}: {what}"]

    lbfgs = "scipy-lbfgs"
    return (
        f"the error stands still in {of(lbfgs, 'share whose error stands still'):.0%} of L-BFGS "
        f"runs, the loss in {of(lbfgs, 'share whose loss stands still'):.0%}; at equal seconds "
        f"L-BFGS has an error of {of(lbfgs, 'error at equal seconds'):.2g}, Adam "
        f"{of('adam', 'error at equal seconds'):.2g}, Adam then L-BFGS "
        f"{of('adam-scipy-lbfgs', 'error at equal seconds'):.2g}; on fresh points L-BFGS leaves a "
        f"loss of {of(lbfgs, 'held-out loss at the end'):.2g}, where the points it trained on "
        f"promise {of(lbfgs, 'loss at the end'):.2g}"
    )


def draw_stuck(results: Sequence[Result]) -> Figure:
    """Error against seconds in each precision, and against the loss that training sees."""
    figure, axes = new_figure(1, 3, panel=(3.7, 3.4))
    colours = dict(zip(LABELS, COLOURS, strict=False))
    markers = {"float32": "o", "float64": "s"}
    usual = [result for result in results if result.run.method != GAUSS_NEWTON]
    cure = [result for result in results if result.run.method == GAUSS_NEWTON]
    for panel, (precision, group) in zip(
        axes[:2], group_by(usual, precision_of).items(), strict=True
    ):
        panel.set_prop_cycle(color=[colours[name] for name in LABELS], linestyle=["-", "--", "-."])
        plot_curves(panel, group, ERROR, label=lambda r: LABELS[name_of(r)])
        panel.set_prop_cycle(color=["black"], linestyle=[":"])
        plot_curves(panel, cure, ERROR, label=lambda _: "Gauss-Newton, points redrawn")
        panel.set(xlabel="seconds of training", title=f"Error over time, {precision}")
    for result in usual:
        losses = [record.metrics["loss"] for record in result.records]
        errors = [record.metrics[ERROR] for record in result.records]
        axes[2].plot(
            losses,
            errors,
            color=colours[name_of(result)],
            linestyle="-",
            linewidth=0.7,
            marker=markers[precision_of(result)],
            markevery=[-1],
            label=f"{result.run.method} seed {result.run.seed}",
        )
    axes[2].set(
        xlabel="loss on the training points\n(last: ○ float32, □ float64)",
        title="Error as the loss falls",
    )
    axes[2].invert_xaxis()
    every = [record.metrics[ERROR] for result in results for record in result.records]
    finite = np.array(every)[np.isfinite(every)]
    for panel in axes:
        panel.set(xscale="log", yscale="log", ylabel="relative L2 error")
        if finite.size:
            panel.set_ylim(0.8 * finite.min(), 1.25 * finite.max())
        panel.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    points = usual[0].last.metrics["points"]
    seeds = len({result.run.seed for result in results})
    figure.suptitle(
        f"Burgers equation, viscosity 0.01/π, {points:.0f} fixed collocation points: "
        f"median and range of {seeds} seeds"
    )
    return figure


CLAIMS: Mapping[str, Claim] = {
    "w3-lbfgs-stuck": Claim(
        says=SAYS,
        runs=stuck_runs({"adam": 1500, "scipy-lbfgs": 1200, "adam-scipy-lbfgs": 1500}, 1.1, 150),
        judge=judge_stuck,
        draw=draw_stuck,
        headline=True,
    ),
    "w3-lbfgs-stuck-long": Claim(
        says=f"{SAYS[:-1]}, also with more points and steps.",
        runs=stuck_runs({"adam": 10000, "scipy-lbfgs": 7000, "adam-scipy-lbfgs": 8000}, 2.7, 300),
        judge=judge_stuck,
        draw=draw_stuck,
    ),
}
