"""One step of each method against torch's own Adam and autograd; the metrics against pandas."""

import dataclasses

import numpy as np
import pytest
import torch

from applications.portfolio.methods import METHODS, Clarabel, ProjectedAdam, SoftmaxAdam
from applications.portfolio.problems import PROBLEMS, MeanVariance, MinimumVariance, window_returns
from applications.portfolio.reference import reference_weights
from applications.portfolio.solve import (
    AdamSolver,
    ClarabelSolver,
    PortfolioSolver,
    arrays,
    evaluate,
    softmax_gradient,
    start,
)
from sciopt.bench import Status

CPU = torch.device("cpu")
PROBLEM = MeanVariance()


def started(method: ProjectedAdam | SoftmaxAdam, seed: int = 0) -> AdamSolver:
    solver = start(PROBLEM, method, seed, CPU)
    assert isinstance(solver, AdamSolver)
    return solver


def run(solver: PortfolioSolver) -> Status:
    while True:
        if (ended := solver.step()) is not None:
            return ended.status


def test_softmax_gradient_is_autograds() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, generator=generator, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(7, generator=generator, dtype=torch.float64)
    weights = torch.softmax(logits, 0)
    (expected,) = torch.autograd.grad(weights, logits, gradient)
    torch.testing.assert_close(
        softmax_gradient(weights.detach(), gradient), expected, rtol=1e-13, atol=1e-16
    )


def test_softmax_adam_walks_with_torchs_adam_and_cosine_schedule() -> None:
    method = SoftmaxAdam(decay_steps=60, eps=1e-8)
    solver = started(method)
    logits = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=method.lr, eps=method.eps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=method.decay_steps)
    for _ in range(60):
        optimizer.zero_grad()
        solver.program.objective(torch.softmax(logits, 0)).backward()
        optimizer.step()
        schedule.step()
    assert run(solver) is Status.STEP_LIMIT
    expected = torch.softmax(logits.detach(), 0)
    torch.testing.assert_close(solver.weights(), expected, rtol=1e-9, atol=1e-12)
    second_moment = optimizer.state[logits]["exp_avg_sq"] / (1 - method.beta2**60)
    torch.testing.assert_close(solver.sqrt_v(), second_moment.sqrt(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", ["projected-adam", "active-set", "fista"])
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "walk-forward"])
def test_these_methods_end_at_the_solution(name: str, method: str) -> None:
    problem = PROBLEMS[name]
    solver = start(problem, METHODS[method], 0, CPU)
    run(solver)
    weights = arrays(problem, solver)["weights"]
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    metrics = evaluate(problem, solver)
    assert 0 <= metrics["relative_gap"] < {"fista": 1e-12}.get(method, 1e-13)
    assert abs(metrics["objective_difference"]) < 1e-11
    assert metrics["weight_difference"] < 1e-5


def test_days_are_drawn_uniformly_from_the_runs_seed() -> None:
    method = ProjectedAdam(batch=32)
    solver, again, other = started(method, 4), started(method, 4), started(method, 5)
    weights = solver.weights()
    first = solver.gradient(weights)
    assert torch.equal(first, again.gradient(weights))
    assert not torch.equal(first, other.gradient(weights))
    drawn = torch.stack([solver.gradient(weights) for _ in range(3000)])
    standard_error = drawn.std(0) / len(drawn) ** 0.5
    deviation = (drawn.mean(0) - solver.program.gradient(weights)).abs() / standard_error
    assert deviation.max() < 4
    # The spread of a mean of 32 independent days, which a generator that repeats would miss.
    days = torch.arange(len(solver.program.asset_returns))
    each = torch.stack([solver.program.sampled_gradient(weights, day) for day in days.split(1)])
    torch.testing.assert_close(drawn.std(0), each.std(0) / 32**0.5, rtol=0.15, atol=0)


def test_metrics_and_arrays_are_those_of_pandas() -> None:
    solver = started(ProjectedAdam())  # at equal weights before its first step
    table = window_returns(PROBLEM)
    portfolio_returns = table.mean(axis=1)
    reference = reference_weights(PROBLEM)
    reference_returns = table @ reference
    solver.optimizer.state[solver.param]["exp_avg_sq"].fill_(1.0)
    solver.steps = 1
    metrics, kept = evaluate(PROBLEM, solver), arrays(PROBLEM, solver)

    volatility = 100 * portfolio_returns.std() * 252**0.5
    annual_return = 100 * portfolio_returns.mean() * 252
    objective = 5 * portfolio_returns.var() - portfolio_returns.mean()
    least = 5 * reference_returns.var() - reference_returns.mean()
    scale = max(abs(objective), 5 * table.var().mean())
    assert metrics["annual_volatility"] == pytest.approx(volatility, rel=1e-12)
    assert metrics["annual_return"] == pytest.approx(annual_return, rel=1e-12)
    assert metrics["objective"] == pytest.approx(objective, rel=1e-12)
    assert metrics["objective_difference"] == pytest.approx((objective - least) / scale, rel=1e-10)
    assert metrics["relative_gap"] > metrics["objective_difference"]
    assert metrics["weight_difference"] == pytest.approx(np.abs(reference - 0.05).max())
    assert metrics["frontier_distance"] == pytest.approx(
        np.hypot(
            volatility - 100 * reference_returns.std() * 252**0.5,
            annual_return - 100 * reference_returns.mean() * 252,
        )
    )

    assert kept["assets"].tolist() == table.columns.tolist()
    np.testing.assert_allclose(kept["volatility"], table.std(), rtol=1e-12)
    with_portfolio = table.apply(lambda column: column.cov(portfolio_returns))
    np.testing.assert_allclose(kept["marginal_risk"], with_portfolio, rtol=1e-11)
    assert kept["risk_contribution"].sum() == pytest.approx(portfolio_returns.var(), rel=1e-12)
    np.testing.assert_allclose(kept["sqrt_v"], 1000**0.5, rtol=1e-12)


def test_clarabel_ends_at_its_first_step_close_to_the_reference() -> None:
    problem = PROBLEMS["mean-variance"]
    solver = start(problem, Clarabel(), 0, CPU)
    assert not solver.resumable
    assert run(solver) is Status.CONVERGED
    assert evaluate(problem, solver)["weight_difference"] < 1e-3


def test_a_failure_of_clarabel_is_a_diverged_run() -> None:
    solver = start(PROBLEM, Clarabel(tolerance=1e-100), 0, CPU)
    assert isinstance(solver, ClarabelSolver)
    with pytest.warns(UserWarning, match="inaccurate"):
        ended = solver.step()
    assert ended.status is Status.DIVERGED
    assert "optimal_inaccurate at tolerance 1e-100" in ended.reason
    assert np.isfinite(list(evaluate(PROBLEM, solver).values())).all()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ProjectedAdam(batch=18), "batch is 18; expected 0 .all days. to 17, the window's days"),
        (SoftmaxAdam(batch=-1), "batch is -1"),
        (ProjectedAdam(decay_steps=0), "decay_steps is 0; expected at least 1"),
        (Clarabel(tolerance=0.0), "tolerance is 0.0; expected a number > 0"),
        (ProjectedAdam(lr=-0.1), "lr"),
    ],
)
def test_settings_that_cannot_work_are_named(
    method: ProjectedAdam | SoftmaxAdam | Clarabel, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        start(MinimumVariance(start="2022-12-02"), method, 0, CPU)


def test_the_minibatch_may_be_all_days_there_are() -> None:
    problem = MinimumVariance(start="2022-12-02")
    method = dataclasses.replace(METHODS["projected-adam"], batch=len(window_returns(problem)))
    assert start(problem, method, 0, CPU).step() is None
