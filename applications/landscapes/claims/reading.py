"""What several claims read from results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sciopt.bench import Result


def cut_short(results: Sequence[Result], steps: Sequence[int]) -> str:
    """Why runs with fewer steps than the claim asks for decide nothing; empty if none has."""
    cut = sum(result.run.max_steps < asked for result, asked in zip(results, steps, strict=True))
    return f"{cut} of {len(results)} runs were limited to fewer steps than asked for" if cut else ""


def steps_to_settle(result: Result) -> Float[np.ndarray, "variants rates"]:
    """Since when each descent has been at a minimum, infinite for those that are not."""
    settled = result.arrays["settled_step"]
    return np.where(settled > 0, settled, np.inf)


def distance(result: Result, points: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch"]:
    """From points to the nearest minimum of the result's problem."""
    return np.linalg.norm(points[..., None, :] - result.arrays["minima"], axis=-1).min(-1)
