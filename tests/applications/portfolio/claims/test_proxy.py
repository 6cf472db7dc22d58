"""The judges and figures of sqrt(v) on made-up results whose answers are known."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from applications.portfolio.claims import proxy, proxy_in_full
from applications.portfolio.claims.proxy import RISK_AVERSIONS, RISKS
from sciopt.bench import Answer, Claim, Record, Result, Run, Status, style

PROXY, IN_FULL = proxy.CLAIMS["sqrt-v-is-risk"], proxy_in_full.CLAIMS["sqrt-v-in-full"]
RANKS = np.arange(1.0, 6.0)
ONE_SWAP_EACH_SIDE = np.array([2.0, 1.0, 3.0, 5.0, 4.0])  # Spearman 1 - 6 * 4 / (5 * 24) = 0.8


def proxy_result(run: Run, sqrt_v: np.ndarray) -> Result:
    kept = {
        "assets": np.array(list("abcde")),
        "weights": np.array([0.4, 0.3, 0.3, 0.0, 0.0]),
        "volatility": RANKS,
        "marginal_risk": ONE_SWAP_EACH_SIDE,
        "risk_contribution": RANKS[::-1],
        "sqrt_v": sqrt_v,
    }
    return Result(
        run,
        Status.STEP_LIMIT,
        "",
        [Record(run.max_steps, 1.0, {"objective_difference": -0.5})],
        kept,
        0.0,
    )


def with_status(result: Result, status: Status) -> Result:
    return dataclasses.replace(result, status=status)


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
            if run.overrides["problem.risk_aversion"] == RISK_AVERSIONS[0]
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


@pytest.mark.parametrize("claim", [PROXY, IN_FULL])
def test_runs_cut_short_decide_nothing(claim: Claim) -> None:
    runs = [dataclasses.replace(run, max_steps=2) for run in claim.runs]
    verdict = claim.judge([proxy_result(run, RANKS) for run in runs])
    assert verdict.answer is Answer.UNDECIDED
    assert f"{len(runs)} runs were limited to fewer steps" in verdict.because


def of_parametrisation(run: Run) -> np.ndarray:
    """Volatility itself, unless the logits' softmax is taken."""
    return RANKS[::-1] if run.method.startswith("softmax") else RANKS


@pytest.mark.parametrize(
    ("sqrt_v", "answer"),
    [
        (lambda _run: RANKS, Answer.HOLDS),
        (of_parametrisation, Answer.HOLDS_UNDER_CONDITIONS),
        (lambda _run: RANKS[::-1], Answer.FAILS),
    ],
)
def test_in_full_the_proxy_is_judged_by_parametrisation_and_batch(
    sqrt_v: Callable[[Run], np.ndarray], answer: Answer
) -> None:
    verdict = IN_FULL.judge([proxy_result(run, sqrt_v(run)) for run in IN_FULL.runs])
    assert verdict.answer is answer
    if answer is Answer.HOLDS_UNDER_CONDITIONS:
        holds, fails = verdict.because.split("Fails for")
        assert holds.count("weights") == 8 and "softmax" not in holds
        assert fails.split("Worst")[0].count("softmax") == 4


def test_one_problem_without_correlation_denies_its_parametrisation_and_batch() -> None:
    def odd(run: Run) -> bool:
        batch, metric = run.overrides["method.batch"], run.overrides.get("method.metric")
        return run.problem == "minimum-variance" and (batch, metric) == (32, "rate")

    results = [proxy_result(run, RANKS[::-1] if odd(run) else RANKS) for run in IN_FULL.runs]
    verdict = IN_FULL.judge(results)
    assert verdict.answer is Answer.HOLDS_UNDER_CONDITIONS
    assert "Fails for weights, metric projection, 32 days (-1.00 to 1.00)." in verdict.because
    numbers = verdict.numbers
    assert numbers["softmax, all days: worst objective error"] == pytest.approx(0.5)


def test_the_tables_in_full_have_a_row_for_each_parametrisation_and_batch() -> None:
    results = [proxy_result(run, of_parametrisation(run)) for run in IN_FULL.runs]
    with style.context():
        figure = IN_FULL.draw(results)
    volatility, *_ = [
        np.asarray(mesh.get_array()).reshape(12, 4)
        for axes in figure.axes
        for mesh in axes.collections
        if isinstance(mesh, QuadMesh)
    ]
    np.testing.assert_allclose(volatility[:8], 1, atol=1e-12)
    np.testing.assert_allclose(volatility[8:], -1, atol=1e-12)
