from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from applications.td.dynamics import DYNAMICS, Acrobot

NAMES = pytest.mark.parametrize("name", DYNAMICS)
STATES = 3000
# Where states are drawn from: beyond the limits where there are some.
RANGES = {
    "CartPole-v1": [(-2.6, 2.6), (-3.0, 3.0), (-0.25, 0.25), (-3.0, 3.0)],
    "MountainCar-v0": [(-1.2, 0.6), (-0.07, 0.07)],
    "Acrobot-v1": [(-3.14, 3.14), (-3.14, 3.14), (-12.5, 12.5), (-28.2, 28.2)],
}


def gymnasium_environment(name) -> Any:
    environment = gym.make(name)
    environment.reset(seed=0)
    return environment.unwrapped


def put(environment, state):
    environment.state = state.copy()
    environment.steps_beyond_terminated = None


@NAMES
def test_a_step_is_gymnasiums_from_thousands_of_states(name):
    dynamics, environment = DYNAMICS[name], gymnasium_environment(name)
    rng = np.random.default_rng(1)
    low, high = np.array(RANGES[name]).T
    states = rng.uniform(low, high, (STATES, len(low)))
    actions = rng.integers(dynamics.actions, size=STATES)
    after, rewards, terminated = dynamics.step(torch.tensor(states), torch.tensor(actions))
    seen = dynamics.observation(after)
    for i, (state, action) in enumerate(zip(states, actions, strict=True)):
        put(environment, state)
        observation, reward, ended, _, _ = environment.step(int(action))
        np.testing.assert_allclose(after[i], environment.state, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(seen[i], observation, rtol=1e-6, atol=1e-6)
        assert (float(rewards[i]), bool(terminated[i])) == (reward, ended)
    assert terminated.any() and not terminated.all()


@NAMES
def test_a_whole_episode_is_gymnasiums(name):
    dynamics, environment = DYNAMICS[name], gymnasium_environment(name)
    environment.reset(seed=5)
    state = torch.tensor(np.array(environment.state), dtype=torch.float64)
    actions = np.random.default_rng(2).integers(dynamics.actions, size=100)
    for action in actions:
        state, _, terminated = dynamics.step(state, torch.tensor(action))
        _, _, ended, _, _ = environment.step(int(action))
        assert bool(terminated) == ended
        np.testing.assert_allclose(state, environment.state, rtol=1e-8, atol=1e-8)
        if ended:
            break


@NAMES
def test_first_states_are_gymnasiums_given_the_same_uniform_numbers(name):
    dynamics, environment = DYNAMICS[name], gymnasium_environment(name)
    for seed in range(20):
        expected, _ = environment.reset(seed=seed)
        uniform = np.random.default_rng(seed).random(dynamics.state_size)
        first = dynamics.reset(torch.tensor(uniform))
        np.testing.assert_allclose(first, environment.state, rtol=1e-14, atol=1e-16)
        np.testing.assert_allclose(dynamics.observation(first), expected, rtol=1e-6)


@NAMES
def test_sizes_and_time_limits_are_as_registered(name):
    dynamics, environment = DYNAMICS[name], gymnasium_environment(name)
    assert dynamics.actions == environment.action_space.n
    assert (dynamics.observation_size,) == environment.observation_space.shape
    assert dynamics.state_size == len(environment.state)
    assert dynamics.max_episode_steps == gym.spec(name).max_episode_steps


def test_angles_beyond_one_turn_are_wrapped_as_often_as_needed():
    speeds = torch.tensor([0.0, 0.0, 4 * np.pi, 9 * np.pi], dtype=torch.float64)
    state = speeds + torch.tensor([3.1, 3.1, 0.0, 0.0], dtype=torch.float64)
    after, _, _ = Acrobot().step(state, torch.tensor(2))
    assert after[:2].abs().max() <= np.pi
