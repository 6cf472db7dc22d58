import dataclasses
import math

import pytest
import torch

from applications.td.network_rules import (
    Adam,
    Fixed,
    Intentional,
    IntentionalSurprise,
    NaiveSurprise,
    NetworkRule,
    ObGD,
    RelativeSurprise,
)

RULES = [
    Fixed(),
    NaiveSurprise(),
    Adam(),
    ObGD(),
    RelativeSurprise(),
    Intentional(),
    IntentionalSurprise(),
]
SCALE_FREE = [Fixed(), RelativeSurprise(), Intentional(), IntentionalSurprise()]
BOUNDED = [ObGD(), RelativeSurprise(), Intentional(), IntentionalSurprise()]
STEPS, DISCOUNT, LAMBDA = 60, 0.99, 0.8


def by_name(rules):
    return pytest.mark.parametrize("rule", rules, ids=lambda rule: type(rule).__name__)


def a_stream(batch=(), params=7, seed=0):
    """Gradients, TD errors and trace decays, some of them cuts, in float64."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(STEPS, *batch, params, dtype=torch.float64, generator=generator)
    errors = torch.randn(STEPS, *batch, dtype=torch.float64, generator=generator) ** 3
    cuts = torch.rand(STEPS, *batch, generator=generator) < 0.1
    return gradients, errors, DISCOUNT * LAMBDA * (~cuts).double()


def follow(rule: NetworkRule, gradients, errors, decays):
    """All increments and rates."""
    memory = rule.memory(torch.zeros_like(gradients[0]))
    steps = [rule.step(memory, *each) for each in zip(gradients, errors, decays, strict=True)]
    increments, rates = zip(*steps, strict=True)
    return torch.stack(increments), torch.stack(rates)


@by_name(SCALE_FREE)
def test_scaled_td_errors_scale_the_increments_and_leave_the_rates(rule):
    gradients, errors, decays = a_stream()
    increments, rates = follow(rule, gradients, errors, decays)
    for scale in (1e-6, 1e6):
        scaled, same = follow(rule, gradients, scale * errors, decays)
        torch.testing.assert_close(scaled, scale * increments, rtol=1e-11, atol=0)
        torch.testing.assert_close(same, rates, rtol=1e-11, atol=0)


@by_name(RULES)
def test_networks_in_a_batch_do_what_each_does_alone(rule):
    gradients, errors, decays = a_stream(batch=(2, 3))
    together, rates = follow(rule, gradients, errors, decays)
    assert together.any()
    for i in range(2):
        for j in range(3):
            alone, rate = follow(rule, gradients[:, i, j], errors[:, i, j], decays[:, i, j])
            torch.testing.assert_close(together[:, i, j], alone, rtol=1e-12, atol=0)
            torch.testing.assert_close(rates[:, i, j], rate, rtol=1e-12, atol=0)


@by_name(RULES)
def test_a_coefficient_written_into_the_memory_is_that_of_the_rule(rule):
    gradients, errors, decays = a_stream()
    other = dataclasses.replace(rule, coefficient=0.07)
    expected, _ = follow(other, gradients, errors, decays)
    memory = rule.memory(gradients[0])
    memory["coefficient"].fill_(0.07)
    for step, each in enumerate(zip(gradients, errors, decays, strict=True)):
        assert torch.equal(rule.step(memory, *each)[0], expected[step])


@by_name(RULES)
def test_the_memory_is_all_that_is_needed_to_go_on(rule):
    gradients, errors, decays = a_stream()
    expected, _ = follow(rule, gradients, errors, decays)
    memory = rule.memory(gradients[0])
    for step, each in enumerate(zip(gradients, errors, decays, strict=True)):
        memory = {name: value.clone() for name, value in memory.items()}
        assert torch.equal(rule.step(memory, *each)[0], expected[step])


@by_name([Fixed(coefficient=1.0)])
def test_the_trace_sums_decayed_gradients_since_the_last_cut(rule):
    gradients, errors, decays = a_stream()
    increments, _ = follow(rule, gradients, errors, decays)
    for step in range(STEPS):
        cuts = torch.nonzero(decays[: step + 1] == 0).flatten()
        begin = int(cuts[-1]) if len(cuts) else 0
        ages = torch.arange(step - begin, -1, -1, dtype=torch.float64)
        weights = (DISCOUNT * LAMBDA) ** ages
        trace = (weights[:, None] * gradients[begin : step + 1]).sum(0)
        torch.testing.assert_close(increments[step], errors[step] * trace, rtol=1e-11, atol=1e-13)


def test_adam_is_that_of_torch():
    gradients, errors, decays = a_stream()
    increments, _ = follow(Adam(coefficient=0.01, betas=(0.8, 0.95)), gradients, errors, decays)
    traces, _ = follow(Fixed(coefficient=1.0), gradients, errors, decays)
    param = torch.nn.Parameter(torch.zeros(7, dtype=torch.float64))
    optimizer = torch.optim.Adam([param], lr=0.01, betas=(0.8, 0.95))
    total = torch.zeros_like(param)
    for trace, increment in zip(traces, increments, strict=True):
        param.grad = -trace
        optimizer.step()
        total += increment
        torch.testing.assert_close(total, param.detach(), rtol=1e-12, atol=1e-15)


def test_obgd_moves_all_parameters_together_by_its_bound_at_most():
    gradients, errors, decays = a_stream()
    increments, rates = follow(ObGD(coefficient=1.0, kappa=2.0), gradients, errors, decays)
    moved = increments.abs().sum(-1)
    assert (moved <= errors.abs().clamp(max=1.0) / 2 + 1e-12).all()
    bound = rates < 1
    # Where it binds, it is met.
    torch.testing.assert_close(moved[bound], errors[bound].abs().clamp(max=1) / 2)


def test_relative_surprise_moves_all_parameters_together_by_its_bound_at_most():
    gradients, errors, decays = a_stream()
    rule = RelativeSurprise(coefficient=0.5, kappa=2.0, most=3.0, forgetting=1e-3)
    increments, _ = follow(rule, gradients, errors, decays)
    usual = (errors.square().cumsum(0) / torch.arange(1, STEPS + 1)).sqrt()
    share = (0.5 * errors.abs() / usual).clamp(max=1.0)
    cut = errors.abs().minimum(3 * usual)
    assert (share == 1).any() and (share < 0.5).any() and (cut < errors.abs()).any()
    # The trace is long enough for the bound to bind at every step.
    torch.testing.assert_close(increments.abs().sum(-1), share * cut / 2, rtol=1e-12, atol=0)


def test_intentional_takes_its_fraction_of_the_error_away():
    """Without memory of gradients: of a linear value the TD error is reduced exactly by it."""
    gradients, errors, _ = a_stream()
    decays = torch.zeros(STEPS, dtype=torch.float64)
    increments, _ = follow(Intentional(coefficient=0.3), gradients, errors, decays)
    change = (increments * gradients).sum(-1)
    torch.testing.assert_close(change, 0.3 * errors, rtol=1e-12, atol=0)


def test_intentional_surprise_takes_big_errors_away_whole_and_never_more():
    gradients, errors, _ = a_stream()
    decays = torch.zeros(STEPS, dtype=torch.float64)
    rule = IntentionalSurprise(coefficient=0.3, forgetting=1e-3)
    increments, _ = follow(rule, gradients, errors, decays)
    change = (increments * gradients).sum(-1)
    usual = (errors.square().cumsum(0) / torch.arange(1, STEPS + 1)).sqrt()
    fraction = 0.3 * errors.abs() / usual
    assert (fraction > 1).any() and (fraction < 0.3).any()
    torch.testing.assert_close(change, fraction.clamp(max=1) * errors, rtol=1e-12, atol=0)


def test_intentional_is_the_published_algorithm():
    """Algorithm of arXiv 2604.19033 in plain numbers, for a trace that is never cut.

    Its average of squared TD errors begins at 1, which has a unit; here it is the plain mean at
    first. Neither cuts anything in so few steps.
    """
    gradients, errors, decays = a_stream(params=3)
    decay, eta, decays = DISCOUNT * LAMBDA, 0.5, torch.full_like(decays, DISCOUNT * LAMBDA)
    increments, _ = follow(Intentional(coefficient=eta), gradients, errors, decays)
    v, z, sigma = [0.0] * 3, [0.0] * 3, 0.0
    for t, (gradient, error) in enumerate(zip(gradients.tolist(), errors.tolist(), strict=True), 1):
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradient, strict=True)]
        v_hat = [math.sqrt(a / (1 - 0.999**t)) + 1e-8 for a in v]
        z = [decay * a + g for a, g in zip(z, gradient, strict=True)]
        sigma += (1 - decay) * (
            sum(g * g / s for g, s in zip(gradient, v_hat, strict=True)) - sigma
        )
        z_square = sum(a * a / s for a, s in zip(z, v_hat, strict=True))
        step_size = eta / math.sqrt(sigma / (1 - decay**t) * z_square)
        expected = [step_size * error * a / s for a, s in zip(z, v_hat, strict=True)]
        assert increments[t - 1].tolist() == pytest.approx(expected, rel=1e-10)


def test_a_coefficient_that_is_no_step_size_is_refused():
    with pytest.raises(ValueError, match="coefficient = -1; use a finite number > 0"):
        ObGD(coefficient=-1)
