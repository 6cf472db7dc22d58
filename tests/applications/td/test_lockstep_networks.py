import dataclasses

import numpy as np
import pytest
import torch

from applications.td.lockstep_networks import LockstepNetworks, arrays_networks, evaluate_networks
from applications.td.network_problems import (
    NETWORK_METHODS,
    NETWORK_PROBLEMS,
    Acrobot,
    CartPole,
    NetworkProblem,
    NetworkQ,
)
from applications.td.network_rules import Fixed, Intentional, NaiveSurprise, RelativeSurprise
from sciopt.bench.domain import Status

CPU = torch.device("cpu")


def after(problem: NetworkProblem, method: NetworkQ, steps=3, seed=0) -> LockstepNetworks:
    solver = LockstepNetworks(problem, method, seed, CPU)
    for _ in range(steps):
        solver.step()
    return solver


@pytest.mark.slow
def test_networks_learn_cart_pole():
    solver = after(CartPole(agents=10), NetworkQ(rule=Intentional()), steps=200)
    assert solver.scores[:10].mean() < 40
    assert solver.scores[-10:].mean() > 400


class SlowAgent:
    """The loop for one network in plain words: autograd, lists, no batch; the solver's luck."""

    def __init__(self, solver: LockstepNetworks, network: int):
        self.solver, self.network = solver, network
        self.params = solver.params[network].clone()
        self.memory = {name: value[network].clone() for name, value in solver.memory.items()}
        self.state, self.observation = solver.state[network], solver.observation[network]
        self.seen, self.sums, self.returns = [], 0.0, []
        self.t = self.clock = 0
        self.lengths = []

    def value(self, params, observation):
        return self.solver.networks.values(params[None], observation[None])[0][0]

    def standard(self, observation):
        if self.t < 2:
            return observation
        seen = torch.stack(self.seen)
        return (observation - seen.mean(0)) / (seen.var(0) + 1e-8 * seen.mean(0) ** 2).sqrt()

    def advance(self, exploration, choice, noise, first):
        solver, method = self.solver, self.solver.method
        self.t += 1
        epsilon = max(0.01, 1 - 0.99 * self.t / method.exploration_time_steps)
        values = self.value(self.params, self.observation)
        best = int(values.argmax())
        action = int(choice * len(values)) if exploration < epsilon else best
        gradient = torch.func.grad(lambda p: self.value(p, self.observation)[action])(self.params)
        state, reward, terminated = solver.dynamics.step(self.state, torch.tensor(action))
        cut = self.clock == 0 or action != best
        self.clock += 1
        observation = solver.dynamics.observation(state)
        self.seen.append(observation)
        self.sums = method.discount * self.sums + float(reward) + float(noise)
        self.returns.append(self.sums)
        target = torch.zeros((), dtype=torch.float64)
        if self.t > 1:
            variance = np.var(self.returns, ddof=1) + 1e-8 * np.mean(self.returns) ** 2
            target = (reward + noise) / variance**0.5
        following = self.standard(observation)
        if not terminated:
            target = target + method.discount * self.value(self.params, following).max()
        decay = torch.tensor(0.0 if cut else method.discount * method.lambda_).double()
        increment, _ = method.rule.step(self.memory, gradient, target - values[action], decay)
        self.params = self.params + increment
        self.state, self.observation = state, following
        if terminated or self.clock == solver.dynamics.max_episode_steps:
            self.lengths.append(self.clock)
            self.sums, self.clock = 0.0, 0
            self.state = first
            self.observation = self.standard(solver.dynamics.observation(first))


def test_the_lockstep_is_the_plain_loop_for_each_network(monkeypatch):
    """Against a loop with autograd, two-pass moments and a branch for every case."""
    problem = CartPole(agents=2, reward_noise=0.5)
    method = NetworkQ(
        rule=RelativeSurprise(),
        coefficients=(0.1, 1.0),
        exploration_time_steps=150,
        precision="float64",
    )
    solver = LockstepNetworks(problem, method, 3, CPU)
    agents = [SlowAgent(solver, network) for network in range(4)]
    luck = []
    original = solver._transition

    def noted(*words):
        luck.append(words)
        original(*words)

    monkeypatch.setattr(solver, "_transition", noted)
    for _ in range(2):
        solver.step()
    for network, agent in enumerate(agents):
        for words in luck:
            agent.advance(*(each[network] for each in words))
        assert len(agent.lengths) > 2
        assert solver.last_return[network] == agent.lengths[-1]
        assert solver.clock[network] == agent.clock
        torch.testing.assert_close(solver.params[network], agent.params, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(solver.state[network], agent.state, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORK_METHODS)
def test_an_agent_does_not_depend_on_who_else_is_in_the_batch(name):
    method = dataclasses.replace(NETWORK_METHODS[name], precision="float64")
    few = after(CartPole(agents=2, reward_noise=1.0), method, steps=2)
    grid = (1e-3 * method.rule.coefficient, method.rule.coefficient)
    more = dataclasses.replace(method, coefficients=grid)
    many = after(CartPole(agents=5, reward_noise=1.0), more, steps=2)
    torch.testing.assert_close(many.params[5:7], few.params, rtol=1e-9, atol=1e-11)
    assert not torch.equal(many.params[:2], few.params)
    assert not torch.equal(few.params[0], few.params[1])


def test_scaled_rewards_change_nothing_as_they_are_scaled_back():
    method = NetworkQ(rule=Fixed(), precision="float64")
    plain = after(CartPole(agents=3), method)
    scaled = after(CartPole(agents=3, reward_scale=1e3), method)
    torch.testing.assert_close(scaled.params, plain.params, rtol=1e-7, atol=1e-9)


def test_a_diverged_network_is_frozen_named_and_counted_as_worst():
    rule = NaiveSurprise(coefficient=1.0)
    solver = LockstepNetworks(CartPole(agents=4), NetworkQ(rule=rule), 0, CPU)
    ended = None
    while ended is None:
        before = solver.params.clone()
        frozen = solver.diverged.clone()
        ended = solver.step()
        assert torch.equal(solver.params[frozen], before[frozen])
    assert ended.status is Status.DIVERGED
    assert solver.params.isfinite().all()
    last = int(solver.diverged_time_step.max())
    assert f"time step {last} with rate" in ended.reason
    metrics = evaluate_networks(solver.problem, solver)
    assert metrics["fraction_diverged"] == 1.0
    assert metrics["episode_return"] == 0.0
    found = arrays_networks(solver.problem, solver)
    assert found["scores"].shape == (solver.time_step // 100, 1, 4)
    error = abs(found["diverged_td_error"])
    assert ((error > 1e6) | ~np.isfinite(error)).all()


def test_an_unfinished_first_episode_counts_as_the_worst():
    solver = after(Acrobot(agents=3), NETWORK_METHODS["stream-q-adam"], steps=1)
    assert solver.scores.tolist() == [[-500.0] * 3]


@pytest.mark.parametrize("name", NETWORK_PROBLEMS)
def test_every_problem_runs_and_resumes_bit_for_bit(name):
    problem = dataclasses.replace(NETWORK_PROBLEMS[name], agents=3)
    method = NETWORK_METHODS["stream-q-intentional-surprise"]
    solver = after(problem, method, steps=2)
    resumed = LockstepNetworks(problem, method, 0, CPU)
    resumed.load_state_dict(solver.state_dict())
    solver.step()
    resumed.step()
    found, expected = arrays_networks(problem, resumed), arrays_networks(problem, solver)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    assert torch.equal(resumed.params, solver.params)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lambda_": 1.5}, "lambda_ = 1.5"),
        ({"coefficients": (0.0,)}, "finite numbers > 0"),
        ({"exploration_time_steps": 0}, "1 or more"),
        ({"hidden": ()}, "one or more layers"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        NetworkQ(rule=Fixed(), **settings)
