"""A multilayer perceptron as a function of one flat vector of params.

Flat, because every method here works on one vector: Adam then updates a single tensor and
L-BFGS needs no packing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ACTIVATIONS = {"tanh": torch.tanh, "sin": torch.sin}


def glorot_normal(
    sizes: Sequence[int], generator: np.random.Generator
) -> Float[np.ndarray, " params"]:
    """Initial params: weights of variance 2 / (inputs + outputs), biases zero, layer by layer.

    `sizes` counts the units of each layer, input and output included. Source: Glorot & Bengio
    (2010), "Understanding the difficulty of training deep feedforward neural networks".
    """
    return np.concatenate(
        [
            part
            for rows, columns in pairwise(sizes)
            for part in (
                generator.normal(0.0, math.sqrt(2 / (rows + columns)), rows * columns),
                np.zeros(columns),
            )
        ]
    )


def mlp(
    params: Float[Tensor, " params"],
    inputs: Float[Tensor, "points inputs"],
    sizes: Sequence[int],
    activation: str,
) -> Float[Tensor, "points outputs"]:
    """The network's output, linear in the last layer."""
    layers = list(pairwise(sizes))
    # One split, whose backward is one concatenation; slices would each pad a full gradient.
    parts = params.split([count for rows, columns in layers for count in (rows * columns, columns)])
    hidden = inputs
    for layer, (rows, columns) in enumerate(layers):
        weight, bias = parts[2 * layer].view(rows, columns), parts[2 * layer + 1]
        hidden = torch.addmm(bias, hidden, weight)
        if layer < len(layers) - 1:
            hidden = ACTIVATIONS[activation](hidden)
    return hidden
