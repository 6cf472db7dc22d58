"""Physics-informed neural networks: read this file first.

A network u(t, x; params) is trained until it solves an equation. The loss is the mean squared
residual of the equation at collocation points, plus the mean squared misfit of the initial and
boundary values, unless the network meets those by construction (Raissi, Perdikaris &
Karniadakis 2019, "Physics-informed neural networks"). `training.py` is that loss; a solver moves
the params, one iteration a step. Every method gets the same points, the same initial params and
the same network for the same seed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import OptimizeResult
from torch import Tensor

import sciopt
from applications.pinn import methods
from applications.pinn.problems import Burgers
from applications.pinn.stepped_lbfgsb import SteppedLBFGSB
from applications.pinn.training import Training
from sciopt.bench import Ended, Status

NOT_RESUMABLE = "SciPy's L-BFGS-B cannot be resumed; start the run again"


class AdamSolver:
    """Adam on the full batch."""

    resumable = True

    def __init__(self, training: Training, lr: float) -> None:
        self.training = training
        self.params = training.initial_params.clone().requires_grad_()
        self.optimizer = sciopt.Adam([self.params], lr=lr)

    def step(self) -> Ended | None:
        """One update from the gradient on all points; a NaN is left to the metrics to find."""
        _, self.params.grad = self.training.loss_and_gradient(self.params)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Params, Adam's memory and the number of evaluations."""
        return {
            "params": self.params.detach().clone(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "evaluations": self.training.evaluations,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        with torch.no_grad():
            self.params.copy_(state["params"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.training.evaluations = state["evaluations"]


class LBFGSSolver:
    """SciPy's L-BFGS-B, one iteration a step.

    The driver is float64; an evaluation rounds the params to the run's precision first.
    """

    resumable = False

    def __init__(
        self,
        training: Training,
        memory: int,
        gradient_tolerance: float,
        start: Float[Tensor, " params"],
    ) -> None:
        self.training = training
        self.params = start.detach().clone()
        self.gradient_tolerance = gradient_tolerance
        self.minimization = SteppedLBFGSB(
            start.detach().double().cpu().numpy(),
            memory=memory,
            gradient_tolerance=gradient_tolerance,
        )

    def step(self) -> Ended | None:
        """One iteration with as many evaluations as its line search asks for."""
        outcome = self.minimization.next(self._loss_and_gradient)
        if isinstance(outcome, OptimizeResult):
            return self._ended(outcome)
        self.params = self._rounded(outcome.params)
        return None

    def _rounded(self, params: Float[np.ndarray, " params"]) -> Float[Tensor, " params"]:
        return torch.from_numpy(params).to(self.params)

    def _loss_and_gradient(
        self, params: Float[np.ndarray, " params"]
    ) -> tuple[float, Float[np.ndarray, " params"]]:
        loss, gradient = self.training.loss_and_gradient(self._rounded(params))
        return loss.item(), gradient.double().cpu().numpy()

    def _ended(self, result: OptimizeResult) -> Ended:
        """SciPy's word for why it stopped, with the loss and gradient that led to it."""
        steepest = float(np.abs(result.jac).max())
        reason = (
            f"SciPy's L-BFGS-B after {result.nit} iterations: {result.message} "
            f"(loss {result.fun:.3e}, largest gradient component {steepest:.1e})"
        )
        if not (math.isfinite(result.fun) and math.isfinite(steepest)):
            return Ended(Status.DIVERGED, reason)
        if steepest <= self.gradient_tolerance:
            return Ended(Status.CONVERGED, reason)
        # With a zero tolerance on the loss, SciPy's other tests say "no progress": equal losses.
        return Ended(Status.STALLED, reason)

    def state_dict(self) -> dict[str, Any]:
        """Not available: SciPy keeps its memory to itself."""
        raise NotImplementedError(NOT_RESUMABLE)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Not available: SciPy keeps its memory to itself."""
        raise NotImplementedError(NOT_RESUMABLE)


class AdamThenLBFGSSolver:
    """Adam for `switch_step` steps, then L-BFGS from its params."""

    resumable = False

    def __init__(self, training: Training, method: methods.AdamThenLBFGS) -> None:
        self.training = training
        self.method = method
        self.solver: AdamSolver | LBFGSSolver = AdamSolver(training, method.lr)
        self.steps = 0

    @property
    def params(self) -> Float[Tensor, " params"]:
        """The params of the method at work."""
        return self.solver.params

    def step(self) -> Ended | None:
        """One step of the method whose turn it is."""
        if self.steps == self.method.switch_step:
            self.solver = LBFGSSolver(
                self.training, self.method.memory, self.method.gradient_tolerance, self.params
            )
        self.steps += 1
        return self.solver.step()

    def state_dict(self) -> dict[str, Any]:
        """Not available: SciPy keeps its memory to itself."""
        raise NotImplementedError(NOT_RESUMABLE)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Not available: SciPy keeps its memory to itself."""
        raise NotImplementedError(NOT_RESUMABLE)


Solver = AdamSolver | LBFGSSolver | AdamThenLBFGSSolver


def start(problem: Burgers, method: methods.Method, seed: int, device: torch.device) -> Solver:
    """The method's solver at its initial params, warmed up."""
    training = Training(problem, method.precision, seed, device)
    for _ in range(3):
        training.loss_and_gradient(training.initial_params)
    training.evaluations = 0
    match method:
        case methods.Adam():
            return AdamSolver(training, method.lr)
        case methods.LBFGS():
            return LBFGSSolver(
                training, method.memory, method.gradient_tolerance, training.initial_params
            )
        case methods.AdamThenLBFGS():
            return AdamThenLBFGSSolver(training, method)


def evaluate(_: Burgers, solver: Solver) -> dict[str, float]:
    """Metrics of the params, all computed in float64 whatever the precision of the training.

    `relative_l2_error` against the reference solution, |u - u_ref| / |u_ref| on its grid;
    `loss` on the training points; `held_out_residual`, the root mean square of the residual on
    points never trained on; `evaluations` of the loss and its gradient so far.
    """
    training = solver.training
    params = solver.params.detach().double()
    error = training.predict(params) - training.reference_u
    held_out = training.residual(params, training.held_out_x, training.held_out_t)
    return {
        "relative_l2_error": float(error.norm() / training.reference_u.norm()),
        "loss": float(training.loss(params, training.exact_points).detach()),
        "held_out_residual": float(held_out.detach().square().mean().sqrt()),
        "evaluations": float(training.evaluations),
    }


def arrays(_: Burgers, solver: Solver) -> dict[str, np.ndarray]:
    """What figures draw: predicted and reference solution on the grid (t, x), and the points."""
    training = solver.training
    points = torch.stack([training.exact_points.x, training.exact_points.t], dim=1)
    return {
        "x": training.reference.x,
        "t": training.reference.t,
        "u_predicted": training.predict(solver.params).cpu().numpy(),
        "u_reference": training.reference.u,
        "points": points.cpu().numpy(),
    }
