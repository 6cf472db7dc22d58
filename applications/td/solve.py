"""READ FIRST: the solver. Agents in lockstep, one tensor program for every coefficient and agent.

For each transition with reward r and `discount_t = discount * (1 - terminated)`:

    td_error = r + discount_t * estimate[next_entry] - estimate[entry]
    trace = discount * lambda * trace + one_hot(entry)
    estimate += rate(td_error) * td_error * trace

An entry is a state (td) or a state and an action (q-learning, sarsa). The algorithms differ in
`next_entry` only: the next state; the next state with its best action; with the next action.
Methods differ in `rate` only. One step of the solver is one episode of every agent; who has
finished waits. An agent whose TD error leaves the finite range is frozen before the update that
would have followed, and the time, rate and error are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from applications.td.environments import bootstrap_discount, transition_table
from applications.td.exact_values import optimal_action_values, random_policy_values
from applications.td.methods import BoundedSurprise, FixedRate, Method, Surprise
from applications.td.philox import uniforms
from applications.td.problems import Problem
from sciopt.bench.domain import Ended, Status
from sciopt.bench.statistics import interquartile_mean
from sciopt.rates.overshoot_bound import overshoot_bound
from sciopt.rates.surprise import mean_square, relative_surprise, surprise_rate

# Random numbers are made for so many time steps at once.
BLOCK = 64
# An agent has diverged when its TD error is so many times the largest reward.
DIVERGENCE_FACTOR = 1e6
# Smaller traces become 0: they change nothing, and denormal numbers are slow on CPUs.
SMALLEST_TRACE = 1e-30

KEPT = (
    "estimates",
    "mean_square",
    "errors_seen",
    "scores",
    "diverged_episode",
    "diverged_time_step",
    "diverged_rate",
    "diverged_td_error",
)


class LockstepAgents:
    """`problem.agents` agents for each coefficient of the method, all in the same episode.

    Agent k has the same luck under every coefficient, method and batch size, as its random
    numbers are a function of (seed, k, episode, time step): compare agents in pairs.
    """

    resumable = True

    def __init__(self, problem: Problem, method: Method, seed: int, device: torch.device) -> None:
        self.problem, self.method, self.seed = problem, method, seed
        table = transition_table(problem.environment, problem.max_episode_steps)
        dtype = getattr(torch, method.precision)
        self.actions = table.actions
        self.start_thresholds = table.start.cumsum(0).to(device)
        self.thresholds = table.thresholds.to(device)
        self.next_state = table.next_state.flatten().to(device)
        self.terminated = table.terminated.flatten().to(device)
        self.reward = (table.reward * problem.reward_scale).flatten().to(device, dtype)
        self.discount_t = bootstrap_discount(problem.discount, self.terminated).to(dtype)

        noise = problem.reward_noise
        largest = max(float(table.reward.abs().max()), noise) or 1.0
        self.divergence_bound = DIVERGENCE_FACTOR * largest * problem.reward_scale
        lowest = min(float(table.reward.min()), 0.0) * problem.reward_scale
        self.worst_return = lowest * problem.max_episode_steps
        if method.algorithm == "td":
            exact = random_policy_values(table, problem.discount)
            entries = table.states
        else:
            exact = optimal_action_values(table, problem.discount).amax(-1)
            entries = table.states * table.actions
        self.exact = exact.to(device) * problem.reward_scale
        self.lasting = ~table.terminal.to(device)
        self.start_state = int(table.start.argmax())

        groups, agents = len(method.coefficients), problem.agents
        self.agent_numbers = torch.arange(agents, device=device)
        self.coefficient = torch.tensor(method.coefficients, dtype=dtype, device=device)[:, None]
        self.estimates = torch.zeros(groups, agents, entries, dtype=dtype, device=device)
        self.mean_square = torch.zeros(groups, agents, dtype=dtype, device=device)
        self.errors_seen = torch.zeros(groups, agents, dtype=torch.int64, device=device)
        self.ones = torch.ones(groups, agents, 1, dtype=dtype, device=device)
        self.scores = torch.zeros(0, groups, agents, dtype=torch.float64, device=device)
        self.diverged_episode = torch.zeros(groups, agents, dtype=torch.int64, device=device)
        self.diverged_time_step = torch.zeros_like(self.diverged_episode)
        self.diverged_rate = torch.zeros_like(self.mean_square)
        self.diverged_td_error = torch.zeros_like(self.mean_square)

    @property
    def episode(self) -> int:
        """Number of episodes begun."""
        return len(self.scores)

    @property
    def diverged(self) -> Bool[Tensor, "coefficients agents"]:
        """Which agents have left the finite range."""
        return self.diverged_episode > 0

    def step(self) -> Ended | None:
        """One episode of every agent that has not diverged."""
        episode = self.episode + 1
        start, _, *action_words = uniforms(self.seed, self.agent_numbers, episode, range(1))[:, 0]
        first = torch.searchsorted(self.start_thresholds, start, right=True)
        self.state = first.expand_as(self.errors_seen)
        self.action = self._choose(self.state, *action_words)
        self.running = ~self.diverged
        self.trace = torch.zeros_like(self.estimates)
        self.episode_return = torch.zeros_like(self.mean_square)
        limit = self.problem.max_episode_steps
        for begin in range(1, limit + 1, BLOCK):
            if not self.running.any():
                break
            block = range(begin, min(begin + BLOCK, limit + 1))
            words = uniforms(self.seed, self.agent_numbers, episode, block)
            deviation = self.problem.reward_noise * self.problem.reward_scale
            noise = (deviation * torch.special.ndtri(words[1])).to(self.reward.dtype)
            self.trace = torch.nn.functional.hardshrink(self.trace, SMALLEST_TRACE)
            for i, time_step in enumerate(block):
                self._transition(episode, time_step, words[:, i], noise[i])
        self.scores = torch.cat([self.scores, self._score()[None]])
        return self._all_diverged() if self.diverged.all() else None

    def _transition(
        self,
        episode: int,
        time_step: int,
        words: Float[Tensor, "4 agents"],
        noise: Float[Tensor, " agents"],
    ) -> None:
        """Every running agent acts once and learns from what came."""
        row = self.state * self.actions + self.action
        branch = (words[0, :, None] >= self.thresholds[row]).sum(-1)
        outcome = row * self.thresholds.shape[1] + branch
        reward = self.reward[outcome] + noise
        discount_t = self.discount_t[outcome]
        next_state = self.next_state[outcome]
        # Chosen before the update, as SARSA needs it; Q-learning's target does not depend on it.
        next_action = self._choose(next_state, words[2], words[3])
        entry, next_entry = self._entries(next_state, next_action)

        target = reward + discount_t * self._at(next_entry)
        td_error = target - self._at(entry)
        self.trace.mul_(self.problem.discount * self.method.lambda_)
        self.trace.scatter_add_(-1, entry[..., None], self.ones)
        rate = self._rate(td_error)

        finite = td_error.abs() <= self.divergence_bound
        lost = self.running & ~finite
        self.diverged_episode.masked_fill_(lost, episode)
        self.diverged_time_step.masked_fill_(lost, time_step)
        self.diverged_rate = torch.where(lost, rate, self.diverged_rate)
        self.diverged_td_error = torch.where(lost, td_error, self.diverged_td_error)

        self.running = self.running & finite
        step_size = torch.where(self.running, rate * td_error, 0.0)
        self.estimates.addcmul_(step_size[..., None], self.trace)
        self.episode_return += torch.where(self.running, reward, 0.0)
        self.running = self.running & ~self.terminated[outcome]
        self.state, self.action = next_state, next_action

    def _choose(
        self,
        state: Int[Tensor, "coefficients agents"],
        exploration: Float[Tensor, " agents"],
        choice: Float[Tensor, " agents"],
    ) -> Int[Tensor, "coefficients agents"]:
        """Epsilon-greedy action, ties broken at random; for td the uniformly random one."""
        if self.method.algorithm == "td":
            return (choice * self.actions).long().expand_as(state)
        action_values = self._action_values(state)
        explores = exploration < self.method.exploration
        candidates = (action_values == action_values.amax(-1, keepdim=True)) | explores[:, None]
        rank = (choice * candidates.sum(-1)).long()
        return (candidates.cumsum(-1) > rank[..., None]).byte().argmax(-1)

    def _entries(
        self,
        next_state: Int[Tensor, "coefficients agents"],
        next_action: Int[Tensor, "coefficients agents"],
    ) -> tuple[Tensor, Tensor]:
        """The entry that is left and the one bootstrapped from."""
        match self.method.algorithm:
            case "td":
                return self.state, next_state
            case "q-learning":
                next_action = self._action_values(next_state).argmax(-1)
            case "sarsa":
                pass
        return (
            self.state * self.actions + self.action,
            next_state * self.actions + next_action,
        )

    def _rate(
        self, td_error: Float[Tensor, "coefficients agents"]
    ) -> Float[Tensor, "coefficients agents"]:
        """The method's rate for this transition."""
        match self.method:
            case FixedRate():
                return self.coefficient.expand_as(td_error)
            case Surprise():
                return surprise_rate(td_error, self.coefficient)
            case BoundedSurprise(memory=memory):
                self.errors_seen += self.running
                average = mean_square(self.mean_square, td_error, self.errors_seen, memory)
                self.mean_square = torch.where(self.running, average, self.mean_square)
                rate = self.coefficient * relative_surprise(td_error, self.mean_square)
                return overshoot_bound(rate, self.trace)
            case method:
                raise TypeError(f"no rate is known for {type(method).__name__}")

    def _at(
        self, entry: Int[Tensor, "coefficients agents"]
    ) -> Float[Tensor, "coefficients agents"]:
        return self.estimates.gather(-1, entry[..., None]).squeeze(-1)

    def _action_values(
        self, state: Int[Tensor, "coefficients agents"]
    ) -> Float[Tensor, "coefficients agents actions"]:
        rows = self.estimates.unflatten(-1, (-1, self.actions))
        index = state[..., None, None].expand(-1, -1, 1, self.actions)
        return rows.gather(-2, index).squeeze(-2)

    def _score(self) -> Float[Tensor, "coefficients agents"]:
        """After an episode: value error (td) or the episode's return; at worst for the diverged."""
        if self.method.algorithm == "td":
            error = (self.estimates - self.exact)[..., self.lasting]
            score = error.double().square().mean(-1).sqrt().clamp(max=self.divergence_bound)
            return torch.where(self.diverged, self.divergence_bound, score)
        return torch.where(self.diverged, self.worst_return, self.episode_return.double())

    def _all_diverged(self) -> Ended:
        """The end of a run without survivors, naming the last of them."""
        coefficient, agent = divmod(int(self.diverged_episode.argmax()), self.problem.agents)
        return Ended(
            Status.DIVERGED,
            f"all {self.diverged.numel()} agents diverged; the last in episode "
            f"{int(self.diverged_episode[coefficient, agent])} at time step "
            f"{int(self.diverged_time_step[coefficient, agent])} with rate "
            f"{float(self.diverged_rate[coefficient, agent]):.3g} and TD error "
            f"{float(self.diverged_td_error[coefficient, agent]):.3g} "
            f"(coefficient {self.method.coefficients[coefficient]:g})",
        )

    def state_dict(self) -> dict[str, Any]:
        """Values, the rule's memory and the outcomes; random numbers are a function of time."""
        return {name: getattr(self, name).clone() for name in KEPT}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        for name in KEPT:
            setattr(self, name, state[name].to(self.estimates.device, copy=True))


def start(problem: Problem, method: Method, seed: int, device: torch.device) -> LockstepAgents:
    """Agents that know nothing yet.

    Raises:
        ValueError: a control method on a prediction problem or the reverse; an environment that
            is unknown or has no transition table.
    """
    if (method.algorithm == "td") != (problem.task == "prediction"):
        fitting = "td" if problem.task == "prediction" else "q-learning or sarsa"
        raise ValueError(
            f"{method.algorithm} does not fit {problem.environment} with task {problem.task!r}; "
            f"use a method with algorithm {fitting}"
        )
    return LockstepAgents(problem, method, seed, device)


def evaluate(problem: Problem, solver: LockstepAgents) -> Mapping[str, float]:
    """Interquartile means over the agents of the best coefficient, and how many have diverged.

    The best coefficient is that of the best mean score over the episodes so far. Prediction:
    `rms_value_error` over the states that do not end an episode, in units of the scaled reward.
    Control: `episode_return`, and `start_value_error`, how far max_a Q(start, a) is from the
    optimum. A diverged agent counts as the divergence bound or the lowest return there is.
    """
    prediction = problem.task == "prediction"
    scores = solver.scores.double().cpu().numpy()
    mean_scores = interquartile_mean(scores.mean(0))
    best = int(mean_scores.argmin() if prediction else mean_scores.argmax())
    name = "rms_value_error" if prediction else "episode_return"
    metrics = {
        name: float(interquartile_mean(scores[-1, best])),
        f"mean_{name}": float(mean_scores[best]),
        "best_coefficient": float(solver.method.coefficients[best]),
        "fraction_diverged": float(solver.diverged.double().mean()),
    }
    if not prediction:
        estimates = solver.estimates.unflatten(-1, (-1, solver.actions))
        error = (
            estimates[best, :, solver.start_state].amax(-1) - solver.exact[solver.start_state]
        ).abs()
        worst = torch.where(solver.diverged[best], solver.divergence_bound, error.double())
        metrics["start_value_error"] = float(interquartile_mean(worst.cpu().numpy()))
    return metrics


def arrays(problem: Problem, solver: LockstepAgents) -> Mapping[str, np.ndarray]:
    """Each agent's outcome.

    `scores` (episodes, coefficients, agents): the value error after each episode, or its return.
    `diverged_episode` (coefficients, agents), from 1, is 0 for an agent that never diverged;
    `diverged_time_step`, `diverged_rate` and `diverged_td_error` say how it happened.
    `exact_values` (states) are the random policy's or the optimal ones.
    """
    kept = {name: getattr(solver, name) for name in ("estimates", "scores", *KEPT[4:])}
    kept["exact_values"] = solver.exact
    return {
        "coefficients": np.array(solver.method.coefficients),
        "reward_scale": np.array(problem.reward_scale),
        **{name: values.cpu().numpy() for name, values in kept.items()},
    }
