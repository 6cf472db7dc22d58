"""One live progress display for a list of runs; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sciopt.bench.domain import Record


class _Bars(Progress):
    """Bars with a line of text below them."""

    below = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.below, style="dim")


class ProgressDisplay:
    """Shows how many of the runs are done and how far the present one is; a `Watcher`.

    Below the bars stand the metrics of the curve's last point.
    """

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._bars = _Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._all = self._bars.add_task("all runs", total=runs)
        self._one = self._bars.add_task("steps", total=None, visible=False)
        self._runs, self._done = runs, 0
        self._began = time.perf_counter()

    def __enter__(self) -> ProgressDisplay:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin(self, title: str) -> None:
        """A run begins."""
        self._began = time.perf_counter()
        self._bars.below = ""
        self._bars.reset(self._one, description=title, visible=True, total=None)

    def step(self, step: int, max_steps: int) -> None:
        """The present run has reached `step`."""
        self._bars.update(self._one, completed=step, total=max_steps)

    def point(self, record: Record) -> None:
        """The metrics of the present run, shown until the next point of its curve."""
        metrics = (f"{name.replace('_', ' ')} {v:.3g}" for name, v in record.metrics.items())
        self._bars.below = f"step {record.step}: {', '.join(metrics)}"

    def note(self, message: str) -> None:
        """Something a user should read, kept above the bars."""
        self._console.print(message, style="yellow", highlight=False, soft_wrap=True)

    def end(self, title: str, *, was_done: bool) -> None:
        """The run is in the store."""
        self._done += 1
        self._bars.update(self._all, completed=self._done)
        if not self._console.is_terminal:
            seconds = time.perf_counter() - self._began
            how = "already done" if was_done else f"done in {seconds:.1f} s"
            self._console.print(
                f"[{self._done}/{self._runs}] {title}: {how}", markup=False, soft_wrap=True
            )
