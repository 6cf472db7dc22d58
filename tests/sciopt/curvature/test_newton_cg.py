"""Newton-CG against dense linear algebra."""

import pytest
import torch
from closure_optimizers import Regression, descend
from torch import Tensor

from sciopt.curvature.descent import Stopped
from sciopt.curvature.newton_cg import NewtonCG, nystrom, nystrom_solve, truncated_newton


def symmetric(eigenvalues: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = len(eigenvalues)
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return turn @ torch.diag(eigenvalues) @ turn.T


SPREAD = torch.logspace(-2, 6, 30, dtype=torch.float64)


@pytest.mark.parametrize("damping", [0.0, 1e-2, 10.0])
@pytest.mark.parametrize("rank", [1, 10, 60])
def test_a_step_on_a_quadratic_is_the_dense_newton_step(damping: float, rank: int) -> None:
    hessian = symmetric(SPREAD)
    x = torch.linspace(-1, 2, 30, dtype=torch.float64).requires_grad_()
    start = x.detach().clone()
    optimizer = NewtonCG([x], rank=rank, damping=damping, cg_tolerance=1e-13, max_products=2000)
    descend(optimizer, lambda: x @ hessian @ x / 2 + x.sum(), [x], 1)
    damped = hessian + damping * torch.eye(30, dtype=torch.float64)
    step = torch.linalg.solve(damped, -(hessian @ start + 1))
    torch.testing.assert_close(x.detach() - start, step, rtol=1e-6, atol=1e-6 * float(step.norm()))
    assert optimizer.evaluations == 2


def test_the_full_preconditioner_is_the_damped_inverse() -> None:
    hessian, v = symmetric(SPREAD), torch.linspace(1, 2, 30, dtype=torch.float64)
    identity = torch.eye(30, dtype=torch.float64)
    drawn = torch.randn(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, eigenvalues = nystrom(lambda u: hessian @ u, drawn)
    torch.testing.assert_close(eigenvalues, SPREAD.flip(0), rtol=1e-6, atol=1e-6)
    smallest = eigenvalues[-1] + 0.5
    expected = smallest * torch.linalg.solve(hessian + 0.5 * identity, v)
    torch.testing.assert_close(nystrom_solve(basis, eigenvalues, 0.5, v), expected)


def test_the_preconditioner_saves_products() -> None:
    eigenvalues = torch.cat([torch.logspace(2, 6, 20), torch.linspace(0.1, 1, 180)]).double()
    hessian, g = symmetric(eigenvalues), torch.ones(200, dtype=torch.float64)
    drawn = torch.randn(200, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, known = nystrom(lambda u: hessian @ u, drawn)
    counts = []
    for precondition in (lambda v: v, lambda v: nystrom_solve(basis, known, 1e-2, v)):
        count = 0

        def product(v: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return hessian @ v + 1e-2 * v

        d = truncated_newton(product, g, precondition, 1e-8, 10_000)
        assert (hessian @ d + 1e-2 * d + g).norm() <= 1.01e-8 * g.norm()
        counts.append(count)
    assert counts[1] < counts[0] / 5


@pytest.mark.parametrize("count", [0, 1, 5, 30])
def test_negative_curvature_leaves_a_direction_of_descent(count: int) -> None:
    hessian = symmetric(torch.cat([SPREAD[: 30 - count], -SPREAD[30 - count :]]))
    drawn = torch.randn(30, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, eigenvalues = nystrom(lambda u: hessian @ u, drawn)
    assert eigenvalues.min() >= 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        g = torch.randn(30, generator=generator, dtype=torch.float64)
        d = truncated_newton(
            lambda v: hessian @ v,
            g,
            lambda v: nystrom_solve(basis, eigenvalues, 1e-3, v),
            1e-6,
            500,
        )
        assert d.isfinite().all()
        assert d @ g < 0


def test_a_saddle_is_left_and_a_minimum_found() -> None:
    x = torch.tensor([0.1, 1e-3], dtype=torch.float64, requires_grad=True)
    optimizer = NewtonCG([x], tolerance_gradient=1e-10)
    descend(optimizer, lambda: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [x], 50)
    assert optimizer.stopped is Stopped.GRADIENT_SMALL
    assert x.abs().tolist() == pytest.approx([0.0, 0.5**0.5], abs=1e-9)


def test_a_parameter_that_the_loss_does_not_curve_in_is_no_obstacle() -> None:
    x, unused = torch.ones(3, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for param in (x, unused):
        param.requires_grad_()
    optimizer = NewtonCG([x, unused], tolerance_gradient=1e-9)
    descend(optimizer, lambda: (x**4).sum() + (x**2).sum(), [x, unused], 30)
    assert optimizer.stopped is Stopped.GRADIENT_SMALL
    assert unused.item() == pytest.approx(1.0, abs=1e-9)


def test_a_network_is_fitted_to_more_digits_than_by_as_many_steps_of_descent() -> None:
    task = Regression()
    losses = descend(NewtonCG(task.params, rank=10), task.loss, task.params, 60)
    assert losses[-1] < 1e-3 * losses[0]
    assert all(param.grad is None for param in task.params)
