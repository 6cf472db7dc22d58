"""Small problems with closed forms, and solvers of them in a few steps."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from applications.pinn.language import Condition, Field, Problem
from applications.pinn.solve import Solver
from sciopt.bench import Ended

CPU = torch.device("cpu")
PI = math.pi
TINY: dict[str, Any] = {"hidden": (4, 3), "condition_points": 8, "points_per_param": 1.0}


@dataclass(frozen=True)
class Heat(Problem):
    region = {"x": (0.0, 1.0), "t": (0.0, 1.0)}

    diffusion: float = 0.1

    def equations(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t - self.diffusion * u.xx

    def conditions(self) -> list[Condition]:
        ends = [Condition("x", end, lambda u, x, t: u.value) for end in (0.0, 1.0)]
        return [Condition("t", 0.0, lambda u, x, t: u - torch.sin(PI * x)), *ends]

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(PI * x) * torch.exp(-self.diffusion * PI**2 * t)


class SlabbedHeat(Heat):
    slabs = 3


def tiny(method: Any) -> Any:
    return dataclasses.replace(method, **TINY)


def steps_of(solver: Solver, count: int) -> None:
    for _ in range(count):
        assert solver.step() is None


def ended(solver: Solver, steps: int) -> Ended:
    for _ in range(steps):
        outcome = solver.step()
        if outcome is not None:
            return outcome
    raise AssertionError(f"still going after {steps} steps")


@dataclass(frozen=True)
class Decay(Problem):
    region = {"t": (0.0, 1.0)}

    def equations(self, u: Field, t: Tensor) -> Tensor:
        return u.t + u

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, t: u - 1)]


@dataclass(frozen=True)
class Settled(Decay):
    """Nothing depends on the params, so that no method can move."""

    def lift(self, t: Tensor) -> Any:
        return 1 - t, 0 * t
