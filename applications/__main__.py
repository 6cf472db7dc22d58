"""`python -m applications`: list, reproduce, report over all domains."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from applications import all_domains
from sciopt.bench import Domain
from sciopt.bench.cli import ANSWER_STYLES, dispatch, print_domain, refuse_arguments
from sciopt.bench.evidence import Evidence, gather, is_complete, is_stale, present
from sciopt.bench.identity import pick
from sciopt.bench.progress import ProgressDisplay
from sciopt.bench.report import write_report
from sciopt.bench.store import Store

USAGE = """usage: python -m applications list | reproduce [options] | report [options]

  list        every domain with its problems, methods and claims
  reproduce   run what the headline claims still lack, judge them, write results/report.html
  report      write results/report.html from what has been run, training nothing

One domain: python -m applications.<domain> list | run PROBLEM METHOD | claim NAME"""


# How many of a verdict's numbers the summary shows; the report has all.
DECIDING = 8


@dataclass(frozen=True)
class Options:
    """Where the results are."""

    results: Path = Path("results")
    """folder of all results"""


def list_all(arguments: list[str]) -> None:
    """Print every domain."""
    refuse_arguments("list", arguments)
    for domain in all_domains().values():
        print_domain(Console(), domain)


def reproduce(arguments: list[str]) -> None:
    """Run, judge and draw the headline claims of all domains and write the report."""
    options = tyro.cli(Options, args=arguments, prog="applications reproduce")
    store = Store(options.results)
    domains = all_domains()
    headlines = [
        (domain, name)
        for domain in domains.values()
        for name, claim in domain.claims.items()
        if claim.headline
    ]
    console = Console(width=None if sys.stdout.isatty() else 120)
    runs = sum(len(domain.claims[name].runs) for domain, name in headlines)
    with ProgressDisplay(console, runs) as display:
        fresh = [gather(domain, name, store, display) for domain, name in headlines]
    console.print(_verdict_table(fresh))
    _write_report(console, domains, store, fresh)


def report(arguments: list[str]) -> None:
    """Write the report from what the store holds."""
    options = tyro.cli(Options, args=arguments, prog="applications report")
    _write_report(Console(), all_domains(), Store(options.results), [])


def _write_report(
    console: Console, domains: dict[str, Domain], store: Store, fresh: list[Evidence]
) -> None:
    """All claims in the order of the domains; those not complete are listed with their command."""
    known = {(evidence.domain, evidence.name): evidence for evidence in fresh}
    missing = []
    for domain in domains.values():
        for name in domain.claims:
            if (domain.name, name) in known:
                continue
            judged = _judged(domain, name, store)
            if judged:
                known[domain.name, name] = judged
            else:
                missing.append((domain.name, name, domain.claims[name].says))
    file = write_report(store.root / "report.html", list(known.values()), missing)
    console.print(f"report: {file}", soft_wrap=True)


def _judged(domain: Domain, name: str, store: Store) -> Evidence | None:
    """A claim's evidence if its runs are there and fit for its judge."""
    if not is_complete(domain, name, store):
        return None
    try:
        return present(domain, name, store)
    except LookupError:
        # Runs of older source may lack what the judge of today asks for.
        if is_stale(domain, name, store):
            return None
        raise


def _verdict_table(evidence: list[Evidence]) -> Table:
    table = Table(title="Headline claims", show_lines=True)
    for column in ("domain", "claim", "verdict", "numbers that decided it"):
        table.add_column(column, overflow="fold")
    table.add_column("seconds", justify="right")
    for one in evidence:
        deciding = list(one.verdict.numbers.items())[:DECIDING]
        numbers = "\n".join(f"{name} = {value:.4g}" for name, value in deciding)
        answer = f"[{ANSWER_STYLES[one.verdict.answer]}]{one.verdict.answer.value}"
        table.add_row(one.domain, one.name, answer, numbers, f"{one.seconds:.1f}")
    return table


COMMANDS = {"list": list_all, "reproduce": reproduce, "report": report}

if __name__ == "__main__":
    dispatch(USAGE, sys.argv[1:] or ["list"], lambda name: pick(COMMANDS, name, "command"))
