"""Q-learning, SARSA and expected SARSA with traces for one agent and a table, in plain Python.

A time step of a toy-text environment takes 4 microseconds, less than one operation of torch or
numpy on a row of the table; lists of numbers are what can keep up.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import log, sqrt
from typing import Any, Literal, TypeAlias, final

import numpy as np

Memory: TypeAlias = dict[str, list[float]]
SMALLEST_TRACE = 1e-4
"""Traces below it are dropped: what they would still move is beyond four digits."""


class Trace:
    """The eligible entries, newest first, and how eligible each is.

    An accumulating trace is the sum over the visits of decay^age, so that visits need no merging:
    the powers of the decay are always the same, only the entries move along them.
    """

    def __init__(self, decay: float, longest: int) -> None:
        if 0 < decay < 1:
            longest = min(longest, 1 + int(log(SMALLEST_TRACE) / log(decay)))
        self.powers = tuple(decay**age for age in range(longest if decay else 1))
        self._totals = (0.0, *accumulate(self.powers))
        self.entries: deque[int] = deque(maxlen=len(self.powers))

    def total(self) -> float:
        """The sum of the trace over all entries."""
        return self._totals[len(self.entries)]


class TabularRule(ABC):
    """How far the entries of a table move when a TD error comes.

    As the rules of networks, a rule has no memory of its own: `memory` makes a dict of lists and
    `step` changes it in place. A rule of one rate for all entries only has a `rate`; one with a
    gain for each entry has a `step` of its own, to which `trace.entries[0]` is the entry just left.
    """

    def memory(self, entries: int) -> Memory:  # noqa: ARG002
        """The memory before the first step, for a table of so many entries."""
        return {}

    def step(self, memory: Memory, values: list[float], trace: Trace, td_error: float) -> float:
        """Move the values along the trace in place; the rate with which the newest one moved."""
        rate = self.rate(memory, trace, td_error)
        move = rate * td_error
        for entry, power in zip(trace.entries, trace.powers, strict=False):
            values[entry] += move * power
        return rate

    @abstractmethod
    def rate(self, memory: Memory, trace: Trace, td_error: float) -> float:
        """The one rate of all entries."""


def _check(coefficient: float) -> None:
    if not 0 < coefficient < float("inf"):
        raise ValueError(f"got coefficient = {coefficient}; use a finite number > 0")


@final
@dataclass(frozen=True, kw_only=True)
class TabularFixed(TabularRule):
    """Rate = coefficient."""

    coefficient: float = 0.1
    """the rate"""

    def __post_init__(self) -> None:
        _check(self.coefficient)

    def rate(self, memory: Memory, trace: Trace, td_error: float) -> float:  # noqa: ARG002
        """The coefficient."""
        return self.coefficient


@final
@dataclass(frozen=True, kw_only=True)
class TabularSurprise(TabularRule):
    """Rate = coefficient * |td_error|: grows with surprise, and without a bound."""

    coefficient: float = 0.1
    """in units of 1 / reward"""

    def __post_init__(self) -> None:
        _check(self.coefficient)

    def rate(self, memory: Memory, trace: Trace, td_error: float) -> float:  # noqa: ARG002
        """The naive rate."""
        return self.coefficient * abs(td_error)


@final
@dataclass(frozen=True, kw_only=True)
class TabularRelativeSurprise(TabularRule):
    """Rate = coefficient * |td_error| / sigma, divided by max(1, rate * sum of the trace).

    sigma^2 is the moving average of td_error^2, the present one included. The bound is that of
    `sciopt.rates.overshoot_bound`: all entries together move by at most |td_error|.
    """

    coefficient: float = 0.1
    """the rate of a usual error"""
    forgetting: float = 0.01
    """weight of the newest squared TD error in sigma^2, in (0, 1]; at first the plain mean"""

    def __post_init__(self) -> None:
        _check(self.coefficient)
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"got forgetting = {self.forgetting}; use a number in (0, 1]")

    def memory(self, entries: int) -> Memory:  # noqa: ARG002
        """sigma^2 and how many errors it has seen."""
        return {"mean_square": [0.0, 0.0]}

    def rate(self, memory: Memory, trace: Trace, td_error: float) -> float:
        """The bounded rate; 0 where nothing ever surprised."""
        seen = memory["mean_square"]
        seen[1] = count = seen[1] + 1.0
        square = td_error * td_error
        seen[0] += (1.0 / count if count * self.forgetting < 1 else self.forgetting) * (
            square - seen[0]
        )
        if not square:
            return 0.0
        rate = self.coefficient * sqrt(square / seen[0])
        norm = rate * trace.total()
        return rate / norm if norm > 1.0 else rate


Algorithm = Literal["q-learning", "sarsa", "expected-sarsa"]


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A table of action values, explored epsilon-greedily, with accumulating traces."""

    algorithm: Algorithm
    """what is bootstrapped from: the best action, the next one, or the policy's mean"""
    lambda_: float = 0.0
    """trace decay, in [0, 1]; q-learning cuts traces at exploring actions (Watkins 1989)"""
    exploration: float = 0.1
    """probability of a uniformly random action (epsilon), in [0, 1]"""

    def __post_init__(self) -> None:
        if not (0 <= self.lambda_ <= 1 and 0 <= self.exploration <= 1):
            raise ValueError(
                f"got lambda_ = {self.lambda_} and exploration = {self.exploration}; use numbers "
                "in [0, 1]"
            )
        if self.algorithm == "expected-sarsa" and self.lambda_:
            raise ValueError(
                f"got lambda_ = {self.lambda_} for expected-sarsa, which is here without traces: "
                "a rate that depends on the TD error makes them diverge; use lambda_ = 0, or sarsa"
            )


class TabularAgent:
    """Learns after every time step; `action` is what it does next."""

    def __init__(
        self,
        settings: Tabular,
        rule: TabularRule,
        table: tuple[int, int],
        discount: float,
        longest_episode: int,
    ) -> None:
        """`table` is how many states and actions there are."""
        states, self.actions = table
        self.rule = rule
        self.algorithm, self.exploration = settings.algorithm, settings.exploration
        self.values = [0.0] * (states * self.actions)
        self.memory = rule.memory(len(self.values))
        self.trace = Trace(discount * settings.lambda_, longest_episode)
        self.action = self.entry = 0
        self.td_error = self.rate = 0.0
        self.lost = False

    def begin(self, observation: Any, luck: random.Random) -> None:
        """Forget the last episode and choose the first action."""
        self.trace.entries.clear()
        self.action = self.choose(observation, luck, greedy=False)
        self.entry = int(observation) * self.actions + self.action

    def learn(
        self, observation: Any, reward: float, discount_t: float, luck: random.Random
    ) -> None:
        """Move the values by what the last action led to, and choose the next one.

        It is chosen before they move, as SARSA needs it.
        """
        values, trace, algorithm = self.values, self.trace, self.algorithm
        state = int(observation) * self.actions
        row = values[state : state + self.actions]
        best = max(row)
        action = self._epsilon_greedy(row, best, luck, self.exploration)
        if algorithm == "q-learning":
            value = best
        elif algorithm == "sarsa":
            value = row[action]
        else:
            explored = self.exploration * sum(row) / self.actions
            value = (1 - self.exploration) * best + explored
        self.td_error = td_error = reward + discount_t * value - values[self.entry]
        trace.entries.appendleft(self.entry)
        self.rate = self.rule.step(self.memory, values, trace, td_error)
        if row[action] < best and algorithm == "q-learning":
            trace.entries.clear()
        self.action, self.entry = action, state + action

    def _epsilon_greedy(
        self, row: list[float], best: float, luck: random.Random, exploration: float
    ) -> int:
        """The action whose value in a row is the best, ties broken at random, or any at random."""
        uniform = luck.random()
        if uniform < exploration:
            return int(uniform / exploration * self.actions)
        if (ties := row.count(best)) > 1:
            among = [action for action, value in enumerate(row) if value == best]
            return among[int(luck.random() * ties)]
        return row.index(best)

    def choose(self, observation: Any, luck: random.Random, *, greedy: bool) -> int:
        """An action, nothing being learnt."""
        state = int(observation) * self.actions
        row = self.values[state : state + self.actions]
        return self._epsilon_greedy(row, max(row), luck, 0.0 if greedy else self.exploration)

    def policy(self) -> dict[str, np.ndarray]:
        """What its choices depend on: the action values, a row per state."""
        return {"values": np.array(self.values).reshape(-1, self.actions)}

    def take_policy(self, policy: Mapping[str, np.ndarray]) -> None:
        """Choose as another agent did."""
        self.values = policy["values"].ravel().tolist()

    def state_dict(self) -> dict[str, Any]:
        """Values and the rule's memory; traces end with the episode."""
        memory = {name: list(numbers) for name, numbers in self.memory.items()}
        return {"values": list(self.values), "memory": memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another agent."""
        self.values = list(state["values"])
        self.memory = {name: list(numbers) for name, numbers in state["memory"].items()}
