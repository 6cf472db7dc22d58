"""Damped least squares against exact rational arithmetic and torch's own solvers."""

from fractions import Fraction
from operator import mul

import pytest
import torch
from torch import Tensor

from sciopt.curvature.normal_equations import (
    NormalEquations,
    OtherGradient,
    SampleSpace,
    Sketched,
    Solve,
    cholesky,
    factorization,
    gram,
)

EPS = torch.finfo(torch.float64).eps


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hilbert(rows: int, columns: int) -> Tensor:
    """Of condition 1e10 for 12 rows and 8 columns."""
    i = torch.arange(rows, dtype=torch.float64)[:, None]
    return 1 / (i + torch.arange(columns, dtype=torch.float64) + 1)


def exact(jacobian: Tensor, w: Tensor, damping: float) -> Tensor:
    """(JᵀJ + damping I)⁻¹ Jᵀw by elimination in rational numbers."""
    rows = [[Fraction(value) for value in row] for row in jacobian.tolist()]
    right = [Fraction(value) for value in w.tolist()]
    columns = list(zip(*rows, strict=True))
    system: list[list[Fraction]] = []
    for i, left in enumerate(columns):
        line = [sum(map(mul, left, other), Fraction(0)) for other in (*columns, right)]
        line[i] += Fraction(damping)
        system.append(line)
    for i, pivot in enumerate(system):
        for k, line in enumerate(system):
            if k != i:
                ratio = line[i] / pivot[i]
                system[k] = [a - ratio * b for a, b in zip(line, pivot, strict=True)]
    solution = [float(line[-1] / line[i]) for i, line in enumerate(system)]
    return torch.tensor(solution, dtype=torch.float64)


def solved(solve: Solve | None, jacobian: Tensor, w: Tensor) -> Tensor:
    assert solve is not None
    return solve(w, jacobian.T @ w)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (1, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_lower_triangle_of_the_gram_matrix(
    dtype: torch.dtype, shape: tuple[int, int], transposed: bool
) -> None:
    tall = normal(*shape).to(dtype)
    if transposed:
        tall = tall.T.contiguous().T
    expected = (tall.T @ tall).tril()
    torch.testing.assert_close(gram(tall).tril(), expected)


def test_the_gram_matrix_of_every_other_column() -> None:
    tall = normal(7, 6)[:, ::2]
    torch.testing.assert_close(gram(tall).tril(), (tall.T @ tall).tril())


@pytest.mark.parametrize("shape", [(30, 12), (12, 12), (12, 30)])
@pytest.mark.parametrize("damping", [1e-25, 1e-12, 1e-3, 10.0, 1e12])
def test_every_shape_and_damping_is_the_stacked_least_squares_problem(
    shape: tuple[int, int], damping: float
) -> None:
    jacobian, w = normal(*shape), normal(shape[0], seed=1)
    stacked = torch.cat([jacobian, damping**0.5 * torch.eye(shape[1], dtype=torch.float64)])
    target = torch.cat([w, w.new_zeros(shape[1])])
    expected = torch.linalg.lstsq(stacked, target[:, None], driver="gelsd").solution[:, 0]
    prepared = factorization(jacobian)
    assert isinstance(prepared, NormalEquations if shape[0] >= shape[1] else SampleSpace)
    assert prepared.scale == pytest.approx(float(jacobian.square().sum()), rel=1e-13)
    assert error(solved(prepared.damped(damping), jacobian, w), expected) < 1e-9


@pytest.mark.parametrize("relative", [1e-30, 1e-24, 1e-20, 1e-17])
def test_below_the_rounding_errors_of_the_gram_matrix_the_digits_are_those_of_qr(
    relative: float,
) -> None:
    jacobian = hilbert(12, 8)
    w = jacobian @ torch.linspace(1, 2, 8, dtype=torch.float64)
    prepared = NormalEquations(jacobian)
    damping = relative * prepared.scale
    expected = exact(jacobian, w, damping)
    condition = float(torch.linalg.cond(jacobian))
    assert condition > 1e9
    assert error(solved(prepared.damped(damping), jacobian, w), expected) < 10 * EPS * condition
    squared = cholesky(prepared.gram.gram, damping)
    assert squared is None or error(squared(jacobian.T @ w), expected) > 1e-2


@pytest.mark.parametrize("relative", [1e-14, 1e-10, 1e-6, 1e-2])
def test_above_them_the_digits_are_those_that_the_damping_leaves(relative: float) -> None:
    jacobian = hilbert(12, 8)
    w = jacobian @ torch.linspace(1, 2, 8, dtype=torch.float64)
    prepared = NormalEquations(jacobian)
    damping = relative * prepared.scale
    found = solved(prepared.damped(damping), jacobian, w)
    assert error(found, exact(jacobian, w, damping)) < EPS / relative


@pytest.mark.parametrize("relative", [1e-30, 1e-20, 1e-14, 1e-10, 1e-2])
def test_the_least_norm_loses_no_digits_to_a_small_damping(relative: float) -> None:
    jacobian = hilbert(12, 8).T.contiguous()
    w = jacobian @ torch.linspace(1, 2, 12, dtype=torch.float64)
    prepared = SampleSpace(jacobian)
    damping = relative * prepared.scale
    found = solved(prepared.damped(damping), jacobian, w)
    bound = 10 * EPS * float(torch.linalg.cond(jacobian))
    if relative > EPS:
        bound = EPS / relative
    assert error(found, exact(jacobian, w, damping)) < bound


@pytest.mark.parametrize("relative", [1e-12, 1e-9, 1e-6, 1e-3])
def test_single_precision_has_the_same_digits_relative_to_its_rounding(relative: float) -> None:
    jacobian = hilbert(12, 4).float()
    w = jacobian @ torch.linspace(1, 2, 4)
    prepared = NormalEquations(jacobian)
    damping, eps = relative * prepared.scale, torch.finfo(torch.float32).eps
    found = solved(prepared.damped(damping), jacobian, w).double()
    bound = 10 * eps * float(torch.linalg.cond(jacobian.double()))
    if relative > eps:
        bound = eps / relative
    assert error(found, exact(jacobian, w, damping)) < bound


def test_what_is_not_positive_definite_has_no_solver() -> None:
    indefinite = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert cholesky(indefinite, 0.5) is None
    inverse = cholesky(indefinite, 2.0)
    assert inverse is not None
    assert inverse(torch.ones(2, dtype=torch.float64)).tolist() == pytest.approx([1 / 3, 1.0])


def sketched(jacobian: Tensor, rows: int | None, columns: int | None, seed: int = 0) -> Sketched:
    return Sketched(jacobian, rows, columns, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(None, None), (30, 12), (99, 99), (None, 12)])
def test_a_sketch_of_full_size_is_the_matrix_itself(rows: int | None, columns: int | None) -> None:
    jacobian, w = normal(30, 12), normal(30, seed=1)
    found = solved(sketched(jacobian, rows, columns).damped(1e-3), jacobian, w)
    assert error(found, solved(NormalEquations(jacobian).damped(1e-3), jacobian, w)) < 1e-13


def subspace(sketch: Sketched, params: int) -> Tensor:
    """The matrix C of the sketch, by its definition."""
    combine = torch.zeros(params, sketch.columns, dtype=torch.float64)
    combine[torch.arange(params), sketch.buckets] = sketch.factors
    return combine


@pytest.mark.parametrize("shape", [(30, 20), (5, 20)])
def test_with_fewer_columns_the_step_is_the_best_of_a_subspace(shape: tuple[int, int]) -> None:
    jacobian, w, damping = normal(*shape), normal(shape[0], seed=1), 0.1
    sketch = sketched(jacobian, None, 8)
    combine = subspace(sketch, 20)
    nonempty = combine[:, combine.norm(dim=0) > 0]
    torch.testing.assert_close(
        nonempty.T @ nonempty, torch.eye(nonempty.shape[1], dtype=torch.float64)
    )
    inner = jacobian @ nonempty
    damped = inner.T @ inner + damping * torch.eye(nonempty.shape[1], dtype=torch.float64)
    expected = nonempty @ torch.linalg.solve(damped, inner.T @ w)
    assert error(solved(sketch.damped(damping), jacobian, w), expected) < 1e-12


def drawn(sketch: Sketched) -> Tensor:
    assert isinstance(sketch.inner, OtherGradient)
    return sketch.inner.sketch


@pytest.mark.parametrize("rows", [25, 10])
@pytest.mark.parametrize("columns", [None, 15, 6])
def test_with_fewer_rows_the_gradient_is_that_of_all(rows: int, columns: int | None) -> None:
    jacobian, w, damping = normal(40, 20), normal(40, seed=1), 0.1
    sketch = sketched(jacobian, rows, columns)
    combine = subspace(sketch, 20) if columns else torch.eye(20, dtype=torch.float64)
    inner = drawn(sketch)
    damped = inner.T @ inner + damping * torch.eye(inner.shape[1], dtype=torch.float64)
    expected = combine @ torch.linalg.solve(damped, combine.T @ (jacobian.T @ w))
    assert error(solved(sketch.damped(damping), jacobian, w), expected) < 1e-11


def test_the_sketch_of_rows_keeps_the_gram_matrix_on_average() -> None:
    jacobian = normal(40, 3)
    draws = [drawn(sketched(jacobian, 20, None, seed)) for seed in range(4000)]
    mean = torch.stack([draw.T @ draw for draw in draws]).mean(0)
    assert error(mean, jacobian.T @ jacobian) < 0.02
