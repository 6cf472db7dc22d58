"""How the claims read results: errors at equal seconds, and whether a curve stands still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sciopt.bench import Result, Status

ERROR = "relative_l2_error"
STANDSTILL = 0.9  # a run keeps more than this share over the last half of its time if stuck


def at_seconds(
    results: Sequence[Result], metric: str, seconds: float
) -> Float[np.ndarray, " results"]:
    """The metric of each run's last record up to `seconds`; infinity for a failed run."""
    scores = []
    for result in results:
        reached = [record for record in result.records if record.seconds <= seconds]
        record = reached[-1] if reached else result.records[0]
        scores.append(np.inf if result.status.failed else record.metrics[metric])
    return np.array(scores)


def stands_still(result: Result, metric: str) -> bool:
    """Whether a run gave up, or its metric hardly fell over the last half of its time."""
    (halfway,) = at_seconds([result], metric, result.last.seconds / 2)
    gave_up = result.status in (Status.STALLED, Status.DIVERGED)
    return gave_up or result.last.metrics[metric] > STANDSTILL * halfway


def share_standing_still(results: Sequence[Result], metric: str) -> float:
    """Share of runs whose metric stands still."""
    return float(np.mean([stands_still(result, metric) for result in results]))


def seconds_compared(results: Sequence[Result]) -> float:
    """The seconds every run has, one that ended by itself keeping its last value."""
    limits = (Status.STEP_LIMIT, Status.OUT_OF_TIME)
    cut_off = [result.last.seconds for result in results if result.status in limits]
    return min(cut_off, default=max(result.last.seconds for result in results))
