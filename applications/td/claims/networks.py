"""The claim on control by networks: surprise inside a bound against rates tuned and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciopt.bench.domain import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import bootstrap_interval
from sciopt.bench.style import COLOURS, new_figure

TIME_STEPS = 100
"""Of the environment in one step of a run."""
FEWEST_STEPS = 50
"""Fewer say nothing about learning."""
RULES = {
    "fixed": "fixed rate, best of 4",
    "surprise": "rate c |td_error|, best of 4 c",
    "adam": "Adam, best of 4 rates",
    "obgd": "ObGD",
    "intentional": "Intentional TD",
    "relative-surprise": "surprise in ObGD's bound",
    "intentional-surprise": "surprise in Intentional TD's bound",
}
AGENTS = 100
GRIDS = {
    "fixed": (1e-3, 3e-3, 1e-2, 3e-2),
    "surprise": (3e-3, 1e-2, 3e-2, 1e-1),
    "adam": (3e-4, 1e-3, 3e-3, 1e-2),
}
PROBLEMS = {"cart-pole": "no reward noise", "noisy-cart-pole": "reward noise sd 1"}
OURS, RIVALS = "intentional-surprise", ("obgd", "intentional")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " agents"]) -> Interval:
        """The mean of the values."""
        low, high = bootstrap_interval(values[None], lambda sample: sample.mean(-1))
        return cls(float(values.mean()), low, high)

    def named(self, name: str) -> dict[str, float]:
        """As numbers of a verdict."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def _rule(result: Result) -> str:
    return result.run.method.removeprefix("stream-q-")


def _best(result: Result) -> int:
    """Index of the coefficient whose agents have the best mean return over the whole run."""
    return int(result.arrays["scores"].mean((0, 2)).argmax())


def _curves(result: Result) -> Float[np.ndarray, "steps agents"]:
    return result.arrays["scores"][:, _best(result)]


def _mean_returns(result: Result) -> Float[np.ndarray, " agents"]:
    """Each agent's return of the last complete episode, mean over time."""
    return _curves(result).mean(0)


def _by_problem(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {problem: {} for problem in PROBLEMS}
    for result in results:
        found[result.run.problem][_rule(result)] = result
    return found


def _judge(results: Sequence[Result]) -> Verdict:
    by_problem = _by_problem(results)
    means, numbers, gains = {}, {}, {}
    for problem, of_rule in by_problem.items():
        kind = "noisy" if problem.startswith("noisy") else "clean"
        means[kind] = {rule: _mean_returns(result) for rule, result in of_rule.items()}
        for rival in RIVALS:
            # The same agent has the same luck under both rules.
            gain = Interval.of(means[kind][OURS] - means[kind][rival])
            gains[kind, rival] = gain
            numbers |= gain.named(f"surprise_minus_{rival}_{kind}")
    lost = Interval.of(means["noisy"][OURS] - means["clean"][OURS])
    numbers |= lost.named("surprise_noisy_minus_clean")
    for kind, of_rule in means.items():
        for rule, values in of_rule.items():
            numbers |= Interval.of(values).named(f"{rule.replace('-', '_')}_{kind}")
    for kind, of_rule in zip(("clean", "noisy"), by_problem.values(), strict=True):
        for rule, result in of_rule.items():
            name = f"{rule.replace('-', '_')}_{kind}"
            lost_networks = result.arrays["diverged_time_step"][_best(result)] > 0
            numbers[f"{name}_fraction_diverged"] = float(lost_networks.mean())
            numbers[f"{name}_coefficient"] = float(result.arrays["coefficients"][_best(result)])
    return _verdict(gains, numbers, steps=min(len(_curves(result)) for result in results))


def _verdict(
    gains: Mapping[tuple[str, str], Interval], numbers: dict[str, float], steps: int
) -> Verdict:
    """Better than ObGD beyond the interval, and Intentional TD's equal within it, in both kinds."""
    if steps < FEWEST_STEPS:
        because = f"{steps} steps say nothing; run {FEWEST_STEPS} or more"
        return Verdict(Answer.UNDECIDED, because, numbers)
    better = {kind: gains[kind, "obgd"].low > 0 for kind in ("clean", "noisy")}
    worse = {
        kind: gains[kind, "intentional"].high < 0 or gains[kind, "obgd"].high < 0
        for kind in ("clean", "noisy")
    }
    because = "; ".join(
        f"{'without' if kind == 'clean' else 'with'} noise the mean return is "
        f"{numbers[f'intentional_surprise_{kind}']:.0f}, {gains[kind, 'obgd'].mean:+.0f} "
        f"[{gains[kind, 'obgd'].low:+.0f}, {gains[kind, 'obgd'].high:+.0f}] against ObGD and "
        f"{gains[kind, 'intentional'].mean:+.0f} [{gains[kind, 'intentional'].low:+.0f}, "
        f"{gains[kind, 'intentional'].high:+.0f}] against Intentional TD"
        for kind in ("clean", "noisy")
    )
    if any(worse.values()):
        return Verdict(Answer.FAILS, because, numbers)
    if all(better.values()):
        return Verdict(Answer.HOLDS, because, numbers)
    if any(better.values()):
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, because, numbers)
    return Verdict(Answer.UNDECIDED, because, numbers)


def _draw(results: Sequence[Result]) -> Figure:
    figure, axes = new_figure(1, 3, panel=(3.6, 3.2))
    by_problem = _by_problem(results)
    for ax, (problem, of_rule) in zip(axes, by_problem.items(), strict=False):
        _plot_curves(ax, of_rule)
        ax.set(
            title=f"CartPole, {PROBLEMS[problem]}",
            xlabel="time step [1000]",
            ylabel="return of the last episode",
            ylim=(0, 510),
        )
    _plot_means(axes[2], by_problem)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _plot_curves(ax: Axes, of_rule: Mapping[str, Result]) -> None:
    """Mean over the agents, and its 95 % interval."""
    for rule, result in of_rule.items():
        curves = _curves(result)
        time = np.arange(1, len(curves) + 1) * TIME_STEPS / 1000
        (line,) = ax.plot(time, curves.mean(1), label=RULES[rule])
        deviation = 1.96 * curves.std(1) / curves.shape[1] ** 0.5
        low, high = curves.mean(1) - deviation, curves.mean(1) + deviation
        ax.fill_between(time, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _plot_means(ax: Axes, by_problem: Mapping[str, Mapping[str, Result]]) -> None:
    """The mean over time of each rule, with and without noise."""
    for k, (problem, of_rule) in enumerate(by_problem.items()):
        for place, (rule, result) in enumerate(of_rule.items()):
            found = Interval.of(_mean_returns(result))
            ax.errorbar(
                found.mean,
                place + 0.15 - 0.3 * k,
                xerr=[[found.mean - found.low], [found.high - found.mean]],
                marker="os"[k],
                markerfacecolor="white" if k else None,
                color=COLOURS[list(RULES).index(rule)],
                capsize=2,
                linestyle="none",
            )
        face = "white" if k else "grey"
        ax.scatter([], [], marker="os"[k], edgecolors="grey", c=face, label=PROBLEMS[problem])
    ax.set_yticks(range(len(RULES)), list(RULES.values()))
    ax.invert_yaxis()
    ax.set(title="Mean over time", xlabel="mean return")
    ax.legend(loc="best")


CLAIMS_NETWORKS: Mapping[str, Claim] = {
    "control-networks": Claim(
        says="Surprise inside Intentional TD's bound lets streaming networks learn CartPole faster "
        "than ObGD and as fast as Intentional TD, with reward noise and without.",
        runs=[
            Run(
                problem=problem,
                method=f"stream-q-{rule}",
                max_steps=200,
                overrides={"problem.agents": AGENTS}
                | ({"method.coefficients": GRIDS[rule]} if rule in GRIDS else {}),
            )
            for problem in PROBLEMS
            for rule in RULES
        ],
        judge=_judge,
        draw=_draw,
    ),
}
