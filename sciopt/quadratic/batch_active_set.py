"""The active set with a batch axis: solve what is supposed, correct what is contradicted.

See `batch.py` for the idea.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sciopt.quadratic.batch_programs import Batch, Each, Minimisers, Programs, Suppositions

# Passes after which programs are handled with care, and after which they are given up.
CAREFUL, PASSES = 8, 60
# Programs of similar support solved at a time, so that their blocks stay in the cache.
TOGETHER = 256
# A pivot of Cholesky's method so much smaller than the largest is made of round-off.
SINGULAR = 1e-14
ROUND_OFF = 1e-14
NUDGE = 1e-6


def active_set_of_batch(
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
