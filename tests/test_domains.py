"""The contract every domain keeps; domains are found, so a new one is tested without a change."""

import dataclasses
import inspect
import io
import re
from collections.abc import Mapping
from functools import cache
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from toy import TOY

from applications import all_domains
from sciopt.bench import Domain, Result, Run, Solver, Status, Verdict, style
from sciopt.bench.identity import InvalidRunError
from sciopt.bench.runner import one_run_settings, run_one
from sciopt.bench.store import Store

DOMAINS = {**all_domains(), "bowl": TOY}
MOST_PAIRS = 200


def pairs_of(domain: Domain) -> list[tuple[str, str]]:
    """All pairs; of more than MOST_PAIRS so many that each problem and each method occurs."""
    problems, methods = list(domain.problems), list(domain.methods)
    if len(problems) * len(methods) <= MOST_PAIRS:
        return list(product(problems, methods))
    longer = max(len(problems), len(methods))
    return list(islice(zip(cycle(problems), cycle(methods), strict=False), longer))


PAIRS = [
    pytest.param(domain, problem, method, id=f"{domain.name}-{problem}-{method}")
    for domain in DOMAINS.values()
    for problem, method in pairs_of(domain)
]
CLAIMS = [
    pytest.param(domain, name, id=f"{domain.name}-{name}")
    for domain in DOMAINS.values()
    for name in domain.claims
]
STEPS = 4


def result_of(domain: Domain, run: Run, folder: Path) -> Result:
    store = Store(folder)
    try:
        run_one(domain, run, store)
    except InvalidRunError as error:
        pytest.skip(f"not a pair: {error}")
    return store.folder(domain, run).load()


def assert_same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def metrics_of(result: Result) -> list[dict[str, float]]:
    return [dict(record.metrics) for record in result.records]


def start(domain: Domain, run: Run) -> Solver:
    try:
        problem, method = domain.problems[run.problem], domain.methods[run.method]
        return domain.start(problem, method, run.seed, torch.device("cpu"))
    except ValueError as error:
        pytest.skip(f"not a pair: {error}")


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=lambda domain: domain.name)
def test_names_and_settings_follow_the_house(domain: Domain) -> None:
    assert domain.name == Path(inspect.getfile(domain.start)).parent.name
    assert domain.problems and domain.methods
    for name in (*domain.problems, *domain.methods, *domain.claims):
        assert re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", name), name
    for settings in (*domain.problems.values(), *domain.methods.values()):
        assert inspect.getdoc(type(settings))
        with pytest.raises(dataclasses.FrozenInstanceError):
            settings.anything = 1


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=lambda domain: domain.name)
def test_every_problem_and_every_method_is_of_use(domain: Domain) -> None:
    @cache
    def works(problem: str, method: str) -> bool:
        try:
            pair = domain.problems[problem], domain.methods[method]
            domain.start(*pair, 0, torch.device("cpu"))
        except ValueError:
            return False
        return True

    assert all(any(works(p, m) for m in domain.methods) for p in domain.problems)
    assert all(any(works(p, m) for p in domain.problems) for m in domain.methods)


@pytest.mark.parametrize(("domain", "problem", "method"), PAIRS)
def test_metrics_are_finite_and_the_same_seed_gives_the_same_numbers(
    domain: Domain, problem: str, method: str, tmp_path: Path
) -> None:
    run = Run(problem, method, max_steps=STEPS, seed=3)
    first = result_of(domain, run, tmp_path / "first")
    again = result_of(domain, run, tmp_path / "again")
    assert first.records[0].step == 1
    assert 1 <= first.last.step <= STEPS
    for metrics in metrics_of(first):
        assert metrics
        for name, value in metrics.items():
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
            assert np.isfinite(value) or first.status is Status.DIVERGED, name
    assert metrics_of(first) == metrics_of(again)
    assert_same(first.arrays, again.arrays)


@pytest.mark.parametrize(("domain", "problem", "method"), PAIRS)
def test_a_run_resumed_from_any_state_equals_the_uninterrupted_one(
    domain: Domain, problem: str, method: str
) -> None:
    run = Run(problem, method, max_steps=STEPS, seed=5)
    settings = domain.problems[problem]
    with one_run_settings(run):
        solver = start(domain, run)
        if not solver.resumable:
            pytest.skip("a third-party library runs it whole")
        states = []
        for _ in range(STEPS):
            states.append(solver.state_dict())
            if solver.step() is not None:
                break
        metrics, arrays = domain.evaluate(settings, solver), domain.arrays(settings, solver)
        for done, state in enumerate(states):
            resumed = start(domain, run)
            resumed.load_state_dict(through_a_file(state))
            for _ in range(len(states) - done):
                resumed.step()
            assert domain.evaluate(settings, resumed) == metrics
            assert_same(domain.arrays(settings, resumed), arrays)


@pytest.mark.parametrize(("domain", "name"), CLAIMS)
def test_every_claim_judges_and_draws_from_two_steps(
    domain: Domain, name: str, tmp_path: Path
) -> None:
    claim = domain.claims[name]
    runs = [dataclasses.replace(run, max_steps=2) for run in claim.runs]
    results = [result_of(domain, run, tmp_path) for run in runs]
    verdict = claim.judge(results)
    assert isinstance(verdict, Verdict)
    assert verdict.because
    with style.context():
        figure = claim.draw(results)
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.svg")


@pytest.mark.parametrize(("domain", "name"), CLAIMS)
def test_every_claim_names_runs_that_exist(domain: Domain, name: str) -> None:
    claim = domain.claims[name]
    assert claim.says.endswith(".")
    assert len(set(map(str, claim.runs))) == len(claim.runs)
    for run in claim.runs:
        assert run.problem in domain.problems
        assert run.method in domain.methods
