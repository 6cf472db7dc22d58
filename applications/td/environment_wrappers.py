"""Wrappers around environments that Gymnasium lacks, or has without what is needed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces, wrappers

Env = gym.Env[Any, Any]
SMALLEST_PICTURE = 240
"""Pixels that the shorter side of a video's frame has at least."""


class ScaledReward(gym.Wrapper[Any, Any, Any, Any]):
    """Rewards divided by the standard deviation of their discounted sums so far.

    The sum begins anew in every episode. Before two of them differ, rewards are left as they are:
    Gymnasium's NormalizeReward starts from a variance of 1e-4, which makes the first reward count
    70-fold, and carries the sum over truncated episodes.
    """

    def __init__(self, env: Env, discount: float) -> None:
        super().__init__(env)
        self.discount = discount
        self.count, self.mean, self.square, self.sum = 0, 0.0, 0.0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin a new sum."""
        self.sum = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One time step, its reward scaled (Welford 1962 for the variance)."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.sum = self.discount * self.sum + float(reward)
        self.count += 1
        before = self.sum - self.mean
        self.mean += before / self.count
        self.square += before * (self.sum - self.mean)
        scale = (self.square / self.count) ** 0.5 or 1.0
        return observation, float(reward) / scale, terminated, truncated, info


class Standardized(gym.Wrapper[Any, Any, Any, Any]):
    """An environment seen by a network, with all that its scales remember.

    Observations are flat and, with `normalize`, of mean 0 and variance 1 over all seen so far;
    with a `discount` rewards are those of `ScaledReward`.
    """

    def __init__(self, env: Env, discount: float | None, *, normalize: bool) -> None:
        seen = wrappers.FlattenObservation(env)
        self.normalizer = wrappers.NormalizeObservation(seen) if normalize else None
        scaled = self.normalizer or seen
        self.scaler = None if discount is None else ScaledReward(scaled, discount)
        super().__init__(self.scaler or scaled)

    def freeze(self) -> None:
        """Let no observation change the scales, as in an evaluation."""
        if self.normalizer is not None:
            self.normalizer.update_running_mean = False

    def scales(self) -> dict[str, Any]:
        """All that is remembered between episodes, as arrays of numbers."""
        kept: dict[str, Any] = {}
        if self.normalizer is not None:
            seen = self.normalizer.obs_rms
            kept |= {"mean": seen.mean.copy(), "variance": seen.var.copy(), "count": seen.count}
        if self.scaler is not None:
            kept["reward"] = np.array([self.scaler.count, self.scaler.mean, self.scaler.square])
        return {name: np.asarray(value) for name, value in kept.items()}

    def take_over(self, scales: Mapping[str, np.ndarray]) -> None:
        """Remember what another one did."""
        if self.normalizer is not None:
            seen = self.normalizer.obs_rms
            seen.mean, seen.var = scales["mean"].copy(), scales["variance"].copy()
            seen.count = float(scales["count"])
        if self.scaler is not None:
            count, self.scaler.mean, self.scaler.square = scales["reward"].tolist()
            self.scaler.count = int(count)


class ForgetfulMinAtar(gym.Wrapper[Any, Any, Any, Any]):
    """MinAtar whose sticky action does not stick from one episode to the next.

    Otherwise an episode would depend on more than its seed.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin with no action to stick to."""
        game: Any = self.env.unwrapped
        game.game.last_action = 0
        return self.env.reset(seed=seed, options=options)


class VisibleFrames(gym.Wrapper[Any, Any, Any, Any]):
    """Frames that a video can hold: bytes, an even number of pixels, and not tiny."""

    def render(self) -> Any:
        """The frame; MinAtar's are of 10 x 10 pixels between 0 and 1."""
        frame: Any = self.env.render()
        if frame.dtype != np.uint8:
            frame = np.clip(frame * 255, 0, 255).astype(np.uint8)
        times = -(-SMALLEST_PICTURE // min(frame.shape[:2]))
        frame = frame.repeat(times, axis=0).repeat(times, axis=1)
        return frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2]


def is_binary(space: spaces.Space[Any]) -> bool:
    """Whether flat observations are zeros and ones, one-hot numbers included."""
    match space:
        case spaces.Box():
            return space.dtype == np.bool_
        case spaces.Tuple():
            return all(map(is_binary, space.spaces))
        case spaces.Dict():
            return all(map(is_binary, space.spaces.values()))
        case _:
            return True


def normalized_actions(env: Env) -> Env:
    """Actions of a bounded box as numbers of which -1 and 1 are its bounds; others are cut.

    Gymnasium's RescaleAction may leave the box by a rounding error, which some environments refuse.
    """
    box = env.action_space
    if not isinstance(box, spaces.Box) or not box.is_bounded("both"):
        return env
    middle, half = (box.low + box.high) / 2, (box.high - box.low) / 2

    def stretched(action: np.ndarray) -> np.ndarray:
        return np.clip(middle + half * action, box.low, box.high).astype(box.dtype)

    return wrappers.TransformAction(env, stretched, spaces.Box(-1.0, 1.0, box.shape, np.float32))
