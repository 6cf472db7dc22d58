"""Rules that turn a network's TD error into a change of its parameters, one dataclass each.

Every rule keeps the eligibility trace of the value's gradient,

    trace = trace_decay * trace + gradient        (trace_decay = discount * lambda, 0 cuts it)

and answers with an increment of the parameters along it; the rules differ in how far they go.
The parameters of one network are one vector, any axes before it are independent networks. A rule
has no memory of its own: `memory` makes a dict of tensors for given parameters and `step` changes
it in place, so that the dict is all that is needed to go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rates.intentional import (
    clipped_error,
    intended_fraction,
    intentional_rate,
    scaled_square,
)
from sciopt.rates.overshoot_bound import obgd_rate, overshoot_bound
from sciopt.rates.surprise import mean_square, relative_surprise, surprise_rate

Memory: TypeAlias = dict[str, Tensor]
Params: TypeAlias = Float[Tensor, "*batch params"]
PerNetwork: TypeAlias = Float[Tensor, "*batch"]

# The settings of Intentional TD as published: what squared gradients keep each step; what is added
# to their root; where TD errors are cut, in root mean squares; the newest one's weight in that.
SQUARE_DECAY = 0.999
EPS = 1e-8
CLIP = 20.0
CLIP_FORGETTING = 2e-4


@dataclass(frozen=True, kw_only=True)
class NetworkRule(ABC):
    """A coefficient, and a step that follows the trace."""

    coefficient: float
    """The step size, or the fraction of the TD error to take away."""

    def __post_init__(self) -> None:
        if not 0 < self.coefficient < float("inf"):
            raise ValueError(f"got coefficient = {self.coefficient}; use a finite number > 0")

    def memory(self, params: Params) -> Memory:
        """The memory before the first step.

        `coefficient` holds the rule's own for every network; for a grid, write others into it.
        """
        batch = params[..., 0]
        return {
            "coefficient": torch.full_like(batch, self.coefficient),
            "count": torch.zeros_like(batch, dtype=torch.int64),
            "trace": torch.zeros_like(params),
        }

    @abstractmethod
    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """What is to be added to the parameters, and the rate it was taken with.

        `gradient` is that of the value that the TD error belongs to, not of a loss. The memory is
        changed in place.
        """


@final
@dataclass(frozen=True, kw_only=True)
class Fixed(NetworkRule):
    """Stochastic gradient descent with a trace: rate = coefficient."""

    coefficient: float = 3e-3

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate."""
        trace = _follow_trace(memory, gradient, trace_decay)
        rate = memory["coefficient"].clone()
        return (rate * td_error)[..., None] * trace, rate


@final
@dataclass(frozen=True, kw_only=True)
class NaiveSurprise(NetworkRule):
    """Rate = coefficient * |td_error|: grows with surprise, and without a bound."""

    coefficient: float = 1e-2

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate."""
        trace = _follow_trace(memory, gradient, trace_decay)
        rate = surprise_rate(td_error, memory["coefficient"])
        return (rate * td_error)[..., None] * trace, rate


@final
@dataclass(frozen=True, kw_only=True)
class Adam(NetworkRule):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) on the gradient -td_error * trace."""

    coefficient: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of gradients and of their squares."""
    eps: float = 1e-8
    """Added to the root of the average square; in the unit of the gradient, so of the reward."""

    def memory(self, params: Params) -> Memory:
        """Also both averages."""
        averages = {"mean": torch.zeros_like(params), "square": torch.zeros_like(params)}
        return super().memory(params) | averages

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate, which is the coefficient."""
        ascent = td_error[..., None] * _follow_trace(memory, gradient, trace_decay)
        mean = memory["mean"].lerp_(ascent, 1 - self.betas[0])
        root = _root_mean_square(memory, ascent, self.betas[1], self.eps)
        rate = memory["coefficient"].clone()
        scale = rate / _weight_seen(memory, self.betas[0])
        return scale[..., None] * mean / root, rate


@final
@dataclass(frozen=True, kw_only=True)
class ObGD(NetworkRule):
    """Overshooting-bounded gradient descent (Elsayed, Vasan & Mahmood 2024, arXiv 2410.14606)."""

    coefficient: float = 1.0
    kappa: float = 2.0
    """The bigger, the tighter the bound."""

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate."""
        trace = _follow_trace(memory, gradient, trace_decay)
        rate = obgd_rate(memory["coefficient"], trace, td_error, self.kappa)
        return (rate * td_error)[..., None] * trace, rate


@final
@dataclass(frozen=True, kw_only=True)
class RelativeSurprise(NetworkRule):
    """The share min(1, coefficient * |td_error| / sigma) of the largest rate in ObGD's bound.

    sigma^2 is the moving average of td_error^2. Neither share nor bound has a unit: scaling all
    rewards scales all values and changes nothing else. The TD error is cut at some sigma, for the
    sum of a trace's elements bounds how far parameters move, and not how far a value does.
    """

    coefficient: float = 2.0
    kappa: float = 1.0
    """The bigger, the tighter the bound."""
    most: float = 3.0
    """The TD error is cut at so many sigma."""
    forgetting: float = 1e-2
    """Weight of the newest squared TD error in sigma^2, in (0, 1]; at first the plain mean."""

    def memory(self, params: Params) -> Memory:
        """Also sigma^2."""
        return super().memory(params) | {"error_square": torch.zeros_like(params[..., 0])}

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate."""
        trace = _follow_trace(memory, gradient, trace_decay)
        usual = _follow_error(memory, td_error, self.forgetting, "error_square")
        share = intended_fraction(memory["coefficient"], relative_surprise(td_error, usual))
        rate = share * overshoot_bound(torch.ones_like(share), trace, self.kappa)
        return (rate * clipped_error(td_error, usual, self.most))[..., None] * trace, rate


@final
@dataclass(frozen=True, kw_only=True)
class Intentional(NetworkRule):
    """Intentional TD (Sharifnassab et al. 2026, arXiv 2604.19033): a fraction of the error each.

    The step is along trace / v, v being the root of the gradient's average square; the rate
    coefficient / sqrt(sigma |trace|^2_v) takes away that fraction, to first order. sigma is the
    average of |gradient|^2_v that forgets as the trace does and begins anew with it.
    """

    coefficient: float = 0.5

    def memory(self, params: Params) -> Memory:
        """Also the averages."""
        return super().memory(params) | _intentional_memory(params)

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate."""
        _follow_trace(memory, gradient, trace_decay)
        fraction = memory["coefficient"]
        return _intentional_step(memory, gradient, td_error, trace_decay, fraction)


@final
@dataclass(frozen=True, kw_only=True)
class IntentionalSurprise(NetworkRule):
    """Intentional TD whose fraction grows with surprise: min(1, coefficient * |td_error| / sigma).

    Of a usual error it takes away the fraction `coefficient`, of a big surprise all, never more.
    sigma^2 is the moving average of td_error^2.
    """

    coefficient: float = 0.5
    forgetting: float = 1e-2
    """Weight of the newest squared TD error in sigma^2, in (0, 1]; at first the plain mean."""

    def memory(self, params: Params) -> Memory:
        """Also sigma^2 and Intentional TD's averages."""
        usual = {"error_square": torch.zeros_like(params[..., 0])}
        return super().memory(params) | usual | _intentional_memory(params)

    def step(
        self, memory: Memory, gradient: Params, td_error: PerNetwork, trace_decay: PerNetwork
    ) -> tuple[Params, PerNetwork]:
        """Increment and rate."""
        _follow_trace(memory, gradient, trace_decay)
        usual = _follow_error(memory, td_error, self.forgetting, "error_square")
        fraction = intended_fraction(memory["coefficient"], relative_surprise(td_error, usual))
        return _intentional_step(memory, gradient, td_error, trace_decay, fraction)


def _follow_trace(memory: Memory, gradient: Params, trace_decay: PerNetwork) -> Params:
    """The trace with the new gradient; counts the step."""
    memory["count"] += 1
    return memory["trace"].mul_(trace_decay[..., None]).add_(gradient)


def _follow_error(memory: Memory, td_error: PerNetwork, forgetting: float, name: str) -> PerNetwork:
    """The moving average of td_error^2, the present one included."""
    average = mean_square(memory[name], td_error, memory["count"], forgetting)
    return memory[name].copy_(average)


def _weight_seen(memory: Memory, decay: float) -> PerNetwork:
    """The weight 1 - decay^count of all that an exponential average from zero has seen."""
    return (1 - decay ** memory["count"].double()).to(memory["coefficient"].dtype)


def _root_mean_square(memory: Memory, vector: Params, decay: float, eps: float) -> Params:
    """The root of each element's average square, corrected for having begun at zero, plus eps."""
    square = memory["square"].mul_(decay).addcmul_(vector, vector, value=1 - decay)
    return (square.sqrt() / _weight_seen(memory, decay).sqrt()[..., None]).add_(eps)


def _intentional_memory(params: Params) -> Memory:
    names = "gradient_square", "gradients_seen", "clip_square"
    averages = {name: torch.zeros_like(params[..., 0]) for name in names}
    return {"square": torch.zeros_like(params), **averages}


def _intentional_step(
    memory: Memory,
    gradient: Params,
    td_error: PerNetwork,
    trace_decay: PerNetwork,
    fraction: PerNetwork,
) -> tuple[Params, PerNetwork]:
    """The step of Intentional TD that takes away `fraction` of the error, along the new trace."""
    scale = _root_mean_square(memory, gradient, SQUARE_DECAY, EPS)
    total = memory["gradient_square"].mul_(trace_decay).add_(scaled_square(gradient, scale))
    usual_square = total / memory["gradients_seen"].mul_(trace_decay).add_(1.0)
    trace = memory["trace"]
    rate = intentional_rate(fraction, usual_square, scaled_square(trace, scale))
    usual_error = _follow_error(memory, td_error, CLIP_FORGETTING, "clip_square")
    error = clipped_error(td_error, usual_error, CLIP)
    return (rate * error)[..., None] * trace / scale, rate
