"""What is refused before training, and in which words."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from applications.pinn.checks import check, checked_reference, orders_of
from applications.pinn.language import Condition, Field, Problem, ProblemError
from applications.pinn.reference import Reference

UNIT = {"x": (0.0, 1.0), "t": (0.0, 1.0)}


@dataclass(frozen=True)
class Heat(Problem):
    region = UNIT

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Any:
        return u.t - u.xx

    def conditions(self) -> Sequence[Condition]:
        return [initial(lambda x: torch.sin(math.pi * x)), end(0.0), end(1.0)]


def initial(value: Any) -> Condition:
    return Condition("t", 0.0, lambda u, x, t: u - value(x))


def end(at: float, axis: str = "x") -> Condition:
    return Condition(axis, at, lambda u, *_: u.value)


def heat(*conditions: Condition, **attributes: Any) -> Problem:
    """Heat conduction with something replaced."""
    if conditions:
        attributes["conditions"] = lambda self: list(conditions)
    return type("Posed", (Heat,), attributes)()


def equations(*unknowns: str, of: Any, **attributes: Any) -> Problem:
    """Other equations of these unknowns, without conditions in space."""
    zero = [Condition("t", 0.0, lambda *a: [u.value for u in a[: len(unknowns)]])]
    posed = {
        "region": UNIT,
        "periodic": ("x",),
        "unknowns": unknowns,
        "equations": lambda self, *arguments: of(*arguments),
        "conditions": lambda self: zero,
    }
    return type("Posed", (Problem,), posed | attributes)()


def reference(axes: Sequence[str], unknowns: Sequence[str]) -> Any:
    grid = {name: np.linspace(0, 1, 3) for name in axes}
    shape = (3,) * len(axes)
    return lambda self: Reference(grid, {name: np.ones(shape) for name in unknowns}, 0.0)


REFUSED: dict[str, tuple[Problem, str]] = {
    "no region": (
        heat(region={}),
        'Posed has no region; give each coordinate its ends: region = {"',
    ),
    "region the wrong way round": (
        heat(region={"x": (1.0, 0.0), "t": (0.0, 1.0)}),
        "the region's 'x' reaches from 1.0 to 0.0; the lower end must be finite and less than",
    ),
    "empty region": (heat(region=UNIT | {"t": (2.0, 2.0)}), "'t' reaches from 2.0 to 2.0"),
    "endless region": (heat(region=UNIT | {"t": (0.0, math.inf)}), "'t' reaches from 0.0 to inf"),
    "unknown periodic axis": (
        heat(periodic=("y",)),
        "periodic names 'y'; the coordinates are x, t",
    ),
    "unknown symmetric axis": (heat(symmetry={"y": "odd"}), "symmetry names 'y'"),
    "symmetry not about zero": (
        heat(symmetry={"x": "odd"}),
        "symmetry 'odd' in 'x' from 0.0 to 1.0: it must be 'odd' or 'even' about zero",
    ),
    "no such parity": (
        heat(symmetry={"x": "both"}, region=UNIT | {"x": (-1.0, 1.0)}),
        "symmetry 'both' in 'x'",
    ),
    "no unknowns": (
        heat(unknowns=()),
        'Posed has no unknowns; give their names: unknowns = ("u",)',
    ),
    "no slab": (heat(slabs=0), "slabs is 0; give 1 or more"),
    "no equations": (
        type("Posed", (Problem,), {"region": UNIT})(),
        "in equations: Posed has no equations: define `equations`",
    ),
    "no such derivative": (
        equations("u", of=lambda u, x, t: u.t - u.yy),
        "in equations: u.yy is no derivative here: the coordinates are x, t",
    ),
    "fifth derivative": (
        equations("u", of=lambda u, x, t: u.t - u.xxxxx),
        "in equations: u.xxxxx is a derivative of order 5; at most 4 are supported: write",
    ),
    "too few arguments": (
        equations("u", of=lambda u, x: u.t),
        "positional arguments but 3 were given; it is called with (u, x, t), unknowns first",
    ),
    "more expressions than unknowns": (
        equations("u", of=lambda u, x, t: [u.t, u.x]),
        "equations returns 2 expressions for 1 unknowns (u); give one for each",
    ),
    "fewer expressions than unknowns": (
        equations("u", "v", of=lambda u, v, x, t: u.t + v.t),
        "equations returns 1 expressions for 2 unknowns (u, v)",
    ),
    "an unknown of no equation": (
        equations("u", "v", of=lambda u, v, x, t: [u.t, u.x]),
        "no equation has 'v' in it; remove it from the unknowns",
    ),
    "an equation of no unknown": (
        equations("u", of=lambda u, x, t: x - t),
        "in equations: no unknown occurs, so there is nothing to be met",
    ),
    "a forgotten return": (
        equations("u", of=lambda u, x, t: [u.t, None][1]),
        "in equations: it returns None; return an expression of the unknowns",
    ),
    "a number among expressions": (
        equations("u", "v", of=lambda u, v, x, t: [u.t - v, 0.0]),
        "in equations: it returns 0.0; return an expression",
    ),
    "a mean over points": (
        equations("u", of=lambda u, x, t: (u.t - u.x).mean()),
        "in equations: an expression has shape () for 64 points; give one number for each point",
    ),
    "a condition of an unknown axis": (
        heat(end(0.0), Condition("y", 0.0, lambda u, x, t: u.value)),
        "the condition at y = 0: the coordinates are x, t",
    ),
    "a condition at a periodic end": (
        heat(periodic=("x",)),
        "the condition at x = 0: 'x' is periodic, it has no ends; remove the condition or take",
    ),
    "a condition inside": (
        heat(end(0.5)),
        "the condition at x = 0.5 is at no end of the region, which reaches from 0.0 to 1.0",
    ),
    "no such derivative in a condition": (
        heat(Condition("x", 1.0, lambda u, x, t: u.n)),
        "in the condition at x = 1: u.n is no derivative here",
    ),
    "a condition of no unknown": (
        heat(Condition("x", 1.0, lambda u, x, t: x - 1)),
        "in the condition at x = 1: no unknown occurs",
    ),
    "no initial values": (
        heat(end(0.0), end(1.0)),
        "0 conditions along 't', but the equations are of order 1 in it: the solution is not "
        "determined. Add conditions at t = 0 or 1, or list 't' in `periodic`",
    ),
    "one end without a condition": (
        heat(initial(torch.sin), end(0.0)),
        "1 conditions along 'x', but the equations are of order 2 in it",
    ),
    "too many conditions": (
        heat(initial(torch.zeros_like), end(0.0), end(1.0), end(1.0, "t")),
        "2 conditions along 't', but the equations are of order 1 in it only: they contradict",
    ),
    "the same condition twice": (
        heat(initial(torch.zeros_like), end(1.0), end(1.0)),
        "two conditions at x = 1 are about the same derivatives: give each once",
    ),
    "a contradiction at a corner": (
        heat(initial(lambda x: 1 + x), end(0.0), end(1.0)),
        "the conditions at t = 0 and x = 0 give 'u' values that differ by 1 where they meet; make "
        "them agree, or set `jumps = True`",
    ),
    "a rate of no coordinate": (
        heat(rates={"time": 2.0}),
        "rates names 'time'; the coordinates are x, t",
    ),
    "a layer in no coordinate": (
        heat(layers=lambda self: {"y": (0.0, 1e-3)}),
        "layers names 'y'; the coordinates are x, t",
    ),
    "a layer in a periodic coordinate": (
        heat(initial(torch.sin), periodic=("x",), layers=lambda self: {"x": (0.0, 1e-3)}),
        "layers names 'x', which is periodic: the network sees it as waves and not stretched",
    ),
    "a magnitude of no unknown": (
        heat(magnitudes={"v": 1e-5}),
        "magnitudes names 'v'; the unknowns are u",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_solved_is_refused_and_the_words_say_why(name: str) -> None:
    problem, message = REFUSED[name]
    with pytest.raises(ProblemError, match=re.escape(message)):
        check(problem)


@pytest.mark.parametrize(
    ("axes", "unknowns", "message"),
    [
        (["t", "x"], ["u"], "of Posed has axes t, x; expected the coordinates x, t, in that"),
        (["x", "t"], ["w"], "the reference solution of Posed lacks u; it has w"),
    ],
)
def test_a_reference_of_something_else_is_refused(
    axes: list[str], unknowns: list[str], message: str
) -> None:
    with pytest.raises(ProblemError, match=message):
        checked_reference(heat(reference=reference(axes, unknowns)))


def test_a_value_that_is_not_finite_is_named_with_its_place() -> None:
    problem = heat(initial(lambda x: torch.sqrt(x - 0.5)), end(0.0), end(1.0))
    with pytest.raises(ProblemError, match="condition at t = 0 has the value nan at x = ") as error:
        check(problem)
    place = re.search(r"x = ([\d.e-]+), t = 0$", str(error.value))
    assert place is not None and 0 <= float(place[1]) < 0.5


def test_a_shape_that_does_not_fit_its_axes_is_no_reference() -> None:
    axes = {"x": np.linspace(0, 1, 3)}
    with pytest.raises(ValueError, match=r"'u' has shape \(4,\); the axes \(x\) ask for \(3,\)"):
        Reference(axes, {"u": np.ones(4)}, 0.0)


SQUARE = {"x": (-1.0, 1.0), "t": (0.0, 1.0)}
ACCEPTED: dict[str, Problem] = {
    "heat": Heat(),
    "a jump that is declared": heat(initial(lambda x: 1 + x), end(0.0), end(1.0), jumps=True),
    "periodic": heat(initial(lambda x: torch.sin(2 * math.pi * x)), periodic=("x",)),
    "no condition where a symmetry stands for it": heat(
        initial(lambda x: torch.cos(math.pi / 2 * x)),
        end(1.0),
        end(-1.0),
        region=SQUARE,
        symmetry={"x": "even"},
    ),
    "insulated": heat(
        initial(lambda x: 1 + 0 * x),
        Condition("x", 0.0, lambda u, x, t: u.x),
        Condition("x", 1.0, lambda u, x, t: u.x),
    ),
    "Robin": heat(
        initial(lambda x: 1 + 0 * x),
        Condition("x", 0.0, lambda u, x, t: u.x - 2 * u),
        end(1.0),
        jumps=True,
    ),
    "a condition scaled": heat(
        initial(lambda x: 1 + x),
        Condition("x", 0.0, lambda u, x, t: 3 * (u - 1)),
        Condition("x", 1.0, lambda u, x, t: 2 - u),
    ),
    "all conditions by a lift": type(
        "Posed",
        (Heat,),
        {"conditions": lambda self: [], "lift": lambda self, x, t: (torch.sin(x), t)},
    )(),
    "an algebraic equation": equations(
        "u",
        "v",
        of=lambda u, v, x, t: [u.t - v, u + v - 1],
        conditions=lambda self: [Condition("t", 0.0, lambda u, v, x, t: u.value)],
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_can_be_solved_is_accepted(name: str) -> None:
    check(ACCEPTED[name])


@dataclass(frozen=True)
class Cavity(Problem):
    """Stokes flow under a moving lid: the pressure needs no condition of its own."""

    region = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    unknowns = ("u", "v", "p")
    jumps = True

    def equations(self, u: Field, v: Field, p: Field, x: Tensor, y: Tensor) -> list[Tensor]:
        return [u.xx + u.yy - p.x, v.xx + v.yy - p.y, u.x + v.y]

    def conditions(self) -> list[Condition]:
        def still(u: Field, v: Field, *_: Any) -> list[Tensor]:
            return [u.value, v.value]

        walls = [Condition("x", 0.0, still), Condition("x", 1.0, still), Condition("y", 0.0, still)]
        return [*walls, Condition("y", 1.0, lambda u, v, *_: [u - 1, v.value])]


@pytest.mark.parametrize(
    ("unknowns", "system", "orders"),
    [
        (("u",), lambda u, x, t: u.t + u.xxx, [3, 1]),
        (("u",), lambda u, x, t: u.xt - torch.sin(u), [1, 1]),
        (("u", "w"), lambda u, w, x, t: [u.t + w.x, w - u.xx], [3, 1]),
        (("u", "v"), lambda u, v, x, t: [u.t - v.x, v.t - u.x], [2, 2]),
        (("u", "v"), lambda u, v, x, t: [u.t - v, u - torch.sin(t)], [0, 0]),
    ],
)
def test_the_order_of_a_system_is_jacobis(unknowns: Any, system: Any, orders: list[int]) -> None:
    points = torch.rand(5, 2, dtype=torch.float64)
    assert orders_of(equations(*unknowns, of=system), points) == orders


def test_a_flow_needs_no_condition_for_its_pressure() -> None:
    assert orders_of(Cavity(), torch.rand(5, 2, dtype=torch.float64)) == [4, 4]
    check(Cavity())


def test_a_type_error_inside_an_equation_is_kept() -> None:
    problem = equations("u", of=lambda u, x, t: u.t + "x")
    with pytest.raises(ProblemError, match="unknowns first") as error:
        check(problem)
    assert isinstance(error.value.__cause__, TypeError)
