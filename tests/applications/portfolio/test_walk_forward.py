"""The walk against pandas, day by day, against CVXPY, and resumed."""

import dataclasses

import cvxpy
import numpy as np
import pandas as pd
import pytest
import torch

from applications.portfolio.backtest import Backtest
from applications.portfolio.backtest import walk_forward as step_by_step
from applications.portfolio.methods import METHODS, ActiveSet
from applications.portfolio.problems import MinimumVariance, WalkForward, window_returns
from applications.portfolio.reference import reference_weights
from applications.portfolio.solve import start
from applications.portfolio.walk_forward import WalkForwardSolver
from sciopt.bench import Status

CPU = torch.device("cpu")
TWO_YEARS = WalkForward(start="2019-01-02", end="2022-06-30")


def walk(problem: WalkForward, years: int | None = None) -> WalkForwardSolver:
    solver = start(problem, ActiveSet(), 0, CPU)
    assert isinstance(solver, WalkForwardSolver)
    done = 0
    while done != years:
        done += 1
        if (ended := solver.step()) is not None:
            assert ended.status is Status.CONVERGED
            break
    return solver


@pytest.mark.parametrize("return_weight", [0.0, 1.0])
def test_the_weights_are_cvxpys_of_the_window_before(return_weight: float) -> None:
    problem = dataclasses.replace(TWO_YEARS, return_weight=return_weight)
    solver = walk(problem, 1)
    table = window_returns(problem)
    for day in (0, 1, 100, 251):
        past = table.iloc[day : day + 252]
        covariance, mean = past.cov().to_numpy(), past.mean().to_numpy()
        expected = of_cvxpy(covariance, mean * return_weight / problem.risk_aversion)
        np.testing.assert_allclose(solver.weights[day], expected, atol=2e-5)
        assert pd.Timestamp(solver.arrays()["decided_for"][day]) == table.index[day + 252]


def of_cvxpy(covariance: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """Times 1e4, as Clarabel's tolerances are absolute and variances of days are small."""
    weights = cvxpy.Variable(len(reward), nonneg=True)
    risk = cvxpy.quad_form(weights, cvxpy.psd_wrap(covariance))
    budget = cvxpy.sum(weights) == 1
    cvxpy.Problem(
        cvxpy.Minimize(1e4 * (0.5 * risk - reward @ weights)),
        [budget],  # pyright: ignore[reportArgumentType]  (CVXPY types == as bool)
    ).solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return np.asarray(weights.value)


@pytest.mark.parametrize("return_weight", [0.0, 1.0])
def test_the_gap_is_what_a_vertex_promises_relative_to_the_objective(return_weight: float) -> None:
    problem = dataclasses.replace(TWO_YEARS, return_weight=return_weight, risk_aversion=3.0)
    solver = walk(problem, 1)
    past = window_returns(problem).iloc[:252]
    covariance, mean, weights = past.cov(), past.mean(), solver.weights[0].numpy()
    gradient = 3 * covariance @ weights - return_weight * mean
    objective = 1.5 * weights @ covariance @ weights - return_weight * mean @ weights
    scale = max(abs(objective), 1.5 * past.var().mean())
    gap = weights @ (gradient - gradient.min()) / scale
    assert solver.relative_gap[0].item() == pytest.approx(gap, abs=1e-14)
    assert 0 <= solver.relative_gap.max().item() < 1e-13


def test_a_window_is_that_of_the_one_period_problem() -> None:
    solver = walk(TWO_YEARS, 1)
    first_window = window_returns(TWO_YEARS).index[251]
    one = MinimumVariance(start=TWO_YEARS.start, end=str(first_window.date()))
    np.testing.assert_allclose(solver.weights[0], reference_weights(one), atol=1e-5)


@pytest.mark.parametrize("every", [1, 21, 100, 300])
def test_returns_and_turnover_are_those_of_the_backtest(every: int) -> None:
    problem = dataclasses.replace(TWO_YEARS, every=every)
    solver = walk(problem)
    metrics, equal = solver.metrics(), np.full((len(solver.weights), 20), 0.05)
    for row, (prefix, weights) in enumerate({"": solver.weights.numpy(), "equal_": equal}.items()):
        expected = backtest(problem, weights)
        returns, turnover = expected.returns, expected.turnover
        np.testing.assert_allclose(solver.returns[row], returns, rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(solver.turnover[row], turnover, rtol=1e-9, atol=1e-13)
        np.testing.assert_array_equal(solver.days, returns.index)
        volatility = 100 * 252**0.5 * returns.std()
        assert metrics[f"{prefix}annual_volatility"] == pytest.approx(volatility)
        assert metrics[f"{prefix}annual_return"] == pytest.approx(25200 * returns.mean())
        traded = turnover.sum() * 252 / len(returns)
        assert metrics[f"{prefix}annual_turnover"] == pytest.approx(traded)


def backtest(problem: WalkForward, weights: np.ndarray) -> Backtest:
    """These weights, one row a decision, walked by the command's backtest."""
    table, chosen = window_returns(problem), iter(weights)
    periods = step_by_step(
        table, lambda _past, _held: next(chosen), window=problem.window, every=problem.every
    )
    return Backtest.of(list(periods), list(table))


def test_a_day_held_is_computed_by_hand() -> None:
    problem = WalkForward(start="2022-12-01", window=3, every=2, assets=("JNJ", "KO"))
    solver = walk(problem)
    r = window_returns(problem).to_numpy()[3:5]
    weights = solver.weights[0].numpy()
    first = weights @ r[0]
    drifted = weights * (1 + r[0]) / (1 + first)
    np.testing.assert_allclose(solver.returns[0, :2], [first, drifted @ r[1]], rtol=1e-12)
    held = drifted * (1 + r[1]) / (1 + drifted @ r[1])
    traded = np.abs(solver.weights[1].numpy() - held).sum()
    assert solver.turnover[0, :2].tolist() == pytest.approx([1.0, traded])
    # Of two assets the variance is least at (var_b - cov) / (var_a + var_b - 2 cov), if inside.
    (a, cov), (_, b) = window_returns(problem).iloc[:3].cov().to_numpy()
    assert weights[0] == pytest.approx(min(max((b - cov) / (a + b - 2 * cov), 0), 1), abs=1e-12)


@pytest.mark.parametrize("years", [0, 1, 2])
def test_a_walk_resumed_after_any_year_is_the_uninterrupted_one(years: int) -> None:
    problem = dataclasses.replace(TWO_YEARS, every=5)
    whole = walk(problem).arrays()
    begun = walk(problem, years) if years else start(problem, ActiveSet(), 0, CPU)
    state = begun.state_dict()
    resumed = start(problem, ActiveSet(), 0, CPU)
    resumed.load_state_dict(state)
    while resumed.step() is None:
        pass
    assert isinstance(resumed, WalkForwardSolver)
    for name, values in resumed.arrays().items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)
    assert state["decided"] == 50 * years


@pytest.mark.parametrize("method", [name for name in METHODS if name != "active-set"])
def test_other_methods_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match="only active-set solves it"):
        start(TWO_YEARS, METHODS[method], 0, CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1}, "window is 1 and every 1; expected at least 2 and 1"),
        ({"every": 0}, "window is 252 and every 0"),
        ({"window": 5000}, "880 returns; a window of 5000 leaves none"),
        ({"risk_aversion": 0.0}, "risk_aversion is 0.0; expected a finite number above 0"),
        ({"start": "2023-13-01"}, "start is '2023-13-01', not a date"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(dataclasses.replace(TWO_YEARS, **settings), ActiveSet(), 0, CPU)
