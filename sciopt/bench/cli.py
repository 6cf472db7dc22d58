"""The command line every domain shares: list, run, claim."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sciopt.bench.domain import Answer, Domain, Result, Run
from sciopt.bench.evidence import Evidence, gather
from sciopt.bench.identity import InvalidRunError, fingerprint, pick, settings_by_name
from sciopt.bench.progress import ProgressDisplay
from sciopt.bench.runner import run_one
from sciopt.bench.store import Store

ANSWER_STYLES = {
    Answer.HOLDS: "green",
    Answer.HOLDS_UNDER_CONDITIONS: "yellow",
    Answer.FAILS: "red",
    Answer.UNDECIDED: "dim",
}


@dataclass(frozen=True)
class RunOptions:
    """How often, how long and where a method runs."""

    seeds: tuple[int, ...] = (0,)
    """one run per seed"""
    max_steps: int | None = None
    """step limit; the domain's own default if not given"""
    device: str = "cpu"
    """cpu, cuda or cuda:<index>"""
    threads: int = 1
    """CPU threads; part of the run's identity, because it changes the last bits"""
    results: Path = Path("results")
    """folder of all results"""


@dataclass(frozen=True)
class ClaimOptions:
    """Where a claim's evidence is kept."""

    results: Path = Path("results")
    """folder of all results"""


Command = Callable[[Domain, list[str]], None]
"""What is called with the domain and the arguments after the command's name."""

Options = TypeVar("Options")


def main(domain: Domain, commands: Mapping[str, Command] | None = None) -> None:
    """`python -m applications.<domain>`: exits with 2 after a mistake in the arguments.

    `commands` are the domain's own by name; the first line of each one's docstring says what it
    takes and does.
    """
    fingerprint(domain)
    own = dict(commands or {})

    def list_all(domain: Domain, arguments: list[str]) -> None:
        refuse_arguments("list", arguments)
        print_domain(Console(), domain, own)

    known: dict[str, Command] = {"list": list_all, "run": _run, "claim": _claim, **own}
    usage = (
        f"usage: python -m applications.{domain.name} "
        "list | run PROBLEM METHOD [options] | claim NAME [options]"
    )
    usage += "".join(f" | {name} ..." for name in own)
    if own:
        usage += "\n\n" + "\n".join(f"  {name}  {_says(command)}" for name, command in own.items())
    dispatch(usage, sys.argv[1:], lambda name: _bind(pick(known, name, "command"), domain))


def _bind(command: Command, domain: Domain) -> Callable[[list[str]], None]:
    return lambda arguments: command(domain, arguments)


def _says(value: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def dispatch(
    usage: str, arguments: Sequence[str], command: Callable[[str], Callable[[list[str]], None]]
) -> None:
    """Call the command named first with the rest; user errors become one line and exit code 2.

    A folder or disk that refuses becomes one line too, naming the path, and exit code 1.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        Console().print(usage, markup=False, highlight=False, soft_wrap=True)
        sys.exit(0 if arguments else 2)
    try:
        command(arguments[0])(list(arguments[1:]))
    except InvalidRunError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command goes on from here")
        sys.exit(130)


def names_first(arguments: list[str], wanted: Sequence[str], command: str) -> list[str]:
    """The leading positional arguments, taken off `arguments`."""
    found = []
    while arguments and not arguments[0].startswith("-") and len(found) < len(wanted):
        found.append(arguments.pop(0))
    if len(found) < len(wanted) and not {"-h", "--help"} & set(arguments):
        missing = " ".join(wanted[len(found) :])
        raise InvalidRunError(
            f"{command} needs {' '.join(wanted)} before any option; missing: {missing}"
        )
    return found


def choose(
    options: Options, problem: Any, method: Any, arguments: Sequence[str], prog: str
) -> tuple[Options, dict[str, Any]]:
    """A command's options and the overrides of a `Run`, read from the arguments.

    They are one flat page: the options, --problem.<field>, --method.<field>.
    """
    settings = dataclasses.make_dataclass(
        "Settings",
        [
            ("options", tyro.conf.OmitArgPrefixes[type(options)], options),
            ("problem", type(problem), dataclasses.field(default_factory=lambda: problem)),
            ("method", type(method), dataclasses.field(default_factory=lambda: method)),
        ],
        frozen=True,
    )
    chosen: Any = tyro.cli(settings, args=arguments, prog=prog)
    old = settings_by_name(problem, "problem") | settings_by_name(method, "method")
    new = settings_by_name(chosen.problem, "problem") | settings_by_name(chosen.method, "method")
    return chosen.options, {name: value for name, value in new.items() if value != old[name]}


def _run(domain: Domain, arguments: list[str]) -> None:
    names = names_first(arguments, ["PROBLEM", "METHOD"], "run")
    if len(names) < 2:
        tyro.cli(RunOptions, args=arguments, prog=f"applications.{domain.name} run PROBLEM METHOD")
        return
    problem = pick(domain.problems, names[0], f"problem of {domain.name}")
    method = pick(domain.methods, names[1], f"method of {domain.name}")
    options, overrides = choose(
        RunOptions(), problem, method, arguments, f"applications.{domain.name} run"
    )
    if not options.seeds or len(set(options.seeds)) < len(options.seeds):
        raise InvalidRunError(
            f"--seeds needs one or more different seeds, such as --seeds 0 1 2; got {options.seeds}"
        )
    max_steps = domain.max_steps if options.max_steps is None else options.max_steps
    runs = [
        Run(names[0], names[1], max_steps, seed, overrides, options.device, options.threads)
        for seed in options.seeds
    ]
    store = Store(options.results)
    console = Console()
    with ProgressDisplay(console, len(runs)) as display:
        for run in runs:
            run_one(domain, run, store, watcher=display)
    folders = [store.folder(domain, run) for run in runs]
    console.print(_results_table([folder.load() for folder in folders]))
    for folder in folders:
        console.print(str(folder.path), highlight=False, soft_wrap=True)


def _results_table(results: Sequence[Result]) -> Table:
    """Final metrics, one column per seed."""
    first = results[0]
    table = Table(title=f"{first.run.problem}, {first.run.method}")
    table.add_column("")
    for result in results:
        table.add_column(f"seed {result.run.seed}", justify="right")
    for name in first.last.metrics:
        table.add_row(name, *(f"{result.last.metrics[name]:.6g}" for result in results))
    table.add_row("steps", *(str(result.last.step) for result in results))
    table.add_row("seconds", *(f"{result.last.seconds:.2f}" for result in results))
    table.add_row("seconds to start", *(f"{result.start_seconds:.2f}" for result in results))
    table.add_row("first step, seconds", *(f"{r.records[0].seconds:.3g}" for r in results))
    table.add_row("ended", *(result.status.name.lower() for result in results))
    table.add_row("because", *(result.reason for result in results))
    return table


def _claim(domain: Domain, arguments: list[str]) -> None:
    names = names_first(arguments, ["NAME"], "claim")
    prog = f"applications.{domain.name} claim NAME"
    options = tyro.cli(ClaimOptions, args=arguments, prog=prog)
    claim = pick(domain.claims, names[0], f"claim of {domain.name}")
    console = Console()
    with ProgressDisplay(console, len(claim.runs)) as display:
        evidence = gather(domain, names[0], Store(options.results), display)
    print_evidence(console, evidence)


def print_evidence(console: Console, evidence: Evidence) -> None:
    """The verdict, its numbers and where the figure lies."""
    verdict = evidence.verdict
    console.print(f"\n{evidence.claim.says}", style="bold", markup=False, highlight=False)
    console.print(verdict.answer.value, style=ANSWER_STYLES[verdict.answer])
    console.print(verdict.because, markup=False, highlight=False)
    for name, value in verdict.numbers.items():
        console.print(f"  {name} = {value:.6g}", markup=False, highlight=False)
    console.print(f"figure: {evidence.stem}.svg, .png, .pdf, .csv", soft_wrap=True)


def refuse_arguments(command: str, arguments: Sequence[str]) -> None:
    """Raise InvalidRunError if a command that takes no arguments was given any."""
    if arguments and not {"-h", "--help"} & set(arguments):
        raise InvalidRunError(f"{command} takes no arguments, got {' '.join(arguments)}")


def print_domain(
    console: Console, domain: Domain, commands: Mapping[str, Command] | None = None
) -> None:
    """A domain's problems, methods, claims and own commands, each with its one line."""
    table = Table(title=domain.name, title_justify="left", show_header=False, box=None)
    for kind, settings in (("problem", domain.problems), ("method", domain.methods)):
        for name, value in settings.items():
            says = f"{_says(type(value))} {_special_settings(value)}".strip()
            table.add_row(kind, f"[bold]{name}", says)
    for name, claim in domain.claims.items():
        star = " (in make reproduce)" if claim.headline else ""
        table.add_row("claim", f"[bold]{name}", claim.says + star)
    for name, command in (commands or {}).items():
        table.add_row("command", f"[bold]{name}", escape(_says(command)))
    console.print(table)


def _special_settings(settings: Any) -> str:
    """The settings that are not their class's defaults, which tell two of one class apart."""
    special = [
        f"{field.name}={getattr(settings, field.name)}"
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    ]
    return f"({', '.join(special)})" if special else ""
