"""Gymnasium environments of the book, and the transition table of any tabular environment.

An environment may publish more than its table `P`: `features` (one row per state; without it each
state is a feature of its own), `initial_weights` of these, and for prediction `behaviour_policy`
and `target_policy` (probabilities of actions, one row per state; without them uniformly random).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


class TableWalk(gym.Env[np.int64, np.int64]):
    """An environment that is its table `P`; who extends it fills the table and the start."""

    P: dict[int, dict[int, list[tuple[float, int, float, bool]]]]
    initial_state_distrib: np.ndarray

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(len(self.P))
        self.action_space = spaces.Discrete(len(self.P[0]))
        self.state = int(self.initial_state_distrib.argmax())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """A first state."""
        super().reset(seed=seed, options=options)
        states = len(self.initial_state_distrib)
        self.state = int(self.np_random.choice(states, p=self.initial_state_distrib))
        return np.int64(self.state), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """One of the branches of the table."""
        branches = self.P[self.state][int(action)]
        chosen = self.np_random.choice(len(branches), p=[branch[0] for branch in branches])
        _, self.state, reward, terminated = branches[chosen]
        return np.int64(self.state), reward, terminated, False, {}


class BoyanChain(TableWalk):
    """Boyan's chain (2002, "Technical update: least-squares temporal difference learning").

    From state s >= 2 to s - 1 or s - 2 with reward -3, from 1 to 0 with -2; start at 12, end at
    0. Four features interpolate between the states 12, 8, 4 and 0. Exact: V(s) = -2 s, which is
    linear in them: weights -24, -16, -8, 0.
    """

    STATES, FEATURES = 13, 4

    def __init__(self) -> None:
        self.P = {0: {0: [(1.0, 0, 0.0, True)]}, 1: {0: [(1.0, 0, -2.0, True)]}}
        for s in range(2, self.STATES):
            self.P[s] = {0: [(0.5, to, -3.0, to == 0) for to in (s - 1, s - 2)]}
        self.initial_state_distrib = np.eye(self.STATES)[-1]
        away = (self.STATES - 1 - np.arange(self.STATES)) / 4
        self.features = (1 - abs(away[:, None] - np.arange(self.FEATURES))).clip(0)
        super().__init__()


class Baird(TableWalk):
    """Baird's counterexample (Sutton and Barto 2018, figure 11.1), which no rate can cure.

    Action 0 leads to one of the six upper states, action 1 to the seventh; rewards are 0. The
    behaviour takes action 0 six times in seven, the policy to be evaluated always takes action 1.
    The exact values are 0 and the eight weights can represent them; off-policy TD(0) diverges.
    """

    STATES = 7

    def __init__(self) -> None:
        upper = [(1 / 6, to, 0.0, False) for to in range(6)]
        self.P = {s: {0: upper, 1: [(1.0, 6, 0.0, False)]} for s in range(self.STATES)}
        self.initial_state_distrib = np.full(self.STATES, 1 / self.STATES)
        self.features = np.hstack([2 * np.eye(self.STATES), np.ones((self.STATES, 1))])
        self.features[6, [6, 7]] = 1, 2
        self.initial_weights = np.array([1.0, 1, 1, 1, 1, 1, 10, 1])
        self.behaviour_policy = np.tile([6 / 7, 1 / 7], (self.STATES, 1))
        self.target_policy = np.tile([0.0, 1.0], (self.STATES, 1))
        super().__init__()


for name in ("RandomWalk", "BoyanChain", "Baird"):
    gym.register(f"sciopt/{name}-v0", entry_point=f"{__name__}:{name}")


@dataclass(frozen=True)
class TransitionTable:
    """What an environment does: row = state * actions + action, then one of `outcomes` branches.

    Absent branches have probability 0. `start` is the distribution of the first state. `ratio` is
    how much likelier the branch is under the policy to be evaluated than under the one that acts.
    """

    probability: Float[Tensor, "rows outcomes"]
    next_state: Int[Tensor, "rows outcomes"]
    reward: Float[Tensor, "rows outcomes"]
    terminated: Bool[Tensor, "rows outcomes"]
    start: Float[Tensor, " states"]
    features: Float[Tensor, "states features"]
    initial_weights: Float[Tensor, " features"]
    behaviour_policy: Float[Tensor, "states actions"]
    target_policy: Float[Tensor, "states actions"]
    ratio: Float[Tensor, "rows outcomes"]

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

    def under_policy(self) -> TransitionTable:
        """The table of a single action: what the behaviour policy does, branch by branch.

        Its `ratio` corrects towards the target policy (importance sampling).
        """
        actions = self.actions
        ratio = (self.target_policy / self.behaviour_policy).reshape(-1, 1)

        def merged(column: Tensor) -> Tensor:
            return column.reshape(self.states, -1)

        return (
            replace(
                self,
                probability=merged(self.probability * self.behaviour_policy.reshape(-1, 1)),
                next_state=merged(self.next_state),
                reward=merged(self.reward),
                terminated=merged(self.terminated),
                ratio=merged(ratio.expand(-1, self.probability.shape[1])),
                behaviour_policy=torch.ones(self.states, 1).double(),
                target_policy=torch.ones(self.states, 1).double(),
            )
            if actions > 1
            else self
        )


def transition_table(environment: str) -> TransitionTable:
    """The table `P` of a Gymnasium environment, in float64 on the CPU.

    Raises:
        ValueError: an unknown id (the nearest ones are named), or an environment without a table.
    """
    if environment not in gym.registry:
        near = get_close_matches(environment, gym.registry, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown Gymnasium environment {environment!r}{hint}")
    try:
        made = gym.make(environment)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"Gymnasium cannot make {environment}: {error}") from error
    inner: Any = made.unwrapped
    table, start = getattr(inner, "P", None), getattr(inner, "initial_state_distrib", None)
    made.close()
    if table is None or start is None:
        raise ValueError(
            f"{environment} publishes no transition table P with initial_state_distrib; lockstep "
            "agents need one, as FrozenLake-v1, CliffWalking-v1 and sciopt/RandomWalk-v0 have"
        )
    states, actions = len(start), len(table[0])
    rows = [table[s][a] for s in range(states) for a in range(actions)]
    outcomes = max(len(branches) for branches in rows)
    absent = (0.0, 0, 0.0, False)
    padded = [list(branches) + [absent] * (outcomes - len(branches)) for branches in rows]

    def column(index: int, dtype: torch.dtype) -> Tensor:
        values = [[branch[index] for branch in branches] for branches in padded]
        return torch.as_tensor(np.array(values), dtype=dtype)

    def published(name: str, default: np.ndarray) -> Tensor:
        return torch.as_tensor(np.array(getattr(inner, name, default)), dtype=torch.float64)

    features = published("features", np.eye(states))
    random_policy = np.full((states, actions), 1 / actions)
    return TransitionTable(
        probability=column(0, torch.float64),
        next_state=column(1, torch.int64),
        reward=column(2, torch.float64),
        terminated=column(3, torch.bool),
        start=torch.as_tensor(np.array(start), dtype=torch.float64),
        features=features,
        initial_weights=published("initial_weights", np.zeros(features.shape[1])),
        behaviour_policy=published("behaviour_policy", random_policy),
        target_policy=published("target_policy", random_policy),
        ratio=torch.ones(len(rows), outcomes, dtype=torch.float64),
    )


def bootstrap_discount(discount: float, terminated: Bool[Tensor, "*batch"]) -> Tensor:
    """The discount_t of a transition, discount * (1 - terminated), in float64.

    The one place where the end of an episode enters the learning: the value of a terminal state
    is 0, while a truncated episode would have gone on, so its last state keeps its value. That is
    why `truncated` is no argument.
    """
    return discount * (~terminated).double()
