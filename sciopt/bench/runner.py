"""Runs one method on one problem: steps, clock, curve, checkpoints.

The clock runs only while the solver steps; it is stopped, after synchronising the device,
while a point of the curve is evaluated or a checkpoint written.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from sciopt.bench.domain import Domain, Ended, Record, Result, Run, Solver, Status
from sciopt.bench.identity import InvalidRunError, device_of, resolve
from sciopt.bench.store import (
    Condition,
    RunFolder,
    Store,
    record_as_json,
    record_from_json,
)

CURVE_POINTS = 60
CHECKPOINT_SECONDS = 10.0
SHOW_SECONDS = 0.2


@runtime_checkable
class Watcher(Protocol):
    """Who is told how runs go."""

    def begin(self, title: str) -> None:
        """A run begins."""
        ...

    def step(self, step: int, max_steps: int) -> None:
        """A run under way has reached `step`."""
        ...

    def point(self, record: Record) -> None:
        """A point of the curve of the run under way."""
        ...

    def note(self, message: str) -> None:
        """Something a user should read."""
        ...

    def end(self, title: str, *, was_done: bool) -> None:
        """The run is in the store; `was_done` if it had been there before."""
        ...


class Silent:
    """A watcher that shows nothing."""

    def begin(self, title: str) -> None:
        """Show nothing."""

    def step(self, step: int, max_steps: int) -> None:
        """Show nothing."""

    def point(self, record: Record) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""

    def end(self, title: str, *, was_done: bool) -> None:
        """Show nothing."""


def run_one(
    domain: Domain,
    run: Run,
    store: Store,
    *,
    max_seconds: float | None = None,
    watcher: Watcher | None = None,
) -> str:
    """Make sure that the store holds the result of a run; its run id.

    Idempotent: for a finished run there is nothing to do, an unfinished one goes on from its last
    checkpoint, one that is damaged or made by other source is done again.

    Raises:
        InvalidRunError: settings, names or a device that cannot work.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, the checkpoint being written.
    """
    watcher = watcher or Silent()
    folder = store.folder(domain, run)
    title = f"{domain.name} {run}"
    watcher.begin(title)
    with folder.locked(lambda: watcher.note(f"{title}: waiting for another process that does it")):
        was_done = _ready(folder, max_seconds, watcher)
        if not was_done:
            with one_run_settings(run), interruptible() as interruption:
                under_way = _UnderWay.begin(domain, run, folder, watcher)
                folder.finish(under_way.complete(max_seconds, interruption))
                # A signal in the step that ended the run has not been obeyed yet.
                if received := interruption():
                    raise received
    watcher.end(title, was_done=was_done)
    return folder.path.name


def _ready(folder: RunFolder, max_seconds: float | None, watcher: Watcher) -> bool:
    """Whether there is nothing to do; what stands in the way of doing it is cleared."""
    match folder.condition():
        case Condition.DONE if folder.may_go_on(max_seconds):
            watcher.note(f"{folder.path.name} had run out of time and now has more")
            folder.reopen()
        case Condition.DONE:
            return True
        case Condition.STALE:
            watcher.note(f"{folder.path.name} was made by other source; it is done again")
        case Condition.DAMAGED:
            damage = folder.damage()
            watcher.note(f"{damage}; set aside as {folder.set_aside()}, the run is done again")
    return False


@contextmanager
def one_run_settings(run: Run) -> Iterator[None]:
    """The run's thread count and, on CUDA, deterministic algorithms; both restored after."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    if run.device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(run.threads)
    try:
        with threadpool_limits(limits=run.threads):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def interruptible() -> Iterator[Callable[[], BaseException | None]]:
    """Holds back SIGINT and SIGTERM: the yielded function tells what to raise, once one came.

    The run asks between two steps, so that its checkpoint is whole. A second signal acts at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[BaseException] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number: int, _frame: object) -> None:
        received.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(143))
        if len(received) > 1:
            raise received[0]

    try:
        for number in before:
            signal.signal(number, receive)
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def curve_steps(max_steps: int) -> list[int]:
    """The steps at which a curve is recorded: about 60, log-spaced, from 1 to `max_steps`."""
    return np.unique(np.geomspace(1, max_steps, CURVE_POINTS).round().astype(int)).tolist()


@dataclass
class _Clock:
    """Seconds spent between `start` and `stop`, the device having finished its work at both."""

    device: torch.device
    seconds: float = 0.0
    _since: float = field(default=0.0, init=False)

    def start(self) -> None:
        self._synchronise()
        self._since = time.perf_counter()

    def stop(self) -> None:
        self._synchronise()
        self.seconds += time.perf_counter() - self._since

    def running(self, now: float) -> float:
        """Seconds so far without synchronising."""
        return self.seconds + now - self._since

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass
class _UnderWay:
    """A run between its first and its last step."""

    domain: Domain
    run: Run
    folder: RunFolder
    watcher: Watcher
    problem: Any
    solver: Solver
    clock: _Clock
    start_seconds: float
    step: int = 0
    records: list[Record] = field(default_factory=list)
    saved_at: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, domain: Domain, run: Run, folder: RunFolder, watcher: Watcher) -> _UnderWay:
        """Build the solver and take up the newest checkpoint, if there is one."""
        problem, method = resolve(domain, run)
        device = device_of(run)
        before = time.perf_counter()
        try:
            solver = domain.start(problem, method, run.seed, device)
        except ValueError as error:
            raise InvalidRunError(str(error)) from error
        start_seconds = time.perf_counter() - before
        under_way = cls(
            domain, run, folder, watcher, problem, solver, _Clock(device), start_seconds
        )
        state, damaged = folder.load_checkpoint()
        for file in damaged:
            watcher.note(f"{file} is not what was written; the checkpoint before it is used")
        if state is None:
            folder.begin()
        else:
            under_way.take_up(state)
        return under_way

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on where the checkpoint was taken."""
        self.solver.load_state_dict(state["solver"])
        self.step = state["step"]
        self.clock.seconds = state["seconds"]
        self.start_seconds = state["start_seconds"]
        self.records = [record_from_json(record) for record in state["records"]]
        self.folder.rewrite_curve(self.records)
        self.watcher.note(f"{self.folder.path.name} goes on from step {self.step}")

    def save(self) -> None:
        """Write a checkpoint, unless a library that runs the method whole cannot go on from one."""
        if self.solver.resumable:
            state = {
                "solver": self.solver.state_dict(),
                "step": self.step,
                "seconds": self.clock.seconds,
                "start_seconds": self.start_seconds,
                "records": [record_as_json(record) for record in self.records],
            }
            self.folder.save_checkpoint(self.step, state)

    def complete(
        self, max_seconds: float | None, interruption: Callable[[], BaseException | None]
    ) -> Result:
        """Step until the solver ends, diverges or meets a limit."""
        limit = math.inf if max_seconds is None else max_seconds
        ended: Ended | None = None
        for point in curve_steps(self.run.max_steps):
            while self.step < point and ended is None:
                ended = self.step_for_a_while(point, limit, interruption)
                if ended is None:
                    self.between_steps(interruption())
            if ended is not None and ended.status is Status.OUT_OF_TIME:
                # Before the last point, which a run that is given more time would not have.
                self.save()
            recorded = self.records and self.records[-1].step == self.step
            if ended is not None or (self.step == point and not recorded):
                ended = self.record() or ended
            if ended is not None:
                break
        ended = ended or Ended(Status.STEP_LIMIT, f"after {self.step} steps, as asked for")
        return Result(
            run=self.run,
            status=ended.status,
            reason=ended.reason,
            records=self.records,
            arrays=self.domain.arrays(self.problem, self.solver),
            start_seconds=self.start_seconds,
        )

    def step_for_a_while(
        self, point: int, limit: float, interruption: Callable[[], BaseException | None]
    ) -> Ended | None:
        """Step with the clock running until `point` or until it is time to show progress."""
        self.clock.start()
        pause = time.perf_counter() + SHOW_SECONDS
        try:
            while self.step < point:
                ended = self.solver.step()
                self.step += 1
                if ended is not None:
                    return ended
                now = time.perf_counter()
                if self.clock.running(now) > limit:
                    return Ended(Status.OUT_OF_TIME, f"after {limit:g} s, at step {self.step}")
                if now > pause or interruption():
                    break
        finally:
            self.clock.stop()
        return None

    def between_steps(self, interruption: BaseException | None) -> None:
        """Show progress, keep a checkpoint when one is due, and give in to a signal."""
        self.watcher.step(self.step, self.run.max_steps)
        if interruption or time.perf_counter() - self.saved_at > CHECKPOINT_SECONDS:
            self.save()
            self.saved_at = time.perf_counter()
        if interruption:
            raise interruption

    def record(self) -> Ended | None:
        """Evaluate and keep a point of the curve; a metric that is not finite ends the run."""
        metrics = self.domain.evaluate(self.problem, self.solver)
        record = Record(self.step, self.clock.seconds, {k: float(v) for k, v in metrics.items()})
        self.records.append(record)
        self.folder.append(record)
        self.watcher.point(record)
        for name, value in record.metrics.items():
            if not math.isfinite(value):
                return Ended(Status.DIVERGED, f"{name} is {value} at step {self.step}")
        return None
