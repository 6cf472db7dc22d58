"""The judge of L-BFGS against Adam, on results whose answer is known."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from applications.pinn.claims import CLAIMS, at_seconds, judge_stuck
from sciopt.bench import Answer, Record, Result, Run, Status, style

CLAIM = CLAIMS["w3-lbfgs-stuck"]


def record(step: int, seconds: float, loss: float, error: float) -> Record:
    metrics = {"loss": loss, "relative_l2_error": error, "held_out_residual": 1.0}
    return Record(step, seconds, metrics)


def falling_to(error: float, run: Run) -> Result:
    """Loss and error fall all the time; seeds differ a little."""
    error *= 1 + 0.01 * run.seed
    records = [record(k, k * 1.0, 10.0**-k, error * 2.0 ** (8 - k)) for k in range(1, 9)]
    return Result(run, Status.STEP_LIMIT, "", records, {}, 0.0)


def standing_at(error: float, run: Run, status: Status = Status.STEP_LIMIT) -> Result:
    """The loss falls once, then stays."""
    records = [record(k, k * 1.0, 1.0 if k == 1 else 0.5, error) for k in range(1, 9)]
    return Result(run, status, "", records, {}, 0.0)


def results(lbfgs: Mapping[str, Result | None], adam_error: float = 0.1) -> list[Result]:
    """Adam falls; L-BFGS as given by precision (its run filled in), falling if None."""
    found = []
    for run in CLAIM.runs:
        precision = "float32" if run.method.endswith("float32") else "float64"
        given = lbfgs[precision] if run.method.startswith("lbfgs") else None
        if given is not None:
            found.append(dataclasses.replace(given, run=run))
        else:
            found.append(falling_to(adam_error, run))
    return found


STUCK = standing_at(0.5, CLAIM.runs[0])
GAVE_UP = standing_at(0.5, CLAIM.runs[0], Status.STALLED)
STUCK_BUT_GOOD = standing_at(0.01, CLAIM.runs[0])


@pytest.mark.parametrize(
    ("lbfgs", "answer"),
    [
        ({"float32": STUCK, "float64": STUCK}, Answer.HOLDS),
        ({"float32": GAVE_UP, "float64": STUCK}, Answer.HOLDS),
        ({"float32": GAVE_UP, "float64": None}, Answer.HOLDS_UNDER_CONDITIONS),
        ({"float32": None, "float64": None}, Answer.UNDECIDED),
        (
            {"float32": STUCK_BUT_GOOD, "float64": STUCK_BUT_GOOD},
            Answer.HOLDS_UNDER_CONDITIONS,
        ),
    ],
)
def test_the_answer_follows_from_standstill_and_error(
    lbfgs: Mapping[str, Result | None], answer: Answer
) -> None:
    verdict = judge_stuck(results(lbfgs))
    assert verdict.answer is answer
    assert all(math.isfinite(value) for value in verdict.numbers.values())


def all_standing_at(lbfgs: float, adam: float) -> list[Result]:
    return [
        dataclasses.replace(standing_at(lbfgs if "lbfgs" in run.method else adam, run), run=run)
        for run in CLAIM.runs
    ]


@pytest.mark.parametrize(
    ("given", "answer", "words"),
    [
        (
            results({"float32": STUCK_BUT_GOOD, "float64": STUCK_BUT_GOOD}),
            Answer.HOLDS_UNDER_CONDITIONS,
            "L-BFGS is stuck, and L-BFGS is ahead",
        ),
        (
            results({"float32": STUCK, "float64": STUCK}),
            Answer.HOLDS,
            "L-BFGS is stuck, and Adam is ahead",
        ),
        (all_standing_at(0.2, 0.5), Answer.FAILS, "both are stuck, and L-BFGS is ahead"),
        (
            all_standing_at(0.2, 0.1),
            Answer.HOLDS_UNDER_CONDITIONS,
            "both are stuck, and Adam is ahead",
        ),
        (all_standing_at(0.2, 0.2), Answer.UNDECIDED, "both are stuck, and seeds disagree"),
    ],
)
def test_the_words_say_which_half_is_true(given: list[Result], answer: Answer, words: str) -> None:
    verdict = judge_stuck(given)
    assert verdict.answer is answer
    assert words in verdict.because


def test_errors_are_compared_at_equal_seconds() -> None:
    """An L-BFGS cut off after 4 s is compared with Adam at 4 s, one that gave up keeps its last."""
    cut_off = [
        dataclasses.replace(result, records=result.records[:4])
        if result.run.method == "lbfgs-float32"
        else result
        for result in results({"float32": STUCK, "float64": GAVE_UP})
    ]
    numbers = judge_stuck(cut_off).numbers
    assert numbers["float32: seconds compared"] == 4.0
    assert numbers["float32: Adam: error at equal seconds"] == pytest.approx(0.101 * 16)
    assert numbers["float32: Adam: error at the end"] == pytest.approx(0.101)
    assert numbers["float64: seconds compared"] == 8.0
    assert numbers["float64: L-BFGS: error at equal seconds"] == 0.5
    assert numbers["float64: error of Adam minus L-BFGS at equal seconds: median"] == pytest.approx(
        0.101 - 0.5
    )


def test_a_diverged_run_is_the_worst() -> None:
    diverged = standing_at(0.001, CLAIM.runs[0], Status.DIVERGED)
    verdict = judge_stuck(results({"float32": diverged, "float64": diverged}))
    assert verdict.answer is Answer.HOLDS
    assert verdict.numbers["float32: L-BFGS: error at the end"] == math.inf
    assert at_seconds([diverged], "loss", 3.0).tolist() == [math.inf]


def test_too_few_steps_decide_nothing() -> None:
    short: Sequence[Result] = [
        dataclasses.replace(result, run=dataclasses.replace(result.run, max_steps=2))
        for result in results({"float32": STUCK, "float64": STUCK})
    ]
    verdict = judge_stuck(short)
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.because.startswith("2 steps are too few")


def test_the_figure_shows_every_method_in_both_precisions() -> None:
    with style.context():
        figure = CLAIM.draw(results({"float32": STUCK, "float64": None}))
    first, second, third = figure.axes
    for panel in (first, second):
        assert len(panel.lines) == 3
    assert {line.get_label() for line in third.lines} == {
        f"{run.method} seed {run.seed}" for run in CLAIM.runs
    }
    # Standing at an error of 0.5 is a flat line in the panel of its precision alone.
    stuck = [line for line in first.lines if line.get_label() == "L-BFGS"]
    assert np.unique(stuck[0].get_ydata()).tolist() == [0.5]
