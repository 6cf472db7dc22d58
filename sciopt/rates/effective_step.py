"""How much of its own TD error an update takes away, for values that are linear in features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def unovershot(
    step: Float[Tensor, "*batch"], effective_step: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The step divided by max(1, effective_step), so that it takes away no more than the error.

    `effective_step` = trace . (features - discount features') for a step of 1: an update
    step * td_error * trace multiplies its own TD error by 1 - step * effective_step. In [0, 1]
    the error shrinks and keeps its sign. Where it is negative, as on leaving an entry of little
    trace for one of much, no positive step shrinks the error; there the step stays as it is, as
    the other entries' errors shrink.
    """
    return step / effective_step.clamp(min=1.0)


def alpha_bound(
    rate: Float[Tensor, "*batch"], effective_step: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The largest rate that has never overshot: min(rate, 1 / effective_step) where that is > 0.

    Dabney and Barto (2012), "Adaptive step-size for online temporal difference learning",
    equation 15; `effective_step` is that of a rate of 1.
    """
    bound = torch.where(effective_step > 0, 1 / effective_step, torch.inf)
    return torch.minimum(rate, bound)
