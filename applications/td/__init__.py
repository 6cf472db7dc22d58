"""Temporal-difference learning of tables, features and small networks: how far to step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from applications.td.claims import CLAIMS
from applications.td.lockstep_networks import (
    LockstepNetworks,
    arrays_networks,
    evaluate_networks,
    start_networks,
)
from applications.td.methods import METHODS, Method
from applications.td.network_problems import (
    NETWORK_METHODS,
    NETWORK_PROBLEMS,
    NetworkProblem,
    NetworkQ,
)
from applications.td.problems import PROBLEMS, Problem
from applications.td.solve import LockstepAgents, arrays, evaluate, start
from sciopt.bench.domain import Domain

Agents = LockstepAgents | LockstepNetworks


def _start(
    problem: Problem | NetworkProblem, method: Method | NetworkQ, seed: int, device: torch.device
) -> Agents:
    """Agents that know nothing yet.

    Raises:
        ValueError: networks for a table or the reverse, and all that `start` refuses.
    """
    if isinstance(problem, NetworkProblem) and isinstance(method, NetworkQ):
        return start_networks(problem, method, seed, device)
    if isinstance(problem, Problem) and isinstance(method, Method):
        return start(problem, method, seed, device)
    networks = isinstance(problem, NetworkProblem)
    raise ValueError(
        f"{problem.environment} as this problem has it is for "
        + (
            "networks; use a method named stream-q-..."
            if networks
            else "tables; use a method "
            "named td-..., true-online-td-..., q-..., sarsa-... or expected-sarsa-..."
        )
    )


def _evaluate(problem: Problem | NetworkProblem, solver: Agents) -> Mapping[str, float]:  # noqa: ARG001
    """A point of the curve; the solver knows its problem."""
    if isinstance(solver, LockstepNetworks):
        return evaluate_networks(solver.problem, solver)
    return evaluate(solver.problem, solver)


def _arrays(problem: Problem | NetworkProblem, solver: Agents) -> Mapping[str, np.ndarray]:  # noqa: ARG001
    """What is kept at the end."""
    if isinstance(solver, LockstepNetworks):
        return arrays_networks(solver.problem, solver)
    return arrays(solver.problem, solver)


DOMAIN: Domain[Problem | NetworkProblem, Method | NetworkQ, Agents] = Domain(
    name="td",
    problems={**PROBLEMS, **NETWORK_PROBLEMS},
    methods={**METHODS, **NETWORK_METHODS},
    start=_start,
    evaluate=_evaluate,
    arrays=_arrays,
    claims=CLAIMS,
    max_steps=10,
    without_effect=(
        "claims",
        "environment_trial",
        "environment_wrappers",
        "gym_environments",
        "play_command",
        "small_network",
        "streaming_agents",
        "tabular_agent",
        "train_command",
        "training_drawing",
        "training_methods",
        "training_run",
    ),
)
