"""Factor models by Newton's method on the dual, against CVXPY and the dense active set."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from quadratic_programs import Parts, by_cvxpy, random_parts

from sciopt.quadratic import (
    Dense,
    FactorModel,
    InfeasibleProgram,
    NormLimit,
    Rows,
    UnboundedProgram,
    optimum,
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


@pytest.mark.parametrize("seed", range(60))
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


def sectors(n: int, count: int, lower: float, upper: float) -> Rows:
    """Every variable in one of `count` groups, each with a range for its sum."""
    matrix = torch.zeros(count, n, dtype=torch.float64)
    matrix[torch.arange(n) % count, torch.arange(n)] = 1
    ends = torch.tensor([[lower], [upper]], dtype=torch.float64).expand(2, count)
    return Rows(matrix, ends[0], ends[1], tuple(f"sector {j}" for j in range(count)))


def neutral(form: FactorModel, count: int) -> Rows:
    """No exposure to the first factors."""
    zeros = torch.zeros(count, dtype=torch.float64)
    return Rows(form.loadings.T[:count], zeros, zeros, tuple(f"factor {j}" for j in range(count)))


FORM, MEAN = wide(400)
ROWS: dict[str, dict[str, Any]] = {
    "ranges": {"rows": sectors(400, 20, 0.03, 0.08), "upper": 0.05},
    "equations that imply the budget": {"rows": sectors(400, 10, 0.1, 0.1)},
    "fifty rows": {"rows": sectors(400, 50, 0.01, 0.03), "cost": 1e-5, "held": 1 / 400},
    "one side only": {"rows": sectors(400, 20, -np.inf, 0.06)},
    "neutral and levered": {
        "rows": neutral(FORM, 8),
        "budget": 0.0,
        "lower": -0.02,
        "upper": 0.02,
        "norm_limits": [NormLimit(torch.zeros(400, dtype=torch.float64), 1.5, "leverage")],
    },
    "a range for the budget": {"budget": (0.2, 0.9)},
    "no budget": {"budget": None, "upper": 0.05},
    "no bounds, but costs": {"lower": -np.inf, "cost": 2e-4},
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_and_limits_have_the_active_sets_answer(name: str) -> None:
    matrix = FORM.loadings @ FORM.loadings.T + torch.diag(FORM.specific)
    found = solve(quadratic_program(FORM, 5 * MEAN, **ROWS[name]))
    dense = solve(quadratic_program(Dense(matrix), 5 * MEAN, **ROWS[name]))
    assert found.relative_gap <= 1e-12
    assert found.residual <= 1e-13
    torch.testing.assert_close(found.point, dense.point, rtol=0, atol=1e-10)


def test_without_inequalities_the_answer_is_the_closed_form() -> None:
    inverse = np.linalg.inv((FORM.loadings @ FORM.loadings.T + torch.diag(FORM.specific)).numpy())
    mean, ones = MEAN.numpy(), np.ones(400)
    budget = (1 - ones @ inverse @ mean) / (ones @ inverse @ ones)
    found = solve(quadratic_program(FORM, MEAN, lower=-np.inf))
    np.testing.assert_allclose(found.point, inverse @ (mean + budget * ones), atol=1e-12)
    assert found.multipliers["budget"] == pytest.approx(-budget, rel=1e-9)


@pytest.mark.parametrize("loading", [-0.02, 0.0, 0.01, 0.05])
def test_two_variables_share_by_the_textbook(loading: float) -> None:
    loadings = torch.tensor([[0.01], [loading]], dtype=torch.float64)
    specific = torch.tensor([1e-4, 3e-4], dtype=torch.float64)
    first, second, off = 2e-4, loading**2 + 3e-4, 0.01 * loading
    share = min(max((second - off) / (first + second - 2 * off), 0), 1)
    found = solve_factor_model(quadratic_program(FactorModel(loadings, specific)))
    assert found.at.point[0] == pytest.approx(share, abs=1e-14)


def test_multipliers_are_derivatives_of_the_least_objective() -> None:
    held = torch.full((400,), 1 / 400, dtype=torch.float64)
    rows = sectors(400, 20, 0.03, 0.08)

    def answer(budget: float = 0.0, cap: float = 0.0, turnover: float = 0.0, upper: float = 0.0):
        moved = rows.upper.clone()
        moved[tight] += cap
        limited = dataclasses.replace(rows, upper=moved)
        return solve(
            quadratic_program(
                FORM,
                5 * MEAN,
                budget=1 + budget,
                upper=0.03 + upper,
                rows=limited,
                norm_limits=[NormLimit(held, 1.5 + turnover, "turnover")],
            )
        )

    tight = 0
    found = answer()
    tight = max(range(20), key=lambda sector: found.multipliers[f"sector {sector}"])
    at_upper = found.reduced_cost[found.point == 0.03].sum().item()
    expected = {
        "budget": -found.multipliers["budget"],
        "cap": -found.multipliers[f"sector {tight}"],
        "turnover": -found.multipliers["turnover"],
        "upper": at_upper,
    }
    assert all(expected.values())
    step = 1e-7
    for what, slope in expected.items():
        rise = answer(**{what: step}).objective - answer(**{what: -step}).objective
        assert slope == pytest.approx(rise / (2 * step), rel=1e-4)


N = 400
SAME = FactorModel(FORM.loadings[:1].expand(N, -1), FORM.specific[:1].expand(N))
TWICE = FactorModel(FORM.loadings[:200].repeat(2, 1), FORM.specific[:200].repeat(2))
EVEN = torch.full((N,), 1 / N, dtype=torch.float64)
DEGENERATE: dict[str, tuple[FactorModel, Any, dict[str, Any]]] = {
    "all variables the same": (SAME, 1e-4, {}),
    "every variable twice": (TWICE, MEAN[:200].repeat(2), {"upper": 0.02}),
    "all means equal": (FORM, 1e-4, {}),
    "all at upper bounds": (FORM, MEAN, {"upper": 1 / N}),
    "one point": (FORM, MEAN, {"lower": EVEN, "upper": EVEN}),
    "costs too high to trade": (FORM, MEAN, {"cost": 1.0, "held": EVEN}),
    "turnover of nothing": (FORM, MEAN, {"norm_limits": [NormLimit(EVEN, 0.0, "turnover")]}),
    "a turnover of little": (FORM, MEAN, {"norm_limits": [NormLimit(EVEN, 1e-3, "turnover")]}),
    "the budget twice": (FORM, MEAN, {"rows": sectors(N, 1, 1.0, 1.0)}),
    "little specific risk": (FactorModel(FORM.loadings, 1e-3 * FORM.specific), MEAN, {}),
    "hardly any specific risk, and costs": (
        FactorModel(FORM.loadings, 1e-9 * FORM.specific),
        MEAN,
        {"cost": 2e-6, "held": EVEN, "upper": 0.05},
    ),
    "hardly any specific risk for some": (
        FactorModel(FORM.loadings, FORM.specific * torch.logspace(-10, 0, N, dtype=torch.float64)),
        MEAN,
        {},
    ),
    "risk of all sizes": (
        FactorModel(FORM.loadings, FORM.specific * torch.logspace(-4, 2, N, dtype=torch.float64)),
        MEAN,
        {},
    ),
    "large numbers": (FactorModel(1e4 * FORM.loadings, 1e8 * FORM.specific), 1e8 * MEAN, {}),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_programs_are_certified(name: str) -> None:
    form, linear, options = DEGENERATE[name]
    found = solve(quadratic_program(form, linear, **options))
    matrix = form.loadings @ form.loadings.T + torch.diag(form.specific)
    dense = solve(quadratic_program(Dense(matrix), linear, **options))
    scale = max(abs(dense.objective), matrix.diagonal().mean().item())
    assert found.relative_gap <= 1e-11
    assert found.residual <= 1e-13
    assert found.objective == pytest.approx(dense.objective, abs=1e-9 * scale)


def test_many_variables_are_solved_after_a_sample_of_them() -> None:
    form, mean = wide(60_000, factors=10)
    found = solve(quadratic_program(form, 3 * mean, upper=0.02))
    # The gap over weights of at most 0.02 that sum to one, in closed form.
    gradient = form.loadings @ (form.loadings.T @ found.point) + form.specific * found.point
    gradient -= 3 * mean
    best = gradient.sort().values[:50].mean()
    scale = max(abs(found.objective), (form.loadings**2).sum(1).mean() + form.specific.mean())
    assert (gradient @ found.point - best).item() <= 1e-12 * scale
    assert found.point.sum().item() == pytest.approx(1, abs=1e-14)
    assert found.relative_gap <= 1e-12


def test_hardly_any_specific_risk_needs_no_interior_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimum, "interior_point", lambda _: pytest.fail("asked for one"))
    form, mean = wide(3000)
    little = FactorModel(form.loadings, 1e-8 * form.specific)
    held = torch.full_like(mean, 1 / 3000)
    found = solve(quadratic_program(little, mean, upper=0.02, cost=2e-6, held=held))
    # Every part of the Lagrangian is at its least, in closed form: r_i w + cost |w - held|.
    gradient = form.loadings @ (form.loadings.T @ found.point) + little.specific * found.point
    reduced = gradient - mean + found.multipliers["budget"]
    at = [found.point, 0 * held, held, torch.full_like(held, 0.02)]
    here, *others = (reduced * place + 2e-6 * (place - held).abs() for place in at)
    least = torch.stack(others).amin(0)
    scale = (form.loadings**2).sum(1).mean().item()
    assert (here - least).clamp(min=0).sum().item() <= 1e-12 * scale
    assert found.point.sum().item() == pytest.approx(1, abs=1e-12)


def test_a_start_changes_the_work_and_not_the_answer() -> None:
    program = quadratic_program(FORM, 0 * MEAN)
    cold = solve(program)
    warm = solve(program, start=cold.point)
    torch.testing.assert_close(warm.point, cold.point, rtol=0, atol=1e-13)
    assert warm.iterations < cold.iterations


def test_float32_is_solved_in_float64() -> None:
    single = FactorModel(FORM.loadings.float(), FORM.specific.float())
    double = FactorModel(single.loadings.double(), single.specific.double())
    found = solve(quadratic_program(single, MEAN.float()))
    assert torch.equal(found.point, solve(quadratic_program(double, MEAN.float().double())).point)
    assert found.relative_gap <= 1e-12


EXCLUDING = [
    (
        {"rows": sectors(400, 4, 0.0, 0.2)},
        r"budget and sector 0 and sector 1 and sector 2 and sector 3 exclude each other",
    ),
    ({"norm_limits": [NormLimit(0 * EVEN, 0.5, "leverage")]}, "budget and leverage exclude"),
    ({"rows": sectors(400, 1, 2.0, 2.0), "lower": -np.inf}, "budget and sector 0 exclude"),
    ({"rows": sectors(400, 4, 0.0, 0.25 - 1e-8)}, r"is at least 0, .* allow at most -4e-08"),
    (
        {"rows": sectors(400, 4, 0.3, 1.0), "upper": 0.0026},
        "upper bound 0.0026 x 100 variables = 0.26 < sector 0 0.3",
    ),
]


@pytest.mark.parametrize(("options", "message"), EXCLUDING)
def test_constraints_that_exclude_each_other_are_named(options: dict, message: str) -> None:
    with pytest.raises(InfeasibleProgram, match=message):
        solve(quadratic_program(FORM, MEAN, **options))


@pytest.mark.gpu
def test_the_answer_on_an_accelerator_is_that_of_the_host() -> None:
    form, mean = wide(4000)
    host = solve(quadratic_program(form, mean, upper=0.02))
    there = FactorModel(form.loadings.cuda(), form.specific.cuda())
    found = solve(quadratic_program(there, mean.cuda(), upper=0.02))
    torch.testing.assert_close(found.point.cpu(), host.point, rtol=0, atol=1e-11)
