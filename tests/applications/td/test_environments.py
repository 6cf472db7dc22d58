from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from applications.td.environments import bootstrap_discount, transition_table
from applications.td.exact_values import optimal_action_values, policy_values
from applications.td.problems import MountainCar
from applications.td.worlds import TableWorld

CPU = torch.device("cpu")


class Scripted:
    """Stands in for an environment's generator: hands out a given number."""

    def __init__(self, uniform: float) -> None:
        self.uniform = uniform

    def random(self) -> float:
        return self.uniform


@pytest.mark.parametrize("environment", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
def test_transitions_equal_gymnasiums(environment):
    gymnasiums: Any = gym.make(environment).unwrapped
    world = TableWorld(transition_table(environment), 2.0, torch.float64, CPU)
    generator = np.random.default_rng(0)
    ends = 0
    gymnasiums.reset(seed=0)
    for _ in range(4000):
        state, action = int(gymnasiums.s), int(generator.integers(world.actions))
        uniform = float(generator.random())
        gymnasiums.np_random = Scripted(uniform)
        observation, reward, terminated, _, _ = gymnasiums.step(action)
        outcome = world.step(
            torch.tensor([state]), torch.tensor([action]), torch.tensor([uniform]).double()
        )
        assert int(outcome.next_state) == observation
        assert float(outcome.reward) == 2.0 * reward
        assert bool(outcome.terminated) == terminated
        if terminated:
            ends += 1
            gymnasiums.reset(seed=ends)
    assert ends > 0 or environment == "CliffWalking-v1"  # falls do not end it


def test_a_coin_moves_the_walk_to_both_sides_and_to_its_ends():
    world = TableWorld(
        transition_table("sciopt/RandomWalk-v0").under_policy(), 1.0, torch.float64, CPU
    )
    assert world.fair
    state = torch.tensor([1, 1, 10, 10, 19, 19])
    move = torch.tensor([0.25, 0.75] * 3).double()
    outcome = world.step(state, torch.zeros(6, dtype=torch.int64), move)
    assert outcome.next_state.tolist() == [0, 2, 9, 11, 18, 20]
    assert outcome.reward.tolist() == [-1, 0, 0, 0, 0, 1]
    assert outcome.terminated.tolist() == [True, False, False, False, False, True]


def test_bairds_ratios_correct_for_the_behaviour():
    table = transition_table("sciopt/Baird-v0").under_policy()
    torch.testing.assert_close(table.probability.sum(-1), torch.ones(7).double())
    # Expectations under the target policy, by importance sampling: always the seventh state.
    weight = table.probability * table.ratio
    seventh = torch.where(table.next_state == 6, weight, 0.0).sum(-1)
    torch.testing.assert_close(seventh, torch.ones(7).double())
    torch.testing.assert_close(weight.sum(-1), torch.ones(7).double())
    assert float(table.ratio.max()) == pytest.approx(7.0)


def test_expected_updates_of_baird_diverge_and_of_boyan_converge():
    # The eigenvalues of A = X' D (I - discount P) X decide (Sutton and Barto 2018, section 11.4).
    for environment, discount, stable in (("Baird", 0.99, False), ("BoyanChain", 1.0, True)):
        table = transition_table(f"sciopt/{environment}-v0")
        merged = table.under_policy()
        onward = torch.zeros(table.states, table.states).double()
        weight = merged.probability * merged.ratio * (~merged.terminated)
        rows = torch.arange(table.states)[:, None].expand_as(merged.next_state)
        onward.index_put_((rows, merged.next_state), discount * weight, accumulate=True)
        x = table.features
        matrix = x.T @ (torch.eye(table.states).double() - onward) @ x / table.states
        lowest = float(torch.linalg.eigvals(matrix).real.min())
        assert (lowest > -1e-12) == stable
        if environment == "Baird":
            assert lowest * table.states / 7 == pytest.approx(-0.239, abs=0.01)


def test_boyans_values_are_linear_in_its_features():
    table = transition_table("sciopt/BoyanChain-v0")
    values = policy_values(table, 1.0)
    torch.testing.assert_close(values[1:], -2.0 * torch.arange(1, 13).double())
    weights = torch.tensor([-24.0, -16.0, -8.0, 0.0]).double()
    torch.testing.assert_close((table.features @ weights)[1:], values[1:])


def test_tiles_are_one_per_tiling_and_neighbours_share_most_of_them():
    world = MountainCar(tilings=8, tiles=8).world(torch.float64, CPU)
    generator = np.random.default_rng(0)
    low, high = np.array([-1.2, -0.07]), np.array([0.6, 0.07])
    states = torch.tensor(generator.uniform(low, high, (500, 2)))
    index, values = world.features(states)
    assert index.shape == (500, 8)
    assert values.tolist() == [[1.0]]
    assert torch.equal(index // 81, torch.arange(8).expand(500, 8))
    # A step of 1/8 of a tile changes the tile in exactly one tiling of eight on average.
    tile = (high - low) / 8
    moved, _ = world.features(states + torch.tensor([tile[0] / 8, 0.0]))
    inside = states[:, 0] + tile[0] / 8 < 0.6
    assert float((moved != index)[inside].double().sum(-1).mean()) == pytest.approx(1.0, abs=0.02)
    for corner in (low, high):
        index, _ = world.features(torch.tensor(corner)[None])
        assert int(index.min()) >= 0
        assert int(index.max()) < world.feature_count


def test_the_table_draws_branches_as_gymnasium_does():
    table = transition_table("FrozenLake-v1")
    generator = np.random.default_rng(0)
    for row in range(len(table.probability)):
        cumulative = table.probability[row].cumsum(0).numpy()
        for u in generator.random(20):
            branch = int((u >= table.thresholds[row]).sum())
            assert branch == int(np.argmax(cumulative > u))


def test_no_branch_that_cannot_occur_is_ever_drawn():
    for name in ("FrozenLake-v1", "CliffWalking-v1", "sciopt/RandomWalk-v0"):
        table = transition_table(name)
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
    table = transition_table(environment)
    values = policy_values(table, 1.0)
    expected = -1 + 2 * torch.arange(states + 2).double() / (states + 1)
    torch.testing.assert_close(values[1:-1], expected[1:-1], rtol=0, atol=1e-14)
    assert table.terminal.nonzero().flatten().tolist() == [0, states + 1]


@pytest.mark.parametrize(
    ("environment", "discount", "expected"),
    [
        ("FrozenLake-v1", 0.99, 0.542026),
        ("FrozenLake-v1", 1.0, 14 / 17),
        ("FrozenLake8x8-v1", 0.99, 0.414640),
        ("CliffWalkingSlippery-v1", 0.99, -46.352672),
        ("CliffWalking-v1", 1.0, -13.0),
        ("CliffWalking-v1", 0.99, -12.247898),
    ],
)
def test_optimal_start_values_are_the_known_ones(environment, discount, expected):
    table = transition_table(environment)
    values = optimal_action_values(table, discount)
    assert float(values[int(table.start.argmax())].max()) == pytest.approx(expected, abs=6e-7)


def test_taxis_mean_optimal_start_value_is_the_known_one():
    table = transition_table("Taxi-v4")
    best = optimal_action_values(table, 0.99).amax(-1)
    assert float(table.start @ best) == pytest.approx(6.327464, abs=6e-7)


def test_policy_values_satisfy_monte_carlo_on_the_lake():
    table = transition_table("FrozenLake-v1")
    values = policy_values(table, 0.99)
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


@pytest.mark.parametrize(
    "environment", ["sciopt/RandomWalk-v0", "sciopt/BoyanChain-v0", "sciopt/Baird-v0"]
)
def test_the_registered_environments_pass_gymnasiums_own_check(environment):
    from gymnasium.utils.env_checker import check_env

    check_env(gym.make(environment).unwrapped, skip_render_check=True)


def test_values_without_end_or_discount_are_refused():
    table = transition_table("FrozenLake-v1")
    table.terminated.fill_(False)
    with pytest.raises(ValueError, match="use one below 1"):
        policy_values(table, 1.0)


def test_wrong_environments_and_settings_are_named():
    with pytest.raises(ValueError, match="did you mean FrozenLake-v1"):
        transition_table("FrozenLak-v1")
    with pytest.raises(ValueError, match="no transition table"):
        transition_table("CartPole-v1")
    with pytest.raises(ValueError, match="odd number"):
        gym.make("sciopt/RandomWalk-v0", states=4)
    with pytest.raises(ValueError, match="standard deviation"):
        gym.make("sciopt/RandomWalk-v0", reward_noise=-1.0)
