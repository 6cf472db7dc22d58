"""The claims: what surprise does to learning, without noise, in noise, and in control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciopt.bench.domain import Answer, Claim, Result, Run, Verdict
from sciopt.bench.statistics import bootstrap_interval, median, paired_difference
from sciopt.bench.style import new_figure

RULES = {"fixed": "fixed rate c", "surprise": "surprise c|δ|", "bounded": "bounded c|δ|/σ"}
SCALE = 100.0
# Without noise the bounded rule tends to the rate 1 as c grows, which is best on the cliff.
BOUNDED_GRID = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 4.0, 16.0, 64.0)
# Episodes in a step.
TEN = {"problem.episodes_per_step": 10}
# Fewer episodes say nothing about learning.
FEWEST_EPISODES = 20


def _rule(result: Result) -> str:
    return result.run.method.split("-")[1]


def _diverged(result: Result) -> np.ndarray:
    return result.arrays["diverged_episode"] > 0


def _fraction_diverged(result: Result) -> Float[np.ndarray, " coefficients"]:
    return _diverged(result).mean(-1)


def _losses(result: Result) -> Float[np.ndarray, "coefficients agents"]:
    """Each agent's mean value error, or minus its mean return; infinite if it diverged."""
    sign = 1.0 if result.run.method.startswith("td-") else -1.0
    return np.where(_diverged(result), np.inf, sign * result.arrays["scores"].mean(0))


def _tuned(result: Result) -> int:
    """Index of the coefficient with the lowest median loss."""
    return int(np.argmin(median(_losses(result))))


def _coefficient(result: Result, index: int) -> float:
    return float(result.arrays["coefficients"][index])


def _written(coefficient: float) -> str:
    return f"{coefficient:g}" if coefficient >= 1 else f"1/{1 / coefficient:g}"


# ------------------------------------------------------------------ prediction in a random walk


def _walks(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    """The headline's results: "clean", "noisy" and "scaled", each by rule."""
    walks: dict[str, dict[str, Result]] = {"clean": {}, "noisy": {}, "scaled": {}}
    for result in results:
        scaled = "problem.reward_scale" in result.run.overrides
        kind = "scaled" if scaled else "noisy" if result.run.problem == "noisy-walk" else "clean"
        walks[kind][_rule(result)] = result
    return walks


def _scale_deviation(plain: Result, scaled: Result) -> float:
    """Largest relative difference that scaling the rewards made to a value error."""
    episodes = min(len(plain.arrays["scores"]), len(scaled.arrays["scores"]))
    expected = plain.arrays["scores"][:episodes] * scaled.arrays["reward_scale"]
    return float(np.max(np.abs(scaled.arrays["scores"][:episodes] / expected - 1)))


def _judge_walk(results: Sequence[Result]) -> Verdict:
    walks = _walks(results)
    clean, noisy, scaled = walks["clean"], walks["noisy"], walks["scaled"]
    tuned = {rule: _tuned(result) for rule, result in clean.items()}
    clean_loss = {rule: _losses(result)[tuned[rule]] for rule, result in clean.items()}
    noisy_fixed = _losses(noisy["fixed"])[_tuned(noisy["fixed"])]
    lost = _diverged(noisy["surprise"])[tuned["surprise"]].astype(float)
    bounded_lost = [_fraction_diverged(walks[kind]["bounded"]).max() for kind in walks]
    # Two of the article's sentence, two of the cure; each as median and 95 % interval.
    gain = paired_difference(clean_loss["surprise"], clean_loss["fixed"])
    lost_interval = bootstrap_interval(lost[None], lambda sample: sample.mean(-1))
    bounded_gain = paired_difference(clean_loss["bounded"], clean_loss["fixed"])
    kept = _losses(noisy["bounded"])[tuned["bounded"]]
    bounded_noisy_gain = paired_difference(kept, noisy_fixed)
    deviation = _scale_deviation(clean["bounded"], scaled["bounded"])
    numbers = {
        **{f"{rule}_clean_error": float(median(clean_loss[rule])) for rule in RULES},
        "surprise_fraction_diverged_noisy": float(lost.mean()),
        "fixed_best_noisy_error": float(median(noisy_fixed)),
        "bounded_noisy_error": float(median(kept)),
        "bounded_fraction_diverged": float(max(bounded_lost)),
        "bounded_scale_deviation": deviation,
        **_with_interval("surprise_minus_fixed_clean", gain),
        **_with_interval("bounded_minus_fixed_clean", bounded_gain),
        **_with_interval("bounded_minus_best_fixed_noisy", bounded_noisy_gain),
        "surprise_fraction_diverged_noisy_low": lost_interval[0],
        "surprise_fraction_diverged_noisy_high": lost_interval[1],
        "surprise_fraction_diverged_scaled": float(
            _fraction_diverged(scaled["surprise"])[tuned["surprise"]]
        ),
        **{f"{rule}_coefficient": _coefficient(clean[rule], tuned[rule]) for rule in RULES},
    }
    episodes = len(clean["fixed"].arrays["scores"])
    if episodes < FEWEST_EPISODES:
        because = f"{episodes} episodes say nothing; run {FEWEST_EPISODES} or more"
        return Verdict(Answer.UNDECIDED, because, numbers)

    accelerates, diverges = gain[2] < 0, lost_interval[0] > 0.5
    cured = max(bounded_lost) == 0 and bounded_gain[2] < 0 and deviation < 1e-9
    if not (accelerates and diverges and cured):
        refuted = gain[1] > 0 or lost_interval[1] < 0.5 or max(bounded_lost) > 0
        because = (
            f"faster without noise: {accelerates}; diverges in noise: {diverges}; "
            f"the bounded rule is faster, scale-free and never diverges: {cured}"
        )
        return Verdict(Answer.FAILS if refuted else Answer.UNDECIDED, because, numbers)
    survives = _fraction_diverged(noisy["surprise"]) == 0
    text = (
        f"over {episodes} episodes the surprise rate's mean error is "
        f"{numbers['surprise_clean_error']:.3f} against {numbers['fixed_clean_error']:.3f} of the "
        f"best fixed rate, and in noise {lost.mean():.0%} of its agents diverge at the same "
        f"coefficient; the bounded rule has {numbers['bounded_clean_error']:.3f}, and in noise, "
        f"not tuned again, {numbers['bounded_noisy_error']:.3f} against "
        f"{numbers['fixed_best_noisy_error']:.3f} of the fixed rate that is best there"
    )
    if not survives.any():
        return Verdict(Answer.HOLDS, text, numbers)
    largest = _coefficient(noisy["surprise"], int(np.flatnonzero(survives).max()))
    smallest_error = median(_losses(noisy["surprise"])).min()
    return Verdict(
        Answer.HOLDS_UNDER_CONDITIONS,
        f"{text}. Condition: the surprise rate diverges above c = {_written(largest)}; at smaller "
        f"ones it lasts these episodes, with an error of {smallest_error:.3f} at best",
        {**numbers, "surprise_largest_stable_coefficient": largest},
    )


def _with_interval(name: str, difference: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), difference, strict=True))


def _draw_walk(results: Sequence[Result]) -> Figure:
    walks = _walks(results)
    tuned = {rule: _tuned(result) for rule, result in walks["clean"].items()}
    figure, axes = new_figure(2, 2, panel=(4.0, 3.0))
    titles = {
        "clean": "No reward noise, best c of each rule",
        "noisy": "Reward noise, the same c",
    }
    for ax, (kind, title) in zip(axes[0], titles.items(), strict=True):
        for rule, result in walks[kind].items():
            ax.set_title(title)
            _plot_error(ax, result, rule, tuned[rule])
        ax.set(xscale="log", yscale="log", xlabel="episode", ylabel="RMS value error [reward]")
    low = min(ax.get_ylim()[0] for ax in axes[0])
    for ax in axes[0]:
        ax.set_ylim(low, 1.5)
    handles, labels = axes[0, 0].get_legend_handles_labels()

    for rule, result in walks["noisy"].items():
        loss = median(_losses(result))
        coefficients = result.arrays["coefficients"]
        axes[1, 0].plot(coefficients, np.where(loss < 10, loss, np.nan), marker="o", ms=3)
        axes[1, 1].plot(coefficients, _fraction_diverged(result), marker="o", ms=3, label=rule)
    axes[1, 1].plot(
        walks["scaled"]["surprise"].arrays["coefficients"],
        _fraction_diverged(walks["scaled"]["surprise"]),
        marker="s",
        ms=3,
        label=f"surprise c|δ|, no noise, rewards x {SCALE:g}",
        color="grey",
    )
    axes[1, 0].set(
        title="Reward noise; where a line ends, most diverge", ylabel="mean RMS error [reward]"
    )
    axes[1, 0].set_yscale("log")
    axes[1, 1].set(title="Who diverges", ylabel="fraction diverged")
    (scaled,) = axes[1, 1].get_lines()[-1:]
    handles, labels = [*handles, scaled], [*labels, str(scaled.get_label())]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    for ax in axes[1]:
        ax.set_xscale("log", base=2)
        ax.set_xlabel("coefficient c")
    return figure


def _plot_error(ax: Axes, result: Result, rule: str, coefficient: int) -> None:
    """Median over agents with the middle half as band; ends where half of them have diverged."""
    scores = result.arrays["scores"][:, coefficient]
    episodes = np.arange(1, len(scores) + 1)
    since = result.arrays["diverged_episode"][coefficient]
    scores = np.where((since > 0) & (since <= episodes[:, None]), np.inf, scores)
    middle = median(scores)
    alive = np.isfinite(middle)
    c = _written(_coefficient(result, coefficient))
    (line,) = ax.plot(episodes[alive], middle[alive], label=f"{RULES[rule]}, c = {c}")
    low, high = (np.percentile(scores, q, axis=-1, method="nearest") for q in (25, 75))
    ax.fill_between(
        episodes, low, np.minimum(high, 1e3), where=alive, color=line.get_color(), alpha=0.15
    )
    if not alive.all():
        end = max(int(np.flatnonzero(~alive)[0]) - 1, 0)
        ax.plot(episodes[end], middle[end], "x", color=line.get_color(), ms=8)
        ax.annotate(
            f"{_diverged(result)[coefficient].mean():.0%} diverge",
            (episodes[end], middle[end]),
            xytext=(6, 4),
            textcoords="offset points",
        )


# ------------------------------------------------------------------------------------ control


def _judge_control(results: Sequence[Result]) -> Verdict:
    numbers: dict[str, float] = {}
    faster, slower, sentences = [], [], []
    problems = list(dict.fromkeys(result.run.problem for result in results))
    for problem in problems:
        by_rule = {_rule(r): r for r in results if r.run.problem == problem}
        best = {rule: _losses(result)[_tuned(result)] for rule, result in by_rule.items()}
        name = problem.replace("-", "_")
        for rule, result in by_rule.items():
            lost = _fraction_diverged(result)
            numbers[f"{name}_{rule}_mean_return"] = -float(median(best[rule]))
            numbers[f"{name}_{rule}_coefficient"] = _coefficient(result, _tuned(result))
            numbers[f"{name}_{rule}_coefficients_diverging"] = float((lost > 0.5).sum())
        gains = {
            rule: paired_difference(best["fixed"], best[rule]) for rule in ("surprise", "bounded")
        }
        for rule, gain in gains.items():
            numbers |= _with_interval(f"{name}_{rule}_minus_fixed_return", gain)
        faster.append(any(gain[1] > 0 for gain in gains.values()))
        slower.append(all(gain[2] <= 0 for gain in gains.values()))
        sentences.append(
            f"{problem}: mean return {numbers[f'{name}_fixed_mean_return']:.3g} at the best fixed "
            f"rate, {numbers[f'{name}_surprise_mean_return']:.3g} with surprise (diverging at "
            f"{numbers[f'{name}_surprise_coefficients_diverging']:.0f} of "
            f"{len(by_rule['surprise'].arrays['coefficients'])} coefficients), "
            f"{numbers[f'{name}_bounded_mean_return']:.3g} with bounded surprise"
        )
    because = "; ".join(sentences)
    # A rule that has diverged ends early; that is no want of episodes.
    if max(len(result.arrays["scores"]) for result in results) < FEWEST_EPISODES:
        because = f"too few episodes; run {FEWEST_EPISODES} or more"
        return Verdict(Answer.UNDECIDED, because, numbers)
    if all(faster):
        return Verdict(Answer.HOLDS, because, numbers)
    if any(faster):
        return Verdict(Answer.HOLDS_UNDER_CONDITIONS, because, numbers)
    return Verdict(Answer.FAILS if all(slower) else Answer.UNDECIDED, because, numbers)


def _draw_control(results: Sequence[Result]) -> Figure:
    problems = list(dict.fromkeys(result.run.problem for result in results))
    figure, axes = new_figure(2, len(problems), panel=(4.0, 3.0))
    for column, problem in zip(axes.T, problems, strict=True):
        for result in results:
            if result.run.problem != problem:
                continue
            rule, tuned = _rule(result), _tuned(result)
            scores = result.arrays["scores"][:, tuned]
            episodes = np.arange(1, len(scores) + 1)
            means = np.cumsum(scores, axis=0) / episodes[:, None]
            c = _written(_coefficient(result, tuned))
            column[0].plot(episodes, median(means), label=f"{RULES[rule]}, c = {c}")
            coefficients = result.arrays["coefficients"]
            column[1].plot(
                coefficients, _fraction_diverged(result), marker="o", ms=3, label=RULES[rule]
            )
        column[0].set(
            title=f"Q-learning, {problem}: best c of each rule",
            xscale="log",
            xlabel="episode",
            ylabel="mean return so far [reward]",
        )
        column[1].set_xscale("log", base=2)
        column[1].set(xlabel="coefficient c", ylabel="fraction diverged", ylim=(-0.05, 1.05))
        handles = column[0].get_lines()
        column[1].legend(
            handles,
            [h.get_label() for h in handles],
            loc="lower center",
            bbox_to_anchor=(0.5, -0.65),
        )
    return figure


SURPRISE: Mapping[str, Claim] = {
    "w5-surprise": Claim(
        says="Surprise-scaled rates accelerate learning and diverge in noise; surprise relative "
        "to the usual one, bounded against overshoot, keeps the gain and never diverges.",
        runs=[
            *(
                Run(problem=problem, method=f"td-{rule}", max_steps=10, overrides=TEN)
                for problem in ("walk", "noisy-walk")
                for rule in RULES
            ),
            *(
                Run(
                    problem="walk",
                    method=f"td-{rule}",
                    max_steps=1,
                    overrides={"problem.reward_scale": SCALE, **TEN},
                )
                for rule in RULES
            ),
        ],
        judge=_judge_walk,
        draw=_draw_walk,
        headline=True,
    ),
    "w5-control": Claim(
        says="In control, too, surprise-scaled rates accelerate learning.",
        runs=[
            Run(
                problem=problem,
                method=f"q-{rule}",
                max_steps=steps,
                overrides=TEN
                | ({"method.coefficients": BOUNDED_GRID} if rule == "bounded" else {}),
            )
            for problem, steps in (("cliff-walking", 10), ("frozen-lake", 50))
            for rule in RULES
        ],
        judge=_judge_control,
        draw=_draw_control,
    ),
}
