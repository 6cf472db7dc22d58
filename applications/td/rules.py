"""Rules for tables and linear values: how far a TD error moves the entries, one dataclass each.

An entry is one learnt weight: of a state, of a state and an action, of a feature. Entries are
*visited* when their state is left. At a visit a rule says with what gain the entry enters the
eligibility trace, then how large a step to take along the whole trace,

    trace = discount * lambda * trace + gain * features
    weights = weights + step * trace,             step = td_error unless the rule says otherwise.

A rule keeps what it remembers per entry and per agent in named columns that it declares; the
formulas are those of `sciopt.rates`. `coefficient` is what the rule has to be tuned by; those
with none to tune ignore it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from applications.td.traces import Trace
from sciopt.rates.averages import filter_gain, harmonic_rate, newest_weight, next_spread
from sciopt.rates.effective_step import alpha_bound, unovershot
from sciopt.rates.hindsight import agreement, drift_share, shrunk
from sciopt.rates.intentional import clipped_error, intentional_rate
from sciopt.rates.meta_gradient import next_largest, next_update_sum, normalised_meta_step
from sciopt.rates.overshoot_bound import obgd_rate, overshoot_bound
from sciopt.rates.surprise import mean_square, relative_surprise, surprise_rate
from sciopt.rates.tracking_signal import (
    bias_adjusted_gain,
    share_memory,
    signal_share,
    tracking_signal,
)

PerAgent = Float[Tensor, "groups players"]
PerEntry = Float[Tensor, "groups players k"]
OfEntries = Bool[Tensor, "groups players k"]


@dataclass
class Visit:
    """What a rule may read when entries are left, and the columns that it may change."""

    coefficient: PerAgent
    td_error: PerAgent
    weights: PerEntry
    """The visited entries' weights, before the step."""
    features: Float[Tensor, "#players #k"]
    index: Int[Tensor, "players k"]
    next_index: Int[Tensor, "players k"]
    next_features: Float[Tensor, "#players #k"]
    discount_t: Float[Tensor, " players"]
    entry: dict[str, PerEntry]
    agent: dict[str, PerAgent]
    trace: Trace

    @property
    def share(self) -> float:
        """One over the number of entries that are visited together."""
        return 1 / self.index.shape[-1]

    def effective_step(self) -> PerAgent:
        """What a step of 1 takes away of the TD error: trace . (x - discount_t x')."""
        here = (self.features * self.trace.at(self.index)).sum(-1)
        there = (self.next_features * self.trace.at(self.next_index)).sum(-1)
        return here - self.discount_t * there


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The gain of a visit, by default 1, and the step after it, by default the TD error."""

    entry_memory: ClassVar[tuple[str, ...]] = ()
    """Columns per entry, 0 at first."""
    agent_memory: ClassVar[tuple[str, ...]] = ()
    """Columns per agent, 0 at first."""
    accumulates: ClassVar[Literal["errors", "updates"] | None] = None
    """What `entry["sum"]` sums between visits: TD errors times the plain trace (without gains),
    or all changes of the entry. A rule may set it at the visit."""
    dense: ClassVar[bool] = False
    """Whether all entries move at every step, traced or not."""

    def gain(self, visit: Visit) -> PerEntry:
        """What the visited entries enter the trace with, per unit of feature."""
        return torch.ones_like(visit.weights)

    def step(self, visit: Visit) -> PerAgent:
        """The step along the trace, which the gain has entered."""
        return visit.td_error


@final
@dataclass(frozen=True, kw_only=True)
class Fixed(Rule):
    """The rate c for all."""

    def gain(self, visit: Visit) -> PerEntry:
        """C."""
        return (visit.coefficient[..., None] * visit.share).expand_as(visit.weights)


@final
@dataclass(frozen=True, kw_only=True)
class Harmonic(Rule):
    """The rate c / (c + n - 1) at an entry's n-th visit: averages, for c = 1 over all visits."""

    entry_memory = ("count",)

    def gain(self, visit: Visit) -> PerEntry:
        """C / (c + n - 1)."""
        count = visit.entry["count"] = visit.entry["count"] + 1
        return harmonic_rate(count, visit.coefficient[..., None]) * visit.share


@final
@dataclass(frozen=True, kw_only=True)
class Surprise(Rule):
    """The rate c |td_error|, at most `cap`: grows with surprise."""

    cap: float = float("inf")
    """The largest rate, shared by the entries visited together."""

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise ValueError(f"got cap = {self.cap}; use a number > 0")

    def step(self, visit: Visit) -> PerAgent:
        """C |td_error| td_error."""
        rate = surprise_rate(visit.td_error, visit.coefficient * visit.share)
        return rate.clamp(max=self.cap * visit.share) * visit.td_error


@final
@dataclass(frozen=True, kw_only=True)
class BoundedSurprise(Rule):
    """The rate c |td_error| / sigma, cut where all entries together would move too far.

    sigma^2 is a moving average of td_error^2. As it counts the present error too, the rate
    cannot exceed c / sqrt(memory), whatever the noise; as the quotient has no unit, scaling all
    rewards scales all values and changes nothing else.
    """

    memory: float = 0.01
    """Weight of the newest squared TD error in sigma^2, in (0, 1]; at first the plain mean."""

    agent_memory = ("count", "square")

    def __post_init__(self) -> None:
        _check_memory(self.memory)

    def step(self, visit: Visit) -> PerAgent:
        """The relative surprise, bounded, times the TD error."""
        square = _mean_square(visit, self.memory)
        rate = visit.coefficient * visit.share * relative_surprise(visit.td_error, square)
        return overshoot_bound(rate, visit.trace.size()[..., None]) * visit.td_error


@final
@dataclass(frozen=True, kw_only=True)
class PearceHall(Rule):
    """The rate c times an entry's associability, the usual size of its past TD errors.

    Pearce and Hall (1980), with the moving average of Li et al. (2011); at most 1.
    """

    memory: float = 0.1
    """Weight of the newest |td_error| in the associability, in (0, 1]."""

    entry_memory = ("associability", "seen")

    def __post_init__(self) -> None:
        _check_memory(self.memory)

    def gain(self, visit: Visit) -> PerEntry:
        """C times the associability before this error, which is 1 at first."""
        known = torch.where(visit.entry["seen"] > 0, visit.entry["associability"], 1.0)
        size = visit.td_error.abs()[..., None]
        visit.entry["associability"] = known + self.memory * (size - known)
        visit.entry["seen"] = torch.ones_like(known)
        return (visit.coefficient[..., None] * known).clamp(max=1.0) * visit.share


@final
@dataclass(frozen=True, kw_only=True)
class TriggLeach(Rule):
    """The rate c times an entry's tracking signal |mean error| / mean |error|."""

    memory: float = 0.1
    """Weight of the newest error in both means, in (0, 1]."""

    entry_memory = ("mean", "size")

    def __post_init__(self) -> None:
        _check_memory(self.memory)

    def gain(self, visit: Visit) -> PerEntry:
        """C times the signal, this error included."""
        error = visit.td_error[..., None]
        mean, size = visit.entry["mean"], visit.entry["size"]
        mean = visit.entry["mean"] = mean + self.memory * (error - mean)
        size = visit.entry["size"] = size + self.memory * (error.abs() - size)
        return visit.coefficient[..., None] * tracking_signal(mean, size) * visit.share


@final
@dataclass(frozen=True, kw_only=True)
class BiasAdjusted(Rule):
    """BAKF: the Kalman gain for the measured bias and noise of an entry's errors; none to tune."""

    memory: float = 0.1
    """Weight of the newest error in bias and noise, in (0, 1]; at first the plain mean."""

    entry_memory = ("count", "mean", "square", "spread", "error")

    def __post_init__(self) -> None:
        _check_memory(self.memory)

    def gain(self, visit: Visit) -> PerEntry:
        """The gain from the errors before this one; 1 at the first visit."""
        entry = visit.entry
        count, error = entry["count"], entry["error"]
        weight = newest_weight(count.clamp(min=1), self.memory)
        entry["mean"] = entry["mean"] + weight * (error - entry["mean"])
        entry["square"] = entry["square"] + weight * (error.square() - entry["square"])
        gain = bias_adjusted_gain(entry["mean"], entry["square"], entry["spread"])
        gain = torch.where(count > 0, gain, 1.0)
        entry["spread"] = next_spread(entry["spread"], gain)
        entry["count"] = count + 1
        entry["error"] = visit.td_error[..., None].expand_as(error)
        return gain * visit.share


@final
@dataclass(frozen=True, kw_only=True)
class VSGD(Rule):
    """The rate c times the share of the squared mean in an entry's mean squared error."""

    entry_memory = ("count", "mean", "square", "memory")

    def gain(self, visit: Visit) -> PerEntry:
        """C times the share, this error included; the first three errors are plain averages."""
        entry, error = visit.entry, visit.td_error[..., None]
        count = entry["count"] = entry["count"] + 1
        settled = count > 3
        weight = torch.where(settled, 1 / entry["memory"].clamp(min=1), 1 / count)
        entry["mean"] = entry["mean"] + weight * (error - entry["mean"])
        entry["square"] = entry["square"] + weight * (error.square() - entry["square"])
        share = signal_share(entry["mean"], entry["square"])
        memory = share_memory(entry["memory"], share)
        entry["memory"] = torch.where(settled, memory, count + 1)
        return visit.coefficient[..., None] * share * visit.share


@final
@dataclass(frozen=True, kw_only=True)
class AlphaBound(Rule):
    """The rate c, lowered for good wherever it would have overshot."""

    agent_memory = ("rate",)

    def step(self, visit: Visit) -> PerAgent:
        """The largest rate that has never overshot, times the TD error."""
        known = visit.agent["rate"]
        rate = torch.where(known > 0, known, visit.coefficient)
        rate = visit.agent["rate"] = alpha_bound(rate, visit.effective_step())
        return rate * visit.td_error


@final
@dataclass(frozen=True, kw_only=True)
class ObGD(Rule):
    """The rate c under ObGD's bound on overshooting, kappa = 2; rewards of unit size expected."""

    KAPPA: ClassVar[float] = 2.0

    def step(self, visit: Visit) -> PerAgent:
        """The bounded rate times the TD error."""
        size = visit.trace.size()[..., None]
        return obgd_rate(visit.coefficient, size, visit.td_error, self.KAPPA) * visit.td_error


@final
@dataclass(frozen=True, kw_only=True)
class Intentional(Rule):
    """Intentional TD: the fraction c of a TD error is to be taken away, outliers cut at 20 rms."""

    CLIP: ClassVar[float] = 20.0
    FORGETTING: ClassVar[float] = 2e-4

    agent_memory = ("count", "square")

    def step(self, visit: Visit) -> PerAgent:
        """The rate that takes away the fraction, times the TD error."""
        error = clipped_error(visit.td_error, _mean_square(visit, self.FORGETTING), self.CLIP)
        present = visit.features.square().expand_as(visit.weights).sum(-1)
        return intentional_rate(visit.coefficient, present, visit.trace.square()) * error


@final
@dataclass(frozen=True, kw_only=True)
class AutoTIDBD(Rule):
    """A rate per entry, from c, learnt by descending the TD error's square."""

    meta_rate: float = 0.01
    """The largest change of a rate's logarithm in one visit."""
    forgetting: float = 1e-4
    """How fast the largest meta-gradient is forgotten."""

    entry_memory = ("rate", "seen", "largest")
    accumulates = "updates"

    def gain(self, visit: Visit) -> PerEntry:
        """The entry's rate, after this error; all together do not overshoot."""
        entry, error = visit.entry, visit.td_error[..., None]
        initial = visit.coefficient[..., None] * visit.share
        rate = torch.where(entry["seen"] > 0, entry["rate"], initial)
        correlation = error * visit.features * entry["sum"]
        traced = visit.trace.at(visit.index) + rate * visit.features
        entry["largest"] = next_largest(
            entry["largest"], correlation, (self.forgetting * traced * visit.features).clamp(0, 1)
        )
        rate = normalised_meta_step(rate, correlation, entry["largest"], self.meta_rate)
        together = (rate * visit.features.square()).sum(-1, keepdim=True)
        rate = entry["rate"] = rate / together.clamp(min=1)
        entry["seen"] = torch.ones_like(rate)
        entry["sum"] = next_update_sum(
            entry["sum"], torch.zeros_like(rate), rate * visit.features.square()
        )
        return rate


@final
@dataclass(frozen=True, kw_only=True)
class PooledAgreement(Rule):
    """The gain in hindsight, one's own and that of all entries; none to tune, and no unit.

    Each visit tells how far the step before should have gone (`sciopt.rates.hindsight`). An
    entry's gain is that of a filter whose spread falls as 1/n, raised by the share of drift that
    hindsight finds; the share is a compromise of the entry's own measurement and that of all
    entries, which knows sooner. Errors are those of the lambda-return: TD errors summed along the
    trace until the next visit. A TD error counts up to `clip` times its usual size at the visited
    entry, and no step takes away more than its own TD error.
    """

    memory: float = 0.02
    """Weight of the newest visit in an entry's averages, in (0, 1]; at first the plain mean."""
    pool_memory: float = 0.02
    """The same of the averages over all entries."""
    pool_weight: float = 20.0
    """How many visits of its own the measurement of all entries is worth to an entry."""
    prior: float = 0.5
    """Gain and share of drift before anything is measured, in (0, 1]."""
    prior_weight: float = 5.0
    """How many visits the prior is worth."""
    doubt: float = 0.3
    """How many standard errors of the share of drift to subtract from it."""
    clip: float = 2.0
    """TD errors count up to so many root mean squares, their own square included."""
    cut: float = 4.0
    """A visit's agreement counts up to so many mean squares."""

    entry_memory = (
        "count", "pairs", "error", "square", "product", "spread", "weight", "weight_before",
        "base", "base_before", "td_square",
    )  # fmt: skip
    agent_memory = ("firsts", "first_gain", "pairs", "drift", "room")
    accumulates = "errors"

    def __post_init__(self) -> None:
        _check_memory(self.memory)
        _check_memory(self.pool_memory)

    def gain(self, visit: Visit) -> PerEntry:
        """The filter's gain with the share of drift in hindsight."""
        entry = visit.entry
        error = entry["sum"]
        visited = entry["count"] > 0
        # An entry that has never seen any error has nothing to measure yet.
        idle = visited & (error == 0) & (entry["error"] == 0) & (entry["square"] == 0)
        paired = visited & (entry["count"] > 1) & ~idle
        self._look_back(visit, error, paired)
        settled = visited & ~idle
        entry["error"] = torch.where(settled, error, entry["error"])
        entry["count"] = torch.where(idle, entry["count"], entry["count"] + 1)
        for name, new in (("weight", visit.weights), ("base", entry["base"])):
            before = f"{name}_before"
            entry[before] = torch.where(idle, entry[before], entry[name])
            entry[name] = torch.where(idle, entry[name], new)
        entry["sum"] = torch.zeros_like(error)
        gain, base, first = self._gain(visit)
        entry["base"] = torch.where(idle, entry["base"], base)
        spread = torch.where(first, gain, next_spread(entry["spread"], gain))
        entry["spread"] = torch.where(idle, entry["spread"], spread)
        return gain

    def _look_back(self, visit: Visit, error: PerEntry, paired: OfEntries) -> None:
        """Average the agreement of the error before last with what hindsight says of it."""
        entry, agent = visit.entry, visit.agent
        hindsight = error + (entry["weight"] - entry["weight_before"])
        pairs = entry["pairs"] = entry["pairs"] + paired
        weight = newest_weight(pairs.clamp(min=1), self.memory) * paired
        before = entry["error"].square()
        square = entry["square"] = entry["square"] + weight * (before - entry["square"])
        agreed = agreement(entry["error"], hindsight, square, self.cut)
        product = agreed * square
        entry["product"] = entry["product"] + weight * (product - entry["product"])
        relative = torch.where(square > 0, before / torch.where(square > 0, square, 1.0), 0.0)
        relative = relative.clamp(max=4.0)
        base = entry["base_before"]
        self._pool(agent, "firsts", paired & (entry["count"] == 2), first_gain=agreed.clamp(-1, 1))
        self._pool(
            agent,
            "pairs",
            paired & (square > 0),
            drift=(agreed - base * relative).clamp(-1, 1),
            room=(1 - base) * relative,
        )

    def _pool(
        self,
        agent: dict[str, PerAgent],
        count: str,
        happened: OfEntries,
        **events: PerEntry,
    ) -> None:
        """Take events at several entries into averages over all entries."""
        happened = happened.to(agent[count].dtype)
        number = happened.sum(-1)
        agent[count] = agent[count] + number
        weight = newest_weight(agent[count].clamp(min=1), self.pool_memory)
        for name, event in events.items():
            agent[name] = agent[name] + weight * ((happened * event).sum(-1) - number * agent[name])

    def _gain(self, visit: Visit) -> tuple[PerEntry, PerEntry, OfEntries]:
        """The gain, the filter's part of it, and whether it is an entry's first."""
        entry, agent = visit.entry, visit.agent
        most = 1 / self.pool_memory
        first_gain = shrunk(
            agent["first_gain"], agent["firsts"].clamp(max=most), self.prior, self.prior_weight
        ).clamp(0, 1)
        pairs = agent["pairs"].clamp(max=most)
        drift = (agent["drift"] * pairs + self.prior * self.prior_weight) / (
            agent["room"].clamp(min=1e-3) * pairs + self.prior_weight
        )
        pooled = drift.clamp(0, 1)[..., None]
        base = entry["spread"] / (1 + entry["spread"])
        own = torch.where(
            entry["square"] > 0, entry["product"] / entry["square"].clamp(min=1e-300), 0.0
        )
        own_weight = entry["pairs"].clamp(max=2 / self.memory) * (entry["square"] > 0)
        share = shrunk(drift_share(own, base), own_weight, pooled, self.pool_weight)
        share = share - self.doubt / (own_weight + self.pool_weight).sqrt()
        first = entry["count"] <= 1
        gain = torch.where(
            first,
            torch.maximum(first_gain[..., None], pooled).clamp(min=1e-3),
            filter_gain(entry["spread"], share.clamp(0, 1)),
        )
        return gain, torch.where(first, 0.0, base), first

    def step(self, visit: Visit) -> PerAgent:
        """The TD error, cut to its usual size and to what does not overshoot."""
        entry, error = visit.entry, visit.td_error[..., None]
        count, memory = entry["count"].clamp(min=1), self.memory / 2
        entry["td_square"] = mean_square(entry["td_square"], error.expand_as(count), count, memory)
        most = self.clip * entry["td_square"].sqrt().mean(-1)
        clipped = visit.td_error.clamp(min=-most, max=most)
        return unovershot(clipped, visit.effective_step())


def _mean_square(visit: Visit, memory: float) -> PerAgent:
    """The moving average of td_error^2 over an agent's visits, this one included."""
    agent = visit.agent
    agent["count"] = agent["count"] + 1
    agent["square"] = mean_square(agent["square"], visit.td_error, agent["count"], memory)
    return agent["square"]


def _check_memory(memory: float) -> None:
    if not 0 < memory <= 1:
        raise ValueError(f"got memory = {memory}; use a number in (0, 1]")
