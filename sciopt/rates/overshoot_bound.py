"""A bound on rates, so that no update overshoots the target of its temporal-difference error."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def overshoot_bound(
    rate: Float[Tensor, "*batch"], trace: Float[Tensor, "*batch params"], kappa: float = 1.0
) -> Float[Tensor, "*batch"]:
    """The rate / max(1, rate * kappa * |trace|_1): all parameters move <= |td_error| / kappa.

    For values that are entries of a table and a discount in [0, 1], an update of
    rate * td_error * trace changes the TD error of its own transition by the factor
    1 - rate * (trace[entry] - discount * trace[next_entry]), which the bound keeps in [0, 2], and
    in [0, 1] where the left entry has the bigger trace. Without traces the new value lies between
    the old one and the target.

    The bound is that of Elsayed, Vasan and Mahmood (2024), "Streaming deep reinforcement learning
    finally works" (arXiv 2410.14606, section 3.2), without their max(|td_error|, 1): that has a
    unit, so that scaled rewards would meet another rule. `rate` >= 0.
    """
    return rate / (rate * kappa * trace.abs().sum(-1)).clamp(min=1.0)


def obgd_rate(
    rate: Float[Tensor, "*batch"],
    trace: Float[Tensor, "*batch params"],
    td_error: Float[Tensor, "*batch"],
    kappa: float,
) -> Float[Tensor, "*batch"]:
    """ObGD's rate, rate / max(1, rate * kappa * max(|td_error|, 1) * |trace|_1).

    The same paper's, for values that are networks: all parameters together move by at most
    1 / kappa, or |td_error| / kappa if that is less. max(|td_error|, 1) supposes rewards
    scaled to a unit variance; a network whose values are differently scaled meets another rule.
    """
    surprise = td_error.abs().clamp(min=1.0)
    return rate / (rate * kappa * surprise * trace.abs().sum(-1)).clamp(min=1.0)
