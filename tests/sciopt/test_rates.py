"""Rates beside the formulas of their papers, and weights beside what they are to give."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sciopt import Composed
from sciopt.directions import EligibilityTrace, ExponentialAverage, Gradient, Momentum
from sciopt.rates import (
    Confidence,
    InverseSpectralNorm,
    Published,
    Saturation,
    SecondMoment,
    TrustRatio,
    confidence_weights,
    inverse_variance_weights,
    surprise,
)
from sciopt.rates.overshoot_bound import overshoot_bound

SHAPES = [(4, 3), (3,), (), (2, 3, 2)]


def numbers(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lars_is_the_formula_of_its_paper(weight_decay: float) -> None:
    lr, momentum, trust, eps = 0.5, 0.9, 0.02, 0.01
    start, series = numbers(0), [numbers(seed) for seed in range(1, 16)]
    params = [param.clone() for param in start]
    optimizer = Composed(
        params,
        Momentum(momentum, after_rates=True),
        [TrustRatio(trust, eps)],
        lr=lr,
        weight_decay=weight_decay,
    )
    for grads in series:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
    for index, param in enumerate(params):
        w, v = start[index].numpy(), np.zeros(SHAPES[index])
        for grads in series:
            g = grads[index].numpy()
            length, slope = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(g**2))
            local = trust * length / (slope + weight_decay * length + eps)
            v = momentum * v + lr * local * (g + weight_decay * w)
            w = w - v
        np.testing.assert_allclose(param.numpy(), w, rtol=1e-12)


def test_trust_is_one_where_the_layer_or_its_gradient_is_zero() -> None:
    params = [torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)]
    params[0].grad, params[1].grad = torch.ones_like(params[0]), torch.zeros_like(params[1])
    Composed(params, Gradient(), [TrustRatio()], lr=0.25, weight_decay=0.5).step()
    assert params[0].tolist() == [-0.25] * 3
    assert params[1].tolist() == [1 - 0.25 * 0.5] * 3


def travel(optimizer: Composed, param: Tensor, confidences: Sequence[float]) -> list[float]:
    """Steps of a scalar whose gradients are 1, 2, 3, ..., downhill positive."""
    steps = []
    for grad, confidence in enumerate(confidences, 1):
        before = param.item()
        param.grad = torch.full_like(param, grad)
        optimizer.publish("confidence", torch.tensor(confidence, dtype=torch.float64))
        optimizer.step()
        steps.append(before - param.item())
    return steps


@pytest.mark.parametrize(
    ("apply", "expected"),
    [
        # Rates 1/4, 1/4, 1 on the buffers 1, 1/2 + 2, 5/4 + 3; or on the gradients 1, 2, 3.
        ("update", [1 / 4, 2.5 / 4, 4.25]),
        ("loss", [1 / 4, 1 / 8 + 2 / 4, 5 / 16 + 3]),
    ],
)
def test_momentum_remembers_the_confidence_only_in_the_loss(
    apply: str, expected: list[float]
) -> None:
    param = torch.zeros((), dtype=torch.float64)
    optimizer = Composed([param], Momentum(0.5), [Confidence(2.0, apply)], lr=1.0)
    assert travel(optimizer, param, [0.5, 0.5, 1.0]) == pytest.approx(expected, rel=1e-15)


def test_adam_cancels_a_constant_confidence_in_the_loss_but_not_in_the_update() -> None:
    steps = {}
    for apply, confidence in [("update", 1.0), ("update", 0.1), ("loss", 0.1)]:
        param = torch.zeros((), dtype=torch.float64)
        rates = [Confidence(apply=apply), SecondMoment(eps=0.0)]
        optimizer = Composed([param], ExponentialAverage(), rates, lr=1.0)
        steps[apply, confidence] = np.array(travel(optimizer, param, [confidence] * 9))
    whole = steps["update", 1.0]
    np.testing.assert_allclose(steps["loss", 0.1], whole, rtol=1e-13)
    np.testing.assert_allclose(steps["update", 0.1], 0.1 * whole, rtol=1e-13)


@pytest.mark.parametrize("power", [0.1, 0.7, 1.0])
def test_weighted_cross_entropy_has_the_gradient_of_generalised_cross_entropy(power) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(50, 7, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    labels = torch.randint(7, (50,), generator=generator)

    log_probability = logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
    weights = confidence_weights(log_probability.exp(), power)
    (weighted,) = torch.autograd.grad(-(weights * log_probability).sum(), logits)

    probability = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    (generalised,) = torch.autograd.grad(((1 - probability**power) / power).sum(), logits)
    error = (weighted - generalised).abs().max() / generalised.abs().max()
    assert error.item() < 1e-15


def test_inverse_variances_weigh_the_least_noisy_mean() -> None:
    variance = torch.tensor([[1.0, 4.0, 9.0], [1e-300, 4e-300, 9e-300]], dtype=torch.float64)
    weights = inverse_variance_weights(variance)
    torch.testing.assert_close(weights, torch.tensor([[36.0, 9.0, 4.0]] * 2).double() / 49)
    of_mean = (weights[0].square() * variance[0]).sum()
    assert of_mean.item() == pytest.approx(36 / 49, rel=1e-15)
    assert round(36 / 49, 4) == 0.7347
    assert ((variance[0] / 9).sum()).item() == pytest.approx(1.5556, abs=5e-5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = torch.rand(3, generator=generator, dtype=torch.float64)
        assert ((other / other.sum()).square() * variance[0]).sum() > of_mean


def test_a_bounded_surprise_is_published_as_the_rate_of_a_transition() -> None:
    """TD(0) with the rate |td_error| / sigma under the overshoot bound, on one-hot features."""
    generator = np.random.default_rng(0)
    values, mean_square, expected = np.zeros(5), 0.0, []
    weight = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = Composed([weight], EligibilityTrace(0.0), [Published("surprise")], lr=1.0)
    for count in range(1, 40):
        state, reward = int(generator.integers(5)), float(generator.normal())
        optimizer.zero_grad()
        weight[state].backward()
        td_error = torch.tensor(reward, dtype=torch.float64) - weight[state].detach()
        square = surprise.mean_square(
            torch.tensor(mean_square, dtype=torch.float64), td_error, torch.tensor(count), 0.1
        )
        relative = surprise.relative_surprise(td_error, square)
        assert weight.grad is not None
        optimizer.publish("surprise", overshoot_bound(relative, weight.grad))
        optimizer.publish("td_error", td_error)
        optimizer.publish("discount", 0.0)
        optimizer.step()

        error = reward - values[state]
        mean_square += max(1 / count, 0.1) * (error**2 - mean_square)
        values[state] += min(1.0, abs(error) / mean_square**0.5) * error
        expected.append(values.copy())
        assert optimizer.last_rates()["surprise"][weight].item() <= 1.0
        np.testing.assert_allclose(weight.detach(), expected[-1], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrustRatio(-1.0), "trust_coefficient must be finite and at least 0"),
        (lambda: Confidence(apply="gradient"), '"update" or "loss", got \'gradient\''),
        (lambda: Published("noise", apply="step"), '"update" or "loss", got \'step\''),
        (lambda: Saturation(-1.0, 0.0), "floor > 0 if it is negative"),
        (lambda: Saturation(float("nan")), "power must be finite"),
        (lambda: InverseSpectralNorm("all"), '"own" or "others", got \'all\''),
        (lambda: InverseSpectralNorm(floor=0.0), "floor must be positive"),
        (lambda: InverseSpectralNorm(iterations=0), "iterations must be finite and at least 1"),
        (lambda: confidence_weights(torch.ones(2), -1.0), "power must be finite and at least 0"),
        (lambda: inverse_variance_weights(torch.tensor([1.0, 0.0])), r"got \[1.0, 0.0\]"),
        (lambda: inverse_variance_weights(torch.tensor([float("nan")])), r"got \[nan\]"),
    ],
)
def test_what_has_no_meaning_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
