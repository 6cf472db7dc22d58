"""Judges and figures on made-up results whose answers are known."""

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from applications.portfolio.claims import CLAIMS, PROXY_RISK_AVERSIONS, RISK_AVERSIONS, RISKS
from sciopt.bench import Answer, Claim, Record, Result, Run, Status, style

FRONTIER, PROXY = CLAIMS["efficient-frontier"], CLAIMS["sqrt-v-is-risk"]
RANKS = np.arange(1.0, 6.0)
ONE_SWAP_EACH_SIDE = np.array([2.0, 1.0, 3.0, 5.0, 4.0])  # Spearman 1 - 6 * 4 / (5 * 24) = 0.8


def frontier_result(run: Run, *, gap: float = 1e-15, distance: float = 1e-9) -> Result:
    metrics = {
        "relative_gap": gap,
        "frontier_distance": distance,
        "annual_volatility": 20.0,
        "annual_return": 10.0,
    }
    return Result(run, Status.STEP_LIMIT, "", [Record(run.max_steps, 1.0, metrics)], {}, 0.0)


def proxy_result(run: Run, sqrt_v: np.ndarray) -> Result:
    kept = {
        "assets": np.array(list("abcde")),
        "weights": np.array([0.4, 0.3, 0.3, 0.0, 0.0]),
        "volatility": RANKS,
        "marginal_risk": ONE_SWAP_EACH_SIDE,
        "risk_contribution": RANKS[::-1],
        "sqrt_v": sqrt_v,
    }
    return Result(run, Status.STEP_LIMIT, "", [Record(run.max_steps, 1.0, {})], kept, 0.0)


def with_status(result: Result, status: Status) -> Result:
    return dataclasses.replace(result, status=status)


def test_the_frontier_holds_if_every_point_is_certified_and_in_place() -> None:
    verdict = FRONTIER.judge([frontier_result(run) for run in FRONTIER.runs])
    assert verdict.answer is Answer.HOLDS
    assert verdict.numbers["projected-adam: worst relative gap"] == 1e-15


@pytest.mark.parametrize("fault", [{"gap": 1e-6}, {"distance": 0.1}])
def test_the_frontier_holds_only_where_both_tests_are_met(fault: dict[str, float]) -> None:
    results = [
        frontier_result(run, **fault)
        if run.method == "projected-adam" and run.overrides["problem.risk_aversion"] != 10.0
        else frontier_result(run)
        for run in FRONTIER.runs
    ]
    verdict = FRONTIER.judge(results)
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert verdict.because.endswith("at risk aversions 10")
    assert f"at 1 of {len(RISK_AVERSIONS)} risk aversions" in verdict.because


def test_other_methods_do_not_decide_the_frontier() -> None:
    results = [
        frontier_result(run, gap=1e-15 if run.method == "projected-adam" else 1.0)
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


def test_sqrt_v_proportional_to_volatility_everywhere_is_a_proxy() -> None:
    verdict = PROXY.judge([proxy_result(run, 3 * RANKS**2) for run in PROXY.runs])
    assert verdict.answer is Answer.HOLDS
    for name in ("weights, 32 days", "weights, full batch", "softmax, 32 days"):
        numbers = verdict.numbers
        assert numbers[f"{name}: least rank correlation with volatility"] == pytest.approx(1)
        assert numbers[f"{name}: least rank correlation with marginal_risk"] == pytest.approx(0.8)
        least = numbers[f"{name}: least rank correlation with risk_contribution"]
        assert least == pytest.approx(-1)
        spread = np.std([3, 12, 27]) / np.mean([3, 12, 27])  # held are the first three
        found = numbers[f"{name}: greatest spread of sqrt(v) over held assets"]
        assert found == pytest.approx(spread)


def test_the_proxy_holds_under_the_condition_that_shows_it() -> None:
    results = [
        proxy_result(
            run,
            RANKS
            if run.method.startswith("projected") and run.overrides["method.batch"]
            else RANKS[::-1],
        )
        for run in PROXY.runs
    ]
    verdict = PROXY.judge(results)
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert verdict.because.startswith("Holds for weights, 32 days (1.00 to 1.00 with volatility")
    assert "Fails for weights, full batch (-1.00 to -1.00 with volatility" in verdict.because


def test_one_risk_aversion_without_correlation_denies_the_proxy() -> None:
    results = [
        proxy_result(
            run,
            RANKS[[2, 0, 4, 1, 3]]
            if run.overrides["problem.risk_aversion"] == PROXY_RISK_AVERSIONS[0]
            else RANKS,
        )
        for run in PROXY.runs
    ]
    assert PROXY.judge(results).answer is Answer.FAILS


def test_the_interval_over_seeds_must_be_above_the_threshold_not_the_median_alone() -> None:
    """Two bad seeds of five leave the median at 1, but not its interval."""
    results = [
        proxy_result(run, RANKS[::-1] if run.seed in (1, 3) else RANKS) for run in PROXY.runs
    ]
    verdict = PROXY.judge(results)
    name = "weights, 32 days: least rank correlation with volatility"
    assert verdict.numbers[name] == pytest.approx(1)
    bound = "weights, 32 days: lower bound of the rank correlation with volatility"
    assert verdict.numbers[bound] == pytest.approx(-1)
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert verdict.because.startswith("Holds for weights, full batch")


def test_a_diverged_run_counts_as_the_worst_correlation() -> None:
    results = [with_status(proxy_result(run, RANKS), Status.DIVERGED) for run in PROXY.runs]
    verdict = PROXY.judge(results)
    assert verdict.answer is Answer.FAILS
    assert verdict.numbers["weights, 32 days: least rank correlation with volatility"] == -1


def test_the_table_of_the_proxy_shows_the_median_correlations() -> None:
    results = [
        proxy_result(run, ONE_SWAP_EACH_SIDE if run.method.startswith("softmax") else RANKS)
        for run in PROXY.runs
    ]
    with style.context():
        figure = PROXY.draw(results)
    (mesh,) = [c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh)]
    shown = np.asarray(mesh.get_array()).reshape(-1, len(RISKS))
    np.testing.assert_allclose(shown[:6], [[1.0, 0.8, -1.0]] * 6, atol=1e-12)
    np.testing.assert_allclose(shown[6:], [[0.8, 1.0, -0.8]] * 6, atol=1e-12)


def test_a_gap_of_zero_is_drawn_below_machine_epsilon() -> None:
    with style.context():
        figure = FRONTIER.draw([frontier_result(run, gap=0.0) for run in FRONTIER.runs])
    lines = {str(line.get_label()): line for line in figure.axes[1].lines}
    drawn = np.asarray(lines["Adam, projection in the rate's metric"].get_ydata())
    assert len(drawn) == len(RISK_AVERSIONS)
    assert ((drawn > 0) & (drawn < np.finfo(float).eps)).all()


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_runs_cut_short_decide_nothing(claim: Claim) -> None:
    runs = [dataclasses.replace(run, max_steps=2) for run in claim.runs]
    made_up = [
        frontier_result(run) if claim is FRONTIER else proxy_result(run, RANKS) for run in runs
    ]
    verdict = claim.judge(made_up)
    assert verdict.answer is Answer.UNDECIDED
    assert "limited to fewer than 2000 steps" in verdict.because
