"""What is to be learnt: the values of a policy, or a good policy, in a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from applications.td.dynamics import MountainCar as MountainCarDynamics
from applications.td.environments import TransitionTable, transition_table
from applications.td.exact_values import optimal_action_values, policy_values
from applications.td.philox import Luck, Moment, Purpose
from applications.td.worlds import TableWorld, TiledWorld, World

# One reward in so many is struck by an outlier.
OUTLIER_SHARE = 0.01

_table = cache(transition_table)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A tabular Gymnasium environment; one step is `episodes_per_step` episodes of every agent."""

    environment: str
    """Gymnasium id of an environment with a transition table."""
    task: Literal["prediction", "control"]
    """Prediction: the values of the environment's target policy, by default the uniformly random
    one. Control: the best policy."""
    discount: float
    """Discount per time step, in [0, 1]."""
    max_episode_steps: int
    """Time limit: the episode is truncated after so many time steps."""
    reward_noise: float = 0.0
    """Size of the noise on every reward, in units of the environment's reward."""
    noise_kind: Literal["normal", "student", "outliers"] = "normal"
    """normal: of that standard deviation; student: Student's t with 2 degrees of freedom times the
    size; outliers: plus or minus the size for one reward in a hundred, else 0."""
    reward_scale: float = 1.0
    """Factor on every reward, its noise included."""
    switch_episode: int = 0
    """After so many episodes all rewards change their sign; 0: never."""
    episodes_per_step: int = 1
    """Who has finished an episode goes on with the next at once, until so many are done."""
    agents: int = 40
    """Independent agents for each setting of a method; they share no luck."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise ValueError(f"got discount = {self.discount}; use a number in [0, 1]")
        for name in ("agents", "max_episode_steps", "episodes_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"got {name} = {getattr(self, name)}; use 1 or more")
        if self.switch_episode < 0:
            raise ValueError(f"got switch_episode = {self.switch_episode}; use 0 (never) or more")
        # Squares of rewards and of diverging values must stay within float32's range.
        if not (0 <= self.reward_noise <= 1e9 and 1e-9 <= self.reward_scale <= 1e9):
            raise ValueError(
                f"got reward_noise = {self.reward_noise} and reward_scale = {self.reward_scale}; "
                "use a standard deviation in [0, 1e9] and a factor in [1e-9, 1e9]"
            )

    def table(self) -> TransitionTable:
        """What the environment does; for prediction, under its behaviour policy."""
        table = _table(self.environment)
        return table.under_policy() if self.task == "prediction" else table

    def world(self, dtype: torch.dtype, device: torch.device) -> World:
        """The environment as a tensor program."""
        return TableWorld(self.table(), self.reward_scale, dtype, device)

    def exact(self) -> Float[Tensor, " states"] | None:
        """The values that are to be learnt, or the optimal ones; None where nobody knows."""
        table = _table(self.environment)
        if self.task == "prediction":
            return policy_values(table, self.discount) * self.reward_scale
        return optimal_action_values(table, self.discount).amax(-1) * self.reward_scale

    def sign(self, episode: Int[Tensor, " players"]) -> Float[Tensor, " players"]:
        """-1 for the rewards of episodes (from 1) after the switch, else 1."""
        switched = (episode > self.switch_episode) & (self.switch_episode > 0)
        return torch.where(switched, -1.0, 1.0)

    def noise(
        self, luck: Luck, moment: Moment, count: int
    ) -> Float[Tensor, "count players"] | None:
        """What is added to the next `count` rewards, in float64; None without noise."""
        if self.reward_noise == 0:
            return None
        size = self.reward_noise * self.reward_scale
        uniform = luck.uniforms(Purpose.NOISE, moment, count)
        if self.noise_kind == "outliers":
            struck = uniform < OUTLIER_SHARE
            return size * (struck * torch.where(uniform < OUTLIER_SHARE / 2, -1.0, 1.0))
        normal = torch.special.ndtri(uniform)
        if self.noise_kind == "student":
            # Half a chi-squared of two degrees of freedom is exponential.
            spread = -luck.uniforms(Purpose.SPREAD, moment, count).log()
            normal = normal / spread.sqrt()
        return size * normal


@dataclass(frozen=True, kw_only=True)
class RandomWalk(Problem):
    """Predict the values of the 19-state random walk; exact: V(i) = -1 + i/10."""

    environment: str = "sciopt/RandomWalk-v0"
    task: Literal["prediction", "control"] = "prediction"
    discount: float = 1.0
    # An episode this long has probability below 1e-50: the walk as the book has it, without limit.
    max_episode_steps: int = 10_000


@dataclass(frozen=True, kw_only=True)
class BoyanChain(Problem):
    """Predict the values of Boyan's chain from four interpolating features; V(s) = -2 s."""

    environment: str = "sciopt/BoyanChain-v0"
    task: Literal["prediction", "control"] = "prediction"
    discount: float = 1.0
    max_episode_steps: int = 100


@dataclass(frozen=True, kw_only=True)
class Baird(Problem):
    """Baird's counterexample: off-policy values, all 0, that TD(0) diverges from at any rate."""

    environment: str = "sciopt/Baird-v0"
    task: Literal["prediction", "control"] = "prediction"
    discount: float = 0.99
    max_episode_steps: int = 100


@dataclass(frozen=True, kw_only=True)
class FrozenLake(Problem):
    """Cross the slippery 4x4 lake; reward 1 at the goal, optimal start value .542026."""

    environment: str = "FrozenLake-v1"
    task: Literal["prediction", "control"] = "control"
    discount: float = 0.99
    max_episode_steps: int = 100


@dataclass(frozen=True, kw_only=True)
class CliffWalking(Problem):
    """Walk along the cliff; reward -1 a time step, -100 for a fall, optimal start value -13."""

    environment: str = "CliffWalking-v1"
    task: Literal["prediction", "control"] = "control"
    discount: float = 1.0
    max_episode_steps: int = 500


@dataclass(frozen=True, kw_only=True)
class Taxi(Problem):
    """Fetch a passenger; -1 a time step, -10 for a mistake, 20 at the end; start mean 6.327464."""

    environment: str = "Taxi-v4"
    task: Literal["prediction", "control"] = "control"
    discount: float = 0.99
    max_episode_steps: int = 200


@dataclass(frozen=True, kw_only=True)
class MountainCar(Problem):
    """Drive a weak car up a hill, its position and speed tile-coded; reward -1 a time step."""

    environment: str = "MountainCar-v0"
    task: Literal["prediction", "control"] = "control"
    discount: float = 1.0
    max_episode_steps: int = 1000
    agents: int = 10
    tilings: int = 8
    """Shifted grids; each state lies in one tile of each."""
    tiles: int = 8
    """Tiles of a grid along position and along speed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tilings < 1 or self.tiles < 1 or self.task != "control":
            raise ValueError(
                f"got task = {self.task!r}, tilings = {self.tilings} and tiles = {self.tiles}; "
                'use task "control" and 1 or more of each'
            )

    def world(self, dtype: torch.dtype, device: torch.device) -> World:
        """The car and its tiles."""
        car = MountainCarDynamics()
        low = (car.LEFT_END, -car.MOST_SPEED)
        high = (car.RIGHT_END, car.MOST_SPEED)
        return TiledWorld(
            car, low, high, self.tilings, self.tiles, self.reward_scale, dtype, device
        )

    def exact(self) -> Float[Tensor, " states"] | None:
        """Nobody knows."""
        return None


PROBLEMS: Mapping[str, Problem] = {
    "walk": RandomWalk(),
    "noisy-walk": RandomWalk(reward_noise=0.3),
    "boyan-chain": BoyanChain(),
    "baird": Baird(),
    "frozen-lake": FrozenLake(),
    "cliff-walking": CliffWalking(),
    "taxi": Taxi(),
    "mountain-car": MountainCar(),
}
