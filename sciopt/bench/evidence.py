"""From a claim to its verdict and figure: run what is missing, judge, draw, save."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sciopt.bench import style
from sciopt.bench.domain import Claim, Domain, Result, Verdict
from sciopt.bench.figures import save_figure
from sciopt.bench.identity import pick
from sciopt.bench.runner import Watcher, run_one
from sciopt.bench.store import Condition, Store, write_atomically


@dataclass(frozen=True)
class Evidence:
    """A judged claim: its results, verdict and drawn figure."""

    domain: str
    name: str
    claim: Claim
    results: Sequence[Result]
    verdict: Verdict
    svg: str
    stem: Path
    commits: Sequence[str]
    stale: bool

    @property
    def command(self) -> str:
        """What a user types to make this again."""
        return f"python -m applications.{self.domain} claim {self.name}"

    @property
    def seconds(self) -> float:
        """Time spent in the runs, building the solvers included."""
        return sum(result.start_seconds + result.last.seconds for result in self.results)


def gather(domain: Domain, name: str, store: Store, watcher: Watcher) -> Evidence:
    """Run what a claim's evidence still lacks, then judge and draw it."""
    claim = pick(domain.claims, name, f"claim of {domain.name}")
    for run in claim.runs:
        run_one(domain, run, store, max_seconds=claim.max_seconds, watcher=watcher)
    return present(domain, name, store)


def present(domain: Domain, name: str, store: Store) -> Evidence:
    """Judge and draw a claim whose runs are all in the store, training nothing."""
    claim = domain.claims[name]
    folders = [store.folder(domain, run) for run in claim.runs]
    results = [folder.load() for folder in folders]
    verdict = claim.judge(results)
    with style.context():
        figure = claim.draw(results)
        stem = store.root / "figures" / domain.name / name
        svg = save_figure(figure, stem)
    verdict_json = {
        "says": claim.says,
        "answer": verdict.answer.value,
        "because": verdict.because,
        "numbers": {name: _json_number(value) for name, value in verdict.numbers.items()},
        "runs": [folder.path.name for folder in folders],
    }
    write_atomically(stem.parent / f"{name}.json", json.dumps(verdict_json, indent=1).encode())
    return Evidence(
        domain=domain.name,
        name=name,
        claim=claim,
        results=results,
        verdict=verdict,
        svg=svg,
        stem=stem,
        commits=sorted({folder.commit() for folder in folders}),
        stale=is_stale(domain, name, store),
    )


def is_complete(domain: Domain, name: str, store: Store) -> bool:
    """Whether all runs of a claim are finished and intact, if perhaps made by older source."""
    return all(
        store.folder(domain, run).condition() in (Condition.DONE, Condition.STALE)
        for run in domain.claims[name].runs
    )


def is_stale(domain: Domain, name: str, store: Store) -> bool:
    """Whether a run of a complete claim was made by other source than today's."""
    runs = domain.claims[name].runs
    return not all(store.folder(domain, run).is_current() for run in runs)


def _json_number(value: float) -> float | str:
    """The number, or its name where JSON has none."""
    return float(value) if math.isfinite(value) else str(float(value))
