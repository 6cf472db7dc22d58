"""Averages of a stream, and the gains of the averages that a Kalman filter takes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def newest_weight(count: Float[Tensor, "*batch"], memory: float) -> Float[Tensor, "*batch"]:
    """The weight of the `count`-th value (from 1) in an average: 1/count, but at least `memory`.

    The plain mean at first, exponential forgetting after 1 / memory values.
    """
    return (1.0 / count).clamp(min=memory)


def harmonic_rate(count: Float[Tensor, "*batch"], c: float | Tensor) -> Float[Tensor, "*batch"]:
    """The rate c / (c + count - 1) for the `count`-th value (from 1): with c = 1, 1/count.

    A larger c forgets the first values faster (George & Powell 2006, section 2.1).
    """
    return c / (c + count - 1)


def filter_gain(
    spread: Float[Tensor, "*batch"], drift: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The gain K = base + (1 - base) drift, base = spread / (1 + spread).

    `spread` is the variance of an estimate in units of the noise of a measurement: without drift
    the Kalman gain, which falls as 1/n. `drift` in [0, 1] is the share of what is then left of an
    error that a moving target accounts for; with 1 the gain is 1.
    """
    base = spread / (1 + spread)
    return base + (1 - base) * drift


def next_spread(
    spread: Float[Tensor, "*batch"], gain: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """(1 - K)^2 spread + K^2: the estimate's variance after a step of gain K, per noise variance.

    Of 1 and gains 1/n it makes 1/n (George & Powell 2006, equation 22).
    """
    return (1 - gain).square() * spread + gain.square()
