"""The protocol: everything the bench knows of a domain.

A `Domain` names problems, methods and claims. A `Run` picks one problem, one method, a step
limit and a seed; the domain's `start` turns it into a `Solver`, which the runner steps and the
domain's `evaluate` measures with the clock stopped. What comes out is a `Result`. A `Claim` is
one sentence, the runs that can decide it, a judge and a figure; the last two are pure functions
of results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from matplotlib.figure import Figure


class Status(Enum):
    """Why a run ended."""

    CONVERGED = "the method met its own stopping test"
    STALLED = "the method could make no further progress"
    STEP_LIMIT = "the step limit was reached"
    OUT_OF_TIME = "the time limit was reached"
    DIVERGED = "a quantity left the finite range"

    @property
    def failed(self) -> bool:
        """Whether statistics count the run as worse than every other."""
        return self is Status.DIVERGED


@dataclass(frozen=True)
class Ended:
    """A solver's own word that it is finished: the status and what led to it, in words."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Run:
    """What decides a result.

    `overrides` replaces settings: keys are `problem.<field>` and `method.<field>`. One step is
    what the problem says it is (an iteration, an episode, a day).
    """

    problem: str
    method: str
    max_steps: int
    seed: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1

    def __str__(self) -> str:
        settings = "".join(f" {key}={_short(value)}" for key, value in self.overrides.items())
        return f"{self.problem} {self.method} seed {self.seed}{settings}"


def _short(value: Any) -> str:
    """The value in words; of a long sequence, such as a grid, its ends."""
    if isinstance(value, (list, tuple)) and len(value) > 6:
        return f"({value[0]}, {value[1]}, ..., {value[-1]}: {len(value)})"
    return str(value)


@dataclass(frozen=True)
class Record:
    """One point of a run's curve; `seconds` is the time spent in steps, evaluations excluded."""

    step: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What a finished run left behind.

    `start_seconds` is the time `start` took, off the curve's clock; the curve's first point is
    step 1, so that its seconds show what warming up in the first step cost.
    """

    run: Run
    status: Status
    reason: str
    records: Sequence[Record]
    arrays: Mapping[str, np.ndarray]
    start_seconds: float

    @property
    def last(self) -> Record:
        """The last point of the curve."""
        return self.records[-1]


class Answer(Enum):
    """What a judge can say of a claim."""

    HOLDS = "holds"
    HOLDS_UNDER_CONDITIONS = "holds under conditions"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """A judge's answer, the reason in words (with its conditions) and the numbers behind it.

    The numbers that decided come first: the summary of `make reproduce` shows the first eight.
    """

    answer: Answer
    because: str
    numbers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence with its evidence: the runs, a pure judge and a pure figure of their results.

    `judge` and `draw` receive the results in the order of `runs`. `max_seconds` is a safety
    limit per run, never what decides a result. A `headline` claim is part of `make reproduce`.
    """

    says: str
    runs: Sequence[Run]
    judge: Callable[[Sequence[Result]], Verdict]
    draw: Callable[[Sequence[Result]], Figure]
    max_seconds: float | None = None
    headline: bool = False


@runtime_checkable
class Solver(Protocol):
    """A method at work on a problem.

    A solver restored with `load_state_dict` from any `state_dict` continues bit for bit, unless
    `resumable` is False: then a third-party library runs it whole, and it starts again.
    `state_dict` holds tensors, numbers, strings, lists and dicts only.
    """

    @property
    def resumable(self) -> bool:
        """Whether `state_dict` can restore this solver."""
        ...

    def step(self) -> Ended | None:
        """One step; None means go on."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the steps to come, random streams included."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        ...


Problem = TypeVar("Problem")
Method = TypeVar("Method")
SolverT = TypeVar("SolverT", bound=Solver)


@dataclass(frozen=True, kw_only=True)
class Domain(Generic[Problem, Method, SolverT]):
    """A family of problems with its methods, as the bench sees it.

    Problems and methods are frozen dataclasses of settings; their docstring's first line is
    what `list` prints. `start(problem, method, seed, device)` may warm up: it is off the clock.
    It is defined in the domain's folder, whose source decides whether a result is up to date.
    `evaluate` gives the metrics of one point of the curve and must not disturb the solver;
    `arrays` is kept once, at the end. `data` are files the results depend on besides the source,
    `without_effect` the modules and packages of the folder that can change no number: they may be
    edited without making a result out of date, and nothing that computes one may import them.
    `max_steps` is the command line's default step limit.
    """

    name: str
    problems: Mapping[str, Problem]
    methods: Mapping[str, Method]
    start: Callable[[Problem, Method, int, torch.device], SolverT]
    evaluate: Callable[[Problem, SolverT], Mapping[str, float]]
    arrays: Callable[[Problem, SolverT], Mapping[str, np.ndarray]]
    claims: Mapping[str, Claim]
    data: Sequence[Path] = ()
    without_effect: Sequence[str] = ("claims",)
    max_steps: int = 1000
