"""Mean and variance of a stream, to normalise observations and to scale rewards with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-30
"""What is divided by is never 0."""


@dataclass(frozen=True)
class Moments:
    """The mean so far, and the sum of squared deviations from it."""

    mean: Float[Tensor, "*shape"]
    scatter: Float[Tensor, "*shape"]

    @classmethod
    def before(cls, sample: Float[Tensor, "*shape"]) -> Moments:
        """Those of no sample yet, for samples like this one."""
        return cls(torch.zeros_like(sample), torch.zeros_like(sample))

    def with_sample(self, sample: Float[Tensor, "*shape"], count: int) -> Moments:
        """After the `count`-th sample, from 1 (Welford 1962)."""
        deviation = sample - self.mean
        mean = self.mean + deviation / count
        return Moments(mean, self.scatter + deviation * (sample - mean))

    def deviation(self, count: int) -> Float[Tensor, "*shape"]:
        """The standard deviation of two samples or more, and 1e-4 of their mean at least.

        Relative to the mean, so that it scales with the samples.
        """
        variance = self.scatter / (count - 1)
        return (variance + 1e-8 * self.mean.square() + TINY).sqrt()


def normalised(
    observation: Float[Tensor, "*shape"], moments: Moments, count: int
) -> Float[Tensor, "*shape"]:
    """The observation less the usual one, in usual deviations; as it is before there are two."""
    if count < 2:
        return observation
    return (observation - moments.mean) / moments.deviation(count)


def scaled(
    reward: Float[Tensor, "*batch"], moments: Moments, count: int
) -> Float[Tensor, "*batch"]:
    """The reward in usual deviations of the discounted return; 0 before there are two of these.

    Without a unit a reward says nothing, and taken as it is the first could be larger by any
    factor than all that follow.
    """
    if count < 2:
        return torch.zeros_like(reward)
    return reward / moments.deviation(count)


def discounted_return(
    previous: Float[Tensor, "*batch"], reward: Float[Tensor, "*batch"], discount: float
) -> Float[Tensor, "*batch"]:
    """The discounted sum of an episode's past rewards, discount * previous + reward.

    Its standard deviation is the unit rewards are scaled to, as values are sums of that size.
    """
    return discount * previous + reward
