"""READ FIRST: the solver. A grid of learning rates descends in lockstep, as one composed optimizer.

    x -= lr · (product of rates) · direction,       both from sciopt, as `methods.py` composes them

The parameter has the shape (cells, n), a row for each variant of the problem and each learning
rate. All rules used here treat rows apart, so that a row is exactly the descent that a run of its
own would be. A row that leaves the finite range is put back to where it last was and stays there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import floor, log10, prod, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from applications.landscapes.digits import Digits, Networks
from applications.landscapes.methods import Method
from applications.landscapes.problems import Landscape, Problem
from applications.landscapes.rules import GridRate
from sciopt import Box, Composed
from sciopt.bench.domain import Ended, Status

# A coordinate this far out has diverged.
DIVERGED_AT = 1e10
# The path is kept whole for so many numbers, then thinned in the logarithm of the step.
WHOLE = 150_000

TALLIES = (
    "settled_step",
    "diverged_step",
    "move_sum",
    "move_square_sum",
    "linear_loss_sum",
    "gradient_sum",
    "gradient_square_sum",
)


class Descents:
    """All variants of a problem, each with every learning rate of the method."""

    resumable = True

    def __init__(self, problem: Problem, method: Method, seed: int, device: torch.device) -> None:
        self.problem, self.method = problem, method
        self.start = problem.start_point().to(device)
        self.minima = problem.minima().to(device)
        shape = problem.variants, len(method.lr)
        self.rows = self.start.repeat(shape[0] * shape[1], 1)
        self.x = self.rows.view(*shape, -1)
        self.lr = torch.tensor(method.lr, dtype=torch.float64, device=device)
        direction, rates = method.rules(self._hessian if problem.has_curvature else None)
        self.optimizer = Composed(
            [self.rows],
            direction,
            [*rates, GridRate(self.lr.repeat(shape[0]))],
            lr=1.0,
            projection=Box(*problem.box) if problem.box else None,
        )
        self.generator = torch.Generator()
        words = np.random.SeedSequence([seed, 0]).generate_state(1, np.uint64)
        self.generator.manual_seed(int(words[0]) >> 1)

        self.steps = 0
        self.last_move = torch.zeros_like(self.x)
        self.settled_step = torch.zeros(shape, dtype=torch.int64, device=device)
        self.diverged_step = torch.zeros_like(self.settled_step)
        self.move_sum, self.move_square_sum = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.linear_loss_sum = torch.zeros(shape, dtype=torch.float64, device=device)
        self.gradient_sum = torch.zeros_like(self.x)
        self.gradient_square_sum = torch.zeros_like(self.x)
        self.kept_steps: list[int] = [0]
        self.path: list[Tensor] = [self.x.clone()]
        self.step_sizes: list[Tensor] = [torch.zeros_like(self.x)]
        if isinstance(problem, Landscape):
            self.close = problem.tolerance * self._distance(self.start)

    @property
    def diverged(self) -> Bool[Tensor, "variants rates"]:
        """Which descents have left the finite range."""
        return self.diverged_step > 0

    def step(self) -> Ended | None:
        """One gradient and one move of every descent."""
        self.steps += 1
        before = self.x.clone()
        gradient = self._gradient()
        if self.method.lr_schedule == "inverse-sqrt":
            self.optimizer.param_groups[0]["lr"] = 1 / sqrt(self.steps)
        self.rows.grad = None if self.problem.absent(self.steps) else gradient.flatten(0, 1)
        self.optimizer.step()
        self._hold_diverged(before)
        self.last_move = self.x - before
        self._tally(before, gradient)
        self._keep()
        return self._all_diverged() if self.diverged.all() else None

    def _gradient(self) -> Float[Tensor, "variants rates n"]:
        """The loss's gradient at all points, and its noise."""
        point = self.x.detach().requires_grad_()
        loss = self.problem.loss(point, self.steps).sum()
        (gradient,) = torch.autograd.grad(loss, point)
        noise = self.problem.noise(self.x, self.generator)
        return gradient if noise is None else gradient + noise

    def _hessian(self, rows: Float[Tensor, "cells n"]) -> Float[Tensor, "cells n n"]:
        """Column by column; a row's gradient depends on that row alone."""
        with torch.enable_grad():
            point = rows.detach().requires_grad_()
            loss = self.problem.loss(point.unflatten(0, self.x.shape[:2]), self.steps).sum()
            (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
            columns = [
                torch.autograd.grad(column.sum(), point, retain_graph=True)[0]
                for column in gradient.unbind(-1)
            ]
        return torch.stack(columns, dim=-1)

    def _hold_diverged(self, before: Float[Tensor, "variants rates n"]) -> None:
        """Rows that have left the finite range stay where they last were inside."""
        lost = ~(self.x.abs().amax(-1) <= DIVERGED_AT)
        self.diverged_step.masked_fill_(lost & ~self.diverged, self.steps)
        self.x.copy_(torch.where(self.diverged[..., None], before, self.x))

    def _tally(
        self,
        before: Float[Tensor, "variants rates n"],
        gradient: Float[Tensor, "variants rates n"],
    ) -> None:
        """Count what paths too long to be kept must still tell."""
        if len(self.minima):
            settled = torch.where(self.settled_step > 0, self.settled_step, self.steps)
            self.settled_step = torch.where(self._distance(self.x) <= self.close, settled, 0)
        if self.steps > self.problem.burn_in:
            self.move_sum += self.last_move
            self.move_square_sum.addcmul_(self.last_move, self.last_move)
        if self.problem.box:
            self.linear_loss_sum += (gradient * before).sum(-1)
            self.gradient_sum += gradient
            self.gradient_square_sum.addcmul_(gradient, gradient)

    def _distance(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        """To the nearest minimum."""
        return (x[..., None, :] - self.minima).square().sum(-1).amin(-1).sqrt()

    def _keep(self) -> None:
        """Keep this point of the path if it is one to be kept."""
        numbers = self.x.numel()
        a_decade = min(max(20_000 // numbers, 2), 50)
        if self.steps * numbers > WHOLE and floor(a_decade * log10(self.steps)) == floor(
            a_decade * log10(self.steps - 1)
        ):
            return
        self.kept_steps.append(self.steps)
        self.path.append(self.x.clone())
        self.step_sizes.append(self._step_size())

    def _step_size(self) -> Float[Tensor, "variants rates n"]:
        """Learning rate times rates, as applied in this step."""
        if self.rows.grad is None:
            return torch.zeros_like(self.x)
        rates = [scope[self.rows] for scope in self.optimizer.last_rates().values()]
        step_size = prod(rates) * self.optimizer.param_groups[0]["lr"]
        return step_size.expand_as(self.rows).reshape_as(self.x).clone()

    def _all_diverged(self) -> Ended:
        """The end of a run of which no descent is left."""
        return Ended(
            Status.DIVERGED,
            "every descent diverged; the last, with learning rate "
            f"{float(self.lr[int(self.diverged_step.amax(0).argmax())]):g}, in step "
            f"{int(self.diverged_step.max())}",
        )

    def average_regret(self) -> Float[Tensor, "variants rates"]:
        """Mean linear loss suffered over that of the best fixed point of the box."""
        assert self.problem.box is not None
        low, high = self.problem.box
        best = torch.minimum(low * self.gradient_sum, high * self.gradient_sum).sum(-1)
        return (self.linear_loss_sum - best) / max(self.steps, 1)

    def metrics(self) -> Mapping[str, float]:
        """See `evaluate`."""
        alive = ~self.diverged
        moves = self.last_move[alive] if alive.any() else self.last_move
        numbers = {
            "rms_move": float(moves.square().mean().sqrt()),
            "fraction_diverged": float(self.diverged.double().mean()),
        }
        if self.problem.box:
            regret = self.average_regret().mean(0)
            numbers["average_regret"] = float(regret.amin())
            numbers["best_lr"] = float(self.lr[regret.argmin()])
        elif len(self.minima):
            distance = self._distance(self.x).masked_fill(self.diverged, DIVERGED_AT)
            best, rate = distance.amin(-1).max(0)
            numbers["distance"] = float(best)
            numbers["best_lr"] = float(self.lr[distance[rate].argmin()])
            loss = self.problem.loss(self.x, self.steps + 1)
            numbers["loss"] = float(loss.flatten()[distance.flatten().argmin()])
            numbers["fraction_settled"] = float((self.settled_step > 0).double().mean())
        else:
            numbers["travel"] = float((self.x - self.start).norm(dim=-1).amax())
        return numbers

    def arrays(self) -> Mapping[str, np.ndarray]:
        """See `arrays`."""
        counted = max(self.steps - self.problem.burn_in, 1)
        kept = {
            "lr": self.lr,
            "x": self.x,
            "start": self.start,
            "minima": self.minima,
            "settled_step": self.settled_step,
            "diverged_step": self.diverged_step,
            "mean_move": self.move_sum / counted,
            "rms_move": (self.move_square_sum / counted).sqrt(),
            "path": torch.stack(self.path),
            "step_size": torch.stack(self.step_sizes),
        }
        if self.problem.box:
            kept["average_regret"] = self.average_regret()
            kept["gradient_norm"] = self.gradient_square_sum.sqrt()
        return {
            "path_steps": np.array(self.kept_steps),
            **{name: values.cpu().numpy().copy() for name, values in kept.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Points, the optimizer's state, the luck to come and the tallies so far."""
        return {
            "x": self.x.clone(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "last_move": self.last_move.clone(),
            "kept_steps": list(self.kept_steps),
            "path": torch.stack(self.path),
            "step_sizes": torch.stack(self.step_sizes),
            **{name: getattr(self, name).clone() for name in TALLIES},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        device = self.x.device
        self.x.copy_(state["x"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.steps = state["steps"]
        self.last_move = state["last_move"].to(device, copy=True)
        self.kept_steps = list(state["kept_steps"])
        self.path = list(state["path"].to(device, copy=True).unbind())
        self.step_sizes = list(state["step_sizes"].to(device, copy=True).unbind())
        for name in TALLIES:
            setattr(self, name, state[name].to(device, copy=True))


def start(
    problem: Problem | Digits, method: Method, seed: int, device: torch.device
) -> Descents | Networks:
    """All descents at their start.

    Raises:
        ValueError: a method that needs a Hessian on losses that have none.
    """
    if isinstance(problem, Digits):
        return Networks(problem, method, seed, device)
    return Descents(problem, method, seed, device)


def evaluate(problem: Problem | Digits, solver: Descents | Networks) -> Mapping[str, float]:  # noqa: ARG001
    """How far the descents have come.

    `rms_move` of the last step over all coordinates of the descents not diverged, and
    `fraction_diverged`. Where minima are known: `distance`, that of the best learning rate to the
    nearest minimum, in the worst variant; that rate, `best_lr`; the `loss` of the best descent of
    all; `fraction_settled`, of descents within the tolerance. On a box: `average_regret` per step
    at the `best_lr`, averaged over variants. Elsewhere `travel`, the greatest distance from the
    start.
    """
    return solver.metrics()


def arrays(problem: Problem | Digits, solver: Descents | Networks) -> Mapping[str, np.ndarray]:  # noqa: ARG001
    """What the descents did, in shapes that begin with (variants, rates).

    `settled_step`: since when a descent has been within the tolerance, 0 if it is not.
    `diverged_step`: 0 if it never was. `mean_move` and `rms_move` (..., n) over the steps after
    the problem's burn-in. `path` and `step_size` (points, ..., n): positions after, and learning
    rate times rates in, the steps `path_steps`, of which 0 is the start. On a box
    `average_regret` per step and `gradient_norm` (..., n), the root of the sum of squares.
    """
    return solver.arrays()
