"""Losses, minima and curvatures against SciPy, known values and finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der

from applications.landscapes.problems import (
    PROBLEMS,
    Beale,
    Dormant,
    Himmelblau,
    Landscape,
    Noise,
    PlateauBasin,
    Quadratic,
    Rastrigin,
    Reddi,
    Rosenbrock,
    Saddle,
    Slopes,
    SparseLosses,
)

LANDSCAPES = {name: each for name, each in PROBLEMS.items() if isinstance(each, Landscape)}


def point(*coordinates: float) -> torch.Tensor:
    return torch.tensor(coordinates, dtype=torch.float64)


def hessian(problem: Landscape, at: torch.Tensor) -> torch.Tensor:
    result: Any = torch.autograd.functional.hessian(lambda x: problem.loss(x, 1).sum(), at)
    return result


@pytest.mark.parametrize("problem", LANDSCAPES.values(), ids=LANDSCAPES)
def test_minima_are_flat_zeros_and_the_start_is_not(problem: Landscape) -> None:
    minima = problem.minima().requires_grad_()
    loss = problem.loss(minima, 1)
    (gradient,) = torch.autograd.grad(loss.sum(), minima)
    np.testing.assert_allclose(loss.detach(), 0, atol=1e-24)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    for each in minima.detach():
        assert torch.linalg.eigvalsh(hessian(problem, each)).min() > 0
    assert problem.loss(problem.start_point(), 1).item() > 1e-2


def test_rosenbrock_is_scipys_in_any_dimension() -> None:
    generator = np.random.default_rng(0)
    for n in (2, 5):
        x = generator.standard_normal((7, n))
        at = torch.tensor(x, requires_grad=True)
        loss = Rosenbrock(start=(0.0,) * n).loss(at, 1)
        (gradient,) = torch.autograd.grad(loss.sum(), at)
        np.testing.assert_allclose(loss.detach(), rosen(x.T), rtol=1e-13)
        np.testing.assert_allclose(gradient, [rosen_der(each) for each in x], rtol=1e-12)


@pytest.mark.parametrize(
    ("problem", "at", "value"),
    [
        (Himmelblau(), (0.0, 0.0), 170.0),
        (Beale(), (0.0, 0.0), 14.203125),
        (Beale(), (1.0, 1.0), 14.203125),
        (Rastrigin(), (1.0, 1.0), 2.0),
        (Rastrigin(), (0.5, 0.0, 0.0), 20.25),
        (Saddle(), (0.0, 0.0), 0.25),
        (PlateauBasin(sharpness=8.0, width=0.5), (0.3, 0.4), 0.5),
        (Quadratic(condition=(10.0,)), (1.0, 1.0), 0.55),
    ],
)
def test_known_values(problem: Landscape, at: tuple[float, ...], value: float) -> None:
    np.testing.assert_allclose(problem.loss(point(*at), 1), value, rtol=1e-14)


def test_losses_take_meshes() -> None:
    for name, problem in LANDSCAPES.items():
        mesh = torch.randn(3, 4, len(problem.start), dtype=torch.float64)
        values = problem.loss(mesh, 1)
        assert values.shape == (3, 4), name
        # One row at a time a vectorised sum may round otherwise.
        np.testing.assert_allclose(values[1], problem.loss(mesh[1], 1).reshape(4), rtol=1e-13)


def test_the_plateau_is_flat_and_the_basin_as_sharp_as_set() -> None:
    problem = PlateauBasin(sharpness=1e4, width=0.1)
    curvature = torch.linalg.eigvalsh(hessian(problem, point(0.0, 0.0)))
    np.testing.assert_allclose(curvature, 1e4, rtol=1e-12)
    far = point(60.0, 80.0).requires_grad_()
    (slope,) = torch.autograd.grad(problem.loss(far, 1), far)
    np.testing.assert_allclose(slope.norm(), 1e4 * 0.1**4 / 100**3, rtol=1e-5)


@pytest.mark.parametrize("rotated", [False, True])
def test_a_quadratics_hessian_has_the_eigenvalues_of_its_condition(rotated: bool) -> None:
    start = (1.0, -0.5, 2.0)
    problem = Quadratic(start=start, condition=(1e2, 1e4), sharpness=3.0, rotated=rotated)
    for variant, condition in enumerate(problem.condition):
        found = torch.autograd.functional.hessian(
            lambda x, v=variant: problem.loss(x.expand(2, 1, 3), 1)[v].sum(), point(0.3, 0.1, -2.0)
        )
        matrix: Any = found
        expected = 3.0 / condition ** np.array([1.0, 0.5, 0.0])
        np.testing.assert_allclose(torch.linalg.eigvalsh(matrix), expected, rtol=1e-9)
        diagonal = torch.diag(matrix.diagonal())
        assert torch.equal(matrix, diagonal) is not rotated


def test_a_rotation_turns_the_start_with_the_axes() -> None:
    start = (1.0, -0.5, 2.0)
    plain, turned = Quadratic(start=start), Quadratic(start=start, rotated=True)
    vectors = turned.eigenvectors()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(
        turned.loss(turned.start_point(), 1), plain.loss(plain.start_point(), 1), rtol=1e-13
    )


def test_slopes_of_the_sequences() -> None:
    assert [Reddi(height=5.0).slope(t).item() for t in range(1, 8)] == [5, -1, -1, 5, -1, -1, 5]
    lasting = Dormant(dormant_steps=(0, 2), height=3.0)
    once = Dormant(dormant_steps=(0, 2), height=3.0, lasting=False)
    assert [lasting.slope(t).flatten().tolist() for t in range(1, 5)] == [
        [3, 0],
        [3, 0],
        [3, 3],
        [3, 3],
    ]
    assert [once.slope(t).flatten().tolist() for t in range(1, 5)] == [
        [3, 0],
        [0, 0],
        [0, 3],
        [0, 0],
    ]
    falling = Slopes(slopes=(2.0, -4.0), factor=0.5, factor_after=3)
    assert [falling.slope(t).flatten().tolist() for t in (3, 4)] == [[2, -4], [1, -2]]
    decades = np.log10(np.abs(Slopes().slopes))
    assert decades.max() - decades.min() == pytest.approx(12)


def test_noise_has_the_deviation_set_and_grows_where_told() -> None:
    problem = Noise(deviation=(1e-3, 2.0), walkers=20_000, growth=1.0)
    x = torch.zeros(2, 1, 20_000, dtype=torch.float64)
    x[..., 10_000:] = 2.0
    made = problem.noise(x, torch.Generator().manual_seed(0))
    deviations = made.unflatten(-1, (2, -1)).std(-1).squeeze(1)
    np.testing.assert_allclose(deviations, [[1e-3, 0.1], [2.0, 200.0]], rtol=0.02)
    mean = Noise(deviation=(1e-3, 2.0), snr=0.5).slope(1).flatten()
    np.testing.assert_allclose(mean, [5e-4, 1.0])


def test_sparse_losses_are_as_rare_as_their_place() -> None:
    problem = SparseLosses(sequences=4000, dimensions=5)
    made = problem.noise(torch.zeros(4000, 1, 5).double(), torch.Generator().manual_seed(0))
    np.testing.assert_allclose((made != 0).double().mean((0, 1)), 1 / np.arange(1, 6), atol=0.03)
    deviation = (made.square().sum((0, 1)) / (made != 0).sum((0, 1))).sqrt()
    np.testing.assert_allclose(np.sort(deviation.log10()), [-2, -1, 0, 1, 2], atol=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: Quadratic(condition=(0.5,)), "condition"),
        (lambda: Quadratic(condition=()), "condition"),
        (lambda: Quadratic(condition=(float("inf"),)), "condition"),
        (lambda: Quadratic(sharpness=-1.0), "sharpness"),
        (lambda: Quadratic(start=()), "start = ().*one or more"),
        (lambda: Rosenbrock(start=(1.0,)), "start = .*two or more"),
        (lambda: Rosenbrock(start=(1.0, float("nan"))), "start"),
        (lambda: Rosenbrock(tolerance=-1.0), "tolerance"),
        (lambda: PlateauBasin(width=-0.1), "width"),
        (lambda: Slopes(slopes=()), "slopes"),
        (lambda: Dormant(dormant_steps=(-3,)), "dormant_steps"),
        (lambda: SparseLosses(sequences=0), "sequences"),
        (lambda: SparseLosses(dimensions=0), "dimensions"),
        (lambda: Noise(deviation=(-1.0,)), "deviation"),
        (lambda: Noise(walkers=0), "walkers"),
        (lambda: Dormant(dormant_steps=(1, 2), skipped=True), "one dormancy"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings()
