"""Functions timed by turns in one process, and their table.

What else the machine does falls on all alike. On a processor the clock counts this process's own
seconds, all threads together; on an accelerator those of the wall, between two moments at which
it has nothing left to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.benchmarks.race import Bar, Row, judge

CALLS = 3
"""Of a lap, after one off the clock: the last function has left its own numbers in the cache."""


def by_turns(
    case: str,
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    device: str = "cpu",
    bars: Mapping[str, Sequence[Bar]] | None = None,
) -> list[Row]:
    """One row per function with the fastest and the median of its laps, one in each round.

    Args:
        case: the rows' name.
        functions: what to call, by name.
        rounds: each begins with another function.
        device: where they compute.
        bars: of a function, by its name.
    """
    names = list(functions)
    laps: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            functions[name]()
            begin = _now(device)
            for _ in range(CALLS):
                functions[name]()
            laps[name].append((_now(device) - begin) / CALLS)
    rows = [
        Row(case, name, fastest=min(times), median=median(times)) for name, times in laps.items()
    ]
    judge(rows, [(bars or {}).get(name, ()) for name in names])
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows of one case; the last column answers whether each bar is met."""
    result = Table(title=rows[0].case, title_justify="left", box=SIMPLE_HEAD)
    result.add_column("", no_wrap=True)
    for heading in ("fastest", "median"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("times as fast as, met?", no_wrap=True)
    for row in rows:
        assert row.fastest is not None and row.median is not None
        verdicts = [
            f"{1 / each.value:.1f} [{'green]yes' if each.met else 'red]no'}[/] ({each.bar})"
            for each in row.verdicts
        ]
        times = (f"{1e3 * seconds:.2f} ms" for seconds in (row.fastest, row.median))
        result.add_row(row.candidate, *times, "\n".join(verdicts))
    return result


def as_dict(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What goes into a file."""
    return [asdict(row) for row in rows]


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
