"""CVXPY's solutions against closed forms and their own optimality conditions."""

import numpy as np
import pytest
import torch

from applications.portfolio.problems import (
    PROBLEMS,
    MeanVariance,
    MinimumVariance,
    pose,
    window_returns,
)
from applications.portfolio.reference import reference_weights

CPU = torch.device("cpu")
NO_BOUND_ACTIVE = ("JNJ", "KO", "PG", "WMT", "MRK")


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "walk-forward"])
def test_the_gap_certifies_the_reference_and_bounds_every_other_portfolio(name: str) -> None:
    program = pose(PROBLEMS[name], CPU)
    reference = torch.tensor(reference_weights(PROBLEMS[name]))
    assert reference.min() >= 0
    assert reference.sum().item() == pytest.approx(1, abs=1e-15)
    assert program.duality_gap(reference) <= 1e-11 * program.scale(reference)
    rng = np.random.default_rng(0)
    for concentration in (0.05, 0.3, 1.0, 10.0):
        for weights in torch.from_numpy(
            rng.dirichlet(np.full(len(reference), concentration), size=20)
        ):
            excess = program.objective(weights) - program.objective(reference)
            assert 0 <= excess <= program.duality_gap(weights)


def test_minimum_variance_without_active_bounds_is_the_inverse_covariance_times_one() -> None:
    problem = MinimumVariance(assets=NO_BOUND_ACTIVE)
    unbounded = np.linalg.solve(window_returns(problem).cov().to_numpy(), np.ones(5))
    unbounded /= unbounded.sum()
    assert unbounded.min() > 0.1
    np.testing.assert_allclose(reference_weights(problem), unbounded, atol=1e-8)


@pytest.mark.parametrize(("risk_aversion", "inside"), [(1.0, False), (20.0, True), (500.0, True)])
def test_two_assets_have_a_closed_form(risk_aversion: float, inside: bool) -> None:
    problem = MeanVariance(assets=("AMD", "JNJ"), risk_aversion=risk_aversion)
    table = window_returns(problem)
    (var_a, cov), (_, var_b) = table.cov().to_numpy()
    mean_a, mean_b = table.mean()
    unbounded = ((mean_a - mean_b) / risk_aversion + var_b - cov) / (var_a + var_b - 2 * cov)
    assert (0 < unbounded < 1) == inside
    first = min(max(unbounded, 0), 1)
    np.testing.assert_allclose(reference_weights(problem), [first, 1 - first], atol=1e-8)


def test_fewer_days_than_assets_have_a_reference_too() -> None:
    problem = MinimumVariance(start="2022-12-01")
    program = pose(problem, CPU)
    assert len(program.asset_returns) < len(program.assets)
    weights = torch.tensor(reference_weights(problem))
    assert program.duality_gap(weights) <= 1e-10 * program.scale(weights)
