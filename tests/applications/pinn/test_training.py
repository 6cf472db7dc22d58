"""How points follow the residual, when there are more of them, and what is held out."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from pinn_oracles import derivative, solution_of, torch_network
from torch import Tensor

from applications.pinn.language import Condition, Field, Problem
from applications.pinn.methods import METHODS, Setup
from applications.pinn.problems import BoundaryLayer, Burgers, Convection, Robertson
from applications.pinn.sampling import chances, spread
from applications.pinn.training import Training

CPU = torch.device("cpu")
SMALL = Setup(hidden=(6, 5), condition_points=9, points_per_param=1.0, candidates=10)


def training_of(problem: Problem | None = None, seed: int = 0, **settings: Any) -> Training:
    given = {"hidden": (6, 5), "condition_points": 9, "points_per_param": 1.0, "candidates": 10}
    return Training(problem or Burgers(viscosity=0.05), Setup(**(given | settings)), seed, CPU)


def test_all_methods_begin_alike_and_seeds_differ() -> None:
    first = Training(Convection(), SMALL, 3, CPU)
    for method in METHODS.values():
        training = Training(Convection(), method, 3, CPU)
        assert torch.equal(training.held_out, first.held_out)
        again = Training(Convection(), method, 3, CPU)
        assert torch.equal(training.initial_params, again.initial_params)
    full = [Training(Convection(), method, 3, CPU) for method in METHODS.values()]
    for training in full[1:]:
        assert torch.equal(training.initial_params, full[0].initial_params)
        for term, other in zip(
            training.least_squares.terms, full[0].least_squares.terms, strict=True
        ):
            assert torch.equal(term.points, other.points)
    other = Training(Convection(), SMALL, 4, CPU)
    assert not torch.equal(other.initial_params, first.initial_params)
    points = first.least_squares.terms[0].points
    assert not torch.isin(other.least_squares.terms[0].points, points).any()
    assert not torch.isin(first.held_out, points).any()


def test_there_are_as_many_residuals_for_each_param_as_asked_for() -> None:
    training = training_of(points_per_param=2.0)
    assert len(training.least_squares.terms[0].points) == 2 * training.network.count
    system = training_of(Robertson(), points_per_param=2.0)
    rows = system.least_squares.terms[0].points.numel() * 3
    assert rows == pytest.approx(2 * system.network.count, abs=3)


def test_conditions_are_met_on_their_faces_and_at_one_point_of_a_line() -> None:
    training = training_of()
    points = training.least_squares.terms[1].points
    assert points.shape == (9, 2) and not points[:, 1].any()
    line = training_of(BoundaryLayer()).least_squares.terms
    assert [term.points.tolist() for term in line[1:]] == [[[0.0]], [[1.0]]]


def drawn_after(training: Training, params: Tensor, times: int) -> list[Tensor]:
    for _ in range(times):
        training.redraw(params)
    return [term.points for term in training.least_squares.terms]


@pytest.mark.parametrize("sampling", ["adaptive", "sobol", "uniform"])
def test_the_points_drawn_anew_are_those_of_the_seed(sampling: Any) -> None:
    one, same = (training_of(sampling=sampling) for _ in range(2))
    first = [term.points for term in one.least_squares.terms]
    found = drawn_after(one, one.initial_params, 2)
    assert all(map(torch.equal, found, drawn_after(same, same.initial_params, 2)))
    assert not any(map(torch.equal, found, first))


def test_adaptive_points_lie_where_the_residual_is_large() -> None:
    training = training_of(points_per_param=20.0, exponent=1.0, candidates=60)
    params = training.initial_params
    equations = training.least_squares.terms[0]
    points = spread(training.problem, 2**14, "sobol", torch.Generator().manual_seed(0))
    even = training.residual_size(equations, params, points)
    training.redraw(params)
    found = training.residual_size(equations, params, equations.points)
    # A point's chance is 1 + r / mean r, so that the mean of r over them is weighted by it.
    weighted = float((even * chances(even, 1.0)).mean() / chances(even, 1.0).mean())
    assert float(found.mean()) == pytest.approx(weighted, rel=0.03)
    assert weighted > 1.1 * float(even.mean())


def test_conditions_keep_to_an_even_spread_unless_asked_otherwise() -> None:
    even, adaptive = (
        training_of(adaptive_conditions=a, condition_points=400, exponent=2.0)
        for a in (False, True)
    )
    sizes = []
    for training in (even, adaptive):
        training.redraw(training.initial_params)
        term = training.least_squares.terms[1]
        sizes.append(
            float(training.residual_size(term, training.initial_params, term.points).mean())
        )
    assert sizes[1] > 1.1 * sizes[0]


def fitted(training: Training) -> None:
    """As if the residual had been fitted at the points: those of the smallest ones are taken."""
    equations, params = training.least_squares.terms[0], training.initial_params
    size = training.residual_size(equations, params, training.held_out)
    smallest = size.argsort()[: training.count]
    training.least_squares.place(equations, training.held_out[smallest])
    training.chances = torch.ones_like(smallest, dtype=torch.float64)


def test_more_points_come_once_points_were_fitted_and_the_loss_stands_still() -> None:
    training = training_of(most_points_per_param=2.0)
    params, count = training.initial_params, training.count
    fitted(training)
    training.redraw(params)
    fitted(training)
    assert training.fresh[-1] > 3 * training.trained_size(params)
    assert training.count == count, "one draw does not tell whether the loss stands still"
    for _ in range(20):
        training.redraw(params)
    assert training.fresh[-1] == pytest.approx(training.trained_size(params), rel=0.5)
    assert training.count == count, "the points were not fitted"
    fitted(training)
    training.redraw(params)
    assert training.count == int(1.5 * count)
    for _ in range(40):
        fitted(training)
        training.redraw(params)
    assert training.count == 2 * training.network.count, "that is the most"
    assert len(training.least_squares.terms[0].points) == training.count


def test_the_number_of_points_stays_while_the_loss_falls() -> None:
    training = training_of()
    count = training.count
    for k in range(20):
        training.fresh = [10.0 ** (30 - n) for n in range(20 - k)][-15:]
        fitted(training)
        training.redraw(training.initial_params)
    assert training.count == count


def test_the_size_at_the_points_trained_on_undoes_their_chances() -> None:
    training = training_of(points_per_param=30.0, exponent=2.0, candidates=20)
    for _ in range(4):
        training.redraw(training.initial_params)
    equations = training.least_squares.terms[0]
    trained = training.trained_size(training.initial_params)
    assert training.fresh[-1] == pytest.approx(trained, rel=0.15)
    size = training.residual_size(equations, training.initial_params, equations.points)
    assert float(size.square().mean()) > 1.5 * training.fresh[-1]


def test_the_held_out_loss_is_the_equations_on_points_never_trained_on() -> None:
    training = training_of(equation_weight=7.0)
    params, problem = training.initial_params, training.problem
    solution = solution_of(
        problem, training.network.embedding, torch_network(training.network, params)
    )
    u, u_x, u_xx, u_t = (
        derivative(solution, training.held_out, index).detach()[:, 0]
        for index in ((0, 0), (1, 0), (2, 0), (0, 1))
    )
    residual = (u_t + u * u_x - 0.05 * u_xx) / training.least_squares.terms[0].sizes[0]
    expected = 7 * float(residual.square().mean())
    assert training.held_out_loss(params) == pytest.approx(expected, rel=1e-12)
    assert bool((training.held_out[:, 0] >= 0).all()), "the other half is a mirror image"


def test_the_worst_term_is_named_and_one_that_is_not_finite_first() -> None:
    @dataclass(frozen=True)
    class Root(Problem):
        region = {"x": (0.0, 1.0), "t": (0.0, 1.0)}

        def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
            return 1e6 * (u.t - u.xx) + 1e6

        def conditions(self) -> list[Condition]:
            def rooted(u: Field, x: Tensor, t: Tensor) -> Tensor:
                return torch.sqrt(u + 3) - 2

            ends = [Condition("x", end, lambda u, *_: u.value) for end in (0.0, 1.0)]
            return [Condition("t", 0.0, rooted), *ends]

    training = Training(Root(), replace(SMALL, equation_weight=1e4), 0, CPU)
    params = training.initial_params.clone()
    assert training.worst_term(params) == "equations"
    params[-1] = -100.0
    assert training.worst_term(params) == "t = 0"


def test_a_state_brings_points_and_stream_back() -> None:
    one, other = training_of(), training_of()
    drawn_after(one, one.initial_params, 3)
    state = one.state_dict()
    kept = [points.clone() for points in state["points"]]
    found = drawn_after(one, one.initial_params, 2)
    assert all(map(torch.equal, kept, state["points"])), "a state is a snapshot"
    other.load_state_dict(state)
    assert all(map(torch.equal, found, drawn_after(other, other.initial_params, 2)))
    assert other.fresh == one.fresh and other.count == one.count


def test_values_of_many_points_are_those_of_few() -> None:
    training = training_of()
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(5000, 2, generator=generator, dtype=torch.float64)
    found = training.values(training.initial_params, points)
    assert found.shape == (5000, 1)
    few = torch.cat([training.values(training.initial_params, p) for p in points.split(1700)])
    torch.testing.assert_close(found, few, rtol=0, atol=1e-14)


def test_without_scaling_coordinates_are_taken_as_they_are() -> None:
    plain = training_of(Convection(), scaled=False)
    assert plain.network.embedding.scales == {"x": 1.0, "t": 1.0}
    assert training_of(Convection()).network.embedding.scales["t"] == pytest.approx(30, rel=1e-3)


def test_fourier_features_have_their_scale_and_are_those_of_the_seed() -> None:
    settings = {"fourier_features": 500, "fourier_scale": 3.0, "points_per_param": 0.01}
    one, same, other = (training_of(seed=seed, **settings) for seed in (1, 1, 2))
    waves = one.network.embedding.frequencies
    assert waves is not None and waves.shape == (3, 500)
    assert float(waves.std()) == pytest.approx(3.0, rel=0.05)
    assert torch.equal(waves, same.network.embedding.frequencies)  # pyright: ignore
    assert not torch.equal(waves, other.network.embedding.frequencies)  # pyright: ignore
    assert math.isfinite(one.loss(one.initial_params))
    assert np.isfinite(one.held_out_loss(one.initial_params))
