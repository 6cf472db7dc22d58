"""A batch of dense programs, checked, and what is supposed and found of them.

See `batch.py` for the idea.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciopt.quadratic.program import (
    InfeasibleProgram,
    Values,
)

# What a sum may miss the budget by before a program is called infeasible.
CONFLICT = 1e-9

Batch = Float[Tensor, "batch n"]
Each = Float[Tensor, " batch"]


@dataclass(frozen=True)
class BatchSolution:
    """The minimisers of a batch, each with its certificate; fields as those of `Solution`."""

    point: Batch
    objective: Each
    gap: Each
    relative_gap: Each
    residual: Each
    multipliers: dict[str, Each]
    reduced_cost: Batch
    iterations: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Programs:
    """The batch with every default filled in.

    `matrix` is (n, n) where all programs share it; bounds, costs and holdings have one row where
    all programs share them.
    """

    matrix: Tensor
    which: Int[Tensor, " batch"]
    """of the matrices, where there is one each"""
    linear: Batch
    budget: Each
    lower: Float[Tensor, "#batch n"]
    upper: Float[Tensor, "#batch n"]
    cost: Float[Tensor, "#batch n"] | None
    held: Float[Tensor, "#batch n"]

    def part(self, index: Int[Tensor, " some"]) -> Programs:
        """Some of the programs; the matrices are not copied."""
        lower, upper, held = (
            each if len(each) == 1 else each[index] for each in (self.lower, self.upper, self.held)
        )
        cost = self.cost if self.cost is None or len(self.cost) == 1 else self.cost[index]
        own = self.which[index], self.linear[index], self.budget[index]
        return Programs(self.matrix, *own, lower, upper, cost, held)

    def times(self, point: Batch) -> Batch:
        """Q w of each."""
        if self.matrix.ndim == 2:
            return point @ self.matrix
        return torch.bmm(point.unsqueeze(1), self.matrix[self.which]).squeeze(1)

    def rows(self, index: Int[Tensor, "batch size"]) -> Float[Tensor, "batch size n"]:
        """Rows of each program's own Q, which lie together in memory."""
        n = self.linear.shape[1]
        return self.matrix.reshape(-1, n)[index + (self.which * n).unsqueeze(1)]

    def diagonal(self) -> Float[Tensor, "#batch n"]:
        """Q_ii of each."""
        diagonal = self.matrix.diagonal(dim1=-2, dim2=-1)
        return diagonal.unsqueeze(0) if self.matrix.ndim == 2 else diagonal[self.which]

    def inside(self, point: Float[Tensor, "#batch n"]) -> Float[Tensor, "#batch n"]:
        """The nearest point within the bounds."""
        return torch.minimum(torch.maximum(point, self.lower), self.upper)

    def slopes(self, point: Batch) -> tuple[Tensor | float, Tensor | float]:
        """Of the costs to the right and to the left of a point."""
        if self.cost is None:
            return 0.0, 0.0
        right = torch.where(point >= self.held, self.cost, -self.cost)
        return right, torch.where(point > self.held, self.cost, -self.cost)

    def costs(self, point: Float[Tensor, "#batch n"]) -> Float[Tensor, "#batch n"] | float:
        """Of moving, for each variable."""
        return 0.0 if self.cost is None else self.cost * (point - self.held).abs()


@dataclass
class Suppositions:
    """Which variables are free and, where moving costs, above `held`; the others are at `place`."""

    free: Bool[Tensor, "batch n"]
    place: Batch
    above: Bool[Tensor, "batch n"]

    @classmethod
    def at(cls, programs: Programs, place: Batch, also: Bool[Tensor, "batch n"]) -> Suppositions:
        """All free that lie between the kinks, and some more, which may only rise."""
        free = (place > programs.lower) & (place < programs.upper)
        if programs.cost is not None:
            free &= place != programs.held
        return cls(free | also, place, place >= programs.held)

    def part(self, index: Tensor) -> Suppositions:
        """Those of some programs."""
        return Suppositions(self.free[index], self.place[index], self.above[index])

    def interval(self, programs: Programs) -> tuple[Tensor, Tensor]:
        """The ends of the intervals in which variables are free."""
        if programs.cost is None:
            return programs.lower, programs.upper
        held = programs.inside(programs.held)
        low = torch.where(self.above, held, programs.lower)
        return low, torch.where(self.above, programs.upper, held)

    def slope(self, programs: Programs) -> Tensor | float:
        """Of the costs where variables are free."""
        if programs.cost is None:
            return 0.0
        return torch.where(self.above, programs.cost, -programs.cost)


@dataclass(frozen=True)
class Minimisers:
    """The solutions of a pass, the budget's multipliers, Qw - c, and where there is none."""

    point: Batch
    budget: Each
    gradient: Batch
    passes: Int[Tensor, " batch"]
    failed: Bool[Tensor, " batch"]

    def part(self, index: Tensor) -> Minimisers:
        """Those of some programs."""
        parts = (self.point, self.budget, self.gradient, self.passes, self.failed)
        return Minimisers(*(part[index] for part in parts))

    def write(self, index: Int[Tensor, " some"], solved: Minimisers, passes: int) -> None:
        """Take over solutions."""
        self.point.index_copy_(0, index, solved.point)
        self.gradient.index_copy_(0, index, solved.gradient)
        self.budget[index], self.failed[index] = solved.budget, solved.failed
        self.passes[index] = passes


def programs_of(
    matrix: Tensor,
    linear: Values,
    budget: Values,
    lower: Values,
    upper: Values,
    cost: Values,
    held: Values,
) -> Programs:
    """The batch, checked."""
    device = matrix.device
    given = {"linear": linear, "lower": lower, "upper": upper, "cost": cost, "held": held}
    values = {
        name: torch.as_tensor(each, dtype=torch.float64, device=device)
        for name, each in {"budget": budget, **given}.items()
    }
    n = matrix.shape[-1]
    lengths = [matrix.shape[0]] if matrix.ndim == 3 else []
    lengths += [
        each.shape[0] for name, each in values.items() if each.ndim == 1 + (name != "budget")
    ]
    batch = lengths[0] if lengths else 1
    for name, each in values.items():
        shapes = [(), (batch,)] if name == "budget" else [(), (n,), (batch, n)]
        if tuple(each.shape) not in shapes:
            raise ValueError(
                f"{name} must have one of the shapes {shapes}, got {tuple(each.shape)}"
            )
    if matrix.ndim == 3 and matrix.shape[0] != batch:
        raise ValueError(f"{matrix.shape[0]} matrices for {batch} programs")
    each = {
        name: values[name].expand(batch if values[name].ndim == 2 else 1, n).contiguous()
        for name in given
    }
    programs = Programs(
        matrix.to(torch.float64).contiguous(),
        torch.arange(batch, device=device),
        each["linear"].expand(batch, n).contiguous(),
        values["budget"].expand(batch).contiguous(),
        each["lower"],
        each["upper"],
        each["cost"] if bool(each["cost"].any()) else None,
        each["held"],
    )
    _check(programs, each["cost"])
    return programs


def _check(programs: Programs, cost: Float[Tensor, "#batch n"]) -> None:
    """Raise ValueError for what no solver could make sense of."""
    infinity = torch.inf
    demands = {
        "Q_ii must be >= 0 and finite": (programs.diagonal() >= 0) & programs.diagonal().isfinite(),
        "linear must be finite": programs.linear.isfinite(),
        "held must be finite": programs.held.isfinite(),
        "cost must be >= 0 and finite": (cost >= 0) & cost.isfinite(),
        "lower must not exceed upper": programs.lower <= programs.upper,
        "lower must be below inf and upper above -inf": (programs.lower < infinity)
        & (programs.upper > -infinity),
        "budget must be finite": programs.budget.isfinite().unsqueeze(1),
    }
    if bool(torch.stack([fine.all() for fine in demands.values()]).all()):
        return
    for what, fine in demands.items():
        if not bool(fine.all()):
            program, variable = (~fine).nonzero()[0].tolist()
            raise ValueError(f"{what}: not so for variable {variable} of program {program}")


def check_budgets(programs: Programs) -> None:
    """Raise if bounds alone keep a program from its budget."""
    room = CONFLICT * (1 + programs.budget.abs())
    for side, sum_, conflict in (
        ("upper", programs.upper.sum(1), programs.upper.sum(1) < programs.budget - room),
        ("lower", programs.lower.sum(1), programs.lower.sum(1) > programs.budget + room),
    ):
        if bool(conflict.any()):
            first = int(conflict.nonzero()[0])
            raise InfeasibleProgram(
                f"program {first}: the sum of {side} bounds {sum_[first]:.6g} "
                f"{'<' if side == 'upper' else '>'} budget {programs.budget[first]:g}"
            )
