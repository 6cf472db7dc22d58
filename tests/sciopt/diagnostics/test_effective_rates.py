"""Step sizes against what the optimizer did, and correlations against SciPy's."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

import sciopt
from sciopt.diagnostics import effective_rates
from sciopt.diagnostics.effective_rates import correlation, step_sizes


def params_with(values: list[list[float]], grads: list[list[float]]) -> list[Tensor]:
    params = [torch.tensor(value, dtype=torch.float64) for value in values]
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.tensor(grad, dtype=torch.float64)
    return params


@pytest.mark.parametrize(
    "make",
    [
        lambda p: sciopt.SGD(p, lr=0.3),
        lambda p: sciopt.RMSProp(p, lr=0.3),
        lambda p: sciopt.AdaGrad(p, lr=0.3, lr_decay=0.5),
        lambda p: sciopt.Adam(p, lr=torch.tensor(0.3), betas=(0.0, 0.9)),
        lambda p: sciopt.NormalizedSGD(p, lr=0.3),
    ],
)
def test_a_step_is_the_step_size_times_the_gradient(make):
    params = params_with([[1.0, 2.0], [3.0]], [[0.1, -4.0], [7.0]])
    optimizer = make([{"params": params[:1]}, {"params": params[1:], "lr": 0.1}])
    optimizer.step()
    before = [param.clone() for param in params]
    optimizer.step()
    sizes = step_sizes(optimizer)
    for param, old in zip(params, before, strict=True):
        assert sizes[param].shape == param.shape
        assert param.grad is not None
        torch.testing.assert_close(old - param, sizes[param] * param.grad, rtol=1e-12, atol=0)


def test_quantiles_and_correlations():
    generator = np.random.default_rng(0)
    values, grads = generator.standard_normal((2, 500))
    values[:7] = 0.0
    params = params_with([values.tolist(), [5.0, 1.0]], [grads.tolist(), [2.0, -8.0]])
    optimizer = sciopt.AdaGrad(params, lr=0.5, eps=0.0)
    optimizer.step()
    found = effective_rates(optimizer)

    size, magnitude = 0.5 / np.abs(grads), params[0].abs().numpy()
    of_first = found.by_parameter[params[0]]
    assert list(of_first.quantiles.values()) == pytest.approx(
        np.quantile(size, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), rel=1e-12
    )
    assert of_first.spearman == pytest.approx(scipy.stats.spearmanr(size, magnitude)[0], abs=1e-12)
    positive = magnitude > 0
    logs = np.log(size[positive]), np.log(magnitude[positive])
    assert of_first.pearson_of_logs == pytest.approx(scipy.stats.pearsonr(*logs)[0], abs=1e-12)
    assert found.by_parameter[params[1]].spearman == pytest.approx(1.0)
    together = np.append(size, [0.25, 0.0625]), np.append(magnitude, params[1].abs())
    assert found.model.spearman == pytest.approx(scipy.stats.spearmanr(*together)[0], abs=1e-12)


def test_equal_rates_correlate_with_nothing():
    params = params_with([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]])
    optimizer = sciopt.SGD(params, lr=0.1)
    optimizer.step()
    found = effective_rates(optimizer).model
    assert set(found.quantiles.values()) == {0.1}
    assert math.isnan(found.spearman)
    assert math.isnan(found.pearson_of_logs)
    assert math.isnan(correlation(np.full(9, 0.1), np.arange(9.0)))


def test_parameters_without_a_gradient_are_left_out():
    params = params_with([[1.0], [1.0]], [[1.0], [1.0]])
    params[1].grad = None
    optimizer = sciopt.Adam(params)
    optimizer.step()
    assert [*effective_rates(optimizer).by_parameter] == params[:1]
