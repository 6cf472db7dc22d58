"""Rates by the slope of a unit's activation, and what the probe publishes."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sciopt import Composed
from sciopt.directions import Gradient
from sciopt.rates import Saturation, probe_saturation


def descent(network: nn.Module, rate: Saturation | None = None) -> Composed:
    rate = rate or Saturation()
    return Composed(network.parameters(), Gradient(), [rate], lr=0.5, engine="eager")


def steps(network: nn.Module, optimizer: Composed, loss: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each parameter's gradient and its step, lr taken out, downhill positive."""
    start = [param.detach().clone() for param in network.parameters()]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    moved = [
        (old - param.detach()) / 0.5 for param, old in zip(network.parameters(), start, strict=True)
    ]
    grads = [param.grad for param in network.parameters() if param.grad is not None]
    return list(zip(grads, moved, strict=True))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("power", "floor"), [(1.0, 0.0), (1.0, 0.4), (-1.0, 0.4), (0.5, 0.01)])
def test_each_row_moves_by_the_slope_of_its_unit(power: float, floor: float) -> None:
    first = nn.Linear(3, 5)
    network = nn.Sequential(first, nn.Tanh(), nn.Linear(5, 2)).double()
    for param, seed in zip(network.parameters(), range(4), strict=True):
        param.data = 2 * seeded(*param.shape, seed=seed)
    optimizer = descent(network, Saturation(power, floor))
    probe_saturation(network, optimizer)
    inputs = seeded(40, 3, seed=5)

    before = (inputs @ first.weight.T + first.bias).detach().requires_grad_()
    (derivative,) = torch.autograd.grad(before.tanh().sum(), before)
    slope = derivative.mean(0)
    assert (slope < 0.4).any()
    assert (slope > 0.4).any()
    rate = slope.clamp(min=floor) ** power

    (weight, bias, *last) = steps(network, optimizer, network(inputs).square().mean())
    torch.testing.assert_close(weight[1], rate[:, None] * weight[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(bias[1], rate * bias[0], rtol=1e-12, atol=1e-14)
    for grad, moved in last:
        torch.testing.assert_close(moved, grad, rtol=1e-12, atol=1e-14)


def slopes(optimizer: Composed, layer: nn.Module) -> list[Tensor]:
    return [optimizer.state[param]["slope"] for param in layer.parameters()]


@pytest.mark.parametrize("inplace", [False, True])
def test_channels_are_units_and_positions_are_averaged(inplace: bool) -> None:
    first = nn.Conv2d(2, 3, 2)
    network = nn.Sequential(first, nn.ReLU(inplace), nn.Conv2d(3, 1, 1)).double()
    optimizer = descent(network)
    probe_saturation(network, optimizer)
    images = seeded(4, 2, 5, 6)
    active = (nn.functional.conv2d(images, first.weight, first.bias) > 0).double()
    network(images)
    weight, bias = slopes(optimizer, first)
    torch.testing.assert_close(weight, active.mean((0, 2, 3)).view(3, 1, 1, 1))
    torch.testing.assert_close(bias, active.mean((0, 2, 3)))
    assert all((slope == 1).all() for slope in slopes(optimizer, network[2]))


def test_linear_layers_on_sequences_have_their_units_last() -> None:
    # A GELU falls below -0.75, where its slope counts as |slope|.
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.GELU()).double()
    optimizer = descent(network)
    probe_saturation(network, optimizer)
    inputs = seeded(6, 7, 3)
    network(inputs)
    (weight,) = slopes(optimizer, network[0])
    before, step = network[0](inputs).detach(), 1e-6
    rise = nn.functional.gelu(before + step) - nn.functional.gelu(before - step)
    assert (rise < 0).any()
    expected = (rise / (2 * step)).abs().mean((0, 1))
    torch.testing.assert_close(weight, expected[:, None], rtol=1e-8, atol=0)


def test_a_layer_with_another_module_before_the_activation_keeps_the_slope_one() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    optimizer = descent(network)
    probe_saturation(network, optimizer)
    network(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert all((slope == 1).all() for slope in slopes(optimizer, network[0]))
    assert all((slope < 1).all() for slope in slopes(optimizer, network[3]))


def test_evaluation_frozen_layers_and_a_removed_probe_publish_nothing() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh()).double()
    optimizer = Composed(network[0].parameters(), Gradient(), [Saturation()], engine="eager")
    probe = probe_saturation(network, optimizer)
    with torch.no_grad():
        network(seeded(5, 3))
    assert all((slope == 1).all() for slope in slopes(optimizer, network[0]))
    network(seeded(5, 3))
    kept = [slope.clone() for slope in slopes(optimizer, network[0])]
    assert all((slope < 1).all() for slope in kept)
    probe.remove()
    network(seeded(5, 3, seed=1))
    assert all(map(torch.equal, slopes(optimizer, network[0]), kept))


def test_the_probe_keeps_no_output_alive_and_leaves_the_gradients_as_they_are() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ELU(inplace=True), nn.Linear(4, 2)).double()
    inputs = seeded(5, 3)
    plain = torch.autograd.grad(network(inputs).square().sum(), [*network.parameters()])
    probe_saturation(network, descent(network))
    outputs: list[weakref.ref[Any]] = []
    network[0].register_forward_hook(lambda *call: outputs.append(weakref.ref(call[-1])))
    probed = torch.autograd.grad(network(inputs).square().sum(), [*network.parameters()])
    assert all(map(torch.equal, plain, probed))
    assert outputs[0]() is None
