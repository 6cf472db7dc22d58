"""The language in which a problem is written: a region, equations, conditions.

    @dataclass(frozen=True)
    class Fisher(Problem):
        region = {"x": (-5.0, 5.0), "t": (0.0, 2.0)}

        def equations(self, u, x, t):
            return u.t - u.xx - u * (1 - u)

        def conditions(self):
            return [
                Condition("t", 0.0, lambda u, x, t: u - torch.exp(-x**2)),
                Condition("x", -5.0, lambda u, x, t: u.x),
                Condition("x", 5.0, lambda u, x, t: u.x),
            ]

Everything else (which derivatives the network must give, residuals, Jacobian, points, metrics and
figures) follows from that. `checks.py` says what is wrong with a problem before it is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map_only

from applications.pinn.reference import Reference
from applications.pinn.reference.exact import on_grid

Index = tuple[int, ...]
"""A derivative: how often by each coordinate; (2, 1) is u.xxt for coordinates x, t."""

MOST_DERIVATIVES = 4


class ProblemError(ValueError):
    """A problem that cannot be solved as written; the message says what and where."""


@dataclass(frozen=True)
class Condition:
    """An equation that holds where a coordinate has one value: initial and boundary conditions.

    `equation` takes what `Problem.equations` takes and returns what must vanish, one expression
    or several: `Condition("x", 1.0, lambda u, x, t: u.x)` is an insulated end.
    """

    axis: str
    at: float
    equation: Callable[..., Any]

    @property
    def label(self) -> str:
        """The condition in words, such as `t = 0`."""
        return f"{self.axis} = {self.at:g}"


@dataclass(frozen=True)
class Problem:
    """A differential equation with its conditions; a subclass is a problem, its fields settings.

    Without a coordinate of space it is an ordinary differential equation. All derivatives up to
    the fourth may be used. Numbers are dimensionless unless the subclass says otherwise.
    """

    region: ClassVar[Mapping[str, tuple[float, float]]]
    """Lower and upper end of each coordinate, in the order `equations` takes them."""
    unknowns: ClassVar[Sequence[str]] = ("u",)
    """Names of the unknowns, in the order `equations` takes them."""
    periodic: ClassVar[Sequence[str]] = ()
    """Coordinates whose two ends are the same point: met exactly, by construction."""
    symmetry: ClassVar[Mapping[str, Literal["odd", "even"]]] = {}
    """Coordinates in which every unknown is odd or even about zero: met exactly, by construction.

    Points are then drawn in the upper half only.
    """
    activation: ClassVar[Literal["tanh", "sin"]] = "tanh"
    """Of the hidden layers: tanh for fronts and layers, sin for what oscillates."""
    rates: ClassVar[Mapping[str, float]] = {}
    """Wave numbers of coordinates, where those found by scales.py are not right."""
    magnitudes: ClassVar[Mapping[str, float]] = {}
    """Typical sizes of unknowns that are not of order one: the network's unit for them."""
    slabs: ClassVar[int] = 1
    """Consecutive intervals of the last coordinate, each solved by a network of its own."""
    stiff: ClassVar[bool] = False
    """Whether each residual is measured against the largest term of its equation at that point,
    not over the region: for terms whose sizes differ by orders of magnitude from place to place.
    """
    jumps: ClassVar[bool] = False
    """Whether conditions may contradict each other where they meet, as in a driven cavity."""

    def equations(self, *args: Any, **kwargs: Any) -> Any:
        """What must vanish inside the region: one expression, or one per unknown.

        Takes the unknowns, then the coordinates.
        """
        raise ProblemError(f"{type(self).__name__} has no equations: define `equations`")

    def conditions(self) -> Sequence[Condition]:
        """Initial and boundary conditions; none at the ends of a periodic coordinate."""
        return []

    def layers(self) -> Mapping[str, tuple[float, float]]:
        """Thin layers known beforehand: coordinate to (position, width).

        The network then also sees the coordinate stretched around that position, and points are
        drawn evenly in the stretched coordinate too.
        """
        return {}

    def lift(self, *args: Any, **kwargs: Any) -> Any:
        """(offset, factor) of the coordinates: the solution is offset + factor times the network.

        One pair, or one per unknown. What the lift meets need not stand in `conditions`. Beware
        of an offset with a kink: u(0, x) + t N keeps the kink of the initial values for all time.
        """
        return None

    def network(self) -> torch.nn.Module | None:
        """A network of one's own: coordinates (points, coordinates) to (points, unknowns).

        None is the perceptron of network.py. Any other module is differentiated by torch.func,
        which takes many times as long. It sees the coordinates as they are, in the region's order;
        scaling them, `periodic`, `symmetry` and `layers` are its own business, and settings such
        as `hidden` or `harmonics` do not reach it. A new module is to be made at each call: torch's
        random numbers are those of the run's seed.
        """
        return None

    def exact(self, *args: Any, **kwargs: Any) -> Any:
        """The solution if it is known, from the coordinates; one tensor, or one per unknown."""
        return None

    def reference(self) -> Reference | None:
        """What the solution is measured against: `exact` on a grid unless a subclass has more."""
        probe = [torch.tensor([low], dtype=torch.float64) for low, _ in self.region.values()]
        if self.exact(*probe) is None:
            return None
        return on_grid(self.exact, self.region, self.unknowns)


class Field:
    """An unknown at the points: used in arithmetic and torch functions it is its value u.

    An attribute is a derivative: `u.x`, `u.xxt`, in any order of the letters.
    """

    def __init__(
        self, name: str, derivative: Callable[[Index], Tensor], coordinates: Sequence[str]
    ):
        self._name, self._derivative, self._coordinates = name, derivative, coordinates

    def __getattr__(self, derivative: str) -> Tensor:
        if derivative.startswith("__"):
            raise AttributeError(derivative)
        return self._derivative(parse(self._name, derivative, self._coordinates))

    @property
    def value(self) -> Float[Tensor, " points"]:
        """The unknown itself."""
        return self._derivative((0,) * len(self._coordinates))

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        plain, named = tree_map_only(Field, lambda field: field.value, (args, kwargs or {}))
        return func(*plain, **named)

    def __add__(self, other: Any) -> Tensor:
        return self.value + _plain(other)

    def __radd__(self, other: Any) -> Tensor:
        return _plain(other) + self.value

    def __sub__(self, other: Any) -> Tensor:
        return self.value - _plain(other)

    def __rsub__(self, other: Any) -> Tensor:
        return _plain(other) - self.value

    def __mul__(self, other: Any) -> Tensor:
        return self.value * _plain(other)

    def __rmul__(self, other: Any) -> Tensor:
        return _plain(other) * self.value

    def __truediv__(self, other: Any) -> Tensor:
        return self.value / _plain(other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _plain(other) / self.value

    def __pow__(self, other: Any) -> Tensor:
        return self.value ** _plain(other)

    def __rpow__(self, other: Any) -> Tensor:
        return _plain(other) ** self.value

    def __neg__(self) -> Tensor:
        return -self.value

    def __abs__(self) -> Tensor:
        return self.value.abs()

    def __lt__(self, other: Any) -> Tensor:
        return self.value < _plain(other)

    def __le__(self, other: Any) -> Tensor:
        return self.value <= _plain(other)

    def __gt__(self, other: Any) -> Tensor:
        return self.value > _plain(other)

    def __ge__(self, other: Any) -> Tensor:
        return self.value >= _plain(other)


def _plain(other: Any) -> Any:
    return other.value if isinstance(other, Field) else other


def parse(unknown: str, derivative: str, coordinates: Sequence[str]) -> Index:
    """The multi-index of a derivative's name: `xxt` is (2, 1) for coordinates x, t."""
    counts = dict.fromkeys(coordinates, 0)
    rest = derivative
    while rest:
        # x1 and x10 may both be coordinates: the longest name that fits.
        found = max((c for c in coordinates if rest.startswith(c)), key=len, default=None)
        if found is None:
            raise ProblemError(
                f"{unknown}.{derivative} is no derivative here: the coordinates are "
                f"{', '.join(coordinates)}, and a derivative is named by them, such as "
                f"{unknown}.{coordinates[0] * 2}"
            )
        counts[found] += 1
        rest = rest.removeprefix(found)
    index = tuple(counts.values())
    if sum(index) > MOST_DERIVATIVES:
        raise ProblemError(
            f"{unknown}.{derivative} is a derivative of order {sum(index)}; at most "
            f"{MOST_DERIVATIVES} are supported: write the problem as a system of lower order"
        )
    return index


def expressions(result: Any) -> list[Tensor]:
    """What `equations` or a condition returned, as a list of tensors."""
    several = result if isinstance(result, (list, tuple)) else [result]
    return [_plain(expression) for expression in several]


def fields(problem: Problem, derivative: Callable[[int, Index], Tensor]) -> list[Field]:
    """The problem's unknowns, their derivatives answered by `derivative(unknown, index)`."""
    coordinates = list(problem.region)
    return [
        Field(name, lambda index, k=k: derivative(k, index), coordinates)
        for k, name in enumerate(problem.unknowns)
    ]


def derivatives_used(
    problem: Problem, equation: Callable[..., Any], points: Float[Tensor, "points coordinates"]
) -> tuple[list[set[Index]], list[Tensor]]:
    """The derivatives of each unknown an equation asks for, and its expressions."""
    used: list[set[Index]] = [set() for _ in problem.unknowns]

    def record(unknown: int, index: Index) -> Tensor:
        used[unknown].add(index)
        return torch.full_like(points[:, 0], 0.5)

    result = equation(*fields(problem, record), *points.unbind(1))
    return used, expressions(result)
