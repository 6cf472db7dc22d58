"""Judges on made-up results whose answers are known, and figures of them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from applications.landscapes import DOMAIN
from applications.landscapes.claims import (
    l1_plateau,
    l2_two_cycle,
    l3_anisotropy,
    l4_recovery,
    l5_sign_descent,
    l6_noise,
    l7_dormant,
    l8_finite_memory,
    l10_edges,
)
from applications.landscapes.claims.reading import steps_to_settle
from sciopt.bench import Answer, Claim, Record, Result, Run, Status, Verdict
from sciopt.bench.runner import run_one
from sciopt.bench.store import Store

HOLDS, CONDITIONS, FAILS = Answer.HOLDS, Answer.HOLDS_UNDER_CONDITIONS, Answer.FAILS


def test_who_comes_to_the_minimum_at_the_very_end_may_be_passing_by() -> None:
    run = Run("quadratic", "adam", max_steps=1000)
    kept = {"settled_step": np.array([[1, 900, 901, 0]])}
    np.testing.assert_array_equal(steps_to_settle(result(run, kept)), [[1, 900, np.inf, np.inf]])


def test_a_figure_says_what_the_judge_says_of_its_own_results() -> None:
    claim = DOMAIN.claims["l5-sign-descent"]
    for error, answer in ((0.0, "holds"), (1e-9, "fails")):
        move = -l5_sign_descent.RATE * np.sign(l5_sign_descent.SLOPES) + error
        path = np.stack([0 * move, move])[:, None, None]
        figure = claim.draw([result(run, {"path": path}) for run in claim.runs])
        title = figure.get_suptitle()
        assert " ".join(title.split()) == f"{claim.says} Verdict: {answer}"


def result(run: Run, kept: Mapping[str, Any], **metrics: float) -> Result:
    arrays = {name: np.asarray(values) for name, values in kept.items()}
    record = Record(run.max_steps, 1.0, metrics)
    return Result(run, Status.STEP_LIMIT, "", [record], arrays, 0.0)


def judged(claims: Mapping[str, Claim], make: Callable[[Run], Result]) -> Verdict:
    (claim,) = claims.values()
    return claim.judge([make(run) for run in claim.runs])


@pytest.mark.parametrize(
    ("settling", "answer"),
    [
        (("adagrad", "rmsprop", "adam"), HOLDS),
        (("adagrad", "adam"), CONDITIONS),
        ((), FAILS),
        (("sgd", "adagrad", "rmsprop", "adam"), FAILS),
        (("momentum", "adagrad", "rmsprop", "adam"), FAILS),
    ],
)
def test_plateau(settling: tuple[str, ...], answer: Answer) -> None:
    def make(run: Run) -> Result:
        settled = np.zeros((1, 241), dtype=int)
        settled[0, 100] = 500 if run.method in settling else 0
        x = np.ones((1, 241, 2))
        kept = {"settled_step": settled, "lr": l1_plateau.RATES, "x": x, "minima": [[0.0, 0.0]]}
        return result(run, kept)

    verdict = judged(l1_plateau.CLAIMS, make)
    assert verdict.answer is answer
    for method in l1_plateau.LABELS:
        assert verdict.numbers[f"{method}_rates_that_settle"] == (method in settling)


@pytest.mark.parametrize(
    ("stretch", "turn", "drift", "answer"),
    [(1, 0, 0, HOLDS), (1.01, 0, 0, FAILS), (1, 0.1, 0, FAILS), (1, 0, 1e-3, FAILS)],
)
def test_two_cycle(stretch: float, turn: float, drift: float, answer: Answer) -> None:
    def make(run: Run) -> Result:
        n = len(run.overrides["problem.start"])
        rates = np.array(l2_two_cycle.RATES)
        along = np.array([np.sin(turn), np.cos(turn)])[-n:]
        if n == 1:
            along = np.ones(1)
        one = 0.4 * rates[:, None] * along
        other = one - stretch * rates[:, None] * along
        path = np.stack([one, other, one + drift * rates[:, None]])[:, None]
        kept = {"path": path, "x": path[-1], "lr": rates, "minima": np.zeros((1, n))}
        return result(run, kept)

    assert judged(l2_two_cycle.CLAIMS, make).answer is answer


def anisotropy(steps: Callable[[str, str, np.ndarray], np.ndarray]) -> Verdict:
    conditions = np.array(l3_anisotropy.CONDITIONS)

    def make(run: Run) -> Result:
        settled = steps(l3_anisotropy.PLACES[run.problem], run.method, conditions)
        settled = np.where(settled <= l3_anisotropy.STEPS, settled, 0)
        # The best rate is one of several.
        table = np.stack([np.zeros_like(settled), 2 * settled, settled], axis=1)
        return result(run, {"settled_step": table, "lr": [0.1, 1.0, 10.0]})

    return judged(l3_anisotropy.CLAIMS, make)


def test_anisotropy_holds_on_the_axes_only() -> None:
    def steps(place: str, method: str, conditions: np.ndarray) -> np.ndarray:
        if method in l3_anisotropy.ADAPTIVE and place == "axis-aligned":
            return np.full(len(conditions), 12.0)
        if method in ("newton", "jacobi") and place == "axis-aligned":
            return np.ones(len(conditions))
        return 2 * conditions if method != "adagrad" else 3 * conditions**0.5

    verdict = anisotropy(steps)
    assert verdict.answer is CONDITIONS
    assert "eigenvectors must be the axes" in verdict.because
    assert "fails axis-aligned: Jacobi preconditioning" in verdict.because
    numbers = verdict.numbers
    assert numbers["axis-aligned_adagrad_steps_over_jacobi"] == pytest.approx(12)
    assert numbers["axis-aligned_sgd_exponent"] == pytest.approx(1)
    assert numbers["rotated_adagrad_exponent"] == pytest.approx(0.5)


def test_anisotropy_holds_if_rotation_does_not_matter_and_adagrad_is_ahead() -> None:
    def steps(place: str, method: str, conditions: np.ndarray) -> np.ndarray:
        return (
            np.full(len(conditions), 9.0) if method in l3_anisotropy.ADAPTIVE else 10 * conditions
        )

    assert anisotropy(steps).answer is HOLDS


@pytest.mark.parametrize("harmless", [True, False])
def test_anisotropy_fails_without_need_or_without_cure(harmless: bool) -> None:
    def steps(place: str, method: str, conditions: np.ndarray) -> np.ndarray:
        return np.full(len(conditions), 9.0) if harmless else 10 * conditions

    assert anisotropy(steps).answer is FAILS


def recovery(rise: float = 0.0, recovering: tuple[str, ...] = ("rmsprop", "adam"), regret=0.5):
    drop, steps = l4_recovery.DROP_AFTER, 2 * l4_recovery.DROP_AFTER

    def make(run: Run) -> Result:
        if run.problem == "sparse-losses":
            # regret over the bound of sqrt(2) * 2 * 3 is as told, for 600 steps
            average = regret * 2 * np.sqrt(2) * 3 / run.max_steps
            return result(run, {"average_regret": [[average]], "gradient_norm": [[[1.0, 2.0]]]})
        rate = np.ones(steps + 1)
        rate[1:] -= 1e-9 * np.arange(steps)
        if run.method in recovering:
            rate[drop + 101 :] = 1000
        elif run.method == "adagrad":
            rate[drop + 101 :] += rise
        kept = {"step_size": rate[:, None, None, None], "lr": [1.0], "x": [[[-98.0]]]}
        return result(run, kept)

    return judged(l4_recovery.CLAIMS, make)


def test_recovery() -> None:
    verdict = recovery()
    assert verdict.answer is HOLDS
    assert verdict.numbers["adam_steps_to_recover"] == 101
    assert verdict.numbers["adagrad_greatest_regret_over_bound"] == pytest.approx(0.5)
    assert recovery(rise=1e-3).answer is FAILS
    assert recovery(regret=1.1).answer is FAILS
    assert recovery(recovering=()).answer is FAILS
    verdict = recovery(recovering=("rmsprop",))
    assert verdict.answer is CONDITIONS
    assert verdict.because.endswith("only for RMSProp")


@pytest.mark.parametrize(("error", "answer"), [(0.0, HOLDS), (1e-12, FAILS)])
def test_sign_descent(error: float, answer: Answer) -> None:
    def make(run: Run) -> Result:
        move = -l5_sign_descent.RATE * np.sign(l5_sign_descent.SLOPES)
        move[3] += error
        return result(run, {"path": np.stack([0 * move, move])[:, None, None]})

    assert judged(l5_sign_descent.CLAIMS, make).answer is answer


def noise(rms: float = 1.0, drift: float = 1.0, uneven: float = 1.0) -> Verdict:
    def make(run: Run) -> Result:
        beta1 = run.overrides.get("method.beta1", 0.9)
        snr = run.overrides.get("problem.snr", 0.0)
        lr = run.overrides["method.lr"][0]
        variants, n = len(run.overrides["problem.deviation"]), l6_noise.REGIONS
        size = np.full((variants, 1, n), lr * rms * np.sqrt((1 - beta1) / (1 + beta1)))
        if "problem.growth" in run.overrides:
            size *= np.linspace(1, uneven if run.method == "adam" else 1e5, n)
        mean = np.full((variants, 1, n), -lr * drift * snr / np.sqrt(1 + snr**2))
        return result(run, {"rms_move": size, "mean_move": mean, "lr": [lr]})

    return judged(l6_noise.CLAIMS, make)


def test_noise() -> None:
    verdict = noise()
    assert verdict.answer is HOLDS
    assert verdict.numbers["rms_step_beta1_0.5"] == pytest.approx(0.57735, abs=1e-5)
    assert noise(rms=1.05).answer is FAILS
    assert noise(drift=0.9).answer is FAILS
    verdict = noise(uneven=2.0)
    assert verdict.answer is CONDITIONS
    assert "the same everywhere" in verdict.because


def dormant(first_step: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    def make(run: Run) -> Result:
        lengths = np.array(run.overrides["problem.dormant_steps"])
        path = np.zeros((run.max_steps + 1, len(lengths), 1, 1))
        for variant, (k, step) in enumerate(zip(lengths, first_step(lengths), strict=True)):
            path[k + 1 :, variant] = -step
        kept = {"path": path, "x": path[-1], "path_steps": np.arange(run.max_steps + 1)}
        return result(run, kept)

    return judged(l7_dormant.CLAIMS, make)


def test_dormant() -> None:
    verdict = dormant(l7_dormant.predicted_first_step)
    assert verdict.answer is CONDITIONS
    assert verdict.numbers["dormant_steps_until_a_burst"] == 105
    assert "at least 105 dormant steps" in verdict.because
    assert verdict.numbers["first_step_over_lr_after_999"] == pytest.approx(2.514567, abs=5e-7)
    assert dormant(lambda k: 0.9 + 0.0 * k).answer is FAILS
    assert dormant(lambda k: np.where(k > 0, 2.0, 1.0)).answer is HOLDS
    shifted = dormant(lambda k: np.where(k >= 40, 1.1, 0.9))
    assert "at least 40 dormant steps" in shifted.because


@pytest.mark.parametrize(
    ("adam", "amsgrad", "answer"),
    [
        ({3.0: 1.0, 10.0: 1.0}, -1.0, HOLDS),
        ({3.0: 1.0, 10.0: 0.5}, -1.0, CONDITIONS),
        ({3.0: 0.5, 10.0: 0.5}, -1.0, FAILS),
        ({3.0: 1.0, 10.0: 1.0}, 1.0, FAILS),
    ],
)
def test_finite_memory(adam: dict[float, float], amsgrad: float, answer: Answer) -> None:
    def make(run: Run) -> Result:
        height = run.overrides["problem.height"]
        place = adam[height] if run.method == "adam" else amsgrad
        regret = (height - 2) / 3 * (place + 1)
        path = np.full((10, 1, 1, 1), place)
        return result(run, {"path": path, "x": path[-1], "average_regret": [[regret]]})

    verdict = judged(l8_finite_memory.CLAIMS, make)
    assert verdict.answer is answer
    if answer is CONDITIONS:
        assert verdict.because.endswith("C = 3")


def edges(edge_at: Mapping[str, float], adam_diverges: bool = False) -> Verdict:
    factors = np.array(l10_edges.FACTORS)

    def make(run: Run) -> Result:
        beyond = factors > edge_at.get(run.method, 1.0)
        if run.method == "adam":
            beyond = np.full(len(factors), adam_diverges)
        x = np.where(beyond, 1e9, 1e-30)[None, :, None] * np.ones(2)
        kept = {
            "diverged_step": np.where(beyond, 50, 0)[None],
            "x": x,
            "minima": np.zeros((1, 2)),
            "lr": run.overrides["method.lr"],
            "path": np.full((10, 1, len(factors), 2), 0.5),
            "step_size": np.full((10, 1, len(factors), 2), 9.0),
        }
        return result(run, kept)

    return judged(l10_edges.CLAIMS, make)


def test_edges() -> None:
    verdict = edges({})
    assert verdict.answer is CONDITIONS
    assert "rates that do not follow the gradient" in verdict.because
    assert verdict.numbers["sgd_largest_stable_over_edge"] == 0.99
    assert verdict.numbers["sgd_smallest_diverging_over_edge"] == 1.01
    # Curvatures 0.4 and 4, step size 9.
    assert verdict.numbers["adam_mean_preconditioned_sharpness"] == pytest.approx(9 * 2.2)
    assert edges({}, adam_diverges=True).answer is HOLDS
    off = edges({"nesterov": 1.06})
    assert off.answer is CONDITIONS
    assert off.because.endswith("heavy ball, 2(1 + β) / L, Adam, rates frozen, 38 / L'")
    assert edges(dict.fromkeys(l10_edges.EDGES, 0.85)).answer is FAILS


def test_what_claims_predict_is_what_theory_says() -> None:
    """Typed in by hand."""
    assert l4_recovery.predicted_steps_to_recover(0.99) == 1519
    assert round(l6_noise.predicted_rms(0.9), 5) == 0.22942
    first = l7_dormant.predicted_first_step(np.array([9, 99, 999]))
    np.testing.assert_allclose(first, [0.484426, 0.975771, 2.514567], atol=5e-7)
    assert round(l8_finite_memory.predicted_regret(10.0), 4) == 5.3333
    assert round(l10_edges.AVERAGE_EDGE, 9) == 38.0


@pytest.mark.parametrize(
    "module",
    [
        l1_plateau,
        l2_two_cycle,
        l3_anisotropy,
        l4_recovery,
        l5_sign_descent,
        l6_noise,
        l7_dormant,
        l8_finite_memory,
        l10_edges,
    ],
    ids=lambda module: module.__name__.split(".")[-1],
)
def test_runs_cut_short_decide_nothing(module: Any, tmp_path: Path) -> None:
    (claim,) = module.CLAIMS.values()
    store = Store(tmp_path)
    short = [dataclasses.replace(run, max_steps=3) for run in claim.runs]
    for run in short:
        run_one(DOMAIN, run, store)
    verdict = claim.judge([store.folder(DOMAIN, run).load() for run in short])
    assert verdict.answer is Answer.UNDECIDED
    assert "fewer steps than asked for" in verdict.because
