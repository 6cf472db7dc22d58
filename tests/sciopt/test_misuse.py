"""What users do to an optimizer between steps must work as in torch, or say what is wrong."""

from collections import defaultdict
from typing import Any

import cvxpy
import numpy as np
import pytest
import torch

import sciopt


def two_runs(steps: int = 3) -> list[tuple[torch.Tensor, torch.optim.Optimizer]]:
    """The same parameter under sciopt's and torch's Adam, some steps in."""
    runs = []
    for make in (sciopt.Adam, torch.optim.Adam):
        param = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
        optimizer = make([param], lr=1e-2)
        param.grad = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
        for _ in range(steps):
            optimizer.step()
        runs.append((param, optimizer))
    return runs


def clear(optimizer: torch.optim.Optimizer, _: torch.Tensor) -> None:
    optimizer.state.clear()


def replace(optimizer: torch.optim.Optimizer, _: torch.Tensor) -> None:
    optimizer.state = defaultdict(dict)


def put_another_tensor(optimizer: torch.optim.Optimizer, param: torch.Tensor) -> None:
    optimizer.state[param]["exp_avg"] = torch.zeros_like(param)


@pytest.mark.parametrize("reset", [clear, replace, put_another_tensor])
def test_a_state_the_user_has_reset_is_used(reset: Any) -> None:
    (ours, optimizer), (theirs, reference) = two_runs()
    for each, param in ((optimizer, ours), (reference, theirs)):
        reset(each, param)
        each.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-15)
    saved = optimizer.state_dict()["state"][0]["exp_avg"]
    torch.testing.assert_close(saved, reference.state_dict()["state"][0]["exp_avg"])


@pytest.mark.parametrize("make", [sciopt.Adam, lambda p: sciopt.SGD(p, momentum=0.9)])
def test_a_parameter_of_another_shape_is_refused(make: Any) -> None:
    table = torch.nn.Embedding(4, 8)
    optimizer = make(table.parameters())
    table.weight.data = torch.zeros(5, 8)
    table.weight.grad = torch.ones(5, 8)
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()


def test_a_refused_load_leaves_the_optimizer_as_it_was() -> None:
    param = torch.ones(3, requires_grad=True)
    optimizer = sciopt.SGD([param], momentum=0.9, engine="fused")
    other = sciopt.SGD([param], lr=77.0, momentum=0.9, dampening=0.5)
    with pytest.raises(ValueError, match="fused"):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.param_groups[0]["lr"] == 1e-3
    param.grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(param, torch.full((3,), 1 - 1e-3, requires_grad=True))


def test_adamw_that_loads_adams_state_decays_as_torchs_does() -> None:
    saved = two_runs()[1][1].state_dict()
    params = []
    for make in (sciopt.AdamW, torch.optim.AdamW):
        param = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
        optimizer = make([param])
        optimizer.load_state_dict(saved)
        optimizer.param_groups[0]["weight_decay"] = 0.5
        param.grad = torch.ones(4, dtype=torch.float64)
        optimizer.step()
        params.append(param)
    torch.testing.assert_close(params[0], params[1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1.0, 1e200])
def test_the_normalised_step_has_length_lr_whatever_the_gradient(size: float) -> None:
    params = [torch.zeros(3, requires_grad=True, dtype=torch.float64) for _ in range(2)]
    optimizer = sciopt.NormalizedSGD(params, lr=0.25)
    for param in params:
        param.grad = torch.full((3,), size, dtype=torch.float64)
    optimizer.step()
    moved = torch.cat([param.detach() for param in params]).norm()
    torch.testing.assert_close(moved.item(), 0.25, rtol=1e-14, atol=0)


@pytest.mark.parametrize("size", [1e-24, 1e20, 1e38])
def test_the_normalised_step_in_float32_neither_overflows_nor_vanishes(size: float) -> None:
    param = torch.zeros(4, requires_grad=True)
    optimizer = sciopt.NormalizedSGD([param], lr=1.0)
    param.grad = torch.full((4,), size)
    optimizer.step()
    torch.testing.assert_close(param.detach(), torch.full((4,), -0.5))


def test_a_projected_normalised_step_stands_where_the_gradient_is_zero() -> None:
    weights = torch.tensor([0.25, 0.75], requires_grad=True)
    optimizer = sciopt.NormalizedSGD([weights], lr=0.1, projection=sciopt.Simplex())
    weights.grad = torch.zeros(2)
    optimizer.step()
    assert weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("decades", [6, 12, 16])
def test_a_steep_metric_is_projected_in_float32_as_cvxpy_does(decades: int) -> None:
    generator = np.random.default_rng(decades)
    for _ in range(20):
        metric = 10.0 ** generator.uniform(-decades, 0, 6)
        point = generator.normal(size=6)
        ours = sciopt.project_simplex(
            torch.tensor(point, dtype=torch.float32), 1.0, torch.tensor(metric, dtype=torch.float32)
        ).numpy()
        assert ours.min() >= 0
        np.testing.assert_allclose(ours.sum(), 1.0, rtol=1e-6)
        weights = cvxpy.Variable(6, nonneg=True)
        # sqrt(metric) keeps CVXPY's own numbers within its reach.
        distance = cvxpy.sum_squares(cvxpy.multiply(np.sqrt(metric), weights - point))
        cvxpy.Problem(cvxpy.Minimize(distance), [cvxpy.sum(weights) == 1]).solve(  # pyright: ignore[reportArgumentType]
            solver=cvxpy.CLARABEL
        )
        assert weights.value is not None
        reached = (metric * (ours - point) ** 2).sum()
        assert reached <= (metric * (weights.value - point) ** 2).sum() * (1 + 1e-4) + 1e-5
