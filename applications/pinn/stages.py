"""The methods at work: what one step of each does to the params."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import OptimizeResult
from torch import Tensor

import sciopt
from applications.pinn import methods
from applications.pinn.stepped_scipy import SteppedMinimization
from applications.pinn.training import Training
from sciopt import curvature
from sciopt.bench import Ended, Status

Params = Float[Tensor, " params"]
Curvature = (
    curvature.LBFGS | curvature.SelfScaledBroyden | curvature.NewtonCG | curvature.GaussNewton
)
Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)


class Stage(Protocol):
    """A method at work on the params of a training."""

    params: Params
    resumable: bool

    def step(self) -> Ended | None:
        """One iteration; why it can make no further one on these points."""
        ...

    def points_changed(self) -> None:
        """Take note that the training has other points now."""
        ...

    def numbers(self) -> dict[str, float]:
        """What to show of the method's state."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Params and the method's memory."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another stage of the same run."""
        ...


class TorchStage(Generic[Optimizer]):
    """A stage whose memory is that of a torch optimizer of one flat param."""

    resumable = True
    optimizer: Optimizer

    def __init__(self, training: Training, start: Params) -> None:
        self.training = training
        self.params = start.detach().clone().requires_grad_()

    def state_dict(self) -> dict[str, Any]:
        """Params and the optimizer's state."""
        return {
            "params": self.params.detach().clone(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another stage of the same run."""
        with torch.no_grad():
            self.params.copy_(state["params"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


class FirstOrderStage(TorchStage[torch.optim.Optimizer]):
    """A composed optimizer on the full batch of points."""

    def __init__(self, training: Training, start: Params, method: methods.FirstOrder) -> None:
        super().__init__(training, start)
        self.optimizer = getattr(sciopt, method.optimizer)([self.params], lr=method.lr)

    def step(self) -> Ended | None:
        """One update; a NaN is left to the metrics to find, lest the host wait for the device."""
        squares = self.training.least_squares
        _, self.params.grad = squares.loss_and_gradient(self.params.detach())
        self.optimizer.step()

    def points_changed(self) -> None:
        """Nothing to do: the next gradient is of the new points."""

    def numbers(self) -> dict[str, float]:
        """The learning rate."""
        return {"lr": float(self.optimizer.param_groups[0]["lr"])}


class ClosureStage(TorchStage[Curvature]):
    """L-BFGS, self-scaled Broyden, Newton-CG or Gauss-Newton, of `sciopt.curvature`."""

    def __init__(
        self,
        training: Training,
        start: Params,
        method: methods.QuasiNewton | methods.NewtonCG | methods.GaussNewton,
    ) -> None:
        super().__init__(training, start)
        match method:
            case methods.GaussNewton():
                self.optimizer = curvature.GaussNewton(
                    [self.params],
                    damping=method.damping,
                    target=method.target,
                    acceleration=method.acceleration,
                )
            case methods.NewtonCG():
                self.optimizer = curvature.NewtonCG([self.params], rank=method.rank)
            case methods.QuasiNewton(optimizer="LBFGS"):
                self.optimizer = curvature.LBFGS([self.params], memory=method.memory)
            case methods.QuasiNewton():
                self.optimizer = curvature.SelfScaledBroyden([self.params])
        chosen = getattr(method, "line_search", "declared")
        if chosen != "declared":
            self.optimizer.param_groups[0]["line_search"] = chosen

    def step(self) -> Ended | None:
        """One iteration, on the residuals, on the loss with its graph or with its gradient."""
        squares = self.training.least_squares
        match self.optimizer:
            case curvature.GaussNewton():
                self.optimizer.step(
                    lambda: squares.residual(self.params.detach()),
                    jacobian=lambda: squares.jacobian(self.params.detach()),
                )
            case curvature.NewtonCG():
                before = self.optimizer.evaluations
                self.optimizer.step(lambda: squares.residual(self.params).square().sum())
                squares.evaluations += self.optimizer.evaluations - before
            case optimizer:
                optimizer.step(self._loss_and_gradient)
        stopped = self.optimizer.stopped
        if stopped is None:
            return None
        if stopped.name == "NONFINITE_START":
            return Ended(Status.DIVERGED, stopped.value)
        converged = stopped.name == "GRADIENT_SMALL"
        return Ended(Status.CONVERGED if converged else Status.STALLED, stopped.value)

    def _loss_and_gradient(self) -> Tensor:
        loss, self.params.grad = self.training.least_squares.loss_and_gradient(self.params.detach())
        return loss

    def points_changed(self) -> None:
        """Keep the curvature learned so far."""
        self.optimizer.objective_changed()

    def numbers(self) -> dict[str, float]:
        """The damping of Gauss-Newton."""
        optimizer = self.optimizer
        return (
            {"damping": optimizer.damping} if isinstance(optimizer, curvature.GaussNewton) else {}
        )


NOT_RESUMABLE = "SciPy's minimisers cannot be resumed; start the run again"


class SciPyStage:
    """SciPy's L-BFGS-B or BFGS, one iteration a step.

    The driver is float64; an evaluation rounds the params to the run's precision first.
    """

    resumable = False

    def __init__(self, training: Training, start: Params, method: methods.SciPy) -> None:
        self.training, self.method = training, method
        self.params = start.detach().clone()
        self.points_changed()

    def points_changed(self) -> None:
        """Begin anew from here: SciPy keeps its memory to itself."""
        self.minimization = SteppedMinimization(
            self.params.double().cpu().numpy(),
            method=self.method.optimizer,
            memory=self.method.memory,
            gradient_tolerance=self.method.gradient_tolerance,
        )

    def step(self) -> Ended | None:
        """One iteration with as many evaluations as its line search asks for."""
        outcome = self.minimization.next(self._loss_and_gradient)
        if isinstance(outcome, OptimizeResult):
            return self._ended(outcome)
        self.params = self._rounded(outcome.params)
        return None

    def _rounded(self, params: Float[np.ndarray, " params"]) -> Params:
        return torch.from_numpy(params).to(self.params)

    def _loss_and_gradient(
        self, params: Float[np.ndarray, " params"]
    ) -> tuple[float, Float[np.ndarray, " params"]]:
        loss, gradient = self.training.least_squares.loss_and_gradient(self._rounded(params))
        return loss.item(), gradient.double().cpu().numpy()

    def _ended(self, result: OptimizeResult) -> Ended:
        """SciPy's word for why it stopped, with the loss and gradient that led to it."""
        steepest = float(np.abs(result.jac).max())
        reason = (
            f"SciPy's {self.method.optimizer} after {result.nit} iterations: {result.message} "
            f"(loss {result.fun:.3e}, largest gradient component {steepest:.1e})"
        )
        if not (math.isfinite(result.fun) and math.isfinite(steepest)):
            return Ended(Status.DIVERGED, reason)
        if steepest <= self.method.gradient_tolerance:
            return Ended(Status.CONVERGED, reason)
        # With a zero tolerance on the loss, SciPy's other tests say "no progress": equal losses.
        return Ended(Status.STALLED, reason)

    def numbers(self) -> dict[str, float]:
        """None: SciPy keeps them to itself."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Not available: SciPy keeps its memory to itself."""
        raise NotImplementedError(NOT_RESUMABLE)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Not available: SciPy keeps its memory to itself."""
        raise NotImplementedError(NOT_RESUMABLE)


def stage_of(method: methods.Stage, training: Training, start: Params) -> Stage:
    """The method at work from these params."""
    match method:
        case methods.FirstOrder():
            return FirstOrderStage(training, start, method)
        case methods.SciPy():
            return SciPyStage(training, start, method)
        case _:
            return ClosureStage(training, start, method)
