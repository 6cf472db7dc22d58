"""Unknowns in arithmetic, the names of derivatives, and a closed form as a reference."""

import copy
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from applications.pinn.language import (
    Condition,
    Field,
    Index,
    Problem,
    ProblemError,
    derivatives_used,
    parse,
)

U = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
V = torch.tensor([1.5, 2.5, 2.0], dtype=torch.float64)


def field(value: Tensor, name: str = "u") -> Field:
    return Field(name, lambda index: value, ["x", "t"])


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "sum": operator.add,
    "difference": operator.sub,
    "product": operator.mul,
    "quotient": operator.truediv,
    "power": lambda u, v: abs(u) ** v,
    "less": operator.lt,
    "at most": operator.le,
    "more": operator.gt,
    "at least": operator.ge,
    "maximum": lambda u, v: torch.maximum(torch.as_tensor(0 * u + u), torch.as_tensor(0 * v + v)),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_unknowns_in_arithmetic_are_their_values(name: str) -> None:
    combine = ARITHMETIC[name]
    for left, right in [(field(U), field(V)), (field(U), V), (U, field(V))]:
        assert torch.equal(combine(left, right), combine(U, V))
    assert torch.equal(combine(field(U), 2.0), combine(U, 2.0 + torch.zeros_like(U)))
    assert torch.equal(combine(2.0, field(V)), combine(2.0 + torch.zeros_like(V), V))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "minus": lambda u: -u,
    "size": abs,
    "square": lambda u: u**2,
    "power of two": lambda u: 2**u,
    "numpy's number": lambda u: np.float64(2.0) * u + u * np.float64(0.5),
    "sine": torch.sin,
    "by keyword": lambda u: torch.clamp(input=u, min=0.0),
    "stack": lambda u: torch.stack([u, u]),
    "where": lambda u: torch.where(u > 0, u, 0.0),
    "polynomial": lambda u: 5 * u**3 - u / 2 + (1 - u) * u,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_an_unknown_are_those_of_its_values(name: str) -> None:
    found = FUNCTIONS[name](field(U))
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(FUNCTIONS[name](U)))


def test_an_attribute_is_the_derivative_of_that_name() -> None:
    asked: list[Index] = []

    def derivative(index: Index) -> Tensor:
        asked.append(index)
        return U

    unknown = Field("u", derivative, ["x", "t"])
    for result in (unknown.x, unknown.xxt, unknown.txx, unknown.value):
        assert result is U
    assert asked == [(1, 0), (2, 1), (2, 1), (0, 0)]


def test_names_of_several_letters_are_read_longest_first() -> None:
    coordinates = ["x1", "x10", "x"]
    assert parse("u", "x1x10x", coordinates) == (1, 1, 1)
    assert parse("u", "x10x10", coordinates) == (0, 2, 0)
    assert parse("u", "xx", coordinates) == (0, 0, 2)


def test_a_name_that_is_no_derivative_is_refused() -> None:
    expected = r"u\.y is no derivative here: the coordinates are x, t, .* such as u\.xx"
    with pytest.raises(ProblemError, match=expected):
        _ = field(U).y
    with pytest.raises(ProblemError, match=r"v\.xy is no derivative"):
        _ = field(U, "v").xy
    with pytest.raises(ProblemError, match=r"u\.dx is no derivative"):
        _ = field(U).dx


def test_a_fifth_derivative_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"u\.xxxtt is a derivative of order 5; at most 4"):
        _ = field(U).xxxtt


def test_an_unknown_can_be_copied_and_has_no_dunder_derivatives() -> None:
    assert torch.equal(copy.copy(field(U)).value, U)
    assert not hasattr(field(U), "__array__")


@dataclass(frozen=True)
class Pair(Problem):
    region = {"x": (0.0, 1.0), "t": (0.0, 2.0)}
    unknowns = ("u", "v")

    decay: float = 3.0

    def equations(self, u: Field, v: Field, x: Tensor, t: Tensor) -> list[Tensor]:
        return [u.t + u * v.xx, v.t + self.decay * v]

    def exact(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x * t, torch.exp(-self.decay * t)


def test_the_derivatives_of_each_unknown_are_found() -> None:
    points = torch.rand(4, 2, dtype=torch.float64)
    used, found = derivatives_used(Pair(), Pair().equations, points)
    assert used == [{(0, 0), (0, 1)}, {(0, 0), (0, 1), (2, 0)}]
    assert len(found) == 2


def test_the_reference_of_a_closed_form_is_its_values_on_a_grid() -> None:
    reference = Pair(decay=2.0).reference()
    assert reference is not None and reference.error_bar == 0
    x, t = reference.axes["x"], reference.axes["t"]
    assert (x[0], x[-1], t[0], t[-1]) == (0, 1, 0, 2)
    np.testing.assert_allclose(reference.values["u"], np.outer(x, t), rtol=1e-15)
    expected = np.broadcast_to(np.exp(-2 * t), (len(x), len(t)))
    np.testing.assert_allclose(reference.values["v"], expected, rtol=1e-15)


def test_a_condition_is_named_by_its_place() -> None:
    assert Condition("t", 0.0, math.sin).label == "t = 0"
    assert Condition("x", -0.25, math.sin).label == "x = -0.25"


def test_a_problem_without_a_closed_form_has_no_reference() -> None:
    class Unsolved(Pair):
        def exact(self, x: Tensor, t: Tensor) -> Any:
            return None

    assert Unsolved().reference() is None
