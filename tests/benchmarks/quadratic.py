"""How long portfolios take to solve: this library, CVXPY with Clarabel, piqp directly, cvxcla.

`python -m tests.benchmarks.quadratic` prints a table per case, with seconds of one core and, for
every candidate, the relative duality gap of its answer after clipping and renormalising. Q is
given; what forming it from returns takes is in the case's name. `--cases` picks some. piqp and
cvxcla come with the extra `benchmark`; where they are absent their rows are too.
"""

from __future__ import annotations

import importlib
import json as json_format
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import cvxpy as cp
import numpy as np
import torch
import tyro
from rich.console import Console

from applications.portfolio.problems import Synthetic, synthetic_returns
from sciopt.quadratic import (
    Dense,
    FactorModel,
    Form,
    QuadraticProgram,
    Returns,
    Rows,
    corners,
    frontier,
    quadratic_program,
    solve,
    solve_batch,
)
from tests.benchmarks.race import Bar, Row
from tests.benchmarks.turns import as_dict, by_turns, table

OURS, CVXPY, PIQP, CVXCLA = "sciopt", "CVXPY + Clarabel", "piqp, direct", "cvxcla, all corners"


@dataclass(frozen=True)
class Market:
    """Moments of a drawn market: `deviations` has the covariance X'X, and means are shrunk."""

    deviations: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, n: int, days: int, seed: int = 0) -> Market:
        """Volatilities of 1 to 3 % a day and a market beta near one."""
        returns = synthetic_returns(Synthetic(assets=n, days=days, draw=seed)).to_numpy()
        mean = returns.mean(0)
        deviations = returns - mean
        deviations /= (days - 1) ** 0.5
        return cls(deviations, 0.3 * mean + 0.7 * mean.mean())

    @cached_property
    def covariance(self) -> np.ndarray:
        """Q."""
        return self.deviations.T @ self.deviations


def relative_gap(weights: np.ndarray, covariance: np.ndarray, linear: np.ndarray) -> float:
    """The duality gap over the simplex of clipped, renormalised weights."""
    weights = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
    gradient = covariance @ weights - linear
    objective = 0.5 * weights @ (gradient - linear)
    scale = max(abs(float(objective)), float(np.trace(covariance)) / len(weights))
    return float(weights @ gradient - gradient.min()) / scale


def peer(name: str) -> ModuleType | None:
    """The module where it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def by_piqp(
    covariance: np.ndarray,
    linear: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Long-only weights by piqp's dense solver at its default tolerances."""
    piqp = peer("piqp")
    assert piqp is not None
    n = len(linear)
    solver = piqp.DenseSolver()
    solver.settings.verbose = False
    more = {} if groups is None else dict(zip(("G", "h_l", "h_u"), groups, strict=True))
    solver.setup(
        covariance,
        -linear,
        A=np.ones((1, n)),
        b=np.ones(1),
        x_l=np.zeros(n),
        x_u=np.full(n, np.inf),
        **more,
    )
    solver.solve()
    return solver.result.x


def by_cvxpy(covariance: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Long-only weights by CVXPY and Clarabel at their default tolerances."""
    weights = cp.Variable(len(linear))
    objective = 0.5 * cp.quad_form(weights, cp.psd_wrap(covariance)) - linear @ weights
    constraints: list[Any] = [cp.sum(weights) == 1, weights >= 0]
    problem = cp.Problem(cp.Minimize(objective), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert weights.value is not None
    return weights.value


def with_gaps(
    case: str,
    functions: Mapping[str, Callable[[], np.ndarray]],
    gap: Callable[[np.ndarray], float],
    rounds: int,
    bars: Mapping[str, float],
) -> list[Row]:
    """Rows timed by turns, each with the gap of its answer; `bars` are times as fast as a peer."""
    present = {name: f for name, f in functions.items() if not _absent(name)}
    gaps = {name: gap(function()) for name, function in present.items()}
    named = {name: f"{name}, gap {gaps[name]:.0e}" for name in present}
    wanted = [Bar(named[against], 1 / times) for against, times in bars.items() if against in named]
    return by_turns(
        case,
        {named[name]: function for name, function in present.items()},
        rounds,
        bars={named[OURS]: wanted},
    )


def _absent(name: str) -> bool:
    return (name == PIQP and peer("piqp") is None) or (name == CVXCLA and peer("cvxcla") is None)


def dense(n: int, rounds: int, bars: Mapping[str, float], days: int | None = None) -> list[Row]:
    """Long-only mean-variance with a dense Q of twice as many days as assets."""
    begin = time.process_time()
    market = Market.of(n, days or 2 * n)
    linear, matrix = market.mean / 10, torch.tensor(market.covariance)
    estimated = time.process_time() - begin
    return with_gaps(
        f"long-only, n = {n}, Q dense (making returns and Q: {estimated:.2f} s)",
        {
            CVXPY: lambda: by_cvxpy(market.covariance, linear),
            PIQP: lambda: by_piqp(market.covariance, linear),
            OURS: lambda: solve(quadratic_program(Dense(matrix), linear)).point.numpy(),
        },
        lambda weights: relative_gap(weights, market.covariance, linear),
        rounds,
        bars,
    )


def dense_support(n: int, rounds: int) -> list[list[Row]]:
    """Minimum variance shrunk towards the identity, from few names held to all of them."""
    market = Market.of(n, 2 * n)
    variance, zeros = float(np.trace(market.covariance)) / n, np.zeros(n)
    found = []
    for shrinkage in (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0):
        mixed = (1 - shrinkage) * market.covariance + shrinkage * variance * np.eye(n)
        matrix = torch.tensor(mixed)
        held = int((solve(quadratic_program(Dense(matrix))).point > 0).sum())
        found.append(
            with_gaps(
                f"minimum variance, n = {n}, shrinkage {shrinkage:g}, {held} names held",
                {
                    PIQP: lambda mixed=mixed: by_piqp(mixed, zeros),
                    OURS: lambda matrix=matrix: solve(
                        quadratic_program(Dense(matrix))
                    ).point.numpy(),
                },
                lambda weights, mixed=mixed: relative_gap(weights, mixed, zeros),
                rounds,
                {PIQP: 1.0},
            )
        )
    return found


def group_rows(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twenty groups, four of which are to have at least 8 %, the others at most 6 %."""
    groups = (np.arange(n) % 20 == np.arange(20)[:, None]).astype(float)
    least = np.where(np.arange(20) < 4, 0.08, -np.inf)
    return groups, least, np.where(np.arange(20) < 4, np.inf, 0.06)


def grouped(n: int, rounds: int) -> list[list[Row]]:
    """Mean-variance with twenty group constraints."""
    market = Market.of(n, 2 * n)
    groups, least, most = group_rows(n)
    names = tuple(f"group {group}" for group in range(20))
    rows = Rows(torch.tensor(groups), torch.tensor(least), torch.tensor(most), names)
    variance, linear = float(np.trace(market.covariance)) / n, market.mean / 10
    found = []
    for shrinkage in (0.0, 0.5, 0.9):
        mixed = (1 - shrinkage) * market.covariance + shrinkage * variance * np.eye(n)
        form = Dense(torch.tensor(mixed))
        ours = solve(quadratic_program(form, linear, rows=rows))
        found.append(
            by_turns(
                f"20 groups, n = {n}, shrinkage {shrinkage:g}, gap {ours.relative_gap:.0e}",
                {
                    PIQP: lambda mixed=mixed: by_piqp(mixed, linear, (groups, least, most)),
                    OURS: lambda form=form: solve(quadratic_program(form, linear, rows=rows)),
                },
                rounds,
                bars={OURS: [Bar(PIQP, 1.0)]},
            )
        )
    return found


def whole_frontier(n: int, points: int, rounds: int) -> list[Row]:
    """A grid of risk aversions; CVXPY compiles once; cvxcla finds the exact corners."""
    market = Market.of(n, 2 * n)
    aversions = np.logspace(-0.5, 3, points)
    program = quadratic_program(Dense(torch.tensor(market.covariance)))
    tilt, at = torch.tensor(market.mean), list(1 / aversions)
    worst = max(solution.relative_gap for solution in frontier(program, tilt, at))
    tilted = cp.Parameter(n)
    weights = cp.Variable(n)
    root = np.linalg.cholesky(market.covariance).T
    objective = 0.5 * cp.sum_squares(root @ weights) - tilted @ weights
    constraints: list[Any] = [cp.sum(weights) == 1, weights >= 0]
    problem = cp.Problem(cp.Minimize(objective), constraints)

    def loop(solver: str) -> None:
        for aversion in aversions:
            tilted.value = market.mean / aversion
            problem.solve(solver=solver, warm_start=True)

    functions: dict[str, Callable[[], object]] = {
        f"CVXPY, parametrised, {solver}": lambda solver=solver: loop(solver)
        for solver in (cp.CLARABEL, cp.OSQP)
    }
    if cvxcla := peer("cvxcla"):
        functions[CVXCLA] = lambda: cvxcla.CLA(
            mean=market.mean,
            covariance=market.covariance,
            lower_bounds=np.zeros(n),
            upper_bounds=np.ones(n),
            a=np.ones((1, n)),
            b=np.ones(1),
        )
    ours = f"{OURS}, {points} points, worst gap {worst:.0e}"
    functions[f"{OURS}, all corners"] = lambda: corners(program, tilt)
    functions[ours] = lambda: frontier(program, tilt, at)
    bars = [Bar(name, 0.01) for name in functions if name.startswith("CVXPY")]
    bars += [Bar(CVXCLA, 1.0)] if CVXCLA in functions else []
    return by_turns(f"frontier, n = {n}", functions, rounds, bars={ours: bars})


def factor_model(n: int, rounds: int, factors: int = 50) -> list[Row]:
    """A factor model with bounds and costs of trading; CVXPY up to 20,000 assets."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(0, 0.3, (n, factors))
    loadings[:, 0] = rng.normal(1, 0.35, n)
    loadings *= np.r_[0.010, np.full(factors - 1, 0.004)]
    specific, linear = rng.uniform(0.008, 0.03, n) ** 2, rng.normal(3e-4, 1e-4, n) / 10
    held, cost = np.zeros(n), 2e-5
    held[rng.choice(n, 500, replace=False)] = rng.dirichlet(np.ones(500))
    options = {"upper": 0.02, "cost": cost, "held": held}
    form = FactorModel(torch.tensor(loadings), torch.tensor(specific))

    def ours() -> float:
        return solve(quadratic_program(form, linear, **options)).relative_gap

    def by_clarabel() -> None:
        weights, common = cp.Variable(n), cp.Variable(factors)
        objective = (
            0.5 * cp.sum_squares(cp.multiply(specific**0.5, weights))
            + 0.5 * cp.sum_squares(common)
            - linear @ weights
            + cost * cp.norm1(weights - held)
        )
        limits = [weights >= 0, weights <= 0.02]
        equations = [common == loadings.T @ weights, cp.sum(weights) == 1]
        cp.Problem(cp.Minimize(objective), [*equations, *limits]).solve(solver=cp.CLARABEL)

    case = f"factor model, k = {factors}, bounds and costs, n = {n:,}, gap {ours():.0e}"
    functions: dict[str, Callable[[], object]] = {OURS: ours}
    if n <= 20_000:
        functions = {CVXPY: by_clarabel, OURS: ours}
    bars = {OURS: [Bar(CVXPY, 1 / 200)]} if n <= 20_000 else {}
    return by_turns(case, functions, rounds, bars=bars)


def batched(count: int, shared: bool, rounds: int) -> list[Row]:
    """Many programs of 50 assets at once; piqp solves them one after the other."""
    markets = [Market.of(50, 100, seed) for seed in range(count)]
    matrices = [markets[0 if shared else place].covariance for place in range(count)]
    linear = np.stack([market.mean / 10 for market in markets])
    stacked = torch.tensor(matrices[0] if shared else np.stack(matrices))
    tilts = torch.tensor(linear)
    gap = float(solve_batch(stacked, tilts).relative_gap.max())
    functions: dict[str, Callable[[], object]] = {OURS: lambda: solve_batch(stacked, tilts)}
    if not _absent(PIQP):
        functions[PIQP] = lambda: [by_piqp(*pair) for pair in zip(matrices, linear, strict=True)]
    whose = "one Q for all" if shared else "a Q each"
    bars = {OURS: [Bar(PIQP, 0.1 if shared else 0.5)]} if PIQP in functions else {}
    case = f"{count} programs of n = 50, {whose}, worst gap {gap:.0e}"
    return by_turns(case, functions, rounds, bars=bars)


def walk_forward(window: int = 252) -> list[Row]:
    """Minimum variance of 20 stocks, every day for 33 years, covariances included."""
    from skfolio.datasets import load_sp500_dataset

    returns = load_sp500_dataset().pct_change().iloc[1:].to_numpy()
    gaps: list[float] = []

    def every_day() -> None:
        sums = np.cumsum(np.pad(returns, ((1, 0), (0, 0))), 0)
        outer = returns[:, :, None] * returns[:, None]
        products = np.cumsum(np.pad(outer, ((1, 0), (0, 0), (0, 0))), 0)
        mean = (sums[window:] - sums[:-window]) / window
        covariances = (products[window:] - products[:-window]) / window
        covariances -= mean[:, :, None] * mean[:, None]
        found = solve_batch(torch.tensor(covariances), torch.zeros(len(mean), 20).double())
        gaps.append(float(found.relative_gap.max()))

    rows = by_turns("walk-forward", {OURS: every_day}, 1)
    days = len(returns) - window + 1
    for row in rows:
        row.case = f"walk-forward, 20 stocks, {days} days, worst gap {max(gaps):.0e}"
    return rows


def returns_form(n: int, days: int, rounds: int) -> list[Row]:
    """Minimum variance and a ridge from returns alone; Q would take 8 n^2 bytes."""
    form: Form = Returns(torch.tensor(Market.of(n, days).deviations), 1e-6)
    program: QuadraticProgram = quadratic_program(form)
    gap = solve(program).relative_gap
    case = f"returns form, n = {n:,}, {days} days, gap {gap:.0e}"
    return by_turns(case, {OURS: lambda: solve(program)}, rounds)


def held_everywhere(n: int, rounds: int) -> list[Row]:
    """Costs of trading from a portfolio that holds all assets, Q dense."""
    market, cost = Market.of(n, 2 * n), 1e-5
    held, linear = np.random.default_rng(0).dirichlet(np.ones(n)), 0.03 * market.mean
    form = Dense(torch.tensor(market.covariance))
    program = quadratic_program(form, linear, cost=cost, held=held)
    found = solve(program)

    def by_clarabel() -> None:
        weights = cp.Variable(n)
        risk = 0.5 * cp.quad_form(weights, cp.psd_wrap(market.covariance))
        objective = risk - linear @ weights + cost * cp.norm1(weights - held)
        limits: list[Any] = [weights >= 0, cp.sum(weights) == 1]
        cp.Problem(cp.Minimize(objective), limits).solve(solver=cp.CLARABEL)

    traded = int((found.point.numpy() != held).sum())
    case = f"costs, all of n = {n} held, {traded} traded, gap {found.relative_gap:.0e}"
    functions: dict[str, Callable[[], object]] = {CVXPY: by_clarabel, OURS: lambda: solve(program)}
    return by_turns(case, functions, rounds, bars={OURS: [Bar(CVXPY, 0.1)]})


CASES: dict[str, Callable[[int], Sequence[list[Row]]]] = {
    "small": lambda rounds: [dense(50, 10 * rounds, {CVXPY: 10, PIQP: 1 / 3})],
    "dense": lambda rounds: [dense(1000, rounds, {CVXPY: 500, PIQP: 50})],
    "frontier": lambda rounds: [whole_frontier(500, 100, 1)],
    "support": lambda rounds: dense_support(2000, 1),
    "groups": lambda rounds: grouped(2000, 1),
    "costs": lambda rounds: [held_everywhere(1500, 1)],
    "factor": lambda rounds: [
        factor_model(20_000, 1),
        factor_model(100_000, rounds),
        factor_model(1_000_000, 1),
    ],
    "returns": lambda rounds: [returns_form(50_000, 1250, 1)],
    "batch": lambda rounds: [batched(1000, shared, rounds) for shared in (False, True)],
    "walk": lambda rounds: [walk_forward()],
}


def main(
    cases: tuple[str, ...] = tuple(CASES),
    rounds: int = 3,
    json: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Time the cases on one thread and print the tables.

    Args:
        cases: small, dense, frontier, support, groups, costs, factor, returns, batch or walk.
        rounds: laps of each candidate, where one is short.
        json: file to write all rows to.
    """
    torch.set_num_threads(1)
    console, rows = Console(width=130), []
    for case in cases:
        for of_case in CASES[case](rounds):
            console.print(table(of_case))
            rows += of_case
    if json is not None:
        json.write_text(json_format.dumps(as_dict(rows), indent=1))


if __name__ == "__main__":
    tyro.cli(main)
