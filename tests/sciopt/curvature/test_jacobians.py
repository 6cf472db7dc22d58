"""Jacobians against torch.func."""

import pytest
import torch
from torch import Tensor

from sciopt.curvature.jacobians import ROWS_AT_ONCE, MatrixFree, whole

SHAPES = [(3, 2), (4,), (), (2, 1, 2)]
COUNT = 15


def flat_residuals(x: Tensor) -> Tensor:
    """More than are differentiated at once; no residual depends on the second param."""
    matrix, _, number, cube = x.split([6, 4, 1, 4])
    t = torch.linspace(0, 1, ROWS_AT_ONCE + 40, dtype=torch.float64)[:, None]
    inner = torch.tanh(t @ matrix.view(3, 2)[:1] + matrix.view(3, 2)[1])
    return (inner * cube[:2]).sum(1) + number**2 * torch.exp(-t[:, 0] * cube[3])


def setting() -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    """Residuals with their graph, the params, their Jacobian and all params as one vector."""
    generator = torch.Generator().manual_seed(0)
    params = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in SHAPES
    ]
    x = torch.cat([param.reshape(-1) for param in params])
    jacobian = torch.func.jacrev(flat_residuals)(x.detach())
    return flat_residuals(x), params, jacobian, x.detach()


def test_the_whole_jacobian_is_that_of_torch_func() -> None:
    residual, params, expected, _ = setting()
    found = whole(residual, params)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    assert found[:, 6:10].count_nonzero() == 0


def test_products_are_those_with_the_jacobian() -> None:
    residual, params, jacobian, _ = setting()
    free = MatrixFree(lambda: residual, params, 100)
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(COUNT, generator=generator, dtype=torch.float64)
    w = torch.randn(len(residual), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(free.product(v), jacobian @ v, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(free.transposed_product(w), jacobian.T @ w, rtol=1e-12, atol=1e-13)
    largest = float(torch.linalg.matrix_norm(jacobian, 2) ** 2)
    assert 0 < free.scale <= largest * (1 + 1e-12)


@pytest.mark.parametrize("damping", [1e-9, 1e-2, 10.0])
def test_conjugate_gradients_find_the_dense_solution(damping: float) -> None:
    residual, params, jacobian, _ = setting()
    w = torch.linspace(-1, 2, len(residual), dtype=torch.float64)
    solve = MatrixFree(lambda: residual, params, 10_000, tolerance=1e-14).damped(damping)
    stacked = torch.cat([jacobian, damping**0.5 * torch.eye(COUNT, dtype=torch.float64)])
    target = torch.cat([w, w.new_zeros(COUNT)])
    expected = torch.linalg.lstsq(stacked, target[:, None], driver="gelsd").solution[:, 0]
    found = solve(w, jacobian.T @ w)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8 * float(expected.norm()))


def test_conjugate_gradients_cut_short_still_keep_what_a_quadratic_promises() -> None:
    residual, params, jacobian, _ = setting()
    w, damping = torch.linspace(-1, 2, len(residual), dtype=torch.float64), 1e-6
    gradient = jacobian.T @ w
    x = MatrixFree(lambda: residual, params, 3).damped(damping)(w, gradient)
    assert (jacobian.T @ (w - jacobian @ x) - damping * x).norm() > 1e-6 * gradient.norm()
    promised = gradient @ x + damping * x @ x
    achieved = w @ w - (w - jacobian @ x).square().sum()
    torch.testing.assert_close(achieved, promised, rtol=1e-10, atol=0.0)


def test_nothing_to_solve_is_zero() -> None:
    residual, params, _, _ = setting()
    solve = MatrixFree(lambda: residual, params, 5).damped(1.0)
    nothing = torch.zeros(COUNT, dtype=torch.float64)
    assert torch.equal(solve(torch.zeros_like(residual), nothing), nothing)


def test_products_are_those_of_where_it_was_made_though_params_have_moved() -> None:
    _, params, jacobian, x = setting()

    def closure() -> Tensor:
        return flat_residuals(torch.cat([param.reshape(-1) for param in params]))

    free = MatrixFree(closure, params, 100)
    v, w = torch.linspace(-1, 2, COUNT).double(), torch.linspace(0, 1, len(jacobian)).double()
    with torch.no_grad():
        for param in params:
            param.add_(1.0)
        torch.testing.assert_close(free.transposed_product(w), jacobian.T @ w)
        for param in params:
            param.mul_(2.0)
        torch.testing.assert_close(free.product(v), jacobian @ v)
    assert torch.equal(torch.cat([param.detach().reshape(-1) for param in params]), x)
