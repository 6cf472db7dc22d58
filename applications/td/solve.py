"""READ FIRST: the solver. Agents in lockstep, one tensor program for every setting and agent.

For each transition with features x, x', reward r and `discount_t = discount * (1 - terminated)`:

    td_error = r + discount_t * weights . x' - weights . x
    trace    = discount * lambda * trace + gain * x
    weights += step * trace

A table's features are one-hot: of the state (prediction), of state and action (control). The
algorithms differ in x' only: of the next state; of its next action (sarsa), of its best action
(q-learning), or of all its actions (expected-sarsa). Methods differ in the rule that gives gain
and step (rules.py). One step of the solver is one episode of every agent. An agent whose TD error
leaves the finite range is frozen before the update that would have followed, and the time, step
and error are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from applications.td.methods import Method
from applications.td.philox import Luck
from applications.td.play import Play
from applications.td.problems import Problem
from sciopt.bench.domain import Ended, Status
from sciopt.bench.statistics import interquartile_mean

# An agent has diverged when its TD error is so many times the largest reward.
DIVERGENCE_FACTOR = 1e6

KEPT = (
    "weights",
    "entry_memory",
    "agent_memory",
    "dense_memory",
    "scores",
    "diverged_episode",
    "diverged_time_step",
    "diverged_step",
    "diverged_td_error",
)


class LockstepAgents:
    """`problem.agents` agents for each setting of the method, all in the same episode.

    A setting is a pair of a coefficient and a lambda. Agent k has the same luck under every
    setting, method and batch size, as its random numbers are a function of (seed, k, episode,
    time step): compare agents in pairs. Rows of all tensors are settings times agents.
    """

    resumable = True

    def __init__(self, problem: Problem, method: Method, seed: int, device: torch.device) -> None:
        self.problem, self.method = problem, method
        dtype = getattr(torch, method.precision)
        self.world = problem.world(dtype, device)
        self.luck = Luck(seed)
        self.settings = list(product(method.lambdas, method.coefficients))
        rows = len(self.settings) * problem.agents
        lambdas, coefficients = torch.tensor(self.settings, dtype=dtype, device=device).T
        self.coefficient = coefficients.repeat_interleave(problem.agents)
        self.lambda_ = lambdas.repeat_interleave(problem.agents)
        self.dense = method.rule.dense or max(method.lambdas) > 0 or method.true_online
        lowest, highest = self.world.reward_range
        noise = problem.reward_noise * problem.reward_scale
        self.divergence_bound = DIVERGENCE_FACTOR * (max(-lowest, highest, noise) or 1.0)
        self.worst_return = min(lowest, 0.0) * problem.max_episode_steps
        exact = problem.exact()
        self.exact = None if exact is None else exact.to(device)
        if exact is not None and method.predicts:
            table = problem.table()
            self.features = table.features[~table.terminal].to(device, dtype)
            self.exact = exact[~table.terminal].to(device)

        entries = self.world.feature_count * self.world.actions
        initial = self.world.initial_weights.to(device, dtype)
        self.weights = initial.repeat_interleave(self.world.actions).repeat(rows, 1)
        rule = method.rule
        self.entry_memory = self.weights.new_zeros(rows, entries, len(rule.entry_memory))
        self.agent_memory = self.weights.new_zeros(rows, len(rule.agent_memory))
        dense_columns = 2 if rule.dense else int(rule.accumulates is not None)
        self.dense_memory = self.weights.new_zeros(dense_columns, rows, entries)
        self.scores = torch.zeros(0, rows, dtype=torch.float64, device=device)
        self.diverged_episode = torch.zeros(rows, dtype=torch.int64, device=device)
        self.diverged_time_step = torch.zeros_like(self.diverged_episode)
        self.diverged_step = torch.zeros_like(self.coefficient)
        self.diverged_td_error = torch.zeros_like(self.coefficient)

    @property
    def diverged(self) -> Bool[Tensor, " rows"]:
        """Which agents have left the finite range."""
        return self.diverged_episode > 0

    def step(self) -> Ended | None:
        """The next episodes of every agent that has not diverged."""
        done = len(self.scores)
        play = Play(self, range(done + 1, done + 1 + self.problem.episodes_per_step))
        while not play.ended:
            play.block()
        scores = play.put_back()
        worst = self.divergence_bound if self.method.predicts else self.worst_return
        number = torch.arange(done + 1, done + 1 + len(scores), device=scores.device)[:, None]
        lost = self.diverged & (number >= self.diverged_episode)
        self.scores = torch.cat([self.scores, torch.where(lost, worst, scores)])
        return self._all_diverged() if self.diverged.all() else None

    def value_error(
        self, weights: Float[Tensor, "groups players entries"], episode: Int[Tensor, " players"]
    ) -> Float[Tensor, "groups players"]:
        """The root mean square over the states that do not end an episode, in float64."""
        assert self.exact is not None
        exact = self.exact * self.problem.sign(episode)[:, None]
        error = weights @ self.features.T - exact
        return error.double().square().mean(-1).sqrt().clamp(max=self.divergence_bound)

    def _all_diverged(self) -> Ended:
        """The end of a run without survivors, naming the last of them."""
        last = int(self.diverged_episode.argmax())
        lambda_, coefficient = self.settings[last // self.problem.agents]
        return Ended(
            Status.DIVERGED,
            f"all {self.diverged.numel()} agents diverged; the last in episode "
            f"{int(self.diverged_episode[last])} at time step "
            f"{int(self.diverged_time_step[last])} with step "
            f"{float(self.diverged_step[last]):.3g} and TD error "
            f"{float(self.diverged_td_error[last]):.3g} "
            f"(coefficient {coefficient:g}, lambda {lambda_:g})",
        )

    def state_dict(self) -> dict[str, Any]:
        """Weights, the rule's memory and the outcomes; random numbers are a function of time."""
        return {name: getattr(self, name).clone() for name in KEPT}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        for name in KEPT:
            setattr(self, name, state[name].to(self.weights.device, copy=True))


def start(problem: Problem, method: Method, seed: int, device: torch.device) -> LockstepAgents:
    """Agents that know nothing yet.

    Raises:
        ValueError: a control method on a prediction problem or the reverse; an environment that
            is unknown or has no transition table.
    """
    if method.predicts != (problem.task == "prediction"):
        fitting = "td" if problem.task == "prediction" else "q-learning or sarsa"
        raise ValueError(
            f"{method.algorithm} does not fit {problem.environment} with task {problem.task!r}; "
            f"use a method with algorithm {fitting}"
        )
    return LockstepAgents(problem, method, seed, device)


def evaluate(problem: Problem, solver: LockstepAgents) -> Mapping[str, float]:
    """Interquartile means over the agents of the best setting, and how many have diverged.

    The best setting is that of the best mean score over the episodes so far. Prediction:
    `rms_value_error` over the states that do not end an episode, in units of the scaled reward.
    Control: `episode_return`, and where the best values are known `start_value_error`, how far
    max_a Q(start, a) is from them. A diverged agent counts as the divergence bound or the lowest
    return there is.
    """
    prediction = solver.method.predicts
    scores = by_setting(solver, solver.scores).cpu().numpy()
    mean_scores = interquartile_mean(scores.mean(0))
    best = int(mean_scores.argmin() if prediction else mean_scores.argmax())
    lambda_, coefficient = solver.settings[best]
    name = "rms_value_error" if prediction else "episode_return"
    metrics = {
        name: float(interquartile_mean(scores[-1, best])),
        f"mean_{name}": float(mean_scores[best]),
        "best_coefficient": float(coefficient),
        "best_lambda": float(lambda_),
        "fraction_diverged": float(solver.diverged.double().mean()),
    }
    if not prediction and solver.exact is not None:
        start_state = int(problem.table().start.argmax())
        entry = start_state * solver.world.actions
        values = by_setting(solver, solver.weights[:, entry : entry + solver.world.actions].T)
        error = (values[:, best].amax(0) - solver.exact[start_state]).abs().double()
        diverged = by_setting(solver, solver.diverged[None])[0, best]
        worst = torch.where(diverged, solver.divergence_bound, error)
        metrics["start_value_error"] = float(interquartile_mean(worst.cpu().numpy()[None])[0])
    return metrics


def by_setting(solver: LockstepAgents, values: Float[Tensor, "n rows"]) -> Float[Tensor, "n s a"]:
    """Rows as settings and agents."""
    return values.unflatten(-1, (len(solver.settings), solver.problem.agents))


def arrays(problem: Problem, solver: LockstepAgents) -> Mapping[str, np.ndarray]:
    """Score of each (episode, setting, agent), who diverged, when and with what, and the settings.

    `scores` is the RMS value error after the episode, or the episode's return. The `diverged_*`
    are 0 for agents that have not diverged; episodes and time steps count from 1.
    """
    outcomes = {
        name: by_setting(solver, getattr(solver, name)[None])[0].cpu().numpy()
        for name in KEPT
        if name.startswith("diverged_")
    }
    lambdas, coefficients = np.array(solver.settings).T
    return {
        "scores": by_setting(solver, solver.scores).cpu().numpy(),
        **outcomes,
        "coefficients": coefficients,
        "lambdas": lambdas,
        "reward_scale": np.array(problem.reward_scale),
    }
