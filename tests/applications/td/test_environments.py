from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from applications.td.environments import bootstrap_discount, transition_table
from applications.td.exact_values import optimal_action_values, random_policy_values
from applications.td.methods import METHODS
from applications.td.problems import PROBLEMS, RandomWalk
from applications.td.solve import LockstepAgents, start

CPU = torch.device("cpu")


class Scripted:
    """Stands in for an environment's generator: hands out the agent's own random numbers."""

    def __init__(self, uniform: float, normal: float) -> None:
        self.uniform, self.normal = uniform, normal

    def random(self) -> float:
        return self.uniform

    def standard_normal(self) -> float:
        return self.normal


@pytest.mark.parametrize("name", ["noisy-walk", "frozen-lake", "cliff-walking"])
def test_lockstep_transitions_equal_gymnasiums(name, monkeypatch):
    problem = PROBLEMS[name]
    settings: dict[str, Any] = (
        {"reward_noise": 0.3, "reward_scale": 2.0} if name == "noisy-walk" else {}
    )
    if settings:
        problem = RandomWalk(**settings)
    environment: Any = gym.make(
        problem.environment, max_episode_steps=problem.max_episode_steps, **settings
    )
    method = METHODS["td-fixed" if name == "noisy-walk" else "q-fixed"]
    solver = start(problem, method, 0, CPU)
    learn = LockstepAgents._transition
    seen = {"transitions": 0, "ends": 0}

    def compared(self, episode, time_step, words, noise):
        if time_step == 1:
            environment.reset(seed=0)
            assert int(
                environment.unwrapped.s if name != "noisy-walk" else environment.unwrapped.state
            ) == int(self.state[0, 0])
        playing, action = bool(self.running[0, 0]), int(self.action[0, 0])
        before = float(self.episode_return[0, 0])
        learn(self, episode, time_step, words, noise)
        if not playing:
            return
        normal = float(torch.special.ndtri(words[1, 0]))
        environment.unwrapped.np_random = Scripted(float(words[0, 0]), normal)
        observation, reward, terminated, _truncated, _ = environment.step(action)
        assert int(self.state[0, 0]) == observation
        assert float(self.episode_return[0, 0]) - before == pytest.approx(reward, abs=1e-10)
        assert bool(self.running[0, 0]) == (not terminated)
        seen["transitions"] += 1
        seen["ends"] += terminated

    monkeypatch.setattr(LockstepAgents, "_transition", compared)
    for _ in range(10):
        solver.step()
    assert seen["transitions"] > 100
    assert seen["ends"] > 0


@pytest.mark.parametrize("limit", [1, 9, 64, 65])
def test_an_episode_lasts_no_longer_than_gymnasiums_time_limit(limit, monkeypatch):
    environment: Any = gym.make("FrozenLake-v1", max_episode_steps=limit, map_name="8x8")
    environment.reset(seed=0)
    terminated = truncated = False
    lasted = 0
    while not (terminated or truncated):  # along the upper wall, slipping sideways: no hole near
        _, _, terminated, truncated, _ = environment.step(3)
        lasted += 1
    assert truncated
    assert lasted == limit
    times = []
    learn = LockstepAgents._transition

    def counted(self, episode, time_step, words, noise):
        times.append((time_step, bool(self.running.any())))
        learn(self, episode, time_step, words, noise)

    monkeypatch.setattr(LockstepAgents, "_transition", counted)
    start(RandomWalk(max_episode_steps=limit, agents=50), METHODS["td-fixed"], 0, CPU).step()
    assert [time for time, _ in times] == list(range(1, limit + 1))
    assert all(running for _, running in times)


def test_the_table_draws_branches_as_gymnasium_does():
    table = transition_table("FrozenLake-v1", 100)
    generator = np.random.default_rng(0)
    for row in range(len(table.probability)):
        cumulative = table.probability[row].cumsum(0).numpy()
        for u in generator.random(20):
            branch = int((u >= table.thresholds[row]).sum())
            assert branch == int(np.argmax(cumulative > u))


def test_no_branch_that_cannot_occur_is_ever_drawn():
    for name in ("FrozenLake-v1", "CliffWalking-v1", "sciopt/RandomWalk-v0"):
        table = transition_table(name, 10)
        branch = (table.thresholds <= 1 - 2.0**-33).sum(-1, keepdim=True)
        assert bool((table.probability.gather(-1, branch) > 0).all())


def test_only_termination_stops_the_bootstrap():
    terminated = torch.tensor([False, True])
    assert bootstrap_discount(0.9, terminated).tolist() == [0.9, 0.0]


@pytest.mark.parametrize("states", [5, 19])
def test_random_walk_values_are_the_closed_form(states):
    environment = "sciopt/RandomWalk-v0"
    if states != 19:
        gym.register(
            "sciopt/RandomWalk5-v0",
            "applications.td.environments:RandomWalk",
            kwargs={"states": states},
        )
        environment = "sciopt/RandomWalk5-v0"
    table = transition_table(environment, 10)
    values = random_policy_values(table, 1.0)
    expected = -1 + 2 * torch.arange(states + 2).double() / (states + 1)
    torch.testing.assert_close(values[1:-1], expected[1:-1], rtol=0, atol=1e-14)
    assert table.terminal.nonzero().flatten().tolist() == [0, states + 1]


@pytest.mark.parametrize(
    ("environment", "discount", "expected"),
    [
        ("FrozenLake-v1", 0.99, 0.542026),
        ("FrozenLake-v1", 1.0, 14 / 17),
        ("FrozenLake8x8-v1", 0.99, 0.414640),
        ("CliffWalking-v1", 1.0, -13.0),
        ("CliffWalking-v1", 0.99, -12.247898),
    ],
)
def test_optimal_start_values_are_the_known_ones(environment, discount, expected):
    table = transition_table(environment, 10)
    values = optimal_action_values(table, discount)
    assert float(values[int(table.start.argmax())].max()) == pytest.approx(expected, abs=6e-7)


def test_random_policy_values_satisfy_monte_carlo_on_the_lake():
    table = transition_table("FrozenLake-v1", 100)
    values = random_policy_values(table, 0.99)
    environment: Any = gym.make("FrozenLake-v1")
    generator = np.random.default_rng(0)
    returns = []
    for episode in range(3000):
        environment.reset(seed=episode)
        over, discounted, factor = False, 0.0, 1.0
        while not over:
            _, reward, terminated, truncated, _ = environment.step(int(generator.integers(4)))
            discounted += factor * float(reward)
            factor *= 0.99
            over = terminated or truncated
        returns.append(discounted)
    standard_error = np.std(returns) / len(returns) ** 0.5
    assert abs(np.mean(returns) - float(values[0])) < 4 * standard_error


@pytest.mark.parametrize("environment", ["sciopt/RandomWalk-v0"])
def test_the_registered_walk_passes_gymnasiums_own_check(environment):
    from gymnasium.utils.env_checker import check_env

    check_env(gym.make(environment).unwrapped, skip_render_check=True)


def test_values_without_end_or_discount_are_refused():
    table = transition_table("FrozenLake-v1", 10)
    table.terminated.fill_(False)
    with pytest.raises(ValueError, match="use one below 1"):
        random_policy_values(table, 1.0)


def test_wrong_environments_and_settings_are_named():
    with pytest.raises(ValueError, match="did you mean FrozenLake-v1"):
        transition_table("FrozenLak-v1", 10)
    with pytest.raises(ValueError, match="no transition table"):
        transition_table("CartPole-v1", 10)
    with pytest.raises(ValueError, match="odd number"):
        gym.make("sciopt/RandomWalk-v0", states=4)
    with pytest.raises(ValueError, match="standard deviation"):
        gym.make("sciopt/RandomWalk-v0", reward_noise=-1.0)
