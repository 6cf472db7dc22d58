"""How far a PINN method gets in given seconds of one core, on the problems of the suite.

`python -m tests.benchmarks.suite --problems burgers kdv --seeds 3` prints the relative L2 error
of the seeds at each mark, median and worst. Seconds are those that the process computed in the
method's steps: neither setting up nor evaluating counts.
"""

from __future__ import annotations

import json as json_format
import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from applications.pinn.methods import METHODS
from applications.pinn.problems import PROBLEMS
from applications.pinn.solve import evaluate, start

MARKS: dict[str, tuple[float, ...]] = {
    "burgers": (30, 90, 240),
    "burgers-0.01": (30, 180),
    "convection": (20,),
    "allen-cahn": (90,),
    "kdv": (180,),
    "wave": (120,),
    "helmholtz": (120,),
    "multiscale-poisson": (120,),
    "van-der-pol": (120,),
    "gray-scott": (240,),
    "kuramoto-sivashinsky": (480,),
}
"""Seconds at which a problem is evaluated, where they are not `OTHERS`."""
OTHERS = (60.0,)


@dataclass(frozen=True)
class Mark:
    """Where a run stood after so many seconds; `ended` says why it went no further."""

    problem: str
    seed: int
    seconds: float
    steps: int
    error: float
    held_out_loss: float
    ended: str = ""


@dataclass(frozen=True)
class Summary:
    """A problem's runs at one mark; a run without a finite error counts as infinitely wrong."""

    problem: str
    seconds: float
    steps: float
    error: float
    worst: float
    held_out_loss: float
    ended: str


def marks_of(problem: str, method: str, seed: int, seconds: Sequence[float]) -> list[Mark]:
    """One run of one thread, evaluated once each of the seconds has passed."""
    torch.set_num_threads(1)
    found = []
    with threadpool_limits(1):
        solver = start(PROBLEMS[problem], METHODS[method], seed, torch.device("cpu"))
        clock, steps, ended = 0.0, 0, None
        for mark in sorted(seconds):
            while clock < mark and ended is None:
                begin = time.process_time()
                ended = solver.step()
                clock += time.process_time() - begin
                steps += 1
            metrics = evaluate(PROBLEMS[problem], solver)
            error = metrics.get("relative_l2_error", math.nan)
            words = "" if ended is None else f"{ended.status.name.lower()} at {clock:.0f} s"
            found.append(Mark(problem, seed, mark, steps, error, metrics["held_out_loss"], words))
    return found


def summary(marks: Sequence[Mark]) -> Summary:
    """Of the seeds at one mark of one problem."""
    errors = [mark.error if math.isfinite(mark.error) else math.inf for mark in marks]
    return Summary(
        marks[0].problem,
        marks[0].seconds,
        median(mark.steps for mark in marks),
        median(errors),
        max(errors),
        median(mark.held_out_loss for mark in marks),
        ", ".join(f"seed {mark.seed} {mark.ended}" for mark in marks if mark.ended),
    )


def main(
    problems: tuple[str, ...] = tuple(PROBLEMS),
    method: str = "gauss-newton",
    seeds: int = 3,
    seconds: tuple[float, ...] = (),
    jobs: int = 1,
    json: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
    markdown: Annotated[Path | None, tyro.conf.arg(name="markdown", metavar="FILE")] = None,
) -> None:
    """Run a method on problems and print where it stands at the marks.

    Args:
        problems: names of the suite's problems.
        method: its name; its settings are the defaults.
        seeds: how many, from 0 on.
        seconds: the marks of all problems, instead of each problem's own.
        jobs: processes at a time; more than there are cores change what a second is.
        json: file to write every run to.
        markdown: file to write the table to.
    """
    console = Console(width=120)
    # Spawned, since a forked process inherits torch's threads in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    marks: list[Mark] = []
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        runs = [
            pool.submit(marks_of, problem, method, seed, seconds or MARKS.get(problem, OTHERS))
            for problem in problems
            for seed in range(seeds)
        ]
        for run in runs:
            last = run.result()[-1]
            marks += run.result()
            console.print(f"{last.problem}, seed {last.seed}: {last.error:.1e}", highlight=False)
    shared: dict[tuple[str, float], list[Mark]] = {}
    for mark in marks:
        shared.setdefault((mark.problem, mark.seconds), []).append(mark)
    summaries = [summary(of_mark) for of_mark in shared.values()]
    console.print(table(summaries, method))
    if json is not None:
        json.write_text(json_format.dumps([asdict(mark) for mark in marks], indent=1))
    if markdown is not None:
        markdown.write_text(as_markdown(summaries))


HEADINGS = ("problem", "CPU s", "steps", "relative L2, median", "worst", "held-out loss", "ended")


def cells(row: Summary) -> list[str]:
    """A summary's words and numbers, in the order of `HEADINGS`."""
    return [
        row.problem,
        f"{row.seconds:g}",
        f"{row.steps:.0f}",
        *(f"{number:.1e}" for number in (row.error, row.worst, row.held_out_loss)),
        row.ended,
    ]


def table(rows: Sequence[Summary], method: str) -> Table:
    """A line per problem and mark."""
    result = Table(title=method, title_justify="left", box=SIMPLE_HEAD)
    for heading in HEADINGS:
        result.add_column(heading, justify="left" if heading in ("problem", "ended") else "right")
    for row in rows:
        result.add_row(*cells(row))
    return result


def as_markdown(rows: Sequence[Summary]) -> str:
    """The same table for a README."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    tyro.cli(main)
