import math

import pytest
import torch

from sciopt.rates.surprise import mean_square, relative_surprise, surprise_rate


@pytest.mark.parametrize("coefficient", [0.25, 0.5, 2.0])
def test_surprise_overshoots_and_grows_exactly_above_two_over_the_coefficient(coefficient):
    factors = torch.tensor([0.01, 0.5, 0.999, 1.001, 1.5, 10.0], dtype=torch.float64)
    td_error = torch.cat([factors, -factors]) * 2 / coefficient
    target = torch.full_like(td_error, 3.0)
    value = target - td_error
    value = value + surprise_rate(td_error, torch.tensor(coefficient).double()) * td_error
    grew = (target - value).abs() > td_error.abs()
    assert torch.equal(grew, td_error.abs() > 2 / coefficient)


def test_mean_square_is_the_plain_mean_and_then_forgets_exponentially():
    errors = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    memory, average = 0.1, torch.zeros(3, dtype=torch.float64)
    averages = []
    for count, error in enumerate(errors, 1):
        average = mean_square(average, error, torch.full((3,), count), memory)
        averages.append(average)
    torch.testing.assert_close(averages[9], errors[:10].square().mean(0), rtol=1e-14, atol=0)
    decay = (1 - memory) ** torch.arange(39, -1, -1, dtype=torch.float64)
    forgotten = 0.9**40 * averages[9] + memory * (decay[:, None] * errors[10:].square()).sum(0)
    torch.testing.assert_close(averages[-1], forgotten, rtol=1e-13, atol=0)


def test_relative_surprise_is_bounded_by_its_memory_and_has_no_unit():
    memory = 0.04
    errors = torch.zeros(2000, dtype=torch.float64)
    errors[-1] = 1e9
    for scale in (1.0, 1e-6):
        average = torch.tensor(0.0, dtype=torch.float64)
        for count, error in enumerate(errors * scale, 1):
            average = mean_square(average, error, torch.tensor(count), memory)
        surprise = relative_surprise(errors[-1] * scale, average)
        assert float(surprise) == pytest.approx(1 / math.sqrt(memory), rel=1e-12)


def test_nothing_surprises_where_every_error_was_zero():
    assert float(relative_surprise(torch.tensor(0.0), torch.tensor(0.0))) == 0.0
