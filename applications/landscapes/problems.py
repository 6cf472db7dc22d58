"""Landscapes with known minima, and sequences of linear losses with known regrets.

A point has the shape (variants, rates, n): a problem may be a sweep, of condition numbers say,
whose variants descend side by side, each from every learning rate of the method's grid. Losses
take any leading shape that broadcasts against (variants, 1), so that a problem without a sweep
can be evaluated on a mesh (rows, columns, n) as it stands. One step is one gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, pi
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import check_range


def check_each(name: str, values: Sequence[float], low: float = -inf, least: int = 1) -> None:
    """Raise ValueError unless there are `least` values or more, all finite and at least `low`."""
    if len(values) < least or not all(isfinite(value) and value >= low for value in values):
        count, bound = ("one", "two")[least - 1], f" >= {low:g}" if low > -inf else ""
        raise ValueError(f"got {name} = {values}; use {count} or more finite numbers{bound}")


@dataclass(frozen=True)
class Problem(ABC):
    """Something to descend; what it does not know of itself it leaves as it is here."""

    box: ClassVar[tuple[float, float] | None] = None
    """Bounds of every coordinate, which a projection keeps."""
    has_curvature: ClassVar[bool] = True
    """Whether there is a Hessian to precondition with."""

    @property
    def variants(self) -> int:
        """How many problems descend side by side."""
        return 1

    @property
    def burn_in(self) -> int:
        """Moves are averaged after so many steps."""
        return 0

    @abstractmethod
    def start_point(self) -> Float[Tensor, " n"]:
        """Where all descents begin."""

    def minima(self) -> Float[Tensor, "minima n"]:
        """All global minima; none for losses that have none."""
        return self.start_point()[None][:0]

    @abstractmethod
    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:
        """The loss without noise that is met in this step, counted from 1."""

    def absent(self, step: int) -> bool:  # noqa: ARG002
        """Whether the method is given no gradient in this step, which is not one of zero."""
        return False

    def noise(
        self,
        x: Float[Tensor, "variants rates n"],  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, "variants draws n"] | None:
        """What is added to the gradient; None without noise. All rates meet the same luck.

        `draws` is 1, or the number of rates where the noise depends on the position.
        """
        return None


@dataclass(frozen=True)
class Landscape(Problem):
    """One loss for all steps, with known minima of value 0."""

    least_coordinates: ClassVar[Literal[1, 2]] = 1
    """How many coordinates there must be."""
    start: tuple[float, ...] = (1.0, 1.0)
    """Where all descents begin."""
    tolerance: float = 1e-3
    """A descent has settled while its distance to a minimum is at most this part of the start's."""

    def __post_init__(self) -> None:
        check_range("tolerance", self.tolerance)
        check_each("start", self.start, least=self.least_coordinates)

    def start_point(self) -> Float[Tensor, " n"]:
        """As set."""
        return torch.tensor(self.start, dtype=torch.float64)

    def minima(self) -> Float[Tensor, "minima n"]:
        """The origin."""
        return torch.zeros(1, len(self.start), dtype=torch.float64)


@dataclass(frozen=True)
class Quadratic(Landscape):
    """x·Hx/2 with eigenvalues evenly spaced in the logarithm from 1/condition to 1."""

    condition: tuple[float, ...] = (10.0,)
    """Condition numbers, one variant each."""
    sharpness: float = 1.0
    """The largest eigenvalue; all others scale with it."""
    rotated: bool = False
    """Whether the eigenvectors are turned off the axes, by the same random rotation always."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each("condition", self.condition, 1)
        check_range("sharpness", self.sharpness)

    @property
    def variants(self) -> int:
        """One for each condition number."""
        return len(self.condition)

    def eigenvalues(self) -> Float[Tensor, "variants n"]:
        """Ascending."""
        fall = torch.linspace(1, 0, len(self.start), dtype=torch.float64)
        return self.sharpness * torch.tensor(self.condition, dtype=torch.float64)[:, None] ** -fall

    def eigenvectors(self) -> Float[Tensor, "n n"]:
        """In columns: the axes, or orthogonal ones in random directions."""
        n = len(self.start)
        if not self.rotated:
            return torch.eye(n, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]

    def start_point(self) -> Float[Tensor, " n"]:
        """`start` counts along the eigenvectors, so that a rotation turns the whole problem."""
        return self.eigenvectors() @ super().start_point()

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Half the sum of eigenvalue times squared coordinate along the eigenvector."""
        along = x @ self._eigenvectors.to(x) if self.rotated else x
        return (self._eigenvalues.to(x) * along.square()).sum(-1) / 2

    @cached_property
    def _eigenvectors(self) -> Float[Tensor, "n n"]:
        return self.eigenvectors()

    @cached_property
    def _eigenvalues(self) -> Float[Tensor, "variants 1 n"]:
        return self.eigenvalues()[:, None]


@dataclass(frozen=True)
class NoisyQuadratic(Quadratic):
    """A quadratic with gradient noise of covariance noise_scale²·I, or noise_scale²·H.

    Where the loss is the negative log-likelihood of a model that fits, the covariance of its
    per-sample gradients, the Fisher information, is the Hessian at the minimum.
    """

    start: tuple[float, ...] = (1.0,) * 16
    condition: tuple[float, ...] = (1e4,)
    covariance: Literal["isotropic", "hessian"] = "hessian"
    """The shape of the noise."""
    noise_scale: float = 0.1
    """Its size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("noise_scale", self.noise_scale)

    def noise(
        self,
        x: Float[Tensor, "variants rates n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "variants 1 n"]:
        """One draw for all."""
        normal = torch.randn(x.shape[-1], generator=generator, dtype=torch.float64).to(x)
        if self.covariance == "isotropic":
            return (self.noise_scale * normal).expand(x.shape[0], 1, -1)
        along = normal * self.eigenvalues().to(x).sqrt()
        return self.noise_scale * (along @ self.eigenvectors().to(x).T)[:, None]

    def hessian(self) -> Float[Tensor, "variants n n"]:
        """Eigenvectors · diag(eigenvalues) · eigenvectors'."""
        vectors = self.eigenvectors()
        return (vectors * self.eigenvalues()[:, None]) @ vectors.T


@dataclass(frozen=True)
class PlateauBasin(Landscape):
    """sharpness·w²/2 · |x|²/(w² + |x|²): a plateau around a narrow, sharp basin at the origin.

    The slope at a distance r >> w is sharpness·w⁴/r³, the curvature in the basin is `sharpness`.
    """

    start: tuple[float, ...] = (7.3, 6.1)
    sharpness: float = 1e4
    """Curvature at the minimum."""
    width: float = 0.1
    """The basin's radius w."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sharpness", self.sharpness)
        check_range("width", self.width)

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Half the sharpness times w² at most."""
        square = x.square().sum(-1)
        return self.sharpness * self.width**2 / 2 * square / (self.width**2 + square)


@dataclass(frozen=True)
class Rosenbrock(Landscape):
    """Sum of 100 (x' - x²)² + (1 - x)², x' the coordinate after x: a curved valley to all ones."""

    least_coordinates: ClassVar[Literal[1, 2]] = 2
    start: tuple[float, ...] = (-1.5, 2.0)

    def minima(self) -> Float[Tensor, "minima n"]:
        """All ones."""
        return torch.ones(1, len(self.start), dtype=torch.float64)

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Rosenbrock 1960, chained in n dimensions."""
        here, after = x[..., :-1], x[..., 1:]
        return (100 * (after - here.square()).square() + (1 - here).square()).sum(-1)


@dataclass(frozen=True)
class Himmelblau(Landscape):
    """(x² + y - 11)² + (x + y² - 7)²: four equal minima."""

    start: tuple[float, float] = (0.0, 0.0)

    def minima(self) -> Float[Tensor, "minima n"]:
        """(3, 2) and three roots of a polynomial."""
        points = [
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ]
        return torch.tensor(points, dtype=torch.float64)

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Himmelblau 1972."""
        x, y = x.unbind(-1)
        return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


@dataclass(frozen=True)
class Beale(Landscape):
    """(1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²: steep corners, flat between."""

    start: tuple[float, float] = (1.0, 1.5)

    def minima(self) -> Float[Tensor, "minima n"]:
        """(3, 1/2)."""
        return torch.tensor([(3.0, 0.5)], dtype=torch.float64)

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Beale 1958."""
        x, y = x.unbind(-1)
        return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


@dataclass(frozen=True)
class Saddle(Landscape):
    """(x² - 1)²/4 + |y|²/2: minima at (-1, 0) and (1, 0), a saddle between them."""

    start: tuple[float, ...] = (1e-3, 1.0)

    def minima(self) -> Float[Tensor, "minima n"]:
        """Left and right of the saddle."""
        points = torch.zeros(2, len(self.start), dtype=torch.float64)
        points[:, 0] = torch.tensor([-1.0, 1.0])
        return points

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Curvatures -1 and 1 at the saddle, 2 and 1 at the minima."""
        return (x[..., 0].square() - 1).square() / 4 + x[..., 1:].square().sum(-1) / 2


@dataclass(frozen=True)
class Rastrigin(Landscape):
    """Sum of x² + 10 (1 - cos 2πx): a bowl full of local minima about 1 apart."""

    start: tuple[float, ...] = (2.3, -1.8)

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:  # noqa: ARG002
        """Rastrigin 1974."""
        return (x.square() + 10 * (1 - (2 * pi * x).cos())).sum(-1)


@dataclass(frozen=True)
class LinearLosses(Problem):
    """A loss slope·x in each step: the method meets gradients that no position changes."""

    has_curvature: ClassVar[bool] = False

    def start_point(self) -> Float[Tensor, " n"]:
        """The origin of a line."""
        return torch.zeros(1, dtype=torch.float64)

    @abstractmethod
    def slope(self, step: int) -> Float[Tensor, "#variants 1 #n"]:
        """The gradient met in this step."""

    def loss(self, x: Float[Tensor, "*batch n"], step: int) -> Float[Tensor, "*batch"]:
        """slope·x."""
        return (self.slope(step).to(x) * x).sum(-1)


@dataclass(frozen=True)
class Slopes(LinearLosses):
    """Constant slopes, one per coordinate, from some step on scaled by a factor."""

    slopes: tuple[float, ...] = tuple((-1) ** k * 10 ** (k / 4) for k in range(-24, 25))
    """The gradient; of either sign and over twelve decades if not told otherwise."""
    factor: float = 1.0
    """Its later scale."""
    factor_after: int = 0
    """The last step before that."""

    def __post_init__(self) -> None:
        check_each("slopes", self.slopes)

    def start_point(self) -> Float[Tensor, " n"]:
        """The origin."""
        return torch.zeros(len(self.slopes), dtype=torch.float64)

    def slope(self, step: int) -> Float[Tensor, "#variants 1 #n"]:
        """The slopes, scaled once their time has come."""
        slopes = torch.tensor([[self.slopes]], dtype=torch.float64)
        return slopes if step <= self.factor_after else slopes * self.factor


@dataclass(frozen=True)
class Dormant(LinearLosses):
    """No gradient for some steps, then a slope, once or for good."""

    dormant_steps: tuple[int, ...] = (0, 9, 99, 999)
    """Steps without gradient, one variant each."""
    height: float = 3.7
    """The slope that wakes the parameter."""
    lasting: bool = True
    """Whether the slope lasts; otherwise the gradient is zero again after one step."""
    skipped: bool = False
    """Whether a dormant parameter has no gradient (None in torch) rather than one of zero."""

    def __post_init__(self) -> None:
        check_each("dormant_steps", self.dormant_steps, 0)
        if self.skipped and len(self.dormant_steps) != 1:
            raise ValueError(
                f"got skipped with dormant_steps = {self.dormant_steps}; use one dormancy, as its "
                "variants are one tensor and skipped together"
            )

    @property
    def variants(self) -> int:
        """One for each dormancy."""
        return len(self.dormant_steps)

    def slope(self, step: int) -> Float[Tensor, "#variants 1 #n"]:
        """Zero while dormant."""
        awake = step - torch.tensor(self.dormant_steps, dtype=torch.float64)
        met = awake >= 1 if self.lasting else awake == 1
        return self.height * met.double()[:, None, None]

    def absent(self, step: int) -> bool:
        """While dormant, if so set."""
        return self.skipped and step <= self.dormant_steps[0]


@dataclass(frozen=True)
class Reddi(LinearLosses):
    """C·x in every third step, -x in the others, on [-1, 1]: the best fixed point is -1 if C > 2.

    Reddi, Kale & Kumar 2018, "On the convergence of Adam and beyond", section 3.
    """

    box: ClassVar[tuple[float, float] | None] = (-1.0, 1.0)
    height: float = 3.0
    """The rare slope C."""

    def start_point(self) -> Float[Tensor, " n"]:
        """The worst point."""
        return torch.ones(1, dtype=torch.float64)

    def slope(self, step: int) -> Float[Tensor, "#variants 1 #n"]:
        """C in steps 1, 4, 7, ..."""
        return torch.full((1, 1, 1), self.height if step % 3 == 1 else -1.0, dtype=torch.float64)


@dataclass(frozen=True)
class SparseLosses(LinearLosses):
    """Random slopes on [-1, 1]ⁿ, coordinate i in one step of i only, their scales 1e-2 to 1e2."""

    box: ClassVar[tuple[float, float] | None] = (-1.0, 1.0)
    sequences: int = 50
    """Independent sequences of losses, one variant each."""
    dimensions: int = 20
    """n."""

    def __post_init__(self) -> None:
        check_range("sequences", self.sequences, 1.0)
        check_range("dimensions", self.dimensions, 1.0)

    @property
    def variants(self) -> int:
        """One for each sequence."""
        return self.sequences

    def start_point(self) -> Float[Tensor, " n"]:
        """The centre."""
        return torch.zeros(self.dimensions, dtype=torch.float64)

    def slope(self, step: int) -> Float[Tensor, "#variants 1 #n"]:  # noqa: ARG002
        """Nothing but noise."""
        return torch.zeros(1, 1, 1, dtype=torch.float64)

    def noise(
        self,
        x: Float[Tensor, "variants rates n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "variants draws n"]:
        """Normal slopes, most of them absent; scale and rarity are not in the same order."""
        place = torch.arange(self.dimensions, dtype=torch.float64)
        scale = 10 ** (4 * (7 * place % self.dimensions) / max(self.dimensions - 1, 1) - 2)
        shape = (self.sequences, 1, self.dimensions)
        present = torch.rand(shape, generator=generator, dtype=torch.float64) < 1 / (1 + place)
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (present * normal * scale).to(x)


@dataclass(frozen=True)
class Noise(LinearLosses):
    """Gradients of normal noise about a mean, met by many walkers on a line."""

    deviation: tuple[float, ...] = (1e-3, 1.0, 1e3)
    """Standard deviations of the gradient, one variant each."""
    snr: float = 0.0
    """The gradient's mean over its standard deviation."""
    growth: float = 0.0
    """Decades by which the deviation grows per unit of position."""
    walkers: int = 1000
    """How many walkers, each with its own noise."""
    spread: float = 0.0
    """They start evenly over [-spread, spread]."""
    counted_after: int = 0
    """Moves are averaged after so many steps."""

    def __post_init__(self) -> None:
        check_each("deviation", self.deviation, 0)
        check_range("walkers", self.walkers, 1.0)

    @property
    def variants(self) -> int:
        """One for each deviation."""
        return len(self.deviation)

    @property
    def burn_in(self) -> int:
        """As set."""
        return self.counted_after

    def start_point(self) -> Float[Tensor, " n"]:
        """Evenly spread."""
        return torch.linspace(-self.spread, self.spread, self.walkers, dtype=torch.float64)

    def slope(self, step: int) -> Float[Tensor, "#variants 1 #n"]:  # noqa: ARG002
        """The mean gradient."""
        return self.snr * torch.tensor(self.deviation, dtype=torch.float64)[:, None, None]

    def noise(
        self,
        x: Float[Tensor, "variants rates n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "variants rates n"]:
        """The same luck for every deviation and rate."""
        normal = torch.randn(self.walkers, generator=generator, dtype=torch.float64).to(x)
        deviation = torch.tensor(self.deviation, dtype=torch.float64).to(x)[:, None, None]
        return deviation * 10 ** (self.growth * x) * normal


PROBLEMS: Mapping[str, Problem] = {
    "quadratic": Quadratic(),
    "rotated-quadratic": Quadratic(rotated=True),
    "noisy-quadratic": NoisyQuadratic(),
    "rotated-noisy-quadratic": NoisyQuadratic(rotated=True),
    "plateau-basin": PlateauBasin(),
    "rosenbrock": Rosenbrock(),
    "himmelblau": Himmelblau(),
    "beale": Beale(),
    "saddle": Saddle(),
    "rastrigin": Rastrigin(),
    "slopes": Slopes(),
    "dormant": Dormant(),
    "reddi": Reddi(),
    "sparse-losses": SparseLosses(),
    "noise": Noise(),
}
