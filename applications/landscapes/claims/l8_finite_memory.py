"""L8: rare large gradients that Adam forgets too soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

STEPS = 10_000
HEIGHTS = (3.0, 10.0)
LABELS = {"adam": "Adam", "amsgrad": "AMSGrad"}

RUNS = [
    Run(
        "reddi",
        method,
        STEPS,
        overrides={
            "problem.height": height,
            "method.lr": (0.5,),
            "method.lr_schedule": "inverse-sqrt",
            "method.beta1": 0.0,
            "method.beta2": 1 / (1 + height**2),
            "method.eps": 1e-12,
        },
    )
    for height in HEIGHTS
    for method in LABELS
]


def height_of(result: Result) -> float:
    """The rare slope C."""
    return result.run.overrides["problem.height"]


def regret(result: Result) -> float:
    """Average regret per step at the end."""
    return float(result.arrays["average_regret"].item())


def predicted_regret(height: float) -> float:
    """2 (C - 2) / 3: that of standing at 1, where -1 would have been best."""
    return 2 * (height - 2) / 3


def always_at_worst(result: Result) -> float:
    """The part of the steps 1, 4, 7, ... that found the point at 1."""
    return float((result.arrays["path"][::3, 0, 0, 0] == 1).mean())


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if Adam's regret tends to 2 (C - 2) / 3 and AMSGrad's to zero, at every C."""
    numbers: dict[str, float] = {}
    broken, guarded = [], []
    for result in results:
        height, method = height_of(result), result.run.method
        numbers[f"{method}_c{height:g}_average_regret"] = regret(result)
        numbers[f"{method}_c{height:g}_x"] = float(result.arrays["x"].item())
        if method == "adam":
            numbers[f"adam_c{height:g}_part_of_cycles_at_1"] = always_at_worst(result)
            lost = abs(regret(result) / predicted_regret(height) - 1) <= 0.02
            broken.append(lost and always_at_worst(result) == 1)
        else:
            falls = regret(result) <= 0.05 * predicted_regret(height)
            guarded.append(falls and result.arrays["x"].item() <= -0.9)
    if short := cut_short(results, [STEPS] * len(results)):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = "; ".join(
        f"C = {height:g}: Adam stands at 1 in "
        f"{numbers[f'adam_c{height:g}_part_of_cycles_at_1']:.0%} of the cycles, average regret "
        f"{numbers[f'adam_c{height:g}_average_regret']:.4f} (2 (C - 2) / 3 = "
        f"{predicted_regret(height):.4f}); AMSGrad ends at "
        f"{numbers[f'amsgrad_c{height:g}_x']:.3f} with "
        f"{numbers[f'amsgrad_c{height:g}_average_regret']:.4f}"
        for height in HEIGHTS
    )
    if all(broken) and all(guarded):
        return Verdict(Answer.HOLDS, because, numbers)
    both = [hurt and kept for hurt, kept in zip(broken, guarded, strict=True)]
    if any(both):
        where = ", ".join(f"{c:g}" for c, one in zip(HEIGHTS, both, strict=True) if one)
        condition = f"{because}. Condition: C = {where}"
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, condition, numbers)
    return Verdict(Answer.FAILS, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """Where the point is, and the regret so far."""
    figure, (path, course) = new_figure(1, 2, panel=(4.6, 3.6))
    for result in results:
        label = f"{LABELS[result.run.method]}, C = {height_of(result):g}"
        shown = np.unique(np.geomspace(1, len(result.arrays["path"]), 250).astype(int)) - 1
        path.plot(
            result.arrays["path_steps"][shown] + 1,
            result.arrays["path"][shown, 0, 0, 0],
            linewidth=1,
            label=label,
        )
        course.plot(
            [record.step for record in result.records],
            [record.metrics["average_regret"] for record in result.records],
            label=label,
        )
    for height in HEIGHTS:
        course.axhline(predicted_regret(height), color="grey", linewidth=0.8, linestyle=":")
        course.annotate(
            f"2(C - 2)/3, C = {height:g}",
            (STEPS, predicted_regret(height)),
            (0, -11),
            textcoords="offset points",
            ha="right",
            color="grey",
        )
    path.set(
        xscale="log",
        ylim=(-1.1, 1.1),
        xlabel="step",
        ylabel="x (best fixed point: -1)",
        title="Losses Cx, -x, -x, Cx, ... on [-1, 1]:\nAdam is held at the worst point",
    )
    course.set(
        xscale="log",
        yscale="log",
        xlabel="step",
        ylabel="average regret",
        title="Adam's regret stays;\nthat of AMSGrad goes to zero",
    )
    figure.legend(*course.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l8-finite-memory": Claim(
        says="Adam's finite memory can hold it at the worst point for ever; AMSGrad's maximum "
        "guards against that.",
        runs=RUNS,
        judge=judge,
        draw=draw,
        headline=True,
    )
}
