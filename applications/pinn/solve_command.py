"""`python -m applications.pinn solve`: a user's own problem, or one of the suite, from the shell.

    python -m applications.pinn solve my_pde.py:MyProblem --method gauss-newton --max-steps 300

The run is the bench's, as that of `run`: the same command goes on after Ctrl-C, does nothing where
all is done, and starts again once the problem's file has changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from applications.pinn.drawing import draw_training, figures_of
from applications.pinn.own_problem import OwnProblem, blamed_on, is_file, load
from applications.pinn.solution import Solution, default_steps
from sciopt.bench import Domain, Result, Run, Status, style
from sciopt.bench.cli import choose, names_first
from sciopt.bench.figures import save_figure
from sciopt.bench.identity import InvalidRunError, pick, resolve
from sciopt.bench.progress import ProgressDisplay
from sciopt.bench.runner import run_one
from sciopt.bench.store import Store


@dataclass(frozen=True)
class SolveOptions:
    """With which method, how long and where a problem is solved."""

    method: str = "gauss-newton"
    """one of the methods that `list` shows; --method.<setting> changes it"""
    max_steps: int | None = None
    """step limit; 500, or enough for all time slabs, if not given"""
    max_seconds: float | None = None
    """time limit of the steps; the same command with a larger one goes on"""
    seed: int = 0
    """of the network's first params and of the points"""
    device: str = "cpu"
    """cpu, cuda or cuda:<index>"""
    threads: int = 1
    """CPU threads; part of the run's identity, because it changes the last bits"""
    results: Path = Path("results")
    """folder of all results"""


def solve(domain: Domain, arguments: list[str]) -> None:
    """FILE.py:NAME or PROBLEM [options]: solve a problem of your own or of the suite, and draw it.

    Raises:
        InvalidRunError: a file, problem, method or setting that cannot work, in words.
    """
    names = names_first(arguments, ["FILE.py:NAME"], "solve")
    prog = f"applications.{domain.name} solve"
    if not names:
        tyro.cli(SolveOptions, args=arguments, prog=f"{prog} FILE.py:NAME")
        return
    own = _chosen(domain, names[0])
    method = pick(domain.methods, _method_named(arguments), f"method of {domain.name}")
    options, overrides = choose(SolveOptions(), own.problem, method, arguments, prog)
    if options.max_seconds is not None and not options.max_seconds > 0:
        raise InvalidRunError(f"max_seconds is {options.max_seconds}; give a positive number")
    domain = dataclasses.replace(
        domain,
        problems={**domain.problems, own.name: own.problem},
        data=[*domain.data, *own.files],
    )
    run = Run(own.name, options.method, 1, options.seed, overrides, options.device, options.threads)
    problem, method = resolve(domain, run)
    steps = default_steps(problem, method) if options.max_steps is None else options.max_steps
    run = dataclasses.replace(run, max_steps=steps)
    store, console = Store(options.results), Console()
    with ExitStack() as blame:
        for file in own.files:
            blame.enter_context(blamed_on(file))
        with ProgressDisplay(console, 1) as display:
            run_one(domain, run, store, max_seconds=options.max_seconds, watcher=display)
        folder = store.folder(domain, run)
        result = folder.load()
        solution = Solution.of_result(problem, method, result)
        console.print(_table(solution, result))
        for warning in _warnings(solution, result):
            console.print(warning, style="yellow", highlight=False)
        kept = _keep(solution, result, folder.path)
    for what, where in kept.items():
        console.print(f"{what}: {where}", soft_wrap=True, highlight=False)


def _chosen(domain: Domain, target: str) -> OwnProblem:
    if is_file(target):
        return load(target)
    try:
        return OwnProblem(target, pick(domain.problems, target, f"problem of {domain.name}"), ())
    except InvalidRunError as error:
        raise InvalidRunError(f"{error} A problem of your own is given as FILE.py:NAME") from None


def _method_named(arguments: list[str]) -> str:
    """The method, which must be known before its settings can be read."""
    named = SolveOptions().method
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument == "--method":
            named = following
        elif argument.startswith("--method="):
            named = argument.removeprefix("--method=")
    return named


def _table(solution: Solution, result: Result) -> Table:
    """What came out, in words and numbers."""
    table = Table(title=f"{result.run.problem}, {result.run.method}", show_header=False)
    metrics, last = solution.metrics, result.last
    reference = solution.reference
    if reference is not None:
        bar = f" (reference: {reference.error_bar:.1e})" if reference.error_bar else ""
        table.add_row("relative L2 error", f"{metrics['relative_l2_error']:.3e}{bar}")
    table.add_row("loss", f"{metrics['loss']:.3e}")
    table.add_row("held-out loss", f"{metrics['held_out_loss']:.3e}")
    table.add_row("collocation points", f"{metrics['points']:.0f}")
    table.add_row("steps", str(last.step))
    table.add_row("seconds in steps", f"{last.seconds:.2f}")
    table.add_row("ended", result.status.value)
    table.add_row("because", result.reason)
    return table


def _warnings(solution: Solution, result: Result) -> Iterator[str]:
    """What a user should not overlook."""
    metrics = solution.metrics
    if metrics["overfitted_points"]:
        yield (
            f"overfitted points: the equations' loss is {metrics['held_out_loss']:.1e} on points "
            f"never trained on, but the loss trained on is {metrics['loss']:.1e}. The network "
            "meets the equations at its points and not between them: give more points "
            "(--method.points-per-param), draw them more often (--method.redraw-every), or take "
            "a smaller network (--method.hidden)"
        )
    if len(solution.pieces) < solution.problem.slabs:
        *_, time = solution.problem.region
        yield (
            f"not finished: time slab {len(solution.pieces)} of {solution.problem.slabs} was "
            f"reached, and beyond {time} = {solution.reached:g} there is no solution; give more "
            "--max-steps"
        )
    if result.status is Status.DIVERGED:
        yield "diverged: there is no solution to keep; only the training is drawn"


def _keep(solution: Solution, result: Result, folder: Path) -> dict[str, Path]:
    """Write the solution and its figures beside the run; where they are."""
    diverged = result.status is Status.DIVERGED
    with style.context():
        figures = {"training": draw_training(solution)} if diverged else figures_of(solution)
        for name, figure in figures.items():
            save_figure(figure, folder / "figures" / name)
    kept = {"run": folder, "figures": folder / "figures"}
    if diverged:
        return kept
    solution.save(folder / "solution.npz")
    return {**kept, "solution": folder / "solution.npz"}
