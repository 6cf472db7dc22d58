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
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciopt.quadratic.forms import Dense
from sciopt.quadratic.program import (
    InfeasibleProgram,
    QuadraticProgram,
    Rows,
    Solution,
    Values,
    quadratic_program,
)
from sciopt.quadratic.solve import solve

# Passes after which programs are handled with care, and after which they are given up.
CAREFUL, PASSES = 8, 60
# Every sixteenth program is solved first and the others start from it, where neighbours differ by
# no more than this share of the variance over the batch.
STRIDE, NEAR = 16, 0.1
# Steps of ADMM, their overrelaxation, and the least eigenvalue that their penalty allows for.
SPLITS, RELAXATION, LEAST_RATIO = 10, 1.6, 1e-4
# Programs of similar support solved at a time, so that their blocks stay in the cache.
TOGETHER = 256
# Relative gap above which `solve` is asked.
CERTIFIED = 1e-11
# A pivot of Cholesky's method so much smaller than the largest is made of round-off.
SINGULAR = 1e-14
ROUND_OFF = 1e-14
NUDGE = 1e-6
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
    programs = _programs(matrix, linear, budget, lower, upper, cost, held)
    batch = len(programs.which)
    nothing = Minimisers(
        torch.zeros_like(programs.linear),
        torch.zeros_like(programs.budget),
        torch.zeros_like(programs.linear),
        torch.zeros_like(programs.which),
        torch.ones_like(programs.which, dtype=torch.bool),
    )
    if rows is None:
        _check_budgets(programs)
        everything = torch.arange(batch, device=programs.which.device)
        if programs.matrix.ndim == 2:
            _active_set(programs, everything, _split(programs), nothing)
        elif batch > STRIDE and _alike(programs):
            first, rest = everything[::STRIDE], everything[everything % STRIDE != 0]
            some, others = programs.part(first), programs.part(rest)
            _active_set(some, first, _cold(some), nothing)
            near = nothing.point[rest // STRIDE * STRIDE]
            _active_set(others, rest, _near(others, near), nothing)
        else:
            _active_set(programs, everything, _cold(programs), nothing)
    found = _judged(programs, nothing)
    for name in rows.names if rows else ():
        found.multipliers[name] = torch.zeros_like(programs.budget)
    start = None
    for index in (~(found.relative_gap <= CERTIFIED)).nonzero().squeeze(1).tolist():
        answer = solve(_one(programs, index, rows, names), start)
        start = answer.point
        _write(found, index, answer)
    return found


def _programs(
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


def _check_budgets(programs: Programs) -> None:
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


def _active_set(
    programs: Programs, index: Int[Tensor, " some"], suppose: Suppositions, found: Minimisers
) -> None:
    """Solve and correct until nothing is contradicted; writes `found` at the index."""
    for passes in range(1, PASSES):
        if not len(index):
            return
        # On a CPU, blocks of one size each: those of a batch are as large as its largest support.
        together = TOGETHER if index.device.type == "cpu" else len(index)
        going = []
        for chunk in suppose.free.sum(1).argsort().split(together):
            part, supposed = programs.part(chunk), suppose.part(chunk)
            solved = _minimise(part, supposed)
            settled = _correct(part, supposed, solved, passes > CAREFUL)
            done = (settled & ~solved.failed).nonzero().squeeze(1)
            found.write(index[chunk[done]], solved.part(done), passes)
            on = (~settled & ~solved.failed).nonzero().squeeze(1)
            going.append((chunk[on], supposed.part(on)))
        left = torch.cat([chunk for chunk, _ in going])
        index, programs = index[left], programs.part(left)
        suppose = Suppositions(
            torch.cat([each.free for _, each in going]),
            torch.cat([each.place for _, each in going]),
            torch.cat([each.above for _, each in going]),
        )


def _minimise(programs: Programs, suppose: Suppositions) -> Minimisers:
    """The solutions of `Q_FF w_F + nu = c_F - slope_F - Q_FP w_P` within the budget."""
    free = suppose.free
    counts = free.sum(1)
    size = max(int(counts.max()), 1)
    program, variable = free.nonzero(as_tuple=True)
    position = (free.cumsum(1) - 1)[program, variable]
    index = torch.zeros(len(counts), size, dtype=torch.int64, device=free.device)
    index[program, position] = variable
    used = (torch.arange(size, device=free.device) < counts.unsqueeze(1)).to(suppose.place)
    shared = programs.matrix.ndim == 2
    if shared:
        rows = index[:0]
        flat = index.unsqueeze(2) * free.shape[1] + index.unsqueeze(1)
        blocks = programs.matrix.reshape(-1)[flat]
    else:
        rows = programs.rows(index)
        blocks = rows.gather(2, index.unsqueeze(1).expand(-1, size, -1))
    blocks.mul_(used.unsqueeze(2)).mul_(used.unsqueeze(1))
    blocks.diagonal(dim1=1, dim2=2).add_(1 - used)
    pinned = suppose.place.masked_fill(free, 0)
    pulled = programs.times(pinned) if bool(pinned.any()) else pinned
    force = (programs.linear - suppose.slope(programs) - pulled).gather(1, index) * used
    cholesky, info = torch.linalg.cholesky_ex(blocks)
    solved = torch.cholesky_solve(torch.stack([force, used], 2), cholesky)
    lacking = programs.budget - pinned.sum(1)
    sums = solved.sum(1)
    nu = (sums[:, 0] - lacking) / sums[:, 1]
    values = torch.addcmul(solved[:, :, 0], nu.unsqueeze(1), solved[:, :, 1], value=-1)
    values = torch.where(used > 0, values, 0)
    point = pinned.scatter_add(1, index, values)
    times = (
        point @ programs.matrix
        if shared
        else torch.bmm(values.unsqueeze(1), rows).squeeze(1) + pulled
    )
    pivots = cholesky.diagonal(dim1=1, dim2=2).square()
    pivots = torch.where(used > 0, pivots, pivots[:, :1])
    failed = (info != 0) | ~sums[:, 1].isfinite() | (pivots.amin(1) < SINGULAR * pivots.amax(1))
    gradient = times - programs.linear
    none = counts == 0
    if bool(none.any()):
        nu = torch.where(none, _balance(programs, suppose.place, gradient, lacking), nu)
        failed = torch.where(none, False, failed)
    return Minimisers(point, nu, gradient, counts, failed)


def _balance(programs: Programs, place: Batch, gradient: Batch, lacking: Each) -> Each:
    """A multiplier where no variable is free: one that keeps all in place, where there is one.

    Where the budget lacks something, one with which the first variables would move.
    """
    right, left = programs.slopes(place)
    up = (-gradient - right).masked_fill(place >= programs.upper, -torch.inf).amax(1)
    down = (-gradient - left).masked_fill(place <= programs.lower, torch.inf).amin(1)
    up, down = torch.where(up.isinf(), down, up), torch.where(down.isinf(), up, down)
    nudge = NUDGE * (up.abs() + down.abs() + programs.linear.abs().amax(1))
    room = ROUND_OFF * (1 + programs.budget.abs())
    nu = torch.where(
        lacking > room, up - nudge, torch.where(lacking < -room, down + nudge, 0.5 * (up + down))
    )
    return torch.where(nu.isfinite(), nu, 0.0)


def _correct(
    programs: Programs, suppose: Suppositions, solved: Minimisers, careful: bool
) -> Bool[Tensor, " batch"]:
    """Change what the solutions contradict; which programs have nothing to change."""
    free, place, point = suppose.free, suppose.place, solved.point
    low, high = suppose.interval(programs)
    room = ROUND_OFF * point.abs().amax(1, keepdim=True)
    below, above = free & (point < low - room), free & (point > high + room)
    nu = solved.budget.unsqueeze(1)
    reduced = solved.gradient + nu
    room = ROUND_OFF * (programs.linear.abs().amax(1, keepdim=True) + nu.abs())
    to_right, to_left = programs.slopes(place)
    rise, fall = reduced + to_right, reduced + to_left
    rising = ~free & (rise < -room) & (place < programs.upper)
    falling = ~free & (fall > room) & (place > programs.lower)
    # Where none is free, only one side can give the budget what it lacks.
    lacking = (programs.budget - point.sum(1)).masked_fill(free.any(1), 0).unsqueeze(1)
    room = ROUND_OFF * (1 + programs.budget.abs()).unsqueeze(1)
    rising &= lacking >= -room
    falling &= lacking <= room
    if careful:
        # Nothing is released before all is within its interval, and then the worst alone.
        worst = torch.where(rising, -rise, torch.where(falling, fall, 0)).argmax(1, keepdim=True)
        allowed = torch.zeros_like(free).scatter(1, worst, True)
        allowed &= ~(below | above).any(1, keepdim=True)
        rising, falling = rising & allowed, falling & allowed
    suppose.place = torch.where(below, low, torch.where(above, high, place))
    suppose.free = (free & ~below & ~above) | rising | falling
    if programs.cost is not None:
        over = torch.where(rising, place >= programs.held, place > programs.held)
        suppose.above = torch.where(rising | falling, over, suppose.above)
    return ~(below | above | rising | falling).any(1)


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
