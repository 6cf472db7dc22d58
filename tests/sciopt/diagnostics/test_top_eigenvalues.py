"""Lanczos on Hessian products against the dense Hessian."""

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, hessian

from sciopt.diagnostics import top_hessian_eigenvalues


def matrix_with(values: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """A symmetric matrix with these eigenvalues in a random basis."""
    generator = torch.Generator().manual_seed(len(values))
    size = len(values)
    basis, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    return ((matrix + matrix.T) / 2).to(dtype)


def quadratic(matrix: Tensor):
    params = [torch.zeros(len(matrix), dtype=matrix.dtype, requires_grad=True)]
    return (lambda: params[0] @ matrix @ params[0] / 2), params


SPECTRA = {
    "spread": [float(k) for k in range(60)],
    "negative": [-3.0, -2.0, -1.0, -0.5, -0.25, -7.0],
    "saddle": [-50.0, *(0.1 * k for k in range(40)), 4.5],
    "clustered": [10.0, 10.0 - 1e-7, 10.0 - 2e-7, *(0.01 * k for k in range(100))],
    "close below": [5.0, *(5.0 - 1e-3 * k for k in range(1, 30)), *(0.01 * k for k in range(150))],
    "equal": [3.0, 3.0, 3.0, 1.0, 1.0, 0.5, *(0.001 * k for k in range(50))],
    "identity": [2.0] * 20,
    "low rank": [7.0, -2.0, 1.0] + [0.0] * 50,
    "zero": [0.0] * 8,
    "one": [4.0],
    "ten decades": [10.0**-k for k in range(10)],
    "large": [k * 1e12 for k in range(9)],
    "small": [k * 1e-12 for k in range(9)],
}


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_are_those_of_the_matrix(name: str, count: int, largest: bool):
    spectrum = SPECTRA[name]
    count = min(count, len(spectrum))
    loss, params = quadratic(matrix_with(spectrum))
    found = top_hessian_eigenvalues(loss, params, count, largest=largest)
    expected = sorted(spectrum, reverse=largest)[:count]
    scale = max(map(abs, spectrum))
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-9 * scale)
    for value, vector, residual in zip(*found, strict=True):
        product = matrix_with(spectrum) @ vector[0]
        assert float((product - value * vector[0]).norm()) <= residual + 1e-12 * scale
        assert float(vector[0].norm()) == pytest.approx(1, abs=1e-12)


# torch.func.hessian loads decompositions that torch itself still scripts.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_network_against_the_dense_hessian(dtype: torch.dtype, count: int):
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv1d(1, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    ).to(dtype)
    for param in network.parameters():
        param.data = torch.randn(param.shape, generator=generator, dtype=dtype)
    inputs = torch.randn(20, 1, 6, generator=generator, dtype=dtype)
    labels = torch.randint(3, (20,), generator=generator)
    unused = torch.zeros((), dtype=dtype, requires_grad=True)

    def loss_of(values: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        outputs = functional_call(network, dict(values), (inputs,))
        return torch.nn.functional.cross_entropy(outputs, labels)

    params = dict(network.named_parameters())
    double = {name: param.detach().double() for name, param in params.items()}
    blocks = hessian(lambda values: loss_of(values, inputs.double()))(double)
    sizes = {name: param.numel() for name, param in params.items()}
    dense = torch.cat(
        [
            torch.cat([blocks[row][column].reshape(sizes[row], -1) for column in params], 1)
            for row in params
        ]
    )
    found = top_hessian_eigenvalues(
        lambda: loss_of(params, inputs), [unused, *params.values()], count
    )
    expected = torch.linalg.eigvalsh(dense).flip(0)[:count].numpy()
    tolerance = 1e-8 if dtype is torch.float64 else 2e-6
    np.testing.assert_allclose(found.values, expected, rtol=tolerance)
    assert [part.shape for part in found.vectors[0]] == [
        (),
        *(param.shape for param in params.values()),
    ]
    assert all(part.dtype is dtype for part in found.vectors[0])


def test_a_restart_of_the_basis_changes_nothing():
    loss, params = quadratic(matrix_with(SPECTRA["close below"]))
    found = top_hessian_eigenvalues(loss, params, 3, basis_size=12, max_products=4000)
    np.testing.assert_allclose(found.values, [5.0, 4.999, 4.998], rtol=1e-10)


def test_a_loose_tolerance_costs_fewer_products_and_is_kept():
    matrix = matrix_with(SPECTRA["spread"])
    _, params = quadratic(matrix)

    def products(tolerance: float) -> int:
        differentiated = 0

        def count(grad: Tensor) -> None:
            nonlocal differentiated
            differentiated += 1

        def counting() -> Tensor:
            value = params[0] * 1
            value.register_hook(count)
            return value @ matrix @ value / 2

        found = top_hessian_eigenvalues(counting, params, tolerance=tolerance)
        assert found.residuals[0] <= tolerance * 59
        assert abs(found.values[0] - 59) <= found.residuals[0] + 1e-10
        return differentiated

    assert products(1e-2) < products(1e-10) <= 62


def test_a_linear_loss_has_no_curvature():
    param = torch.ones(3, requires_grad=True)
    assert top_hessian_eigenvalues(lambda: param.sum(), [param], 2).values.tolist() == [0.0, 0.0]


def test_a_loss_that_is_not_finite_gives_nan():
    param = torch.zeros(3, requires_grad=True)
    found = top_hessian_eigenvalues(lambda: param.sqrt().sum(), [param], 2)
    assert np.isnan(found.values).all()
    assert np.isnan(found.residuals).all()


def test_a_limit_that_is_reached_is_told():
    loss, params = quadratic(matrix_with(SPECTRA["close below"]))
    with pytest.warns(RuntimeWarning, match="4 products"):
        found = top_hessian_eigenvalues(loss, params, max_products=4)
    assert found.residuals[0] > 1e-3
    with pytest.warns(RuntimeWarning, match="4 products"):
        found = top_hessian_eigenvalues(loss, params, 6, max_products=4)
    assert np.isnan(found.values).tolist() == [False] * 4 + [True] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        top_hessian_eigenvalues(loss, params)


def test_mistakes_are_answered_at_the_entrance():
    param = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="no parameters"):
        top_hessian_eigenvalues(lambda: param.sum(), [])
    with pytest.raises(ValueError, match=r"parameter 1 .* needs no gradient"):
        top_hessian_eigenvalues(lambda: param.sum(), [param, torch.ones(2)])
    with pytest.raises(TypeError, match="complex64"):
        top_hessian_eigenvalues(lambda: param.sum(), [torch.ones(2, dtype=torch.complex64)])
    with pytest.raises(ValueError, match="one element"):
        top_hessian_eigenvalues(lambda: param, [param])
    with pytest.raises(ValueError, match="no graph"):
        top_hessian_eigenvalues(lambda: param.detach().sum(), [param])
    with pytest.raises(ValueError, match="1 to 2"):
        top_hessian_eigenvalues(lambda: param.sum(), [param], 3)
