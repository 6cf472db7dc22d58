"""A solution as a plain `torch.nn.Module`: float64 coordinates to unknowns, ready for export.

It is written without anything of the training: what `embedding.py`, `network.py` and `lift.py` do
with derivatives is done here for the values alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from applications.pinn.embedding import stretched
from applications.pinn.language import Problem
from applications.pinn.network import MLP
from applications.pinn.torch_func import Network


class Sine(nn.Module):
    """sin(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """sin(x)."""
        return torch.sin(x)


class Perceptron(nn.Module):
    """The network of network.py: the mean of its layers over a point's images."""

    frequencies: Tensor | None

    def __init__(self, network: MLP, params: Float[Tensor, " params"]) -> None:
        super().__init__()
        self.problem, self.embedding = network.embedding.problem, network.embedding
        activations = {"tanh": nn.Tanh, "sin": Sine}
        layers: list[nn.Module] = []
        for (weight, bias), (rows, columns) in zip(
            network.layers(params.double()), pairwise(network.sizes), strict=True
        ):
            linear = nn.Linear(rows, columns, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(weight.T)
                linear.bias.copy_(bias)
            layers += [linear, activations[network.activation]()]
        self.layers = nn.Sequential(*layers[:-1])
        frequencies = network.embedding.frequencies
        self.register_buffer("frequencies", None if frequencies is None else frequencies.clone())

    def forward(self, points: Float[Tensor, "points coordinates"]) -> Tensor:
        """The network's outputs, one column for each unknown."""
        weights = self.embedding.image_weights()
        images = zip(weights, self.embedding.reflections(), strict=True)
        return sum(
            (weight * self.layers(self._features(points, signs)) for weight, signs in images),
            start=torch.zeros((), dtype=points.dtype),
        )

    def _features(self, points: Tensor, signs: list[float]) -> Tensor:
        columns = []
        for axis, (name, sign) in enumerate(zip(self.problem.region, signs, strict=True)):
            columns += self._of_coordinate(name, sign * points[:, axis])
        features = torch.stack(columns, dim=1)
        if self.frequencies is None:
            return features
        waves = features @ self.frequencies
        return torch.cat([features, torch.sin(waves), torch.cos(waves)], dim=1)

    def _of_coordinate(self, name: str, x: Tensor) -> list[Tensor]:
        low, high = self.problem.region[name]
        if name in self.problem.periodic:
            waves = [
                2 * math.pi * k / (high - low) * x for k in range(1, self.embedding.harmonics + 1)
            ]
            return [f(wave) for wave in waves for f in (torch.cos, torch.sin)]
        middle = 0.0 if name in self.problem.symmetry else (low + high) / 2
        linear = self.embedding.scales[name] * (x - middle)
        if name not in self.problem.layers():
            return [linear]
        position, width = self.problem.layers()[name]
        ends = [math.asinh((end - position) / width) for end in (low, high)]
        return [linear, stretched(x, position, width) - sum(ends) / 2]


class PieceModule(nn.Module):
    """The solution on one time slab."""

    def __init__(self, problem: Problem, network: nn.Module) -> None:
        super().__init__()
        self.problem, self.network = problem, network

    def forward(self, points: Float[Tensor, "points coordinates"]) -> Tensor:
        """The unknowns, one column each."""
        value = self.network(points)
        coordinates = points.unbind(1)
        lift = self.problem.lift(*coordinates)
        if lift is not None:
            pairs = lift if len(self.problem.unknowns) > 1 else [lift]
            one = torch.ones_like(coordinates[0])
            offset, factor = (torch.stack([pair[k] * one for pair in pairs], 1) for k in (0, 1))
            value = offset + factor * value
        sizes = [self.problem.magnitudes.get(name, 1.0) for name in self.problem.unknowns]
        return torch.stack([u * size for u, size in zip(value.unbind(1), sizes, strict=True)], 1)


class SolutionModule(nn.Module):
    """The solution on the whole region, each time slab by its own network."""

    def __init__(self, pieces: Sequence[PieceModule], ends: Sequence[float]) -> None:
        super().__init__()
        self.pieces, self.ends = nn.ModuleList(pieces), list(ends)

    def forward(self, coordinates: Float[Tensor, "points coordinates"]) -> Tensor:
        """The unknowns (points, unknowns) at coordinates given in the region's order."""
        first, *later = self.pieces
        value = first(coordinates)
        for piece, begin in zip(later, self.ends, strict=True):
            value = torch.where(coordinates[:, -1:] > begin, piece(coordinates), value)
        return value


def plain(network: Network, params: Float[Tensor, " params"]) -> nn.Module:
    """A network as a module that holds these params, float64 on the CPU."""
    if isinstance(network, MLP):
        return Perceptron(network, params)
    return network.with_params(params)
