"""Gymnasium environments as tensors: the random walk, and transition tables of any tabular one."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEFT, RIGHT = 0, 1


class RandomWalk(gym.Env[np.int64, np.int64]):
    """The random walk of Sutton and Barto, "Reinforcement learning" (2018), examples 6.2 and 7.1.

    States 1 to `states` in a row, start in the middle; the ends 0 and `states + 1` terminate with
    reward -1 and +1, every other reward is 0. Actions are 0, to the left, and 1, to the right:
    the walk is what the uniformly random policy does. Rewards are then disturbed by normal noise
    of standard deviation `reward_noise`, and all is multiplied by `reward_scale`.

    `P` is the transition table in the toy-text format, without the noise.
    """

    def __init__(
        self, states: int = 19, reward_noise: float = 0.0, reward_scale: float = 1.0
    ) -> None:
        if states < 1 or states % 2 == 0:
            raise ValueError(
                f"got states = {states}; the walk starts in the middle, so use an odd number >= 1"
            )
        if reward_noise < 0:
            raise ValueError(f"got reward_noise = {reward_noise}; use a standard deviation >= 0")
        self.reward_noise = reward_noise
        self.reward_scale = reward_scale
        self.observation_space = spaces.Discrete(states + 2)
        self.action_space = spaces.Discrete(2)
        ends = {0: -1.0, states + 1: 1.0}
        self.P: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {
            end: {action: [(1.0, end, 0.0, True)] for action in (LEFT, RIGHT)} for end in ends
        }
        for s in range(1, states + 1):
            self.P[s] = {
                action: [(1.0, to, ends.get(to, 0.0) * reward_scale, to in ends)]
                for action, to in ((LEFT, s - 1), (RIGHT, s + 1))
            }
        self.initial_state_distrib = np.zeros(states + 2)
        self.initial_state_distrib[(states + 1) // 2] = 1.0
        self.state = (states + 1) // 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Back to the middle."""
        super().reset(seed=seed, options=options)
        self.state = int(self.initial_state_distrib.argmax())
        return np.int64(self.state), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """One place to the left or to the right."""
        _, self.state, reward, terminated = self.P[self.state][int(action)][0]
        reward += self.reward_noise * self.reward_scale * self.np_random.standard_normal()
        return np.int64(self.state), reward, terminated, False, {}


gym.register("sciopt/RandomWalk-v0", entry_point=f"{__name__}:RandomWalk")


@dataclass(frozen=True)
class TransitionTable:
    """What an environment does: row = state * actions + action, then one of `outcomes` branches.

    Absent branches have probability 0. `start` is the distribution of the first state and
    `max_episode_steps` the time limit after which an episode is truncated.
    """

    probability: Float[Tensor, "rows outcomes"]
    next_state: Int[Tensor, "rows outcomes"]
    reward: Float[Tensor, "rows outcomes"]
    terminated: Bool[Tensor, "rows outcomes"]
    start: Float[Tensor, " states"]
    max_episode_steps: int

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.start)

    @property
    def actions(self) -> int:
        """Number of actions in each state."""
        return len(self.probability) // len(self.start)

    @property
    def terminal(self) -> Bool[Tensor, " states"]:
        """Which states end an episode."""
        ends = torch.zeros(self.states, dtype=torch.bool)
        ends[self.next_state[self.terminated]] = True
        return ends

    @property
    def thresholds(self) -> Float[Tensor, "rows outcomes"]:
        """Upper ends of the branches' shares of [0, 1), as Gymnasium draws from them.

        The branch of a uniform number u is the count of thresholds <= u. The last one that can
        occur, and those after it, are infinite, so that rounding never leads past it.
        """
        rest = self.probability.flip(-1).cumsum(-1).flip(-1) - self.probability
        return torch.where(rest > 0, self.probability.cumsum(-1), torch.inf)


def transition_table(environment: str, max_episode_steps: int) -> TransitionTable:
    """The table `P` of a Gymnasium environment, in float64 on the CPU.

    Raises:
        ValueError: an unknown id (the nearest ones are named), or an environment without a table.
    """
    if environment not in gym.registry:
        near = get_close_matches(environment, gym.registry, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown Gymnasium environment {environment!r}{hint}")
    try:
        made = gym.make(environment, max_episode_steps=max_episode_steps)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"Gymnasium cannot make {environment}: {error}") from error
    table: Any = getattr(made.unwrapped, "P", None)
    start: Any = getattr(made.unwrapped, "initial_state_distrib", None)
    made.close()
    if table is None or start is None:
        raise ValueError(
            f"{environment} publishes no transition table P with initial_state_distrib; lockstep "
            "agents need one, as FrozenLake-v1, CliffWalking-v1 and sciopt/RandomWalk-v0 have"
        )
    rows = [table[s][a] for s in range(len(start)) for a in range(len(table[0]))]
    outcomes = max(len(branches) for branches in rows)
    absent = (0.0, 0, 0.0, False)
    padded = [list(branches) + [absent] * (outcomes - len(branches)) for branches in rows]

    def column(index: int, dtype: torch.dtype) -> Tensor:
        values = [[branch[index] for branch in branches] for branches in padded]
        return torch.as_tensor(np.array(values), dtype=dtype)

    return TransitionTable(
        probability=column(0, torch.float64),
        next_state=column(1, torch.int64),
        reward=column(2, torch.float64),
        terminated=column(3, torch.bool),
        start=torch.as_tensor(np.array(start), dtype=torch.float64),
        max_episode_steps=max_episode_steps,
    )


def bootstrap_discount(discount: float, terminated: Bool[Tensor, "*batch"]) -> Tensor:
    """The discount_t of a transition, discount * (1 - terminated), in float64.

    The one place where the end of an episode enters the learning: the value of a terminal state
    is 0, while a truncated episode would have gone on, so its last state keeps its value. That is
    why `truncated` is no argument.
    """
    return discount * (~terminated).double()
