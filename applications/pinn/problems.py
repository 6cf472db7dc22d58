"""The suite: stiff, oscillating, multi-scale and layered problems of the literature.

Each is a `Problem` as `language.py` describes it. All quantities are dimensionless. One step is
one iteration of the method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from applications.pinn.language import Condition, Field, Problem
from applications.pinn.reference import Reference, burgers, stored

PI = math.pi


@dataclass(frozen=True)
class Burgers(Problem):
    """Viscous Burgers equation u_t + u u_x = viscosity u_xx: a sine steepens to a layer.

    The layer at x = 0 is about 4 viscosity wide. Source: Basdevant et al. (1986).
    """

    region = {"x": (-1.0, 1.0), "t": (0.0, 1.0)}
    periodic = ("x",)
    symmetry = {"x": "odd"}

    viscosity: float = 0.01 / PI
    """Viscosity; a reference solution exists between 0.001 and 0.5."""

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t + u * u.x - self.viscosity * u.xx

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u + torch.sin(PI * x))]

    def reference(self) -> Reference | None:
        return burgers(self.viscosity)


@dataclass(frozen=True)
class PlainBurgers(Burgers):
    """Viscous Burgers equation as most people pose it: u(t, ±1) = 0 as a condition among others.

    Nothing is met by construction. Source: Raissi et al. (2019).
    """

    periodic = ()
    symmetry = {}

    def conditions(self) -> Sequence[Condition]:
        ends = [Condition("x", end, lambda u, x, t: u.value) for end in (-1.0, 1.0)]
        return [*super().conditions(), *ends]


@dataclass(frozen=True)
class AllenCahn(Problem):
    """Allen-Cahn equation u_t = diffusion u_xx - 5u³ + 5u: fronts sharpen and move.

    Its initial values x² cos(πx) have a kink at x = ±1. Source: Raissi et al. (2019).
    No network has a kink, so it is added: as diffusion smooths it, and as the reaction's slope
    5 - 15u² = -10 at u = -1 damps it.
    """

    region = {"x": (-1.0, 1.0), "t": (0.0, 1.0)}
    periodic = ("x",)
    symmetry = {"x": "even"}

    diffusion: float = 1e-4

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t - self.diffusion * u.xx + 5 * u**3 - 5 * u

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - x**2 * torch.cos(PI * x))]

    def lift(self, x: Tensor, t: Tensor) -> tuple[Tensor, float]:
        """The part of the solution that begins as 2 |distance to ±1|, and a factor of one."""
        width = torch.sqrt(4 * self.diffusion * (t + 1e-9))
        distance = 2 / PI * torch.cos(PI * x / 2)
        bend = width / math.sqrt(PI) * torch.exp(-((distance / width) ** 2))
        return 2 * torch.exp(-10 * t) * (bend + distance * torch.erf(distance / width)), 1.0

    def reference(self) -> Reference | None:
        return stored("allen_cahn") if self.diffusion == 1e-4 else None


@dataclass(frozen=True)
class KortewegDeVries(Problem):
    """Korteweg-de Vries equation u_t + u u_x + dispersion u_xxx = 0: a wave breaks into solitons.

    Source: Zabusky & Kruskal (1965), dispersion 0.022².
    """

    region = {"x": (-1.0, 1.0), "t": (0.0, 1.0)}
    periodic = ("x",)
    slabs = 4

    dispersion: float = 0.022**2

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t + u * u.x + self.dispersion * u.xxx

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - torch.cos(PI * x))]

    def reference(self) -> Reference | None:
        return stored("kdv") if self.dispersion == 0.022**2 else None


@dataclass(frozen=True)
class KuramotoSivashinsky(Problem):
    """Kuramoto-Sivashinsky equation u_t + α u u_x + β u_xx + γ u_xxxx = 0: chaos.

    α = 100/16, β = 100/16², γ = 100/16⁴ as in Wang et al. (2022), "Respecting causality".
    """

    region = {"x": (0.0, 2 * PI), "t": (0.0, 1.0)}
    periodic = ("x",)
    slabs = 10

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t + 100 / 16 * u * u.x + 100 / 16**2 * u.xx + 100 / 16**4 * u.xxxx

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - torch.cos(x) * (1 + torch.sin(x)))]

    def reference(self) -> Reference | None:
        return stored("kuramoto_sivashinsky")


@dataclass(frozen=True)
class Convection(Problem):
    """Convection u_t + speed u_x = 0 of a sine. Source: Krishnapriyan et al. (2021)."""

    region = {"x": (0.0, 2 * PI), "t": (0.0, 1.0)}
    periodic = ("x",)
    activation = "sin"

    speed: float = 30.0

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t + self.speed * u.x

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - torch.sin(x))]

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x - self.speed * t)


@dataclass(frozen=True)
class Reaction(Problem):
    """Logistic reaction u_t = rate u (1 - u) of a bell. Source: Krishnapriyan et al. (2021)."""

    region = {"x": (0.0, 2 * PI), "t": (0.0, 1.0)}

    rate: float = 5.0

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t - self.rate * u * (1 - u)

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - bell(x))]

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        grown = bell(x) * torch.exp(self.rate * t)
        return grown / (grown + 1 - bell(x))


def bell(x: Tensor) -> Tensor:
    """exp(-(x - π)² / (2 (π/4)²))."""
    return torch.exp(-8 * ((x - PI) / PI) ** 2)


@dataclass(frozen=True)
class ReactionDiffusion(Problem):
    """u_t = diffusion u_xx + rate u (1 - u) of a bell. Source: Krishnapriyan et al. (2021)."""

    region = {"x": (0.0, 2 * PI), "t": (0.0, 1.0)}
    periodic = ("x",)

    diffusion: float = 5.0
    rate: float = 5.0

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t - self.diffusion * u.xx - self.rate * u * (1 - u)

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda u, x, t: u - bell(x))]

    def reference(self) -> Reference | None:
        return stored("reaction_diffusion") if (self.diffusion, self.rate) == (5.0, 5.0) else None


@dataclass(frozen=True)
class Wave(Problem):
    """Wave equation u_tt = speed² u_xx with two modes. Source: Wang et al. (2021)."""

    region = {"x": (0.0, 1.0), "t": (0.0, 1.0)}
    activation = "sin"

    speed: float = 2.0

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.tt - self.speed**2 * u.xx

    def conditions(self) -> Sequence[Condition]:
        return [
            Condition(
                "t", 0.0, lambda u, x, t: u - torch.sin(PI * x) - 0.5 * torch.sin(4 * PI * x)
            ),
            Condition("t", 0.0, lambda u, x, t: u.t),
            Condition("x", 0.0, lambda u, x, t: u.value),
            Condition("x", 1.0, lambda u, x, t: u.value),
        ]

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        slow = torch.sin(PI * x) * torch.cos(self.speed * PI * t)
        return slow + 0.5 * torch.sin(4 * PI * x) * torch.cos(4 * self.speed * PI * t)


@dataclass(frozen=True)
class Helmholtz(Problem):
    """u_xx + u_yy + u = q on a square, solved by sin(πx) sin(4πy). Source: Wang et al. (2021)."""

    region = {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}
    activation = "sin"

    def equations(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        return u.xx + u.yy + u - (1 - 17 * PI**2) * self.exact(x, y)

    def conditions(self) -> Sequence[Condition]:
        return walls(self)

    def exact(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sin(PI * x) * torch.sin(4 * PI * y)


def walls(problem: Problem) -> list[Condition]:
    """The exact solution at both ends of every coordinate."""

    def misfit(u: Field, *coordinates: Tensor) -> Tensor:
        return u - problem.exact(*coordinates)

    return [Condition(axis, end, misfit) for axis, ends in problem.region.items() for end in ends]


@dataclass(frozen=True)
class MultiscalePoisson(Problem):
    """-(u_xx + u_yy) = f on the unit square, solved by a mean of sin(wπx) sin(wπy).

    Source: Dolean et al. (2024), "Multilevel domain decomposition-based architectures for
    physics-informed neural networks", section 4.1.
    """

    region = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    activation = "sin"

    frequencies: tuple[float, ...] = (4.0, 8.0, 16.0)

    def modes(self, x: Tensor, y: Tensor) -> list[tuple[float, Tensor]]:
        """Each frequency with its mode, the mean of which is the solution."""
        share = 1 / len(self.frequencies)
        return [
            (w, share * torch.sin(w * PI * x) * torch.sin(w * PI * y)) for w in self.frequencies
        ]

    def equations(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        return u.xx + u.yy + sum(2 * (w * PI) ** 2 * mode for w, mode in self.modes(x, y))

    def conditions(self) -> Sequence[Condition]:
        return walls(self)

    def exact(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([mode for _, mode in self.modes(x, y)]).sum(0)


@dataclass(frozen=True)
class Poisson5D(Problem):
    """Δu = -π² Σ cos(πx_i) on the unit cube of 5 dimensions. Source: Müller & Zeinhofer (2023)."""

    region = {f"x{k}": (0.0, 1.0) for k in range(1, 6)}

    def equations(self, u: Field, *x: Tensor) -> Tensor:
        laplacian = u.x1x1 + u.x2x2 + u.x3x3 + u.x4x4 + u.x5x5
        return laplacian + PI**2 * self.exact(*x)

    def conditions(self) -> Sequence[Condition]:
        return walls(self)

    def exact(self, *x: Tensor) -> Tensor:
        return torch.stack([torch.cos(PI * c) for c in x]).sum(0)


@dataclass(frozen=True)
class BoundaryLayer(Problem):
    """Convection and diffusion -width u_xx + u_x = 1 with u(0) = u(1) = 0: a layer at x = 1."""

    region = {"x": (0.0, 1.0)}

    width: float = 1e-2

    def equations(self, u: Field, x: Tensor) -> Tensor:
        return u.x - self.width * u.xx - 1

    def conditions(self) -> Sequence[Condition]:
        return [Condition("x", end, lambda u, x: u.value) for end in (0.0, 1.0)]

    def layers(self) -> Mapping[str, tuple[float, float]]:
        return {"x": (1.0, self.width)}

    def exact(self, x: Tensor) -> Tensor:
        rise = torch.exp((x - 1) / self.width) - math.exp(-1 / self.width)
        return x - rise / -math.expm1(-1 / self.width)


@dataclass(frozen=True)
class Robertson(Problem):
    """Robertson's chemical kinetics: rates from 0.04 to 3·10⁷. Source: Hairer & Wanner (1996)."""

    region = {"t": (0.0, 1e5)}
    unknowns = ("y1", "y2", "y3")
    magnitudes = {"y2": 3e-5}
    stiff = True

    def equations(self, y1: Field, y2: Field, y3: Field, t: Tensor) -> list[Tensor]:
        slow, fast, fastest = 0.04 * y1, 1e4 * y2 * y3, 3e7 * y2**2
        return [y1.t + slow - fast, y2.t - slow + fast + fastest, y3.t - fastest]

    def conditions(self) -> Sequence[Condition]:
        return [Condition("t", 0.0, lambda y1, y2, y3, t: [y1 - 1, y2.value, y3.value])]

    def layers(self) -> Mapping[str, tuple[float, float]]:
        return {"t": (0.0, 1e-4)}

    def reference(self) -> Reference | None:
        return stored("robertson")


@dataclass(frozen=True)
class VanDerPol(Problem):
    """Van der Pol's oscillator x'' = stiffness (1 - x²) x' - x along its arc: drift and jumps.

    Time (in units of 2000), x and y = x'/stiffness + x³/3 - x (Liénard 1928) are unknowns of the
    coordinate s: where time slows down, it is the length of their curve, so that jumps of a
    millionth of a period take as long as they are high. The time that passes per length is
    sigmoid(pace), which cannot run back and rises by e^8 per length at most: where a jump ends, the
    curve has a corner of size 10⁻⁶, which no network finds in a coordinate that does not wait.
    Source: Hairer & Wanner (1996), section IV.10.
    """

    region = {"s": (0.0, 12.0)}
    unknowns = ("time", "x", "y", "pace")
    rates = {"s": 4.0}
    slabs = 48

    stiffness: float = 1000.0

    def equations(self, time: Field, x: Field, y: Field, pace: Field, s: Tensor) -> list[Tensor]:
        passed = torch.sigmoid(pace.value)
        # Divided by what keeps it of order one on the slow curve as in the jumps.
        push = 2000 * self.stiffness * passed
        rise = (pace.s + torch.sqrt(pace.s**2 + 1)) / 16
        return [
            time.s - passed,
            (x.s - push * (y - x**3 / 3 + x)) / (1 + push),
            y.s + 2000 / self.stiffness * passed * x,
            passed**2 + x.s**2 + y.s**2 + rise - 1,
        ]

    def conditions(self) -> Sequence[Condition]:
        # At rest in x on the slow curve, where `rise` is 1/16.
        start = math.sqrt(15 / 16 / (1 + (4000 / self.stiffness) ** 2))
        logit = math.log(start / (1 - start))
        return [
            Condition(
                "s",
                0.0,
                lambda time, x, y, pace, s: [time.value, x - 2, y - 2 / 3, pace - logit],
            )
        ]

    def reference(self) -> Reference | None:
        return stored("van_der_pol_arc") if self.stiffness == 1000.0 else None


@dataclass(frozen=True)
class GrayScott(Problem):
    """Gray-Scott reaction and diffusion of two substances: a pulse splits in two.

    Feed 0.04, kill 0.06, diffusion 2·10⁻⁴ and 10⁻⁴. Source: Pearson (1993).
    """

    region = {"x": (-1.0, 1.0), "t": (0.0, 500.0)}
    unknowns = ("u", "v")
    periodic = ("x",)
    symmetry = {"x": "even"}
    slabs = 10

    def equations(self, u: Field, v: Field, x: Tensor, t: Tensor) -> list[Tensor]:
        reaction = u * v**2
        return [
            u.t - 2e-4 * u.xx + reaction - 0.04 * (1 - u),
            v.t - 1e-4 * v.xx - reaction + 0.1 * v,
        ]

    def conditions(self) -> Sequence[Condition]:
        def misfits(u: Field, v: Field, x: Tensor, t: Tensor) -> list[Tensor]:
            pulse = torch.exp(10 * (torch.cos(PI * x) - 1))
            return [u - 1 + pulse / 2, v - pulse / 4]

        return [Condition("t", 0.0, misfits)]

    def reference(self) -> Reference | None:
        return stored("gray_scott")


PROBLEMS: Mapping[str, Problem] = {
    "burgers": Burgers(),
    "burgers-0.01": Burgers(viscosity=0.01),
    "burgers-plain": PlainBurgers(),
    "allen-cahn": AllenCahn(),
    "kdv": KortewegDeVries(),
    "kuramoto-sivashinsky": KuramotoSivashinsky(),
    "convection": Convection(),
    "convection-50": Convection(speed=50.0),
    "reaction": Reaction(),
    "reaction-diffusion": ReactionDiffusion(),
    "wave": Wave(),
    "helmholtz": Helmholtz(),
    "multiscale-poisson": MultiscalePoisson(),
    "poisson-5d": Poisson5D(),
    "boundary-layer": BoundaryLayer(),
    "boundary-layer-1e-3": BoundaryLayer(width=1e-3),
    "boundary-layer-1e-4": BoundaryLayer(width=1e-4),
    "robertson": Robertson(),
    "van-der-pol": VanDerPol(),
    "gray-scott": GrayScott(),
}
