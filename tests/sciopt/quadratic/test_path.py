"""Frontiers, corners and the points on them that are asked for by risk or by ratio."""

from itertools import pairwise
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciopt.quadratic import (
    Dense,
    InfeasibleProgram,
    QuadraticProgram,
    Returns,
    Rows,
    UnboundedProgram,
    corners,
    frontier,
    max_ratio,
    quadratic_program,
    solve,
    target_risk,
)

TIGHT = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
SEEDS = st.integers(0, 2**32 - 1)


def market(seed: int, n: int) -> tuple[np.ndarray, torch.Tensor]:
    """Returns scaled so that Q = X'X, and means, in units of a day."""
    rng = np.random.default_rng(seed)
    common = 0.01 * rng.normal(size=(3 * n, 1)) * rng.normal(1, 0.35, n)
    returns = common + rng.normal(size=(3 * n, n)) * rng.uniform(0.008, 0.03, n)
    return returns / (3 * n) ** 0.5, torch.tensor(rng.normal(3e-4, 3e-4, n))


def program_of(seed: int, n: int, **options: object) -> tuple[QuadraticProgram, torch.Tensor]:
    returns, mean = market(seed, n)
    return quadratic_program(Returns(torch.tensor(returns)), **options), mean  # pyright: ignore[reportArgumentType]


def capped(n: int) -> dict:
    """An upper bound, a group and costs of trading, all at once."""
    rows = Rows(
        (torch.arange(n) < n // 3).double()[None],
        torch.tensor([0.2], dtype=torch.float64),
        torch.tensor([0.4], dtype=torch.float64),
        ("group",),
    )
    return {"upper": 0.3, "rows": rows, "cost": 2e-5, "held": np.full(n, 1 / n)}


@pytest.mark.parametrize("options", [{}, capped(30), {"lower": -0.2, "upper": 0.5}])
def test_every_point_of_a_frontier_is_that_of_the_program_at_t(options: dict) -> None:
    program, mean = program_of(0, 30, **options)
    at = [0.3, 0.0, 1e-2, 0.1, 3.0]
    costs = options.get("cost", 0.0)
    for t, found in zip(at, frontier(program, mean, at), strict=True):
        alone = quadratic_program(program.form, t * mean, **(options | {"cost": t * costs}))
        torch.testing.assert_close(found.point, solve(alone).point, rtol=0, atol=1e-11)
        assert found.relative_gap <= 1e-12


@pytest.mark.parametrize("options", [{}, capped(30), {"lower": -0.2, "upper": 0.5}])
def test_between_corners_the_path_is_a_line(options: dict) -> None:
    program, mean = program_of(1, 30, **options)
    found = corners(program, mean)
    assert len(found) > 5
    assert found[0].t == 0
    assert all(corner.gap <= 1e-12 * 1e-4 for corner in found)
    for left, right in pairwise(found):
        share = 0.3
        t = (1 - share) * left.t + share * right.t
        between = (1 - share) * left.point + share * right.point
        [solved] = frontier(program, mean, [t])
        torch.testing.assert_close(between, solved.point, rtol=0, atol=1e-9)
    [last] = frontier(program, mean, [10 * found[-1].t])
    torch.testing.assert_close(last.point, found[-1].point, rtol=0, atol=1e-9)


def test_the_path_turns_at_every_corner() -> None:
    program, mean = program_of(2, 20)
    found = corners(program, mean)
    for a, b, c in zip(found, found[1:], found[2:], strict=False):
        before = (b.point - a.point) / (b.t - a.t)
        after = (c.point - b.point) / (c.t - b.t)
        assert (before - after).abs().max() > 1e-6 * before.abs().max()


@settings(max_examples=25, derandomize=True, deadline=None)
@given(SEEDS)
def test_target_risk_is_cvxpys(seed: int) -> None:
    options = [{}, capped(12), {"lower": -0.2, "upper": 0.5}][seed % 3]
    program, mean = program_of(seed, 12, **options)
    returns, _ = market(seed, 12)
    [least] = frontier(program, mean, [0.0])
    [boldest] = frontier(program, mean, [1e6])
    low, high = (((returns @ s.point.numpy()) ** 2).sum() for s in (least, boldest))
    variance = low + (high - low) * 0.4
    found = target_risk(program, mean, float(variance))
    point = cp.Variable(12)
    value = mean.numpy() @ point
    constraints = [cp.sum(point) == 1, cp.norm(returns @ point) <= variance**0.5]
    constraints += [point >= options.get("lower", 0), point <= options.get("upper", 10)]
    if "cost" in options:
        value -= options["cost"] * cp.norm1(point - options["held"])
        constraints += [cp.sum(point[:4]) <= 0.4, cp.sum(point[:4]) >= 0.2]
    problem = cp.Problem(cp.Maximize(1e3 * value), constraints)
    problem.solve(solver=cp.CLARABEL, **TIGHT)
    assert 1e3 * found.objective == pytest.approx(problem.value, rel=1e-6)
    assert ((returns @ found.point.numpy()) ** 2).sum() == pytest.approx(variance, rel=1e-10)
    assert found.gap <= 1e-11 * abs(found.objective) + 1e-15


@settings(max_examples=25, derandomize=True, deadline=None)
@given(SEEDS)
def test_max_ratio_is_cvxpys(seed: int) -> None:
    program, mean = program_of(seed, 12, upper=0.4)
    returns, _ = market(seed, 12)
    offset = 1e-4
    found = max_ratio(program, mean, offset)
    # In y = w / (value - offset) the ratio is a quadratic program (Cornuejols & Tutuncu 2006).
    point, scale = cp.Variable(12), cp.Variable()
    excess = 1e3 * (mean.numpy() @ point - offset * scale)
    constraints = [excess == 1, cp.sum(point) == scale, point >= 0, point <= 0.4 * scale]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(returns @ point)), constraints)
    problem.solve(solver=cp.CLARABEL, **TIGHT)
    assert point.value is not None
    best = (mean.numpy() @ (w := point.value / point.value.sum()) - offset) / np.linalg.norm(
        returns @ w
    )
    assert found.objective == pytest.approx(best, rel=1e-5)
    assert found.objective >= best * (1 - 1e-9)
    assert found.gap <= 1e-11 * found.objective


def test_greatest_ratio_without_bounds_is_the_tangency_portfolio() -> None:
    returns, mean = market(5, 10)
    covariance = returns.T @ returns
    tangency = np.linalg.solve(covariance, mean.numpy())
    program = quadratic_program(Dense(torch.tensor(covariance)), lower=-100.0, upper=100.0)
    found = max_ratio(program, mean)
    np.testing.assert_allclose(found.point, tangency / tangency.sum(), rtol=1e-8)
    assert found.objective == pytest.approx((tangency @ mean.numpy()) ** 0.5, rel=1e-12)


def test_multiplier_of_variance_is_the_price_of_risk() -> None:
    program, mean = program_of(3, 15)
    variance, step = 1.5e-4, 1e-9
    found = target_risk(program, mean, variance)
    more = target_risk(program, mean, variance + step).objective
    less = target_risk(program, mean, variance - step).objective
    assert found.multipliers["variance"] == pytest.approx((more - less) / (2 * step), rel=1e-5)


def test_more_risk_than_there_is_to_take_gives_the_greatest_value() -> None:
    program, mean = program_of(4, 10)
    found = target_risk(program, mean, 1.0)
    assert found.objective == pytest.approx(mean.max().item(), rel=1e-12)
    assert found.gap <= 1e-6 * found.objective


def test_less_risk_than_there_must_be_is_infeasible() -> None:
    program, mean = program_of(4, 10)
    with pytest.raises(InfeasibleProgram, match="the least possible w'Qw"):
        target_risk(program, mean, 1e-8)


def test_a_ratio_that_cannot_be_positive_is_refused() -> None:
    program, mean = program_of(4, 10)
    with pytest.raises(InfeasibleProgram, match=r"no feasible point has tilt'w above the offset"):
        max_ratio(program, mean, offset=1.0)


def test_a_ratio_that_grows_with_the_point_is_unbounded() -> None:
    # The offset is paid once, however large the position.
    program, mean = program_of(4, 10, lower=-float("inf"), budget=None)
    with pytest.raises(UnboundedProgram, match="bound the variables"):
        max_ratio(program, mean, offset=1e-4)


def with_another(first: int, mean_more: float | None) -> tuple[Dense, torch.Tensor]:
    """Ten assets and one more: cash, or the first again with another mean."""
    returns, mean = market(5, 10)
    covariance = returns.T @ returns
    pick = np.eye(10)[:, [first]] if mean_more is not None else np.zeros((10, 1))
    joined = np.hstack([np.eye(10), pick])
    more = float(mean[first]) + mean_more if mean_more is not None else 0.0
    return Dense(torch.tensor(joined.T @ covariance @ joined)), torch.cat(
        [mean, torch.tensor([more], dtype=torch.float64)]
    )


def test_a_ratio_without_bound_names_the_portfolio_without_risk() -> None:
    form, mean = with_another(0, None)
    mean[-1] = 3e-4
    names = [f"stock {k}" for k in range(10)] + ["cash"]
    says = r"\+1 cash has no risk, w'Qw = 0, and a value of 0.0003 above the offset 0.0001"
    with pytest.raises(UnboundedProgram, match=says):
        max_ratio(quadratic_program(form, names=names), mean, offset=1e-4)
    form, mean = with_another(2, 1e-4)
    program = quadratic_program(form, lower=-0.5, upper=0.5, budget=0.0)
    says = r"(\+0.5 variable 10, -0.5|-0.5 variable 2, \+0.5) variable (2|10) has no risk"
    with pytest.raises(UnboundedProgram, match=says):
        max_ratio(program, mean)


@pytest.mark.parametrize("more", [None, 0.0])
def test_what_adds_neither_risk_nor_value_leaves_the_greatest_ratio(more: float | None) -> None:
    """Cash that earns the offset, or an asset that is there twice and may be sold short."""
    form, mean = with_another(3, more)
    offset = 0.0 if more is None else 1e-4
    lower = 0.0 if more is None else -0.3
    alone = quadratic_program(Dense(form.matrix[:10, :10]), lower=lower, upper=1.0)
    together = quadratic_program(form, lower=lower, upper=1.0)
    found = max_ratio(together, mean, offset)
    assert found.objective == pytest.approx(max_ratio(alone, mean[:10], offset).objective, 1e-8)
    everything = found.point.numpy()
    value = everything @ mean.numpy() - offset
    risk = (everything @ form.matrix.numpy() @ everything) ** 0.5
    assert found.objective == pytest.approx(value / risk, rel=1e-7)


def test_with_fewer_days_than_assets_the_ratio_is_cvxpys_or_has_no_bound() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(5e-4, 0.02, (25, 60))
    mean = returns.mean(0)
    deviations = (returns - mean) / 24**0.5
    program = quadratic_program(Returns(torch.tensor(deviations)))
    safe = cp.Variable(60, nonneg=True)
    within: list[Any] = [deviations @ safe == 0, cp.sum(safe) == 1]
    best = cp.Problem(cp.Maximize(1e3 * mean @ safe), within)
    best.solve(solver=cp.CLARABEL)
    assert best.value is not None
    greatest = float(best.value) / 1e3  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnboundedProgram, match=f"a value of {greatest:.4g}"):
        max_ratio(program, torch.tensor(mean), offset=greatest - 1e-4)
    offset = greatest + 1e-3
    found = max_ratio(program, torch.tensor(mean), offset=offset)
    point, scale = cp.Variable(60, nonneg=True), cp.Variable()
    excess = 1e3 * (mean @ point - offset * scale)
    within = [excess == 1, cp.sum(point) == scale]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(1e3 * deviations @ point)), within)
    problem.solve(solver=cp.CLARABEL, **TIGHT)
    assert problem.value is not None
    least = float(problem.value)  # pyright: ignore[reportArgumentType]
    assert found.objective == pytest.approx(least**-0.5, rel=1e-6)
    assert found.gap <= 1e-9 * found.objective


@pytest.mark.parametrize("t", [-1.0, float("inf"), float("nan")])
def test_an_impossible_t_is_refused(t: float) -> None:
    program, mean = program_of(4, 5)
    with pytest.raises(ValueError, match="t must be >= 0 and finite"):
        frontier(program, mean, [t])


def test_a_tilt_of_the_wrong_size_is_refused() -> None:
    program, _ = program_of(4, 5)
    with pytest.raises(ValueError, match="tilt must be 5 finite numbers"):
        frontier(program, torch.zeros(4).double(), [1.0])
