"""Environments as tensor programs, and what an agent in them sees: features of the state.

A state is a tensor with one row per agent. Features are sparse: for each state the indices of
those that are not zero, and their values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from applications.td.dynamics import Dynamics
from applications.td.environments import TransitionTable
from applications.td.philox import Luck, Moment, Purpose


class Outcome(NamedTuple):
    """What an action led to; `ratio` is the importance sampling ratio, 1 where one acts as told."""

    next_state: Tensor
    reward: Float[Tensor, " players"]
    terminated: Bool[Tensor, " players"]
    ratio: Float[Tensor, " players"] | None


class World(ABC):
    """An environment for any number of agents at once; it has no memory."""

    actions: int
    feature_count: int
    initial_weights: Float[Tensor, " features"]
    reward_range: tuple[float, float]
    """The lowest and the highest reward, without noise."""

    @abstractmethod
    def start(self, luck: Luck, moment: Moment) -> Tensor:
        """The first state of an episode, one row per player."""

    def moves(
        self,
        luck: Luck,  # noqa: ARG002
        moment: Moment,
        count: int,
    ) -> Float[Tensor, "count players"]:
        """The random numbers that decide the next `count` moves, by default none."""
        return torch.zeros(count, len(moment.agent), device=moment.agent.device)

    @abstractmethod
    def step(self, state: Tensor, action: Int[Tensor, " players"], move: Tensor) -> Outcome:
        """What the actions lead to, given one random number per row."""

    @abstractmethod
    def features(
        self, state: Tensor
    ) -> tuple[Int[Tensor, "players k"], Float[Tensor, "#players #k"]]:
        """Indices and values of the features that are not zero; indices of one row differ."""


@final
class TableWorld(World):
    """What a transition table does."""

    def __init__(
        self, table: TransitionTable, scale: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.actions, self.feature_count = table.actions, table.features.shape[1]
        self.start_thresholds = table.start.cumsum(0).to(device)
        self.thresholds = table.thresholds[:, :-1].to(device)
        self.outcomes = table.thresholds.shape[1]
        # A coin per move is enough for moves of two equal chances, and much faster.
        self.fair = bool(((self.thresholds == 0.5) | self.thresholds.isinf()).all())
        self.next_state = table.next_state.flatten().to(device)
        self.reward = (table.reward * scale).flatten().to(device, dtype)
        self.reward_range = float(self.reward.min()), float(self.reward.max())
        self.initial_weights = table.initial_weights
        self.terminated = table.terminated.flatten().to(device)
        on_policy = bool((table.ratio == 1).all())
        self.ratio = None if on_policy else table.ratio.flatten().to(device, dtype)
        present = table.features != 0
        width = int(present.sum(-1).max())
        # The features that are not zero come first; zeros fill the rest of a row.
        order = (~present).byte().sort(dim=-1, stable=True).indices[:, :width]
        self.indices = order.to(device)
        self.values = table.features.gather(-1, order).to(device, dtype)
        if bool((self.values == 1).all()):
            self.values = torch.ones(1, 1, dtype=dtype, device=device)

    def start(self, luck: Luck, moment: Moment) -> Int[Tensor, " players"]:
        """A state of the table's start distribution."""
        uniform = luck.uniforms(Purpose.START, moment, 1)[0]
        first = torch.searchsorted(self.start_thresholds, uniform, right=True)
        return first.clamp(max=len(self.start_thresholds) - 1)

    def moves(self, luck: Luck, moment: Moment, count: int) -> Float[Tensor, "count players"]:
        """Uniform numbers, or 1/4 and 3/4 where a coin decides."""
        if self.fair:
            return 0.25 + 0.5 * luck.coins(Purpose.MOVE, moment, count).double()
        return luck.uniforms(Purpose.MOVE, moment, count)

    def step(self, state: Tensor, action: Int[Tensor, " players"], move: Tensor) -> Outcome:
        """The branch whose share of [0, 1) the random number lies in."""
        row = state * self.actions + action if self.actions > 1 else state
        outcome = row * self.outcomes
        if self.outcomes > 1:
            outcome = outcome + (move[:, None] >= self.thresholds[row]).sum(-1)
        return Outcome(
            self.next_state[outcome],
            self.reward[outcome],
            self.terminated[outcome],
            None if self.ratio is None else self.ratio[outcome],
        )

    def features(
        self, state: Tensor
    ) -> tuple[Int[Tensor, "players k"], Float[Tensor, "#players #k"]]:
        """The table's rows; of a state that is its own feature, itself."""
        if len(self.values) == 1:
            return self.indices[state], self.values
        return self.indices[state], self.values[state]


@final
class TiledWorld(World):
    """A control task of two dimensions seen through tile coding.

    Sutton and Barto (2018), section 9.5.4: each of `tilings` grids of `tiles` by `tiles` is shifted
    by a fraction of a tile, asymmetrically by 1 and 3 units, and a state lies in one tile of each.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        low: tuple[float, float],
        high: tuple[float, float],
        tilings: int,
        tiles: int,
        scale: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.dynamics, self.actions = dynamics, dynamics.actions
        self.scale, self.dtype = scale, dtype
        self.reward_range = -scale, 0.0
        self.width = tiles + 1
        self.feature_count = tilings * self.width**2
        self.initial_weights = torch.zeros(self.feature_count)
        self.low = torch.tensor(low, dtype=torch.float64, device=device)
        self.per_unit = tiles / (torch.tensor(high, dtype=torch.float64, device=device) - self.low)
        number = torch.arange(tilings, device=device)
        self.shifts = (number[:, None] * torch.tensor([1, 3], device=device) / tilings) % 1
        self.first = number * self.width**2
        self.ones = torch.ones(1, 1, dtype=dtype, device=device)

    def start(self, luck: Luck, moment: Moment) -> Float[Tensor, "players state"]:
        """The task's own start."""
        uniform = luck.uniforms(Purpose.START, moment, self.dynamics.state_size)
        return self.dynamics.reset(uniform.T)

    def step(self, state: Tensor, action: Int[Tensor, " players"], move: Tensor) -> Outcome:  # noqa: ARG002
        """The task's own dynamics, in float64."""
        next_state, reward, terminated = self.dynamics.step(state, action)
        return Outcome(next_state, (reward * self.scale).to(self.dtype), terminated, None)

    def features(
        self, state: Tensor
    ) -> tuple[Int[Tensor, "players k"], Float[Tensor, "#players #k"]]:
        """One tile of each tiling."""
        place = ((state - self.low) * self.per_unit)[:, None, :] + self.shifts
        tile = place.floor().long().clamp(0, self.width - 1)
        return self.first + tile[..., 0] * self.width + tile[..., 1], self.ones
