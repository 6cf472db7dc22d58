"""Summaries over seeds: failed runs count as the worst, intervals come from a bootstrap.

Scores are "lower is better" and a failed run scores infinity. The summaries follow Agarwal et
al. (2021), "Deep reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from scipy.stats import trim_mean

from sciopt.bench.domain import Result

Key = TypeVar("Key", bound=Hashable)


def group_by(results: Sequence[Result], key: Callable[[Result], Key]) -> dict[Key, list[Result]]:
    """Results by `key(result)`, groups and members in order of first appearance."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def final_scores(results: Sequence[Result], metric: str) -> Float[np.ndarray, " results"]:
    """The metric at each curve's end; infinity for a failed run or a number not finite."""
    scores = [np.inf if result.status.failed else result.last.metrics[metric] for result in results]
    return np.nan_to_num(np.array(scores, dtype=float), nan=np.inf, posinf=np.inf)


def interquartile_mean(scores: Float[np.ndarray, "*shape"], axis: int = -1) -> np.ndarray:
    """Mean of the middle half along `axis`: the lowest and highest quarter are cut.

    With n scores, floor(n / 4) are cut at each end, so that fewer than four are a plain mean.
    """
    return np.asarray(trim_mean(scores, 0.25, axis=axis))


def median(scores: Float[np.ndarray, "*shape"], axis: int = -1) -> np.ndarray:
    """The median along `axis`, infinite where half of the scores or more are.

    numpy's own gives NaN between two infinities.
    """
    low, high = (
        np.percentile(scores, 50, axis=axis, method="lower"),
        np.percentile(scores, 50, axis=axis, method="higher"),
    )
    return np.where(np.isinf(high), high, (low + np.where(np.isinf(high), 0.0, high)) / 2)


def bootstrap_interval(
    scores: Float[np.ndarray, "tasks seeds"],
    statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic` over all scores by a stratified bootstrap.

    Seeds are drawn with replacement within each task, so every resample holds every task
    equally often. `statistic` reduces the last axis of an array (resamples, tasks * seeds).
    """
    tasks, seeds = scores.shape
    generator = np.random.default_rng(seed)
    drawn = generator.integers(seeds, size=(resamples, tasks, seeds))
    resampled = np.take_along_axis(scores[None], drawn, axis=2).reshape(resamples, -1)
    low, high = (1 - confidence) / 2, (1 + confidence) / 2
    # An order statistic on each side: interpolation would give NaN between infinities.
    values = statistic(resampled)
    return (
        float(np.quantile(values, low, method="lower")),
        float(np.quantile(values, high, method="higher")),
    )


def paired_difference(
    scores: Float[np.ndarray, " seeds"], reference: Float[np.ndarray, " seeds"]
) -> tuple[float, float, float]:
    """Median of scores - reference seed by seed, with its 95 % bootstrap interval.

    Two failures on one seed are a difference of zero; one failure is an infinite difference.
    """
    both_failed = np.isinf(scores) & np.isinf(reference)
    differences = np.where(both_failed, 0.0, scores - np.where(both_failed, 0.0, reference))
    differences[both_failed] = 0.0
    low, high = bootstrap_interval(differences[None], median)
    return float(median(differences)), low, high
