"""Loss, gradient, metrics and the three solvers against torch.func, SciPy and closed forms."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from applications.pinn.methods import LBFGS, METHODS, Adam, AdamThenLBFGS
from applications.pinn.network import mlp
from applications.pinn.problems import Burgers
from applications.pinn.solve import (
    AdamSolver,
    LBFGSSolver,
    arrays,
    evaluate,
    start,
)
from applications.pinn.training import Training, draw_points
from sciopt.bench import Ended, Status

CPU = torch.device("cpu")
SMALL = Burgers(collocation_points=30, condition_points=12, hidden=(6, 5))


def training_of(problem: Burgers, precision: Any = "float64", seed: int = 0) -> Training:
    return Training(problem, precision, seed, CPU)


def loss_point_by_point(training: Training, params: Tensor) -> Tensor:
    """The loss by torch.func, one point at a time."""
    problem, points = training.problem, training.exact_points

    def u(x: Tensor, t: Tensor) -> Tensor:
        inputs = torch.stack([x, t]).unsqueeze(0)
        output = mlp(params, inputs, training.sizes, problem.activation).squeeze()
        if problem.conditions == "lift":
            return -torch.sin(math.pi * x) + t * (1 - x**2) * output
        return output

    u_x, u_t = torch.func.jacrev(u, 0), torch.func.jacrev(u, 1)
    u_xx = torch.func.jacrev(u_x, 0)
    residuals = [
        u_t(x, t) + u(x, t) * u_x(x, t) - problem.viscosity * u_xx(x, t)
        for x, t in zip(points.x, points.t, strict=True)
    ]
    loss = torch.stack(residuals).square().mean()
    if problem.conditions == "penalty":
        misfits = [
            u(x, t) - value
            for x, t, value in zip(points.given_x, points.given_t, points.given_u, strict=True)
        ]
        loss = loss + torch.stack(misfits).square().mean()
    return loss


@pytest.mark.parametrize("conditions", ["penalty", "lift"])
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_the_loss_is_that_of_torch_func(conditions: Any, activation: Any) -> None:
    problem = dataclasses.replace(SMALL, conditions=conditions, activation=activation)
    training = training_of(problem)
    loss, _ = training.loss_and_gradient(training.initial_params)
    expected = loss_point_by_point(training, training.initial_params)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("conditions", ["penalty", "lift"])
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_the_gradient_is_that_of_finite_differences(conditions: Any, activation: Any) -> None:
    problem = dataclasses.replace(SMALL, conditions=conditions, activation=activation)
    training = training_of(problem)
    params = training.initial_params
    _, gradient = training.loss_and_gradient(params)
    h = 1e-3
    differences = []
    for unit in h * torch.eye(len(params), dtype=params.dtype):
        far, near, back, far_back = (
            training.loss_and_gradient(params + k * unit)[0] for k in (2, 1, -1, -2)
        )
        differences.append((8 * (near - back) - (far - far_back)) / (12 * h))
    torch.testing.assert_close(gradient, torch.stack(differences), rtol=1e-8, atol=1e-9)


def test_float32_differs_from_float64_by_its_rounding_only() -> None:
    single, double = training_of(SMALL, "float32"), training_of(SMALL)
    assert single.initial_params.dtype == torch.float32
    loss, gradient = single.loss_and_gradient(single.initial_params)
    exact_loss, exact_gradient = double.loss_and_gradient(double.initial_params)
    torch.testing.assert_close(loss.double(), exact_loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-5)


def test_points_cover_the_region_and_carry_the_conditions() -> None:
    problem = Burgers(collocation_points=64, condition_points=40)
    points = draw_points(problem, np.random.default_rng(0), CPU)
    # A Latin hypercube has one point in each of the equal strips, along both axes.
    assert sorted(((points.x + 1) / 2 * 64).floor().int().tolist()) == list(range(64))
    assert sorted((points.t * 64).floor().int().tolist()) == list(range(64))
    initial = points.given_t == 0
    left, right = points.given_x == -1, points.given_x == 1
    assert (initial | left | right).all()
    assert (int(left.sum()), int(right.sum())) == (11, 11)
    expected = -torch.sin(math.pi * points.given_x[initial])
    torch.testing.assert_close(points.given_u[initial], expected)
    at_the_ends = points.given_u[left | right]
    torch.testing.assert_close(at_the_ends, torch.zeros(22).double(), rtol=0, atol=1e-15)


def test_every_method_starts_alike_and_seeds_differ() -> None:
    solvers = [start(SMALL, method, 3, CPU) for method in METHODS.values()]
    first = solvers[0].training
    for solver in solvers:
        assert solver.training.evaluations == 0
        torch.testing.assert_close(solver.training.exact_points.x, first.exact_points.x)
        torch.testing.assert_close(solver.params.double(), solvers[1].params, rtol=1e-7, atol=0)
    other = training_of(SMALL, seed=4)
    assert not torch.isin(other.exact_points.x, first.exact_points.x).any()
    assert not torch.isin(other.initial_params[:12], solvers[1].params[:12]).any()
    assert not torch.isin(first.held_out_x, first.exact_points.x).any()


def test_metrics_of_the_zero_function_have_closed_forms() -> None:
    solver = start(SMALL, Adam(precision="float64"), 0, CPU)
    with torch.no_grad():
        solver.params.zero_()
    metrics = evaluate(SMALL, solver)
    given = solver.training.exact_points.given_u
    assert metrics["relative_l2_error"] == pytest.approx(1.0, abs=1e-15)
    assert metrics["held_out_residual"] == 0.0
    assert metrics["loss"] == pytest.approx(float(given.square().mean()), rel=1e-15)


def test_metrics_follow_from_the_arrays_and_the_equation() -> None:
    lifted = dataclasses.replace(SMALL, conditions="lift")
    solver = start(lifted, Adam(precision="float64"), 0, CPU)
    with torch.no_grad():
        solver.params.zero_()
    metrics, kept = evaluate(lifted, solver), arrays(lifted, solver)
    expected = np.broadcast_to(-np.sin(np.pi * kept["x"]), kept["u_predicted"].shape)
    np.testing.assert_allclose(kept["u_predicted"], expected, atol=1e-15)
    error = np.linalg.norm(expected - kept["u_reference"]) / np.linalg.norm(kept["u_reference"])
    assert metrics["relative_l2_error"] == pytest.approx(error, rel=1e-13)
    # u = -sin(πx) for all t leaves the residual u u_x - viscosity u_xx.
    x = solver.training.held_out_x.numpy()
    sine = np.sin(np.pi * x)
    residual = np.pi * sine * np.cos(np.pi * x) - lifted.viscosity * np.pi**2 * sine
    assert metrics["held_out_residual"] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-12)
    assert kept["points"].shape == (30, 2)


def test_evaluation_does_not_disturb_the_solver() -> None:
    for method in METHODS.values():
        measured, alone = (start(SMALL, method, 0, CPU) for _ in range(2))
        for _ in range(3):
            measured.step()
            evaluate(SMALL, measured)
            arrays(SMALL, measured)
            alone.step()
        assert torch.equal(measured.params, alone.params)
        assert measured.training.evaluations == alone.training.evaluations


def test_adam_is_that_of_torch() -> None:
    solver = start(SMALL, Adam(precision="float64", lr=3e-3), 1, CPU)
    training = training_of(SMALL, seed=1)
    params = training.initial_params.clone().requires_grad_()
    optimizer = torch.optim.Adam([params], lr=3e-3)
    for _ in range(20):
        solver.step()
        optimizer.zero_grad()
        training.loss(params, training.points).backward()
        optimizer.step()
    torch.testing.assert_close(solver.params, params, rtol=1e-12, atol=1e-14)
    assert evaluate(SMALL, solver)["evaluations"] == 20


def scipy_alone(training: Training, params: Tensor, memory: int, iterations: int) -> Any:
    def loss_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = training.loss_and_gradient(torch.from_numpy(x).to(params.dtype))
        return loss.item(), gradient.double().numpy()

    options = {"maxcor": memory, "gtol": 1e-8, "ftol": 0.0, "maxls": 50, "maxiter": iterations}
    begin = params.detach().double().numpy()
    return minimize(loss_and_gradient, begin, jac=True, method="L-BFGS-B", options=options)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_lbfgs_is_scipys_iteration_by_iteration(precision: Any) -> None:
    solver = start(SMALL, LBFGS(precision=precision, memory=5), 2, CPU)
    for _ in range(12):
        assert solver.step() is None
    training = training_of(SMALL, precision, seed=2)
    expected = scipy_alone(training, training.initial_params, memory=5, iterations=12)
    np.testing.assert_array_equal(solver.params.numpy(), expected.x.astype(precision))
    assert solver.training.evaluations == expected.nfev
    assert evaluate(SMALL, solver)["evaluations"] == expected.nfev


def test_lbfgs_takes_over_where_adam_left_off() -> None:
    both = start(SMALL, AdamThenLBFGS(switch_step=7, lr=3e-3, memory=5), 2, CPU)
    adam = start(SMALL, Adam(precision="float64", lr=3e-3), 2, CPU)
    for _ in range(7):
        both.step()
        adam.step()
    assert torch.equal(both.params, adam.params)
    for _ in range(6):
        both.step()
    expected = scipy_alone(training_of(SMALL, seed=2), adam.params, memory=5, iterations=6)
    np.testing.assert_array_equal(both.params.numpy(), expected.x)
    assert both.training.evaluations == 7 + expected.nfev


def run_until_it_ends(solver: LBFGSSolver, steps: int) -> Ended:
    for _ in range(steps):
        ended = solver.step()
        if ended is not None:
            return ended
    raise AssertionError(f"still going after {steps} steps")


def test_a_gradient_below_its_tolerance_is_convergence() -> None:
    training = training_of(SMALL)
    solver = LBFGSSolver(training, 10, 1e3, training.initial_params)
    ended = run_until_it_ends(solver, 1)
    assert ended.status is Status.CONVERGED
    assert "NORM OF PROJECTED GRADIENT" in ended.reason


def test_no_progress_in_float32_is_a_stall() -> None:
    problem = Burgers(collocation_points=10, condition_points=4, hidden=(2,))
    training = training_of(problem, "float32")
    solver = LBFGSSolver(training, 10, 0.0, training.initial_params)
    ended = run_until_it_ends(solver, 5000)
    assert ended.status is Status.STALLED
    assert "SciPy's L-BFGS-B after" in ended.reason


def test_a_loss_that_is_not_finite_is_divergence() -> None:
    training = training_of(SMALL)
    nowhere = torch.full_like(training.initial_params, math.nan)
    assert run_until_it_ends(LBFGSSolver(training, 10, 1e-8, nowhere), 3).status is Status.DIVERGED
    solver = AdamSolver(training, lr=1e200)
    for _ in range(5):
        solver.step()
    # The runner ends a run whose metrics are not finite; the step does not look, since looking
    # would make the host wait for the device at every step.
    assert not math.isfinite(evaluate(SMALL, solver)["loss"])


@pytest.mark.parametrize("method", [LBFGS(), AdamThenLBFGS()])
def test_what_scipy_runs_cannot_be_resumed_and_says_so(method: Any) -> None:
    solver = start(SMALL, method, 0, CPU)
    assert not solver.resumable
    with pytest.raises(NotImplementedError, match="start the run again"):
        solver.state_dict()


def test_a_state_is_a_snapshot() -> None:
    solver = start(SMALL, Adam(), 0, CPU)
    solver.step()
    state = solver.state_dict()
    before = state["params"].clone()
    moments = [v.clone() for v in state["optimizer"]["state"][0].values() if v.ndim]
    solver.step()
    assert torch.equal(state["params"], before)
    kept = [v for v in state["optimizer"]["state"][0].values() if v.ndim]
    assert moments and all(map(torch.equal, moments, kept))


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_a_cuda_device_gives_the_same_numbers(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    method = dataclasses.replace(METHODS[name], precision="float64")
    on_cpu, on_cuda = (start(SMALL, method, 0, torch.device(kind)) for kind in ("cpu", "cuda"))
    for _ in range(3):
        on_cpu.step()
        on_cuda.step()
    torch.testing.assert_close(on_cuda.params.cpu(), on_cpu.params, rtol=1e-9, atol=1e-11)
    assert evaluate(SMALL, on_cuda) == pytest.approx(evaluate(SMALL, on_cpu), rel=1e-8)
