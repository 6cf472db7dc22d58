"""A small fully connected network whose parameters and gradient are one vector each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm, leaky_relu, linear

from applications.td.network_rules import NetworkRule

SPARSITY = 0.9
"""Fraction of a layer's first weights that are zero."""


class Network:
    """Layers with normalisation and leaky ReLU; its parameters are one vector.

    A new one has LeCun's uniform first weights of which nine in ten are zero, and no biases.
    """

    def __init__(
        self, sizes: Sequence[int], generator: torch.Generator, device: torch.device, dtype: Any
    ) -> None:
        first = [tensor.to(dtype) for tensor in _first_layers(sizes, generator)]
        self.params = torch.cat([tensor.flatten() for tensor in first]).to(device)
        self._gradient = torch.zeros_like(self.params)
        self._layers, begin = [], 0
        for tensor in first:
            place = slice(begin, begin := begin + tensor.numel())
            layer = self.params[place].view(tensor.shape).detach().requires_grad_()
            layer.grad = self._gradient[place].view(tensor.shape)
            self._layers.append(layer)

    def __call__(self, observation: Float[Tensor, " inputs"]) -> Float[Tensor, " outputs"]:
        """What the network says of an observation."""
        *hidden, last = zip(self._layers[::2], self._layers[1::2], strict=True)
        for weight, bias in hidden:
            observation = linear(observation, weight, bias)
            observation = leaky_relu(layer_norm(observation, observation.shape))
        return linear(observation, *last)

    def gradient(self, output: Float[Tensor, ""]) -> Float[Tensor, " params"]:
        """The gradient of an output, valid until the next one."""
        self._gradient.zero_()
        output.backward()
        return self._gradient


def _first_layers(sizes: Sequence[int], generator: torch.Generator) -> Iterator[Tensor]:
    """Weight and bias of each layer."""
    for inputs, outputs in pairwise(sizes):
        uniform = torch.rand(outputs, inputs, generator=generator, dtype=torch.float64)
        weight = (2 * uniform - 1) / math.sqrt(inputs)
        order = torch.rand(outputs, inputs, generator=generator).argsort(-1)
        yield weight.masked_fill(order < int(SPARSITY * inputs), 0.0)
        yield torch.zeros(outputs)


class Learner:
    """A network with the rule that moves it and the rule's memory."""

    def __init__(self, network: Network, rule: NetworkRule) -> None:
        self.network, self.rule = network, rule
        self.memory = rule.memory(network.params)

    def step(self, output: Tensor, td_error: Tensor, trace_decay: float) -> float:
        """Follow the trace of the output's gradient; the rate."""
        gradient = self.network.gradient(output)
        decay = td_error.new_tensor(trace_decay)
        increment, rate = self.rule.step(self.memory, gradient, td_error, decay)
        self.network.params += increment
        return float(rate)

    def state_dict(self) -> dict[str, Any]:
        """Parameters and memory."""
        memory = {name: tensor.cpu().clone() for name, tensor in self.memory.items()}
        return {"params": self.network.params.cpu().clone(), "memory": memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over those of another learner."""
        self.network.params.copy_(state["params"])
        for name, tensor in state["memory"].items():
            self.memory[name].copy_(tensor)
