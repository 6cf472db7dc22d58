"""Hutchinson's estimator against exact traces."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sciopt.diagnostics import hessian_trace


def quadratic(matrix: Tensor):
    params = [torch.zeros(len(matrix), dtype=matrix.dtype, requires_grad=True)]
    return (lambda: params[0] @ matrix @ params[0] / 2), params


def test_a_diagonal_hessian_is_exact():
    loss, params = quadratic(torch.diag(torch.tensor([1.0, -4.0, 2.5, 1e3], dtype=torch.float64)))
    found = hessian_trace(loss, params, samples=2)
    assert found.trace == 999.5
    assert found.standard_error == 0.0


def test_estimate_and_error_follow_the_closed_form():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(30, 30, dtype=torch.float64, generator=generator)
    matrix = root + root.T
    off_diagonal = matrix - torch.diag(matrix.diagonal())
    loss, params = quadratic(matrix)
    samples = 4000
    found = hessian_trace(loss, params, samples, generator)
    error = float((2 * off_diagonal.square().sum() / samples).sqrt())
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert abs(found.trace - float(matrix.trace())) < 3.5 * error


def test_the_error_is_calibrated_over_generators():
    root = torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    loss, params = quadratic(root @ root.T)
    deviations = []
    for seed in range(200):
        found = hessian_trace(loss, params, 20, torch.Generator().manual_seed(seed))
        deviations.append((found.trace - float((root @ root.T).trace())) / found.standard_error)
    assert np.mean(deviations) == pytest.approx(0, abs=0.3)
    assert np.std(deviations) == pytest.approx(1, abs=0.2)


def test_one_sample_has_no_standard_error():
    loss, params = quadratic(torch.eye(2))
    with pytest.raises(ValueError, match="two samples"):
        hessian_trace(loss, params, 1)
