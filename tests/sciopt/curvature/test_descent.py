"""What holds for every optimizer with a closure: counts, reasons to stop, resuming, refusals."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from closure_optimizers import METHODS, SEARCHES, Make, Regression, closure_of, descend
from torch import Tensor

from sciopt.curvature.descent import Descent, Stopped
from sciopt.curvature.lbfgs import LBFGS
from sciopt.curvature.newton_cg import NewtonCG
from sciopt.curvature.self_scaled_broyden import SelfScaledBroyden

methods = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
searches = pytest.mark.parametrize("search", SEARCHES)


@methods
@searches
def test_a_loss_that_is_nan_beyond_its_domain_is_minimised(make: Make, search: str) -> None:
    for start in torch.linspace(0.05, 2.6, 60, dtype=torch.float64):
        x = start.clone().requires_grad_()
        optimizer = make([x], line_search=search, tolerance_gradient=1e-9)
        closure = closure_of(optimizer, lambda x=x: x.log().square(), [x])
        for _ in range(60):
            optimizer.step(closure)
            assert x.isfinite()
        assert optimizer.stopped is Stopped.GRADIENT_SMALL
        assert x.item() == pytest.approx(1.0, abs=1e-8)


@methods
@searches
def test_a_step_ends_where_its_loss_was_returned(make: Make, search: str) -> None:
    task = Regression()
    optimizer = make(task.groups(), line_search=search)
    losses = []
    for _ in range(15):
        losses += descend(optimizer, task.loss, task.params, 1)
        assert losses[-1] == task.loss().item()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


@methods
@searches
def test_several_parameters_take_the_path_of_one_vector(make: Make, search: str) -> None:
    task, whole = Regression(), Regression()
    sizes = [param.numel() for param in whole.params]
    shapes = [param.shape for param in whole.params]
    vector = torch.cat([param.detach().flatten() for param in whole.params]).requires_grad_()

    def loss_of_vector() -> Tensor:
        parts = zip(vector.split(sizes), shapes, strict=True)
        whole.params = [part.view(shape) for part, shape in parts]
        return whole.loss()

    first = descend(make(task.groups(), line_search=search), task.loss, task.params, 8)
    second = descend(make([vector], line_search=search), loss_of_vector, [vector], 8)
    assert first == pytest.approx(second, rel=1e-6)


@methods
def test_parameters_may_lie_in_memory_as_they_like(make: Make) -> None:
    task, strided = Regression(), Regression()
    strided.params = [
        torch.stack([param.detach()] * 2, dim=-1)[..., 0].requires_grad_()
        for param in strided.params[:3]
    ] + strided.params[3:]
    assert not strided.params[1].is_contiguous()
    expected = descend(make(task.params), task.loss, task.params, 6)
    assert descend(make(strided.params), strided.loss, strided.params, 6) == expected


@methods
@searches
def test_no_point_is_evaluated_twice_and_every_evaluation_is_counted(
    make: Make, search: str
) -> None:
    task = Regression()
    optimizer = make(task.params, line_search=search)
    points = []

    def loss() -> Tensor:
        points.append(torch.cat([param.detach().flatten() for param in task.params]))
        return task.loss()

    losses = descend(optimizer, loss, task.params, 12)
    assert len(losses) == 12
    assert optimizer.evaluations == len(points)
    assert len({tuple(point.tolist()) for point in points}) == len(points)


@methods
@searches
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_step_calls_the_closure_no_more_than_allowed(make: Make, search: str, limit: int) -> None:
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = make([x], line_search=search, max_evaluations=limit)
    closure = closure_of(optimizer, lambda: 1e3 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, [x])
    before = 1
    for _ in range(30):
        optimizer.step(closure)
        assert optimizer.evaluations - before <= 2 * limit
        before = optimizer.evaluations


@methods
@searches
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_cut_run_goes_on_bit_for_bit(make: Make, search: str, steps: int) -> None:
    task = Regression()
    optimizer = make(task.groups(), line_search=search)
    descend(optimizer, task.loss, task.params, steps)
    resumed = copy.deepcopy(task)
    again = make(resumed.groups(), line_search=search)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    expected = descend(optimizer, task.loss, task.params, 9)
    assert descend(again, resumed.loss, resumed.params, 9) == expected
    assert all(map(torch.equal, resumed.params, task.params))


@methods
@pytest.mark.parametrize("journey", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_whole_optimizer_travels(make: Make, journey: Callable[[Any], Any]) -> None:
    task = Regression()
    optimizer = make(task.groups())
    descend(optimizer, task.loss, task.params, 5)
    other_task, other = journey((task, optimizer))
    expected = descend(optimizer, task.loss, task.params, 5)
    assert descend(other, other_task.loss, other_task.params, 5) == expected


@methods
def test_optimizers_loaded_from_one_state_share_nothing(make: Make) -> None:
    task = Regression()
    optimizer = make(task.params)
    descend(optimizer, task.loss, task.params, 5)
    twin = copy.deepcopy(task)
    again = make(twin.params)
    again.load_state_dict(optimizer.state_dict())
    kept = copy.deepcopy(task)
    untouched = make(kept.params)
    untouched.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    descend(again, twin.loss, twin.params, 5)
    expected = descend(untouched, kept.loss, kept.params, 5)
    assert descend(optimizer, task.loss, task.params, 5) == expected


@methods
def test_a_changed_objective_is_evaluated_anew_and_keeps_the_curvature(make: Make) -> None:
    task = Regression()
    optimizer = make(task.params)
    descend(optimizer, task.loss, task.params, 10)
    task.shift = 0.3
    optimizer.objective_changed()
    before = optimizer.evaluations
    (loss,) = descend(optimizer, task.loss, task.params, 1)
    assert optimizer.evaluations - before >= 2
    assert loss == task.loss().item()
    memory = optimizer.state_dict()["state"][0]
    kept = {"pairs", "inverse_hessian", "basis"} & memory.keys()
    assert kept
    if "learned" in memory:
        assert memory["learned"] == 11


@methods
@searches
def test_a_stopped_optimizer_stays_until_the_objective_changes(make: Make, search: str) -> None:
    x = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
    target = [1.0]
    optimizer = make([x], line_search=search, tolerance_gradient=1e-8)

    def loss() -> Tensor:
        return ((x - target[0]) ** 2).sum()

    descend(optimizer, loss, [x], 50)
    assert optimizer.stopped is Stopped.GRADIENT_SMALL
    count = optimizer.evaluations
    assert optimizer.step(closure_of(optimizer, loss, [x])) == loss().item()
    assert optimizer.evaluations == count
    target[0] = 5.0
    optimizer.objective_changed()
    assert optimizer.stopped is None
    descend(optimizer, loss, [x], 50)
    assert optimizer.stopped is Stopped.GRADIENT_SMALL
    assert x.tolist() == pytest.approx([5.0, 5.0])


@methods
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_where_it_stops(make: Make, bad: float) -> None:
    x = torch.tensor([bad], dtype=torch.float64, requires_grad=True)
    optimizer = make([x])
    descend(optimizer, lambda: x.square().sum(), [x], 3)
    assert optimizer.stopped is Stopped.NONFINITE_START
    assert optimizer.evaluations == 1


@methods
@searches
def test_a_gradient_that_points_uphill_ends_the_run_at_its_start(make: Make, search: str) -> None:
    x = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)
    start = x.detach().clone()
    optimizer = make([x], line_search=search, max_evaluations=40)

    def loss() -> Tensor:
        value = x.square().sum()
        return value.detach() * 2 - value

    descend(optimizer, loss, [x], 3)
    assert optimizer.stopped in (Stopped.NO_DESCENT, Stopped.EVALUATIONS_EXHAUSTED)
    assert torch.equal(x.detach(), start)


@methods
def test_a_loss_that_hardly_changes_ends_the_run_if_asked(make: Make) -> None:
    task = Regression()
    optimizer = make(task.params, tolerance_change=0.2)
    losses = [task.loss().item(), *descend(optimizer, task.loss, task.params, 200)]
    assert optimizer.stopped is Stopped.CHANGE_SMALL
    assert losses[-2] - losses[-1] < 0.2 * losses[-2]


@pytest.mark.parametrize("make", [LBFGS, SelfScaledBroyden])
def test_gradients_that_the_closure_sets_and_a_float_it_returns_serve_as_well(make: Make) -> None:
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)

    def closure() -> float:
        a, b = x.tolist()
        slopes = [-400 * a * (b - a * a) - 2 * (1 - a), 200 * (b - a * a)]
        x.grad = torch.tensor(slopes, dtype=torch.float64)
        return 100 * (b - a * a) ** 2 + (1 - a) ** 2

    optimizer = make([x], tolerance_gradient=1e-9)
    for _ in range(100):
        optimizer.step(closure)
    assert optimizer.stopped is Stopped.GRADIENT_SMALL
    assert x.tolist() == pytest.approx([1.0, 1.0])


@methods
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_accelerator_goes_the_same_way(make: Make, dtype: torch.dtype) -> None:
    host, device = Regression(dtype), Regression(dtype, "cuda")
    expected = descend(make(host.params), host.loss, host.params, 6)
    actual = descend(make(device.params), device.loss, device.params, 6)
    tolerance = 1e-6 if dtype is torch.float64 else 1e-2
    assert actual == pytest.approx(expected, rel=tolerance)


def one(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.ones(2, dtype=dtype, requires_grad=True)


@methods
@pytest.mark.parametrize(
    ("error", "message", "build"),
    [
        (ValueError, "empty parameter list", lambda make: make([])),
        (ValueError, "without elements", lambda make: make([torch.zeros(0, requires_grad=True)])),
        (TypeError, "half precision", lambda make: make([one(torch.float16)])),
        (TypeError, "half precision", lambda make: make([one(torch.bfloat16)])),
        (TypeError, "real view", lambda make: make([one(torch.complex128)])),
        (ValueError, "share dtype and device", lambda make: make([one(), one(torch.float32)])),
        (ValueError, "own \\['lr'\\]", lambda make: make([{"params": [one()], "lr": 0.1}])),
        (ValueError, "lr must be positive", lambda make: make([one()], lr=0.0)),
        (ValueError, "line_search must be one of", lambda make: make([one()], line_search="no")),
        (ValueError, "max_evaluations must be", lambda make: make([one()], max_evaluations=0)),
        (ValueError, "loss_error must be", lambda make: make([one()], loss_error=1.0)),
        (ValueError, "tolerance_gradient", lambda make: make([one()], tolerance_gradient=-1.0)),
        (ValueError, "tolerance_change", lambda make: make([one()], tolerance_change=math.nan)),
        (TypeError, "needs a closure", lambda make: make([one()]).step()),
        (TypeError, "must return the loss", lambda make: make([one()]).step(lambda: None)),
        (ValueError, "reduce it", lambda make: make([one()]).step(lambda: torch.ones(3))),
    ],
)
def test_what_cannot_be_is_refused(
    make: Make, error: type[Exception], message: str, build: Callable[[Make], Any]
) -> None:
    with pytest.raises(error, match=message):
        build(make)


@pytest.mark.parametrize(
    ("message", "build"),
    [
        ("memory must be", lambda: LBFGS([one()], memory=0)),
        ("update must be one of", lambda: SelfScaledBroyden([one()], update="sr1")),
        ("0.1 GB, for 3000", lambda: SelfScaledBroyden([torch.ones(3000).double()], max_params=9)),
        ("rank must be", lambda: NewtonCG([one()], rank=0)),
        ("damping must be", lambda: NewtonCG([one()], damping=-1.0)),
        ("cg_tolerance must be", lambda: NewtonCG([one()], cg_tolerance=1.0)),
        ("require gradients", lambda: NewtonCG([torch.ones(2)])),
        ("with its graph", lambda: NewtonCG([one()]).step(lambda: torch.tensor(1.0))),
    ],
)
def test_settings_of_one_method_are_refused(message: str, build: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@methods
def test_parameters_come_before_the_first_step(make: Make) -> None:
    task = Regression()
    optimizer: Descent = make(task.params[:2])
    optimizer.add_param_group({"params": task.params[2:]})
    descend(optimizer, task.loss, task.params, 1)
    with pytest.raises(ValueError, match="make a new optimizer"):
        optimizer.add_param_group({"params": [one()]})
