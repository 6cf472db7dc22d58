"""Slopes of rates over gradients, from the domain's own solver."""

import numpy as np
import pytest
from landscape_runs import done

from applications.landscapes import DOMAIN
from applications.landscapes.claims.l9_rate_slope import GRADIENTS, RATE, slope
from sciopt.bench import Answer, Record, Result, Status

CLAIM = DOMAIN.claims["l9-rate-slope"]


def test_the_slopes_are_minus_one_and_zero():
    results = [done(run) for run in CLAIM.runs]
    slopes = {result.run.method: slope(result) for result in results}
    # eps = 1e-8 is a part of 1e-4 of the least gradient: the line bends that much at its end.
    assert slopes == pytest.approx(
        {"sgd": 0.0, "adagrad": -1.0, "rmsprop": -1.0, "adam": -1.0}, abs=3e-5
    )
    verdict = CLAIM.judge(results)
    assert verdict.answer is Answer.HOLDS
    assert verdict.numbers["decades"] == pytest.approx(8)


@pytest.mark.parametrize("power", [-0.5, -1.01, 0.0])
def test_another_slope_fails(power: float):
    size = RATE * np.array(GRADIENTS) ** power
    results = [
        Result(
            run,
            Status.STEP_LIMIT,
            "",
            [Record(run.max_steps, 1.0, {})],
            {"step_size": (size if run.method == "adam" else _right(run.method))[None, None, None]},
            0.0,
        )
        for run in CLAIM.runs
    ]
    assert CLAIM.judge(results).answer is Answer.FAILS


def _right(method: str) -> np.ndarray:
    return RATE * np.array(GRADIENTS) ** (0.0 if method == "sgd" else -1.0)
