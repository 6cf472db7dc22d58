"""Derivatives through one activation, against mpmath, Stirling's numbers and autograd."""

import itertools
import math
from collections import Counter

import mpmath
import pytest
import torch
from torch import Tensor

from applications.pinn.taylor import (
    ACTIVATIONS,
    activate,
    activate_transposed,
    closure,
    partitions,
    products,
)

BELL = [1, 1, 2, 5, 15, 52]
STIRLING = {2: [1, 1], 3: [1, 3, 1], 4: [1, 7, 6, 1]}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_derivatives_of_the_activation_are_those_of_fifty_digits(name: str) -> None:
    z = torch.linspace(-4, 4, 33, dtype=torch.float64)
    with mpmath.workdps(50):
        rows = [mpmath.taylor(getattr(mpmath, name), mpmath.mpf(float(v)), 5) for v in z]
    for order, found in enumerate(ACTIVATIONS[name](z, 5)):
        expected = [float(row[order]) * math.factorial(order) for row in rows]
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13
        )


@pytest.mark.parametrize("name", ["tanh", "sin"])
@pytest.mark.parametrize("orders", range(6))
def test_as_many_derivatives_as_asked_for(name: str, orders: int) -> None:
    assert len(ACTIVATIONS[name](random(3), orders)) == orders + 1


def test_partitions_are_counted_by_bells_numbers() -> None:
    for size, count in enumerate(BELL):
        found = [
            frozenset(frozenset(block) for block in split) for split in partitions(range(size))
        ]
        assert len(found) == len(set(found)) == count
        assert all(sorted(itertools.chain(*split)) == list(range(size)) for split in found)


def test_terms_of_one_coordinate_are_counted_by_stirlings_numbers() -> None:
    for order, stirling in STIRLING.items():
        indices = tuple((k,) for k in range(order + 1))
        counts = Counter[int]()
        for term in products(indices):
            if term.channel == order:
                counts[term.order] += sum(factor for factor, _ in term.monomials)
        assert [counts[k] for k in range(2, order + 1)] == stirling[1:]


def test_terms_are_those_of_faa_di_bruno() -> None:
    # (f∘z)'''' = f''''z'⁴ + 6f'''z'²z'' + f''(4z'z''' + 3z''²) + f'z''''
    fourth = {
        term.order: set(term.monomials)
        for term in products(((0,), (1,), (2,), (3,), (4,)))
        if term.channel == 4
    }
    assert fourth == {4: {(1, (1, 1, 1, 1))}, 3: {(6, (1, 1, 2))}, 2: {(4, (1, 3)), (3, (2, 2))}}
    # (f∘z)_xxt = f'''z_x²z_t + f''(2z_x z_xt + z_xx z_t) + f'z_xxt
    indices = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))
    mixed = {term.order: set(term.monomials) for term in products(indices) if term.channel == 5}
    assert mixed == {3: {(1, (1, 2, 2))}, 2: {(2, (2, 3)), (1, (1, 4))}}


def test_a_sweep_carries_all_lower_derivatives_the_value_first() -> None:
    assert closure([(2, 1)]) == ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))
    assert closure([(0, 0)]) == ((0, 0),)
    assert closure([(1, 0), (0, 2)]) == ((0, 0), (0, 1), (1, 0), (0, 2))


WANTED = [[(0, 0)], [(1, 0), (0, 1)], [(2, 1)], [(2, 2)], [(4, 0), (0, 1)], [(3, 1), (1, 3)]]


@pytest.mark.parametrize("activation", ["tanh", "sin"])
@pytest.mark.parametrize("wanted", WANTED)
def test_the_reverse_sweep_is_the_transpose_of_the_derivative(
    wanted: list[tuple[int, int]], activation: str
) -> None:
    indices = closure(wanted)
    shape = len(indices), 5, 3
    z, direction, cotangent = (random(*shape, seed=seed) for seed in range(3))
    _, tape = activate(z, indices, activation)
    h = 1e-4
    steps = [activate(z + k * h * direction, indices, activation)[0] for k in (-2, -1, 1, 2)]
    derivative = (steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / (12 * h)
    by_differences = (cotangent * derivative).sum()
    found = (activate_transposed(cotangent, tape, indices) * direction).sum()
    torch.testing.assert_close(found, by_differences, rtol=1e-8, atol=1e-8)
    leaf = z.clone().requires_grad_()
    value, _ = activate(leaf, indices, activation)
    (by_autograd,) = torch.autograd.grad((cotangent * value).sum(), leaf)
    torch.testing.assert_close(
        activate_transposed(cotangent, tape, indices), by_autograd, rtol=1e-12, atol=1e-12
    )
