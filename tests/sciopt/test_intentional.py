import pytest
import torch

from sciopt.rates.intentional import (
    clipped_error,
    intended_fraction,
    intentional_rate,
    scaled_square,
)


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_without_memory_the_update_takes_its_fraction_of_the_error_away(shape):
    """Against autograd: of a linear value exactly, whatever the diagonal scale."""
    params, inputs = numbers(*shape, seed=1), numbers(*shape, seed=2)
    scale, target = numbers(*shape, seed=3).abs(), numbers(*shape[:-1], seed=4)

    def error(w):
        return target - (w * inputs).sum(-1)

    jacobian = torch.func.grad(lambda w: -error(w).sum())(params)
    square = scaled_square(jacobian, scale)
    rate = intentional_rate(torch.tensor(0.3, dtype=torch.float64), square, square)
    updated = params + (rate * error(params))[..., None] * jacobian / scale
    torch.testing.assert_close(error(updated), 0.7 * error(params), rtol=1e-12, atol=1e-14)


def test_a_gradient_of_zero_gives_a_finite_rate():
    zero = torch.zeros(())
    assert intentional_rate(torch.tensor(0.5), zero, zero).isfinite()


def test_errors_are_cut_at_a_multiple_of_their_root_mean_square():
    errors = torch.tensor([-100.0, -3.0, 0.0, 5.0, 7.0])
    cut = clipped_error(errors, torch.full((5,), 4.0), 3.0)
    assert cut.tolist() == [-6.0, -3.0, 0.0, 5.0, 6.0]


def test_the_fraction_grows_with_surprise_up_to_the_whole():
    surprise = torch.tensor([0.0, 0.5, 1.0, 2.0, 50.0])
    fraction = intended_fraction(torch.tensor(0.5), surprise)
    assert fraction.tolist() == [0.0, 0.25, 0.5, 1.0, 1.0]
