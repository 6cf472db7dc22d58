import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from applications.td.methods import METHODS, BoundedSurprise, FixedRate
from applications.td.philox import uniforms
from applications.td.problems import PROBLEMS, CliffWalking, FrozenLake, RandomWalk
from applications.td.solve import evaluate, start

CPU = torch.device("cpu")


def played(problem, method, episodes, seed=0):
    solver = start(problem, method, seed, CPU)
    for _ in range(episodes):
        if solver.step() is not None:
            break
    return solver


def reference_run(  # noqa: C901, PLR0915 - by the book, in one piece
    problem, method, episodes, agent, coefficient
):
    """One agent by the book in plain Python: Sutton and Barto's TD, SARSA and Q-learning."""
    environment: Any = gym.make(problem.environment, max_episode_steps=problem.max_episode_steps)
    table = environment.unwrapped.P
    start_state = int(np.argmax(environment.unwrapped.initial_state_distrib))
    actions, prediction = len(table[0]), method.algorithm == "td"
    values: dict[Any, float] = (
        dict.fromkeys(table, 0.0) if prediction else {(s, a): 0.0 for s in table for a in table[s]}
    )
    square, seen = 0.0, 0

    def choose(s, words):
        best = max(values[s, a] for a in range(actions)) if not prediction else 0
        explores = prediction or words[2] < method.exploration
        allowed = [a for a in range(actions) if explores or values[s, a] == best]
        return allowed[int(words[3] * len(allowed))]

    for episode in range(1, episodes + 1):
        words = uniforms(0, torch.tensor([agent]), episode, range(problem.max_episode_steps + 1))
        words = words[:, :, 0].T.tolist()
        s, traces = start_state, dict.fromkeys(values, 0.0)
        a = choose(s, words[0])
        for t in range(1, problem.max_episode_steps + 1):
            cumulative = np.cumsum([branch[0] for branch in table[s][a]])
            _, s2, reward, terminated = table[s][a][int(np.argmax(cumulative > words[t][0]))]
            normal = float(torch.special.ndtri(torch.tensor(words[t][1], dtype=torch.float64)))
            reward = (reward + problem.reward_noise * normal) * problem.reward_scale
            a2 = choose(s2, words[t])
            entry = s if prediction else (s, a)
            if terminated:
                target = reward
            elif prediction:
                target = reward + problem.discount * values[s2]
            elif method.algorithm == "sarsa":
                target = reward + problem.discount * values[s2, a2]
            else:
                target = reward + problem.discount * max(values[s2, b] for b in range(actions))
            td_error = target - values[entry]
            for key in traces:
                traces[key] *= problem.discount * method.lambda_
            traces[entry] += 1.0
            rate = coefficient
            if isinstance(method, BoundedSurprise):
                seen += 1
                square += max(1 / seen, method.memory) * (td_error**2 - square)
                rate = coefficient * abs(td_error) / square**0.5 if square > 0 else 0.0
                rate = min(rate, 1 / sum(traces.values()))
            elif not isinstance(method, FixedRate):
                rate = coefficient * abs(td_error)
            for key, trace in traces.items():
                values[key] += rate * td_error * trace
            s, a = s2, a2
            if terminated:
                break
    return np.array(
        list(values.values()) if not prediction else [values[s] for s in sorted(values)]
    )


@pytest.mark.parametrize(
    ("problem", "method"),
    [
        ("noisy-walk", "td-fixed"),
        ("noisy-walk", "td-surprise"),
        ("noisy-walk", "td-bounded"),
        ("frozen-lake", "q-bounded"),
        ("frozen-lake", "sarsa-surprise"),
        ("cliff-walking", "q-fixed"),
        ("cliff-walking", "sarsa-bounded"),
    ],
)
def test_an_agent_of_the_batch_learns_what_a_plain_python_agent_learns(problem, method):
    settings = dataclasses.replace(PROBLEMS[problem], agents=3, max_episode_steps=150)
    rule = dataclasses.replace(METHODS[method], coefficients=(0.0625, 0.125))
    solver = played(settings, rule, 4)
    expected = reference_run(settings, rule, 4, agent=2, coefficient=0.125)
    np.testing.assert_allclose(solver.estimates[1, 2].numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "method"),
    [("noisy-walk", "td-bounded"), ("frozen-lake", "sarsa-bounded"), ("frozen-lake", "q-surprise")],
)
def test_an_agent_is_bit_identical_whatever_the_batch(problem, method):
    one = METHODS[method].coefficients[3:4]
    alone = played(
        dataclasses.replace(PROBLEMS[problem], agents=1),
        dataclasses.replace(METHODS[method], coefficients=one),
        5,
    )
    many = played(dataclasses.replace(PROBLEMS[problem], agents=100), METHODS[method], 5)
    assert torch.equal(alone.estimates[0, 0], many.estimates[3, 0])
    assert torch.equal(alone.scores[:, 0, 0], many.scores[:, 3, 0])


def test_one_episode_of_td_one_with_small_rate_is_monte_carlo():
    rate = 1e-9
    problem = RandomWalk(agents=20, reward_noise=0.5)
    method = FixedRate(algorithm="td", lambda_=1.0, coefficients=(rate,))
    solver = played(problem, method, 1)
    limit = 2000
    words = uniforms(0, torch.arange(20), 1, range(limit))
    for agent in range(20):
        path, rewards = [10], []
        first_action = int(words[3, 0, agent] * 2)
        action = first_action
        for t in range(1, limit):
            state = path[-1] + (1 if action else -1)
            noise = 0.5 * float(torch.special.ndtri(words[1, t, agent]))
            rewards.append({0: -1.0, 20: 1.0}.get(state, 0.0) + noise)
            if state in (0, 20):
                break
            path.append(state)
            action = int(words[3, t, agent] * 2)
        expected = np.zeros(21)
        for visit, state in enumerate(path):
            expected[state] += sum(rewards[visit:])
        np.testing.assert_allclose(
            solver.estimates[0, agent].numpy() / rate, expected, rtol=1e-4, atol=1e-4
        )


def test_value_errors_are_those_of_sutton_and_bartos_figure():
    method = FixedRate(algorithm="td", lambda_=0.8, coefficients=(0.25,))
    errors = played(RandomWalk(agents=100), method, 10).scores.mean(0)
    assert float(errors.mean()) == pytest.approx(0.271, abs=0.017)


def test_scaling_rewards_scales_the_bounded_rules_values_and_nothing_else():
    plain = played(RandomWalk(reward_noise=0.3), METHODS["td-bounded"], 5)
    doubled = played(RandomWalk(reward_noise=0.3, reward_scale=2.0**20), METHODS["td-bounded"], 5)
    assert torch.equal(doubled.estimates, plain.estimates * 2.0**20)
    hundred = played(RandomWalk(reward_noise=0.3, reward_scale=100.0), METHODS["td-bounded"], 5)
    torch.testing.assert_close(hundred.estimates, plain.estimates * 100, rtol=1e-10, atol=1e-12)
    naive = [played(RandomWalk(reward_scale=scale), METHODS["td-surprise"], 5) for scale in (1, 2)]
    assert not torch.allclose(naive[1].estimates, naive[0].estimates * 2, rtol=0.01)


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    method = FixedRate(algorithm="td", lambda_=0.0, coefficients=(1.0,))
    solver = start(RandomWalk(agents=50, max_episode_steps=1), method, 0, CPU)
    solver.estimates.fill_(3.0)
    solver.step()
    assert torch.equal(solver.estimates[0, :, 10], torch.full((50,), 3.0, dtype=torch.float64))
    solver = start(RandomWalk(agents=50), method, 0, CPU)
    solver.estimates.fill_(3.0)
    solver.step()
    # Once the value at an end is its reward, it can only have been set without a bootstrap.
    left, right = solver.estimates[0, :, 1], solver.estimates[0, :, 19]
    assert bool(((left == -1.0) | (right == 1.0)).all())


def test_diverged_agents_are_frozen_and_the_end_names_step_rate_and_error():
    method = dataclasses.replace(METHODS["td-surprise"], coefficients=(0.5, 4.0))
    solver = start(RandomWalk(reward_noise=0.3, agents=5), method, 0, CPU)
    while not solver.diverged.any():
        solver.step()
    lost, values = solver.diverged, solver.estimates.clone()
    ended = None
    while ended is None:
        ended = solver.step()
    assert ended.status.failed
    for word in ("time step", "rate", "TD error", "all 10 agents"):
        assert word in ended.reason
    assert torch.equal(solver.estimates[lost], values[lost])
    assert bool((solver.diverged_td_error.abs() > solver.divergence_bound).all())
    torch.testing.assert_close(
        solver.diverged_rate, solver.coefficient * solver.diverged_td_error.abs()
    )
    metrics = evaluate(RandomWalk(reward_noise=0.3, agents=5), solver)
    assert metrics["fraction_diverged"] == 1.0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("name", ["td-bounded", "sarsa-bounded"])
def test_the_bounded_rule_never_diverges(name):
    problem = (
        RandomWalk(reward_noise=3.0, agents=10) if name == "td-bounded" else CliffWalking(agents=5)
    )
    method = dataclasses.replace(METHODS[name], coefficients=(0.1, 1.0, 10.0, 1000.0))
    assert not played(problem, method, 15).diverged.any()


def test_q_learning_finds_the_cliffs_optimum():
    method = FixedRate(algorithm="q-learning", lambda_=0.0, coefficients=(1.0,))
    cliff = CliffWalking(agents=5)
    assert evaluate(cliff, played(cliff, method, 150))["start_value_error"] < 1e-12


def test_states_are_snapshots():
    solver = played(RandomWalk(agents=4), METHODS["td-bounded"], 2)
    state = solver.state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    solver.step()
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_single_precision_stays_near_double():
    half = dataclasses.replace(METHODS["td-bounded"], precision="float32")
    single = played(RandomWalk(), half, 5)
    double = played(RandomWalk(), METHODS["td-bounded"], 5)
    assert single.estimates.dtype is torch.float32
    torch.testing.assert_close(single.estimates.double(), double.estimates, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: RandomWalk(discount=1.1), "discount = 1.1"),
        (lambda: RandomWalk(agents=0), "agents = 0"),
        (lambda: RandomWalk(reward_noise=-1.0), "reward_noise = -1"),
        (lambda: dataclasses.replace(METHODS["td-fixed"], lambda_=1.5), "lambda_ = 1.5"),
        (lambda: dataclasses.replace(METHODS["q-fixed"], lambda_=0.5), "use lambda_ = 0"),
        (lambda: dataclasses.replace(METHODS["td-fixed"], coefficients=(-0.5,)), "-0.5"),
        (lambda: dataclasses.replace(METHODS["td-fixed"], coefficients=()), "one or more"),
        (lambda: BoundedSurprise(algorithm="td", lambda_=0.8, memory=0.0), "memory = 0.0"),
        (lambda: start(RandomWalk(), METHODS["q-fixed"], 0, CPU), "algorithm td"),
        (lambda: start(FrozenLake(), METHODS["td-fixed"], 0, CPU), "q-learning or sarsa"),
    ],
)
def test_bad_settings_are_refused_with_a_cure(settings, message):
    with pytest.raises(ValueError, match=message):
        settings()
