"""Physics-informed neural networks: read this file first.

A network u(x, t; params) is trained until it solves an equation: the loss is the mean squared
residual of the equation at collocation points, plus the mean squared misfit of the initial and
boundary conditions (Raissi, Perdikaris & Karniadakis 2019, "Physics-informed neural networks").

    language.py        how a problem is written; problems.py is the suite
    least_squares.py   residuals, Jacobian and gradient, by taylor.py and network.py;
                       torch_func.py for a problem's own module
    training.py        the points, and how they follow the residual
    stages.py          what one step of each method does; methods.py are their settings

The solver below moves the params one iteration a step, draws new points when they are due, changes
over from stage to stage and from time slab to time slab. For the same seed and network, every
method begins with the same params and the same points.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn import methods
from applications.pinn.checks import check, checked_reference
from applications.pinn.language import Index, Problem
from applications.pinn.memory import keep_freed_memory
from applications.pinn.reference import Reference
from applications.pinn.sampling import Points
from applications.pinn.slabs import boundaries, slab
from applications.pinn.stages import Stage, stage_of
from applications.pinn.torch_func import constants_of
from applications.pinn.training import Training
from sciopt.bench import Ended, Status

# Draws of new points that a method which can make no progress is given.
SECOND_CHANCES = 3
# A held-out loss this much larger than the loss means that the points were fitted.
OVERFITTED = 10.0
AT_ROUNDING = "on fresh points the residuals are no more than rounding errors"


@dataclass(frozen=True)
class Solved:
    """A time slab that is finished."""

    training: Training
    params: Float[Tensor, " params"]

    def channels(
        self, points: Points, indices: tuple[Index, ...]
    ) -> Float[Tensor, "channels points unknowns"]:
        """The solution's derivatives at any points in float64."""
        return self.training.channels(self.params.double(), points, indices)


class Solver:
    """A method at work on a problem."""

    def __init__(
        self, problem: Problem, method: methods.Method, seed: int, device: torch.device
    ) -> None:
        check(problem)
        self.problem, self.method, self.seed, self.device = problem, method, seed, device
        sequence = isinstance(method, methods.Sequence)
        names = method.stages if sequence else ()
        self.stage_methods = [methods.STAGES[name] for name in names] if sequence else [method]
        self.stage_steps = method.stage_steps if sequence else ()
        self.solved: list[Solved] = []
        self.steps = self.chances = 0
        self.reference = checked_reference(problem)
        self._begin_slab(None)

    @property
    def resumable(self) -> bool:
        """Whether no stage is run by SciPy."""
        return not any(isinstance(method, methods.SciPy) for method in self.stage_methods)

    @property
    def params(self) -> Float[Tensor, " params"]:
        """Of the network in training."""
        return self.stage.params

    def step(self) -> Ended | None:
        """One iteration of the stage whose turn it is."""
        if self._slab_is_over():
            self._begin_slab(self.params)
        elif self.stage_number < len(self.stage_steps) and (
            self.steps_in_stage >= self.stage_steps[self.stage_number]
        ):
            self._begin_stage(self.stage_number + 1, self.params)
        every = self.stage_methods[self.stage_number].redraw_every
        if every and self.steps_in_stage and self.steps_in_stage % every == 0:
            self._redraw()
            if self.training.below(self.training.rounding, self.params):
                return self._finished(Ended(Status.CONVERGED, AT_ROUNDING))
        ended = self.stage.step()
        self.steps += 1
        self.steps_in_slab += 1
        self.steps_in_stage += 1
        if ended is None:
            self.chances = 0
            return None
        return self._after_the_end(ended, every)

    def _after_the_end(self, ended: Ended, redraws: int) -> Ended | None:
        """What to do where a stage can go no further: new points, the next stage, or nothing."""
        if ended.status is Status.DIVERGED:
            worst = self.training.worst_term(self.params)
            numbers = ", ".join(f"{k} {v:.1e}" for k, v in self.stage.numbers().items())
            where = f"at step {self.steps}{f' with {numbers}' if numbers else ''}"
            return Ended(Status.DIVERGED, f"{ended.reason}; {where}, worst in {worst!r}")
        if self.stage_number < len(self.stage_steps):
            self._begin_stage(self.stage_number + 1, self.params)
            return None
        if redraws and self.chances < SECOND_CHANCES:
            self.chances += 1
            self._redraw()
            return None
        return self._finished(ended)

    def _finished(self, ended: Ended) -> Ended | None:
        """The next slab, if there is one."""
        if len(self.solved) + 1 < self.problem.slabs:
            self._begin_slab(self.params)
            return None
        return ended

    def _redraw(self) -> None:
        """New points; a wider network if the one there is has come to the end of its progress."""
        self.training.redraw(self.params)
        method = self.stage_methods[self.stage_number]
        if isinstance(method, methods.GaussNewton) and method.widen > 1 and self.training.standing:
            wider = self.training.widen(self.params.detach(), method.widen, method.most_params)
            if wider is not None:
                method = replace(method, damping=self.stage.numbers()["damping"])
                self.stage = stage_of(method, self.training, wider)
                return
        self.stage.points_changed()

    def _slab_is_over(self) -> bool:
        if len(self.solved) + 1 == self.problem.slabs:
            return False
        if self.steps_in_slab >= self.method.slab_steps:
            return True
        return self.training.below(self.method.slab_loss, self.params)

    def _begin_slab(self, params: Float[Tensor, " params"] | None) -> None:
        """Train on the next slab, from the initial values or from where the last one ended."""
        if params is not None:
            self.solved.append(Solved(self.training, params.detach().clone()))
        before = self.solved[-1].channels if self.solved else None
        rates = self.solved[0].training.network.embedding.scales if self.solved else None
        problem = slab(self.problem, len(self.solved), before)
        self.training = Training(problem, self.method, self.seed, self.device, rates)
        start = self.training.initial_params
        if params is not None:
            # A slab's solution looks like the one before more than like a random network.
            self.training.resize(self.solved[-1].training.hidden)
            start = params
        self.steps_in_slab = 0
        self._begin_stage(0, start)

    def _begin_stage(self, number: int, start: Float[Tensor, " params"]) -> None:
        self.stage_number, self.steps_in_stage = number, 0
        self.stage: Stage = stage_of(self.stage_methods[number], self.training, start)

    def values(self, points: Points) -> Float[Tensor, "points unknowns"]:
        """The unknowns at any points in float64, each from the network of its slab."""
        ends = torch.tensor(boundaries(self.problem)[1:-1], dtype=torch.float64)
        number = torch.bucketize(points[:, -1].cpu().contiguous(), ends)
        number = number.clamp(max=len(self.solved))
        networks = [*self.solved, Solved(self.training, self.params.detach())]
        result = points.new_empty(len(points), len(self.problem.unknowns)).to(self.device)
        for k, network in enumerate(networks):
            here = (number == k).to(points.device)
            if here.any():
                found = network.training.values(network.params.double(), points[here])
                result[here.to(self.device)] = found
        return result

    def state_dict(self) -> dict[str, Any]:
        """All that decides the steps to come."""
        return {
            "solved": [
                {"params": s.params.clone(), "training": s.training.state_dict()}
                for s in self.solved
            ],
            "training": self.training.state_dict(),
            "stage": self.stage.state_dict(),
            "stage_number": self.stage_number,
            "steps": self.steps,
            "steps_in_slab": self.steps_in_slab,
            "steps_in_stage": self.steps_in_stage,
            "chances": self.chances,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        state = copy.deepcopy(dict(state))
        while len(self.solved) < len(state["solved"]):
            finished = state["solved"][len(self.solved)]
            self.training.load_state_dict(finished["training"])
            self._begin_slab(finished["params"].to(self.device))
        self.training.load_state_dict(state["training"])
        self._begin_stage(state["stage_number"], self.training.initial_params)
        self.stage.load_state_dict(state["stage"])
        self.steps, self.chances = state["steps"], state["chances"]
        self.steps_in_slab, self.steps_in_stage = state["steps_in_slab"], state["steps_in_stage"]


def start(problem: Problem, method: methods.Method, seed: int, device: torch.device) -> Solver:
    """The method's solver at its initial params, warmed up."""
    keep_freed_memory()
    solver = Solver(problem, method, seed, device)
    for _ in range(3):
        solver.training.least_squares.loss_and_gradient(solver.params.detach())
    solver.training.least_squares.evaluations = 0
    return solver


def evaluate(problem: Problem, solver: Solver) -> dict[str, float]:  # noqa: ARG001
    """Metrics of the params, all computed in float64 whatever the precision of the training.

    `relative_l2_error` |u - u_ref| / |u_ref| on the reference solution's grid, the largest over
    the unknowns (where there is a reference); `loss` on the training points; `held_out_loss`, the
    equations' share of it on points never trained on; `overfitted_points`, 1 where that is more
    than ten times the loss; `points` inside the region; `evaluations` of residuals with their
    gradient or Jacobian, products with the Hessian not counted; and the method's own numbers, such
    as its damping.
    """
    training, params = solver.training, solver.params.detach().double()
    loss, held_out = training.loss(params), training.held_out_loss(params)
    return {
        **({} if solver.reference is None else {"relative_l2_error": error(solver)}),
        "loss": loss,
        "held_out_loss": held_out,
        "overfitted_points": float(held_out > OVERFITTED * loss),
        "points": float(training.count),
        "evaluations": float(training.least_squares.evaluations),
        **solver.stage.numbers(),
    }


def error(solver: Solver) -> float:
    """Relative L2 error against the reference solution, the largest over the unknowns."""
    reference = solver.reference
    assert reference is not None
    values = solver.values(grid_of(reference)).cpu().numpy()
    errors = []
    for k, name in enumerate(solver.problem.unknowns):
        expected = reference.values[name].ravel()
        errors.append(np.linalg.norm(values[:, k] - expected) / np.linalg.norm(expected))
    return float(max(errors)) if all(map(math.isfinite, errors)) else math.inf


def grid_of(reference: Reference) -> Points:
    """All points of a reference's grid, in the order of its values flattened."""
    axes = [torch.from_numpy(np.asarray(axis)) for axis in reference.axes.values()]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], dim=1)


def arrays(problem: Problem, solver: Solver) -> dict[str, np.ndarray]:
    """What figures and `Solution` need: networks, points, predicted and reference solution."""
    kept = {"points": solver.training.least_squares.terms[0].points.cpu().numpy()}
    for k, network in enumerate([*solver.solved, Solved(solver.training, solver.params.detach())]):
        embedding = network.training.network.embedding
        kept[f"params.{k}"] = network.params.cpu().numpy()
        kept[f"rates.{k}"] = np.array(list(embedding.scales.values()))
        kept[f"hidden.{k}"] = np.array(network.training.hidden)
        kept |= constants_of(network.training.network, k)
        if embedding.frequencies is not None:
            kept["frequencies"] = embedding.frequencies.cpu().numpy()
    if solver.reference is not None:
        values = solver.values(grid_of(solver.reference)).cpu().numpy()
        shape = [len(axis) for axis in solver.reference.axes.values()]
        for name, axis in solver.reference.axes.items():
            kept[f"axis.{name}"] = np.asarray(axis)
        for k, name in enumerate(problem.unknowns):
            kept[f"predicted.{name}"] = values[:, k].reshape(shape)
            kept[f"reference.{name}"] = solver.reference.values[name]
    return kept
