"""Environments: what is refused and in which words, what is wrapped, what is told."""

import sys
from typing import Any

import gym_examples  # noqa: F401
import gymnasium as gym
import numpy as np
import pytest
from gym_examples import BIT, Example
from gymnasium import spaces

from applications.td.environment_trial import trial
from applications.td.environment_wrappers import (
    ScaledReward,
    Standardized,
    VisibleFrames,
    is_binary,
)
from applications.td.gym_environments import GymTask, UnfitEnvironmentError, make, task_of


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ("Carpole-v1", "unknown Gymnasium environment 'Carpole-v1'.*Near it: CartPole-v1"),
        ("CartPole-v9", r"Near it: CartPole-v1"),
        ("CliffWalking-v0", "use `CliffWalking-v1`"),
        ("Taxi-v3", "use `Taxi-v4`"),
        ("HalfCheetah-v3", "gymnasium-robotics"),
        ("no_such_module:Thing-v0", "No module named 'no_such_module'"),
    ],
)
def test_ids_that_cannot_be_made_are_answered_with_what_can(environment: str, words: str) -> None:
    with pytest.raises(UnfitEnvironmentError, match=words):
        task_of(environment)


@pytest.mark.parametrize(
    ("environment", "module", "extra"),
    [
        ("LunarLander-v3", "Box2D", "box2d"),
        ("HalfCheetah-v5", "mujoco", "mujoco"),
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("MinAtar/Breakout-v1", "minatar.gym", "minatar"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    environment: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for imported in list(sys.modules):
        if imported.startswith(("gymnasium.envs.box2d", "gymnasium.envs.mujoco", module)):
            monkeypatch.delitem(sys.modules, imported)
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    if environment in gym.registry and "/" in environment:
        monkeypatch.delitem(gym.registry, environment)
    with pytest.raises(UnfitEnvironmentError, match=rf'pip install .*"\.\[{extra}\]"'):
        task_of(environment)


def test_arguments_reach_the_environment_and_mistakes_in_them_are_told() -> None:
    arguments = "map_name=8x8", "is_slippery=false"
    made = make(task_of("FrozenLake-v1", arguments))
    assert made.observation_space == spaces.Discrete(64)
    assert made.unwrapped.spec is not None
    assert made.unwrapped.spec.kwargs["is_slippery"] is False
    with pytest.raises(UnfitEnvironmentError, match="unexpected keyword argument 'slippery'"):
        task_of("FrozenLake-v1", ("slippery=false",))
    with pytest.raises(UnfitEnvironmentError, match="write it as is_slippery=false"):
        task_of("FrozenLake-v1", ("slippery",))


def test_spaces_that_no_agent_can_use_are_refused() -> None:
    with pytest.raises(UnfitEnvironmentError, match="do not flatten"):
        make(GymTask(environment="Example-v0", arguments=("kind=text",)))
    with pytest.raises(UnfitEnvironmentError, match="choose in a Discrete space"):
        make(GymTask(environment="Pair-v0"))


@pytest.mark.parametrize("first", [0, 3])
def test_an_observation_that_is_not_finite_is_named_with_its_time_step(first: int) -> None:
    arguments = "kind=vector", f"faulty_from={first}"
    task = GymTask(environment="Example-v0", arguments=arguments)
    with pytest.raises(UnfitEnvironmentError, match=rf"nan.* at time step {first} of an episode"):
        trial(task)


def test_only_what_a_user_should_know_is_told() -> None:
    assert trial(GymTask(environment="Example-v0")) == []
    assert trial(GymTask(environment="CartPole-v1")) == []
    (notice,) = trial(GymTask(environment="Unseeded-v0"))
    assert "does not repeat an episode of the same seed" in notice


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"discount": 1.1}, "discount = 1.1"),
        ({"discount": -0.1}, "in \\[0, 1\\]"),
        ({"max_episode_steps": 0}, "max_episode_steps = 0"),
        ({"max_time_steps": 0}, "max_time_steps = 0"),
        ({"eval_episodes": -1}, "eval_episodes = -1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GymTask(environment="CartPole-v1", **setting)


def test_rewards_are_scaled_by_the_deviation_of_their_discounted_sums() -> None:
    given = np.random.default_rng(0).normal(2.0, 5.0, size=12)
    rewards = iter(given)
    env = Example()
    env.step = lambda action: (0, float(next(rewards)), False, False, {})  # type: ignore
    scaled, sums, found = ScaledReward(env, 0.9), [], []
    for episode in (given[:5], given[5:]):
        scaled.reset()
        total = 0.0
        for reward in episode:
            found.append(float(scaled.step(0)[1]) * (np.std([*sums, 0.9 * total + reward]) or 1.0))
            total = 0.9 * total + reward
            sums.append(total)
    assert found == pytest.approx(given.tolist())


def test_observations_are_normalised_and_an_evaluation_moves_nothing() -> None:
    seen = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 2))
    task = GymTask(environment="Example-v0", arguments=("kind=vector",))
    env = Standardized(make(task), 0.9, normalize=True)
    assert env.normalizer is not None
    for observation in seen:
        env.normalizer.observation(observation)
    scales = env.scales()
    np.testing.assert_allclose(scales["mean"], seen.mean(0), rtol=1e-3)
    np.testing.assert_allclose(scales["variance"], seen.var(0), rtol=1e-3)
    other = Standardized(make(task), 0.9, normalize=True)
    other.take_over(scales)
    other.freeze()
    other.reset(seed=0)
    other.step(1)
    for name, value in other.scales().items():
        if name != "reward":
            np.testing.assert_array_equal(value, scales[name])


def test_what_is_zeros_and_ones_by_nature_is_known() -> None:
    binary = spaces.Box(0, 1, (3,), BIT), spaces.MultiBinary(3), spaces.Discrete(4)
    assert all(map(is_binary, (*binary, spaces.Tuple(binary))))
    assert not is_binary(spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1, (2,)))))


def test_actions_of_a_box_are_stretched_and_never_leave_it() -> None:
    env = make(GymTask(environment="Reacher-v0"))
    env.reset(seed=0)
    rewards = []
    for action in (-1.0, 0.0, 0.9999999, 5.0):
        rewards.append(float(env.step(np.array([action]))[1]))
        env.reset()
    assert rewards == pytest.approx([-1.0, -6.25, -36.0, -36.0], rel=1e-5)


def test_frames_of_videos_are_bytes_of_an_even_size() -> None:
    tiny = np.zeros((10, 11, 3))
    tiny[0, 0] = 1.0
    env = Example()
    env.render = lambda: tiny  # type: ignore[method-assign]
    frame = VisibleFrames(env).render()
    assert frame.dtype == np.uint8 and frame.shape == (240, 264, 3)
    assert (frame[:24, :24] == 255).all() and not frame[24:].any()


@pytest.mark.parametrize(
    ("module", "environment", "inputs", "actions"),
    [
        ("minatar", "MinAtar/Breakout-v1", 400, 3),
        ("ale_py", "ALE/Pong-v5", 100_800, 6),
        ("Box2D", "LunarLander-v3", 8, 4),
    ],
)
def test_environments_of_the_extras_are_made(
    module: str, environment: str, inputs: int, actions: int
) -> None:
    pytest.importorskip(module)
    made = make(task_of(environment))
    assert spaces.flatdim(made.observation_space) == inputs
    assert made.action_space == spaces.Discrete(actions)


def test_minatars_sticky_action_does_not_outlast_its_episode() -> None:
    pytest.importorskip("minatar")
    assert trial(task_of("MinAtar/Breakout-v1")) == []
    used, fresh = (make(task_of("MinAtar/Breakout-v1")) for _ in range(2))
    used.reset(seed=1)
    for _ in range(5):
        used.step(2)
    for env in (used, fresh):
        env.reset(seed=3)
    for _ in range(5):
        one, other = (env.step(1)[0] for env in (used, fresh))
        np.testing.assert_array_equal(one, other)
