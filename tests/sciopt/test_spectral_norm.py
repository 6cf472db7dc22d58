"""Spectral norms carried from step to step, beside torch.linalg and the Hessian."""

import math

import pytest
import torch
from torch import Tensor

from sciopt import Composed
from sciopt.directions import Gradient
from sciopt.rates import InverseSpectralNorm

SHAPES = [(6, 4), (4, 6), (5, 2, 3, 3), (6,), (), (0, 2)]


def numbers(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def follow(optimizer: Composed, params: list[Tensor], grads: list[Tensor], steps: int) -> None:
    for _ in range(steps):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()


def norms(params: list[Tensor]) -> list[float]:
    """By torch.linalg, 1 for what is no matrix."""
    return [
        torch.linalg.matrix_norm(param.flatten(1), ord=2).item()
        if param.ndim >= 2 and param.numel()
        else 1.0
        for param in params
    ]


@pytest.mark.parametrize("of", ["own", "others"])
def test_the_norm_follows_a_matrix_that_moves_and_is_exact_once_it_rests(of: str) -> None:
    params, grads = numbers(0), numbers(1)
    optimizer = Composed(params, Gradient(), [InverseSpectralNorm(of)], lr=1e-3, engine="eager")
    for steps, lr, rtol in [(50, 1e-3, 0.02), (300, 0.0, 1e-8)]:
        optimizer.param_groups[0]["lr"] = lr
        follow(optimizer, params, grads, steps)
        expected = norms(params)
        follow(optimizer, params, grads, 1)
        found = [optimizer.state[param]["spectral_norm"].item() for param in params]
        assert found == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize(
    ("rate", "power"),
    [
        (InverseSpectralNorm(), 1.0),
        (InverseSpectralNorm(power=0.5), 0.5),
        (InverseSpectralNorm("others"), 2.0),
        (InverseSpectralNorm("others", power=1.0), 1.0),
        (InverseSpectralNorm("others", floor=4.5), 2.0),
    ],
)
def test_the_step_is_divided_by_the_own_or_the_others_norms(
    rate: InverseSpectralNorm, power: float
) -> None:
    params, grads = numbers(0), numbers(1)
    # Two groups: the product is over all of them.
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    optimizer = Composed(groups, Gradient(), [rate], lr=0.0, engine="eager")
    follow(optimizer, params, grads, 300)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    start = [param.clone() for param in params]
    own = [
        max(norm, rate.floor) if param.ndim >= 2 and param.numel() else 1.0
        for norm, param in zip(norms(params), params, strict=True)
    ]
    follow(optimizer, params, grads, 1)
    for param, old, grad, norm in zip(params, start, grads, own, strict=True):
        divisor = norm if rate.of == "own" else math.prod(own) / norm
        torch.testing.assert_close(param, old - 0.1 * grad / divisor**power, rtol=1e-8, atol=1e-12)


def test_a_matrix_of_zeros_has_the_floors_rate_and_is_measured_once_it_is_not() -> None:
    param = torch.zeros(4, 3, dtype=torch.float64)
    optimizer = Composed([param], Gradient(), [InverseSpectralNorm(floor=0.5)], engine="eager")
    optimizer.param_groups[0]["lr"] = 1.0
    grad = numbers(2)[0][:4, :3]
    follow(optimizer, [param], [grad], 1)
    torch.testing.assert_close(param, -2 * grad, rtol=1e-14, atol=0)
    optimizer.param_groups[0]["lr"] = 0.0
    follow(optimizer, [param], [grad], 200)
    expected = torch.linalg.matrix_norm(param, ord=2)
    torch.testing.assert_close(optimizer.state[param]["spectral_norm"], expected)


def test_a_resting_matrix_counts_only_with_a_gradient() -> None:
    params = [3 * torch.eye(2, dtype=torch.float64), 5 * torch.eye(2, dtype=torch.float64)]
    rate = InverseSpectralNorm("others", power=1.0)
    optimizer = Composed(params, Gradient(), [rate], lr=1.0, engine="eager")
    params[0].grad = torch.ones(2, 2, dtype=torch.float64)
    optimizer.step()
    assert params[0].tolist() == [[2.0, -1.0], [-1.0, 2.0]]


def test_the_others_norms_bound_the_curvature_along_each_layer_of_a_deep_linear_net() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5, 3), (2, 5)]
    params = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    target = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    grads = [torch.zeros_like(param) for param in params]
    optimizer = Composed(params, Gradient(), [InverseSpectralNorm("others")], engine="eager")
    follow(optimizer, params, grads, 300)

    def loss(*layers: Tensor) -> Tensor:
        # White inputs: their Gram matrix is the identity.
        return (layers[2] @ layers[1] @ layers[0] - target).square().sum() / 2

    hessian = torch.autograd.functional.hessian(loss, tuple(params))
    for index, param in enumerate(params):
        block = hessian[index][index].reshape(param.numel(), param.numel())  # pyright: ignore[reportAttributeAccessIssue]
        curvature = torch.linalg.eigvalsh(block)[-1].item()
        bound = math.exp(2 * optimizer.state[param]["log_norm"].item())
        assert curvature <= bound * (1 + 1e-8)
        if index == 1:  # Between two layers the bound is met.
            assert curvature == pytest.approx(bound, rel=1e-8)
