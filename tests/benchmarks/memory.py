"""The memory an optimizer holds beside the parameters and their gradients."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import sciopt
from tests.benchmarks.candidates import composed


@dataclass(frozen=True)
class Pair:
    """Ours and torch's, and how many times torch's bytes ours may hold, if there is such a bar."""

    name: str
    ours: Callable[..., Optimizer]
    theirs: Callable[..., Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    at_most: float | None = 1.0


PAIRS = [
    Pair("SGD with momentum", sciopt.SGD, torch.optim.SGD, {"momentum": 0.9}),
    Pair("AdaGrad", sciopt.AdaGrad, torch.optim.Adagrad),
    Pair("RMSProp, centered", sciopt.RMSProp, torch.optim.RMSprop, {"centered": True}),
    Pair("Adam", sciopt.Adam, torch.optim.Adam),
    Pair("AdamW", sciopt.AdamW, torch.optim.AdamW),
    Pair("AMSGrad", sciopt.AMSGrad, lambda params: torch.optim.Adam(params, amsgrad=True)),
    Pair(
        "Adam, flat",
        lambda params: sciopt.Adam(params, flat=True),
        torch.optim.Adam,
        at_most=None,
    ),
    Pair(
        "composed beside Adam",
        lambda params: composed(params, "eager"),
        torch.optim.Adam,
        at_most=None,
    ),
]


@dataclass(frozen=True)
class Holding:
    """Bytes that an optimizer has taken, and in how many tensors that share no memory."""

    bytes: int
    tensors: int


@dataclass(frozen=True)
class Comparison:
    """What ours and torch's hold, and whether the bar is met."""

    method: str
    ours: Holding
    theirs: Holding
    at_most: float | None

    @property
    def ratio(self) -> float:
        """Our bytes over torch's."""
        return self.ours.bytes / self.theirs.bytes

    @property
    def met(self) -> bool | None:
        """Whether we hold no more than allowed; None without a bar."""
        return None if self.at_most is None else self.ratio <= self.at_most


def compare(shapes: Sequence[tuple[int, ...]]) -> list[Comparison]:
    """Every pair on float32 parameters of these shapes."""
    return [
        Comparison(
            pair.name,
            held(lambda params, p=pair: p.ours(params, **p.settings), shapes),
            held(lambda params, p=pair: p.theirs(params, **p.settings), shapes),
            pair.at_most,
        )
        for pair in PAIRS
    ]


def held(build: Callable[[list[Tensor]], Optimizer], shapes: Sequence[tuple[int, ...]]) -> Holding:
    """What has appeared with an optimizer and stayed after two steps; views count once."""
    # What is older than the parameters need not be searched.
    gc.freeze()
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    before = _storages()
    optimizer = build(params)
    for _ in range(2):
        optimizer.step()
    after = _storages()
    gc.unfreeze()
    return Holding(sum(after.values()) - sum(before.values()), len(after) - len(before))


def _storages() -> dict[int, int]:
    """Bytes by address of every piece of memory that living tensors share."""
    gc.collect()
    storages = [
        each.untyped_storage()
        for each in gc.get_objects()
        if issubclass(type(each), Tensor) and each.layout is torch.strided
    ]
    return {storage.data_ptr(): storage.nbytes() for storage in storages if storage.nbytes()}
