"""The tabular agent against textbooks' pseudo-code, sciopt's rates, and known optima."""

import random
from typing import Any

import gym_examples  # noqa: F401
import gymnasium as gym
import numpy as np
import pytest
import torch

from applications.td.gym_environments import GymTask, make, task_of
from applications.td.tabular_agent import (
    SMALLEST_TRACE,
    Tabular,
    TabularAgent,
    TabularFixed,
    TabularRelativeSurprise,
    TabularSurprise,
    Trace,
)
from applications.td.training_methods import TABULAR_RULES, Method
from applications.td.training_run import Training
from sciopt.rates.overshoot_bound import overshoot_bound
from sciopt.rates.surprise import mean_square, relative_surprise, surprise_rate

DISCOUNT, STATES, ACTIONS = 0.9, 6, 3


def textbook(
    algorithm: str, lambda_: float, rate: float, exploration: float, path: list[tuple[Any, ...]]
) -> np.ndarray:
    """Dense accumulating traces: Sutton and Barto (1998), figures 7.11 and 7.14."""
    values = np.zeros((STATES, ACTIONS))
    trace = np.zeros_like(values)
    for state, action, reward, terminated, next_state, next_action in path:
        row = values[next_state]
        bootstrap = {
            "q-learning": row.max(),
            "sarsa": row[next_action],
            "expected-sarsa": (1 - exploration) * row.max() + exploration * row.mean(),
        }[algorithm]
        td_error = reward + DISCOUNT * bootstrap * (not terminated) - values[state, action]
        trace[state, action] += 1
        greedy = row[next_action] == row.max()
        values += rate * td_error * trace
        keeps = algorithm != "q-learning" or greedy
        trace *= DISCOUNT * lambda_ * keeps
    return values


@pytest.mark.parametrize(
    ("algorithm", "lambda_"),
    [
        ("q-learning", 0.0),
        ("q-learning", 0.7),
        ("sarsa", 0.0),
        ("sarsa", 0.7),
        ("expected-sarsa", 0.0),
    ],
)
def test_values_are_those_of_the_textbook(algorithm: Any, lambda_: float) -> None:
    settings = Tabular(algorithm=algorithm, lambda_=lambda_, exploration=0.3)
    agent = TabularAgent(settings, TabularFixed(coefficient=0.2), (STATES, ACTIONS), DISCOUNT, 99)
    luck, nature = random.Random(0), np.random.default_rng(0)
    state, path = 0, []
    agent.begin(state, luck)
    for _ in range(60):
        action, next_state = agent.action, int(nature.integers(STATES))
        reward, terminated = float(nature.normal()), bool(nature.random() < 0.1)
        agent.learn(next_state, reward, 0.0 if terminated else DISCOUNT, luck)
        path.append((state, action, reward, terminated, next_state, agent.action))
        state = next_state
    expected = textbook(algorithm, lambda_, 0.2, 0.3, path)
    # Traces below SMALLEST_TRACE are dropped.
    np.testing.assert_allclose(agent.policy()["values"], expected, atol=20 * SMALLEST_TRACE)
    assert np.abs(expected).max() > 0.5


def test_with_lambda_1_an_episode_without_revisits_is_monte_carlo() -> None:
    agent = TabularAgent(
        Tabular(algorithm="sarsa", lambda_=1.0, exploration=0.0),
        TabularFixed(coefficient=0.25),
        (5, 2),
        0.5,
        9,
    )
    luck, rewards, entries = random.Random(3), [1.0, -2.0, 4.0, 8.0], []
    agent.begin(0, luck)
    for state, reward in enumerate(rewards, start=1):
        entries.append(agent.entry)
        agent.learn(state, reward, 0.5 * (state < 4), luck)
    returns = [1 - 1 + 1 + 1, -2 + 2 + 2, 4 + 4, 8]
    assert [agent.values[entry] for entry in entries] == pytest.approx([r / 4 for r in returns])


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_rates_are_those_of_sciopt(decay: float) -> None:
    trace, errors = Trace(decay, 8), np.random.default_rng(1).normal(size=30) * 5
    relative, surprise = TabularRelativeSurprise(coefficient=0.8, forgetting=0.1), TabularSurprise()
    memory, square = relative.memory(4), torch.zeros((), dtype=torch.float64)
    values = [0.0] * 4
    for count, error in enumerate(errors, start=1):
        trace.entries.appendleft(count % 4)
        td_error = torch.tensor(error)
        square = mean_square(square, td_error, torch.tensor(count), 0.1)
        eligible = torch.tensor(trace.powers[: len(trace.entries)], dtype=torch.float64)
        expected = overshoot_bound(0.8 * relative_surprise(td_error, square), eligible)
        found = relative.step(memory, values, trace, error)
        assert found == pytest.approx(float(expected), rel=1e-12)
        naive = surprise_rate(td_error, torch.tensor(0.1, dtype=torch.float64))
        assert surprise.rate({}, trace, error) == pytest.approx(float(naive))
    assert relative.rate(relative.memory(4), trace, 0.0) == 0.0


def trained(task: GymTask, settings: Tabular, coefficient: float, episodes: int) -> Training:
    method = Method(agent=settings, rule=TabularFixed(coefficient=coefficient))
    training = Training(task, method, 0, torch.device("cpu"))
    for _ in range(episodes):
        assert training.step() is None
    return training


def test_q_learning_finds_the_cliffs_optimum_exactly() -> None:
    task = GymTask(environment="CliffWalking-v1", discount=1.0, max_episode_steps=500)
    settings = Tabular(algorithm="q-learning", exploration=0.3)
    training = trained(task, settings, 1.0, 300)
    values = training.agent.policy()["values"]
    # Sutton and Barto (2018), example 6.6: 13 steps along the edge. Rate 1 is exact, as nothing
    # there is left to chance.
    assert values[36].max() == -13.0
    assert training.play(make(task), 3, 7, greedy=True) == [-13.0] * 3


@pytest.mark.parametrize(
    ("most", "first_ones", "last"), [(3, 0.5, 0.5), (10_000, 0.5, 0.0)], ids=["truncated", "ended"]
)
def test_only_an_episode_that_ends_of_itself_has_no_value_after_it(
    most: int, first_ones: float, last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    discounts: list[float] = []
    learn = TabularAgent.learn

    def watched(
        agent: TabularAgent, seen: Any, reward: float, discount_t: float, luck: Any
    ) -> None:
        discounts.append(discount_t)
        learn(agent, seen, reward, discount_t, luck)

    monkeypatch.setattr(TabularAgent, "learn", watched)
    task = GymTask(environment="sciopt/RandomWalk-v0", max_episode_steps=most, discount=0.5)
    trained(task, Tabular(algorithm="q-learning"), 0.1, 1)
    assert discounts[-1] == last
    assert set(discounts[:-1]) == {first_ones}


def test_the_value_of_a_state_that_is_only_truncated_is_that_of_going_on() -> None:
    # Staying at 0 forever, with reward -1 and discount .5, is worth -2 however short the episodes.
    task = GymTask(environment="Example-v0", discount=0.5, max_episode_steps=1)
    training = trained(task, Tabular(algorithm="sarsa", exploration=1.0), 0.5, 4000)
    values = training.agent.policy()["values"]
    policy = values[0].mean()
    # V = .5 (1 + .5 V(1)) + .5 (-1 + .5 V), and V(1) is never left, so 0.
    assert values[0, 0] == pytest.approx(-1 + 0.5 * policy, abs=0.3)
    assert values[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("algorithm", ["q-learning", "sarsa", "expected-sarsa"])
@pytest.mark.parametrize("rule", TABULAR_RULES)
def test_every_rule_learns_the_row(algorithm: Any, rule: str) -> None:
    task = GymTask(environment="Example-v0", max_episode_steps=50)
    method = Method(agent=Tabular(algorithm=algorithm), rule=TABULAR_RULES[rule])
    training = Training(task, method, 0, torch.device("cpu"))
    for _ in range(100):
        training.step()
    assert training.play(make(task), 2, 0, greedy=True) == [4.0, 4.0]


def test_integers_of_the_environment_may_begin_anywhere() -> None:
    later = GymTask(environment="Example-v0", arguments=("kind=later",), max_episode_steps=50)
    number = GymTask(environment="Example-v0", max_episode_steps=50)
    settings = Tabular(algorithm="q-learning")
    one, other = (trained(task, settings, 0.1, 20) for task in (later, number))
    assert one.history == other.history


def test_expected_sarsa_refuses_traces() -> None:
    with pytest.raises(ValueError, match="without traces"):
        Tabular(algorithm="expected-sarsa", lambda_=0.5)


def test_a_task_has_the_environments_own_time_limit() -> None:
    assert task_of("FrozenLake-v1").max_episode_steps == 100
    assert task_of("CliffWalking-v1").max_episode_steps == 10_000
    assert task_of("FrozenLake") == task_of("FrozenLake-v1")
    assert gym.spec("CliffWalking-v1").max_episode_steps is None
