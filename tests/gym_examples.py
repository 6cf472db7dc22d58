"""Small Gymnasium environments whose every number is known."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

# Gymnasium's types know no box of booleans, which MinAtar has.
BIT: Any = bool


class Example(gym.Env[Any, Any]):
    """States 0 to 4 in a row: action 1 goes on with reward 1, action 0 stays with reward -1.

    The end of the row terminates. Observations are of the kind asked for; from time step
    `faulty_from` on they are not finite.
    """

    def __init__(self, kind: str = "number", faulty_from: int = 10**9, reward: float = 1.0) -> None:
        self.kind, self.faulty_from, self.reward = kind, faulty_from, reward
        self.action_space: spaces.Space[Any] = spaces.Discrete(2)
        kinds: dict[str, spaces.Space[Any]] = {
            "number": spaces.Discrete(5),
            "later": spaces.Discrete(5, start=3),
            "vector": spaces.Box(-np.inf, np.inf, (2,), np.float32),
            "bits": spaces.Box(0, 1, (5,), BIT),
            "tuple": spaces.Tuple((spaces.Discrete(5), spaces.MultiBinary(2))),
            "text": spaces.Sequence(spaces.Discrete(5)),
        }
        self.observation_space = kinds[kind]
        self.place = self.time_step = 0

    def seen(self) -> Any:
        match self.kind:
            case "number":
                return self.place
            case "later":
                return self.place + 3
            case "bits":
                return np.arange(5) == self.place
            case "tuple":
                return self.place, np.zeros(2, np.int8)
            case _:
                faulty = self.time_step >= self.faulty_from
                return np.array([np.nan if faulty else self.place, 1], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place = self.time_step = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time_step += 1
        self.place += int(action)
        over = self.place == 4
        return self.seen(), self.reward if action else -self.reward, over, False, {}


class Unseeded(Example):
    """Its first reward depends on how many episodes there were before."""

    episodes = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.episodes += 1
        self.reward = float(self.episodes)
        return super().reset(seed=seed, options=options)


class Pair(Example):
    """Two actions at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.MultiDiscrete([2, 2])


class Reacher(gym.Env[Any, Any]):
    """One observation, 1; reward -(action - 2)^2 for an action in [1, 8]; one time step."""

    def __init__(self) -> None:
        self.action_space = spaces.Box(1.0, 8.0, (1,), np.float32)
        self.observation_space = spaces.Box(0.0, 2.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return np.ones(1, np.float32), -float((action[0] - 2) ** 2), True, False, {}


for entry_point in (Example, Unseeded, Pair, Reacher):
    gym.register(f"{entry_point.__name__}-v0", entry_point=f"{__name__}:{entry_point.__name__}")
