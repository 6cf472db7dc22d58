"""Gauss-Newton against dense linear algebra, certified regressions and MINPACK."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from closure_optimizers import Regression
from more_garbow_hillstrom import PROBLEMS
from nist_strd import REGRESSIONS
from scipy.optimize import least_squares
from torch import Tensor

from sciopt.curvature.gauss_newton import MOST_RUNGS, GaussNewton, Stopped

Residuals = Callable[[Tensor], Tensor]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def minimised(residuals: Residuals, start: Tensor, **settings: Any) -> tuple[Tensor, GaussNewton]:
    """Where the optimizer ends, once it says why."""
    x = start.clone().requires_grad_()
    optimizer = GaussNewton([x], **settings)
    for _ in range(1000):
        optimizer.step(lambda: residuals(x))
        if optimizer.stopped:
            break
    return x.detach(), optimizer


def loss_at(residuals: Residuals, x: Tensor) -> float:
    return float(residuals(x).square().sum())


def ridge(jacobian: Tensor, residual: Tensor, damping: float) -> Tensor:
    """The d of least |J d + r|² + damping |d|²."""
    count = jacobian.shape[1]
    stacked = torch.cat([jacobian, damping**0.5 * torch.eye(count, dtype=torch.float64)])
    target = torch.cat([-residual, residual.new_zeros(count)])
    return torch.linalg.lstsq(stacked, target[:, None], driver="gelsd").solution[:, 0]


WAYS: dict[str, dict[str, Any]] = {
    "dense": {},
    "matrix-free": {"memory_limit": 1.0, "iterations": 1000},
    "sketch of full size": {"sketch_rows": 99, "sketch_columns": 99},
}
ways = pytest.mark.parametrize("way", WAYS)
shapes = pytest.mark.parametrize("shape", [(30, 12), (12, 12), (12, 30)])


@ways
@shapes
def test_with_vanishing_damping_one_step_is_linear_least_squares(
    way: str, shape: tuple[int, int]
) -> None:
    matrix, target = normal(*shape), normal(shape[0], seed=1)
    x = torch.zeros(shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = GaussNewton([x], damping=1e-10, **WAYS[way])
    optimizer.step(lambda: matrix @ x - target)
    expected = torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution[:, 0]
    tolerance = 1e-6 if way == "matrix-free" else 1e-10
    torch.testing.assert_close(x.detach(), expected, rtol=tolerance, atol=tolerance)


@ways
@shapes
@pytest.mark.parametrize("damping", [1e2, 1e4, 1e8])
def test_with_damping_one_step_is_ridge_regression(
    way: str, shape: tuple[int, int], damping: float
) -> None:
    matrix, target = normal(*shape), normal(shape[0], seed=1)
    x = normal(shape[1], seed=2).requires_grad_()
    start = x.detach().clone()
    optimizer = GaussNewton([x], damping=damping, **WAYS[way])
    optimizer.step(lambda: matrix @ x - target)
    assert optimizer.damping == pytest.approx(damping / 3**MOST_RUNGS)
    expected = start + ridge(matrix, matrix @ start - target, optimizer.damping)
    tolerance = 1e-6 if way == "matrix-free" else 1e-9
    torch.testing.assert_close(x.detach(), expected, rtol=tolerance, atol=tolerance)


def quadratic_residuals(x: Tensor) -> Tensor:
    """Curved everywhere alike: a difference is their second derivative itself."""
    curves, slopes = normal(6, 3, 3), normal(6, 3, seed=1)
    return torch.einsum("kij,i,j->k", curves, x, x) + slopes @ x - normal(6, seed=2)


def second_derivative(residuals: Residuals, x: Tensor, d: Tensor) -> Tensor:
    slopes = torch.func.jacrev(residuals)
    return torch.func.jacrev(lambda y: slopes(y) @ d)(x) @ d


@pytest.mark.parametrize("acceleration", [False, True])
def test_a_step_is_the_first_two_terms_of_its_series(acceleration: bool) -> None:
    longest = 0.0
    for seed in range(40):
        x = normal(3, seed=seed).requires_grad_()
        start = x.detach().clone()
        optimizer = GaussNewton([x], acceleration=acceleration)
        optimizer.step(lambda x=x: quadratic_residuals(x))
        jacobian = torch.func.jacrev(quadratic_residuals)(start)
        d = ridge(jacobian, quadratic_residuals(start), optimizer.damping)
        expected = start + d
        if acceleration:
            curved = second_derivative(quadratic_residuals, start, d)
            a = ridge(jacobian, curved, optimizer.damping)
            share = float(a.norm() / d.norm())
            longest = max(longest, share)
            expected = expected + a / 2 * min(1.0, 0.75 / share)
        torch.testing.assert_close(x.detach(), expected, rtol=1e-9, atol=1e-9)
    assert longest > 0.75 or not acceleration


def test_a_linear_problem_has_no_acceleration() -> None:
    ends = []
    for acceleration in (False, True):
        x = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        optimizer = GaussNewton([x], acceleration=acceleration)
        optimizer.step(lambda x=x: normal(9, 4) @ x - normal(9, seed=1))
        ends.append(x.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-12)


class PlainLadder:
    """Gain and step of any damping, in NumPy."""

    def __init__(self, residuals: Residuals, x: Tensor, acceleration: bool) -> None:
        self.residuals, self.acceleration = residuals, acceleration
        self.x, self.r = x.numpy(), residuals(x).numpy()
        self.jacobian = torch.func.jacrev(residuals)(x).numpy()

    def evaluated(self, step: np.ndarray) -> np.ndarray:
        return self.residuals(torch.from_numpy(self.x + step)).numpy()

    def gain(self, damping: float) -> tuple[float, np.ndarray]:
        gram = self.jacobian.T @ self.jacobian + damping * np.eye(len(self.x))
        d = -np.linalg.solve(gram, self.jacobian.T @ self.r)
        ahead = self.jacobian @ d
        promised = -(2 * self.r + ahead) @ ahead
        if self.acceleration:
            curved = 20 * ((self.evaluated(0.1 * d) - self.r) / 0.1 - self.jacobian @ d)
            a = -np.linalg.solve(gram, self.jacobian.T @ curved)
            share = np.linalg.norm(a) / np.linalg.norm(d)
            if np.isfinite(share):
                d = d + a / 2 * min(1.0, 0.75 / share)
        gain = (self.r @ self.r - np.sum(self.evaluated(d) ** 2)) / promised
        return gain if np.isfinite(gain) else -np.inf, d


@pytest.mark.parametrize("name", ["rosenbrock", "wood", "bard", "kowalik_osborne", "osborne_2"])
@pytest.mark.parametrize("acceleration", [False, True])
@pytest.mark.parametrize(
    ("damping", "target", "factor"), [(1e-2, 0.075, 3.0), (1e-9, 0.5, 10.0), (1e4, 0.9, 2.0)]
)
def test_the_damping_is_the_smallest_with_enough_gain(
    name: str, acceleration: bool, damping: float, target: float, factor: float
) -> None:
    residuals = PROBLEMS[name].residuals
    x = PROBLEMS[name].start.clone().requires_grad_()
    optimizer = GaussNewton(
        [x], damping=damping, target=target, factor=factor, acceleration=acceleration
    )
    for _ in range(5):
        start, begin = x.detach().clone(), optimizer.damping
        loss = optimizer.step(lambda: residuals(x))
        if loss > (1 - 1e-6) * loss_at(residuals, start):
            break
        plain = PlainLadder(residuals, start, acceleration)
        gain, step = plain.gain(optimizer.damping)
        assert gain >= target
        torch.testing.assert_close(x.detach().numpy(), start.numpy() + step, rtol=1e-6, atol=1e-8)
        rungs = round(math.log(optimizer.damping / begin, factor))
        assert optimizer.damping == pytest.approx(begin * factor**rungs)
        below = [plain.gain(begin * factor**k)[0] for k in range(rungs)]
        above = [plain.gain(begin * factor**k)[0] for k in range(rungs, 1)]
        assert max(below, default=-1.0) < target <= min(above, default=1.0)
        least = torch.finfo(torch.float64).eps ** 2 * np.sum(plain.jacobian**2)
        if -MOST_RUNGS < rungs <= 0 and optimizer.damping / factor > least:
            assert plain.gain(optimizer.damping / factor)[0] < target


@pytest.mark.parametrize("acceleration", [False, True])
def test_a_trial_where_residuals_are_not_finite_is_rejected(acceleration: bool) -> None:
    """Steps from beyond e lead to negative x, whose logarithm is NaN."""
    negative = []
    for start in torch.logspace(math.log10(0.05), math.log10(20), 60).tolist():
        x = f64(start).requires_grad_()
        optimizer = GaussNewton([x], damping=1e-28, acceleration=acceleration)

        def closure(x: Tensor = x) -> Tensor:
            negative.append(x.item() < 0)
            return x.log()

        losses = [math.log(start) ** 2]
        while losses[-1] > 1e-20:
            losses.append(optimizer.step(closure))
            assert x.item() > 0
        assert all(after < before for before, after in pairwise(losses))
        assert len(losses) < 12
    assert any(negative)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_the_ladder_finds_the_scale_of_the_residuals(scale: float) -> None:
    problem = PROBLEMS["bard"]
    x, _ = minimised(lambda x: scale * problem.residuals(x), problem.start)
    assert loss_at(problem.residuals, x) == pytest.approx(problem.minima[0], rel=1e-9)


@cache
def minimum(name: str) -> tuple[float, Stopped | None]:
    """From the published start and with the settings declared, though units differ by 1e12."""
    problem = PROBLEMS[name]
    x, optimizer = minimised(problem.residuals, problem.start)
    return loss_at(problem.residuals, x), optimizer.stopped


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_minimum_of_more_garbow_and_hillstrom_is_reached(name: str) -> None:
    loss, stopped = minimum(name)
    minima = PROBLEMS[name].minima
    assert any(loss == pytest.approx(published, rel=1e-7, abs=1e-20) for published in minima)
    assert stopped in (Stopped.GRADIENT_SMALL, Stopped.NO_DECREASE)


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_minimum_is_higher_than_that_of_minpack(name: str) -> None:
    problem = PROBLEMS[name]

    def residuals(x: np.ndarray) -> np.ndarray:
        return problem.residuals(torch.from_numpy(x)).numpy()

    with np.errstate(all="ignore"):
        found = least_squares(
            residuals, problem.start.numpy(), method="lm", xtol=1e-12, ftol=1e-12, gtol=1e-12
        )
    assert minimum(name)[0] <= 2 * found.cost * (1 + 1e-9) + 1e-20


# MGH09 runs to infinity from its far start unless the first steps are short.
SETTINGS: dict[str, dict[str, float]] = {"MGH09": {"damping": 1e3}}


@pytest.mark.parametrize("place", [0, 1], ids=["far start", "near start"])
@pytest.mark.parametrize("name", REGRESSIONS)
def test_certified_regressions_are_reproduced(name: str, place: int) -> None:
    """In units of the start: a damping is one for all params, and these differ by 1e8."""
    regression = REGRESSIONS[name]
    unit = regression.starts[place]
    u, _ = minimised(
        lambda u: regression.residuals(unit * u), torch.ones_like(unit), **SETTINGS.get(name, {})
    )
    b = unit * u
    if name == "MGH17" and b[3] > b[4]:
        b = b[[0, 2, 1, 4, 3]]
    torch.testing.assert_close(b, regression.certified, rtol=2e-7, atol=0.0)
    loss = loss_at(regression.residuals, b)
    assert loss == pytest.approx(regression.sum_of_squares, rel=1e-10)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_the_certified_results_are_those_of_minpack(name: str) -> None:
    regression = REGRESSIONS[name]

    def residuals(b: np.ndarray) -> np.ndarray:
        return regression.residuals(torch.from_numpy(b)).numpy()

    def jacobian(b: np.ndarray) -> np.ndarray:
        return torch.func.jacrev(regression.residuals)(torch.from_numpy(b)).numpy()

    found = least_squares(
        residuals,
        regression.certified.numpy(),
        jacobian,  # pyright: ignore[reportArgumentType]
        method="lm",
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    assert found.x == pytest.approx(regression.certified.numpy(), rel=1e-9)
    assert 2 * found.cost == pytest.approx(regression.sum_of_squares, rel=1e-10)


class Fit:
    """The small network's residuals, in two groups of params, and their Jacobian."""

    def __init__(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> None:
        self.task = Regression(dtype, device)
        self.params = self.task.params

    def residuals(self) -> Tensor:
        inner, bias, outer, constant = self.params
        task = self.task
        value = torch.tanh(task.inputs @ inner.T + bias) @ outer.T + constant
        return (value - torch.sin(2 * task.inputs + task.shift)).flatten() / len(value) ** 0.5


def steps(optimizer: GaussNewton, fit: Fit, count: int) -> list[float]:
    return [optimizer.step(fit.residuals) for _ in range(count)]


SKETCHES: dict[str, dict[str, Any]] = {
    "rows": {"sketch_rows": 25},
    "few rows": {"sketch_rows": 10},
    "columns": {"sketch_columns": 10},
    "rows and columns": {"sketch_rows": 30, "sketch_columns": 15},
}


@pytest.mark.parametrize("way", {**WAYS, **SKETCHES})
def test_params_of_several_shapes_and_groups_are_one_vector(way: str) -> None:
    settings = {**WAYS, **SKETCHES}[way]
    fit = Fit()
    losses = steps(GaussNewton(fit.task.groups(), **settings), fit, 5)
    other = Fit()
    flat = torch.cat([param.detach().reshape(-1) for param in other.params]).requires_grad_()
    optimizer = GaussNewton([flat], **settings)

    def residuals() -> Tensor:
        parts = flat.split([param.numel() for param in fit.params])
        other.params = [
            part.view(param.shape) for part, param in zip(parts, fit.params, strict=True)
        ]
        return other.residuals()

    expected = [optimizer.step(residuals) for _ in range(5)]
    assert losses == pytest.approx(expected, rel=1e-4 if way == "matrix-free" else 1e-9)
    assert losses[-1] < losses[0]


@ways
def test_a_network_is_fitted_to_many_digits(way: str) -> None:
    fit = Fit()
    start = fit.residuals().square().sum().item()
    losses = steps(GaussNewton(fit.params, **WAYS[way]), fit, 20)
    assert losses[-1] < 1e-6 * start


@pytest.mark.parametrize("sketch", SKETCHES)
def test_a_sketched_step_always_descends(sketch: str) -> None:
    fit = Fit()
    losses = steps(GaussNewton(fit.params, **SKETCHES[sketch]), fit, 40)
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 1e-2 * losses[0]


def test_another_seed_is_another_sketch() -> None:
    ends = []
    for seed in (0, 0, 1):
        fit = Fit()
        ends.append(steps(GaussNewton(fit.params, sketch_columns=10, seed=seed), fit, 3))
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("way", {**WAYS, **SKETCHES})
@pytest.mark.parametrize("travel", ["state_dict", "saved", "pickle", "deepcopy"])
def test_a_restored_optimizer_goes_on_bit_for_bit(way: str, travel: str) -> None:
    settings = {**WAYS, **SKETCHES}[way]
    fit, other = Fit(), Fit()
    optimizer = GaussNewton(fit.params, **settings)
    steps(optimizer, fit, 3)
    if travel in ("pickle", "deepcopy"):
        pair = (fit, optimizer)
        other, restored = (
            copy.deepcopy(pair) if travel == "deepcopy" else pickle.loads(pickle.dumps(pair))
        )
    else:
        state = optimizer.state_dict()
        if travel == "saved":
            torch.save(state, buffer := io.BytesIO())
            buffer.seek(0)
            state = torch.load(buffer)
        restored = GaussNewton(other.params, **settings)
        restored.load_state_dict(state)
        with torch.no_grad():
            for ours, theirs in zip(other.params, fit.params, strict=True):
                ours.copy_(theirs)
    expected = steps(optimizer, fit, 3)
    assert steps(restored, other, 3) == expected
    assert restored.damping == optimizer.damping
    for ours, theirs in zip(other.params, fit.params, strict=True):
        assert torch.equal(ours, theirs)


def test_a_loaded_state_is_a_copy() -> None:
    fit, other = Fit(), Fit()
    optimizer, restored = GaussNewton(fit.params), GaussNewton(other.params)
    optimizer.step(fit.residuals, held_out=lambda: 1.0)
    restored.load_state_dict(optimizer.state_dict())
    damping, best = restored.damping, copy.deepcopy(restored.best)
    optimizer.step(fit.residuals, held_out=lambda: 0.0)
    assert restored.damping == damping
    assert restored.best is not None
    assert best is not None
    assert all(map(torch.equal, restored.best, best))


def test_the_best_params_are_those_of_least_held_out_loss() -> None:
    fit = Fit()
    optimizer = GaussNewton(fit.params)
    assert optimizer.best is None
    held_out = [3.0, math.nan, 1.0, 2.0, 1.0]
    seen = []
    for loss in held_out:
        optimizer.step(fit.residuals, held_out=lambda loss=loss: loss)
        seen.append([param.detach().clone() for param in fit.params])
    assert optimizer.best is not None
    assert all(map(torch.equal, optimizer.best, seen[2]))


def test_a_jacobian_given_is_taken_at_its_word() -> None:
    problem = PROBLEMS["osborne_2"]
    by_autograd = problem.start.clone().requires_grad_()
    given = problem.start.clone()
    first, second = GaussNewton([by_autograd]), GaussNewton([given])
    jacobian = torch.func.jacrev(problem.residuals)
    for _ in range(5):
        first.step(lambda: problem.residuals(by_autograd))
        second.step(
            lambda: problem.residuals(given),
            jacobian=lambda: (problem.residuals(given), jacobian(given)),
        )
    torch.testing.assert_close(by_autograd.detach(), given, rtol=1e-9, atol=1e-9)


def test_a_jacobian_with_its_own_graph_will_do() -> None:
    x = f64(3.0, -2.0).requires_grad_()
    optimizer = GaussNewton([x])

    def jacobian() -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            return x**3, torch.diag(3 * x**2)

    assert optimizer.step(lambda: x**3, jacobian=jacobian) < 793


@pytest.mark.parametrize("memory_limit", [1.0, 1e9])
def test_a_param_that_no_residual_depends_on_stays(memory_limit: float) -> None:
    x, unused = f64(3.0, 2.0).requires_grad_(), f64(7.0).requires_grad_()
    optimizer = GaussNewton([x, unused], memory_limit=memory_limit)
    for _ in range(10):
        optimizer.step(lambda: torch.cat([x - 1, x**2 - 1]))
    assert unused.item() == 7.0
    torch.testing.assert_close(x.detach(), f64(1.0, 1.0))


@ways
def test_residuals_may_hold_derivatives_by_torch_func(way: str) -> None:
    """The rate of decay that solves u' = -2 u, of u = exp(-rate t)."""
    rate = f64(0.5).requires_grad_()
    t = torch.linspace(0, 1, 9, dtype=torch.float64)

    def u(time: Tensor) -> Tensor:
        return torch.exp(-rate[0] * time)

    def residuals() -> Tensor:
        return torch.func.vmap(torch.func.grad(u))(t) + 2 * torch.func.vmap(u)(t)

    optimizer = GaussNewton([rate], **WAYS[way])
    for _ in range(8):
        optimizer.step(residuals)
    assert rate.item() == pytest.approx(2.0, rel=1e-9)


def test_single_precision_reaches_its_own_digits() -> None:
    for name in ("bard", "rosenbrock", "osborne_2", "kowalik_osborne"):
        problem = PROBLEMS[name]
        x = problem.start.float().requires_grad_()
        optimizer = GaussNewton([x])
        for _ in range(100):
            optimizer.step(lambda x=x, problem=problem: problem.residuals(x).float())
        loss = loss_at(problem.residuals, x.detach().double())
        assert loss == pytest.approx(problem.minima[0], rel=1e-3, abs=1e-10), name


def test_it_stops_where_the_gradient_is_small() -> None:
    x, optimizer = minimised(lambda x: x**2 - 2, f64(1.0, 3.0), tolerance_gradient=1e-9)
    assert optimizer.stopped is Stopped.GRADIENT_SMALL
    assert (2 * x * (x**2 - 2)).abs().max() <= 1e-9


def test_it_stops_where_no_step_lowers_the_loss() -> None:
    def residuals(x: Tensor) -> Tensor:
        return torch.cat([x - 1, 2 * x + 1, x**2])

    x, optimizer = minimised(residuals, f64(5.0))
    assert optimizer.stopped is Stopped.NO_DECREASE
    roots = np.roots([4.0, 0.0, 10.0, 2.0])
    assert float(x) == pytest.approx(float(roots[np.isreal(roots)][0].real), rel=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_it_does_not_begin_where_the_residuals_are_not_finite(value: float) -> None:
    x = f64(1.0).requires_grad_()
    optimizer = GaussNewton([x])
    assert not math.isfinite(optimizer.step(lambda: x * value))
    assert optimizer.stopped is Stopped.NONFINITE_START
    assert x.item() == 1.0


def test_once_stopped_it_rests_until_the_objective_changes() -> None:
    x = f64(4.0).requires_grad_()
    optimizer = GaussNewton([x])
    target = 1.0
    calls = 0

    def residuals() -> Tensor:
        nonlocal calls
        calls += 1
        return x**2 - target

    while optimizer.stopped is None:
        optimizer.step(residuals)
    before, loss = calls, (x.item() ** 2 - 1) ** 2
    assert optimizer.step(residuals) == loss
    assert calls == before
    target = 9.0
    optimizer.objective_changed()
    assert optimizer.stopped is None
    while optimizer.stopped is None:
        optimizer.step(residuals)
    assert x.item() == pytest.approx(3.0, rel=1e-12)


def test_no_gradients_are_left_behind() -> None:
    fit = Fit()
    steps(GaussNewton(fit.params), fit, 2)
    assert all(param.grad is None for param in fit.params)


def one(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.ones(2, dtype=dtype, requires_grad=True)


def step_with(residual: object, **given: Any) -> Callable[[], object]:
    return lambda: GaussNewton([one()]).step(lambda: residual, **given)  # pyright: ignore


def wrong_jacobian(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    return {"jacobian": lambda: (f64(1, 2, 3), torch.ones(shape, dtype=dtype))}


@pytest.mark.parametrize(
    ("error", "message", "act"),
    [
        (ValueError, "empty parameter list", lambda: GaussNewton([])),
        (TypeError, "half precision", lambda: GaussNewton([one(torch.float16)])),
        (TypeError, "half precision", lambda: GaussNewton([one(torch.bfloat16)])),
        (TypeError, "real view", lambda: GaussNewton([one(torch.complex128)])),
        (ValueError, "share dtype", lambda: GaussNewton([one(), one(torch.float32)])),
        (ValueError, "own \\['damping'\\]", lambda: GaussNewton([{"params": one(), "damping": 1}])),
        (ValueError, "damping must be positive", lambda: GaussNewton([one()], damping=0.0)),
        (ValueError, "damping must be positive", lambda: GaussNewton([one()], damping=math.inf)),
        (ValueError, "target must be between", lambda: GaussNewton([one()], target=1.0)),
        (ValueError, "target must be between", lambda: GaussNewton([one()], target=math.nan)),
        (ValueError, "factor must be greater", lambda: GaussNewton([one()], factor=1.0)),
        (ValueError, "tolerance_gradient", lambda: GaussNewton([one()], tolerance_gradient=-1.0)),
        (ValueError, "memory_limit must be", lambda: GaussNewton([one()], memory_limit=0.0)),
        (ValueError, "iterations must be", lambda: GaussNewton([one()], iterations=0)),
        (ValueError, "sketch_rows must be", lambda: GaussNewton([one()], sketch_rows=0)),
        (ValueError, "sketch_columns must be", lambda: GaussNewton([one()], sketch_columns=0)),
        (TypeError, "needs a closure", lambda: GaussNewton([one()]).step()),
        (ValueError, "not reduced, got \\(\\)", step_with(f64(1.0).sum())),
        (ValueError, "not reduced, got \\(2, 1\\)", step_with(f64(1.0, 2.0)[:, None])),
        (ValueError, "not reduced, got \\(0,\\)", step_with(f64())),
        (ValueError, "not reduced, got 3.0", step_with(3.0)),
        (ValueError, "with their graph", step_with(f64(1.0, 2.0))),
        (ValueError, "must be torch.float64 on cpu", step_with(torch.ones(2))),
        (
            ValueError,
            "shape \\(3, 1\\).*\\(3, 2\\)",
            step_with(f64(1, 2, 3), **wrong_jacobian((3, 1))),
        ),
        (ValueError, "shape \\(2, 3\\)", step_with(f64(1, 2, 3), **wrong_jacobian((2, 3)))),
        (
            ValueError,
            "Jacobian must be torch.float64",
            step_with(f64(1, 2, 3), **wrong_jacobian((3, 2), torch.float32)),
        ),
    ],
)
def test_what_cannot_be_is_refused(
    error: type[Exception], message: str, act: Callable[[], object]
) -> None:
    with pytest.raises(error, match=message):
        act()


def test_params_without_gradients_need_a_jacobian() -> None:
    x, fixed = one(), torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="or pass `jacobian`"):
        GaussNewton([x, fixed]).step(lambda: x * fixed)


def test_params_can_be_added_before_the_first_step_only() -> None:
    x, y, z = one(), one(), one()
    optimizer = GaussNewton([x])
    optimizer.add_param_group({"params": [y]})
    optimizer.step(lambda: torch.cat([x**2, y - 3]))
    assert y[0].item() > 2
    with pytest.raises(ValueError, match="cannot take in more"):
        optimizer.add_param_group({"params": [z]})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", {**WAYS, **SKETCHES})
def test_an_accelerator_goes_the_same_way(way: str, dtype: torch.dtype) -> None:
    settings = {**WAYS, **SKETCHES}[way]
    host, device = Fit(dtype), Fit(dtype, "cuda")
    expected = steps(GaussNewton(host.params, **settings), host, 5)
    actual = steps(GaussNewton(device.params, **settings), device, 5)
    assert actual == pytest.approx(expected, rel=1e-6 if dtype is torch.float64 else 2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_an_accelerator_too_a_linear_problem_takes_one_step() -> None:
    for shape in ((30, 12), (12, 30)):
        matrix, target = normal(*shape).cuda(), normal(shape[0], seed=1).cuda()
        x = torch.zeros(shape[1], dtype=torch.float64, device="cuda", requires_grad=True)
        optimizer = GaussNewton([x], damping=1e-10)
        optimizer.step(lambda x=x, m=matrix, y=target: m @ x - y)
        expected = torch.linalg.lstsq(matrix.cpu(), target.cpu()[:, None]).solution[:, 0]
        torch.testing.assert_close(x.detach().cpu(), expected, rtol=1e-10, atol=1e-10)
