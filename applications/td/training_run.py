"""Training in any Gymnasium environment as a run of the bench: one step is one episode.

READ `Training.step` FIRST. Each episode is reset with a seed derived from (seed, episode), and so
are the streams of exploration and of the action space; between episodes nothing of the environment
is left, so that a checkpoint holds the agent, the scales and the outcomes, and resuming is exact.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from applications.td.environment_wrappers import Env, Standardized
from applications.td.environments import bootstrap_discount
from applications.td.gym_environments import GymTask, make
from applications.td.training_methods import Method, new_agent, seen_by
from sciopt.bench.domain import Domain, Ended, Status

TRAINING, EVALUATION = 0, 1
"""What an episode is for; the two never share a seed."""
DIVERGENCE_BOUND = 1e6
"""An agent has diverged when its TD error is above it, and so many times the reward."""
RECENT = 20
"""Episodes over which a point of the curve averages."""
WITHOUT_EFFECT = ("claims", "train_command", "play_command", "training_drawing")
"""Modules of this folder that change no number of a training."""


class Streams(NamedTuple):
    """The random streams of one episode, a function of (seed, purpose, episode)."""

    environment: int
    actions: int
    luck: random.Random

    @classmethod
    def of(cls, seed: int, purpose: int, episode: int) -> Streams:
        """Independent of those of every other episode (NumPy's SeedSequence)."""
        sequence = np.random.SeedSequence(seed, spawn_key=(purpose, episode))
        environment, actions, luck = sequence.generate_state(3).tolist()
        return cls(environment, actions, random.Random(luck))


class Training:
    """One agent in one environment; a step is an episode."""

    resumable = True

    def __init__(self, task: GymTask, method: Method, seed: int, device: torch.device) -> None:
        self.task, self.method, self.seed = task, method, seed
        self.environment = seen_by(method.agent, make(task), task.discount)
        self.agent = new_agent(self.environment, task, method, seed, device)
        self.discounts: list[float] = bootstrap_discount(
            task.discount, torch.tensor([False, True])
        ).tolist()
        self.time_steps, self.bound = 0, DIVERGENCE_BOUND
        self.diverged = False
        names = "episode_returns", "episode_lengths", "rates", "td_errors"
        self.history: dict[str, list[float]] = {name: [] for name in names}

    @property
    def episode(self) -> int:
        """Number of episodes done."""
        return len(self.history["rates"])

    def step(self) -> Ended | None:
        """One episode: act, see, learn."""
        environment, agent = self.environment, self.agent
        streams = Streams.of(self.seed, TRAINING, self.episode)
        luck, time_step = streams.luck, 0
        environment.unwrapped.action_space.seed(streams.actions)
        observation, info = environment.reset(seed=streams.environment)
        agent.begin(observation, luck)
        rates = squares = 0.0
        over = False
        while not over:
            observation, number, terminated, truncated, info = environment.step(agent.action)
            reward, time_step = float(number), time_step + 1
            # Only what ends of itself has no value after it: discounts[True] is 0.
            agent.learn(observation, reward, self.discounts[bool(terminated)], luck)
            td_error = agent.td_error
            if (not abs(td_error) < self.bound or agent.lost) and self._is_lost(reward):
                return self._diverged(observation, reward, time_step)
            rates += agent.rate
            squares += td_error * td_error
            over = terminated or truncated
        self.time_steps += time_step
        ends = float(info["episode"]["r"]), time_step, rates / time_step, squares / time_step
        for kept, value in zip(self.history.values(), ends, strict=True):
            kept.append(float(value))
        limit = self.task.max_time_steps
        if limit is not None and self.time_steps >= limit:
            return Ended(Status.STEP_LIMIT, f"after {self.time_steps} time steps, as asked for")
        return None

    def _is_lost(self, reward: float) -> bool:
        """Whether the agent has diverged, though rewards so large be usual."""
        self.bound = max(self.bound, DIVERGENCE_BOUND * abs(reward))
        return self.agent.lost or not abs(self.agent.td_error) < self.bound

    def _diverged(self, observation: Any, reward: float, time_step: int) -> Ended:
        """What ended the run: the environment, if it gave what is no number, or the agent."""
        self.diverged = True
        when = f"in episode {self.episode + 1} at time step {time_step}"
        if not (np.isfinite(observation).all() and math.isfinite(reward)):
            return Ended(
                Status.DIVERGED,
                f"{when} {self.task.environment} gave the reward {reward} and an observation of "
                f"which {np.size(observation) - np.isfinite(observation).sum()} are not finite",
            )
        what = "the policy is not finite" if self.agent.lost else "the values grow without end"
        return Ended(
            Status.DIVERGED,
            f"{what}: {when} the rate was {self.agent.rate:.3g} and the TD error "
            f"{self.agent.td_error:.3g}; a smaller coefficient or a bounded rule may help",
        )

    def play(self, environment: Env, episodes: int, seed: int, *, greedy: bool) -> list[float]:
        """Returns, in the environment's own rewards, of episodes in which nothing is learnt.

        The environment is one that `make` made, and is closed.
        """
        environment = seen_by(self.method.agent, environment, self.task.discount)
        take_scales(environment, scales_of(self.environment))
        if isinstance(environment, Standardized):
            environment.freeze()
        returns = []
        for episode in range(episodes):
            streams = Streams.of(seed, EVALUATION, episode)
            observation, info = environment.reset(seed=streams.environment)
            over = False
            while not over:
                action = self.agent.choose(observation, streams.luck, greedy=greedy)
                observation, _, terminated, truncated, info = environment.step(action)
                over = terminated or truncated
            returns.append(float(info["episode"]["r"]))
        environment.close()
        return returns

    def state_dict(self) -> dict[str, Any]:
        """The agent, the scales of observations and rewards, and the outcomes."""
        scales = scales_of(self.environment)
        return {
            "agent": self.agent.state_dict(),
            "scales": {name: torch.tensor(value) for name, value in scales.items()},
            "history": {name: list(kept) for name, kept in self.history.items()},
            "time_steps": self.time_steps,
            "bound": self.bound,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another training of the same run."""
        self.agent.load_state_dict(state["agent"])
        take_scales(self.environment, {k: v.numpy() for k, v in state["scales"].items()})
        self.history = {name: list(kept) for name, kept in state["history"].items()}
        self.time_steps, self.bound = state["time_steps"], state["bound"]


def start(task: GymTask, method: Method, seed: int, device: torch.device) -> Training:
    """An agent that knows nothing yet.

    Raises:
        ValueError: an environment that cannot be made, or an agent that does not fit it.
    """
    return Training(task, method, seed, device)


def evaluate(task: GymTask, training: Training) -> Mapping[str, float]:
    """Means over the last RECENT episodes, time steps so far, and the evaluation if asked for.

    `rate` is the mean rate of a time step and `td_error` the root of the mean square TD error, in
    units of the reward that is learnt from.
    """
    metrics = {"time_steps": float(training.time_steps)}
    if training.episode:
        recent = {name: float(np.mean(kept[-RECENT:])) for name, kept in training.history.items()}
        metrics |= {
            "episode_return": recent["episode_returns"],
            "episode_length": recent["episode_lengths"],
            "rate": recent["rates"],
            "td_error": math.sqrt(recent["td_errors"]),
        }
    if task.eval_along and len(returns := evaluation_returns(task, training)):
        metrics["evaluation_return"] = float(returns.mean())
    return metrics


def evaluation_returns(task: GymTask, training: Training) -> np.ndarray:
    """The return of each of the task's evaluation episodes; none once diverged."""
    if training.diverged:
        return np.empty(0)
    greedy = task.eval_policy == "greedy"
    return np.array(training.play(make(task), task.eval_episodes, training.seed, greedy=greedy))


def arrays(task: GymTask, training: Training) -> Mapping[str, np.ndarray]:
    """The outcome of each episode (`td_errors` squared), the evaluation, and what is to be played.

    `policy.` and `scales.` arrays are what `take_trained` takes.
    """
    policy, scales = training.agent.policy(), scales_of(training.environment)
    return {
        **{name: np.array(kept) for name, kept in training.history.items()},
        "evaluation_returns": evaluation_returns(task, training),
        **{f"policy.{name}": values for name, values in policy.items()},
        **{f"scales.{name}": values for name, values in scales.items()},
    }


def take_trained(training: Training, kept: Mapping[str, np.ndarray]) -> None:
    """Play as the training did whose `arrays` these are."""
    parts: dict[str, dict[str, np.ndarray]] = {"policy": {}, "scales": {}}
    for name, values in kept.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = values
    training.agent.take_policy(parts["policy"])
    take_scales(training.environment, parts["scales"])


def scales_of(environment: Env) -> dict[str, np.ndarray]:
    """What an environment remembers of observations and rewards between episodes."""
    return environment.scales() if isinstance(environment, Standardized) else {}


def take_scales(environment: Env, scales: Mapping[str, np.ndarray]) -> None:
    """Have an environment remember what another did."""
    if isinstance(environment, Standardized):
        environment.take_over(scales)


def training_domain(
    name: str, task: GymTask, method_name: str, method: Method
) -> Domain[GymTask, Method, Training]:
    """The bench's view of one user's training; the environment's source belongs to it."""
    made = make(task)
    source = getattr(sys.modules[type(made.unwrapped).__module__], "__file__", None)
    made.close()
    return Domain(
        name="td",
        problems={name: task},
        methods={method_name: method},
        start=start,
        evaluate=evaluate,
        arrays=arrays,
        claims={},
        data=[Path(source)] if source else [],
        without_effect=WITHOUT_EFFECT,
    )
