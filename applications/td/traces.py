"""Eligibility traces of agents in lockstep, and the arrays along which they give credit.

Players who see the same, whatever they have learnt, stand in groups: player p of every group has
left the same entries. An entry is a weight that is learnt. With lambda = 0 only the entries that
were just left have a trace, so that a step costs as much in a large table as in a small one; with
lambda > 0 every entry may have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PerPlayer = Float[Tensor, "groups players"]
PerEntry = Float[Tensor, "groups players k"]
Index = Int[Tensor, "players k"]
Offset = Int[Tensor, "groups players 1"]

# Smaller traces become 0: they change nothing, and denormal numbers are slow on CPUs.
SMALLEST = 1e-30


class Trace(ABC):
    """Which entries the next TD errors are credited to, and how much.

    `values` are the traces, of every entry or of those that may have one.
    """

    values: Float[Tensor, "groups players entries"]

    @abstractmethod
    def scale(self, factor: PerPlayer) -> None:
        """Multiply by a factor per agent, 0 to cut."""

    @abstractmethod
    def enter(self, index: Index, amount: PerEntry) -> None:
        """Add amounts at entries, which differ within a row."""

    @abstractmethod
    def at(self, index: Index) -> PerEntry:
        """The trace of entries."""

    @abstractmethod
    def credit(
        self,
        array: Tensor,
        offset: Offset,
        amount: PerPlayer,
    ) -> None:
        """Add amount * trace to the array; `offset` says where in it a player's row begins."""

    def flush(self) -> None:  # noqa: B027
        """Set what is too small to matter to 0."""

    def size(self) -> PerPlayer:
        """The sum of absolute values."""
        return self.values.abs().sum(-1)

    def square(self) -> PerPlayer:
        """The sum of squares."""
        return self.values.square().sum(-1)

    @abstractmethod
    def keep(self, kept: Bool[Tensor, " players"]) -> None:
        """Forget the other players."""


@final
class DenseTrace(Trace):
    """A trace of every entry, for arrays of the same shape."""

    def __init__(self, entries: int, like: PerPlayer) -> None:
        self.values = like.new_zeros(*like.shape, entries)

    def scale(self, factor: PerPlayer) -> None:
        """Multiply in place."""
        self.values.mul_(factor[..., None])

    def flush(self) -> None:
        """Set what is too small to matter to 0."""
        self.values = torch.nn.functional.hardshrink(self.values, SMALLEST)

    def enter(self, index: Index, amount: PerEntry) -> None:
        """Add in place."""
        self.values.scatter_add_(-1, index.expand_as(amount), amount)

    def at(self, index: Index) -> PerEntry:
        """Look up."""
        return self.values.gather(-1, index.expand(len(self.values), -1, -1))

    def credit(
        self,
        array: Tensor,
        offset: Offset,  # noqa: ARG002
        amount: PerPlayer,
    ) -> None:
        """To every entry of the array, which has the trace's shape."""
        array.addcmul_(amount[..., None], self.values)

    def keep(self, kept: Bool[Tensor, " players"]) -> None:
        """Forget the other players."""
        self.values = self.values[:, kept]


@final
class LastTrace(Trace):
    """The trace of lambda = 0: of the entries that were entered last."""

    def __init__(self, like: PerPlayer) -> None:
        self.index = torch.zeros(like.shape[1], 0, dtype=torch.int64, device=like.device)
        self.values = like.new_zeros(*like.shape, 0)

    def scale(self, factor: PerPlayer) -> None:
        """Multiply."""
        self.values = self.values * factor[..., None]

    def enter(self, index: Index, amount: PerEntry) -> None:
        """In the place of those before."""
        self.index, self.values = index, amount

    def at(self, index: Index) -> PerEntry:
        """Look up."""
        same = index[:, :, None] == self.index[:, None, :]
        return (same * self.values[..., None, :]).sum(-1)

    def credit(
        self,
        array: Tensor,
        offset: Offset,
        amount: PerPlayer,
    ) -> None:
        """To the entries that have a trace."""
        flat = (offset + self.index).flatten()
        array.view(-1).index_add_(0, flat, (amount[..., None] * self.values).flatten())

    def keep(self, kept: Bool[Tensor, " players"]) -> None:
        """Forget the other players."""
        self.index, self.values = self.index[kept], self.values[:, kept]
