"""A race: optimizers take the same steps by turns in one process, and where they arrive is checked.

A round gives every candidate one lap, each round beginning with another one, so that what else
the machine does falls on all alike. Before each step, off the clock, the gradient is written anew:
there are libraries that overwrite it, and one that takes it away and then has nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bar:
    """The time is to be at most `at_most` times that of the candidate `against`."""

    against: str
    at_most: float


@dataclass(frozen=True)
class Candidate:
    """An optimizer to be built, and what is expected of it.

    `equals` names the candidate that must arrive at the same parameters, `within` this relative
    L2 error of the way travelled. `accesses` is how often the method must read or write a number
    per parameter; with it the row tells the bandwidth. With `one_tensor` all parameters are laid
    end to end in a single tensor.
    """

    name: str
    build: Callable[[list[Tensor]], Any]
    equals: str | None = None
    within: float = 1e-5
    bars: tuple[Bar, ...] = ()
    accesses: int | None = None
    one_tensor: bool = False


@dataclass(frozen=True)
class Verdict:
    """A bar in words, the number that it is for, and whether that meets it."""

    bar: str
    value: float
    met: bool


@dataclass
class Row:
    """What one candidate did: seconds per step, or in `note` why there are none."""

    case: str
    candidate: str
    note: str = ""
    first_step: float | None = None
    fastest: float | None = None
    median: float | None = None
    bytes_per_second: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


class Entrant:
    """A candidate with parameters of its own, at work."""

    def __init__(self, candidate: Candidate, start: Sequence[Tensor]):
        self.candidate = candidate
        self.params = [param.clone().requires_grad_() for param in _laid(candidate, start)]
        self.gradients = [torch.empty_like(param) for param in self.params]
        self.optimizer = candidate.build(self.params)
        self.steps = 0
        self.laps: list[float] = []
        self.first_step = 0.0

    def step(self, series: Sequence[Sequence[Tensor]]) -> float:
        """The seconds of one step along the series' next gradient.

        On an accelerator they are those between two events of its queue, in which the writing of
        the gradient is still at work when the step is called, as a backward pass would be.
        """
        fresh = _laid(self.candidate, series[self.steps % len(series)])
        self.steps += 1
        for param, gradient, value in zip(self.params, self.gradients, fresh, strict=True):
            param.grad = gradient.copy_(value)
        if self.params[0].is_cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            self.optimizer.step()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / 1e3
        begin = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - begin

    def arrived(self) -> Tensor:
        """All parameters end to end."""
        return torch.cat([param.detach().reshape(-1) for param in self.params])


def race(
    case: str,
    candidates: Sequence[Candidate],
    shapes: Sequence[tuple[int, ...]],
    *,
    rounds: int,
    steps: int,
    device: str = "cpu",
) -> list[Row]:
    """One row per candidate, in their order.

    Args:
        case: the rows' name.
        candidates: those whose library is not installed get a row that says so.
        shapes: of the parameters.
        rounds: laps of every candidate.
        steps: per lap; a lap's time is their mean.
        device: where the parameters live.

    Raises:
        AssertionError: a candidate did not move its parameters, or not to where it must.
    """
    generator = torch.Generator().manual_seed(0)
    start, *series = (
        [(0.1 * torch.randn(shape, generator=generator)).to(device) for shape in shapes]
        for _ in range(4)
    )
    rows, entrants = _enter(case, candidates, start)
    for entrant in entrants.values():
        # By the host's clock on any device: most of a first step is compiling.
        begin = time.perf_counter()
        entrant.step(series)
        entrant.first_step = time.perf_counter() - begin
        entrant.step(series)
    in_order = list(entrants.values())
    for turn in range(rounds):
        for place in range(len(in_order)):
            entrant = in_order[(turn + place) % len(in_order)]
            entrant.laps.append(sum(entrant.step(series) for _ in range(steps)) / steps)
    _check(in_order, torch.cat([param.reshape(-1) for param in start]))
    numbers = sum(param.numel() for param in start)
    for row in rows:
        if row.candidate in entrants:
            entrant = entrants[row.candidate]
            row.first_step = entrant.first_step
            row.fastest, row.median = min(entrant.laps), median(entrant.laps)
            if entrant.candidate.accesses is not None:
                moved = entrant.candidate.accesses * start[0].element_size() * numbers
                row.bytes_per_second = moved / row.fastest
    judge(rows, [candidate.bars for candidate in candidates])
    return rows


def _enter(
    case: str, candidates: Sequence[Candidate], start: Sequence[Tensor]
) -> tuple[list[Row], dict[str, Entrant]]:
    """A row for every candidate, and by name those that could be built."""
    rows = [Row(case, candidate.name) for candidate in candidates]
    entrants: dict[str, Entrant] = {}
    for row, candidate in zip(rows, candidates, strict=True):
        try:
            entrants[candidate.name] = Entrant(candidate, start)
        except ModuleNotFoundError:
            row.note = "not installed"
    return rows, entrants


def judge(rows: Sequence[Row], bars: Sequence[Sequence[Bar]]) -> None:
    """Fill in each row's ratios of fastest times, and whether its own bars are met."""
    fastest = {row.candidate: row.fastest for row in rows if row.fastest is not None}
    for row, of_row in zip(rows, bars, strict=True):
        if row.fastest is None:
            continue
        row.ratios = {name: row.fastest / seconds for name, seconds in fastest.items()}
        for bar in of_row:
            ratio = row.ratios[bar.against]
            words = f"<= {bar.at_most:.3g} {bar.against}"
            row.verdicts.append(Verdict(words, ratio, ratio <= bar.at_most))


def _laid(candidate: Candidate, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tensors as the candidate wants them: as they are, or end to end in one."""
    if candidate.one_tensor:
        return [torch.cat([tensor.reshape(-1) for tensor in tensors])]
    return tensors


def _check(entrants: Sequence[Entrant], start: Tensor) -> None:
    """Assert that all have moved, and those of one method to the same place."""
    arrived = {entrant.candidate.name: entrant.arrived() for entrant in entrants}
    for entrant in entrants:
        candidate = entrant.candidate
        name, equals, within = candidate.name, candidate.equals, candidate.within
        moved = torch.linalg.vector_norm(arrived[name] - start).item()
        assert moved > 0, f"{name} did not move its parameters: a no-op was timed"
        if equals in arrived:
            apart = torch.linalg.vector_norm(arrived[name] - arrived[equals]).item() / moved
            assert apart <= within, f"{name} is {apart:.1e} away from {equals}, allowed {within}"
