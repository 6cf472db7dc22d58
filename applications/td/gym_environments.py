"""Any Gymnasium environment made ready for one agent: found by its id, checked, wrapped.

Wrapped from the inside out: a time limit, the episode's statistics in the environment's own
rewards and, for networks, flat observations, then normalised ones, and scaled rewards.
"""

from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import gymnasium as gym
import tyro
from gymnasium import spaces, wrappers

from applications.td.environment_wrappers import Env, ForgetfulMinAtar, normalized_actions

LONGEST_EPISODE = 10_000
"""Time limit of environments that have none, as CliffWalking-v1, MinAtar's and Atari's."""
REGISTERED_BY = {"ALE": ("ale_py", "atari"), "MinAtar": ("minatar.gym", "minatar")}
"""Namespaces of ids that another package registers: its module and our extra that brings it."""
OWN_EXTRAS = ("box2d", "mujoco")
"""Gymnasium's own families that need more packages, and our extras of the same names."""

# pygame greets on the terminal and looks for a screen; neither is wanted.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


class UnfitEnvironmentError(ValueError):
    """An environment that cannot be made or learnt from; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class GymTask:
    """A Gymnasium environment to be mastered; one step of training is one episode."""

    environment: tyro.conf.Suppress[str]
    """Gymnasium id, as CartPole-v1, MinAtar/Breakout-v1 or my_module:MyEnvironment-v0"""
    arguments: tuple[str, ...] = ()
    """of the environment, each as name=value, the value in JSON or a word"""
    max_episode_steps: int = LONGEST_EPISODE
    """time limit: an episode is truncated after so many time steps"""
    discount: float = 0.99
    """discount per time step, in [0, 1]"""
    max_time_steps: int | None = None
    """training ends after the episode that reaches so many time steps in all"""
    eval_episodes: int = 20
    """episodes of the evaluation after training, in an environment of its own; 0 for none"""
    eval_policy: Literal["greedy", "exploring"] = "greedy"
    """what is evaluated: the action thought best, or the policy that explores"""
    eval_along: bool = False
    """evaluate at every point of the curve too, with the clock stopped"""

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise UnfitEnvironmentError(f"got discount = {self.discount}; use a number in [0, 1]")
        limits = self.max_episode_steps, 1 if self.max_time_steps is None else self.max_time_steps
        if min(limits) < 1 or self.eval_episodes < 0:
            raise UnfitEnvironmentError(
                f"got max_episode_steps = {self.max_episode_steps}, max_time_steps = "
                f"{self.max_time_steps} and eval_episodes = {self.eval_episodes}; use 1 or more "
                "time steps, and 0 or more episodes"
            )


def task_of(environment: str, arguments: tuple[str, ...] = ()) -> GymTask:
    """The task with the id's newest version and the environment's own time limit filled in.

    Raises:
        UnfitEnvironmentError: as `make` does.
    """
    made = _made(environment, arguments, None)
    made.close()
    module, colon, _ = environment.rpartition(":")
    limit = None if made.spec is None else made.spec.max_episode_steps
    return GymTask(
        environment=environment if made.spec is None else module + colon + made.spec.id,
        arguments=arguments,
        max_episode_steps=limit or LONGEST_EPISODE,
    )


def make(task: GymTask, *, checked: bool = False, render_mode: str | None = None) -> Env:
    """The environment with its time limit and the statistics of its episodes.

    Integers begin at 0, and a bounded box of actions is stretched to [-1, 1]. `checked` has
    Gymnasium look at what every time step returns.

    Raises:
        UnfitEnvironmentError: an unknown or replaced id, a package that is not installed, an
            argument that the environment does not take, or spaces that no agent here can use.
    """
    made = _made(task.environment, task.arguments, task.max_episode_steps, checked, render_mode)
    if task.environment.startswith("MinAtar/"):
        made = ForgetfulMinAtar(made)
    made = _from_zero(normalized_actions(made), task.environment)
    return wrappers.RecordEpisodeStatistics(made)


def _made(
    environment: str,
    arguments: tuple[str, ...],
    max_episode_steps: int | None,
    checked: bool = False,
    render_mode: str | None = None,
) -> Env:
    """What `gym.make` makes, its refusals in words."""
    _register(environment)
    keywords = dict(map(_argument, arguments))
    if render_mode is not None:
        keywords["render_mode"] = render_mode
    try:
        with quiet():
            return gym.make(environment, max_episode_steps, not checked, **keywords)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise UnfitEnvironmentError(_missing(environment, error)) from error
    except gym.error.UnregisteredEnv as error:
        near = get_close_matches(environment, gym.registry, n=3)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise UnfitEnvironmentError(
            f"unknown Gymnasium environment {environment!r}: {error}{hint}"
        ) from error
    except (gym.error.Error, TypeError, ValueError, KeyError) as error:
        raise UnfitEnvironmentError(f"Gymnasium cannot make {environment}: {error}") from error


def _register(environment: str) -> None:
    """Bring the ids of a package of environments to Gymnasium's knowledge."""
    namespace = environment.partition("/")[0]
    if namespace not in REGISTERED_BY or environment in gym.registry:
        return
    module, extra = REGISTERED_BY[namespace]
    try:
        with quiet():
            package: Any = importlib.import_module(module)
    except ImportError as error:
        raise UnfitEnvironmentError(_install(environment, extra, error)) from error
    if namespace == "MinAtar":
        package.register_envs()
    else:
        gym.register_envs(package)
        package.ALEInterface.setLoggerMode(package.LoggerMode.Error)


def _missing(environment: str, error: Exception) -> str:
    """Which package is to be installed, by the family that the environment is of."""
    spec = gym.registry.get(environment.rpartition(":")[2])
    entry_point = "" if spec is None else str(spec.entry_point)
    for extra in OWN_EXTRAS:
        if entry_point.startswith(f"gymnasium.envs.{extra}"):
            return _install(environment, extra, error)
    return f"Gymnasium cannot make {environment}: {error}"


def _install(environment: str, extra: str, error: Exception) -> str:
    return (
        f"{environment} needs packages that are not installed ({error}); get them by: "
        f'pip install -c constraints.txt -e ".[{extra}]"'
    )


def _argument(text: str) -> tuple[str, Any]:
    """`name=value`, the value in JSON if it is any."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise UnfitEnvironmentError(
            f"got the argument {text!r}; write it as is_slippery=false or map_name=8x8"
        )
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _from_zero(env: Env, environment: str) -> Env:
    """Refuse spaces that no agent here can use; let integers begin at 0."""
    actions, observations = env.action_space, env.observation_space
    if not isinstance(actions, spaces.Discrete | spaces.Box):
        raise UnfitEnvironmentError(
            f"{environment} has actions in {actions}; agents here choose in a Discrete space or, "
            "as actor-critic, in a Box"
        )
    if not observations.is_np_flattenable:
        raise UnfitEnvironmentError(
            f"{environment} has observations in {observations}, which do not flatten to vectors of "
            "one length; wrap it in an environment of your own that makes them so"
        )
    if isinstance(actions, spaces.Discrete) and (first := int(actions.start)):
        counted = spaces.Discrete(actions.n)
        env = wrappers.TransformAction(env, lambda action: action + first, counted)
    if isinstance(observations, spaces.Discrete) and (lowest := int(observations.start)):
        counted = spaces.Discrete(observations.n)
        env = wrappers.TransformObservation(env, lambda number: number - lowest, counted)
    return env


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of other packages, as of Gymnasium of ids that it then refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
