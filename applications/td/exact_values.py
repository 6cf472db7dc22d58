"""Exact values of a transition table: of its target policy, and of the best one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from applications.td.environments import TransitionTable, bootstrap_discount

SWEEPS = 100_000


def policy_values(table: TransitionTable, discount: float) -> Float[Tensor, " states"]:
    """The v that solves v = r + P v under the target policy, P holding the discounts.

    Raises:
        ValueError: the equation is singular, as without a discount where no episode ends.
    """
    weight = table.probability * table.target_policy.reshape(-1, 1)
    onward = weight * bootstrap_discount(discount, table.terminated)
    state = torch.arange(table.states).repeat_interleave(table.actions)
    reward = weight.new_zeros(table.states).index_add(0, state, (weight * table.reward).sum(-1))
    transition = weight.new_zeros(table.states, table.states)
    transition.index_put_((state[:, None], table.next_state), onward, accumulate=True)
    values, info = torch.linalg.solve_ex(torch.eye(table.states).to(weight) - transition, reward)
    if info:
        raise ValueError(f"the policy has no finite values at discount {discount}; use one below 1")
    return values


def optimal_action_values(
    table: TransitionTable, discount: float
) -> Float[Tensor, "states actions"]:
    """The q that solves q = r + P max_a q, by value iteration until it moves less than 1e-13.

    Raises:
        ValueError: no convergence, as without a discount where some policy never ends.
    """
    discount_t = bootstrap_discount(discount, table.terminated)
    values = table.probability.new_zeros(table.states, table.actions)
    for _ in range(SWEEPS):
        before = values
        target = table.reward + discount_t * before.amax(-1)[table.next_state]
        values = (table.probability * target).sum(-1).view_as(before)
        if (values - before).abs().max() <= 1e-13 * (1 + values.abs().max()):
            return values
    raise ValueError(
        f"value iteration at discount {discount} did not converge in {SWEEPS} sweeps; "
        "use a discount below 1"
    )
