"""How the claims read results: what counts as certified, what was cut short, how methods look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sciopt.bench import Answer, Result, Run
from sciopt.bench.style import COLOURS

CERTIFIED = 1e-12  # relative duality gap of what is called exact
LEAST_DRAWN = 1e-17  # a gap of exactly zero has no place on a log axis

LOOKS: Mapping[str, Mapping[str, Any]] = {
    "active-set": {"color": COLOURS[4], "marker": "s", "markersize": 9, "fillstyle": "none"},
    "projected-adam": {"color": COLOURS[0], "marker": "o", "markersize": 8, "fillstyle": "none"},
    "softmax-adam": {"color": COLOURS[1], "marker": "x", "markersize": 6},
    "euclidean-adam": {"color": COLOURS[2], "marker": "^", "markersize": 5},
    "fista": {"color": COLOURS[5], "marker": "v", "markersize": 5},
    "clarabel": {"color": "black", "marker": "."},
}
"""Line and marker of each method, the same in every figure."""


def cut_short(results: Sequence[Result], runs: Sequence[Run]) -> str:
    """Why runs limited to fewer steps than the claim's decide nothing; empty if none is."""
    cut = sum(
        result.run.max_steps < run.max_steps for result, run in zip(results, runs, strict=True)
    )
    return f"{cut} runs were limited to fewer steps than the claim needs" if cut else ""


def answer_of(met: Sequence[bool]) -> Answer:
    """Holds where all conditions are met, under conditions where some are, fails where none is."""
    if all(met):
        return Answer.HOLDS
    return Answer.HOLDS_UNDER_CONDITIONS if any(met) else Answer.FAILS


def risk_aversion(result: Result) -> float:
    """The risk aversion that the claim set."""
    return result.run.overrides["problem.risk_aversion"]
