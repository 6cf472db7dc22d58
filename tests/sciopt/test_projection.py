"""Projections against CVXPY and the optimality conditions, alone and after a rated step."""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sciopt
from sciopt.directions import Gradient
from sciopt.rates import SecondMoment


def by_cvxpy(point: np.ndarray, total: float, metric: np.ndarray) -> np.ndarray:
    """The same minimum from a general solver."""
    weights = cp.Variable(len(point))
    objective = cp.sum(cp.multiply(metric, cp.square(weights - point)))
    constraints = [weights >= 0, cp.sum(weights) == total]
    cp.Problem(cp.Minimize(objective), constraints).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13
    )
    assert weights.value is not None
    return weights.value


def check_optimality(
    point: Tensor, total: float, metric: Tensor, weights: Tensor, slack: float = 1e-13
) -> None:
    """The conditions of Karush, Kuhn and Tucker, to round-off of the numbers they are made of.

    A multiplier tau exists with metric * (point - w) = tau where w > 0, and <= tau elsewhere.
    """
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(total, rel=slack)
    pull = metric * (point - weights)
    held = weights > slack * total
    scale = (metric * torch.maximum(point.abs(), weights))[held].max().item()
    tau = pull[held].mean().item()
    assert (pull[held] - tau).abs().max().item() <= slack * scale
    assert pull.max().item() <= tau + slack * scale


@pytest.mark.parametrize("total", [1.0, 0.01, 250.0])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_projection_equals_cvxpys(n: int, total: float) -> None:
    generator = np.random.default_rng([n, int(total)])
    for spread in (0.1, 1.0, 10.0):
        point = total * spread * generator.normal(size=n)
        metric = np.exp(generator.normal(size=n))
        for each in (metric, np.ones(n)):
            ours = sciopt.project_simplex(
                torch.tensor(point), total, None if (each == 1).all() else torch.tensor(each)
            )
            expected = by_cvxpy(point / total, 1.0, each) * total
            np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-6 * total)
            check_optimality(torch.tensor(point), total, torch.tensor(each), ours)


numbers = st.one_of(st.floats(-3, 3), st.sampled_from([-1.0, 0.0, 0.5, 1.0]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    point=st.lists(numbers, min_size=1, max_size=12),
    exponents=st.lists(st.integers(-6, 6), min_size=12, max_size=12),
    total=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_projection_is_optimal(point: list[float], exponents: list[int], total: float) -> None:
    at = torch.tensor(point, dtype=torch.float64)
    metric = 2.0 ** torch.tensor(exponents[: len(point)], dtype=torch.float64)
    check_optimality(at, total, metric, sciopt.project_simplex(at, total, metric), slack=1e-12)
    check_optimality(at, total, torch.ones_like(at), sciopt.project_simplex(at, total), slack=1e-12)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ([5.0], [1.0]),
        ([-5.0], [1.0]),
        ([0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
        ([2.0, 2.0, 0.0], [0.5, 0.5, 0.0]),
        ([-3.0, -3.5, -9.0], [0.75, 0.25, 0.0]),
        ([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),
        ([1e15, 1e15 - 0.5, -1e15], [0.75, 0.25, 0.0]),
        ([1e300, -1e300, 0.0], [1.0, 0.0, 0.0]),
        ([1e20, 1e20, 0.0], [0.5, 0.5, 0.0]),
        ([1e-20, 2e-20, -1.0], [0.5, 0.5, 0.0]),
        ([-1e15, -1e15 + 0.5], [0.25, 0.75]),
    ],
)
def test_projection_by_hand(point: list[float], expected: list[float]) -> None:
    ours = sciopt.project_simplex(torch.tensor(point, dtype=torch.float64))
    torch.testing.assert_close(
        ours, torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=1e-16
    )


def test_a_metric_weighs_by_hand() -> None:
    # The excess of 1 is shared as 1/4 : 1/1 between coordinates of metric 4 and 1.
    point = torch.tensor([1.0, 1.0], dtype=torch.float64)
    metric = torch.tensor([4.0, 1.0], dtype=torch.float64)
    expected = torch.tensor([0.8, 0.2], dtype=torch.float64)
    ours = sciopt.project_simplex(point, 1.0, metric)
    torch.testing.assert_close(ours, expected, rtol=1e-15, atol=0)
    torch.testing.assert_close(
        sciopt.project_simplex(point, 1.0, 1e12 * metric), expected, rtol=1e-15, atol=0
    )


def test_a_feasible_point_stays_under_a_steep_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    point = torch.rand(50, generator=generator, dtype=torch.float64)
    point /= point.sum()
    metric = 10 ** torch.linspace(-8, 8, 50, dtype=torch.float64)
    torch.testing.assert_close(
        sciopt.project_simplex(point, 1.0, metric), point, rtol=1e-12, atol=1e-15
    )


def test_rows_of_a_batch_are_projected_each_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    metric = torch.rand(3, 4, 6, generator=generator, dtype=torch.float64) + 0.1
    together = sciopt.project_simplex(points, 2.0, metric)
    for i in range(3):
        for j in range(4):
            alone = sciopt.project_simplex(points[i, j], 2.0, metric[i, j])
            torch.testing.assert_close(together[i, j], alone, rtol=1e-14, atol=1e-15)


def test_float32_is_projected_to_its_own_round_off() -> None:
    generator = torch.Generator().manual_seed(0)
    points = 100 * torch.randn(200, 30, generator=generator)
    ours = sciopt.project_simplex(points)
    exact = sciopt.project_simplex(points.double())
    assert ours.dtype == torch.float32
    assert (ours.double() - exact).abs().max().item() <= 2e-6
    assert (ours.double().sum(-1) - 1).abs().max().item() <= 1e-6


def test_nan_is_passed_on() -> None:
    assert sciopt.project_simplex(torch.tensor([0.5, float("nan")])).isnan().any()


@pytest.mark.parametrize("total", [0.0, -1.0, float("inf"), float("nan")])
def test_a_total_that_cannot_be_is_refused(total: float) -> None:
    with pytest.raises(ValueError, match="total must be positive"):
        sciopt.project_simplex(torch.ones(2), total)
    with pytest.raises(ValueError, match="total must be positive"):
        sciopt.Simplex(total)


def test_projections_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="metric must be"):
        sciopt.Simplex(metric="manhattan")
    with pytest.raises(ValueError, match="lower must not exceed"):
        sciopt.Box(1.0, 0.0)
    for shape in [(), (3, 0)]:
        with pytest.raises(ValueError, match="last axis"):
            sciopt.Adam([torch.zeros(shape)], projection=sciopt.Simplex())


N = 12


def quadratic() -> tuple[Tensor, Tensor]:
    """Q and c of f(w) = w'Qw/2 - c'w, with gradients of equal sign on much of the simplex."""
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(N, N, generator=generator, dtype=torch.float64)
    return factor @ factor.T / N + 0.1 * torch.eye(N).double(), torch.full((N,), -1.0).double()


def objective(weights: Tensor) -> Tensor:
    hessian, linear = quadratic()
    return weights @ hessian @ weights / 2 - linear @ weights


def gradient(weights: Tensor) -> Tensor:
    hessian, linear = quadratic()
    return hessian @ weights.detach() - linear


def lowest_on_simplex() -> float:
    hessian, linear = (each.numpy() for each in quadratic())
    weights = cp.Variable(N)
    value = cp.quad_form(weights, cp.psd_wrap(hessian)) / 2 - linear @ weights
    constraints: list[cp.Constraint] = [weights >= 0, cp.sum(weights) == 1]  # pyright: ignore[reportAssignmentType]
    problem = cp.Problem(cp.Minimize(value), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13)
    return float(np.asarray(problem.value))


def share_left(make: Callable[[list[Tensor]], sciopt.Composed]) -> float:
    """How much is left of the way down from equal weights to the minimum, as a share."""
    weights = torch.full((N,), 1 / N, dtype=torch.float64, requires_grad=True)
    start, lowest = objective(weights).item(), lowest_on_simplex()
    optimizer = make([weights])
    for _ in range(1500):
        weights.grad = gradient(weights)
        optimizer.step()
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1.0, rel=1e-14)
    return (objective(weights).item() - lowest) / (start - lowest)


def test_adam_reaches_the_constrained_minimum_in_the_metric_of_its_rates() -> None:
    on_simplex = sciopt.Simplex()
    assert abs(share_left(lambda p: sciopt.Adam(p, lr=0.05, projection=on_simplex))) <= 1e-9


def test_adam_does_not_leave_the_start_after_a_euclidean_projection() -> None:
    on_simplex = sciopt.Simplex(metric="euclidean")
    assert share_left(lambda p: sciopt.Adam(p, lr=0.05, projection=on_simplex)) > 0.99


def test_projected_sgd_reaches_the_constrained_minimum() -> None:
    on_simplex = sciopt.Simplex()
    assert abs(share_left(lambda p: sciopt.SGD(p, lr=0.2, projection=on_simplex))) <= 1e-9


def test_a_projected_step_is_the_rated_step_projected_in_the_metric_of_the_rate() -> None:
    grad = torch.tensor([[1.0, -2.0, 0.5], [3.0, 3.0, -0.1]], dtype=torch.float64)
    start = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    param = start.clone().requires_grad_()
    param.grad = grad.clone()
    sciopt.Composed(
        [param], Gradient(), [SecondMoment(eps=0.1)], lr=0.2, projection=sciopt.Simplex()
    ).step()
    metric = grad.abs() + 0.1
    for row in range(2):
        expected = by_cvxpy((start - 0.2 * grad / metric)[row].numpy(), 1.0, metric[row].numpy())
        np.testing.assert_allclose(param.detach()[row].numpy(), expected, atol=1e-6)


def test_box_bounds_every_element_after_the_step() -> None:
    param = torch.tensor([0.5, -0.5, 0.0], requires_grad=True)
    param.grad = torch.tensor([-1.0, 1.0, 0.25])
    sciopt.SGD([param], lr=1.0, projection=sciopt.Box(-1.0, 0.75)).step()
    assert param.tolist() == [0.75, -1.0, -0.25]
