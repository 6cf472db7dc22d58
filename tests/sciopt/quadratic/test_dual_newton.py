"""Factor models by Newton's method on the dual, against CVXPY and the dense active set."""

import dataclasses

import numpy as np
import pytest
import torch
from quadratic_programs import Parts, by_cvxpy, random_parts

from sciopt.quadratic import (
    Dense,
    FactorModel,
    InfeasibleProgram,
    NormLimit,
    UnboundedProgram,
    quadratic_program,
    solve,
)
from sciopt.quadratic.dual_newton import solve_factor_model


def as_factor_model(parts: Parts, seed: int) -> Parts:
    """The same constraints around a Q of a third as many factors as variables."""
    rng = np.random.default_rng(seed)
    n = len(parts.linear)
    loadings = rng.normal(size=(n, max(1, n // 3))) * 0.01
    specific = rng.uniform(1e-5, 1e-4, n)
    form = FactorModel(torch.tensor(loadings), torch.tensor(specific))
    return dataclasses.replace(
        parts, covariance=loadings @ loadings.T + np.diag(specific), form=form
    )


@pytest.mark.parametrize("seed", range(12))
def test_random_factor_models_have_cvxpys_answer(seed: int) -> None:
    parts = as_factor_model(random_parts(seed), seed)
    status, least = by_cvxpy(parts)
    if status in ("infeasible", "unbounded"):
        with pytest.raises((InfeasibleProgram, UnboundedProgram)):
            solve_factor_model(parts.program())
        return
    found = solve_factor_model(parts.program())
    objective = parts.objective(found.at.point)
    scale = max(abs(objective), parts.variance)
    assert -1e-5 * scale <= objective - least <= 1e-7 * scale
    assert parts.violation(found.at.point) <= 1e-9
    assert found.objective == pytest.approx(objective, abs=1e-11 * scale)
    assert objective - least - 1e-7 * scale <= found.gap <= 1e-10 * scale


def wide(n: int, factors: int = 20) -> tuple[FactorModel, torch.Tensor]:
    """A market of n assets and its means."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(0, 0.3, (n, factors)) * np.r_[0.010, np.full(factors - 1, 0.004)]
    loadings[:, 0] = 0.01 * rng.normal(1, 0.35, n)
    form = FactorModel(torch.tensor(loadings), torch.tensor(rng.uniform(0.008, 0.03, n) ** 2))
    return form, torch.tensor(rng.normal(3e-5, 1e-5, n))


@pytest.mark.parametrize(
    "options",
    [{}, {"upper": 0.02}, {"upper": 0.02, "cost": 2e-5, "held": 1 / 400}, {"lower": -0.01}],
)
def test_wide_models_have_the_active_sets_answer(options: dict) -> None:
    form, mean = wide(400)
    matrix = form.loadings @ form.loadings.T + torch.diag(form.specific)
    for linear in (mean, 0 * mean):
        found = solve(quadratic_program(form, linear, **options))
        dense = solve(quadratic_program(Dense(matrix), linear, **options))
        torch.testing.assert_close(found.point, dense.point, rtol=0, atol=1e-11)
        assert found.relative_gap <= 1e-12
        assert found.residual <= 1e-14
        assert found.multipliers["budget"] == pytest.approx(dense.multipliers["budget"], rel=1e-8)


def test_turnover_and_leverage_limits_are_kept() -> None:
    form, mean = wide(1500)
    held = torch.full((1500,), 1 / 1500, dtype=torch.float64)
    limits = [NormLimit(held, 0.3, "turnover"), NormLimit(torch.zeros_like(held), 1.2, "leverage")]
    program = quadratic_program(form, 3 * mean, lower=-0.05, norm_limits=limits)
    found = solve(program)
    assert (found.point - held).abs().sum().item() == pytest.approx(0.3, abs=1e-12)
    assert found.point.abs().sum().item() <= 1.2 + 1e-12
    assert found.multipliers["turnover"] > 0
    assert found.relative_gap <= 1e-12


def test_too_small_bounds_are_named() -> None:
    form, mean = wide(1500)
    with pytest.raises(InfeasibleProgram, match=r"0.0005 x 1500 variables = 0.75 < budget 1"):
        solve(quadratic_program(form, mean, upper=0.0005))


@pytest.mark.gpu
def test_the_answer_on_an_accelerator_is_that_of_the_host() -> None:
    form, mean = wide(4000)
    host = solve(quadratic_program(form, mean, upper=0.02))
    there = FactorModel(form.loadings.cuda(), form.specific.cuda())
    found = solve(quadratic_program(there, mean.cuda(), upper=0.02))
    torch.testing.assert_close(found.point.cpu(), host.point, rtol=0, atol=1e-11)
