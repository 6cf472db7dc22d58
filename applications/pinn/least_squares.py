"""The least-squares problem of one run: residuals, their gradient and Jacobian.

    loss = Σ over terms  mean over its points (residual / size)²

A term is an equation inside the region or a condition on a face of it. `Training` has the params'
residual vector r with loss = |r|², its Jacobian and its gradient, all from the network's channels
and the derivative of each residual by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.language import Index, Problem, derivatives_used, expressions, fields
from applications.pinn.lift import Lift, lift_at
from applications.pinn.network import MLP, Inputs
from applications.pinn.scales import Scales, sizes
from applications.pinn.taylor import closure


@dataclass
class Term:
    """One equation or condition, with the points at which it is trained."""

    label: str
    equation: Callable[..., Any]
    indices: tuple[Index, ...]
    sizes: list[float]
    """What each of its expressions is divided by."""
    weight: float
    face: tuple[int, float] | None
    """Number and value of the coordinate a condition fixes."""
    points: Float[Tensor, "points coordinates"] = field(init=False)
    inputs: Inputs = field(init=False)
    lift: Lift | None = field(init=False)

    @property
    def rows(self) -> int:
        """Its residuals, one for each point and expression."""
        return len(self.points) * len(self.sizes)


def terms_of(problem: Problem, scales: Scales, weight: float) -> list[Term]:
    """The equations, then the conditions."""
    names = list(problem.region)
    whole = [("equations", problem.equations, None, weight)]
    for condition in problem.conditions():
        face = (names.index(condition.axis), condition.at)
        whole.append((condition.label, condition.equation, face, 1.0))
    terms = []
    for label, equation, face, its_weight in whole:
        used, _ = derivatives_used(problem, equation, scales.points[:1])
        indices = closure(set().union(*used) | {(0,) * len(names)})
        terms.append(
            Term(label, equation, indices, sizes(problem, equation, scales), its_weight, face)
        )
    return terms


class LeastSquares:
    """Residuals of a network at the points of its terms."""

    def __init__(
        self, problem: Problem, network: MLP, terms: list[Term], dtype: torch.dtype
    ) -> None:
        self.problem, self.network, self.terms, self.dtype = problem, network, terms, dtype
        self.magnitudes = torch.tensor(
            [problem.magnitudes.get(name, 1.0) for name in problem.unknowns], dtype=torch.float64
        )
        self.evaluations = 0

    def place(self, term: Term, points: Float[Tensor, "points coordinates"]) -> None:
        """Train the term at these points from now on."""
        term.points = points
        term.inputs, term.lift = self.prepared(points, term.indices, self.dtype)

    def prepared(
        self,
        points: Float[Tensor, "points coordinates"],
        indices: tuple[Index, ...],
        dtype: torch.dtype,
    ) -> tuple[Inputs, Lift | None]:
        """What `solution` takes: features and lift, computed in float64 and then rounded."""
        inputs = self.network.inputs(points, indices)
        lift = lift_at(self.problem, points, indices)
        return inputs.to(dtype), None if lift is None else lift.to(dtype)

    def expressions(
        self,
        term: Term,
        channels: Float[Tensor, "channels points unknowns"],
        points: Float[Tensor, "points coordinates"],
    ) -> Float[Tensor, "expressions points"]:
        """The term's expressions, each divided by its size."""
        number = {index: k for k, index in enumerate(term.indices)}
        unknowns = fields(self.problem, lambda k, index: channels[number[index], :, k])
        found = expressions(term.equation(*unknowns, *points.to(channels.dtype).unbind(1)))
        return torch.stack([e / size for e, size in zip(found, term.sizes, strict=True)])

    def solution(
        self, params: Float[Tensor, " params"], inputs: Inputs, lift: Lift | None
    ) -> tuple[Float[Tensor, "channels points unknowns"], Any]:
        """The solution's channels and the tape of the network's reverse sweep."""
        output, tape = self.network.forward(params, inputs)
        solution = output if lift is None else lift.apply(output)
        if self.problem.magnitudes:
            solution = solution * self.magnitudes.to(solution)
        return solution, tape

    def transposed(
        self, cotangent: Float[Tensor, "channels points unknowns"], lift: Lift | None
    ) -> Float[Tensor, "channels points unknowns"]:
        """The network's cotangent from that of the solution's channels."""
        if self.problem.magnitudes:
            cotangent = cotangent * self.magnitudes.to(cotangent)
        return cotangent if lift is None else lift.transposed(cotangent)

    def residual(self, params: Float[Tensor, " params"]) -> Float[Tensor, " residuals"]:
        """r: each expression at each point, times √(weight / points)."""
        rows = []
        for term in self.terms:
            channels, _ = self.solution(params, term.inputs, term.lift)
            scale = math.sqrt(term.weight / len(term.points))
            rows.append(scale * self.expressions(term, channels, term.points).flatten())
        return torch.cat(rows)

    def jacobian(
        self, params: Float[Tensor, " params"]
    ) -> tuple[Float[Tensor, " residuals"], Float[Tensor, "residuals params"]]:
        """R and its derivative by the params."""
        self.evaluations += 1
        rows = sum(term.rows for term in self.terms)
        jacobian = params.new_empty(rows, self.network.count)
        residual = params.new_empty(rows)
        begin = 0
        for term in self.terms:
            channels, tape = self.solution(params, term.inputs, term.lift)
            channels.requires_grad_()
            scale = math.sqrt(term.weight / len(term.points))
            with torch.enable_grad():
                found = self.expressions(term, channels, term.points)
                for expression in found:
                    # At one point it depends on no other point: the sum holds all derivatives.
                    (cotangent,) = torch.autograd.grad(
                        expression.sum(), channels, retain_graph=True
                    )
                    end = begin + len(term.points)
                    residual[begin:end] = scale * expression.detach()
                    self.network.jacobian(
                        tape, self.transposed(scale * cotangent, term.lift), jacobian[begin:end]
                    )
                    begin = end
        return residual, jacobian

    def loss_and_gradient(
        self, params: Float[Tensor, " params"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " params"]]:
        """|r|² and its gradient."""
        self.evaluations += 1
        loss, gradient = params.new_zeros(()), torch.zeros_like(params)
        for term in self.terms:
            channels, tape = self.solution(params, term.inputs, term.lift)
            channels.requires_grad_()
            with torch.enable_grad():
                squares = self.expressions(term, channels, term.points).square().sum()
                part = term.weight / len(term.points) * squares
                (cotangent,) = torch.autograd.grad(part, channels)
            loss += part.detach()
            gradient += self.network.gradient(tape, self.transposed(cotangent, term.lift))
        return loss, gradient
