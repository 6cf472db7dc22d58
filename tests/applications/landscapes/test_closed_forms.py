"""What theory says of each method, to its last digit, from runs of the domain's own solver."""

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch

import sciopt
from applications.landscapes.methods import METHODS, AdaGrad, Adam, Method, NormalizedSGD
from applications.landscapes.problems import (
    Dormant,
    Noise,
    PlateauBasin,
    Problem,
    Quadratic,
    Reddi,
    Slopes,
    SparseLosses,
)
from applications.landscapes.solve import Descents, start

UNIT = Adam(lr=(1.0,), eps=1e-200)


def descend(problem: Problem, method: Method, steps: int, seed: int = 0) -> Descents:
    solver = start(problem, method, seed, torch.device("cpu"))
    assert isinstance(solver, Descents)
    for _ in range(steps):
        solver.step()
    return solver


def moves(solver: Descents) -> np.ndarray:
    """(steps, variants, rates, n): minus what each step added."""
    return -np.diff(np.stack(solver.path), axis=0)


@pytest.mark.parametrize("x1", [1.234, 0.777])
def test_in_one_dimension_the_cycle_is_the_remainder_and_lr_below_it(x1: float) -> None:
    solver = descend(Quadratic(start=(x1,), condition=(1.0,)), NormalizedSGD(lr=(0.1,)), 100)
    ends = sorted(float(x) for x in np.stack(solver.path)[-2:].ravel())
    np.testing.assert_allclose(ends, [x1 % 0.1 - 0.1, x1 % 0.1], atol=1e-13)
    assert abs(ends[1] - ends[0] - 0.1) <= 1e-15


def test_in_a_valley_the_cycle_is_along_the_greatest_curvature() -> None:
    valley = Quadratic(start=(3.0, 2.0), condition=(10.0,), sharpness=10.0)
    before, between, last = np.stack(descend(valley, NormalizedSGD(lr=(0.1,)), 1000).path)[
        -3:, 0, 0
    ]
    np.testing.assert_allclose(np.abs(last - between), [0, 0.1], atol=1e-15)
    np.testing.assert_allclose(last, before, atol=1e-15)


def test_adagrad_travels_with_the_root_of_time() -> None:
    solver = descend(Slopes(slopes=(7.3,)), AdaGrad(lr=(1.0,), eps=0.0), 2500)
    assert -solver.x.item() == pytest.approx(98.549645, abs=1e-6)


def test_adagrads_regret_is_within_its_bound_on_every_sequence() -> None:
    diameter = 2.0
    for seed in range(2):
        solver = descend(SparseLosses(), AdaGrad(lr=(diameter / sqrt(2),)), 300, seed)
        regret = 300 * solver.average_regret()[:, 0]
        bound = sqrt(2) * diameter * solver.gradient_square_sum.sqrt()[:, 0].sum(-1)
        assert len(regret) == 50
        assert (regret <= bound).all()
        assert (regret > 0.05 * bound).any()


@pytest.mark.parametrize("method", [METHODS["rmsprop"], Adam(beta2=0.99)], ids=["rmsprop", "adam"])
def test_rates_recover_as_the_old_squares_are_forgotten(method: Method) -> None:
    """0.99^n + (1 - 0.99^n) 1e-6 = 1e-6 / 0.81 at n = 1518.8, for v = 1 at the drop by 1e3."""
    after = 2000
    shrinking = Slopes(slopes=(1.0,), factor=1e-3, factor_after=after)
    rate = np.stack(descend(shrinking, method, after + 1600).step_sizes).ravel()[1:]
    recovered = np.flatnonzero(rate[after:] >= 900 * rate[after - 1])[0] + 1
    assert recovered == 1519


def test_adagrads_rates_only_fall() -> None:
    shrinking = Slopes(slopes=(1.0,), factor=1e-3, factor_after=100)
    rate = np.stack(descend(shrinking, METHODS["adagrad"], 600).step_sizes).ravel()[1:]
    assert (np.diff(rate) < 0).all()
    assert rate[-1] > 0.999 * rate[100]


def test_adam_without_memory_is_sign_descent_over_twelve_decades() -> None:
    problem = Slopes()
    solver = descend(problem, Adam(lr=(0.01,), beta1=0.0, beta2=0.0, eps=1e-300), 10)
    error = moves(solver)[:, 0, 0] - 0.01 * np.sign(problem.slopes)
    assert np.abs(error).max() <= 1e-15


@pytest.mark.parametrize(("beta1", "expected"), [(0.0, 1.0), (0.5, 0.57735), (0.9, 0.22942)])
def test_rms_steps_in_noise_of_any_scale(beta1: float, expected: float) -> None:
    problem = Noise(counted_after=2000)
    solver = descend(problem, Adam(lr=(1.0,), beta1=beta1, eps=1e-30), 2500)
    rms = np.sqrt((solver.arrays()["rms_move"] ** 2).mean((1, 2)))
    # Half a million moves, but of walkers whose averages overlap, and v itself wavers.
    np.testing.assert_allclose(rms, expected, rtol=0.01)
    np.testing.assert_allclose(rms, rms[0], rtol=1e-12)


@pytest.mark.parametrize("snr", [0.3, 1.0])
def test_drift_is_the_gradients_mean_over_its_root_mean_square(snr: float) -> None:
    solver = descend(Noise(counted_after=2000, snr=snr), UNIT, 2500)
    mean = -solver.arrays()["mean_move"].mean((1, 2))
    np.testing.assert_allclose(mean, snr / sqrt(1 + snr**2), rtol=0.02)


def test_the_first_step_after_a_dormancy() -> None:
    solver = descend(Dormant(dormant_steps=(0, 9, 99, 999)), UNIT, 1000)
    steps = moves(solver)[:, :, 0, 0]
    first = [steps[k, variant] for variant, k in enumerate((0, 9, 99, 999))]
    np.testing.assert_allclose(first, [1.0, 0.484426, 0.975771, 2.514567], atol=5e-7)


def test_it_exceeds_lr_from_105_dormant_steps_on() -> None:
    solver = descend(Dormant(dormant_steps=(103, 104, 105)), UNIT, 106)
    steps = moves(solver)[:, :, 0, 0]
    first = np.array([steps[103, 0], steps[104, 1], steps[105, 2]])
    np.testing.assert_array_equal(first > 1, [False, False, True])


@pytest.fixture(scope="module")
def asleep() -> dict[str, Any]:
    """After 12 000 steps without gradient, of a lasting slope as of a spike."""
    return descend(Dormant(dormant_steps=(12_000,)), UNIT, 12_000).state_dict()


def awake(asleep: dict[str, Any], lasting: bool, steps: int) -> Descents:
    solver = descend(Dormant(dormant_steps=(12_000,), lasting=lasting), UNIT, 0)
    solver.load_state_dict(asleep)
    for _ in range(steps):
        solver.step()
    return solver


def test_a_lasting_gradient_makes_a_burst_with_its_peak_at_step_twelve(
    asleep: dict[str, Any],
) -> None:
    burst = moves(awake(asleep, True, 40))[12_000:].ravel()
    assert burst[0] == pytest.approx(3.1623, abs=5e-5)
    assert burst.max() == pytest.approx(6.5685, abs=5e-5)
    assert burst.argmax() + 1 == 12


def test_one_spike_moves_a_dormant_parameter_by_many_learning_rates(
    asleep: dict[str, Any],
) -> None:
    assert -awake(asleep, False, 300).x.item() == pytest.approx(31.766, abs=5e-4)


def test_a_skipped_parameter_has_no_burst() -> None:
    solver = descend(Dormant(dormant_steps=(1000,), skipped=True), UNIT, 1001)
    assert -solver.x.item() == pytest.approx(1.0, abs=1e-14)
    # The same of the optimizer by itself.
    x = torch.zeros(1, dtype=torch.float64)
    optimizer = sciopt.Adam([x], lr=1.0)
    for _ in range(50):
        optimizer.step()
    x.grad = torch.ones_like(x)
    optimizer.step()
    assert -x.item() == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("height", [3.0, 10.0])
def test_adam_stands_at_the_worst_point_for_ever_and_amsgrad_does_not(height: float) -> None:
    method = Adam(
        lr=(0.5,), lr_schedule="inverse-sqrt", beta1=0.0, beta2=1 / (1 + height**2), eps=1e-12
    )
    adam = descend(Reddi(height=height), method, 3000)
    path = np.stack(adam.path).ravel()
    assert (path[:-1:3] == 1).all()
    assert adam.average_regret().item() == pytest.approx(2 * (height - 2) / 3, rel=0.02)
    guarded = descend(Reddi(height=height), replace(method, amsgrad=True), 300)
    early = guarded.average_regret().item()
    for _ in range(2700):
        guarded.step()
    assert guarded.x.item() < -0.99
    assert guarded.average_regret().item() < early / 3


@pytest.mark.parametrize(
    ("method", "edge"),
    [
        ("sgd", 2 / 4.0),
        ("momentum", 2 * 1.9 / 4.0),
        ("nesterov", 2 * 1.9 / (4.0 * 2.8)),
        ("frozen-adam", 38.0),
    ],
)
def test_just_below_the_edge_converges_and_just_above_diverges(method: str, edge: float) -> None:
    rates = (0.99 * edge, 1.01 * edge)
    solver = descend(Quadratic(sharpness=4.0), replace(METHODS[method], lr=rates), 1500)
    assert solver.x[0, 0].norm() <= 1e-10
    assert solver.diverged.tolist() == [[False, True]]


def test_adam_itself_neither_diverges_nor_converges_beyond_its_frozen_edge() -> None:
    rates = (0.5 * 38, 1.5 * 38)
    solver = descend(Quadratic(sharpness=4.0), replace(METHODS["adam"], lr=rates), 6000)
    later = np.stack(solver.path)[3000:, 0]
    rms = np.sqrt((later**2).mean((0, 2)))
    np.testing.assert_allclose(rms / np.array(rates), 1 / 38, rtol=0.25)
    sharpness = np.stack(solver.step_sizes)[3000:, 0] * 4.0 * np.array([0.1, 1.0])
    assert 30 < sharpness.mean() < 38 < sharpness.max()


def test_no_fixed_rate_has_time_for_the_plateau_and_stability_in_the_basin() -> None:
    """The plateau needs r⁴ / (4 sharpness w⁴ T) or more, the basin 2 / sharpness or less."""
    basin = PlateauBasin(start=(1.5, 0.0), sharpness=1e4, width=0.1)
    needed = 1.5**4 / (4 * 1e4 * 0.1**4)
    edge = 2 / 1e4
    steps = round(needed / edge)
    method = replace(METHODS["sgd"], lr=(0.98 * edge, 1.02 * edge))
    solver = descend(basin, method, round(1.1 * steps))
    assert solver.settled_step[0, 0] > 0.9 * steps
    assert solver.settled_step[0, 1] == 0
