"""A row of the grid is the descent that torch's own optimizer makes of it alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sciopt
from applications.landscapes import DOMAIN
from applications.landscapes.methods import METHODS, Method
from applications.landscapes.problems import (
    Noise,
    PlateauBasin,
    Problem,
    Quadratic,
    Reddi,
    Rosenbrock,
    Slopes,
    SparseLosses,
)
from applications.landscapes.solve import WHOLE, Descents, start
from sciopt.bench.domain import Status

RATES = (1e-3, 3e-4, 1e-2)
STEPS = 40


def descend(problem: Problem, method: Method, steps: int, seed: int = 0) -> Descents:
    solver = start(problem, method, seed, torch.device("cpu"))
    assert isinstance(solver, Descents)
    for _ in range(steps):
        if solver.step() is not None:
            break
    return solver


def alone(make: Callable[[list[Tensor], float], Any], lr: float, steps: int = STEPS) -> Tensor:
    """Rosenbrock by one optimizer with one learning rate."""
    problem = Rosenbrock()
    x = problem.start_point().requires_grad_()
    optimizer = make([x], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss(x, 1).backward()
        optimizer.step()
    return x.detach()


MAKERS: dict[str, Callable[[list[Tensor], float], Any]] = {
    "sgd": lambda params, lr: torch.optim.SGD(params, lr),
    "momentum": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9),
    "nesterov": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9, nesterov=True),
    "normalized-sgd": lambda params, lr: sciopt.NormalizedSGD(params, lr),
    "adagrad": lambda params, lr: torch.optim.Adagrad(params, lr),
    "rmsprop": lambda params, lr: torch.optim.RMSprop(params, lr),
    "adam": lambda params, lr: torch.optim.Adam(params, lr),
    "amsgrad": lambda params, lr: torch.optim.Adam(params, lr, amsgrad=True),
}


@pytest.mark.parametrize("method", MAKERS)
def test_each_row_is_the_descent_of_its_own_learning_rate(method: str) -> None:
    rates = (1e-3, 3e-4, 5e-4)
    solver = descend(Rosenbrock(), replace(METHODS[method], lr=rates), STEPS)
    for row, lr in zip(solver.rows, rates, strict=True):
        np.testing.assert_allclose(row, alone(MAKERS[method], lr), rtol=1e-10)


def test_variants_descend_apart() -> None:
    conditions = (10.0, 1e3)
    both = descend(Quadratic(condition=conditions), replace(METHODS["adam"], lr=RATES), STEPS)
    for variant, condition in enumerate(conditions):
        one = descend(Quadratic(condition=(condition,)), replace(METHODS["adam"], lr=RATES), STEPS)
        np.testing.assert_allclose(both.x[variant], one.x[0], rtol=1e-12)
    assert both.x.shape == (2, 3, 2)


def test_newton_ends_any_quadratic_in_one_step_and_jacobi_the_axis_aligned() -> None:
    start_ = (1.0, -0.5, 2.0)
    for rotated in (False, True):
        problem = Quadratic(start=start_, condition=(1e2, 1e6), rotated=rotated)
        newton = descend(problem, METHODS["newton"], 1)
        np.testing.assert_allclose(newton.x, 0, atol=1e-9)
        jacobi = descend(problem, replace(METHODS["jacobi"], lr=(1.0,)), 1)
        assert (jacobi.x.norm(dim=-1) > 0.1).all() if rotated else (jacobi.x == 0).all()


def test_jacobi_divides_by_the_diagonal_of_the_hessian() -> None:
    problem = Rosenbrock()
    x, y = problem.start
    solver = descend(problem, replace(METHODS["jacobi"], lr=(0.1,)), 1)
    gradient = np.array([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])
    diagonal = np.array([1200 * x**2 - 400 * y + 2, 200.0])
    expected = np.array([x, y]) - 0.1 * gradient / np.abs(diagonal)
    np.testing.assert_allclose(solver.rows[0], expected, rtol=1e-13)


def test_the_frozen_rates_are_those_of_adams_first_step() -> None:
    problem = Slopes(slopes=(4.0, -1e-3), factor=7.0, factor_after=1)
    solver = descend(problem, replace(METHODS["frozen-adam"], lr=(0.1,), eps=0.0), 3)
    # The average of 1, 7, 7 in units of the first gradient, each new one weighing a tenth.
    averages = [1.0, 0.9 + 0.7, 0.81 + 0.63 + 0.7]
    np.testing.assert_allclose(-solver.x.flatten(), 0.1 * sum(averages) * np.array([1, -1]))


def test_a_row_that_diverges_stays_where_it_was_and_others_go_on() -> None:
    stable, unstable = 0.1, 50.0
    problem = Quadratic(condition=(1.0,), start=(1.0,))
    solver = descend(problem, replace(METHODS["sgd"], lr=(stable, unstable)), 30)
    assert solver.diverged.tolist() == [[False, True]]
    # |x| grows by 49 a step: 49^5 < 1e10 < 49^6.
    assert solver.diverged_step[0, 1] == 6
    np.testing.assert_allclose(solver.x[0, 1], -(49.0**5))
    np.testing.assert_allclose(solver.x[0, 0], 0.9**30)
    assert solver.metrics()["fraction_diverged"] == 0.5


def test_a_run_ends_when_all_have_diverged() -> None:
    problem = Quadratic(condition=(1.0,), start=(1.0,))
    solver = start(problem, replace(METHODS["sgd"], lr=(50.0, 20.0)), 0, torch.device("cpu"))
    ended = None
    while ended is None:
        ended = solver.step()
    assert ended.status is Status.DIVERGED
    assert "learning rate 20, in step 8" in ended.reason  # 19^8 > 1e10 > 19^7
    assert all(np.isfinite(value) for value in solver.metrics().values())


def test_settled_is_since_when_and_forgotten_on_leaving() -> None:
    problem = Quadratic(condition=(1.0,), start=(1.0,), tolerance=0.5)
    solver = descend(problem, replace(METHODS["sgd"], lr=(0.1,)), 20)
    assert solver.settled_step.item() == 7  # 0.9^7 < 0.5 < 0.9^6
    swinging = replace(METHODS["normalized-sgd"], lr=(0.7,))
    solver = start(problem, swinging, 0, torch.device("cpu"))
    assert isinstance(solver, Descents)
    # 1, 0.3, -0.4, 0.3, ...: inside since step 1.
    for _ in range(5):
        solver.step()
    assert solver.settled_step.item() == 1
    solver.x.fill_(3.0)
    solver.step()
    assert solver.settled_step.item() == 0


def test_regret_is_against_the_best_fixed_point() -> None:
    solver = descend(Reddi(height=3.0), replace(METHODS["sgd"], lr=(0.0,)), 9)
    # Standing at 1 through three cycles costs 3 (3 - 2); -1 would have earned as much.
    assert solver.average_regret().item() == pytest.approx(2 * 3 / 9)
    drawn = SparseLosses(sequences=3, dimensions=4)
    solver = start(drawn, replace(METHODS["sgd"], lr=(0.1,)), 1, torch.device("cpu"))
    assert isinstance(solver, Descents)
    points, gradients = [], []
    for _ in range(15):
        points.append(solver.x.clone())
        solver.step()
        assert solver.rows.grad is not None
        gradients.append(solver.rows.grad.clone().view_as(solver.x))
    suffered = torch.stack([(g * x).sum(-1) for g, x in zip(gradients, points, strict=True)]).sum(0)
    total = torch.stack(gradients).sum(0)
    np.testing.assert_allclose(
        solver.average_regret(), (suffered + total.abs().sum(-1)) / 15, rtol=1e-12
    )
    norms = torch.stack(gradients).square().sum(0).sqrt()
    np.testing.assert_allclose(solver.arrays()["gradient_norm"], norms, rtol=1e-12)


def test_the_rate_falls_with_the_root_of_time_if_so_set() -> None:
    method = replace(METHODS["sgd"], lr=(0.2,), lr_schedule="inverse-sqrt")
    solver = descend(Slopes(slopes=(1.0,)), method, 4)
    steps = -np.diff(np.stack(solver.path).ravel())
    np.testing.assert_allclose(steps, 0.2 / np.sqrt([1, 2, 3, 4]))
    np.testing.assert_allclose(np.stack(solver.step_sizes).ravel()[1:], steps)


def test_step_sizes_are_what_multiplied_the_direction() -> None:
    solver = descend(Slopes(slopes=(4.0, -0.5)), replace(METHODS["adagrad"], lr=(0.3, 0.1)), 3)
    expected = np.array([[0.3], [0.1]]) / (np.sqrt(3) * np.array([4.0, 0.5]))
    np.testing.assert_allclose(solver.step_sizes[-1][0], expected, rtol=1e-9)


def test_moves_are_averaged_after_the_burn_in() -> None:
    problem = Noise(deviation=(1.0,), walkers=3, counted_after=4, snr=0.3)
    solver = descend(problem, replace(METHODS["sgd"], lr=(0.1,)), 10)
    moves = np.diff(np.stack(solver.path), axis=0)[4:]
    np.testing.assert_allclose(solver.arrays()["mean_move"], moves.mean(0), rtol=1e-12)
    expected = np.sqrt((moves**2).mean(0))
    np.testing.assert_allclose(solver.arrays()["rms_move"], expected, rtol=1e-12)


def test_seeds_and_rates_share_no_more_than_they_should() -> None:
    problem = Noise(deviation=(1.0,), walkers=5)
    method = replace(METHODS["sgd"], lr=(0.1, 0.2))
    one, other = descend(problem, method, 3, seed=0), descend(problem, method, 3, seed=1)
    assert (one.x != other.x).all()
    np.testing.assert_allclose(2 * one.x[0, 0], one.x[0, 1], rtol=1e-12)


def test_a_long_path_is_whole_at_first_and_thinned_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("applications.landscapes.solve.WHOLE", 100)
    solver = descend(Slopes(slopes=(1.0,)), METHODS["sgd"], 1000)
    kept = np.array(solver.kept_steps)
    np.testing.assert_array_equal(kept[:101], np.arange(101))
    ratios = kept[101:] / kept[100:-1]
    assert 40 <= len(ratios) <= 50
    assert ratios.max() < 10 ** (2 / 50)
    assert WHOLE >= 100_000


@pytest.mark.parametrize(
    "problem", ["slopes", "dormant", "reddi", "sparse-losses", "noise", "digits"]
)
@pytest.mark.parametrize("method", ["jacobi", "newton"])
def test_no_hessian_no_newton(problem: str, method: str) -> None:
    with pytest.raises(ValueError, match=f"need the Hessian.*{problem}"):
        start(DOMAIN.problems[problem], METHODS[method], 0, torch.device("cpu"))


def test_a_singular_hessian_is_a_divergence_not_an_exception() -> None:
    flat = Quadratic(start=(1.0, 1.0), condition=(1.0,), sharpness=0.0)
    solver = start(flat, METHODS["newton"], 0, torch.device("cpu"))
    ended = solver.step()
    assert ended is not None and ended.status is Status.DIVERGED


@pytest.mark.parametrize("lr", [(), (-0.1,), (float("inf"),)])
def test_learning_rates_that_cannot_be_are_refused(lr: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="lr"):
        replace(METHODS["adam"], lr=lr)


def test_sgd_above_the_plateaus_edge_is_thrown_out_not_lost() -> None:
    solver = descend(PlateauBasin(start=(0.05, 0.0)), replace(METHODS["sgd"], lr=(1.0,)), 1)
    # One step with the slope inside the basin is many times its width.
    assert solver.x[0, 0, 0].item() < -100


@pytest.mark.gpu
def test_descends_on_cuda() -> None:
    solver = start(Rosenbrock(), replace(METHODS["adam"], lr=RATES), 0, torch.device("cuda"))
    host = descend(Rosenbrock(), replace(METHODS["adam"], lr=RATES), 20)
    assert isinstance(solver, Descents)
    for _ in range(20):
        solver.step()
    np.testing.assert_allclose(solver.x.cpu(), host.x, rtol=1e-9)
