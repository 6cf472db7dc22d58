"""How long residuals' Jacobian takes: derivatives carried by hand, torch.func and nested autograd.

The residual is that of Burgers' equation, u_t + u u_x = 0.01/pi u_xx, at points (x, t), for a
network 2-20-20-20-1. `python -m tests.benchmarks.jacobian` prints a table per precision; that all
compute the same numbers is asserted, and never a time.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from torch import Tensor
from torch.func import grad, jvp, vmap

from applications.pinn.language import Condition
from applications.pinn.memory import keep_freed_memory
from applications.pinn.methods import GaussNewton, Precision
from applications.pinn.network import MLP
from applications.pinn.problems import Burgers
from applications.pinn.training import Training
from tests.benchmarks.race import Bar, Row
from tests.benchmarks.turns import as_dict, by_turns, table

Params = Float[Tensor, " params"]
Layers = Sequence[tuple[Tensor, Tensor]]
"""Weight and bias of each."""
OURS = "sciopt's PINN"
GRADS, JVPS = "torch.func, grad of grads", "torch.func, grad of jvps"
NESTED = "nested autograd"
AT_LEAST = {"cpu": 10.0, "cuda": 5.0}
"""How many times as fast as torch.func the Jacobian is to be."""


@dataclass(frozen=True)
class OpenBurgers(Burgers):
    """Burgers' equation alone, in x and t as they are: no symmetry, no conditions."""

    periodic = ()
    symmetry: ClassVar[Mapping[str, Literal["odd", "even"]]] = {}

    def conditions(self) -> Sequence[Condition]:
        return []


class Contest:
    """The same residuals of the same network, in torch.func's terms and in autograd's."""

    def __init__(self, points: int, hidden: tuple[int, ...], precision: Precision, device: str):
        problem = OpenBurgers()
        setup = GaussNewton(hidden=hidden, precision=precision, sampling="uniform", scaled=False)
        training = Training(problem, setup, 0, torch.device(device))
        self.ours, self.params = training.least_squares, training.initial_params
        assert isinstance(training.network, MLP)
        self.layers, self.viscosity = training.network.layers(self.params), problem.viscosity
        low, high = torch.tensor(list(problem.region.values()), dtype=torch.float64).T
        unit = torch.rand(
            points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        at = (low + (high - low) * unit).to(device)
        (term,) = self.ours.terms
        self.ours.place(term, at)
        (sweep,) = self.ours.sweeps()
        self.scale = sweep.factors.reshape(-1)
        self.points = at.to(self.params)
        self.middle = ((low + high) / 2).to(self.params)
        self.along_x, self.along_t = torch.eye(2).to(self.params)

    def network(self, layers: Layers, point: Tensor) -> Tensor:
        """N(x, t), of the features and params of `ours`."""
        hidden = point - self.middle
        for weight, bias in layers[:-1]:
            hidden = torch.tanh(hidden @ weight + bias)
        weight, bias = layers[-1]
        return (hidden @ weight + bias).squeeze(-1)

    def residual_by_grads(self, layers: Layers, point: Tensor) -> Tensor:
        """At one point, by reverse mode over reverse mode."""
        gradient = grad(self.network, argnums=1)
        u, (u_x, u_t) = self.network(layers, point), gradient(layers, point)
        u_xx = grad(lambda point: gradient(layers, point)[0])(point)[0]
        return u_t + u * u_x - self.viscosity * u_xx

    def residual_by_jvps(self, layers: Layers, point: Tensor) -> Tensor:
        """At one point, by forward mode over forward mode."""

        def along(direction: Tensor) -> Callable[[Tensor], Any]:
            return lambda point: jvp(lambda p: self.network(layers, p), (point,), (direction,))

        (u, u_x), (_, u_xx) = jvp(along(self.along_x), (point,), (self.along_x,))[:2]
        u_t = along(self.along_t)(point)[1]
        return u_t + u * u_x - self.viscosity * u_xx

    def jacobian(self, residual: Callable[..., Tensor]) -> Float[Tensor, "points params"]:
        """All points' gradients of the residual by torch.func, not scaled."""
        layers = vmap(grad(residual), in_dims=(None, 0))(self.layers, self.points)
        return torch.cat([part.flatten(1) for layer in layers for part in layer], dim=1)

    def nested_gradient(self) -> Params:
        """The gradient of the mean squared residual by autograd of autograd of autograd."""
        layers = [
            (w.detach().requires_grad_(), b.detach().requires_grad_()) for w, b in self.layers
        ]
        points = self.points.detach().requires_grad_()
        u = self.network(layers, points)
        (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        u_x, u_t = first.unbind(1)
        (second,) = torch.autograd.grad(u_x.sum(), points, create_graph=True)
        residual = u_t + u * u_x - self.viscosity * second[:, 0]
        loss = (self.scale * residual).square().sum()
        found = torch.autograd.grad(loss, [part for layer in layers for part in layer])
        return torch.cat([part.reshape(-1) for part in found])

    def check(self) -> None:
        """Assert that all have the same Jacobian and gradient."""
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-3}[self.params.dtype]
        _, jacobian = self.ours.jacobian(self.params)
        _, gradient = self.ours.loss_and_gradient(self.params)
        for name, residual in ((GRADS, self.residual_by_grads), (JVPS, self.residual_by_jvps)):
            expected = self.scale.unsqueeze(1) * self.jacobian(residual)
            _assert_close(f"the Jacobian of {name}", jacobian, expected, tolerance)
        _assert_close(f"the gradient of {NESTED}", gradient, self.nested_gradient(), tolerance)

    def race(self, name: str, rounds: int, device: str) -> list[list[Row]]:
        """The rows of the Jacobians, and those of the gradients."""
        least = AT_LEAST[device]
        jacobians = by_turns(
            f"Jacobian, {name}",
            {
                GRADS: lambda: self.jacobian(self.residual_by_grads),
                JVPS: lambda: self.jacobian(self.residual_by_jvps),
                OURS: lambda: self.ours.jacobian(self.params),
            },
            rounds,
            device=device,
            bars={OURS: [Bar(GRADS, 1 / least), Bar(JVPS, 1 / least)]},
        )
        gradients = by_turns(
            f"gradient, {name}",
            {
                NESTED: self.nested_gradient,
                OURS: lambda: self.ours.loss_and_gradient(self.params),
            },
            3 * rounds,
            device=device,
            bars={OURS: [Bar(NESTED, 1.0)]},
        )
        return [jacobians, gradients]


def _assert_close(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    apart = float((found - expected).abs().max() / expected.abs().max())
    assert apart <= tolerance, f"{what} is {apart:.1e} away, allowed {tolerance:.0e}"


def main(
    device: Literal["cpu", "cuda"] = "cpu",
    points: int = 2500,
    hidden: tuple[int, ...] = (20, 20, 20),
    rounds: int = 20,
    threads: int = 1,
    json: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Race Jacobians and print the tables.

    Args:
        device: where they compute.
        points: at which the residual is taken.
        hidden: units of each hidden layer.
        rounds: calls of each Jacobian; the gradients have three times as many.
        threads: of the processor.
        json: file to write all rows to.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    console, rows = Console(width=120), []
    for precision in ("float64", "float32"):
        contest = Contest(points, hidden, precision, device)
        contest.check()
        name = f"{points} points, {len(contest.params)} params, {precision}, {device}"
        for of_case in contest.race(name, rounds, device):
            console.print(table(of_case))
            rows += of_case
    if json is not None:
        json.write_text(json_format.dumps(as_dict(rows), indent=1))


if __name__ == "__main__":
    tyro.cli(main)
