"""L4: rates that only fall, and rates that recover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log, sqrt

import numpy as np
from matplotlib.figure import Figure

from applications.landscapes.claims.reading import cut_short
from sciopt.bench import Answer, Claim, Result, Run, Verdict
from sciopt.bench.style import new_figure

LABELS = {"adagrad": "AdaGrad", "rmsprop": "RMSProp", "adam": "Adam"}
DECAY = {"rmsprop": 0.99, "adam": 0.999}
DROP, DROP_AFTER, STEPS = 1e-3, 2000, 20_000
TRAVEL_STEPS, REGRET_STEPS, DIAMETER = 2500, 600, 2.0
# A rate has recovered when it is this part of what the smaller gradients ask for.
RECOVERED = 0.9
ZETA_HALF = -1.4603545088095868  # Riemann's zeta(1/2)

RUNS = [
    *(
        Run(
            "slopes",
            method,
            STEPS,
            overrides={
                "problem.slopes": (1.0,),
                "problem.factor": DROP,
                "problem.factor_after": DROP_AFTER,
            },
        )
        for method in LABELS
    ),
    Run(
        "slopes",
        "adagrad",
        TRAVEL_STEPS,
        overrides={"problem.slopes": (7.3,), "method.lr": (1.0,), "method.eps": 0.0},
    ),
    Run("sparse-losses", "adagrad", REGRET_STEPS, overrides={"method.lr": (DIAMETER / sqrt(2),)}),
]
ASKED = [STEPS] * len(LABELS) + [TRAVEL_STEPS, REGRET_STEPS]


def gain(result: Result) -> np.ndarray:
    """The step size over that of the last step before the drop; NaN if that was not reached."""
    rate = result.arrays["step_size"][1:, 0, 0, 0]
    return rate / rate[DROP_AFTER - 1] if len(rate) >= DROP_AFTER else np.full(len(rate), np.nan)


def steps_to_recover(result: Result) -> float:
    """Steps after the drop until the rate has grown by RECOVERED / DROP, or infinity."""
    recovered = np.flatnonzero(gain(result)[DROP_AFTER:] >= RECOVERED / DROP)
    return float(recovered[0] + 1) if len(recovered) else np.inf


def predicted_steps_to_recover(beta: float) -> int:
    """The first n at which the average square, free of bias, is at most (DROP / RECOVERED)².

    It is 1 at the drop, after d steps, and n steps later
    (beta^n (1 - beta^d) + (1 - beta^n) DROP²) / (1 - beta^(d + n)), which is solved for beta^n.
    """
    filled, target = 1 - beta**DROP_AFTER, (DROP / RECOVERED) ** 2
    power = (target - DROP**2) / (filled - DROP**2 + target * beta**DROP_AFTER)
    return ceil(log(power) / log(beta))


def regret_over_bound(result: Result) -> np.ndarray:
    """Of each sequence: its regret over sqrt(2) D sum |g_i|, with |g_i| the norm over the steps."""
    regret = result.arrays["average_regret"][:, 0] * result.last.step
    return regret / (sqrt(2) * DIAMETER * result.arrays["gradient_norm"][:, 0].sum(-1))


def judge(results: Sequence[Result]) -> Verdict:
    """Holds if AdaGrad's rate never rises, the others' recover, and regret meets its bound."""
    *drops, travel, regret = results
    numbers: dict[str, float] = {}
    for method, result in zip(LABELS, drops, strict=True):
        numbers[f"{method}_final_gain"] = float(gain(result)[-1])
        numbers[f"{method}_steps_to_recover"] = steps_to_recover(result)
    adagrad = drops[0].arrays["step_size"][1:, 0, 0, 0]
    numbers["adagrad_greatest_rise"] = float(np.diff(adagrad).max(initial=-np.inf))
    for method, beta in DECAY.items():
        numbers[f"{method}_steps_to_recover_predicted"] = predicted_steps_to_recover(beta)
    moved = float(np.abs(travel.arrays["x"]).item())
    numbers["adagrad_travel"] = moved
    root = sqrt(travel.last.step)
    numbers["adagrad_travel_predicted"] = 2 * root + ZETA_HALF + 1 / (2 * root)
    numbers["adagrad_greatest_regret_over_bound"] = float(regret_over_bound(regret).max())
    if short := cut_short(results, ASKED):
        return Verdict(Answer.UNDECIDED, short, numbers)
    because = (
        f"gradients shrink by {DROP:g} after step {DROP_AFTER}: AdaGrad's rate is "
        f"{numbers['adagrad_final_gain']:.4f} of what it was, {STEPS - DROP_AFTER} steps later; "
        f"RMSProp's has grown by {RECOVERED / DROP:.0f} after "
        f"{numbers['rmsprop_steps_to_recover']:.0f} steps and Adam's after "
        f"{numbers['adam_steps_to_recover']:.0f}. On a constant slope AdaGrad travels {moved:.6f} "
        f"in {travel.last.step} steps (2 sqrt(T) + zeta(1/2) + 1 / (2 sqrt(T)) = "
        f"{numbers['adagrad_travel_predicted']:.6f}); its regret is at most "
        f"{numbers['adagrad_greatest_regret_over_bound']:.2f} of its bound"
    )
    falls = numbers["adagrad_greatest_rise"] <= 0
    recover = [method for method in DECAY if numbers[f"{method}_steps_to_recover"] < np.inf]
    bounded = numbers["adagrad_greatest_regret_over_bound"] <= 1
    if falls and bounded and len(recover) == len(DECAY):
        return Verdict(Answer.HOLDS, because, numbers)
    if falls and bounded and recover:
        condition = f"{because}. Condition: only for {', '.join(LABELS[m] for m in recover)}"
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, condition, numbers)
    return Verdict(Answer.FAILS, because, numbers)


def draw(results: Sequence[Result]) -> Figure:
    """Rates around the drop, AdaGrad's travel, and its regret against the bound."""
    *drops, travel, regret = results
    figure, (rates, course, bound) = new_figure(1, 3, panel=(3.9, 3.5))
    for result in drops:
        shown = np.unique(np.geomspace(1, len(result.arrays["path"]) - 1, 400).astype(int))
        rate = result.arrays["step_size"][shown, 0, 0, 0] / result.arrays["lr"][0]
        rates.plot(result.arrays["path_steps"][shown], rate, label=LABELS[result.run.method])
    rates.axvline(DROP_AFTER, color="grey", linewidth=1)
    rates.annotate(
        f"gradients\n× {DROP:g}", (DROP_AFTER, 300), (-4, 0), textcoords="offset points", ha="right"
    )
    rates.set(
        xscale="log",
        yscale="log",
        xlabel="step",
        ylabel="step size / learning rate",
        title="When gradients shrink, AdaGrad's rate stays\nlow, the others' recover",
    )
    rates.legend(loc="upper left")
    steps = travel.arrays["path_steps"]
    shown = np.unique(np.geomspace(1, len(steps) - 1, 200).astype(int))
    course.plot(steps[shown], -travel.arrays["path"][shown, 0, 0, 0], label="AdaGrad, lr 1")
    root = np.sqrt(steps[shown])
    course.plot(steps[shown], 2 * root + ZETA_HALF + 1 / (2 * root), label="2√T + ζ(1/2) + 1/(2√T)")
    course.set(
        xscale="log",
        yscale="log",
        xlabel="steps T",
        ylabel="distance travelled",
        title="On a constant slope AdaGrad travels\nwith the root of time",
    )
    course.legend(loc="upper left")
    bound.hist(regret_over_bound(regret), bins=np.linspace(0, 1, 41))
    bound.axvline(1, color="black", linewidth=1, linestyle="--")
    bound.annotate(
        "bound", (1, 0.97), (-4, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right", va="top",
    )  # fmt: skip
    bound.set(
        xlabel="regret / (√2 D Σ|gᵢ|)",
        ylabel=f"sequences (of {regret.last.step} sparse losses)",
        title="AdaGrad's regret against its bound,\n50 sequences",
    )
    return figure


CLAIMS: Mapping[str, Claim] = {
    "l4-recovery": Claim(
        says="AdaGrad's rates can only fall, so that it stalls when gradients shrink; those of "
        "RMSProp and Adam recover.",
        runs=RUNS,
        judge=judge,
        draw=draw,
    )
}
