"""Many dense programs at once: the same primal-dual active set, in tensors with a batch axis.

    min 0.5 w'Qw - c'w + sum_i cost_i |w_i - held_i|   over bounds and a budget

Every program supposes which variables are free and between which kinks. One pass solves the
equations of these suppositions for all programs that are not done, in blocks of the size of their
supports, and changes what the solutions contradict (Hintermueller, Ito & Kunisch 2003). It mostly
takes five passes; nothing forbids it to cycle, so that programs which take many more, and those
whose Q is singular on their support, are handed one by one to `solve`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.quadratic.batch_active_set import active_set_of_batch
from sciopt.quadratic.batch_programs import (
    Batch,
    BatchSolution,
    Each,
    Minimisers,
    Programs,
    Suppositions,
    check_budgets,
    programs_of,
)
from sciopt.quadratic.forms import Dense
from sciopt.quadratic.program import (
    QuadraticProgram,
    Rows,
    Solution,
    Values,
    quadratic_program,
)
from sciopt.quadratic.solve import solve

# Every sixteenth program is solved first and the others start from it, where neighbours differ by
# no more than this share of the variance over the batch.
STRIDE, NEAR = 16, 0.1
# Steps of ADMM, their overrelaxation, and the least eigenvalue that their penalty allows for.
SPLITS, RELAXATION, LEAST_RATIO = 10, 1.6, 1e-4
# Relative gap above which `solve` is asked.
CERTIFIED = 1e-11


def solve_batch(
    matrix: Float[Tensor, "*batch n n"],
    linear: Values,
    *,
    budget: Values = 1.0,
    lower: Values = 0.0,
    upper: Values = float("inf"),
    cost: Values = 0.0,
    held: Values = 0.0,
    rows: Rows | None = None,
    names: Sequence[str] = (),
) -> BatchSolution:
    """The minimisers of many programs over dense Q, on the device of `matrix`, in float64.

    Programs that share Q are the fastest. Neighbours in the batch should be alike where they can,
    as days of a walk forward are: they then start from one another.

    Args:
        matrix: Q, one for all or one each, symmetric positive semidefinite.
        linear: c of the objective; one number, (n,) or (batch, n), as are the bounds and costs.
        budget: what the variables sum to, one number or (batch,).
        lower: least values, -inf for none.
        upper: greatest values, inf for none.
        cost: price of moving one unit away from `held`, >= 0.
        held: where moving is counted from.
        rows: further linear constraints of every program; such programs are solved one by one.
        names: of the variables, for messages.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, bounds that cross.
        InfeasibleProgram: no point satisfies a program's constraints; the message says which.
    """
    programs = programs_of(matrix, linear, budget, lower, upper, cost, held)
    batch = len(programs.which)
    nothing = Minimisers(
        torch.zeros_like(programs.linear),
        torch.zeros_like(programs.budget),
        torch.zeros_like(programs.linear),
        torch.zeros_like(programs.which),
        torch.ones_like(programs.which, dtype=torch.bool),
    )
    if rows is None:
        check_budgets(programs)
        everything = torch.arange(batch, device=programs.which.device)
        if programs.matrix.ndim == 2:
            active_set_of_batch(programs, everything, _split(programs), nothing)
        elif batch > STRIDE and _alike(programs):
            first, rest = everything[::STRIDE], everything[everything % STRIDE != 0]
            some, others = programs.part(first), programs.part(rest)
            active_set_of_batch(some, first, _cold(some), nothing)
            near = nothing.point[rest // STRIDE * STRIDE]
            active_set_of_batch(others, rest, _near(others, near), nothing)
        else:
            active_set_of_batch(programs, everything, _cold(programs), nothing)
    found = _judged(programs, nothing)
    for name in rows.names if rows else ():
        found.multipliers[name] = torch.zeros_like(programs.budget)
    start = None
    for index in (~(found.relative_gap <= CERTIFIED)).nonzero().squeeze(1).tolist():
        answer = solve(_one(programs, index, rows, names), start)
        start = answer.point
        _write(found, index, answer)
    return found


def _cold(programs: Programs) -> Suppositions:
    """The budget filled in the order of `0.5 Q_ii - c_i`, and the best few variables free.

    Everything starts where moving is counted from, or at its bound nearest zero.
    """
    lower, upper, linear = programs.lower, programs.upper, programs.linear
    base = torch.zeros_like(lower) if programs.cost is None else programs.held
    base = programs.inside(base).expand_as(linear)
    lacking = (programs.budget - base.sum(1)).unsqueeze(1)
    score = (0.5 * programs.diagonal() - linear) * lacking.sign()
    room = torch.where(lacking > 0, upper - base, base - lower)
    n, lacking = linear.shape[1], lacking.abs()
    few = min(n, max(5, int(n**0.5)))
    none = torch.zeros_like(score, dtype=torch.bool)
    if bool((room >= lacking).all()):
        best = score.topk(few, 1, largest=False, sorted=False).indices
        return Suppositions.at(programs, base, none.scatter(1, best, True))
    order = score.argsort(1)
    room = torch.minimum(room, lacking).gather(1, order)
    filled = room.cumsum(1) < lacking
    # The variable with which the budget is met is free, and as many more as is usual.
    rank = torch.arange(n, device=score.device) - filled.sum(1, keepdim=True)
    best = none.scatter(1, order, (rank >= 0) & (rank < few))
    end = torch.where(programs.budget.unsqueeze(1) > base.sum(1, keepdim=True), upper, lower)
    place = torch.where(none.scatter(1, order, filled), end, base)
    return Suppositions.at(programs, place, best & (lower < upper))


def _near(programs: Programs, point: Batch) -> Suppositions:
    """The suppositions that hold at a point, such as the solution of another program."""
    place = programs.inside(point)
    return Suppositions.at(programs, place, torch.zeros_like(place, dtype=torch.bool))


def _split(programs: Programs) -> Suppositions:
    """Where a few steps of ADMM arrive, each but one product with one inverse for all programs.

    Its two points obey the budget and the bounds, respectively (Boyd et al. 2011, section 5.2).
    """
    matrix, identity = programs.matrix, torch.eye(len(programs.matrix)).to(programs.matrix)
    values = torch.linalg.eigvalsh(matrix)
    penalty = (values[-1] * torch.maximum(values[0], LEAST_RATIO * values[-1])).sqrt()
    penalty = torch.where(penalty > 0, penalty, 1)
    inverse = torch.linalg.inv(matrix + penalty * identity)
    column = inverse.sum(1)
    project = inverse - column.outer(column / column.sum())
    fixed = torch.addmm(programs.budget.outer(column / column.sum()), programs.linear, project)
    project *= penalty
    # The sum of the point within the bounds and the scaled multiplier.
    both, place = fixed.clone(), programs.inside(fixed)
    for _ in range(SPLITS):
        reached = torch.addmm(fixed, both.sub(place, alpha=2), project, alpha=-1)
        both.add_(reached.sub_(place), alpha=RELAXATION)
        if programs.cost is None:
            place = programs.inside(both)
        else:
            moved, least = both - programs.held, programs.cost / penalty
            moved -= torch.minimum(torch.maximum(moved, -least), least)
            place = programs.inside(programs.held + moved)
    return _near(programs, place)


def _alike(programs: Programs) -> bool:
    """Whether neighbours in the batch are nearer than any two programs are."""
    said = torch.cat([programs.linear, programs.diagonal()], 1)
    return bool((said[1:] - said[:-1]).square().mean() < NEAR * said.var(0, correction=0).mean())


def _judged(programs: Programs, found: Minimisers) -> BatchSolution:
    """The solutions and their certificates, of `certificate.py`."""
    point = programs.inside(found.point)
    nu, missed = found.budget, point.sum(1) - programs.budget
    reduced = found.gradient + nu.unsqueeze(1)
    objective = 0.5 * point * (found.gradient - programs.linear) + programs.costs(point)
    objective = objective.sum(1)
    gap = _gap(programs, point, reduced) + (nu * missed).abs()
    gap = torch.where(found.failed, torch.inf, gap)
    scale = torch.maximum(objective.abs(), programs.diagonal().mean(1))
    slope = torch.zeros_like(point)
    if programs.cost is not None:
        # At the upper bound it is the slope below that the bound adds to, at the lower that above.
        over = (point > programs.held) | ((point == programs.held) & (point < programs.upper))
        slope = torch.where(over, programs.cost, -programs.cost)
    bound = (point == programs.upper) | (point == programs.lower)
    return BatchSolution(
        point=point,
        objective=objective,
        gap=gap,
        relative_gap=gap / scale.clamp(min=torch.finfo(scale.dtype).tiny),
        residual=missed.abs(),
        multipliers={"budget": nu},
        reduced_cost=torch.where(bound, reduced + slope, 0.0),
        iterations=found.passes,
    )


def _gap(programs: Programs, point: Batch, reduced: Batch) -> Each:
    """What each program's objective can exceed its least value by.

    Infinite bounds are replaced by those that the budget implies; where there are none, only Q
    stops a variable, and its part is 0.5 r'Q^-1 r.
    """
    lower, upper, budget = programs.lower, programs.upper, programs.budget.unsqueeze(1)
    spare = (budget - lower.sum(1, keepdim=True) + lower).nan_to_num(nan=torch.inf)
    high = torch.where(upper.isinf(), torch.maximum(spare, point), upper)
    spare = (budget - upper.sum(1, keepdim=True) + upper).nan_to_num(nan=-torch.inf)
    low = torch.where(lower.isinf(), torch.minimum(spare, point), lower)
    ends = [low, high] if programs.cost is None else [low, high, programs.inside(programs.held)]
    open_ended = bool(low.isinf().any()) or bool(high.isinf().any())
    if open_ended:
        ends = [torch.where(end.isfinite(), end, point) for end in ends]
    here = programs.costs(point)
    gain = torch.zeros_like(point)
    for end in ends:
        gain = torch.maximum(gain, reduced * (point - end) + (here - programs.costs(end)))
    if not open_ended:
        return gain.sum(1)
    cost = 0.0 if programs.cost is None else programs.cost
    force = torch.where(high.isinf(), (reduced + cost).clamp(max=0), 0.0)
    force += torch.where(low.isinf(), (reduced - cost).clamp(min=0), 0.0)
    gap = gain.masked_fill(force != 0, 0).sum(1)
    forced = force.any(1).nonzero().squeeze(1)
    return gap.index_add(0, forced, _stopped(programs.part(forced), force[forced]))


def _stopped(programs: Programs, force: Batch) -> Each:
    """0.5 r'Q^-1 r; infinite where Q is singular."""
    shared = programs.matrix.ndim == 2
    matrix = programs.matrix[None] if shared else programs.matrix[programs.which]
    cholesky, info = torch.linalg.cholesky_ex(matrix)
    factor = cholesky.expand(len(force), -1, -1)
    moved = torch.linalg.solve_triangular(factor, force.unsqueeze(2), upper=False)
    return torch.where(info == 0, 0.5 * moved.square().sum((1, 2)), torch.inf)


def _one(
    programs: Programs, index: int, rows: Rows | None, names: Sequence[str]
) -> QuadraticProgram:
    """One program of the batch."""
    one = programs.part(torch.tensor([index], device=programs.which.device))
    return quadratic_program(
        Dense(one.matrix if one.matrix.ndim == 2 else one.matrix[index]),
        one.linear[0],
        budget=one.budget.item(),
        lower=one.lower[0],
        upper=one.upper[0],
        cost=0.0 if one.cost is None else one.cost[0],
        held=one.held[0],
        rows=rows,
        names=names,
    )


def _write(found: BatchSolution, index: int, answer: Solution) -> None:
    """Write the solution of one program."""
    for name in (
        "point",
        "objective",
        "gap",
        "relative_gap",
        "residual",
        "reduced_cost",
        "iterations",
    ):
        getattr(found, name)[index] = getattr(answer, name)
    for name, multipliers in found.multipliers.items():
        multipliers[index] = answer.multipliers[name]
