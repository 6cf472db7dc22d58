"""Temporal-difference methods: what is learnt, and the rule that sets the rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["td", "q-learning", "sarsa"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A temporal-difference method with accumulating traces."""

    algorithm: Algorithm
    """td: prediction of the random policy's values; q-learning and sarsa: control."""
    lambda_: float
    """Trace decay in [0, 1]; q-learning here has none."""
    coefficients: tuple[float, ...] = tuple(2.0**-k for k in range(7, -1, -1))
    """The c of the rule, one group of agents for each."""
    exploration: float = 0.1
    """Probability of a uniformly random action (epsilon); td always acts at random."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point type of values and traces."""

    def __post_init__(self) -> None:
        if not (0 <= self.lambda_ <= 1 and 0 <= self.exploration <= 1):
            raise ValueError(
                f"got lambda_ = {self.lambda_} and exploration = {self.exploration}; "
                "use numbers in [0, 1]"
            )
        if self.algorithm == "q-learning" and self.lambda_ != 0:
            raise ValueError(
                f"got lambda_ = {self.lambda_} for q-learning, whose traces would have to be cut "
                "at every exploring action; use lambda_ = 0, or sarsa"
            )
        if not self.coefficients or not all(0 < c < float("inf") for c in self.coefficients):
            raise ValueError(
                f"got coefficients = {self.coefficients}; use one or more finite numbers > 0"
            )


@dataclass(frozen=True, kw_only=True)
class FixedRate(Method):
    """Fixed rate c."""


@dataclass(frozen=True, kw_only=True)
class Surprise(Method):
    """Rate c |td_error|: grows with surprise, and without a bound."""


@dataclass(frozen=True, kw_only=True)
class BoundedSurprise(Method):
    """Rate c |td_error| / sigma, sigma being the usual surprise, cut where it would overshoot.

    sigma^2 is a moving average of td_error^2. As it counts the present error too, the rate
    cannot exceed c / sqrt(memory), whatever the noise; as the quotient has no unit, scaling all
    rewards scales all values and changes nothing else.
    """

    memory: float = 0.01
    """Weight of the newest squared TD error in sigma^2, in (0, 1]; at first the plain mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.memory <= 1:
            raise ValueError(f"got memory = {self.memory}; use a number in (0, 1]")


METHODS: Mapping[str, Method] = {
    "td-fixed": FixedRate(algorithm="td", lambda_=0.8),
    "td-surprise": Surprise(algorithm="td", lambda_=0.8),
    "td-bounded": BoundedSurprise(algorithm="td", lambda_=0.8),
    "q-fixed": FixedRate(algorithm="q-learning", lambda_=0.0),
    "q-surprise": Surprise(algorithm="q-learning", lambda_=0.0),
    "q-bounded": BoundedSurprise(algorithm="q-learning", lambda_=0.0),
    "sarsa-fixed": FixedRate(algorithm="sarsa", lambda_=0.8),
    "sarsa-surprise": Surprise(algorithm="sarsa", lambda_=0.8),
    "sarsa-bounded": BoundedSurprise(algorithm="sarsa", lambda_=0.8),
}
