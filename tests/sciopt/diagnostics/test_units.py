"""Dead and saturated units of networks made to have them."""

import pytest
import torch
from torch import nn

from sciopt.diagnostics import dead_and_saturated_units


def layer(weights: list[float], biases: list[float]) -> nn.Linear:
    linear = nn.Linear(1, len(weights))
    linear.weight.data = torch.tensor(weights)[:, None]
    linear.bias.data = torch.tensor(biases)
    return linear


@pytest.mark.parametrize("inplace", [False, True])
def test_dead_units_of_a_relu(inplace: bool):
    network = nn.Sequential(layer([1.0, 1.0, 0.0, 1.0], [0.0, -9.0, -1.0, -0.99]),
                            nn.ReLU(inplace))  # fmt: skip
    inputs = torch.arange(-100, 101)[:, None] / 100
    units = dead_and_saturated_units(network, inputs)["1"]
    assert units.dead.tolist() == [False, True, True, False]
    assert units.saturated.tolist() == [False, False, False, True]
    torch.testing.assert_close(units.slope, torch.tensor([100 / 201, 0.0, 0.0, 1 / 201]))


@pytest.mark.parametrize(
    ("activation", "derivative"),
    [
        (nn.Tanh(), lambda z: 1 - z.tanh() ** 2),
        (nn.Sigmoid(), lambda z: z.sigmoid() * (1 - z.sigmoid())),
        (nn.Softsign(), lambda z: (1 + z.abs()) ** -2),
    ],
)
def test_slopes_are_the_mean_derivative(activation, derivative):
    network = nn.Sequential(layer([1.0, 1.0, -5.0], [0.0, 12.0, 30.0]), activation)
    inputs = torch.linspace(-1, 1, 50)[:, None]
    units = dead_and_saturated_units(network, inputs, threshold=0.02)["1"]
    torch.testing.assert_close(
        units.slope, derivative(network[0](inputs)).mean(0).detach(), rtol=1e-4, atol=1e-7
    )
    assert units.saturated.tolist() == [False, True, True]
    assert not units.dead.any()


def test_channels_positions_and_repeated_layers():
    shared = nn.ReLU()
    convolution = nn.Conv2d(1, 2, 1)
    convolution.weight.data = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1)
    convolution.bias = nn.Parameter(torch.tensor([0.0, -2.0]))
    network = nn.Sequential(shared, convolution, shared)
    image = torch.zeros(3, 1, 4, 4)
    image[1, 0, 2, 3] = 1.0
    found = dead_and_saturated_units(network, image)
    assert list(found) == ["0", "0 (2)"]
    assert found["0 (2)"].dead.tolist() == [False, True]
    assert found["0 (2)"].slope.tolist() == pytest.approx([1 / 48, 0.0])
    sequence = torch.tensor([[[1.0, -1.0], [2.0, -1.0], [3.0, -1.0]]])
    found = dead_and_saturated_units(nn.ReLU(), sequence, axis=-1)
    assert found[""].dead.tolist() == [False, True]


def test_functional_activations_are_told_of():
    class Functional(nn.Module):
        def forward(self, x):
            return torch.tanh(x)

    with pytest.raises(ValueError, match=r"nn.Tanh\(\)"):
        dead_and_saturated_units(Functional(), torch.zeros(2, 2))


def test_an_activation_of_ones_own():
    class Cubed(nn.Module):
        def forward(self, x):
            return x**3

    found = dead_and_saturated_units(Cubed(), torch.tensor([[2.0, 0.0]]), activations=(Cubed,))
    assert found[""].slope.tolist() == [12.0, 0.0]
    assert found[""].dead.tolist() == [False, True]
