"""The judges and figures of the exact method on made-up results whose answers are known."""

import dataclasses

import numpy as np
import pytest

from applications.portfolio.claims import dense_support, race, walk_forward
from sciopt.bench import Answer, Record, Result, Run, Status, style

RACE = race.CLAIMS["time-to-accuracy"]
DENSE = dense_support.CLAIMS["dense-support"]
WALK = walk_forward.CLAIMS["walk-forward"]


def curve(run: Run, gaps: dict[float, float], status: Status = Status.CONVERGED) -> Result:
    """A run whose gap is `gaps[seconds]`."""
    records = [
        Record(step, seconds, {"relative_gap": gap})
        for step, (seconds, gap) in enumerate(gaps.items(), 1)
    ]
    return Result(run, status, "", records, {"weights": np.array([0.5, 0.5, 0.0])}, 0.0)


def raced(run: Run, first: float = 0.1, gap: float = 1e-15) -> Result:
    if run.method == "active-set":
        return curve(run, {first: gap})
    if run.method == "softmax-adam":
        return curve(run, {0.01: 1e-2, 9.0: 1e-5})
    return curve(run, {0.05: 1e-3, 0.5: 1e-6, 1.0: 1e-9})


def test_seconds_count_to_the_first_point_that_is_accurate() -> None:
    result = raced(RACE.runs[1])
    assert race.seconds_to(result, 1e-6) == 0.5
    assert race.seconds_to(result, 1e-10) == np.inf
    diverged = dataclasses.replace(result, status=Status.DIVERGED)
    assert race.seconds_to(diverged, 1e-6) == np.inf


def test_the_race_is_won_by_who_is_exact_and_first_at_every_size() -> None:
    verdict = RACE.judge([raced(run) for run in RACE.runs])
    assert verdict.answer is Answer.HOLDS
    assert "FISTA 5, 5, 5, 5; " in verdict.because
    assert "softmax logits never" in verdict.because


@pytest.mark.parametrize("fault", [{"first": 0.6}, {"gap": 1e-11}])
def test_the_race_is_judged_size_by_size(fault: dict[str, float]) -> None:
    results = [
        raced(run) if run.overrides["problem.assets"] == 200 else raced(run, **fault)
        for run in RACE.runs
    ]
    verdict = RACE.judge(results)
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert "first to a relative gap of 1e-06 with 200 assets" in verdict.because
    assert RACE.judge([raced(run, **fault) for run in RACE.runs]).answer is Answer.FAILS


def test_a_race_cut_short_decides_nothing() -> None:
    runs = [dataclasses.replace(run, max_steps=2) for run in RACE.runs]
    verdict = RACE.judge([raced(run) for run in runs])
    assert verdict.answer is Answer.UNDECIDED


def test_who_never_gets_there_is_drawn_with_a_question_mark() -> None:
    with style.context():
        figure = RACE.draw([raced(run) for run in RACE.runs])
    unreached = [line for line in figure.axes[1].lines if line.get_marker() == "$?$"]
    drawn = [np.asarray(line.get_ydata()) for line in unreached if np.size(line.get_xdata())]
    assert [ended.tolist() for ended in drawn] == [[9.0] * len(race.ASSETS)]


@pytest.mark.parametrize(
    ("seconds", "gap", "answer"),
    [
        (0.1, 1e-15, Answer.HOLDS),
        (0.1, 1e-11, Answer.HOLDS_UNDER_CONDITIONS),
        (0.3, 1e-15, Answer.HOLDS_UNDER_CONDITIONS),
    ],
)
def test_dense_support_is_judged_at_each_shrinkage(
    seconds: float, gap: float, answer: Answer
) -> None:
    results = [
        curve(run, {0.2: 1e-6})
        if run.method == "clarabel"
        else curve(run, {seconds: gap})
        if run.overrides["problem.shrinkage"] == 0.9
        else curve(run, {0.1: 1e-15})
        for run in DENSE.runs
    ]
    verdict = DENSE.judge(results)
    assert verdict.answer is answer
    assert (" 0.9," in verdict.because) == (answer is Answer.HOLDS)
    assert verdict.numbers["shrinkage 0.5: names held"] == 2
    assert verdict.numbers["shrinkage 0.5: Clarabel's seconds over the active set's"] == 2


def test_dense_support_fails_where_clarabel_is_always_faster() -> None:
    results = [curve(run, {0.1 if run.method == "clarabel" else 0.2: 1e-15}) for run in DENSE.runs]
    assert DENSE.judge(results).answer is Answer.FAILS


def walked(*, gap: float = 1e-15, volatility: float = 10.0, years: int = 32) -> Result:
    days = np.arange("1991-01-01", "1993-01-01", dtype="datetime64[D]")
    signs = np.where(np.arange(len(days)) % 2, 1.0, -1.0)
    metrics = {
        "worst_relative_gap": gap,
        "annual_volatility": volatility,
        "equal_annual_volatility": 15.0,
        "annual_return": 1.0,
        "equal_annual_return": 2.0,
        "annual_turnover": 3.0,
        "equal_annual_turnover": 4.0,
    }
    # Calmer than equal weights in the first of the two years alone.
    returns = np.where(days < np.datetime64("1992-01-01"), 0.01, 0.03) * signs
    kept = {"days": days, "returns": returns, "equal_returns": 0.02 * signs}
    run = dataclasses.replace(WALK.runs[0], max_steps=years)
    return Result(run, Status.CONVERGED, "", [Record(years, 1.0, metrics)], kept, 0.0)


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (walked(), Answer.HOLDS),
        (walked(gap=1e-11), Answer.FAILS),
        (walked(volatility=16.0), Answer.FAILS),
        (walked(years=2), Answer.UNDECIDED),
    ],
)
def test_the_walk_holds_if_certified_and_calmer(result: Result, answer: Answer) -> None:
    verdict = WALK.judge([result])
    assert verdict.answer is answer
    assert verdict.numbers["of them with less volatility than equal weights"] == 1
    assert verdict.numbers["calendar years"] == 2


def test_the_walk_is_drawn_as_wealth_and_rolling_volatility() -> None:
    result = walked()
    with style.context():
        wealth, risk = WALK.draw([result]).axes
    strategy = np.asarray(wealth.lines[0].get_ydata())
    np.testing.assert_allclose(strategy, np.cumprod(1 + result.arrays["returns"]))
    last = 100 * 252**0.5 * result.arrays["returns"][-252:].std(ddof=1)
    assert np.asarray(risk.lines[0].get_ydata())[-1] == pytest.approx(last)
