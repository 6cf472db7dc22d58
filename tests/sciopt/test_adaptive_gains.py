"""Gains from noise, bias, agreement and overshooting, against filters and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciopt.rates.averages import filter_gain, harmonic_rate, newest_weight, next_spread
from sciopt.rates.effective_step import alpha_bound, unovershot
from sciopt.rates.hindsight import agreement, drift_share, shrunk
from sciopt.rates.meta_gradient import next_largest, next_update_sum, normalised_meta_step
from sciopt.rates.tracking_signal import (
    bias_adjusted_gain,
    share_memory,
    signal_share,
    tracking_signal,
)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_harmonic_rates_with_c_one_are_the_plain_mean():
    values = np.random.default_rng(0).normal(size=50)
    estimate = tensor(3.0)
    for n, value in enumerate(values, 1):
        estimate = estimate + harmonic_rate(tensor(n), 1.0) * (value - estimate)
    assert float(estimate) == pytest.approx(values.mean(), abs=1e-14)
    assert newest_weight(tensor(3, 10, 50), 0.05).tolist() == pytest.approx([1 / 3, 0.1, 0.05])


def test_without_drift_the_filters_gain_is_one_over_n():
    spread, gain = tensor(0.0), tensor(1.0)
    for n in range(1, 30):
        assert float(gain) == pytest.approx(1 / n, rel=1e-13)
        spread = next_spread(spread, gain)
        assert float(spread) == pytest.approx(1 / n, rel=1e-13)
        gain = filter_gain(spread, tensor(0.0))
    assert float(filter_gain(spread, tensor(1.0))) == 1.0


def test_the_drift_share_is_what_a_kalman_filter_of_a_random_walk_adds():
    # Measurement noise 1, drift variance q per step: the scalar Riccati recursion.
    q, variance = 0.3, 0.0
    for _ in range(20):
        spread, variance = tensor(variance), variance + q
        kalman = variance / (variance + 1)
        share = drift_share(tensor(kalman), spread / (1 + spread))
        gain = filter_gain(spread, share)
        assert float(gain) == pytest.approx(kalman, rel=1e-12)
        filtered = float(next_spread(tensor(variance), gain))
        variance = (1 - kalman) * variance
        assert filtered == pytest.approx(variance, rel=1e-12)


def test_mean_agreement_is_the_regression_of_hindsight_on_the_error():
    rng = np.random.default_rng(1)
    error = rng.normal(size=5000)
    hindsight = 0.4 * error + rng.normal(size=5000)
    slope = np.linalg.lstsq(error[:, None], hindsight, rcond=None)[0][0]
    square = torch.full((5000,), float((error**2).mean()), dtype=torch.float64)
    got = agreement(torch.tensor(error), torch.tensor(hindsight), square, 1e9).mean()
    assert float(got) == pytest.approx(slope, rel=1e-12)
    noise = agreement(torch.tensor(error), torch.tensor(rng.normal(size=5000)), square, 4.0).mean()
    assert abs(float(noise)) < 4 / 5000**0.5


def test_agreement_has_no_unit_is_cut_and_is_zero_without_errors():
    error, hindsight, square = tensor(2.0, -1.0, 0.0), tensor(3.0, 50.0, 0.0), tensor(4.0, 1.0, 0.0)
    plain = agreement(error, hindsight, square, 4.0)
    assert plain.tolist() == [1.5, -4.0, 0.0]
    assert torch.equal(agreement(8 * error, 8 * hindsight, 64 * square, 4.0), plain)
    assert float(shrunk(tensor(1.0), tensor(5.0), tensor(0.2), 15.0)) == pytest.approx(0.4)


def test_one_sign_is_all_signal_and_noise_tends_to_none():
    errors = np.random.default_rng(2).normal(size=100_000)
    mean, size, square = errors.mean(), abs(errors).mean(), (errors**2).mean()
    assert float(tracking_signal(tensor(mean), tensor(size))) < 0.02
    assert float(signal_share(tensor(mean), tensor(square))) < 1e-3
    assert float(tracking_signal(tensor(-2.0), tensor(2.0))) == 1.0
    assert float(signal_share(tensor(-2.0), tensor(4.0))) == 1.0
    assert float(tracking_signal(tensor(0.0), tensor(0.0))) == 0.0
    assert float(share_memory(tensor(7.0), tensor(1.0))) == 1.0
    assert float(share_memory(tensor(7.0), tensor(0.0))) == 8.0


def test_the_bias_adjusted_gain_minimises_the_expected_square():
    bias, noise, spread = 0.7, 1.3, 0.2
    gain = bias_adjusted_gain(tensor(bias), tensor(bias**2 + (1 + spread) * noise), tensor(spread))
    # (1 - K)^2 (spread noise + bias^2) + K^2 noise, by a fine grid.
    grid = np.linspace(0, 1, 100_001)
    expected = (1 - grid) ** 2 * (spread * noise + bias**2) + grid**2 * noise
    assert float(gain) == pytest.approx(grid[expected.argmin()], abs=2e-5)
    assert float(bias_adjusted_gain(tensor(2.0), tensor(4.0), tensor(0.5))) == 1.0
    unbiased = bias_adjusted_gain(tensor(0.0), tensor(1.0), tensor(0.25))
    assert float(unbiased) == pytest.approx(0.2)


@given(st.floats(-10, 10), st.floats(0, 10), st.floats(0.0, 50.0))
def test_an_update_takes_away_no_more_than_its_error(error, gain, effective):
    step = unovershot(tensor(error), tensor(gain * effective))
    after = error - float(step) * gain * effective
    assert abs(after) <= abs(error) * (1 + 1e-12)
    assert after * error >= -1e-12 * error**2


def test_the_alpha_bound_is_the_largest_rate_that_does_not_overshoot():
    rate = alpha_bound(tensor(1.0, 1.0, 1.0), tensor(4.0, 0.5, -2.0))
    assert rate.tolist() == [0.25, 1.0, 1.0]


def test_meta_steps_are_bounded_and_signed_by_the_correlation():
    rate = normalised_meta_step(tensor(0.1, 0.1, 0.1), tensor(5, -5, 0), tensor(5, 5, 0), 0.01)
    np.testing.assert_allclose(rate, 0.1 * np.exp([0.01, -0.01, 0.0]), rtol=1e-14)
    assert next_largest(tensor(2.0), tensor(-3.0), tensor(0.1)).tolist() == [3.0]
    assert next_largest(tensor(2.0), tensor(1.0), tensor(0.1)).tolist() == pytest.approx([1.9])
    # The sum is the derivative of the weight by its log-rate, for a constant rate (IDBD).
    h, w, alpha, step = 0.0, 0.0, 0.2, 1e-6
    for x, y in zip((1.0, 0.5, -1.0, 2.0), (1.0, -1.0, 0.3, 0.7), strict=True):
        error = y - w * x
        h = float(next_update_sum(tensor(h), tensor(alpha * error * x), tensor(alpha * x * x)))
        w += alpha * error * x
    shifted = 0.0
    for x, y in zip((1.0, 0.5, -1.0, 2.0), (1.0, -1.0, 0.3, 0.7), strict=True):
        shifted += alpha * np.exp(step) * (y - shifted * x) * x
    assert h == pytest.approx((shifted - w) / step, rel=1e-4)
