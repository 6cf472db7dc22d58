"""A network made wider without changing what it computes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.network import MLP


def widened(
    network: MLP,
    params: Float[Tensor, " params"],
    hidden: Sequence[int],
    samples: Float[Tensor, "samples features"],
    first_layer_scale: float,
    generator: torch.Generator,
) -> tuple[MLP, Float[Tensor, " params"]]:
    """The network with more units per layer: new ones as at the start, but not yet listened to.

    What leads from a new unit to an old one or to the output is zero (Chen, Goodfellow & Shlens
    2016, "Net2Net", section 2.1, without their copies of units, which would share a gradient).
    """
    features, *_, unknowns = network.sizes
    wider = MLP(network.embedding, features, hidden, unknowns, network.activation)
    fresh = wider.initial_params(samples, first_layer_scale, generator).to(params)
    layers = zip(network.layers(params), wider.layers(fresh), strict=True)
    for number, ((weight, bias), (new_weight, new_bias)) in enumerate(layers):
        rows, columns = weight.shape
        new_weight[:rows, :columns] = weight
        new_bias[:columns] = bias
        if number:
            new_weight[rows:, :columns] = 0.0
    return wider, fresh
