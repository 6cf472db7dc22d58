"""The optimizers that race: sciopt's, torch's, and those of three other libraries.

The others are imported where they are built, so that a missing one costs its own row only.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from sciopt import Adam, Composed, ExponentialAverage, Scope, SecondMoment, rates
from tests.benchmarks.race import Bar, Candidate

DEFAULT, FUSED = "torch", "torch fused"

ADAM = 7
"""Adam reads parameter, gradient and both averages, and writes all but the gradient."""
COMPOSED = ADAM + 1
"""A norm must be known before the first parameter moves: the gradient is read twice."""

TORCH = [
    Candidate(DEFAULT, torch.optim.Adam, accesses=ADAM),
    Candidate(
        "torch foreach",
        lambda params: torch.optim.Adam(params, foreach=True),
        equals=DEFAULT,
        accesses=ADAM,
    ),
    Candidate(
        FUSED, lambda params: torch.optim.Adam(params, fused=True), equals=DEFAULT, accesses=ADAM
    ),
]

# HeavyBall's step takes p.grad away and TorchOpt's accelerated one writes over it.
PEERS = [
    Candidate(
        "HeavyBall AdamW",
        lambda params: import_module("heavyball").AdamW(params, lr=1e-3, betas=(0.9, 0.999)),
        equals=DEFAULT,
        # Its epsilon is the least a root may be, where torch adds it to the root.
        within=1e-4,
        accesses=ADAM,
    ),
    Candidate(
        "TorchOpt",
        lambda params: import_module("torchopt").Adam(params, lr=1e-3),
        equals=DEFAULT,
        accesses=ADAM,
    ),
    Candidate(
        "TorchOpt accelerated",
        lambda params: import_module("torchopt").Adam(params, lr=1e-3, use_accelerated_op=True),
        equals=DEFAULT,
        accesses=ADAM,
    ),
    Candidate(
        "pytorch_optimizer AdaBelief",
        lambda params: import_module("pytorch_optimizer").AdaBelief(params, lr=1e-3),
        accesses=ADAM,
    ),
    Candidate(
        "pytorch_optimizer Lion",
        lambda params: import_module("pytorch_optimizer").Lion(params),
        accesses=5,
    ),
]

SMALL = [
    *TORCH,
    Candidate(
        "torch fused, one tensor",
        lambda params: torch.optim.Adam(params, fused=True),
        equals=DEFAULT,
        one_tensor=True,
    ),
    Candidate("sciopt", Adam, equals=DEFAULT),
    Candidate(
        "sciopt flat",
        lambda params: Adam(params, flat=True),
        equals=DEFAULT,
        bars=(Bar(DEFAULT, 1 / 6), Bar(FUSED, 1 / 2)),
    ),
]

LARGE = [
    *TORCH,
    Candidate("sciopt", Adam, equals=DEFAULT, accesses=ADAM, bars=(Bar(FUSED, 1.02),)),
]


def composed(params: Sequence[Tensor], engine: str) -> Composed:
    """Adam whose step is also divided by the gradient's norms over the layer and the neuron."""
    norms = [rates.InverseNorm(Scope.LAYER), rates.InverseNorm(Scope.NEURON)]
    return Composed(params, ExponentialAverage(), [SecondMoment(), *norms], engine=engine)


def compositions(at_most: float) -> list[Candidate]:
    """The composition in both engines beside torch's fused Adam, and the compiled one's bar."""
    eager = "composed, eager"
    return [
        Candidate(FUSED, lambda params: torch.optim.Adam(params, fused=True), accesses=ADAM),
        Candidate(eager, lambda params: composed(params, "eager"), accesses=COMPOSED),
        Candidate(
            "composed, compiled",
            lambda params: composed(params, "compiled"),
            equals=eager,
            bars=(Bar(FUSED, at_most),),
            accesses=COMPOSED,
        ),
    ]
