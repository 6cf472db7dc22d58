"""Every program's answer is CVXPY's, and its certificate is true."""

import dataclasses
from functools import partial
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic_programs import Parts, by_cvxpy, random_form, random_parts

from sciopt.quadratic import (
    Dense,
    FactorModel,
    InfeasibleProgram,
    NormLimit,
    Returns,
    Rows,
    Shrunk,
    Solution,
    UnboundedProgram,
    optimum,
    quadratic_program,
    solve,
)

SEEDS = st.integers(0, 2**32 - 1)


INF = float("inf")


def rows(matrix: list[list[float]], lower: list[float], upper: list[float], *names: str) -> Rows:
    parts = (torch.tensor(part, dtype=torch.float64) for part in (matrix, lower, upper))
    return Rows(*parts, names)  # pyright: ignore[reportCallIssue]


def check(parts: Parts) -> None:
    """Status and objective agree with CVXPY's; what is said of the point is true of it."""
    status, least = by_cvxpy(parts)
    if status in ("infeasible", "unbounded"):
        with pytest.raises((InfeasibleProgram, UnboundedProgram)):
            solve(parts.program())
        return
    found = solve(parts.program())
    point = found.point.numpy()
    objective = parts.objective(point)
    scale = max(abs(objective), parts.variance)
    assert objective - least <= 1e-7 * scale
    assert objective - least >= -1e-5 * scale  # CVXPY's point may lie a little outside
    assert found.gap >= objective - least - 1e-7 * scale
    assert parts.violation(point) <= 1e-9
    assert found.residual == pytest.approx(max(parts.violation(point), 0), abs=1e-12)
    assert found.objective == pytest.approx(objective, abs=1e-11 * scale)
    assert found.relative_gap <= 1e-10
    assert found.relative_gap == pytest.approx(found.gap / scale, rel=1e-6, abs=1e-30)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(SEEDS)
def test_random_programs_have_cvxpys_answer(seed: int) -> None:
    check(random_parts(seed))


@pytest.mark.slow
@settings(max_examples=3000, derandomize=True, deadline=None)
@given(SEEDS)
def test_many_random_programs_have_cvxpys_answer(seed: int) -> None:
    check(random_parts(seed, most=60))


def plain(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A well-conditioned covariance and means."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(3 * n, n)) * rng.uniform(0.005, 0.03, n)
    return returns.T @ returns / (3 * n), rng.normal(size=n) * 1e-4


def test_forms_of_the_same_matrix_have_the_same_answer() -> None:
    rng = np.random.default_rng(0)
    n, linear = 30, rng.normal(size=30) * 1e-4
    returns, target = rng.normal(size=(60, n)) * 0.01, rng.uniform(1e-5, 1e-4, n)
    x, d = torch.tensor(returns), torch.tensor(target)
    pairs = [
        (Returns(x, 1e-5), returns.T @ returns + 1e-5 * np.eye(n)),
        (FactorModel(x.T[:, :3], d), returns.T[:, :3] @ returns[:3] + np.diag(target)),
        (Shrunk(Returns(x), d, 0.3), 0.7 * returns.T @ returns + 0.3 * np.diag(target)),
    ]
    for form, matrix in pairs:
        dense = solve(quadratic_program(Dense(torch.tensor(matrix)), linear))
        found = solve(quadratic_program(form, linear))
        torch.testing.assert_close(found.point, dense.point, rtol=0, atol=1e-12)


def test_without_inequalities_the_answer_is_the_closed_form() -> None:
    covariance, mean = plain(1, 12)
    inverse = np.linalg.inv(covariance)
    ones = np.ones(12)
    budget = (1 - ones @ inverse @ mean) / (ones @ inverse @ ones)
    free = -np.inf
    found = solve(quadratic_program(Dense(torch.tensor(covariance)), mean, lower=free))
    np.testing.assert_allclose(found.point, inverse @ (mean + budget * ones), atol=1e-11)
    assert found.multipliers["budget"] == pytest.approx(-budget, rel=1e-9)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.6, 0.99])
def test_two_variables_share_by_the_textbook(correlation: float) -> None:
    first, second = 0.01, 0.02
    off = correlation * first * second
    matrix = torch.tensor([[first**2, off], [off, second**2]], dtype=torch.float64)
    share = (second**2 - off) / (first**2 + second**2 - 2 * off)
    found = solve(quadratic_program(Dense(matrix)))
    assert found.point[0].item() == pytest.approx(min(max(share, 0), 1), abs=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_multipliers_are_derivatives_of_the_least_objective(seed: int) -> None:
    covariance, mean = plain(seed, 10)
    rng = np.random.default_rng(seed)
    groups = np.stack([np.arange(10) < 4, rng.permutation(10) < 4]).astype(float)
    form, step = Dense(torch.tensor(covariance)), 1e-6

    def least(budget: float, upper: float, cap: float) -> float:
        return answer(budget, upper, cap).objective

    def answer(budget: float, upper: float, cap: float) -> Solution:
        both = rows(groups.tolist(), [0.1, -INF], [INF, cap], "floor", "cap")
        return solve(quadratic_program(form, mean, budget=budget, upper=upper, rows=both))

    found = answer(1, 0.25, 0.3)
    by_budget = (least(1 + step, 0.25, 0.3) - least(1 - step, 0.25, 0.3)) / (2 * step)
    by_cap = (least(1, 0.25, 0.3 + step) - least(1, 0.25, 0.3 - step)) / (2 * step)
    by_upper = (least(1, 0.25 + step, 0.3) - least(1, 0.25 - step, 0.3)) / (2 * step)
    at_upper = found.reduced_cost[found.point == 0.25].sum().item()
    scale = covariance.trace() / 10
    assert -found.multipliers["budget"] == pytest.approx(by_budget, abs=1e-5 * scale)
    assert -found.multipliers["cap"] == pytest.approx(by_cap, abs=1e-5 * scale)
    assert at_upper == pytest.approx(by_upper, abs=1e-5 * scale)


def test_reduced_cost_is_a_derivative_where_moving_is_counted_from_outside_the_bounds() -> None:
    form = Dense(torch.diag(torch.tensor([1e-4, 4e-4], dtype=torch.float64)))

    def least(lower: float) -> Solution:
        options = {"lower": [0.0, lower], "cost": 1e-3}
        return solve(quadratic_program(form, [0.0, -3e-3], **options))

    step = 1e-6
    slope = (least(0.01 + step).objective - least(0.01 - step).objective) / (2 * step)
    assert least(0.01).reduced_cost[1].item() == pytest.approx(slope, rel=1e-6)


def degenerate() -> dict[str, Parts]:
    """Programs with ties: equal assets, no risk, no room, everything at a bound."""
    covariance, mean = plain(3, 8)
    rng = np.random.default_rng(0)
    low_rank = rng.normal(size=(8, 2)) * 0.01
    zeros, nothing = np.zeros(8), np.zeros((0, 8))
    usual = Parts(
        covariance,
        mean,
        (1.0, 1.0),
        zeros,
        np.full(8, np.inf),
        zeros,
        zeros,
        nothing,
        np.zeros(0),
        np.zeros(0),
        (),
        Dense(torch.tensor(covariance)),
    )

    def change(**changes: object) -> Parts:
        parts = dataclasses.replace(usual, **changes)  # pyright: ignore[reportArgumentType]
        return dataclasses.replace(parts, form=Dense(torch.tensor(parts.covariance)))

    twice = np.kron(np.ones((2, 2)), covariance[:4, :4])
    singular = low_rank @ low_rank.T
    held = np.full(8, 1 / 8)
    return {
        "duplicates": change(covariance=twice),
        "duplicates without means": change(covariance=twice, linear=zeros),
        "optimal variance zero": change(covariance=singular, linear=zeros),
        "no risk at all": change(covariance=zeros[:, None] * zeros),
        "identity": change(covariance=np.eye(8) * 1e-4, linear=zeros),
        "all means equal": change(linear=np.full(8, 1e-4)),
        "all at upper bounds": change(upper=np.full(8, 1 / 8)),
        "one point": change(lower=held, upper=held),
        "costs too high to trade": change(cost=np.full(8, 1.0), held=held),
        "turnover of nothing": change(limits=((held, 0.0),)),
        "held nothing, budget anyway": change(cost=np.full(8, 1e-3)),
        "the same row twice": change(
            matrix=np.stack([np.arange(8.0)] * 2),
            row_lower=np.full(2, 2.0),
            row_upper=np.full(2, 2.0),
        ),
        "a row that repeats the budget": change(
            matrix=np.ones((1, 8)), row_lower=np.ones(1), row_upper=np.ones(1)
        ),
    }


@pytest.mark.parametrize("name", degenerate())
def test_degenerate_programs_are_certified(name: str) -> None:
    check(degenerate()[name])


def test_a_start_changes_the_work_and_not_the_answer() -> None:
    covariance, mean = plain(5, 60)
    program = quadratic_program(Dense(torch.tensor(covariance)), mean)
    cold = solve(program)
    warm = solve(program, start=cold.point)
    torch.testing.assert_close(warm.point, cold.point, rtol=0, atol=1e-13)
    assert warm.iterations <= 2 < cold.iterations
    far = solve(program, start=torch.full((60,), 5.0))
    torch.testing.assert_close(far.point, cold.point, rtol=0, atol=1e-13)


def test_float32_is_solved_in_float64() -> None:
    covariance, mean = plain(6, 20)
    single = torch.tensor(covariance, dtype=torch.float32)
    found = solve(quadratic_program(Dense(single), torch.tensor(mean).float()))
    double = solve(quadratic_program(Dense(single.double()), torch.tensor(mean).float().double()))
    assert torch.equal(found.point, double.point)
    assert found.relative_gap <= 1e-12


def test_large_programs_hold_little_and_are_exact() -> None:
    rng = np.random.default_rng(0)
    market = 0.01 * rng.normal(size=(800, 1)) * rng.normal(1, 0.35, 400)
    returns = (market + rng.normal(size=(800, 400)) * rng.uniform(0.008, 0.03, 400)) / 800**0.5
    found = solve(quadratic_program(Returns(torch.tensor(returns)), rng.normal(size=400) * 3e-5))
    assert found.relative_gap <= 1e-13
    assert 5 < int((found.point > 0).sum()) < 200
    assert abs(found.point.sum().item() - 1) <= 1e-14


@pytest.mark.parametrize("kept", ["costs", "turnover"])
def test_what_is_held_everywhere_is_sold_without_an_interior_point(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of variables leave where they are held at once, and most of them for zero."""
    monkeypatch.setattr(optimum, "interior_point", lambda _: pytest.fail("asked for one"))
    rng = np.random.default_rng(0)
    n = 500
    common = 0.01 * rng.normal(size=(2 * n, 1)) * rng.normal(1, 0.35, n)
    returns = common + rng.normal(size=(2 * n, n)) * rng.uniform(0.008, 0.03, n)
    covariance, held = returns.T @ returns / (2 * n), rng.dirichlet(np.ones(n))
    options: dict[str, Any] = {
        "costs": {"cost": 1e-5, "held": held},
        "turnover": {"norm_limits": [NormLimit(torch.tensor(held), 0.8, "turnover")]},
    }[kept]
    linear = 0.03 * rng.normal(3e-4, 2e-4, n)
    found = solve(quadratic_program(Dense(torch.tensor(covariance)), linear, **options))
    point = cp.Variable(n, nonneg=True)
    moved, risk = cp.norm1(point - held), cp.quad_form(point, cp.psd_wrap(covariance))
    budget: list[Any] = [cp.sum(point) == 1]
    cost = 1e-5 * moved if kept == "costs" else 0
    budget += [] if kept == "costs" else [moved <= 0.8]
    problem = cp.Problem(cp.Minimize(1e4 * (0.5 * risk - linear @ point + cost)), budget)
    problem.solve(solver=cp.CLARABEL)
    assert 1e4 * found.objective == pytest.approx(problem.value, rel=1e-5)
    assert found.relative_gap <= 1e-13


INFEASIBLE = [
    ({"upper": 0.02}, r"upper bound 0.02 x 20 variables = 0.4 < budget 1"),
    ({"lower": 0.1}, r"lower bound 0.1 x 20 variables = 2 > budget 1"),
    (
        {"rows": rows([[1.0] * 4 + [0.0] * 16], [0.5], [INF], "tech"), "upper": 0.1},
        r"upper bound 0.1 x 4 variables = 0.4 < tech 0.5",
    ),
    (
        {
            "rows": rows(
                [[1.0] * 10 + [0.0] * 10, [0.0] * 10 + [1.0] * 10],
                [-INF, -INF],
                [0.3, 0.4],
                "tech",
                "banks",
            )
        },
        r"budget and tech and banks exclude each other",
    ),
    (
        {"norm_limits": [NormLimit(torch.zeros(20).double(), 0.5, "leverage")]},
        r"budget and leverage exclude each other",
    ),
]


@pytest.mark.parametrize(("options", "message"), INFEASIBLE)
def test_infeasible_programs_say_which_constraints_exclude_each_other(
    options: dict, message: str
) -> None:
    covariance, mean = plain(7, 20)
    program = quadratic_program(Dense(torch.tensor(covariance)), mean, **options)
    with pytest.raises(InfeasibleProgram, match=message):
        solve(program)


def test_constraints_that_have_no_part_in_a_conflict_are_not_named() -> None:
    covariance, mean = plain(7, 20)
    first, last = [1.0] * 10 + [0.0] * 10, [0.0] * 10 + [1.0] * 10
    odd = [float(k % 2) for k in range(20)]
    given = rows([first, odd, last, odd], [0.7, 0.2, 0.6, -INF], [INF, INF, INF, 0.9], *"abcd")
    with pytest.raises(InfeasibleProgram) as raised:
        solve(quadratic_program(Dense(torch.tensor(covariance)), mean, rows=given))
    assert str(raised.value).startswith("budget and a and c exclude each other")


def test_an_unbounded_program_names_the_variables() -> None:
    matrix = torch.diag(torch.tensor([1e-4, 1e-4, 0.0, 0.0], dtype=torch.float64))
    program = quadratic_program(
        Dense(matrix), [0, 0, 1e-4, -1e-4], lower=-INF, names=("a", "b", "cash", "debt")
    )
    with pytest.raises(UnboundedProgram, match=r"cash up, debt down|debt down, cash up"):
        solve(program)


REFUSED = [
    ({"linear": [0.0] * 3}, "linear must be one number or 20 of them, got shape"),
    ({"linear": [float("nan")] * 20}, "linear must be finite: not so for asset 0"),
    ({"lower": 0.5, "upper": 0.1}, "lower must not exceed upper: not so for asset 0"),
    ({"cost": -1.0}, "cost must be >= 0"),
    ({"names": ["x"]}, "20 variables need as many names, got 1"),
    ({"budget": (1.0, 0.5)}, "constraint 'budget': lower 1 must not exceed upper 0.5"),
    ({"rows": rows([[1.0]], [0.0], [1.0], "tech")}, "rows must have 20 columns"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_a_program_is_refused(options: dict, message: str) -> None:
    covariance, _ = plain(7, 20)
    named: dict[str, Any] = {"names": [f"asset {i}" for i in range(20)]} | options
    with pytest.raises(ValueError, match=message):
        quadratic_program(Dense(torch.tensor(covariance)), **named)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(SEEDS)
def test_a_form_answers_as_its_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, form = random_form(rng, 9)
    index = torch.tensor(rng.permutation(9)[:4])
    values = torch.tensor(rng.normal(size=4))
    dense = torch.tensor(matrix)
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-18)
    close(form.block(index), dense[index][:, index])
    close(form.times(index, values), dense[:, index] @ values)
    close(form.diagonal(), dense.diagonal())
    assert form.lowest_eigenvalue() <= np.linalg.eigvalsh(matrix)[0] + 1e-12
