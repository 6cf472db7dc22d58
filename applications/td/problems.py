"""What is to be learnt: the values of an environment's random policy, or a good policy for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A tabular Gymnasium environment; one step is one episode of every agent."""

    environment: str
    """Gymnasium id of an environment with a transition table."""
    task: Literal["prediction", "control"]
    """Prediction: the values of the uniformly random policy. Control: the best policy."""
    discount: float
    """Discount per time step, in [0, 1]."""
    max_episode_steps: int
    """Time limit: the episode is truncated after so many time steps."""
    reward_noise: float = 0.0
    """Standard deviation of normal noise on every reward, in units of the environment's reward."""
    reward_scale: float = 1.0
    """Factor on every reward, its noise included."""
    agents: int = 40
    """Independent agents for each coefficient of a method; they share no luck."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise ValueError(f"got discount = {self.discount}; use a number in [0, 1]")
        if self.agents < 1 or self.max_episode_steps < 1:
            raise ValueError(
                f"got agents = {self.agents} and max_episode_steps = {self.max_episode_steps}; "
                "use 1 or more of each"
            )
        # Squares of rewards and of diverging values must stay within float32's range.
        if not (0 <= self.reward_noise <= 1e9 and 1e-9 <= self.reward_scale <= 1e9):
            raise ValueError(
                f"got reward_noise = {self.reward_noise} and reward_scale = {self.reward_scale}; "
                "use a standard deviation in [0, 1e9] and a factor in [1e-9, 1e9]"
            )


@dataclass(frozen=True, kw_only=True)
class RandomWalk(Problem):
    """Predict the values of the 19-state random walk; exact: V(i) = -1 + i/10."""

    environment: str = "sciopt/RandomWalk-v0"
    task: Literal["prediction", "control"] = "prediction"
    discount: float = 1.0
    # An episode this long has probability below 1e-50: the walk as the book has it, without limit.
    max_episode_steps: int = 10_000


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


PROBLEMS: Mapping[str, Problem] = {
    "walk": RandomWalk(),
    "noisy-walk": RandomWalk(reward_noise=0.3),
    "frozen-lake": FrozenLake(),
    "cliff-walking": CliffWalking(),
}
