"""The noise scale against a known covariance and the formulas of its source."""

import numpy as np
import pytest
import torch

from sciopt.diagnostics import gradient_noise_scale


def noisy_linear_loss(deviations: list[float], mean: list[float], samples: int, seed: int):
    """A loss whose gradient for sample k is row k: mean + deviations * standard normal."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, len(mean), dtype=torch.float64, generator=generator)
    rows = torch.tensor(mean) + noise * torch.tensor(deviations)
    halves = [torch.zeros(1, requires_grad=True, dtype=torch.float64),
              torch.zeros(len(mean) - 1, requires_grad=True, dtype=torch.float64)]  # fmt: skip
    return (lambda batch: (batch @ torch.cat(halves)).mean()), halves, rows


@pytest.mark.parametrize("batch_size", [1, 8])
def test_known_covariance(batch_size: int):
    loss, params, rows = noisy_linear_loss([1.0, 2.0, 0.5], [0.5, -1.0, 0.2], 10_000, 0)
    found = gradient_noise_scale(loss, params, rows.split(batch_size), batch_size)
    assert found.covariance_trace == pytest.approx(5.25, rel=0.1)
    assert found.squared_norm == pytest.approx(1.29, rel=0.1)
    assert found.scale == found.covariance_trace / found.squared_norm


@pytest.mark.parametrize("batch_size", [1, 3])
def test_both_parts_are_unbiased(batch_size: int):
    parts = []
    for seed in range(500):
        loss, params, rows = noisy_linear_loss([1.0, 2.0], [0.5, -1.0], 4 * batch_size, seed)
        parts.append(gradient_noise_scale(loss, params, rows.split(batch_size), batch_size)[1:])
    errors = np.std(parts, axis=0) / len(parts) ** 0.5
    assert (np.abs(np.mean(parts, axis=0) - [5.0, 1.25]) < 3.5 * errors).all()


def test_equals_the_formulas_of_the_source():
    small, many = 4, 6
    big = small * many
    loss, params, rows = noisy_linear_loss([3.0, 2.0, 1.0], [1.0, 1.0, 1.0], big, 2)
    found = gradient_noise_scale(loss, params, rows.split(small), small)
    norm_small = rows.view(many, small, 3).mean(1).square().sum(1).mean().item()
    norm_big = rows.mean(0).square().sum().item()
    squared_norm = (big * norm_big - small * norm_small) / (big - small)
    covariance_trace = (norm_small - norm_big) / (1 / small - 1 / big)
    assert found.squared_norm == pytest.approx(squared_norm, rel=1e-12)
    assert found.covariance_trace == pytest.approx(covariance_trace, rel=1e-12)


def test_a_small_noise_on_a_large_gradient_is_not_cancelled():
    loss, params, rows = noisy_linear_loss([1e-6, 1e-6], [1e6, 1e6], 1000, 3)
    found = gradient_noise_scale(loss, params, rows.split(1), 1)
    assert found.covariance_trace == pytest.approx(2e-12, rel=0.1)


def test_noise_that_drowns_the_gradient_has_an_infinite_scale():
    param = torch.zeros((), requires_grad=True)
    found = gradient_noise_scale(lambda sign: sign * param, [param], [1.0, -1.0], 1)
    assert found == (float("inf"), 2.0, -1.0)


def test_mistakes_are_answered_at_the_entrance():
    param = torch.zeros((), requires_grad=True)
    with pytest.raises(ValueError, match="1 batches of 5"):
        gradient_noise_scale(lambda sign: sign * param, [param], [1.0], 5)
