"""Rules this domain adds to sciopt's: rates of a grid, two that know the Hessian, a frozen one.

The parameter of every composition here has the shape (cells, n): a row is a descent of its own,
so what sciopt calls a neuron is a descent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Direction, Rate, Real, Scope, Signals, Slot, State, check_range

Hessian = Callable[[Float[Tensor, "cells n"]], Float[Tensor, "cells n n"]]
"""The Hessians of the rows' losses."""


@final
@dataclass(frozen=True, eq=False)
class GridRate(Rate):
    """r = the learning rate of the row: a grid of learning rates descends in lockstep.

    Exact for every rule that treats rows apart, since rates commute.
    """

    scope: ClassVar[Scope] = Scope.NEURON
    lr: Float[Tensor, " cells"] = field(metadata={"key": None})

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per row."""
        return self.lr[:, None]


@final
@dataclass(frozen=True)
class FirstGradient(Rate):
    """r = 1 / (|g₁| + eps), g₁ the first gradient: Adam's rate in its first step, then frozen."""

    scope: ClassVar[Scope] = Scope.ELEMENT
    eps: Real = 1e-8

    def __post_init__(self) -> None:
        check_range("eps", self.eps)

    def slots(self) -> Mapping[str, Slot]:
        """The first gradient's size, None before there was one."""
        return {"first": Slot(Scope.ELEMENT, None)}

    def observe(self, signals: Signals, state: State) -> None:
        """Remember the first gradient only."""
        if state["first"] is None:
            state["first"] = signals.grad.abs()

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per element."""
        return 1 / (state["first"] + self.eps)


@final
@dataclass(frozen=True, eq=False)
class InverseCurvature(Rate):
    """r = 1 / |H[i, i]|, the inverse of the Hessian's diagonal: Jacobi preconditioning."""

    scope: ClassVar[Scope] = Scope.ELEMENT
    hessian: Hessian = field(metadata={"key": None})

    def slots(self) -> Mapping[str, Slot]:
        """The diagonal where the last gradient was."""
        return {"curvature": Slot(Scope.ELEMENT)}

    def observe(self, signals: Signals, state: State) -> None:
        """Take the diagonal at the present point."""
        diagonal = self.hessian(signals.param).diagonal(dim1=-2, dim2=-1)
        state["curvature"].copy_(diagonal.abs())

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per element."""
        return 1 / state["curvature"]


@final
@dataclass(frozen=True, eq=False)
class NewtonDirection(Direction):
    """d = H⁻¹ g: to the minimum of a quadratic in one step, and to saddles as well as minima.

    Not a number where the Hessian is singular.
    """

    elementwise: ClassVar[bool] = False
    hessian: Hessian = field(metadata={"key": None})

    def direction(
        self,
        vector: Float[Tensor, "cells n"],
        signals: Signals,
        state: State,  # noqa: ARG002
    ) -> Float[Tensor, "cells n"]:
        """One linear system per row."""
        solution, info = torch.linalg.solve_ex(self.hessian(signals.param), vector)
        return solution.masked_fill(info[:, None] != 0, torch.nan)
