"""Rates that ask the next error how far the last step should have gone.

An estimate w has met the target y = w + error. When the next target y' is known, the step from w
that would have served best is the gain K with K error = y' - w, and over many visits the
regression

    K = mean(error * hindsight) / mean(error^2),      hindsight = y' - w = error' + (w' - w).

If targets scatter around w independently, products cancel and K is 0; if the second target says
what the first said, K is 1; if the target moves on the same way, K is more. As w' already
contains the step that was taken, K is that step's gain plus the lag-1 autocorrelation of the
errors: the gain is right when successive errors do not agree any more, which is how a Kalman
filter's innovations are (Mehra 1970, "On the identification of variances and adaptive Kalman
filtering"). All is a quotient of squares, so that it has no unit.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def agreement(
    error: Float[Tensor, "*batch"],
    hindsight: Float[Tensor, "*batch"],
    mean_square: Float[Tensor, "*batch"],
    most: float,
) -> Float[Tensor, "*batch"]:
    """The quotient error * hindsight / mean_square within [-most, most]; 0 without errors.

    Its mean is the gain in hindsight. The cut keeps one outlier from deciding alone.
    """
    safe = torch.where(mean_square > 0, mean_square, 1.0)
    return (error * hindsight / safe).clamp(-most, most)


def drift_share(
    gain: Float[Tensor, "*batch"], base: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The share (gain - base) / (1 - base) of an error that a filter of gain `base` leaves out."""
    return (gain - base) / (1 - base).clamp(min=1e-9)


def shrunk(
    own: Float[Tensor, "*batch"],
    own_weight: Float[Tensor, "*batch"],
    pooled: float | Float[Tensor, "*#batch"],
    pooled_weight: float,
) -> Float[Tensor, "*batch"]:
    """The weighted mean of one's own measurement and that of all (empirical Bayes)."""
    return (own_weight * own + pooled_weight * pooled) / (own_weight + pooled_weight)
