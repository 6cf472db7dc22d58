"""What a tabular agent adds to an environment's own time.

`python -m tests.benchmarks.single_agent` prints a ratio for each agent: of `Training.step`, which
chooses, learns, derives seeds and keeps the outcomes, to a loop of random actions as Gymnasium's
own documentation has it. Processor time of one thread; the two take turns, and the fastest turn
of each counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import torch
import tyro
from rich.console import Console
from rich.table import Table

from applications.td.gym_environments import GymTask
from applications.td.tabular_agent import Tabular
from applications.td.training_methods import AGENTS, TABULAR_RULES, Method
from applications.td.training_run import Training

TASKS = (
    GymTask(environment="FrozenLake-v1", max_episode_steps=100),
    GymTask(environment="CliffWalking-v1", max_episode_steps=500),
    GymTask(environment="Taxi-v4", max_episode_steps=200),
)


@dataclass(frozen=True)
class Options:
    """How long is measured."""

    time_steps: int = 20_000
    """of each turn"""
    turns: int = 7
    """of each loop"""


def random_seconds(task: GymTask, time_steps: int) -> float:
    """Seconds of a time step with random actions."""
    env = gym.make(task.environment, max_episode_steps=task.max_episode_steps)
    env.action_space.seed(0)
    env.reset(seed=0)
    began = time.process_time()
    for _ in range(time_steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    return (time.process_time() - began) / time_steps


def agent_seconds(task: GymTask, method: Method, time_steps: int) -> float:
    """Seconds of a time step of an agent from its first episode on."""
    training = Training(task, method, 0, torch.device("cpu"))
    began = time.process_time()
    while training.time_steps < time_steps:
        assert training.step() is None
    seconds = time.process_time() - began
    assert any(training.agent.policy()["values"].ravel())
    return seconds / training.time_steps


def main() -> None:
    """Measure and print the table."""
    options = tyro.cli(Options)
    agents = {name: agent for name, agent in AGENTS.items() if isinstance(agent, Tabular)}
    agents["q-learning, traces"] = Tabular(algorithm="q-learning", lambda_=0.8)
    table = Table("environment", "agent", "method", title="microseconds of a time step")
    for column in ("random", "agent", "ratio"):
        table.add_column(column, justify="right")
    for task in TASKS:
        for name, agent in agents.items():
            for rule_name, rule in TABULAR_RULES.items():
                if rule_name == "surprise":  # it diverges
                    continue
                method = Method(agent=agent, rule=rule)
                turns = [
                    (
                        random_seconds(task, options.time_steps),
                        agent_seconds(task, method, options.time_steps),
                    )
                    for _ in range(options.turns)
                ]
                bare, learning = (min(column) for column in zip(*turns, strict=True))
                numbers = f"{bare * 1e6:.2f}", f"{learning * 1e6:.2f}", f"{learning / bare:.2f}"
                table.add_row(task.environment, name, rule_name, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
