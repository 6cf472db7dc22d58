"""The sample moments, gradients and certificate of the portfolio problems."""

import numpy as np
import pytest
import torch

from applications.portfolio.problems import (
    PROBLEMS,
    MeanVariance,
    MinimumVariance,
    Problem,
    Program,
    Synthetic,
    WalkForward,
    pose,
    sp500_prices,
    synthetic_returns,
    window_returns,
)

CPU = torch.device("cpu")
TWENTY_ASSETS = {
    **{
        name: each
        for name, each in PROBLEMS.items()
        if not isinstance(each, Synthetic | WalkForward)
    },
    "synthetic": Synthetic(assets=20, days=800),
    "shrunk": Synthetic(assets=20, days=800, shrinkage=0.3, return_weight=0.0),
}


@pytest.fixture(params=TWENTY_ASSETS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return TWENTY_ASSETS[request.param]


def returns_of(problem: Problem) -> np.ndarray:
    """Asset returns, from prices where there are any."""
    if isinstance(problem, Synthetic):
        return synthetic_returns(problem).to_numpy()
    prices = sp500_prices().loc[problem.start : problem.end].to_numpy()
    return prices[1:] / prices[:-1] - 1


def shrinkage_of(problem: Problem) -> float:
    return problem.shrinkage if isinstance(problem, Synthetic) else 0.0


@pytest.fixture
def program(problem: Problem) -> Program:
    return pose(problem, CPU)


def some_weights(assets: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(assets)))


def test_the_objective_is_that_of_numpys_moments(problem: Problem, program: Program) -> None:
    asset_returns = returns_of(problem)
    weights = some_weights(20, seed=0).numpy()
    sample, shrinkage = np.cov(asset_returns.T), shrinkage_of(problem)
    average = shrinkage * np.trace(sample) / 20 * np.eye(20)
    covariance = (1 - shrinkage) * sample + average
    expected = 0.5 * problem.risk_aversion * weights @ covariance @ weights
    expected -= problem.return_weight * (asset_returns @ weights).mean()
    objective = program.objective(torch.from_numpy(weights)).item()
    assert objective == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(program.covariance, covariance, rtol=1e-11, atol=1e-17)


def test_the_gradient_is_autograds_of_the_objective(program: Program) -> None:
    weights = some_weights(20, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(program.objective(weights), weights)
    actual = program.gradient(weights.detach())
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-16)


def test_the_sampled_gradient_is_unbiased(program: Program) -> None:
    weights = some_weights(20, seed=2)
    days = torch.arange(len(program.asset_returns))
    of_each_day = torch.stack([program.sampled_gradient(weights, day) for day in days.split(1)])
    torch.testing.assert_close(
        of_each_day.mean(0), program.gradient(weights), rtol=1e-10, atol=1e-16
    )


def test_a_sampled_gradient_is_autograds_of_the_objective_of_those_days(
    problem: Problem, program: Program
) -> None:
    weights = some_weights(20, seed=3).requires_grad_()
    days = [5, 5, 700, 12]
    asset_returns = torch.tensor(returns_of(problem))
    deviations = (asset_returns - asset_returns.mean(0))[days]
    count, shrinkage = len(asset_returns), shrinkage_of(problem)
    sampled = (deviations @ weights).square().mean() * count / (count - 1)
    average = asset_returns.var(0).mean() * weights.square().sum()
    variance = (1 - shrinkage) * sampled + shrinkage * average
    objective = 0.5 * problem.risk_aversion * variance
    objective = objective - problem.return_weight * (asset_returns[days] @ weights).mean()
    (expected,) = torch.autograd.grad(objective, weights)
    actual = program.sampled_gradient(weights.detach(), torch.tensor(days))
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-16)


def test_the_duality_gap_is_the_steepest_descent_towards_a_vertex(program: Program) -> None:
    weights = some_weights(20, seed=4)
    towards = torch.eye(20, dtype=torch.float64) - weights
    # Central differences of a quadratic are exact, so that a long step costs no accuracy.
    slopes = [
        (program.objective(weights + d) - program.objective(weights - d)) / 2 for d in towards
    ]
    steepest = -torch.stack(slopes).min()
    torch.testing.assert_close(program.duality_gap(weights), steepest, rtol=1e-10, atol=0)


def test_the_scale_is_the_average_assets_risk_where_the_objective_vanishes() -> None:
    program = pose(MeanVariance(risk_aversion=3.0), CPU)
    variances = window_returns(MeanVariance()).var().to_numpy()
    equal = torch.full((20,), 1 / 20, dtype=torch.float64)
    # The objective is linear in the risk aversion: this one makes it zero at equal weights.
    mean, variance = program.mean @ equal, equal @ program.covariance @ equal
    risk_aversion = (2 * mean / variance).item()
    at_zero = pose(MeanVariance(risk_aversion=risk_aversion), CPU)
    assert abs(at_zero.objective(equal).item()) < 1e-15
    assert at_zero.scale(equal).item() == pytest.approx(
        0.5 * risk_aversion * variances.mean(), rel=1e-12
    )
    bold = pose(MeanVariance(risk_aversion=0.1), CPU)
    assert bold.scale(equal).item() == pytest.approx(-bold.objective(equal).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (MeanVariance(risk_aversion=-1.0), "risk_aversion is -1.0; expected a finite number >= 0"),
        (MeanVariance(risk_aversion=float("nan")), "risk_aversion is nan"),
        (MinimumVariance(start="2020-01-01", end="2019-01-01"), "2020-01-01 is not before end"),
        (MinimumVariance(start="2013-13-01"), "start is '2013-13-01', not a date"),
        (MinimumVariance(start="2030-01-01", end="2031-01-01"), "the data run from 1990-01-02"),
        (MinimumVariance(start="2022-12-24", end="2022-12-26"), "0 days of prices from 2022-12-24"),
        (Synthetic(assets=1), "assets is 1 and days is 2; expected at least 2 and 3"),
        (Synthetic(shrinkage=1.5), r"shrinkage is 1.5; expected a number from 0 to 1"),
        (MinimumVariance(assets=("JNJ",)), "assets is JNJ; expected two or more different"),
        (MinimumVariance(assets=("JNJ", "JNJ")), "two or more different ones of AAPL, AMD"),
        (MinimumVariance(assets=("JNJ", "TSLA")), "assets is JNJ, TSLA"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: Problem, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pose(settings, CPU)
