"""One live progress display for a list of runs; plain lines where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressDisplay:
    """Shows how many of the runs are done and how far the present one is; a `Watcher`."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._bars = Progress(
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
        self._bars.reset(self._one, description=title, visible=True, total=None)

    def step(self, step: int, max_steps: int) -> None:
        """The present run has reached `step`."""
        self._bars.update(self._one, completed=step, total=max_steps)

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
