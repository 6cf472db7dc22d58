from itertools import pairwise

import pytest
import torch

from applications.td.networks import Networks
from applications.td.running_moments import Moments, discounted_return, normalised, scaled

SIZES = pytest.mark.parametrize("sizes", [(4, 32, 2), (3, 8, 5, 7, 4)])


def some(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def by_torch(sizes, params, observation):
    """The values of one network, put together from torch's own layers."""
    place, hidden = 0, observation
    for depth, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        weight = params[place : place + fan_in * fan_out].view(fan_out, fan_in)
        place += fan_in * fan_out
        hidden = torch.nn.functional.linear(hidden, weight, params[place : place + fan_out])
        place += fan_out
        if depth < len(sizes) - 2:
            hidden = torch.nn.functional.layer_norm(hidden, (fan_out,))
            hidden = torch.nn.functional.leaky_relu(hidden)
    assert place == len(params)
    return hidden


@SIZES
def test_values_and_gradients_are_torchs(sizes):
    networks = Networks(sizes)
    params, observations = some((6, networks.params), seed=1), some((6, sizes[0]), seed=2)
    actions = torch.arange(6) % sizes[-1]
    values, tape = networks.values(params, observations)
    found = networks.gradient(params, tape, actions)
    for k, action in enumerate(actions):
        expected = by_torch(sizes, params[k], observations[k])
        torch.testing.assert_close(values[k], expected, rtol=1e-12, atol=1e-12)
        gradient = torch.func.grad(lambda p, k=k, a=action: by_torch(sizes, p, observations[k])[a])
        torch.testing.assert_close(found[k], gradient(params[k]), rtol=1e-12, atol=1e-12)


@SIZES
def test_first_networks_are_sparse_within_their_bounds_and_without_biases(sizes):
    networks = Networks(sizes)
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(2, 50, networks.weights, dtype=torch.float64, generator=generator)
    params = networks.initial(uniform, sparsity=0.9)
    for weight, bias in networks.layers(params):
        fan_in = weight.shape[2]
        assert not bias.any()
        assert weight.abs().max() <= fan_in**-0.5
        # Of 32 inputs 3 stay, of few inputs the two that every neuron keeps.
        assert ((weight != 0).sum(2) == (3 if fan_in == 32 else 2)).all()
        assert (weight != 0).any(0).any(0).all()
        assert weight[weight != 0].std() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.1)


def test_moments_are_those_of_all_samples():
    samples = 3 + some((40, 2, 5)) * torch.arange(1, 6)
    moments = Moments.before(samples[0])
    for count, sample in enumerate(samples, 1):
        moments = moments.with_sample(sample, count)
        if count > 1:
            seen = samples[:count]
            torch.testing.assert_close(moments.mean, seen.mean(0), rtol=1e-12, atol=1e-12)
            expected = (seen.var(0) + 1e-8 * seen.mean(0) ** 2).sqrt()
            torch.testing.assert_close(moments.deviation(count), expected, rtol=1e-12, atol=0)
    expected = (samples[7] - samples.mean(0)) / samples.std(0)
    torch.testing.assert_close(normalised(samples[7], moments, 40), expected, rtol=1e-6, atol=1e-8)


def test_before_two_samples_observations_are_as_they_are_and_rewards_say_nothing():
    one = torch.full((3,), 5.0)
    moments = Moments.before(one).with_sample(one, 1)
    assert torch.equal(normalised(one, moments, 1), one)
    assert not scaled(one, moments, 1).any()


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaled_samples_give_the_same_numbers(factor):
    plain, larger = Moments.before(some(3)), Moments.before(some(3))
    for count, sample in enumerate(some((20, 3)), 1):
        plain = plain.with_sample(sample, count)
        larger = larger.with_sample(factor * sample, count)
        found = scaled(factor * sample, larger, count)
        torch.testing.assert_close(found, scaled(sample, plain, count), rtol=1e-11, atol=0)


def test_what_never_changes_is_nothing():
    moments, constant = Moments.before(torch.zeros(2).double()), torch.tensor([0.0, 0.1]).double()
    for count in range(1, 50):
        moments = moments.with_sample(constant, count)
    assert normalised(constant, moments, 49).abs().max() < 1e-9


def test_the_discounted_return_is_the_sum_of_past_rewards():
    rewards = some((20,))
    total = torch.zeros((), dtype=torch.float64)
    for reward in rewards:
        total = discounted_return(total, reward, 0.9)
    expected = (0.9 ** torch.arange(19, -1, -1) * rewards).sum()
    torch.testing.assert_close(total, expected)
