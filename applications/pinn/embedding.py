"""What the network sees of a point: scaled, periodic and stretched coordinates, with derivatives.

Each feature depends on one coordinate, so that of its channels only the derivatives by that
coordinate are not zero. Random Fourier features come after them and mix coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.language import Index, Problem
from applications.pinn.taylor import activate


@dataclass(frozen=True)
class Embedding:
    """Features of a problem's coordinates.

    A periodic coordinate x of length L is seen as cos(2πkx/L) and sin(2πkx/L), which makes every
    network of it periodic with all derivatives (Dong & Ni 2021, "A method for representing
    periodic functions and enforcing exactly periodic boundary conditions with deep neural
    networks"). Any other is centred and scaled; one with a thin layer at p of width w is seen
    once more as asinh((x - p)/w), linear inside the layer and logarithmic outside.
    """

    problem: Problem
    scales: Mapping[str, float]
    """Of each coordinate that is not periodic: what it is multiplied with."""
    harmonics: int = 1
    """Waves seen of each periodic coordinate."""
    frequencies: Float[Tensor, "features waves"] | None = None
    """Random Fourier features sin(B features), cos(B features) (Tancik et al. 2020)."""

    @property
    def mirrors(self) -> int:
        """Images of a point under the problem's symmetries, itself included."""
        return 2 ** len(self.problem.symmetry)

    def features(
        self, points: Float[Tensor, "points coordinates"], indices: tuple[Index, ...]
    ) -> Float[Tensor, "channels images features"]:
        """The features' channels at every point and at its mirror images, image by image."""
        images = [self._image(points, signs, indices) for signs in self.reflections()]
        return torch.cat(images, dim=1)

    def image_weights(self) -> list[float]:
        """What the network's value at each image contributes to the solution."""
        odd = [parity == "odd" for parity in self.problem.symmetry.values()]
        return [
            math.prod(
                -1.0 if flip and is_odd else 1.0 for flip, is_odd in zip(flips, odd, strict=True)
            )
            / self.mirrors
            for flips in product([False, True], repeat=len(odd))
        ]

    def reflections(self) -> list[list[float]]:
        """The signs of the coordinates at each image."""
        symmetric = list(self.problem.symmetry)
        return [
            [
                -1.0 if axis in symmetric and flips[symmetric.index(axis)] else 1.0
                for axis in self.problem.region
            ]
            for flips in product([False, True], repeat=len(symmetric))
        ]

    def _image(
        self,
        points: Float[Tensor, "points coordinates"],
        signs: list[float],
        indices: tuple[Index, ...],
    ) -> Float[Tensor, "channels points features"]:
        """Features at the reflected points, derivatives being by the coordinates not reflected."""
        columns = []
        orders = max(sum(index) for index in indices)
        for axis, (name, sign) in enumerate(zip(self.problem.region, signs, strict=True)):
            for derivatives in self._of_coordinate(name, sign * points[:, axis], orders):
                channels = points.new_zeros(len(indices), len(points))
                for k, index in enumerate(indices):
                    if index[axis] == sum(index):
                        channels[k] = sign ** index[axis] * derivatives[index[axis]]
                columns.append(channels)
        features = torch.stack(columns, dim=2)
        if self.frequencies is None:
            return features
        waves = features @ self.frequencies.to(features)
        sine, _ = activate(waves, indices, "sin")
        waves[0] += math.pi / 2
        cosine, _ = activate(waves, indices, "sin")
        return torch.cat([features, sine, cosine], dim=2)

    def _of_coordinate(
        self, name: str, x: Float[Tensor, " points"], orders: int
    ) -> list[list[Tensor]]:
        """Each feature of one coordinate: its value and derivatives."""
        low, high = self.problem.region[name]
        if name in self.problem.periodic:
            waves = [2 * math.pi * k / (high - low) for k in range(1, self.harmonics + 1)]
            return [
                [k**n * torch.cos(k * x + (n * math.pi / 2 + phase)) for n in range(orders + 1)]
                for k in waves
                for phase in (0.0, -math.pi / 2)
            ]
        scale, one = self.scales[name], torch.ones_like(x)
        middle = 0.0 if name in self.problem.symmetry else (low + high) / 2
        linear = [scale * (x - middle), scale * one] + [0 * one] * 3
        if name not in self.problem.layers():
            return [linear]
        position, width = self.problem.layers()[name]
        ends = stretched(torch.tensor([low, high], dtype=torch.float64), position, width)
        wide = asinh_derivatives((x - position) / width)
        wide = [wide[0] - float(ends.mean()), *(d / width**n for n, d in enumerate(wide[1:], 1))]
        return [linear, wide]


def stretched(x: Float[Tensor, ...], position: float, width: float) -> Float[Tensor, ...]:
    """asinh((x - position) / width)."""
    return torch.asinh((x - position) / width)


def asinh_derivatives(y: Float[Tensor, ...]) -> list[Float[Tensor, ...]]:
    """asinh(y) and its first four derivatives."""
    q = 1 + y * y
    return [
        torch.asinh(y),
        q**-0.5,
        -y * q**-1.5,
        (2 * y * y - 1) * q**-2.5,
        (9 * y - 6 * y**3) * q**-3.5,
    ]
