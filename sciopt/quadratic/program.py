"""What is minimised and under which constraints, and the answer with its certificate.

    min  0.5 w'Qw - c'w + sum_i cost_i |w_i - held_i|
    over lower <= w <= upper,  sum w = budget (or within a range),
         row_lower <= A w <= row_upper,  sum_i |w_i - center_i| <= limit

with Q positive semidefinite, in any of the forms of `forms.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.quadratic.forms import Form, as_tensors
from sciopt.rule import Real

Values: TypeAlias = Real | Sequence[Real] | np.ndarray | Tensor
"""One number for all variables, or one number each."""


@dataclass(frozen=True)
class Rows:
    """Linear constraints `lower <= matrix @ w <= upper`; equal bounds make an equation."""

    matrix: Float[Tensor, "rows n"]
    lower: Float[Tensor, " rows"]
    upper: Float[Tensor, " rows"]
    names: tuple[str, ...]


@dataclass(frozen=True)
class NormLimit:
    """`sum_i |w_i - center_i| <= limit`: turnover from holdings, or leverage from zero."""

    center: Float[Tensor, " n"]
    limit: float
    name: str


@dataclass(frozen=True)
class QuadraticProgram:
    """A program with every default filled in; made and checked by `quadratic_program`.

    All tensors are float64 on one device. The budget, where there is one, is the first of the rows.
    """

    form: Form
    linear: Float[Tensor, " n"]
    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]
    cost: Float[Tensor, " n"]
    held: Float[Tensor, " n"]
    rows: Rows
    norm_limits: tuple[NormLimit, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return self.linear.shape[-1]

    @cached_property
    def diagonal(self) -> Float[Tensor, " n"]:
        """Q_ii."""
        return self.form.diagonal().contiguous()

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.linear.device

    def name_of(self, variable: int) -> str:
        """The variable's name, or its number where names were not given."""
        return self.names[variable] if self.names else f"variable {variable}"


def quadratic_program(
    form: Form,
    linear: Values = 0.0,
    *,
    budget: Real | tuple[Real, Real] | None = 1.0,
    lower: Values = 0.0,
    upper: Values = float("inf"),
    cost: Values = 0.0,
    held: Values = 0.0,
    rows: Rows | None = None,
    norm_limits: Sequence[NormLimit] = (),
    names: Sequence[str] = (),
) -> QuadraticProgram:
    """The program of these parts, on the device of the form's tensors; float32 becomes float64.

    Args:
        form: Q in one of the forms of `forms.py`, (n, n), symmetric positive semidefinite.
        linear: c of the objective `0.5 w'Qw - c'w`, one number or shape (n,).
        budget: what the variables sum to; a pair is a range; None leaves the sum free.
        lower: least value of each variable, -inf for none.
        upper: greatest value of each variable, inf for none.
        cost: price of moving one unit away from `held`, >= 0.
        held: where moving is counted from.
        rows: further linear constraints, by name.
        norm_limits: limits on sums of absolute distances.
        names: of the variables, for messages.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, bounds that cross; the
            message names the variable or the row.
    """
    device = _device_of(form)
    form = as_tensors(form, device)
    n = form.size

    def each(values: Values, what: str) -> Float[Tensor, " n"]:
        found = torch.as_tensor(values, dtype=torch.float64, device=device)
        if found.shape not in (torch.Size(()), torch.Size((n,))):
            raise ValueError(
                f"{what} must be one number or {n} of them, got shape {tuple(found.shape)}"
            )
        return found.expand(n).contiguous()

    program = QuadraticProgram(
        form,
        each(linear, "linear"),
        each(lower, "lower"),
        each(upper, "upper"),
        each(cost, "cost"),
        each(held, "held"),
        _all_rows(budget, rows, n, device),
        tuple(norm_limits),
        tuple(names),
    )
    _check(program)
    return program


def _device_of(form: Form) -> torch.device:
    inner: object = form
    while hasattr(inner, "base"):
        inner = inner.base  # pyright: ignore[reportAttributeAccessIssue]
    tensor = getattr(inner, "loadings", None)
    tensor = getattr(inner, "matrix", None) if tensor is None else tensor
    return tensor.device if isinstance(tensor, Tensor) else torch.device("cpu")


def _all_rows(
    budget: Real | tuple[Real, Real] | None, rows: Rows | None, n: int, device: torch.device
) -> Rows:
    """The rows with the budget in front."""
    options = {"dtype": torch.float64, "device": device}
    if rows is None:
        nothing = torch.zeros(0, **options)
        rows = Rows(torch.zeros(0, n, **options), nothing, nothing, ())
    matrix, lower, upper = (
        torch.as_tensor(part, **options) for part in (rows.matrix, rows.lower, rows.upper)
    )
    if matrix.ndim != 2 or matrix.shape[1] != n:
        raise ValueError(f"rows must have {n} columns, got shape {tuple(matrix.shape)}")
    count = matrix.shape[0]
    if lower.shape != (count,) or upper.shape != (count,) or len(rows.names) != count:
        raise ValueError(
            f"{count} rows need as many lower and upper bounds and names, got "
            f"{tuple(lower.shape)}, {tuple(upper.shape)} and {len(rows.names)}"
        )
    if budget is None:
        return Rows(matrix, lower, upper, rows.names)
    least, most = budget if isinstance(budget, tuple) else (budget, budget)
    ends = torch.tensor([[least], [most]], **options)
    return Rows(
        torch.cat([torch.ones(1, n, **options), matrix]),
        torch.cat([ends[0], lower]),
        torch.cat([ends[1], upper]),
        ("budget", *rows.names),
    )


def _check(program: QuadraticProgram) -> None:
    """Raise ValueError for what no solver could make sense of."""
    if program.names and len(program.names) != program.size:
        raise ValueError(f"{program.size} variables need as many names, got {len(program.names)}")
    lower, upper, diagonal = program.lower, program.upper, program.diagonal
    infinity = float("inf")
    demands = {
        "linear must be finite": program.linear.abs() < infinity,
        "held must be finite": program.held.abs() < infinity,
        "cost must be >= 0 and finite": (program.cost >= 0) & (program.cost < infinity),
        "Q_ii must be >= 0 and finite": (diagonal >= 0) & (diagonal < infinity),
        "lower must not exceed upper": lower <= upper,
        "lower must be below inf and upper above -inf": (lower < infinity) & (upper > -infinity),
    }
    if not bool(torch.stack(list(demands.values())).all()):
        for what, fine in demands.items():
            _check_each(program, fine, what)
    _check_rows(program.rows)
    for limit in program.norm_limits:
        if limit.center.shape != (program.size,) or not limit.limit >= 0:
            raise ValueError(
                f"constraint {limit.name!r}: needs {program.size} centers and a limit >= 0, got "
                f"shape {tuple(limit.center.shape)} and {limit.limit}"
            )


def _check_rows(rows: Rows) -> None:
    for name, low, high in zip(rows.names, rows.lower.tolist(), rows.upper.tolist(), strict=True):
        if not low <= high:
            raise ValueError(f"constraint {name!r}: lower {low:g} must not exceed upper {high:g}")
    if not bool(torch.isfinite(rows.matrix).all()):
        row = int((~torch.isfinite(rows.matrix)).any(1).nonzero()[0])
        raise ValueError(f"constraint {rows.names[row]!r} has a coefficient that is not finite")


def _check_each(program: QuadraticProgram, fine: Tensor, what: str) -> None:
    if not bool(fine.all()):
        raise ValueError(f"{what}: not so for {program.name_of(int((~fine).nonzero()[0]))}")


@dataclass(frozen=True)
class Solution:
    """A minimiser, and the proof of how good it is.

    `gap` bounds `f(point) - min f` from above; `relative_gap` is the gap over the larger of
    |f(point)| and the mean of Q's diagonal. `residual` is the largest violation of a constraint.
    `multipliers` has the derivative of the least objective by each named constraint's bound, with
    its sign turned: positive where the upper bound holds the objective up, negative where the lower
    one does. `reduced_cost` is the derivative by the bound that a variable is at, its sign as it
    is: >= 0 at a lower bound, <= 0 at an upper one, 0 at none.
    """

    point: Float[Tensor, " n"]
    objective: float
    gap: float
    relative_gap: float
    residual: float
    multipliers: Mapping[str, float]
    reduced_cost: Float[Tensor, " n"]
    iterations: int


class InfeasibleProgram(ValueError):
    """No point satisfies all constraints; the message says which of them exclude each other."""


class UnboundedProgram(ValueError):
    """The objective falls without end; the message says in which variables."""
