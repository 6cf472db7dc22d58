"""The judge on made-up networks whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from applications.landscapes.claims import CLAIMS
from applications.landscapes.claims.l9_sharpness import (
    ADAPTIVE,
    FEWEST,
    STEPS,
    TRAINED,
    excess_sharpness,
    partial_rank_correlation,
)
from sciopt.bench import Answer, Record, Result, Run, Status, Verdict

CLAIM = CLAIMS["l9-sharpness"]


def made_up(run: Run, sharper: float, worse: float, learnt: float = 1.0) -> Result:
    """Sharpness as loss times luck times what adaptive methods add; accuracy falls with it."""
    words = [run.seed, len(run.method), run.overrides["problem.batch_size"]]
    generator = np.random.default_rng(words)
    count = len(run.overrides["method.lr"])
    loss = TRAINED * 10 ** generator.uniform(-3, -0.01, count) / learnt
    luck = 10 ** generator.uniform(-1, 1, count)
    sharpness = loss * luck * 10 ** (sharper * (run.method in ADAPTIVE))
    accuracy = 0.9 - 0.01 * worse * np.log10(sharpness / loss) - 0.002 * np.log10(loss)
    kept = {
        "loss": loss,
        "sharpness": sharpness,
        "test_accuracy": accuracy,
        "rate_rank_correlation": generator.uniform(-1, 1, count),
        "lr": np.array(run.overrides["method.lr"]),
    }
    return Result(run, Status.STEP_LIMIT, "", [Record(run.max_steps, 1.0, {})], kept, 0.0)


def judged(sharper: float, worse: float, learnt: float = 1.0) -> Verdict:
    return CLAIM.judge([made_up(run, sharper, worse, learnt) for run in CLAIM.runs])


def test_the_claim_holds_where_adaptive_is_sharper_and_sharper_is_worse():
    verdict = judged(1.0, 1.0)
    assert verdict.answer is Answer.HOLDS
    assert verdict.numbers["partial_adaptive_and_sharpness"] > 0.5
    assert verdict.numbers["partial_sharpness_and_accuracy"] < -0.5


def test_the_claim_fails_where_neither_is_so():
    assert judged(-1.0, -1.0).answer is Answer.FAILS


@pytest.mark.parametrize(("sharper", "worse"), [(1.0, -1.0), (-1.0, 1.0)])
def test_one_half_is_a_condition(sharper: float, worse: float):
    assert judged(sharper, worse).answer is Answer.HOLDS_UNDER_CONDITIONS


def test_seeds_that_disagree_decide_nothing():
    results = [made_up(run, 1.0 if run.seed else -1.0, 1.0) for run in CLAIM.runs]
    verdict = CLAIM.judge(results)
    assert verdict.answer is Answer.UNDECIDED
    assert "disagree" in verdict.because


def test_networks_that_learnt_nothing_decide_nothing():
    verdict = judged(1.0, 1.0, learnt=1e-6)
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.numbers["fewest_trained_networks_of_a_seed"] < FEWEST


def test_short_runs_decide_nothing():
    results = [made_up(replace(run, max_steps=STEPS - 1), 1.0, 1.0) for run in CLAIM.runs]
    assert CLAIM.judge(results).answer is Answer.UNDECIDED


def test_excess_sharpness_is_over_that_of_the_same_loss():
    loss = np.tile(np.geomspace(1e-4, 0.2, 40), 2)
    twice = np.repeat([1.0, 2.0], 40)
    usual = loss**1.3 * np.exp(0.1 * np.log(loss) ** 2)
    excess = excess_sharpness({"loss": loss, "sharpness": 7 * twice * usual})
    np.testing.assert_allclose(excess, twice / np.sqrt(2), rtol=1e-9)


def test_a_common_cause_is_not_a_correlation():
    generator = np.random.default_rng(0)
    loss = generator.uniform(size=2000)
    one, other = (loss + 0.1 * generator.standard_normal(2000) for _ in range(2))
    assert np.corrcoef(one, other)[0, 1] > 0.8
    assert abs(partial_rank_correlation(one, other, loss)) < 0.06
    ranks = [rankdata(values) for values in (one, other, loss)]
    fitted = np.vander(ranks[2], 2)
    left = [r - fitted @ np.linalg.lstsq(fitted, r)[0] for r in ranks[:2]]
    expected = np.corrcoef(left)[0, 1]
    assert partial_rank_correlation(one, other, loss) == pytest.approx(expected, abs=1e-9)
    assert np.isnan(partial_rank_correlation(np.ones(9), np.arange(9.0), np.arange(9.0)))
