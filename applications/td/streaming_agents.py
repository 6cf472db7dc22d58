"""Streaming agents with small networks: each time step is learnt from once, when it comes.

Q(lambda) and actor-critic with eligibility traces as in Elsayed, Vasan and Mahmood (2024),
"Streaming deep reinforcement learning finally works" (arXiv 2410.14606), whose network and first
weights they have. How far a step goes is the rule's choice (`network_rules`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from applications.td.network_rules import NetworkRule
from applications.td.small_network import Learner, Network

Precision = Literal["float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """What agents with networks have in common."""

    lambda_: float = 0.8
    """trace decay, in [0, 1]"""
    hidden: tuple[int, ...] = (128, 128)
    """neurons of each hidden layer"""
    normalize_observations: bool = True
    """shift and scale observations to mean 0, variance 1; zeros and ones are left as they are"""
    scale_rewards: bool = True
    """divide rewards by the standard deviation of their discounted sums"""
    precision: Precision = "float32"
    """floating-point type of the network"""

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_ <= 1:
            raise ValueError(f"got lambda_ = {self.lambda_}; use a number in [0, 1]")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"got hidden = {self.hidden}; use one or more layers of >= 1 neurons")


@dataclass(frozen=True, kw_only=True)
class QNetwork(Streaming):
    """Action values by a network, explored epsilon-greedily; traces end where exploring begins."""

    exploration: float = 0.01
    """last probability of a uniformly random action (epsilon), in [0, 1]; the first is 1"""
    exploration_time_steps: int = 10_000
    """time steps over which it falls from the first to the last, linearly"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.exploration <= 1 or self.exploration_time_steps < 0:
            raise ValueError(
                f"got exploration = {self.exploration} and exploration_time_steps = "
                f"{self.exploration_time_steps}; use a number in [0, 1] and 0 or more time steps"
            )


@dataclass(frozen=True, kw_only=True)
class ActorCritic(Streaming):
    """A policy and its value by two networks; the policy is softmax, or normal for a box."""

    entropy_coefficient: float = 0.01
    """weight of the policy's entropy, which is pushed up when things went better than thought"""


class _StreamingAgent:
    """What both agents do alike: keep an observation, the time and the networks."""

    def __init__(self, settings: Streaming, discount: float, device: torch.device) -> None:
        self.decay = discount * settings.lambda_
        self.dtype, self.device = getattr(torch, settings.precision), device
        self.learners: dict[str, Learner] = {}
        self.trace_decay = 0.0
        self.time_steps = 0
        self.action: Any = 0
        self.td_error = self.rate = 0.0
        self.lost = False

    def tensor(self, observation: Any) -> Float[Tensor, " inputs"]:
        """The observation as the network takes it."""
        return torch.as_tensor(np.asarray(observation, np.float64)).to(self.device, self.dtype)

    def policy(self) -> dict[str, np.ndarray]:
        """What choices depend on: the parameters of each network."""
        return {name: one.network.params.cpu().numpy() for name, one in self.learners.items()}

    def take_policy(self, policy: Mapping[str, np.ndarray]) -> None:
        """Choose as another agent did."""
        for name, learner in self.learners.items():
            learner.network.params.copy_(torch.as_tensor(policy[name]))

    def state_dict(self) -> dict[str, Any]:
        """Networks, the rules' memories and the time; traces end with the episode."""
        learners = {name: learner.state_dict() for name, learner in self.learners.items()}
        return {"time_steps": self.time_steps, "learners": learners}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another agent."""
        self.time_steps = state["time_steps"]
        for name, learner in self.learners.items():
            learner.load_state_dict(state["learners"][name])


class QNetworkAgent(_StreamingAgent):
    """Streaming Q(lambda) after Watkins: a trace ends when an action is not the best one."""

    def __init__(
        self,
        settings: QNetwork,
        rule: NetworkRule,
        sizes: tuple[int, int],
        discount: float,
        seed: int,
        device: torch.device,
    ) -> None:
        """`sizes` are the numbers of an observation's values and of actions."""
        super().__init__(settings, discount, device)
        self.settings, self.actions = settings, sizes[1]
        generator = torch.Generator().manual_seed(seed)
        layers = (sizes[0], *settings.hidden, sizes[1])
        self.network = Network(layers, generator, device, self.dtype)
        self.learners = {"action_values": Learner(self.network, rule)}

    def begin(self, observation: Any, luck: random.Random) -> None:
        """Forget the last episode and choose the first action."""
        self._act(self.tensor(observation), luck)
        self.trace_decay = 0.0

    def learn(
        self, observation: Any, reward: float, discount_t: float, luck: random.Random
    ) -> None:
        """Move the network by what the last action led to, and choose the next one."""
        seen = self.tensor(observation)
        with torch.no_grad():
            best = self.network(seen).amax()
        value = self.action_values[self.action]
        td_error = reward + discount_t * best - value.detach()
        (learner,) = self.learners.values()
        self.rate = learner.step(value, td_error, self.trace_decay)
        self.td_error = float(td_error)
        self.time_steps += 1
        self._act(seen, luck)

    def _act(self, seen: Tensor, luck: random.Random) -> None:
        self.action_values = self.network(seen)
        best = int(self.action_values.argmax())
        self.action = self._epsilon_greedy(best, luck, self.exploration)
        self.trace_decay = self.decay if self.action == best else 0.0

    def _epsilon_greedy(self, best: int, luck: random.Random, exploration: float) -> int:
        uniform = luck.random()
        return int(uniform / exploration * self.actions) if uniform < exploration else best

    @property
    def exploration(self) -> float:
        """The probability of a random action at this time."""
        last, time_steps = self.settings.exploration, self.settings.exploration_time_steps
        return last + (1 - last) * max(0.0, 1 - self.time_steps / max(time_steps, 1))

    def choose(self, observation: Any, luck: random.Random, *, greedy: bool) -> int:
        """An action, nothing being learnt."""
        with torch.no_grad():
            best = int(self.network(self.tensor(observation)).argmax())
        return self._epsilon_greedy(best, luck, 0.0 if greedy else self.exploration)


class ActorCriticAgent(_StreamingAgent):
    """Streaming AC(lambda): both networks follow traces with the TD error of the value.

    The policy's trace is of log pi(action) + coefficient * sign(td_error) * entropy.
    """

    def __init__(
        self,
        settings: ActorCritic,
        rules: tuple[NetworkRule, NetworkRule],
        sizes: tuple[int, int],
        discount: float,
        seed: int,
        device: torch.device,
        *,
        continuous: bool,
    ) -> None:
        """`rules` are those of value and policy, `sizes` as those of `QNetworkAgent`."""
        super().__init__(settings, discount, device)
        self.entropy_coefficient = settings.entropy_coefficient
        self.continuous = continuous
        generator = torch.Generator().manual_seed(seed)
        outputs = {"value": 1, "policy": sizes[1] * (2 if continuous else 1)}
        for (name, size), rule in zip(outputs.items(), rules, strict=True):
            layers = (sizes[0], *settings.hidden, size)
            network = Network(layers, generator, device, self.dtype)
            self.learners[name] = Learner(network, rule)

    def begin(self, observation: Any, luck: random.Random) -> None:
        """Forget the last episode and choose the first action."""
        self._act(self.tensor(observation), luck)
        self.trace_decay = 0.0

    def learn(
        self, observation: Any, reward: float, discount_t: float, luck: random.Random
    ) -> None:
        """Move both networks by what the last action led to, and choose the next one."""
        seen = self.tensor(observation)
        critic, actor = self.learners["value"], self.learners["policy"]
        with torch.no_grad():
            next_value = critic.network(seen)[0]
        td_error = reward + discount_t * next_value - self.value.detach()
        entropy = self.entropy_coefficient * td_error.sign() * self.entropy
        actor.step(self.log_probability + entropy, td_error, self.trace_decay)
        self.rate = critic.step(self.value, td_error, self.trace_decay)
        self.td_error = float(td_error)
        self.trace_decay = self.decay
        self.time_steps += 1
        self._act(seen, luck)

    def _act(self, seen: Tensor, luck: random.Random) -> None:
        """Draw an action, and keep what its traces will need."""
        self.value = self.learners["value"].network(seen)[0]
        outputs = self.learners["policy"].network(seen)
        if self.continuous:
            mean, deviation = _normal(outputs)
            noise = outputs.new_tensor([luck.gauss(0.0, 1.0) for _ in range(len(mean))])
            drawn = (mean + deviation * noise).detach()
            self.log_probability = -(((drawn - mean) / deviation).square() / 2 + deviation.log())
            self.log_probability = self.log_probability.sum()
            self.entropy = deviation.log().sum()
            self.action = drawn.cpu().numpy()
        else:
            log_probabilities = outputs.log_softmax(-1)
            probabilities = log_probabilities.exp()
            self.action = _drawn(probabilities.tolist(), luck)
            self.log_probability = log_probabilities[self.action]
            self.entropy = -(probabilities * log_probabilities).sum()
        self.lost = not math.isfinite(self.log_probability.detach())

    def choose(self, observation: Any, luck: random.Random, *, greedy: bool) -> Any:
        """An action, nothing being learnt; greedy is the likeliest one."""
        with torch.no_grad():
            outputs = self.learners["policy"].network(self.tensor(observation))
        if self.continuous:
            mean, deviation = (tensor.cpu().numpy() for tensor in _normal(outputs))
            noise = 0.0 if greedy else np.array([luck.gauss(0.0, 1.0) for _ in range(len(mean))])
            return (mean + deviation * noise).astype(np.float32)
        if greedy:
            return int(outputs.argmax())
        return _drawn(outputs.softmax(-1).tolist(), luck)


def _normal(outputs: Float[Tensor, " two_actions"]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each action."""
    mean, spread = outputs.chunk(2)
    return mean, softplus(spread)


def _drawn(probabilities: list[float], luck: random.Random) -> int:
    """An index drawn with these probabilities; the last one where rounding leaves a rest."""
    uniform = luck.random()
    for index, probability in enumerate(probabilities):
        uniform -= probability
        if uniform < 0:
            return index
    return len(probabilities) - 1
