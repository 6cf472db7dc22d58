"""Agents with networks against torch.nn, torch.distributions and updates written out."""

import math
import random
from itertools import pairwise
from typing import Any

import gym_examples  # noqa: F401
import numpy as np
import pytest
import torch
from torch import nn

from applications.td.gym_environments import GymTask, make
from applications.td.network_rules import Fixed, ObGD
from applications.td.small_network import SPARSITY, Network
from applications.td.streaming_agents import (
    ActorCritic,
    ActorCriticAgent,
    QNetwork,
    QNetworkAgent,
    Streaming,
)
from applications.td.training_methods import NETWORK_RULES, POLICY_RULES, Method
from applications.td.training_run import Training

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


DOUBLE: dict[str, Any] = {"precision": "float64", "hidden": (7, 5), "lambda_": 0.8}


def twin(network: Network, sizes: list[int]) -> nn.Sequential:
    """The same network of torch's modules, its parameters copied."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [
            nn.Linear(inputs, outputs),
            nn.LayerNorm(outputs, elementwise_affine=False),
            nn.LeakyReLU(),
        ]
    module = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1])).double()
    nn.utils.vector_to_parameters(network.params.clone(), module.parameters())
    return module


def gradient_of(output: torch.Tensor, module: nn.Module) -> torch.Tensor:
    gradients = torch.autograd.grad(output, list(module.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_outputs_and_gradients_are_those_of_torchs_modules() -> None:
    sizes = [3, 7, 5, 2]
    network = Network(sizes, torch.Generator().manual_seed(0), CPU, torch.float64)
    for _ in range(3):
        network.params += 0.3 * torch.randn(len(network.params), dtype=torch.float64)
        module, seen = twin(network, sizes), torch.randn(3, dtype=torch.float64)
        torch.testing.assert_close(network(seen), module(seen))
        for index in range(2):
            expected = gradient_of(module(seen)[index], module)
            torch.testing.assert_close(network.gradient(network(seen)[index]), expected)


def test_first_weights_are_sparse_within_lecuns_bound_and_without_biases() -> None:
    network = Network([400, 50, 3], torch.Generator().manual_seed(1), CPU, torch.float32)
    module = twin(network, [400, 50, 3]).float()
    first, last = module[0], module[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    assert ((first.weight == 0).sum(1) == int(SPARSITY * 400)).all()
    bound = 1 / math.sqrt(400)
    assert 0.9 * bound < first.weight.abs().max() <= bound
    assert not first.bias.any() and not last.bias.any()
    few = Network([4, 6, 2], torch.Generator().manual_seed(1), CPU, torch.float32)
    assert (few.params[:24].view(6, 4) != 0).sum(1).eq(1).all()


def test_q_lambda_follows_the_trace_and_cuts_it_at_exploring_actions() -> None:
    settings = QNetwork(**DOUBLE, exploration=0.5, exploration_time_steps=0)
    agent = QNetworkAgent(settings, Fixed(coefficient=0.01), (3, 4), 0.9, 5, CPU)
    agent.network.params += 0.1 * torch.randn(len(agent.network.params), dtype=torch.float64)
    luck, sizes = random.Random(2), [3, 7, 5, 4]
    seen = torch.randn(3, dtype=torch.float64)
    agent.begin(seen.numpy(), luck)
    trace, cuts = torch.zeros_like(agent.network.params), 0
    for step in range(30):
        module = twin(agent.network, sizes)
        values, action = module(seen), agent.action
        greedy = action == int(values.argmax())
        cuts += not greedy
        keeps = 0.9 * 0.8 * greedy * (step > 0)
        trace = keeps * trace + gradient_of(values[action], module)
        new, discount_t = torch.randn(3, dtype=torch.float64), 0.0 if step == 20 else 0.9
        td_error = 1.5 + discount_t * module(new).max() - module(seen)[action]
        expected = agent.network.params + 0.01 * td_error.detach() * trace
        agent.learn(new.numpy(), 1.5, discount_t, luck)
        assert agent.td_error == pytest.approx(float(td_error.detach()))
        torch.testing.assert_close(agent.network.params, expected)
        seen = new
    assert 3 < cuts < 27


def test_exploration_falls_linearly() -> None:
    settings = QNetwork(hidden=(4,), exploration=0.1, exploration_time_steps=4)
    agent = QNetworkAgent(settings, Fixed(), (2, 3), 0.9, 0, CPU)
    found = []
    agent.begin(np.zeros(2), random.Random(0))
    for _ in range(6):
        found.append(agent.exploration)
        agent.learn(np.zeros(2), 0.0, 0.9, random.Random(0))
    assert found == pytest.approx([1.0, 0.775, 0.55, 0.325, 0.1, 0.1])


@pytest.mark.parametrize("continuous", [False, True], ids=["softmax", "normal"])
def test_actor_and_critic_follow_their_traces(continuous: bool) -> None:
    settings = ActorCritic(**DOUBLE, entropy_coefficient=0.1)
    rules = Fixed(coefficient=0.01), Fixed(coefficient=0.02)
    agent = ActorCriticAgent(settings, rules, (3, 2), 0.9, 5, CPU, continuous=continuous)
    critic, actor = (agent.learners[name].network for name in ("value", "policy"))
    for network in (critic, actor):
        network.params += 0.1 * torch.randn(len(network.params), dtype=torch.float64)
    outputs, luck = 4 if continuous else 2, random.Random(2)
    seen = torch.randn(3, dtype=torch.float64)
    agent.begin(seen.numpy(), luck)
    traces = [torch.zeros_like(critic.params), torch.zeros_like(actor.params)]
    for step in range(10):
        value, policy = twin(critic, [3, 7, 5, 1]), twin(actor, [3, 7, 5, outputs])
        new = torch.randn(3, dtype=torch.float64)
        td_error = (-0.5 + 0.9 * value(new) - value(seen)).detach()
        if continuous:
            mean, spread = policy(seen).chunk(2)
            law: Any = torch.distributions.Normal(mean, nn.functional.softplus(spread))
        else:
            law = torch.distributions.Categorical(logits=policy(seen))
        action = torch.as_tensor(agent.action)
        likelihood = law.log_prob(action).sum() + 0.1 * td_error.sign() * law.entropy().sum()
        gradients = gradient_of(value(seen)[0], value), gradient_of(likelihood, policy)
        keeps = 0.9 * 0.8 * (step > 0)
        traces = [keeps * z + g for z, g in zip(traces, gradients, strict=True)]
        expected = [
            network.params + rate * td_error * trace
            for network, rate, trace in zip((critic, actor), (0.01, 0.02), traces, strict=True)
        ]
        agent.learn(new.numpy(), -0.5, 0.9, luck)
        torch.testing.assert_close(critic.params, expected[0])
        torch.testing.assert_close(actor.params, expected[1])
        seen = new


def test_actions_are_drawn_as_the_policy_says() -> None:
    agent = ActorCriticAgent(
        ActorCritic(**DOUBLE), (ObGD(), ObGD()), (3, 3), 0.9, 5, CPU, continuous=False
    )
    policy = agent.learners["policy"].network
    policy.params[-3:] = torch.tensor([0.0, 1.0, -1.0])
    seen, luck = np.zeros(3), random.Random(0)
    drawn = [agent.choose(seen, luck, greedy=False) for _ in range(4000)]
    expected = torch.tensor([0.0, 1.0, -1.0]).softmax(0).numpy()
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, expected, atol=0.03)
    assert agent.choose(seen, luck, greedy=True) == 1


def training(task: GymTask, agent: Streaming, rule: str, seed: int = 0) -> Training:
    policy_rule = POLICY_RULES[rule] if isinstance(agent, ActorCritic) else None
    method = Method(agent=agent, rule=NETWORK_RULES[rule], policy_rule=policy_rule)
    return Training(task, method, seed, CPU)


BOUNDED = sorted(set(NETWORK_RULES) - {"surprise"})


@pytest.mark.parametrize(
    ("kind", "rule"),
    [*(("vector", rule) for rule in BOUNDED), ("bits", "obgd"), ("tuple", "obgd")],
)
def test_every_rule_but_the_unbounded_one_learns_the_row(kind: str, rule: str) -> None:
    task = GymTask(
        environment="Example-v0", arguments=(f"kind={kind}",), max_episode_steps=20, discount=0.9
    )
    agent = QNetwork(hidden=(16,), exploration_time_steps=300)
    learner = training(task, agent, rule)
    while learner.time_steps < 800:
        assert learner.step() is None
    assert learner.play(make(task), 2, 0, greedy=True) == [4.0, 4.0]


def test_an_actor_critic_finds_the_best_action_of_a_box() -> None:
    task = GymTask(environment="Reacher-v0", discount=0.9)
    learner = training(task, ActorCritic(hidden=(8,)), "obgd")
    # The best action, 2, earns 0; the first ones are about 4.5.
    assert learner.play(make(task), 1, 0, greedy=True)[0] < -3
    for _ in range(400):
        assert learner.step() is None
    assert learner.play(make(task), 1, 0, greedy=True)[0] > -0.5
