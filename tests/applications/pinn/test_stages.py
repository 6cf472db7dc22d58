"""One step of each method against torch and SciPy, and why a method can go no further."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from pinn_small import CPU, TINY, Decay, Heat, ended, steps_of, tiny
from scipy.optimize import minimize
from torch import Tensor

from applications.pinn.methods import (
    METHODS,
    FirstOrder,
    SciPy,
    Sequence,
)
from applications.pinn.solve import evaluate, start
from applications.pinn.training import Training
from sciopt.bench import Status


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_the_loss(name: str) -> None:
    solver = start(Heat(), tiny(METHODS[name]), 0, CPU)
    before = evaluate(Heat(), solver)
    steps_of(solver, 12)
    after = evaluate(Heat(), solver)
    assert after["loss"] < 0.999 * before["loss"]
    assert before["evaluations"] == 0 and after["evaluations"] >= 12


def test_newton_cg_counts_its_losses_as_broyden_does_also_where_a_run_is_resumed() -> None:
    solver = start(Heat(), tiny(METHODS["newton-cg"]), 0, CPU)
    squares, calls = solver.training.least_squares, 0
    residual = squares.residual

    def counting(params: Tensor) -> Tensor:
        nonlocal calls
        calls += params.requires_grad
        return residual(params)

    squares.residual = counting
    steps_of(solver, 5)
    assert evaluate(Heat(), solver)["evaluations"] == calls
    resumed = start(Heat(), tiny(METHODS["newton-cg"]), 0, CPU)
    resumed.load_state_dict(solver.state_dict())
    for either in (solver, resumed):
        steps_of(either, 3)
    assert evaluate(Heat(), solver) == evaluate(Heat(), resumed)


def test_adam_is_that_of_torch() -> None:
    solver = start(Heat(), tiny(FirstOrder(lr=3e-3)), 1, CPU)
    training = Training(Heat(), tiny(FirstOrder()), 1, CPU)
    params = training.initial_params.clone().requires_grad_()
    optimizer = torch.optim.Adam([params], lr=3e-3)
    for _ in range(20):
        solver.step()
        optimizer.zero_grad()
        training.least_squares.residual(params).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(solver.params, params, rtol=1e-11, atol=1e-13)
    assert evaluate(Heat(), solver)["evaluations"] == 20


def scipy_alone(training: Training, params: Tensor, method: str, memory: int, steps: int) -> Any:
    def loss_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        given = torch.from_numpy(x).to(params.dtype)
        loss, gradient = training.least_squares.loss_and_gradient(given)
        return loss.item(), gradient.double().numpy()

    options: dict[str, Any] = {"gtol": 1e-8, "maxiter": steps}
    if method == "L-BFGS-B":
        options |= {"maxcor": memory, "ftol": 0.0, "maxls": 50}
    begin = params.detach().double().numpy()
    return minimize(loss_and_gradient, begin, jac=True, method=method, options=options)


@pytest.mark.parametrize("optimizer", ["L-BFGS-B", "BFGS"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
# SciPy says when it stops for its own limit of iterations.
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
def test_scipys_methods_are_its_own_iteration_by_iteration(precision: Any, optimizer: Any) -> None:
    method = tiny(SciPy(precision=precision, memory=5, optimizer=optimizer))
    solver = start(Heat(), method, 2, CPU)
    steps_of(solver, 12)
    training = Training(Heat(), method, 2, CPU)
    expected = scipy_alone(training, training.initial_params, optimizer, 5, 12)
    np.testing.assert_array_equal(solver.params.numpy(), expected.x.astype(precision))
    assert evaluate(Heat(), solver)["evaluations"] == expected.nfev


def test_lbfgs_takes_over_where_adam_left_off() -> None:
    method = Sequence(stages=("adam", "scipy-lbfgs"), stage_steps=(7,), **TINY)
    both, adam = start(Heat(), method, 2, CPU), start(Heat(), tiny(FirstOrder()), 2, CPU)
    steps_of(both, 7)
    steps_of(adam, 7)
    assert torch.equal(both.params, adam.params)
    steps_of(both, 6)
    training = Training(Heat(), method, 2, CPU)
    expected = scipy_alone(training, adam.params, "L-BFGS-B", 50, 6)
    np.testing.assert_array_equal(both.params.numpy(), expected.x)
    assert both.training.least_squares.evaluations == 7 + expected.nfev


@pytest.mark.parametrize("name", ["scipy-lbfgs", "scipy-bfgs", "adam-scipy-lbfgs"])
def test_what_scipy_runs_cannot_be_resumed_and_says_so(name: str) -> None:
    method = tiny(METHODS[name])
    if isinstance(method, Sequence):
        method = dataclasses.replace(method, stage_steps=(1,))
    solver = start(Heat(), method, 0, CPU)
    assert not solver.resumable
    steps_of(solver, 2)
    with pytest.raises(NotImplementedError, match="start the run again"):
        solver.state_dict()
    with pytest.raises(NotImplementedError, match="start the run again"):
        solver.stage.load_state_dict({})


def test_a_gradient_below_its_tolerance_is_convergence() -> None:
    outcome = ended(start(Heat(), tiny(SciPy(gradient_tolerance=1e3)), 0, CPU), 1)
    assert outcome.status is Status.CONVERGED
    assert "NORM OF PROJECTED GRADIENT" in outcome.reason


def test_no_progress_in_float32_is_a_stall() -> None:
    method = SciPy(hidden=(2,), precision="float32", gradient_tolerance=0.0)
    outcome = ended(start(Decay(), method, 0, CPU), 5000)
    assert outcome.status is Status.STALLED
    assert "SciPy's L-BFGS-B after" in outcome.reason


def test_scipys_divergence_is_told_too() -> None:
    solver = start(Heat(), tiny(SciPy()), 0, CPU)
    solver.stage.params.fill_(math.nan)
    solver.stage.points_changed()
    assert ended(solver, 3).status is Status.DIVERGED


def test_a_first_order_method_leaves_divergence_to_the_metrics() -> None:
    solver = start(Heat(), tiny(FirstOrder(lr=1e200)), 0, CPU)
    # Looking at every step would make the host wait for the device.
    steps_of(solver, 5)
    assert not math.isfinite(evaluate(Heat(), solver)["loss"])
