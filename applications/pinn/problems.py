"""The problems: an equation, its conditions, the points and the network that every method gets.

A problem is a frozen dataclass of settings with the methods `initial`, `residual`, `lift` and
`reference`, and the bounds of its region: space is `left` to `right`, time is 0 to `end_time`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.network import ACTIVATIONS

if TYPE_CHECKING:
    from applications.pinn.reference import Reference

STORED_FILE = Path(__file__).parents[2] / "data" / "burgers_viscosity_0.01_over_pi.npz"


def derivatives(
    u: Float[Tensor, " points"], *coordinates: Float[Tensor, " points"]
) -> tuple[Float[Tensor, " points"], ...]:
    """∂u/∂c for each coordinate c, point by point, differentiable again.

    u at one point must depend on no other point; then the gradient of the sum holds the
    derivatives.
    """
    return torch.autograd.grad(u, coordinates, torch.ones_like(u), create_graph=True)


@dataclass(frozen=True)
class Burgers:
    """Viscous Burgers equation: u_t + u u_x = viscosity u_xx, a sine that steepens to a layer.

    On x in [-1, 1] and t in [0, 1] with u(0, x) = -sin(πx) and u(t, ±1) = 0. All quantities are
    dimensionless. The layer at x = 0 has a width of about 4 viscosity. One step is one iteration
    of the method.
    """

    left: ClassVar[float] = -1.0
    right: ClassVar[float] = 1.0
    end_time: ClassVar[float] = 1.0

    viscosity: float = 0.01 / math.pi
    """Viscosity; a reference solution exists between 0.001 and 0.5."""
    conditions: Literal["penalty", "lift"] = "penalty"
    """How the network meets the initial and boundary values: by a loss term or by construction."""
    collocation_points: int = 1000
    """Points in the region where the residual is trained, a Latin hypercube."""
    condition_points: int = 100
    """Points of the penalty: half at t = 0, a quarter at each end of the interval."""
    hidden: tuple[int, ...] = (20, 20, 20)
    """Units of each hidden layer."""
    activation: Literal["tanh", "sin"] = "tanh"
    """Activation of the hidden layers."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.viscosity) and self.viscosity > 0):
            raise ValueError(f"viscosity is {self.viscosity}; give a positive number")
        if self.conditions not in ("penalty", "lift"):
            raise ValueError(f"conditions is {self.conditions!r}; give 'penalty' or 'lift'")
        if self.collocation_points < 10:
            raise ValueError(
                f"collocation_points is {self.collocation_points}; give at least 10: fewer do "
                "not determine a solution"
            )
        if self.condition_points < 4:
            raise ValueError(
                f"condition_points is {self.condition_points}; give at least 4: two at t = 0 and "
                "one at each end of the interval"
            )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}; give one positive unit count per layer")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}; give one of {', '.join(ACTIVATIONS)}"
            )

    def initial(self, x: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
        """u(0, x) = -sin(πx), which is also right at both ends at all times."""
        return -torch.sin(math.pi * x)

    def residual(
        self, x: Float[Tensor, " points"], t: Float[Tensor, " points"], u: Float[Tensor, " points"]
    ) -> Float[Tensor, " points"]:
        """u_t + u u_x - viscosity u_xx, for u computed differentiably from x and t."""
        u_x, u_t = derivatives(u, x, t)
        (u_xx,) = derivatives(u_x, x)
        return u_t + u * u_x - self.viscosity * u_xx

    def lift(
        self,
        x: Float[Tensor, " points"],
        t: Float[Tensor, " points"],
        output: Float[Tensor, " points"],
    ) -> Float[Tensor, " points"]:
        """-sin(πx) + t (1 - x²) output: meets every condition whatever the output."""
        return self.initial(x) + t * (1 - x * x) * output

    def reference(self) -> Reference:
        """The solution to measure against."""
        # Here, because `python -m applications.pinn.reference` warns if the package imports it.
        from applications.pinn.reference import reference_solution

        return reference_solution(self.viscosity)


PROBLEMS: Mapping[str, Burgers] = {
    "burgers": Burgers(),
    "burgers-lift": Burgers(conditions="lift"),
}
