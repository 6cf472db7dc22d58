"""Conditions met by construction: the solution is offset + factor times the network.

`Problem.lift` gives both as functions of the coordinates; their derivatives are computed once for
each set of points, and Leibniz's rule makes the solution's channels a linear map of the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import comb, prod

import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.language import Index, Problem


@dataclass(frozen=True)
class Lift:
    """The channels of offset and factor of each unknown at some points."""

    offset: Float[Tensor, "channels points unknowns"]
    terms: list[tuple[int, int, Float[Tensor, "points unknowns"]]]
    """Channel of the solution, channel of the network, what the latter is multiplied with."""

    def to(self, dtype: torch.dtype) -> Lift:
        """The same in another precision."""
        terms = [(above, below, factor.to(dtype)) for above, below, factor in self.terms]
        return Lift(self.offset.to(dtype), terms)

    def apply(
        self, network: Float[Tensor, "channels points unknowns"]
    ) -> Float[Tensor, "channels points unknowns"]:
        """The solution's channels."""
        solution = self.offset.clone()
        for above, below, factor in self.terms:
            solution[above].addcmul_(factor, network[below])
        return solution

    def transposed(
        self, cotangent: Float[Tensor, "channels points unknowns"]
    ) -> Float[Tensor, "channels points unknowns"]:
        """The network's cotangent from the solution's."""
        result = torch.zeros_like(cotangent)
        for above, below, factor in self.terms:
            result[below].addcmul_(factor, cotangent[above])
        return result


def lift_at(
    problem: Problem, points: Float[Tensor, "points coordinates"], indices: tuple[Index, ...]
) -> Lift | None:
    """The problem's lift at these points; None if it has none."""
    coordinates = [c.detach().requires_grad_() for c in points.unbind(1)]
    with torch.enable_grad():
        lift = problem.lift(*coordinates)
        if lift is None:
            return None
        pairs = lift if len(problem.unknowns) > 1 else [lift]
        offset, factor = (
            torch.stack([channels_of(pair[part], coordinates, indices) for pair in pairs], dim=2)
            for part in (0, 1)
        )
    number = {index: k for k, index in enumerate(indices)}
    terms = []
    for index in indices:
        for below in product(*(range(order + 1) for order in index)):
            rest = tuple(a - b for a, b in zip(index, below, strict=True))
            binomial = prod(comb(a, b) for a, b in zip(index, below, strict=True))
            value = binomial * factor[number[rest]]
            if value.any():
                terms.append((number[index], number[below], value))
    return Lift(offset, terms)


def channels_of(
    value: Tensor | float, coordinates: list[Tensor], indices: tuple[Index, ...]
) -> Float[Tensor, "channels points"]:
    """A function of the coordinates with its derivatives, by nested autograd."""
    like = coordinates[0]
    known: dict[Index, Tensor] = {
        (0,) * len(coordinates): torch.as_tensor(value).to(like) + 0 * like
    }
    for index in indices:
        if index not in known:
            axis = next(k for k, order in enumerate(index) if order)
            below = tuple(order - (k == axis) for k, order in enumerate(index))
            (derivative,) = torch.autograd.grad(
                known[below].sum(), coordinates[axis], create_graph=True, allow_unused=True
            )
            known[index] = 0 * like if derivative is None else derivative + 0 * like
    return torch.stack([known[index] for index in indices]).detach()
