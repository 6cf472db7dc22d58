"""What several claims read from results, and write over figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import fill

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sciopt.bench import Claim, Result

# Who came to the minimum in the last part of the run may be passing by.
STAYED = 0.1


def cut_short(results: Sequence[Result], steps: Sequence[int]) -> str:
    """Why runs with fewer steps than the claim asks for decide nothing; empty if none has."""
    cut = sum(result.run.max_steps < asked for result, asked in zip(results, steps, strict=True))
    return f"{cut} of {len(results)} runs were limited to fewer steps than asked for" if cut else ""


def steps_to_settle(result: Result) -> Float[np.ndarray, "variants rates"]:
    """Since when each descent has been at a minimum, infinite unless for STAYED of the run."""
    settled = result.arrays["settled_step"]
    stays = (settled > 0) & (settled <= (1 - STAYED) * result.last.step)
    return np.where(stays, settled, np.inf)


def distance(result: Result, points: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch"]:
    """From points to the nearest minimum of the result's problem."""
    return np.linalg.norm(points[..., None, :] - result.arrays["minima"], axis=-1).min(-1)


def headed(claim: Claim) -> Claim:
    """The claim with its sentence and the verdict of the results drawn written over its figure."""

    def draw(results: Sequence[Result]) -> Figure:
        figure, verdict = claim.draw(results), claim.judge(results)
        sentence = fill(claim.says, int(12 * figure.get_figwidth()))
        figure.suptitle(f"{sentence}\nVerdict: {verdict.answer.value}", fontsize="large")
        return figure

    return replace(claim, draw=draw)
