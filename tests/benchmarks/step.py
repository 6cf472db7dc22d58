"""How long an optimizer's step takes: sciopt, torch and three other libraries by turns.

`python -m tests.benchmarks.step` prints a table per case: fastest and median lap, the ratio of
fastest laps to those of the case's references, and the bars that sciopt sets itself. It asserts
where the parameters arrive, and never a time. `pip install -e ".[benchmark]"` brings the others.
"""

from __future__ import annotations

import json as json_format
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.benchmarks.candidates import DEFAULT, FUSED, LARGE, PEERS, SMALL, compositions
from tests.benchmarks.iteration import race_iterations
from tests.benchmarks.memory import Comparison, compare
from tests.benchmarks.race import Row, Verdict, race

Case = Literal["small", "large", "composed", "iteration", "memory"]
CASES: dict[str, tuple[Case, ...]] = {
    "cpu": ("small", "large", "composed", "iteration", "memory"),
    "cuda": ("composed", "iteration"),
}

NETWORK = [(52, 2), (52,), (52, 52), (52,), (1, 52), (1,)]
"""The 2,965 parameters of a network 2-52-52-1."""


def main(
    device: Literal["cpu", "cuda"] = "cpu",
    only: tuple[Case, ...] = (),
    threads: int = 1,
    quick: bool = False,
    json: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Race optimizers and print the tables.

    Args:
        device: on "cuda" the composition has 100M parameters, and whole iterations run as graphs.
        only: the cases to run, all that fit the device if none is named.
        threads: of the processor.
        quick: everything tiny and few times, without the other libraries and without compiling.
        json: file to write all rows to.
    """
    console = Console(width=132)
    torch.set_num_threads(threads)
    # A compilation that is found on disk is not a cold one.
    torch.compiler.config.force_disable_caches = True
    machine = _machine(device, threads)
    console.print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    rows: list[Row] = []
    holdings: list[Comparison] = []
    for case in only or CASES[device]:
        if case == "memory":
            holdings = compare([(8, 4)] * 3 if quick else [(400, 250)] * 100)
            console.print(_memory_table(holdings))
        else:
            with console.status(case):
                of_case = RACES[case](device, quick)
            rows += of_case
            console.print(_table(of_case))
    if json is not None:
        memory = [asdict(each) | {"ratio": each.ratio, "met": each.met} for each in holdings]
        everything = {"machine": machine, "rows": [asdict(row) for row in rows], "memory": memory}
        json.write_text(json_format.dumps(everything, indent=1))


def small(device: str, quick: bool) -> list[Row]:
    """Adam on a network of 2,965 parameters."""
    rounds, steps = (2, 2) if quick else (100, 10)
    others = [] if quick else PEERS
    name = "Adam, 6 tensors, 3k parameters"
    return race(name, [*SMALL, *others], NETWORK, rounds=rounds, steps=steps, device=device)


def large(device: str, quick: bool) -> list[Row]:
    """Adam on 100 tensors of together 10M parameters."""
    if quick:
        return race("Adam, large", LARGE, [(8, 4)] * 3, rounds=2, steps=2, device=device)
    name, shapes = "Adam, 100 tensors, 10M parameters", [(400, 250)] * 100
    return race(name, [*LARGE, *PEERS], shapes, rounds=20, steps=3, device=device)


def composed(device: str, quick: bool) -> list[Row]:
    """Adam times a rate per layer times one per neuron, against torch's Adam without them."""
    if quick:
        candidates, shapes = compositions(1.5)[:2], [(8, 4)] * 3
        return race("composed", candidates, shapes, rounds=2, steps=2, device=device)
    if device == "cpu":
        name, shapes = "composed, 100 tensors, 10M parameters", [(400, 250)] * 100
        rows = race(name, compositions(1.5), shapes, rounds=20, steps=3)
        compiled = rows[-1].first_step
        assert compiled is not None
        rows[-1].verdicts.append(Verdict("<= 60 s first step", compiled, compiled <= 60))
        return rows
    name, shapes = "composed, 100 tensors, 100M parameters", [(1000, 1000)] * 100
    rows = race(name, compositions(1.15), shapes, rounds=50, steps=5, device=device)
    copying = copy_bandwidth(device)
    for row in rows:
        assert row.bytes_per_second is not None
        row.ratios["copy bandwidth"] = row.bytes_per_second / copying
    share = rows[-1].ratios["copy bandwidth"]
    rows[-1].verdicts.append(Verdict(">= 0.8 copy bandwidth", share, share >= 0.8))
    return rows


def iteration(device: str, quick: bool) -> list[Row]:
    """Closure and step of a network of 2,965 parameters at 1,000 points."""
    if quick:
        return race_iterations("iteration", device=device, points=10, rounds=2, iterations=2)
    name = "whole iteration, 3k parameters, 1000 points"
    return race_iterations(name, device=device, points=1000, rounds=20, iterations=20)


RACES = {"small": small, "large": large, "composed": composed, "iteration": iteration}


def copy_bandwidth(device: str) -> float:
    """Bytes per second, those read plus those written, of copying 1 GiB; the best of 20."""
    source = torch.ones(2**28, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(20):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3)
    return 2 * source.numel() * source.element_size() / best


def _machine(device: str, threads: int) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device == "cuda" else platform.processor()
    return {
        "device": name or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def _table(rows: Sequence[Row]) -> Table:
    """The rows of one case."""
    references = [name for name in (DEFAULT, FUSED, "copy bandwidth") if name in rows[0].ratios]
    timed = [row for row in rows if row.fastest is not None]
    columns: dict[str, Callable[[Row], str]] = {
        "fastest": lambda row: _time(row.fastest),
        "median": lambda row: _time(row.median),
        **{f"/ {name}": lambda row, n=name: f"{row.ratios[n]:.3f}" for name in references},
    }
    if any(row.first_step is not None for row in timed):
        columns["first step"] = lambda row: _time(row.first_step)
    if any(row.bytes_per_second is not None for row in timed):
        columns["GB/s"] = _bandwidth
    table = _new_table(rows[0].case, "candidate", *columns)
    for row in rows:
        if row in timed:
            verdicts = "\n".join(f"{each.bar} {_answer(each.met)}" for each in row.verdicts)
            table.add_row(row.candidate, *(cell(row) for cell in columns.values()), verdicts)
        else:
            table.add_row(row.candidate, *("-" for _ in columns), row.note)
    return table


def _memory_table(holdings: Sequence[Comparison]) -> Table:
    """What the optimizers hold."""
    title = "memory held beside parameters and gradients"
    table = _new_table(title, "method", "sciopt", "tensors", "torch", "tensors", "/ torch")
    for each in holdings:
        table.add_row(
            each.method,
            f"{each.ours.bytes:,} B",
            str(each.ours.tensors),
            f"{each.theirs.bytes:,} B",
            str(each.theirs.tensors),
            f"{each.ratio:.4f}",
            "" if each.at_most is None else f"<= {each.at_most:g} {_answer(each.met)}",
        )
    return table


def _new_table(title: str, name: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(name, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bar, met?", no_wrap=True)
    return table


def _answer(met: bool | None) -> str:
    return "[green]yes[/]" if met else "[red]no[/]"


def _bandwidth(row: Row) -> str:
    return "" if row.bytes_per_second is None else f"{row.bytes_per_second / 1e9:.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, scale in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.1f} s"


if __name__ == "__main__":
    tyro.cli(main)
