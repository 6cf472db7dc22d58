"""Many small networks at once: values of all actions, and the gradient of one, written by hand.

Between observation and values each hidden layer is linear, layer normalisation without parameters,
leaky ReLU; the last is linear. The parameters of one network are one row, so that a rule sees a
vector; layers are views into it. Autograd would build a graph at every time step for nothing: the
gradient of one value of such a network is a handful of products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float, Int
from torch import Tensor

SLOPE = 0.01
"""Of the leaky ReLU below zero."""
LAYER_NORM_EPS = 1e-5
FEWEST_INPUTS = 2
"""A neuron keeps so many inputs at least, however sparse."""


@dataclass(frozen=True)
class Tape:
    """What the gradient needs of a forward pass: per layer its input, per hidden layer the rest."""

    inputs: list[Float[Tensor, "networks inputs"]]
    normalised: list[Float[Tensor, "networks neurons"]]
    inverse_deviation: list[Float[Tensor, "networks 1"]]


@dataclass(frozen=True)
class Networks:
    """The shape that all networks share: sizes from the observation to the actions."""

    sizes: tuple[int, ...]

    @property
    def params(self) -> int:
        """Number of parameters of one network."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self._fans())

    @property
    def weights(self) -> int:
        """Number of parameters that are no biases."""
        return sum(fan_in * fan_out for fan_in, fan_out in self._fans())

    def _fans(self) -> Iterator[tuple[int, int]]:
        return zip(self.sizes[:-1], self.sizes[1:], strict=True)

    def layers(
        self, params: Float[Tensor, "networks params"]
    ) -> list[tuple[Float[Tensor, "networks out in"], Float[Tensor, "networks out"]]]:
        """Weights and biases as views: writing to them writes to `params`."""
        views, place = [], 0
        for fan_in, fan_out in self._fans():
            weight, bias = params[:, place:].split_with_sizes(
                [fan_in * fan_out, params.shape[1] - place - fan_in * fan_out], dim=1
            )
            views.append((weight.unflatten(1, (fan_out, fan_in)), bias[:, :fan_out]))
            place += (fan_in + 1) * fan_out
        return views

    def initial(
        self, uniform: Float[Tensor, "2 networks weights"], sparsity: float
    ) -> Float[Tensor, "networks params"]:
        """Sparse initialisation (Elsayed et al. 2024, arXiv 2410.14606); biases are 0.

        A weight is uniform within 1 / sqrt(inputs); of each neuron's inputs the share `sparsity`,
        chosen at random, is disconnected, but two inputs are always kept.
        """
        params = uniform.new_zeros(uniform.shape[1], self.params)
        place = 0
        for weight, _ in self.layers(params):
            _, fan_out, fan_in = weight.shape
            size, choice = uniform[:, :, place : place + fan_out * fan_in].unflatten(
                2, (fan_out, fan_in)
            )
            kept = max(fan_in - ceil(sparsity * fan_in), min(FEWEST_INPUTS, fan_in))
            connected = choice.argsort(-1).argsort(-1) < kept
            weight.copy_(torch.where(connected, (2 * size - 1) / fan_in**0.5, 0.0))
            place += fan_out * fan_in
        return params

    def values(
        self,
        params: Float[Tensor, "networks params"],
        observation: Float[Tensor, "networks inputs"],
    ) -> tuple[Float[Tensor, "networks actions"], Tape]:
        """The value of every action, and what the gradient needs."""
        *hidden, (last_weight, last_bias) = self.layers(params)
        tape = Tape([observation], [], [])
        for weight, bias in hidden:
            linear = _times(weight, tape.inputs[-1]) + bias
            normalised, _, inverse_deviation = torch.native_layer_norm(
                linear, linear.shape[1:], None, None, LAYER_NORM_EPS
            )
            tape.normalised.append(normalised)
            tape.inverse_deviation.append(inverse_deviation)
            tape.inputs.append(torch.nn.functional.leaky_relu(normalised, SLOPE))
        return _times(last_weight, tape.inputs[-1]) + last_bias, tape

    def gradient(
        self,
        params: Float[Tensor, "networks params"],
        tape: Tape,
        action: Int[Tensor, " networks"],
    ) -> Float[Tensor, "networks params"]:
        """The gradient of each network's value of its action by its parameters."""
        gradient = torch.zeros_like(params)
        weights = [weight for weight, _ in self.layers(params)]
        *hidden, (last_weight, last_bias) = self.layers(gradient)
        last_bias.scatter_(1, action[:, None], 1.0)
        chosen = action[:, None, None].expand(-1, 1, last_weight.shape[2])
        last_weight.scatter_(1, chosen, tape.inputs[-1][:, None])
        back = weights[-1].gather(1, chosen).squeeze(1)
        for k in reversed(range(len(hidden))):
            normalised = tape.normalised[k]
            slope = torch.where(normalised > 0, back, SLOPE * back)
            along = (slope * normalised).mean(1, keepdim=True) * normalised
            spread = slope - slope.mean(1, keepdim=True) - along
            linear = tape.inverse_deviation[k] * spread
            weight, bias = hidden[k]
            bias.copy_(linear)
            torch.mul(linear[:, :, None], tape.inputs[k][:, None], out=weight)
            if k > 0:
                back = (weights[k].mT @ linear[:, :, None]).squeeze(2)
        return gradient


def _times(
    weight: Float[Tensor, "networks out in"], vector: Float[Tensor, "networks in"]
) -> Float[Tensor, "networks out"]:
    return torch.bmm(weight, vector[:, :, None]).squeeze(2)
