import numpy as np
import pytest
import scipy.stats

from sciopt.bench import Record, Result, Run, Status
from sciopt.bench.statistics import (
    bootstrap_interval,
    final_scores,
    interquartile_mean,
    median,
    paired_difference,
)


@pytest.mark.parametrize("size", [3, 8, 21])
def test_interquartile_mean_cuts_a_quarter_at_each_end(size: int) -> None:
    scores = np.random.default_rng(size).lognormal(sigma=2.0, size=size)
    cut = size // 4
    expected = np.sort(scores)[cut : size - cut].mean()
    np.testing.assert_allclose(interquartile_mean(scores), expected, rtol=1e-14)


def test_interval_of_one_task_agrees_with_scipy() -> None:
    scores = np.random.default_rng(1).lognormal(size=40)
    low, high = bootstrap_interval(scores[None], _mean, resamples=20000)
    reference = scipy.stats.bootstrap(
        (scores,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(2)
    ).confidence_interval
    # Two independent bootstraps of 20,000 resamples differ by about 1 % of the interval's width.
    width = reference.high - reference.low
    assert abs(low - reference.low) < 0.03 * width
    assert abs(high - reference.high) < 0.03 * width


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)


def test_resampling_stays_within_tasks() -> None:
    # Two tasks without spread: every resample is the same, so the interval is one point. Drawing
    # across tasks would give it width.
    scores = np.array([[1.0] * 5, [9.0] * 5])
    assert bootstrap_interval(scores, _mean) == (5.0, 5.0)


def test_coverage_of_the_interval_is_near_its_confidence() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        low, high = bootstrap_interval(
            generator.normal(size=(1, 30)), _mean, resamples=400, seed=trial
        )
        hits += low <= 0 <= high
    # 95 % nominal; percentile intervals at n = 30 cover about 93 %; three standard errors wide.
    assert 0.89 <= hits / 300 <= 0.98


def test_failures_count_as_the_worst() -> None:
    def result(status: Status, value: float) -> Result:
        records = [Record(1, 0.1, {"error": value})]
        return Result(Run("p", "m", 1), status, "", records, {}, 0.0)

    scores = final_scores([result(Status.STEP_LIMIT, 2.0), result(Status.DIVERGED, 0.1)], "error")
    assert scores.tolist() == [2.0, np.inf]
    assert median(np.array([1.0, 2.0, np.inf])) == 2.0
    assert median(np.array([1.0, np.inf, np.inf, np.inf])) == np.inf
    assert median(np.array([1.0, np.inf])) == np.inf


@pytest.mark.parametrize("size", [4, 5])
def test_median_of_finite_scores_is_numpys(size: int) -> None:
    scores = np.random.default_rng(size).normal(size=(3, size))
    np.testing.assert_array_equal(median(scores), np.median(scores, axis=-1))


def test_pairing_removes_what_seeds_share() -> None:
    generator = np.random.default_rng(3)
    difficulty = generator.normal(scale=10.0, size=12)
    better = difficulty - 1.0 + generator.normal(scale=0.1, size=12)
    middle, low, high = paired_difference(better, difficulty)
    assert low < -0.9 and high < -0.9 and middle == pytest.approx(-1.0, abs=0.1)


def test_a_paired_difference_is_the_median_of_the_differences() -> None:
    scores = np.random.default_rng(5).lognormal(sigma=2.0, size=24)
    middle, low, high = paired_difference(scores, np.zeros(24))
    assert middle == np.median(scores)
    reference = scipy.stats.bootstrap(
        (scores,), np.median, method="percentile", n_resamples=20000, rng=np.random.default_rng(2)
    ).confidence_interval
    # An interval of an order statistic moves by whole scores; of a mean it would be far off.
    assert np.searchsorted(np.sort(scores), [low, high]) == pytest.approx(
        np.searchsorted(np.sort(scores), [reference.low, reference.high]), abs=1
    )


def test_two_failures_on_one_seed_are_no_difference() -> None:
    failed = np.array([np.inf, 1.0, 1.0])
    middle, _, high = paired_difference(failed, np.array([np.inf, 2.0, 3.0]))
    assert middle == -1.0
    assert high <= 0.0
    assert paired_difference(np.full(3, np.inf), np.ones(3))[0] == np.inf
