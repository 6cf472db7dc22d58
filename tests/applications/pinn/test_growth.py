"""A wider network computes what it did before, and comes where progress ends: no sooner."""

from typing import Any

import numpy as np
import pytest
import torch
from pinn_small import CPU, Heat, SlabbedHeat, steps_of
from torch import Tensor

from applications.pinn.language import Problem
from applications.pinn.methods import FirstOrder, GaussNewton, Setup
from applications.pinn.network import MLP
from applications.pinn.problems import AllenCahn, Burgers, MultiscalePoisson, Robertson, Wave
from applications.pinn.solve import Solver, arrays, evaluate, start
from applications.pinn.taylor import closure
from applications.pinn.training import STANDING, Training

CASES: dict[str, tuple[Problem, dict[str, Any]]] = {
    "one layer": (Wave(), {"hidden": (5,), "activation": "tanh"}),
    "deep": (Wave(), {"hidden": (4, 3, 5)}),
    "sine": (MultiscalePoisson(), {"hidden": (6,)}),
    "two layers of sines": (MultiscalePoisson(), {"hidden": (4, 5)}),
    "odd and periodic": (Burgers(), {"hidden": (4, 3)}),
    "even with Fourier features": (AllenCahn(), {"hidden": (4, 3), "fourier_features": 2}),
    "layer and three unknowns": (Robertson(), {"hidden": (4, 3)}),
}


def training_of(name: str = "odd and periodic", **settings: Any) -> Training:
    problem, own = CASES[name]
    setup = Setup(**({"condition_points": 8, "points_per_param": 2.0} | own | settings))
    return Training(problem, setup, 0, CPU)


def moved(training: Training) -> Tensor:
    """Params at which no bias is zero any more."""
    noise = torch.randn(training.network.count, generator=torch.Generator().manual_seed(3))
    return training.initial_params + 0.1 * noise.to(training.initial_params)


def widened(training: Training, params: Tensor) -> Tensor:
    """The wider network's params, where nothing forbids it."""
    wider = training.widen(params, 1.7, most_params=10**6)
    assert wider is not None
    return wider


@pytest.mark.parametrize("name", CASES)
def test_a_wider_network_has_the_same_values_and_derivatives(name: str) -> None:
    training = training_of(name)
    points, params, hidden = training.held_out[:50], moved(training), training.hidden
    # The third derivative by the first coordinate, and the mixed ones by two.
    first, mixed = [0] * points.shape[1], [0] * points.shape[1]
    first[0], mixed[0], mixed[-1] = 3, 1, 1
    indices = closure([tuple(first), tuple(mixed)])
    before = training.channels(params, points, indices)
    after = training.channels(widened(training, params), points, indices)
    assert all(more > units for more, units in zip(training.hidden, hidden, strict=True))
    for found, expected in zip(after, before, strict=True):
        size = expected.abs().amax(0)
        torch.testing.assert_close(found / size, expected / size, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_each_new_unit_is_heard_after_a_step_and_says_something_of_its_own(name: str) -> None:
    training = training_of(name)
    hidden, unknowns = training.hidden, len(training.problem.unknowns)
    params = widened(training, moved(training))
    _, gradient = training.least_squares.loss_and_gradient(params)
    network = training.network
    assert isinstance(network, MLP)
    now, downhill = (network.layers(vector)[1:] for vector in (params, gradient))
    old = zip(hidden, [*hidden[1:], unknowns], strict=True)
    for (weight, _), (slope, _), (rows, columns) in zip(now, downhill, old, strict=True):
        assert not weight[rows:, :columns].any()
        to_the_old = slope[rows:, :columns]
        assert bool((to_the_old != 0).all())
        assert len(to_the_old[:, 0].unique()) == len(to_the_old)


def test_new_units_are_spread_as_those_of_the_start() -> None:
    training = training_of("one layer", hidden=(400,), points_per_param=0.01)
    params = widened(training, training.initial_params)
    assert isinstance(training.network, MLP)
    (weight, bias), _ = training.network.layers(params)
    # 2 √(2 / (features + units)) is Glorot's deviation, the first layer twice as wide.
    deviation = 2 * (2 / (2 + 680)) ** 0.5
    assert float(weight[:, 400:].std()) == pytest.approx(deviation, rel=0.1)
    assert not torch.isin(bias[400:], bias[:400]).any()


def test_a_wider_network_has_as_many_more_points() -> None:
    training = training_of()
    params = widened(training, training.initial_params)
    assert training.hidden == [7, 6]
    assert training.network.count == len(params) == len(training.initial_params)
    assert training.count == 2 * len(params) == len(training.least_squares.terms[0].points)
    residual, jacobian = training.least_squares.jacobian(params)
    assert jacobian.shape == (len(residual), len(params))


def test_a_network_that_would_have_too_many_params_stays_as_it_is() -> None:
    training = training_of()
    network, points = training.network, training.least_squares.terms[0].points
    most = len(widened(training_of(), training.initial_params))
    assert training.widen(training.initial_params, 1.7, most - 1) is None
    assert training.network is network and training.hidden == [4, 3]
    assert training.least_squares.terms[0].points is points
    assert training.widen(training.initial_params, 1.7, most) is not None


def test_a_size_taken_over_brings_points_for_it() -> None:
    training = training_of()
    before = training.least_squares.terms[0].points
    training.resize([4, 3])
    assert training.least_squares.terms[0].points is before
    training.resize([9, 5])
    assert training.hidden == [9, 5]
    assert len(training.initial_params) == training.network.count
    assert len(training.least_squares.terms[0].points) == 2 * training.network.count


METHOD = GaussNewton(hidden=(4, 3), condition_points=8, points_per_param=2.0, redraw_every=1)


def after_a_draw(method: Any, sizes_before: list[float]) -> Solver:
    """After two steps, before the second of which fresh points had mean squares of these sizes."""
    solver = start(Heat(), method, 0, CPU)
    steps_of(solver, 1)
    solver.training.fresh = list(sizes_before)
    steps_of(solver, 1)
    return solver


def settings(**changed: Any) -> GaussNewton:
    return GaussNewton(**(vars(METHOD) | changed))


@pytest.mark.parametrize(
    ("method", "sizes_before", "hidden"),
    [
        pytest.param(METHOD, [1e-9] * STANDING, [6, 5], id="no progress over the last draws"),
        pytest.param(METHOD, [1e-9] * (STANDING - 1), [4, 3], id="too few draws to tell"),
        pytest.param(METHOD, [1e9] * STANDING, [4, 3], id="progress"),
        pytest.param(settings(widen=1.0), [1e-9] * STANDING, [4, 3], id="not asked for"),
        pytest.param(settings(most_params=40), [1e-9] * STANDING, [4, 3], id="too many params"),
        pytest.param(settings(redraw_every=0), [1e-9] * STANDING, [4, 3], id="no draw"),
        pytest.param(
            FirstOrder(**vars(Setup(hidden=(4, 3), redraw_every=1))),
            [1e-9] * STANDING,
            [4, 3],
            id="another method",
        ),
    ],
)
def test_a_network_is_widened_where_progress_ends(
    method: Any, sizes_before: list[float], hidden: list[int]
) -> None:
    assert after_a_draw(method, sizes_before).training.hidden == hidden


def test_points_that_were_fitted_become_more_before_the_network_does() -> None:
    solver = start(Heat(), METHOD, 0, CPU)
    steps_of(solver, 1)
    training, params = solver.training, solver.params.detach()
    equations, count = training.least_squares.terms[0], training.count
    size = training.residual_size(equations, params, training.held_out)
    training.least_squares.place(equations, training.held_out[size.argsort()[:count]])
    training.chances = torch.ones(count, dtype=torch.float64)
    training.fresh = [1e-9] * STANDING
    steps_of(solver, 1)
    assert training.hidden == [4, 3]
    assert training.count == int(1.5 * count)


def test_a_wider_network_goes_on_with_the_damping_of_the_one_before() -> None:
    solver = start(Heat(), settings(damping=1e4), 0, CPU)
    steps_of(solver, 5)
    before = solver.stage.numbers()["damping"]
    assert before < 1e3
    solver.training.fresh = [1e-9] * STANDING
    steps_of(solver, 1)
    assert solver.training.hidden == [6, 5]
    assert solver.stage.numbers()["damping"] < 10 * before
    steps_of(solver, 1)
    assert solver.training.hidden == [6, 5], "it is given time to make progress"


@pytest.mark.parametrize(("problem", "steps"), [(Heat(), 12), (SlabbedHeat(), 14)])
def test_a_run_that_widens_goes_on_bit_for_bit_from_any_state(
    problem: Problem, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("applications.pinn.training.STANDING", 2)
    method = settings(hidden=(2, 2), points_per_param=3.0, slab_steps=5)
    solver = start(problem, method, 5, CPU)
    states, units = [], []
    for _ in range(steps):
        states.append(solver.state_dict())
        solver.step()
        units.append(sum(solver.training.hidden))
    assert sorted(set(units)) == [4, 6, 10, 14]
    assert units == sorted(units), "the next slab begins as wide as the last one ended"
    expected, kept = evaluate(problem, solver), arrays(problem, solver)
    for done, state in enumerate(states):
        resumed = start(problem, method, 5, CPU)
        resumed.load_state_dict(state)
        steps_of(resumed, steps - done)
        assert evaluate(problem, resumed) == expected
        for key, values in arrays(problem, resumed).items():
            np.testing.assert_array_equal(values, kept[key], err_msg=f"{key} from step {done}")
