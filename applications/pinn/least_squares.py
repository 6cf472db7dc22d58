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
from applications.pinn.network import Inputs
from applications.pinn.scales import Scales, sizes
from applications.pinn.taylor import closure
from applications.pinn.torch_func import Network


@dataclass
class Term:
    """One equation or condition, with the points at which it is trained."""

    label: str
    equation: Callable[..., Any]
    indices: tuple[Index, ...]
    sizes: list[float]
    """Of each of its expressions' largest term over the region."""
    weight: float
    face: tuple[int, float] | None
    """Number and value of the coordinate a condition fixes."""
    points: Float[Tensor, "points coordinates"] = field(init=False)
    sizes_there: Float[Tensor, "expressions _"] = field(init=False)
    """What its expressions are divided by at the points."""


@dataclass(frozen=True)
class Sweep:
    """Terms of equally many expressions and the same derivatives, their points end to end.

    A network's sweep over few points costs its calls, not its arithmetic: conditions share one.
    """

    terms: list[Term]
    points: list[Float[Tensor, "points coordinates"]]
    inputs: Inputs
    lift: Lift | None
    factors: Float[Tensor, "expressions points"]
    """√(weight / points of its term) / size of each residual."""

    @property
    def rows(self) -> int:
        """Its residuals, one for each point and expression."""
        return self.factors.numel()


def terms_of(problem: Problem, scales: Scales, weight: float) -> list[Term]:
    """The equations, then the conditions."""
    names = list(problem.region)
    whole: list[tuple[str, Callable[..., Any], tuple[int, float] | None, float]] = [
        ("equations", problem.equations, None, weight)
    ]
    for condition in problem.conditions():
        face = (names.index(condition.axis), condition.at)
        whole.append((condition.label, condition.equation, face, 1.0))
    used = [
        set().union(*derivatives_used(problem, equation, scales.points[:1])[0])
        for _, equation, _, _ in whole
    ]
    none = (0,) * len(names)
    inside, on_faces = closure(used[0] | {none}), closure({none}.union(*used[1:]))
    return [
        Term(
            label,
            equation,
            inside if face is None else on_faces,
            sizes(problem, equation, scales),
            its_weight,
            face,
        )
        for label, equation, face, its_weight in whole
    ]


class LeastSquares:
    """Residuals of a network at the points of its terms."""

    def __init__(
        self, problem: Problem, network: Network, scales: Scales, weight: float, dtype: torch.dtype
    ) -> None:
        self.problem, self.network, self.scales, self.dtype = problem, network, scales, dtype
        self.terms = terms_of(problem, scales, weight)
        self.magnitudes = torch.tensor(
            [problem.magnitudes.get(name, 1.0) for name in problem.unknowns], dtype=torch.float64
        )
        self.evaluations = 0
        self._sweeps: list[Sweep] = []
        self._room = torch.empty(0, 0, dtype=dtype)

    def use(self, network: Network) -> None:
        """Another network of the same features from now on."""
        self.network = network
        self._room = torch.empty(0, 0, dtype=self.dtype)

    def place(self, term: Term, points: Float[Tensor, "points coordinates"]) -> None:
        """Train the term at these points from now on."""
        term.points = points
        self._sweeps = []
        term.sizes_there = self.sizes_at(term, points).to(self.dtype)

    def sizes_at(
        self, term: Term, points: Float[Tensor, "points coordinates"]
    ) -> Float[Tensor, "expressions _"]:
        """What each expression is divided by: the size of its largest term.

        That of a stiff problem's equation is found at each point, for unknowns and derivatives as
        large as their magnitudes and the local wave numbers make them.
        """
        if not self.problem.stiff or term.face is not None:
            return points.new_tensor(term.sizes).unsqueeze(1)
        waves = self.scales.local(self.problem, points)
        powers = torch.stack([(waves ** waves.new_tensor(index)).prod(1) for index in term.indices])
        typical = powers.unsqueeze(2) * self.magnitudes.to(points)
        leaf = typical.clone().requires_grad_()
        with torch.enable_grad():
            found = self.raw(term, leaf, points)
            slopes = [torch.autograd.grad(e.sum(), leaf, retain_graph=True)[0] for e in found]
        return torch.stack([(slope.abs() * typical).amax(dim=(0, 2)) for slope in slopes])

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

    def raw(
        self,
        term: Term,
        channels: Float[Tensor, "channels points unknowns"],
        points: Float[Tensor, "points coordinates"],
    ) -> list[Float[Tensor, " points"]]:
        """The term's expressions as the problem has them."""
        number = {index: k for k, index in enumerate(term.indices)}
        unknowns = fields(self.problem, lambda k, index: channels[number[index], :, k])
        return expressions(term.equation(*unknowns, *points.to(channels.dtype).unbind(1)))

    def expressions(
        self,
        term: Term,
        channels: Float[Tensor, "channels points unknowns"],
        points: Float[Tensor, "points coordinates"],
        sizes: Float[Tensor, "expressions _"],
    ) -> Float[Tensor, "expressions points"]:
        """The term's expressions, each divided by its size."""
        return torch.stack(self.raw(term, channels, points)) / sizes

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

    def sweeps(self) -> list[Sweep]:
        """All terms in a few sweeps, made anew where a term has other points."""
        if not self._sweeps:
            shared: dict[Any, list[Term]] = {}
            for term in self.terms:
                shared.setdefault((term.indices, len(term.sizes)), []).append(term)
            for (indices, _), terms in shared.items():
                points = [term.points for term in terms]
                factors = [
                    math.sqrt(term.weight / len(term.points))
                    / term.sizes_there.expand(-1, len(term.points))
                    for term in terms
                ]
                inputs, lift = self.prepared(torch.cat(points), indices, self.dtype)
                rounded = [some.to(self.dtype) for some in points]
                self._sweeps.append(Sweep(terms, rounded, inputs, lift, torch.cat(factors, dim=1)))
        return self._sweeps

    def residuals(
        self, sweep: Sweep, channels: Float[Tensor, "channels points unknowns"]
    ) -> Float[Tensor, "expressions points"]:
        """Each expression at each point, divided by its size, times √(weight / points)."""
        parts = channels.split([len(points) for points in sweep.points], dim=1)
        found = [
            torch.stack(self.raw(term, part, points))
            for term, part, points in zip(sweep.terms, parts, sweep.points, strict=True)
        ]
        return sweep.factors * torch.cat(found, dim=1)

    def residual(self, params: Float[Tensor, " params"]) -> Float[Tensor, " residuals"]:
        """r, sweep by sweep and expression by expression."""
        rows = []
        for sweep in self.sweeps():
            channels, _ = self.solution(params, sweep.inputs, sweep.lift)
            rows.append(self.residuals(sweep, channels).flatten())
        return torch.cat(rows)

    def jacobian(
        self, params: Float[Tensor, " params"]
    ) -> tuple[Float[Tensor, " residuals"], Float[Tensor, "residuals params"]]:
        """R and its derivative by the params, which the next call overwrites."""
        self.evaluations += 1
        rows = sum(sweep.rows for sweep in self.sweeps())
        # The same memory again: to get it fresh from the system takes longer than to fill it.
        if self._room.shape[1] != rows:
            self._room = params.new_empty(self.network.count, rows)
        residual, jacobian = params.new_empty(rows), self._room.T
        begin = 0
        for sweep in self.sweeps():
            channels, tape = self.solution(params, sweep.inputs, sweep.lift)
            channels.requires_grad_()
            with torch.enable_grad():
                found = self.residuals(sweep, channels).unbind()
            for expression in found:
                # At one point it depends on no other point: all derivatives at once.
                one = torch.ones_like(expression)
                (cotangent,) = torch.autograd.grad(expression, channels, one, retain_graph=True)
                end = begin + len(expression)
                residual[begin:end] = expression.detach()
                cotangent = self.transposed(cotangent, sweep.lift)
                self.network.jacobian(tape, cotangent, jacobian[begin:end])
                begin = end
        return residual, jacobian

    def loss_and_gradient(
        self, params: Float[Tensor, " params"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " params"]]:
        """|r|² and its gradient."""
        self.evaluations += 1
        loss, gradient = params.new_zeros(()), torch.zeros_like(params)
        for sweep in self.sweeps():
            channels, tape = self.solution(params, sweep.inputs, sweep.lift)
            channels.requires_grad_()
            with torch.enable_grad():
                found = self.residuals(sweep, channels)
            residuals = found.detach()
            (cotangent,) = torch.autograd.grad(found, channels, 2 * residuals)
            loss += residuals.square().sum()
            gradient += self.network.gradient(tape, self.transposed(cotangent, sweep.lift))
        return loss, gradient
