"""A multilayer perceptron of one flat vector of params, with derivatives by hand.

`forward` gives the solution's channels, `gradient` and `jacobian` are the two reverse sweeps;
`lift.py` holds what stands between the network and the solution.

Arrays of shape [channels, points, units] lie in memory unit by unit and the Jacobian param by
param, points innermost: every product then runs along thousands of points, not twenty units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.embedding import Embedding
from applications.pinn.language import Index
from applications.pinn.taylor import Activated, activate, activate_transposed

CACHE = 4_000_000
"""Bytes that pass through a processor's cache quickly."""


@dataclass(frozen=True)
class Inputs:
    """Prepared points: the features' channels, which no param changes."""

    features: Float[Tensor, "channels images features"]
    indices: tuple[Index, ...]
    points: int

    def to(self, dtype: torch.dtype) -> Inputs:
        """The same in another precision."""
        return Inputs(self.features.to(dtype), self.indices, self.points)


@dataclass(frozen=True)
class Tape:
    """What the reverse sweeps need: each layer's weight, its input, and each activation."""

    weights: list[Float[Tensor, "rows columns"]]
    inputs: list[Float[Tensor, "channels images units"]]
    activations: list[Activated]
    indices: tuple[Index, ...]
    points: int


class MLP:
    """N(features; params), linear in the last layer; symmetric as the problem declares.

    `count` is the number of params; they lie layer by layer, weights before biases.
    """

    def __init__(
        self,
        embedding: Embedding,
        features: int,
        hidden: Sequence[int],
        unknowns: int,
        activation: str,
    ) -> None:
        self.embedding, self.activation = embedding, activation
        self.sizes = (features, *hidden, unknowns)
        self.parts = [
            size for rows, columns in pairwise(self.sizes) for size in (rows * columns, columns)
        ]
        self.count = sum(self.parts)

    def initial_params(
        self,
        features: Float[Tensor, "samples features"],
        first_layer_scale: float,
        generator: torch.Generator,
    ) -> Float[Tensor, " params"]:
        """Glorot's variance, the first layer `first_layer_scale` times as wide, float64 on the CPU.

        A unit of the first layer has its zero at one of the `features` of points drawn from the
        region, so that units are spread over it whatever its size. A sine layer takes the
        variance 2 / inputs of Sitzmann et al. (2020), "Implicit neural representations with
        periodic activation functions", without their factor 30.
        """
        parts = []
        for layer, (rows, columns) in enumerate(pairwise(self.sizes)):
            weight = torch.empty(rows, columns, dtype=torch.float64)
            last = layer == len(self.sizes) - 2
            if self.activation == "sin" and not last:
                weight.uniform_(-1, 1, generator=generator)
                weight *= 1 / math.sqrt(rows) if layer == 0 else math.sqrt(6 / rows)
            else:
                weight.normal_(0, math.sqrt(2 / (rows + columns)), generator=generator)
            bias = torch.zeros(columns, dtype=torch.float64)
            if layer == 0:
                weight *= first_layer_scale
                chosen = torch.randint(len(features), (columns,), generator=generator)
                bias = -(features[chosen].T * weight).sum(0)
            parts += [weight.reshape(-1), bias]
        return torch.cat(parts)

    def inputs(
        self, points: Float[Tensor, "points coordinates"], indices: tuple[Index, ...]
    ) -> Inputs:
        """The points prepared for `forward` with these derivatives."""
        features = self.embedding.features(points, indices)
        by_unit = features.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        return Inputs(by_unit, indices, len(points))

    def layers(self, params: Float[Tensor, "params ..."]) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer, as views of the params."""
        parts = params.split(self.parts)
        return [
            (weight.unflatten(0, shape), bias)
            for weight, bias, shape in zip(
                parts[::2], parts[1::2], pairwise(self.sizes), strict=True
            )
        ]

    def forward(
        self, params: Float[Tensor, " params"], inputs: Inputs
    ) -> tuple[Float[Tensor, "channels points unknowns"], Tape]:
        """The network's channels, symmetrised, and the tape for the reverse sweeps."""
        hidden = inputs.features
        layers = self.layers(params)
        tape = Tape([weight for weight, _ in layers], [], [], inputs.indices, inputs.points)
        for layer, (weight, bias) in enumerate(layers):
            tape.inputs.append(hidden)
            z = _times(hidden, weight)
            z[0].add_(bias)
            if layer == len(layers) - 1:
                return self._symmetrised(z), tape
            hidden, activated = activate(z, inputs.indices, self.activation)
            tape.activations.append(activated)
        raise AssertionError("a network has a last layer")

    def gradient(
        self, tape: Tape, cotangent: Float[Tensor, "channels points unknowns"]
    ) -> Float[Tensor, " params"]:
        """The params' gradient of a function whose derivative by the channels is `cotangent`."""
        gradient = cotangent.new_empty(self.count)
        parts = self.layers(gradient)
        for layer, above in self._reverse(tape, cotangent):
            weight, bias = parts[layer]
            torch.mm(_by_unit(tape.inputs[layer]), _by_unit(above).T, out=weight)
            torch.sum(above[0], 0, out=bias)
        return gradient

    def jacobian(
        self,
        tape: Tape,
        cotangent: Float[Tensor, "channels points unknowns"],
        out: Float[Tensor, "points params"],
    ) -> None:
        """Each point's gradient as a row of `out`: a sum over channels of outer products.

        Fastest where `out` lies in memory column by column.
        """
        images, parts = self.embedding.mirrors, self.layers(out.T)
        for layer, above in self._reverse(tape, cotangent):
            weight, bias = parts[layer]
            rows, columns, points = weight.shape
            below = _by_unit(tape.inputs[layer]).view(rows, 1, -1, points)
            above = _by_unit(above).view(columns, -1, points)
            at_once = _rows_in_cache(weight)
            for few, product in zip(below.split(at_once), weight.split(at_once), strict=True):
                torch.mul(few[:, :, 0], above[:, 0], out=product)
                for k in range(1, above.shape[1]):
                    product.addcmul_(few[:, :, k], above[:, k])
            torch.sum(above[:, :images], 1, out=bias)

    def _reverse(self, tape: Tape, cotangent: Float[Tensor, "channels points unknowns"]):
        """Each layer from the last, with the cotangent of its output."""
        above = cotangent
        if self.embedding.mirrors > 1:
            above = torch.cat([w * cotangent for w in self.embedding.image_weights()], dim=1)
        for layer in reversed(range(len(tape.weights))):
            yield layer, above
            if layer:
                below = _times(above, tape.weights[layer].T)
                above = activate_transposed(below, tape.activations[layer - 1], tape.indices)

    def _symmetrised(
        self, z: Float[Tensor, "channels images unknowns"]
    ) -> Float[Tensor, "channels points unknowns"]:
        if self.embedding.mirrors == 1:
            return z
        weights = self.embedding.image_weights()
        images = z.view(len(z), len(weights), -1, z.shape[2])
        return torch.einsum("cinu,i->cnu", images, z.new_tensor(weights))


def _by_unit(
    array: Float[Tensor, "channels points units"],
) -> Float[Tensor, "units channels*points"]:
    """The array as a matrix, without a copy where it lies in memory unit by unit."""
    return array.permute(2, 0, 1).reshape(array.shape[2], -1)


def _rows_in_cache(weight: Float[Tensor, "rows columns points"]) -> int:
    """How many rows a processor's cache holds; an accelerator takes them all at once."""
    if weight.device.type != "cpu":
        return len(weight)
    return max(1, CACHE // (weight[0].numel() * weight.element_size()))


def _times(
    array: Float[Tensor, "channels points rows"], matrix: Float[Tensor, "rows columns"]
) -> Float[Tensor, "channels points columns"]:
    """Array @ matrix, unit by unit in memory."""
    channels, points, _ = array.shape
    return (matrix.T @ _by_unit(array)).view(-1, channels, points).permute(1, 2, 0)
