"""Our classes beside torch's, over the keyword sets with which torch tests its own."""

import sys
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

import sciopt

# torch's test database imports this package for the base class of tests it does not hold.
sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))  # pyright: ignore[reportArgumentType]
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402

OURS: dict[str, Callable[..., sciopt.Composed]] = {
    "SGD": sciopt.SGD,
    "Adagrad": sciopt.AdaGrad,
    "RMSprop": sciopt.RMSProp,
    "Adam": sciopt.Adam,
    "AdamW": sciopt.AdamW,
}

# Settings that torch's database leaves out.
MORE: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adagrad": [{"lr": 0.1, "eps": 0.1, "initial_accumulator_value": 0.3, "lr_decay": 0.01}],
    "RMSprop": [{"momentum": 0.9}, {"alpha": 0.5, "eps": 0.1}],
    "Adam": [
        {"betas": (0.0, 0.5), "eps": 0.1},
        {"amsgrad": True, "maximize": True},
        {"lr": torch.tensor(0.02, dtype=torch.float64)},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "AdamW": [{"betas": (0.5, 0.9), "weight_decay": 0.3, "lr": 0.05}],
}


class Pair(NamedTuple):
    """A method of torch, ours, and the keywords both are made with."""

    name: str
    ours: Callable[..., sciopt.Composed]
    theirs: Callable[..., Optimizer]
    keywords: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.keywords.items())})"


def _pairs() -> Iterator[Pair]:
    """Every keyword set of every class that both have.

    `foreach`, `capturable` and `differentiable` say how torch runs a step, not what it computes;
    our classes have `engine` instead, and sets with those keywords do not apply.
    """
    execution = {"foreach", "capturable", "differentiable", "fused"}
    for info in optim_db:
        theirs: type[Optimizer] = info.optim_cls  # pyright: ignore[reportAssignmentType]
        name = theirs.__name__
        if name in OURS:
            known = [dict(each.kwargs) for each in info.optim_inputs_func(device="cpu")]
            for keywords in [*known, *MORE[name]]:
                if not execution & keywords.keys():
                    yield Pair(name, OURS[name], theirs, keywords)


PAIRS = list(_pairs())


def new_params(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Parameters of many shapes, always the same numbers: a matrix, vector, scalar, empty one."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (3,), (), (0, 2), (2, 3, 2)]
    return [
        (0.1 * torch.randn(shape, generator=generator, dtype=torch.float64))
        .to(dtype)
        .requires_grad_()
        for shape in shapes
    ]


def gradients(params: list[Tensor], steps: int, seed: int = 1) -> list[list[Tensor]]:
    """Noise about a constant, per step and parameter."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            (1 + torch.randn(param.shape, generator=generator, dtype=torch.float64)).to(param.dtype)
            for param in params
        ]
        for _ in range(steps)
    ]


def run(optimizer: Optimizer, params: list[Tensor], series: list[list[Tensor]]) -> None:
    """One step for each list of gradients."""
    for grads in series:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        optimizer.step()


def difference(ours: list[Tensor], theirs: list[Tensor], start: list[Tensor]) -> float:
    """Largest difference of two parameter lists, in units of the largest distance moved."""
    apart = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True) if a.numel())
    moved = max((b - c).abs().max().item() for b, c in zip(theirs, start, strict=True) if b.numel())
    assert moved > 0
    return apart / moved
