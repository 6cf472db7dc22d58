"""A few time steps before training, so that what is wrong with an environment is told at once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from applications.td.environment_wrappers import Env
from applications.td.gym_environments import GymTask, UnfitEnvironmentError, make

TIME_STEPS = 50
MANY_INPUTS = 5000
"""Observations of more numbers are pictures, of which a small network without filters learns
little."""


def trial(task: GymTask) -> list[str]:
    """What a user should know of an environment before training in it, a notice each.

    It is played at random: an episode, another, and the first again, which must be the same for
    runs to be repeatable and resumable.

    Raises:
        UnfitEnvironmentError: an observation or a reward that is not finite, with its time step.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        environment = make(task, checked=True)
        first, _, again = (list(_played(environment, task, seed)) for seed in (1, 2, 1))
        environment.close()
    # Gymnasium colours its warnings for terminals; those of its own insides concern nobody here.
    messages = [re.sub(r"\x1b\[\d+m", "", str(warning.message)) for warning in caught]
    notices = [message for message in dict.fromkeys(messages) if message.startswith("WARN")]
    if not all(_same(one, other) for one, other in zip(first, again, strict=False)):
        notices.append(
            f"{task.environment} does not repeat an episode of the same seed after another one: "
            "runs cannot be repeated, nor resumed exactly"
        )
    inputs = spaces.flatdim(environment.observation_space)
    if inputs > MANY_INPUTS and not isinstance(environment.observation_space, spaces.Discrete):
        notices.append(
            f"{task.environment} has observations of {inputs} numbers; a small network without "
            "filters learns slowly from pictures, and little. Atari games have "
            "--arguments obs_type=ram"
        )
    return notices


def _played(environment: Env, task: GymTask, seed: int) -> Iterator[tuple[Any, float]]:
    """Observations and rewards of the beginning of a random episode."""
    environment.action_space.seed(seed)
    observation, _ = environment.reset(seed=seed)
    reward, over = 0.0, False
    for time_step in range(TIME_STEPS):
        flat: Any = spaces.flatten(environment.observation_space, observation)
        if not (np.isfinite(flat).all() and np.isfinite(reward)):
            raise UnfitEnvironmentError(
                f"{task.environment} gave the observation {flat} and the reward {reward} at time "
                f"step {time_step} of an episode played at random; both must be finite"
            )
        yield flat, reward
        if over:
            return
        action = environment.action_space.sample()
        observation, number, terminated, truncated, _ = environment.step(action)
        reward, over = float(number), terminated or truncated


def _same(one: tuple[Any, float], other: tuple[Any, float]) -> bool:
    return np.array_equal(one[0], other[0]) and one[1] == other[1]
