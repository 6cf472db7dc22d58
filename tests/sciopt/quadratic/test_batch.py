"""A batch's programs have the answers that they have alone."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from quadratic_programs import by_cvxpy, random_parts
from skfolio.datasets import load_sp500_dataset

from sciopt.quadratic import Dense, InfeasibleProgram, Rows, quadratic_program, solve
from sciopt.quadratic.batch import solve_batch


def batch_of(count: int, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Covariances with a common factor, one each, and means."""
    rng = np.random.default_rng(seed)
    common = rng.normal(1, 0.35, (count, 1, n)) * rng.normal(size=(count, 3 * n, 1)) * 0.01
    returns = common + rng.normal(size=(count, 3 * n, n)) * rng.uniform(0.008, 0.03, (count, 1, n))
    covariance = np.swapaxes(returns, 1, 2) @ returns / (3 * n)
    return torch.tensor(covariance), torch.tensor(rng.normal(3e-5, 3e-5, (count, n)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upper": 0.15},
        {"lower": -0.05, "upper": 0.3},
        {"upper": 0.3, "cost": 2e-5, "held": 1 / 20},
        {"budget": 0.7},
    ],
)
def test_every_program_has_the_answer_that_it_has_alone(shared: bool, options: dict) -> None:
    matrices, linear = batch_of(24, 20, seed=1)
    found = solve_batch(matrices[0] if shared else matrices, linear, **options)
    assert found.relative_gap.max() <= 1e-12
    assert found.residual.max() <= 1e-13
    for place in range(24):
        matrix = matrices[0 if shared else place]
        alone = solve(quadratic_program(Dense(matrix), linear[place], **options))
        torch.testing.assert_close(found.point[place], alone.point, rtol=0, atol=1e-11)
        assert found.objective[place].item() == pytest.approx(alone.objective, rel=1e-10)


def test_a_singular_covariance_in_the_batch_is_solved_with_care() -> None:
    matrices, linear = batch_of(6, 12, seed=2)
    matrices[3] = torch.kron(torch.ones(2, 2, dtype=torch.float64), matrices[3, :6, :6])
    found = solve_batch(matrices, linear)
    assert found.relative_gap.max() <= 1e-11
    np.testing.assert_allclose(found.point.sum(1), 1, atol=1e-13)


def test_windows_of_real_returns_are_certified_and_numpys_covariances() -> None:
    returns = load_sp500_dataset().pct_change().iloc[1:600].to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(returns, 252, 0)[::5]
    covariances = torch.tensor(np.stack([np.cov(window) for window in windows]))
    found = solve_batch(covariances, torch.zeros(len(windows), 20).double())
    assert found.relative_gap.max() <= 1e-12
    for place in (0, len(windows) // 2, -1):
        alone = solve(quadratic_program(Dense(covariances[place])))
        torch.testing.assert_close(found.point[place], alone.point, rtol=0, atol=1e-12)


def test_bounds_that_cannot_hold_are_named() -> None:
    matrices, linear = batch_of(4, 20, seed=3)
    with pytest.raises(InfeasibleProgram, match="budget 1"):
        solve_batch(matrices, linear, upper=0.02)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_have_cvxpys_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = random_parts(seed)
    nothing = parts.matrix[:0], parts.row_lower[:0], parts.row_upper[:0]
    n = len(parts.linear)
    plain = dataclasses.replace(
        parts,
        matrix=nothing[0],
        row_lower=nothing[1],
        row_upper=nothing[2],
        limits=(),
        budget=(1.0, 1.0),
        lower=np.where(rng.random(n) < 0.5, parts.lower, -0.1),
        upper=np.where(rng.random(n) < 0.5, parts.upper, 0.7),
    )
    status, least = by_cvxpy(plain)
    if status != "optimal":
        return
    found = solve_batch(
        torch.tensor(plain.covariance),
        torch.tensor(plain.linear)[None],
        lower=torch.tensor(plain.lower),
        upper=torch.tensor(plain.upper),
        cost=torch.tensor(plain.cost),
        held=torch.tensor(plain.held),
    )
    objective = plain.objective(found.point[0].numpy())
    scale = max(abs(objective), plain.variance)
    assert -1e-5 * scale <= objective - least <= 1e-7 * scale
    assert plain.violation(found.point[0].numpy()) <= 1e-11
    assert found.objective[0].item() == pytest.approx(objective, abs=1e-12 * scale)
    assert found.gap[0].item() >= objective - least - 1e-7 * scale
    assert found.relative_gap[0].item() <= 1e-10


def each_its_own(count: int, n: int) -> dict[str, Any]:
    """Bounds, costs, holdings and budgets that differ from program to program."""
    rng = np.random.default_rng(9)
    held = rng.dirichlet(np.ones(n), count) * (rng.random((count, n)) < 0.6)
    parts = {
        "lower": rng.uniform(-0.05, 0.02, (count, n)),
        "upper": rng.uniform(0.1, 0.4, (count, n)),
        "cost": rng.uniform(0, 2e-4, (count, n)),
        "held": held,
        "budget": rng.uniform(0.7, 1, count),
    }
    return {name: torch.tensor(values) for name, values in parts.items()}


@pytest.mark.parametrize("shared", [True, False])
def test_programs_may_differ_in_everything(shared: bool) -> None:
    matrices, linear = batch_of(40, 15, seed=5)
    options = each_its_own(40, 15)
    found = solve_batch(matrices[0] if shared else matrices, linear, **options)
    assert found.relative_gap.max() <= 1e-12
    for place in range(40):
        own = {name: values[place] for name, values in options.items()}
        own["budget"] = own["budget"].item()
        form = Dense(matrices[0 if shared else place])
        alone = solve(quadratic_program(form, linear[place], **own))
        torch.testing.assert_close(found.point[place], alone.point, rtol=0, atol=1e-11)


def test_the_order_of_a_batch_changes_no_answer() -> None:
    returns = load_sp500_dataset().pct_change().iloc[1:700].to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(returns, 252, 0)
    covariances = torch.tensor(np.stack([np.cov(window) for window in windows]))
    means = torch.tensor(windows.mean(2)) / 10
    options: dict[str, Any] = {"upper": 0.25, "cost": 2e-5, "held": 1 / 20}
    order = torch.randperm(len(means), generator=torch.Generator().manual_seed(0))
    walked = solve_batch(covariances, means, **options)
    mixed = solve_batch(covariances[order], means[order], **options)
    torch.testing.assert_close(mixed.point, walked.point[order], rtol=0, atol=1e-11)
    # Days in their order start from one another.
    assert walked.iterations.double().mean() < mixed.iterations.double().mean()


def test_without_inequalities_the_answers_are_the_closed_form() -> None:
    matrices, linear = batch_of(20, 12, seed=6)
    inverse, ones = torch.linalg.inv(matrices), torch.ones(12, 1, dtype=torch.float64)
    tilted = inverse @ linear.unsqueeze(2)
    budget = (1 - tilted.sum(1)) / (inverse @ ones).sum(1)
    found = solve_batch(matrices, linear, lower=-np.inf)
    expected = tilted + budget.unsqueeze(2) * (inverse @ ones)
    torch.testing.assert_close(found.point, expected.squeeze(2), rtol=0, atol=1e-11)
    torch.testing.assert_close(found.multipliers["budget"], -budget.squeeze(1), rtol=1e-9, atol=0)


def test_two_variables_share_by_the_textbook() -> None:
    first, second = 0.01, 0.02
    off = torch.linspace(-0.99, 0.99, 30, dtype=torch.float64) * first * second
    matrices = torch.diag(torch.tensor([first**2, second**2], dtype=torch.float64)).repeat(30, 1, 1)
    matrices[:, 0, 1] = matrices[:, 1, 0] = off
    share = (second**2 - off) / (first**2 + second**2 - 2 * off)
    found = solve_batch(matrices, torch.zeros(2))
    torch.testing.assert_close(found.point[:, 0], share.clamp(0, 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("shared", [True, False])
def test_multipliers_are_derivatives_of_the_least_objective(shared: bool) -> None:
    matrices, linear = batch_of(20, 12, seed=7)
    matrices = matrices[0] if shared else matrices

    def least(budget: float = 1.0, lower: float = 0.01, upper: float = 0.2) -> torch.Tensor:
        bounds: dict[str, Any] = {"lower": lower, "upper": upper}
        return solve_batch(matrices, linear, budget=budget, **bounds, cost=2e-5).objective

    found = solve_batch(matrices, linear, lower=0.01, upper=0.2, cost=2e-5)
    step, scale = 1e-7, 1e-4
    by_budget = (least(budget=1 + step) - least(budget=1 - step)) / (2 * step)
    by_upper = (least(upper=0.2 + step) - least(upper=0.2 - step)) / (2 * step)
    by_lower = (least(lower=0.01 + step) - least(lower=0.01 - step)) / (2 * step)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-4 * scale)
    close(-found.multipliers["budget"], by_budget)
    close((found.reduced_cost * (found.point == 0.2)).sum(1), by_upper)
    close((found.reduced_cost * (found.point == 0.01)).sum(1), by_lower)
    assert by_upper.abs().min() > scale / 100


def degenerate() -> dict[str, tuple[torch.Tensor, torch.Tensor, dict[str, Any]]]:
    """Batches with ties: equal assets, no room, no trades."""
    matrices, linear = batch_of(20, 8, seed=8)
    twice = matrices[:, :4, :4].repeat(1, 2, 2)
    same = torch.eye(8, dtype=torch.float64).expand(20, 8, 8) * 1e-4
    zeros = torch.zeros_like(linear)
    return {
        "every asset twice": (twice, linear, {}),
        "all assets the same": (same, zeros, {}),
        "no risk": (0 * matrices, linear, {}),
        "all means equal": (matrices, zeros + 1e-4, {}),
        "all at upper bounds": (matrices, linear, {"upper": 1 / 8}),
        "nearly all at upper bounds": (matrices, linear, {"upper": 0.13}),
        "one point": (matrices, linear, {"lower": 1 / 8, "upper": 1 / 8}),
        "costs too high to trade": (matrices, linear, {"cost": 1.0, "held": 1 / 8}),
        "costs and nothing held": (matrices, linear, {"cost": 1e-3}),
    }


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", degenerate())
def test_degenerate_batches_are_certified(name: str, shared: bool) -> None:
    matrices, linear, options = degenerate()[name]
    found = solve_batch(matrices[0] if shared else matrices, linear, **options)
    assert found.relative_gap.max() <= 1e-11
    assert found.residual.max() <= 1e-13
    for place in range(0, 20, 5):
        form = Dense(matrices[0 if shared else place])
        alone = solve(quadratic_program(form, linear[place], **options))
        scale = max(abs(alone.objective), form.matrix.diagonal().mean().item())
        assert found.objective[place].item() == pytest.approx(alone.objective, abs=1e-10 * scale)


def test_rows_are_kept_by_every_program() -> None:
    matrices, linear = batch_of(10, 12, seed=10)
    group = torch.zeros(1, 12, dtype=torch.float64)
    group[0, :4] = 1
    half = torch.tensor([0.5], dtype=torch.float64)
    found = solve_batch(matrices, linear, rows=Rows(group, half, half, ("tech",)))
    torch.testing.assert_close(found.point[:, :4].sum(1), half.expand(10), rtol=0, atol=1e-13)
    assert found.relative_gap.max() <= 1e-12
    for place in (0, 9):
        one = quadratic_program(
            Dense(matrices[place]), linear[place], rows=Rows(group, half, half, ("tech",))
        )
        assert found.multipliers["tech"][place].item() == solve(one).multipliers["tech"]


def test_float32_is_solved_in_float64() -> None:
    matrices, linear = batch_of(10, 12, seed=11)
    single = solve_batch(matrices.float(), linear.float())
    double = solve_batch(matrices.float().double(), linear.float().double())
    assert torch.equal(single.point, double.point)
    assert single.relative_gap.max() <= 1e-12


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"linear": torch.zeros(3)}, r"linear must have one of the shapes"),
    ({"budget": torch.ones(3)}, r"budget must have one of the shapes"),
    ({"linear": torch.full((4, 20), torch.nan)}, "linear must be finite: .* 0 of program 0"),
    ({"lower": 0.5, "upper": 0.1}, "lower must not exceed upper: .* variable 0 of program 0"),
    ({"cost": -1.0}, "cost must be >= 0 and finite"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_a_batch_is_refused(options: dict[str, Any], message: str) -> None:
    matrices, linear = batch_of(4, 20, seed=3)
    given: dict[str, Any] = {"linear": linear} | options
    with pytest.raises(ValueError, match=message):
        solve_batch(matrices, **given)


@pytest.mark.gpu
def test_the_answers_on_an_accelerator_are_those_of_the_host() -> None:
    matrices, linear = batch_of(50, 30, seed=4)
    host = solve_batch(matrices, linear)
    there = solve_batch(matrices.cuda(), linear.cuda())
    torch.testing.assert_close(there.point.cpu(), host.point, rtol=0, atol=1e-11)
