"""Which agents and rules there are for one agent in an environment, and which fit it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces

from applications.td.environment_wrappers import Env, Standardized, is_binary
from applications.td.gym_environments import GymTask, UnfitEnvironmentError
from applications.td.network_rules import (
    Adam,
    Fixed,
    Intentional,
    IntentionalSurprise,
    NaiveSurprise,
    NetworkRule,
    ObGD,
    RelativeSurprise,
)
from applications.td.streaming_agents import (
    ActorCritic,
    ActorCriticAgent,
    QNetwork,
    QNetworkAgent,
    Streaming,
)
from applications.td.tabular_agent import (
    Tabular,
    TabularAgent,
    TabularFixed,
    TabularRelativeSurprise,
    TabularRule,
    TabularSurprise,
)

AGENTS: Mapping[str, Tabular | Streaming] = {
    "q-learning": Tabular(algorithm="q-learning"),
    "sarsa": Tabular(algorithm="sarsa", lambda_=0.8),
    "expected-sarsa": Tabular(algorithm="expected-sarsa"),
    "q-network": QNetwork(),
    "actor-critic": ActorCritic(),
}
TABULAR_RULES: Mapping[str, TabularRule] = {
    "fixed": TabularFixed(),
    "surprise": TabularSurprise(),
    "relative-surprise": TabularRelativeSurprise(),
}
NETWORK_RULES: Mapping[str, NetworkRule] = {
    "fixed": Fixed(),
    "surprise": NaiveSurprise(),
    "adam": Adam(),
    "obgd": ObGD(),
    "intentional": Intentional(),
    "relative-surprise": RelativeSurprise(),
    "intentional-surprise": IntentionalSurprise(),
}
# A policy goes less far than its value: as published, where it is.
POLICY_RULES: Mapping[str, NetworkRule] = {
    "fixed": Fixed(coefficient=1e-3),
    "surprise": NaiveSurprise(coefficient=3e-3),
    "adam": Adam(coefficient=3e-4),
    "obgd": ObGD(kappa=3.0),
    "intentional": Intentional(coefficient=0.05),
    "relative-surprise": RelativeSurprise(kappa=3.0),
    "intentional-surprise": IntentionalSurprise(coefficient=0.05),
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """An agent and the rule that sets its rates; an actor-critic has another for its policy."""

    agent: Tabular | Streaming
    rule: TabularRule | NetworkRule
    policy_rule: NetworkRule | None = None


class Agent(Protocol):
    """One who acts and learns."""

    action: Any
    """what it does next"""
    td_error: float
    rate: float
    lost: bool
    """that it can no longer act, its policy not being finite"""

    def begin(self, observation: Any, luck: random.Random) -> None:
        """Begin an episode and choose the first action."""
        ...

    def learn(
        self, observation: Any, reward: float, discount_t: float, luck: random.Random
    ) -> None:
        """Learn from what the last action led to, and choose the next one."""
        ...

    def choose(self, observation: Any, luck: random.Random, *, greedy: bool) -> Any:
        """An action, nothing being learnt."""
        ...

    def policy(self) -> Mapping[str, np.ndarray]:
        """All that `choose` depends on."""
        ...

    def take_policy(self, policy: Mapping[str, np.ndarray]) -> None:
        """Choose as another agent did."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that later episodes depend on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another agent."""
        ...


def default_agent(environment: Env) -> str:
    """The name of the simplest agent that fits the spaces."""
    if isinstance(environment.action_space, spaces.Box):
        return "actor-critic"
    return (
        "q-learning" if isinstance(environment.observation_space, spaces.Discrete) else "q-network"
    )


def rules_for(agent: Tabular | Streaming) -> Mapping[str, TabularRule] | Mapping[str, NetworkRule]:
    """The rules that an agent can have, by name."""
    return TABULAR_RULES if isinstance(agent, Tabular) else NETWORK_RULES


def seen_by(agent: Tabular | Streaming, environment: Env, discount: float) -> Env:
    """The environment as the agent is to see it: states by number, or vectors without units."""
    if isinstance(agent, Tabular):
        return environment
    binary = is_binary(environment.observation_space)
    return Standardized(
        environment,
        discount if agent.scale_rewards else None,
        normalize=agent.normalize_observations and not binary,
    )


def new_agent(
    environment: Env, task: GymTask, method: Method, seed: int, device: torch.device
) -> Agent:
    """An agent that knows nothing yet, for an environment as it is `seen_by` it.

    Raises:
        UnfitEnvironmentError: spaces that the agent cannot use, or a device.
    """
    actions, observations = environment.action_space, environment.observation_space
    name = task.environment
    continuous = isinstance(actions, spaces.Box)
    if continuous and not isinstance(method.agent, ActorCritic):
        raise UnfitEnvironmentError(
            f"{name} has continuous actions, {environment.unwrapped.action_space}, and this agent "
            "needs a few to choose from; use --agent actor-critic"
        )
    number = int(np.prod(actions.shape)) if continuous else int(actions.n)  # pyright: ignore
    match method:
        case Method(agent=Tabular() as settings, rule=TabularRule() as rule):
            if not isinstance(observations, spaces.Discrete):
                raise UnfitEnvironmentError(
                    f"{name} has observations in {observations}, of which no table can be made; "
                    "use --agent q-network or actor-critic"
                )
            if device.type != "cpu":
                raise UnfitEnvironmentError(f"got device {device}; a tabular agent needs cpu")
            table = int(observations.n), number
            return TabularAgent(settings, rule, table, task.discount, task.max_episode_steps)
        case Method(agent=QNetwork() as settings, rule=NetworkRule() as rule):
            sizes = spaces.flatdim(observations), number
            return QNetworkAgent(settings, rule, sizes, task.discount, seed, device)
        case Method(
            agent=ActorCritic() as settings,
            rule=NetworkRule() as rule,
            policy_rule=NetworkRule() as policy_rule,
        ):
            sizes = spaces.flatdim(observations), number
            rules = rule, policy_rule
            return ActorCriticAgent(
                settings, rules, sizes, task.discount, seed, device, continuous=continuous
            )
    raise UnfitEnvironmentError(f"no agent is known for {method}")
