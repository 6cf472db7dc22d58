"""Judges on made-up results whose answers are known."""

from dataclasses import replace

import numpy as np

from applications.td.claims import CLAIMS
from sciopt.bench.domain import Answer, Record, Result, Run, Status

WALK, CONTROL = CLAIMS["w5-surprise"], CLAIMS["w5-control"]
JITTER = np.linspace(-0.01, 0.01, 20)


def result(run: Run, score: float, *, lost: bool = False, spoilt_scale: bool = False) -> Result:
    scale = float(run.overrides.get("problem.reward_scale", 1.0))
    levels = np.array([score, score * 2 if score > 0 else score * 3])
    scores = np.tile(levels[:, None] * (1 + JITTER), (10 * run.max_steps, 1, 1)) * scale
    diverged = np.zeros((2, 20), dtype=int)
    diverged[0] = 3 * lost
    kept = {
        "scores": scores * (1.001 if spoilt_scale and scale != 1 else 1),
        "coefficients": np.array([0.5, 0.25]),
        "reward_scale": np.array(scale),
        "diverged_episode": diverged,
    }
    return Result(run, Status.STEP_LIMIT, "", [Record(run.max_steps, 1.0, {})], kept, 0.0)


def walk_answer(surprise=0.1, bounded=0.1, *, noise_kills=True, spoilt_scale=False):
    errors = {"fixed": 0.2, "surprise": surprise, "bounded": bounded}
    results = [
        result(
            run,
            errors[run.method[3:]],
            lost=noise_kills and run.problem == "noisy-walk" and run.method == "td-surprise",
            spoilt_scale=spoilt_scale and run.method == "td-bounded",
        )
        for run in WALK.runs
    ]
    return WALK.judge(results)


def test_the_walk_claim_holds_under_the_condition_that_it_names():
    verdict = walk_answer()
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert "c = 1/4" in verdict.because
    assert np.isclose(verdict.numbers["surprise_minus_fixed_clean"], -0.1, atol=2e-3)


def test_the_walk_claim_fails_without_gain_divergence_or_cure():
    assert walk_answer(surprise=0.3).answer is Answer.FAILS
    assert walk_answer(noise_kills=False).answer is Answer.FAILS
    assert walk_answer(bounded=0.3).answer is not Answer.HOLDS_UNDER_CONDITIONS
    assert walk_answer(spoilt_scale=True).answer is not Answer.HOLDS_UNDER_CONDITIONS


def test_the_control_claim_follows_the_returns():
    def answer(surprise, bounded):
        returns = {"fixed": -50.0, "surprise": surprise, "bounded": bounded}
        return CONTROL.judge([result(run, returns[run.method[2:]]) for run in CONTROL.runs]).answer

    assert answer(-60.0, -55.0) is Answer.FAILS
    assert answer(-60.0, -40.0) is Answer.HOLDS


def test_the_control_claim_is_undecided_where_agents_disagree():
    def shuffled(run, seed):
        made = result(run, -50.0)
        order = np.random.default_rng(seed).permutation(20)
        made.arrays["scores"][:] = made.arrays["scores"][..., order]
        return made

    runs = [shuffled(run, seed) for seed, run in enumerate(CONTROL.runs)]
    assert CONTROL.judge(runs).answer is Answer.UNDECIDED


def test_a_rule_that_diverged_early_is_not_too_few_episodes():
    results = []
    for run in CONTROL.runs:
        made = result(run, -50.0, lost=run.method == "q-surprise")
        if run.method == "q-surprise":
            made.arrays["diverged_episode"][:] = 3
            made = replace(made, arrays={**made.arrays, "scores": made.arrays["scores"][:5]})
        if run.method == "q-bounded":
            made.arrays["scores"][:] -= 5.0
        results.append(made)
    verdict = CONTROL.judge(results)
    assert verdict.answer is Answer.FAILS
    assert "too few" not in verdict.because
