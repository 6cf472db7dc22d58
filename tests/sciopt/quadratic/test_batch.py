"""A batch's programs have the answers that they have alone."""

import numpy as np
import pytest
import torch
from skfolio.datasets import load_sp500_dataset

from sciopt.quadratic import Dense, InfeasibleProgram, quadratic_program, solve
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


@pytest.mark.gpu
def test_the_answers_on_an_accelerator_are_those_of_the_host() -> None:
    matrices, linear = batch_of(50, 30, seed=4)
    host = solve_batch(matrices, linear)
    there = solve_batch(matrices.cuda(), linear.cuda())
    torch.testing.assert_close(there.point.cpu(), host.point, rtol=0, atol=1e-11)
