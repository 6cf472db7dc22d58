"""A bound on rates, so that no update overshoots the target of its temporal-difference error."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def overshoot_bound(
    rate: Float[Tensor, "*batch"], trace: Float[Tensor, "*batch params"]
) -> Float[Tensor, "*batch"]:
    """The rate divided by max(1, rate * |trace|_1): all parameters together move <= |td_error|.

    For values that are entries of a table and a discount in [0, 1], an update of
    rate * td_error * trace changes the TD error of its own transition by the factor
    1 - rate * (trace[entry] - discount * trace[next_entry]), which the bound keeps in [0, 2], and
    in [0, 1] where the left entry has the bigger trace. Without traces the new value lies between
    the old one and the target.

    The bound is that of Elsayed, Vasan and Mahmood (2024), "Streaming deep reinforcement learning
    finally works" (arXiv 2410.14606, section 3.2), without their max(|td_error|, 1): that has a
    unit, so that scaled rewards would meet another rule. `rate` >= 0.
    """
    return rate / (rate * trace.abs().sum(-1)).clamp(min=1.0)
