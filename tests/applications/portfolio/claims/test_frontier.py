"""The judge and the figure of the frontier on made-up results whose answers are known."""

import dataclasses

import numpy as np
import pytest

from applications.portfolio.claims.frontier import CLAIMS, RISK_AVERSIONS
from sciopt.bench import Answer, Record, Result, Run, Status, style

FRONTIER = CLAIMS["efficient-frontier"]


def frontier_result(run: Run, *, gap: float = 1e-15, distance: float = 1e-9) -> Result:
    metrics = {
        "relative_gap": gap,
        "frontier_distance": distance,
        "annual_volatility": 20.0,
        "annual_return": 10.0,
    }
    return Result(run, Status.STEP_LIMIT, "", [Record(run.max_steps, 1.0, metrics)], {}, 0.0)


def with_status(result: Result, status: Status) -> Result:
    return dataclasses.replace(result, status=status)


def test_the_frontier_holds_if_every_point_is_certified_and_in_place() -> None:
    verdict = FRONTIER.judge([frontier_result(run) for run in FRONTIER.runs])
    assert verdict.answer is Answer.HOLDS
    assert verdict.numbers["projected-adam: worst relative gap"] == 1e-15


@pytest.mark.parametrize("method", ["active-set", "projected-adam"])
@pytest.mark.parametrize("fault", [{"gap": 1e-6}, {"distance": 0.1}])
def test_the_frontier_holds_only_where_both_methods_meet_both_tests(
    fault: dict[str, float], method: str
) -> None:
    results = [
        frontier_result(run, **fault)
        if run.method == method and run.overrides["problem.risk_aversion"] != 10.0
        else frontier_result(run)
        for run in FRONTIER.runs
    ]
    verdict = FRONTIER.judge(results)
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert verdict.because.endswith("at risk aversions 10")
    assert f"at 1 of {len(RISK_AVERSIONS)} risk aversions" in verdict.because


def test_other_methods_do_not_decide_the_frontier() -> None:
    results = [
        frontier_result(run, gap=1e-15 if run.method in ("active-set", "projected-adam") else 1.0)
        for run in FRONTIER.runs
    ]
    verdict = FRONTIER.judge(results)
    assert verdict.answer is Answer.HOLDS
    assert verdict.numbers["clarabel: worst relative gap"] == 1.0


def test_a_frontier_of_diverged_runs_fails() -> None:
    results = [with_status(frontier_result(run), Status.DIVERGED) for run in FRONTIER.runs]
    verdict = FRONTIER.judge(results)
    assert verdict.answer is Answer.FAILS
    assert verdict.numbers["projected-adam: worst relative gap"] == np.inf


def test_a_gap_of_zero_is_drawn_below_machine_epsilon() -> None:
    with style.context():
        figure = FRONTIER.draw([frontier_result(run, gap=0.0) for run in FRONTIER.runs])
    lines = {str(line.get_label()): line for line in figure.axes[1].lines}
    drawn = np.asarray(lines["Adam, projection in the rate's metric"].get_ydata())
    assert len(drawn) == len(RISK_AVERSIONS)
    assert ((drawn > 0) & (drawn < np.finfo(float).eps)).all()


def test_runs_cut_short_decide_nothing() -> None:
    runs = [dataclasses.replace(run, max_steps=2) for run in FRONTIER.runs]
    verdict = FRONTIER.judge([frontier_result(run) for run in runs])
    assert verdict.answer is Answer.UNDECIDED
    assert f"{len(runs)} runs were limited to fewer steps" in verdict.because
