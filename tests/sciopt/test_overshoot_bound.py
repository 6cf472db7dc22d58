import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciopt.rates.overshoot_bound import obgd_rate, overshoot_bound

rates = st.floats(0, 1e6)
traces = st.lists(st.floats(0, 10), min_size=4, max_size=4)


@settings(max_examples=300, deadline=None)
@given(rate=rates, trace=traces, discount=st.floats(0, 1), td_error=st.floats(-1e3, 1e3))
def test_a_bounded_update_never_makes_its_own_error_larger(rate, trace, discount, td_error):
    z = torch.tensor(trace, dtype=torch.float64)
    values = torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=torch.float64)
    reward = td_error + float(values[0] - discount * values[1])
    bounded = overshoot_bound(torch.tensor(rate, dtype=torch.float64), z)
    updated = values + bounded * td_error * z
    after = float(reward + discount * updated[1] - updated[0])
    slack = 1e-11 * (abs(reward) + 10)
    assert float((updated - values).abs().sum()) <= abs(td_error) + slack
    if z[0] >= discount * z[1]:
        assert abs(after) <= abs(td_error) + slack
        assert after * td_error >= -slack * abs(td_error)
    else:
        assert abs(after) <= 2 * abs(td_error) + slack


def test_small_rates_pass_and_large_ones_reach_the_target_exactly():
    trace = torch.tensor([[0.0, 1.0, 0.0], [0.5, 1.0, 0.5]], dtype=torch.float64)
    small = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert torch.equal(overshoot_bound(small, trace), small)
    large = torch.tensor([7.0, 7.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert torch.equal(overshoot_bound(large, trace), expected)


def double(number):
    return torch.tensor(number, dtype=torch.float64)


@settings(max_examples=300, deadline=None)
@given(
    rate=rates,
    trace=traces,
    kappa=st.floats(0.1, 10),
    td_error=st.floats(-1e3, 1e3),
    sign=st.booleans(),
)
def test_obgd_moves_all_parameters_together_by_its_bound_at_most(
    rate, trace, kappa, td_error, sign
):
    z = torch.tensor(trace, dtype=torch.float64) * (-1 if sign else 1)
    bounded = obgd_rate(double(rate), z, double(td_error), kappa)
    moved = float((bounded * td_error * z).abs().sum())
    plain = abs(rate * td_error) * float(z.abs().sum())
    limit = min(abs(td_error), 1.0) / kappa
    assert abs(moved - min(plain, limit)) <= 1e-12 * (1 + limit)


@settings(max_examples=300, deadline=None)
@given(rate=rates, trace=traces, kappa=st.floats(0.1, 10))
def test_kappa_tightens_the_bound(rate, trace, kappa):
    z = torch.tensor(trace, dtype=torch.float64)
    moved = float((overshoot_bound(double(rate), z, kappa) * z).sum())
    assert moved == pytest.approx(min(rate * sum(trace), 1 / kappa), rel=1e-12, abs=1e-300)


def test_obgd_is_the_published_rate():
    """Elsayed et al. (2024), by hand: M = rate * kappa * max(|d|, 1) * |z|."""
    trace = torch.tensor([[1.0, -2.0], [0.1, 0.1]], dtype=torch.float64)
    td_error = torch.tensor([-4.0, 0.5], dtype=torch.float64)
    found = obgd_rate(torch.ones(2, dtype=torch.float64), trace, td_error, 2.0)
    assert found.tolist() == [1 / 24, 1.0]
