import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from plain_td_agent import PlainAgent, Words

from applications.td.methods import METHODS, Method
from applications.td.philox import Luck, Moment, Purpose
from applications.td.problems import PROBLEMS, CliffWalking, FrozenLake, MountainCar, RandomWalk
from applications.td.rules import BoundedSurprise, Fixed, PooledAgreement, Surprise
from applications.td.solve import arrays, by_setting, evaluate, start

CPU = torch.device("cpu")


TEN: dict[str, Any] = {"episodes_per_step": 10}


def played(problem, method, steps, seed=0):
    solver = start(problem, method, seed, CPU)
    for _ in range(steps):
        if solver.step() is not None:
            break
    return solver


def weights(solver):
    """Of each setting and agent."""
    return solver.weights.unflatten(0, (len(solver.settings), -1))


@pytest.mark.parametrize(
    ("problem", "algorithm", "rule"),
    [
        ("noisy-walk", "td", Fixed()),
        ("noisy-walk", "td", Surprise()),
        ("noisy-walk", "td", BoundedSurprise()),
        ("noisy-walk", "true-online-td", Fixed()),
        ("frozen-lake", "q-learning", BoundedSurprise()),
        ("frozen-lake", "q-learning", Fixed()),
        ("frozen-lake", "sarsa", Surprise()),
        ("frozen-lake", "expected-sarsa", Fixed()),
        ("cliff-walking", "q-learning", Fixed()),
        ("cliff-walking", "sarsa", BoundedSurprise()),
        ("cliff-walking", "expected-sarsa", Fixed()),
    ],
)
def test_an_agent_of_the_batch_learns_what_a_plain_python_agent_learns(problem, algorithm, rule):
    settings = dataclasses.replace(
        PROBLEMS[problem], agents=3, max_episode_steps=50, episodes_per_step=2, reward_scale=2.0
    )
    method = Method(
        algorithm=algorithm, rule=rule, lambdas=(0.0, 0.7), coefficients=(0.03125, 0.0625)
    )
    solver = played(settings, method, 2)
    for setting, agent in ((1, 0), (3, 2)):
        lambda_, coefficient = solver.settings[setting]
        plain = PlainAgent(settings, method, agent, coefficient, lambda_)
        scores = [plain.episode(number) for number in range(1, 5)]
        np.testing.assert_allclose(
            weights(solver)[setting, agent], plain.values.ravel(), rtol=1e-9, atol=1e-12
        )
        if not method.predicts:
            got = by_setting(solver, solver.scores)[:, setting, agent]
            np.testing.assert_allclose(got, scores, rtol=1e-12)


def test_with_lambda_zero_the_sparse_trace_and_the_dense_one_agree():
    lake = dataclasses.replace(PROBLEMS["frozen-lake"], agents=5, episodes_per_step=10)
    for algorithm in ("q-learning", "sarsa"):
        for rule in (Fixed(), PooledAgreement()):
            sparse = Method(algorithm=algorithm, rule=rule, lambdas=(0.0,), coefficients=(0.1,))
            dense = dataclasses.replace(sparse, lambdas=(0.0, 0.5))
            values = [weights(played(lake, method, 1))[0] for method in (sparse, dense)]
            torch.testing.assert_close(*values, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_agent_is_bit_identical_whatever_the_batch(method):
    problem = PROBLEMS["noisy-walk" if METHODS[method].predicts else "frozen-lake"]
    problem = dataclasses.replace(problem, episodes_per_step=6)
    settings = METHODS[method]
    one = settings.coefficients[-3:][:1]
    alone = played(
        dataclasses.replace(problem, agents=1), dataclasses.replace(settings, coefficients=one), 1
    )
    grid = (one[0] / 2, one[0], one[0] * 2)
    many = played(
        dataclasses.replace(problem, agents=37), dataclasses.replace(settings, coefficients=grid), 1
    )
    assert torch.equal(weights(alone)[0, 0], weights(many)[1, 0])
    assert torch.equal(alone.scores[:, 0], by_setting(many, many.scores)[:, 1, 0])


def test_an_agent_on_tiles_is_bit_identical_whatever_the_batch():
    car = MountainCar(max_episode_steps=200, episodes_per_step=1)
    for name in ("sarsa-fixed", "q-agreement"):
        method = dataclasses.replace(METHODS[name], coefficients=(0.5,))
        alone = played(dataclasses.replace(car, agents=1), method, 1)
        many = played(dataclasses.replace(car, agents=11), method, 1)
        assert torch.equal(alone.weights[0], many.weights[0])


def test_episodes_do_not_depend_on_how_many_a_step_has():
    one = played(RandomWalk(agents=5, episodes_per_step=1), METHODS["td-agreement"], 4)
    four = played(RandomWalk(agents=5, episodes_per_step=4), METHODS["td-agreement"], 1)
    assert torch.equal(one.weights, four.weights)
    assert torch.equal(one.scores, four.scores)


def test_one_episode_of_td_one_with_small_rate_is_monte_carlo():
    rate = 1e-9
    problem = RandomWalk(agents=20, reward_noise=0.5, episodes_per_step=1)
    method = Method(algorithm="td", rule=Fixed(), lambdas=(1.0,), coefficients=(rate,))
    solver = played(problem, method, 1)
    for agent in range(20):
        words = Words(agent)
        path, rewards = [10], []
        while path[-1] not in (0, 20):
            t = len(path)
            path.append(path[-1] + (1 if words.coin(1, t) else -1))
            rewards.append({0: -1.0, 20: 1.0}.get(path[-1], 0.0) + 0.5 * words.normal(1, t))
        expected = np.zeros(21)
        for visit, state in enumerate(path[:-1]):
            expected[state] += sum(rewards[visit:])
        np.testing.assert_allclose(solver.weights[agent] / rate, expected, rtol=1e-4, atol=1e-4)


def test_true_online_td_ends_an_episode_at_the_offline_lambda_return():
    # Van Seijen et al. (2016), theorem 1: the weights are those of the online lambda-return
    # algorithm, which at the end of an episode has used the lambda-returns of the whole episode.
    lambda_, rate = 0.7, 0.1
    problem = RandomWalk(agents=5, reward_noise=0.5, episodes_per_step=1)
    method = Method(
        algorithm="true-online-td", rule=Fixed(), lambdas=(lambda_,), coefficients=(rate,)
    )
    solver = played(problem, method, 1)
    for agent in range(5):
        words, path, rewards = Words(agent), [10], []
        while path[-1] not in (0, 20):
            t = len(path)
            path.append(path[-1] + (1 if words.coin(1, t) else -1))
            rewards.append({0: -1.0, 20: 1.0}.get(path[-1], 0.0) + 0.5 * words.normal(1, t))
        horizons = len(rewards)
        before = np.zeros((horizons + 1, 21))  # weights after each horizon
        for horizon in range(1, horizons + 1):
            w = np.zeros(21)
            for k in range(horizon):
                value, weight, reward_sum = 0.0, 1.0, 0.0
                for n in range(k, horizon):
                    reward_sum += rewards[n]
                    end = path[n + 1] in (0, 20)
                    bootstrap = 0.0 if end else before[n, path[n + 1]]
                    last = n == horizon - 1
                    value += (weight if last else (1 - lambda_) * weight) * (reward_sum + bootstrap)
                    weight *= lambda_
                w[path[k]] += rate * (value - w[path[k]])
            before[horizon] = w
        np.testing.assert_allclose(solver.weights[agent], before[-1], rtol=1e-9, atol=1e-12)


def test_value_errors_are_those_of_sutton_and_bartos_figure():
    method = Method(algorithm="td", rule=Fixed(), lambdas=(0.8,), coefficients=(0.25,))
    errors = played(RandomWalk(agents=100, **TEN), method, 1).scores.mean(0)
    assert float(errors.mean()) == pytest.approx(0.271, abs=0.017)


@pytest.mark.parametrize("name", ["td-bounded", "td-agreement", "td-bakf", "td-intentional"])
def test_scaling_rewards_scales_the_values_and_nothing_else(name):
    method = METHODS[name]
    problem = RandomWalk(reward_noise=0.3, agents=10, episodes_per_step=5)
    plain, doubled, hundred = (
        played(dataclasses.replace(problem, reward_scale=scale), method, 1)
        for scale in (1.0, 2.0**20, 100.0)
    )
    assert torch.equal(doubled.weights, plain.weights * 2.0**20)
    torch.testing.assert_close(hundred.weights, plain.weights * 100, rtol=1e-9, atol=1e-10)


def test_the_naive_rule_is_another_one_when_rewards_are_scaled():
    naive = [played(RandomWalk(reward_scale=s, **TEN), METHODS["td-surprise"], 1) for s in (1, 2)]
    assert not torch.allclose(naive[1].weights, naive[0].weights * 2, rtol=0.01)


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    method = Method(algorithm="td", rule=Fixed(), lambdas=(0.0,), coefficients=(1.0,))
    short = RandomWalk(agents=50, max_episode_steps=1, episodes_per_step=1)
    solver = start(short, method, 0, CPU)
    solver.weights.fill_(3.0)
    solver.step()
    assert torch.equal(solver.weights[:, 10], torch.full((50,), 3.0, dtype=torch.float64))
    solver = start(RandomWalk(agents=50, episodes_per_step=1), method, 0, CPU)
    solver.weights.fill_(3.0)
    solver.step()
    # Once the value at an end is its reward, it can only have been set without a bootstrap.
    left, right = solver.weights[:, 1], solver.weights[:, 19]
    assert bool(((left == -1.0) | (right == 1.0)).all())


@pytest.mark.parametrize("limit", [1, 9, 32, 33, 64])
def test_an_episode_lasts_no_longer_than_the_time_limit(limit):
    # The car cannot be up the hill that soon, and every time step costs 1.
    problem = dataclasses.replace(
        PROBLEMS["mountain-car"], agents=4, max_episode_steps=limit, episodes_per_step=3
    )
    solver = played(problem, METHODS["q-agreement"], 2)
    assert torch.equal(solver.scores, torch.full((6, 4), -float(limit), dtype=torch.float64))


def test_diverged_agents_are_frozen_and_the_end_names_step_and_error():
    method = dataclasses.replace(METHODS["td-surprise"], coefficients=(0.5, 4.0))
    problem = RandomWalk(reward_noise=0.3, agents=5, episodes_per_step=2)
    solver = start(problem, method, 0, CPU)
    while not solver.diverged.any():
        solver.step()
    lost, values = solver.diverged, solver.weights.clone()
    ended = None
    while ended is None:
        ended = solver.step()
    assert ended.status.failed
    for word in ("time step", "episode", "TD error", "all 10 agents", "coefficient"):
        assert word in ended.reason
    assert torch.equal(solver.weights[lost], values[lost])
    assert bool((solver.diverged_td_error.abs() > solver.divergence_bound).all())
    error = solver.diverged_td_error
    torch.testing.assert_close(solver.diverged_step, solver.coefficient * error.abs() * error)
    assert bool((solver.diverged_time_step > 0).all())
    assert float(solver.scores[-1].min()) == solver.divergence_bound
    metrics = evaluate(problem, solver)
    assert metrics["fraction_diverged"] == 1.0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("name", ["td-bounded", "sarsa-bounded", "td-agreement", "sarsa-agreement"])
def test_bounded_rules_never_diverge(name):
    problem = RandomWalk(reward_noise=30.0, agents=10, **TEN)
    if not METHODS[name].predicts:
        problem = CliffWalking(agents=5, reward_noise=30.0, max_episode_steps=100, **TEN)
    method = dataclasses.replace(METHODS[name], coefficients=(0.1, 1.0, 10.0, 1000.0))
    assert not played(problem, method, 1).diverged.any()


def test_no_rule_cures_bairds_counterexample():
    baird = dataclasses.replace(PROBLEMS["baird"], agents=4, **TEN)
    for name in ("td-fixed", "td-alpha-bound", "td-adam"):
        method = dataclasses.replace(METHODS[name], lambdas=(0.0,), coefficients=(0.05,))
        solver = start(baird, method, 0, CPU)
        first = solver.value_error(solver.weights[None], torch.ones(4)).mean()
        solver.step()
        solver.step()
        assert float(solver.scores[-1].mean()) > 2 * float(first)


def test_boyans_chain_is_learnt_from_its_four_features():
    problem = dataclasses.replace(PROBLEMS["boyan-chain"], agents=10, episodes_per_step=400)
    method = dataclasses.replace(METHODS["td-fixed"], coefficients=(0.1,))
    solver = played(problem, method, 1)
    expected = torch.tensor([-24.0, -16.0, -8.0, 0.0], dtype=torch.float64)
    assert float((solver.weights.mean(0) - expected).abs().max()) < 1.0
    assert solver.weights.shape == (10, 4)


def test_q_learning_finds_the_cliffs_optimum():
    method = Method(algorithm="q-learning", rule=Fixed(), lambdas=(0.0,), coefficients=(1.0,))
    cliff = CliffWalking(agents=5, episodes_per_step=150)
    assert evaluate(cliff, played(cliff, method, 1))["start_value_error"] < 1e-12


def test_switched_rewards_are_learnt_with_the_other_sign():
    problem = RandomWalk(agents=10, switch_episode=30, **TEN)
    method = Method(algorithm="td", rule=Fixed(), lambdas=(0.8,), coefficients=(0.2,))
    solver = played(problem, method, 8)
    middle = solver.weights[:, 1:20]
    assert float(middle[:, 0].mean()) > 0.5 > -0.5 > float(middle[:, -1].mean())
    errors = solver.scores.mean(-1)
    assert float(errors[30]) > 0.7 > 0.3 > float(errors[-1])


def test_noise_has_the_size_and_the_kind_asked_for():
    agents = torch.arange(2000)
    moment = Moment(agents, torch.ones_like(agents), torch.ones_like(agents))
    drawn: dict[str, Any] = {}
    for kind in ("normal", "student", "outliers"):
        problem = RandomWalk(reward_noise=2.0, noise_kind=kind, reward_scale=3.0)
        drawn[kind] = problem.noise(Luck(1), moment, 64)
    assert float(drawn["normal"].std()) == pytest.approx(6.0, rel=0.02)
    # Of Student's t with 2 degrees of freedom P(|t| > q) = 1 - q / sqrt(2 + q^2).
    t = drawn["student"] / 6.0
    for q in (1.0, 3.0):
        expected = 1 - q / (2 + q * q) ** 0.5
        assert float((t.abs() > q).double().mean()) == pytest.approx(expected, rel=0.03)
    outliers = drawn["outliers"]
    assert set(outliers.unique().tolist()) == {-6.0, 0.0, 6.0}
    assert float((outliers != 0).double().mean()) == pytest.approx(0.01, rel=0.1)


def test_states_are_snapshots():
    solver = played(RandomWalk(agents=4, episodes_per_step=1), METHODS["td-agreement"], 2)
    state = solver.state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    solver.step()
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_single_precision_stays_near_double():
    method = METHODS["td-bounded"]
    single = played(RandomWalk(**TEN), dataclasses.replace(method, precision="float32"), 1)
    double = played(RandomWalk(**TEN), method, 1)
    assert single.weights.dtype is torch.float32
    torch.testing.assert_close(single.weights.double(), double.weights, rtol=1e-3, atol=1e-4)


def test_arrays_hold_an_outcome_per_setting_and_agent():
    problem = RandomWalk(agents=7, **TEN)
    method = dataclasses.replace(METHODS["td-fixed"], lambdas=(0.5, 0.9), coefficients=(0.1, 0.2))
    kept = arrays(problem, played(problem, method, 1))
    assert kept["scores"].shape == (10, 4, 7)
    assert kept["lambdas"].tolist() == [0.5, 0.5, 0.9, 0.9]
    assert kept["coefficients"].tolist() == [0.1, 0.2, 0.1, 0.2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: RandomWalk(discount=1.1), "discount = 1.1"),
        (lambda: RandomWalk(agents=0), "agents = 0"),
        (lambda: RandomWalk(episodes_per_step=0), "episodes_per_step = 0"),
        (lambda: RandomWalk(switch_episode=-1), "switch_episode = -1"),
        (lambda: RandomWalk(reward_noise=-1.0), "reward_noise = -1"),
        (lambda: MountainCar(tilings=0), "tilings = 0"),
        (lambda: dataclasses.replace(METHODS["td-fixed"], lambdas=(1.5,)), "lambdas = "),
        (lambda: dataclasses.replace(METHODS["td-fixed"], coefficients=(-0.5,)), "-0.5"),
        (lambda: dataclasses.replace(METHODS["td-fixed"], coefficients=()), "one or more"),
        (lambda: dataclasses.replace(METHODS["td-fixed"], exploration=2.0), "exploration = 2.0"),
        (lambda: BoundedSurprise(memory=0.0), "memory = 0.0"),
        (lambda: PooledAgreement(memory=2.0), "memory = 2.0"),
        (
            lambda: Method(algorithm="true-online-td", rule=Surprise(), lambdas=(0.5,)),
            "needs the gain before",
        ),
        (lambda: start(RandomWalk(), METHODS["q-fixed"], 0, CPU), "algorithm td"),
        (lambda: start(FrozenLake(), METHODS["td-fixed"], 0, CPU), "q-learning or sarsa"),
    ],
)
def test_bad_settings_are_refused_with_a_cure(settings, message):
    with pytest.raises(ValueError, match=message):
        settings()


def test_start_and_choice_numbers_come_from_streams_of_their_own():
    words = Words(3)
    numbers = {purpose: words.uniform(purpose, 2, 5) for purpose in Purpose}
    assert len(set(numbers.values())) == len(numbers)
