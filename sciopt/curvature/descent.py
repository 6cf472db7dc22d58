"""What the closure optimizers share: a direction, a line search along it, and when to stop.

One step is one iteration: it ends in one accepted point, whose loss and gradient are kept, so that
the closure is never evaluated twice at the same point. An optimizer says which direction to take
and what it learns from a step; if no step along its direction succeeds, it forgets what it has
learned, and the step is tried once more along steepest descent.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.checks import check_choice
from sciopt.curvature.flat import gradient_of, move, values_of
from sciopt.curvature.line_search import METHODS, Ending, LineSearch, Trial, line_search
from sciopt.rule import check_range

# Of the slope at the start: by what it must have risen for the step to tell of curvature. A Wolfe
# step raises it by a tenth at least; below a hundredth, rounding may have turned the sign.
_LEAST_RISE = 0.01

# In float64 as Hager & Zhang (2006). In float32 the residuals of a good fit have three digits left.
_LOSS_ERROR = {torch.float64: 1e-6, torch.float32: 1e-3}

Vector = Float[Tensor, " n"]
Closure = Callable[[], Tensor | float]


class Stopped(Enum):
    """Why an optimizer takes no further steps."""

    GRADIENT_SMALL = "no element of the gradient exceeds tolerance_gradient"
    CHANGE_SMALL = "the loss changed by less than tolerance_change of itself"
    NO_DESCENT = "no step lowers the loss, not even along steepest descent"
    EVALUATIONS_EXHAUSTED = "max_evaluations found no lower loss, not even along steepest descent"
    NONFINITE_START = "the loss or its gradient is not finite where the step would start"


class Descent(torch.optim.Optimizer):
    """params += step_size * direction, the step size found by a line search.

    All parameters are one vector and all settings are of that vector, so several groups only sort
    the parameters. State lives in `state` of the first parameter; the gradients that the closure
    leaves behind belong to the last trial.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any]):
        _check_settings(defaults)
        super().__init__(params, defaults)
        check_params(type(self).__name__, self._params)

    @abstractmethod
    def _direction(self, gradient: Vector) -> Vector:
        """Where to go from the current point."""

    @abstractmethod
    def _first_step_size(self, start: Trial) -> float:
        """The step size that the line search tries first, before `lr`."""

    @abstractmethod
    def _learn(self, start: Trial, direction: Vector, end: Trial) -> None:
        """Take in an accepted step along which the slope rose.

        May leave the next direction in the memory, if it comes for less than `_direction` costs.
        """

    @abstractmethod
    def _forget(self) -> bool:
        """Drop what was learned; whether that leaves another direction than the last one."""

    @property
    def stopped(self) -> Stopped | None:
        """Why no further steps are taken; None while they are."""
        name = self._memory.get("stopped")
        return None if name is None else Stopped[name]

    @property
    def evaluations(self) -> int:
        """How often the closure has been called."""
        return self._memory.get("evaluations", 0)

    def objective_changed(self) -> None:
        """Say that the closure computes another loss now, such as on new collocation points.

        The next step evaluates the closure where the parameters are and goes on with the curvature
        learned so far. To be called, too, after the parameters were changed from outside.
        """
        for name in ("loss", "gradient", "gradient_max", "direction", "previous_loss", "stopped"):
            self._memory.pop(name, None)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One iteration; nothing once `stopped` says why.

        Args:
            closure: evaluates the loss and its gradients where the parameters are. Called for each
                trial of the line search, in the first step and after `objective_changed` also at
                the start.

        Returns:
            The loss where the step ends.
        """
        if closure is None:
            raise TypeError(
                f"{type(self).__name__}.step needs a closure that evaluates the loss and its "
                "gradients at several points; call step(closure)"
            )
        if "gradient" not in self._memory:
            self._begin(closure)
        if self.stopped is None:
            self._descend(closure)
        return self._memory["loss"]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the state was saved, bit for bit. The state is copied."""
        super().load_state_dict(copy.deepcopy(state_dict))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, before the first step; settings are of all groups together."""
        refuse_group_settings(self, param_group, any(self.state.values()))
        super().add_param_group(param_group)

    @property
    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    @property
    def _memory(self) -> dict[str, Any]:
        return self.state[self._params[0]]

    def _evaluate(self, closure: Closure) -> tuple[Tensor, Vector]:
        """Loss and gradient at the parameters as they are."""
        with torch.enable_grad():
            loss = checked_loss(closure())
        return loss, gradient_of(self._params)

    def _begin(self, closure: Closure) -> None:
        loss, gradient = self._evaluate(closure)
        here = _trial(0.0, loss, gradient, gradient)
        self._memory["evaluations"] = self.evaluations + 1
        self._keep(here)
        if not here.finite:
            self._stop(Stopped.NONFINITE_START)
        elif here.gradient_max <= self.param_groups[0]["tolerance_gradient"]:
            self._stop(Stopped.GRADIENT_SMALL)

    def _descend(self, closure: Closure) -> None:
        memory, origin = self._memory, values_of(self._params)
        direction = memory.pop("direction", None)
        if direction is None:
            direction = self._direction(memory["gradient"])
        failed = self._try(closure, origin, direction, self._first_step_size)
        if failed and self._forget():
            failed = self._try(closure, origin, -memory["gradient"], steepest_step_size)
        if failed is Ending.EVALUATIONS_EXHAUSTED:
            self._stop(Stopped.EVALUATIONS_EXHAUSTED)
        elif failed:
            self._stop(Stopped.NO_DESCENT)

    def _try(
        self,
        closure: Closure,
        origin: Vector,
        direction: Vector,
        first_step_size: Callable[[Trial], float],
    ) -> Ending | None:
        """Step along the direction; None if that succeeded, else why not, back at the origin."""
        memory, gradient = self._memory, self._memory["gradient"]
        slope = float(gradient @ direction)
        if not -math.inf < slope < 0:
            return Ending.ROUNDING
        start = Trial(0.0, memory["loss"], slope, gradient, memory["gradient_max"])
        search = self._search(closure, start, origin, direction, first_step_size(start))
        if search.trial is None:
            move(self._params, origin, direction, 0.0)
            return search.ending
        if search.trial is not search.last:
            move(self._params, origin, direction, search.trial.step_size)
        self._arrive(start, direction, search.trial)
        return None

    def _search(
        self, closure: Closure, start: Trial, origin: Vector, direction: Vector, first: float
    ) -> LineSearch:
        group, params = self.param_groups[0], self._params

        def evaluate(step_size: float) -> Trial:
            move(params, origin, direction, step_size)
            loss, gradient = self._evaluate(closure)
            self._memory["evaluations"] += 1
            return _trial(step_size, loss, gradient, direction)

        loss_error = group["loss_error"]
        if loss_error is None:
            loss_error = _LOSS_ERROR[start.gradient.dtype]
        return line_search(
            group["line_search"],
            evaluate,
            start,
            float(group["lr"]) * first,
            group["max_evaluations"],
            loss_error,
        )

    def _arrive(self, start: Trial, direction: Vector, end: Trial) -> None:
        group = self.param_groups[0]
        self._memory["previous_loss"] = start.loss
        self._keep(end)
        if end.slope - start.slope > _LEAST_RISE * -start.slope:
            self._learn(start, direction, end)
        if end.gradient_max <= group["tolerance_gradient"]:
            self._stop(Stopped.GRADIENT_SMALL)
        elif abs(start.loss - end.loss) < group["tolerance_change"] * abs(start.loss):
            self._stop(Stopped.CHANGE_SMALL)

    def _keep(self, here: Trial) -> None:
        kept = {"loss": here.loss, "gradient": here.gradient, "gradient_max": here.gradient_max}
        self._memory.update(kept)

    def _stop(self, reason: Stopped) -> None:
        # By name, because torch.load refuses enums.
        self._memory["stopped"] = reason.name


def steepest_step_size(start: Trial) -> float:
    """A step of length one along the negative gradient, at most the gradient itself."""
    return min(1.0, 1.0 / math.sqrt(-start.slope))


def _trial(step_size: float, loss: Tensor, gradient: Vector, direction: Vector) -> Trial:
    """The trial's numbers, brought to the host at once."""
    numbers = [loss.reshape(()).to(gradient.device), gradient @ direction, gradient.abs().max()]
    value, slope, gradient_max = torch.stack([each.double() for each in numbers]).tolist()
    return Trial(step_size, value, slope, gradient, gradient_max)


def checked_loss(loss: object) -> Tensor:
    """The loss as a tensor; raise unless it is one real number."""
    if not isinstance(loss, (Tensor, int, float)):
        raise TypeError(f"the closure must return the loss, a number, got {loss!r}")
    if not isinstance(loss, Tensor):
        return torch.tensor(loss, dtype=torch.float64)
    if loss.numel() != 1 or loss.is_complex():
        raise ValueError(
            f"the closure must return the loss, one real number, got {loss.dtype} of shape "
            f"{tuple(loss.shape)}; reduce it, such as by mean()"
        )
    return loss


def _check_settings(settings: dict[str, Any]) -> None:
    check_choice("line_search", settings["line_search"], list(METHODS))
    if not 0 < settings["lr"] < math.inf:
        raise ValueError(f"lr must be positive and finite, got {settings['lr']!r}")
    for tolerance in ("tolerance_gradient", "tolerance_change"):
        check_range(tolerance, settings[tolerance])
    check_count("max_evaluations", settings["max_evaluations"])
    if settings["loss_error"] is not None:
        check_range("loss_error", settings["loss_error"], below=1.0)


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless the value is a whole number of at least one."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def refuse_group_settings(
    optimizer: torch.optim.Optimizer, param_group: dict[str, Any], learned: bool
) -> None:
    """Raise ValueError for a group with settings of its own, or one that comes too late."""
    name = type(optimizer).__name__
    own = sorted(param_group.keys() & optimizer.defaults.keys())
    if own:
        raise ValueError(
            f"{name} treats all parameters as one vector, so a group cannot have its own {own}; "
            "pass them to the constructor"
        )
    if learned:
        raise ValueError(
            f"{name} has learned the curvature of its parameters and cannot take in more; make a "
            "new optimizer"
        )


def check_params(name: str, params: list[Tensor]) -> None:
    """Raise TypeError or ValueError for parameters that cannot be one vector."""
    for param in params:
        if param.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name} needs parameters of float32 or float64, got {param.dtype}: differences "
                "of gradients, of which curvature is made, have no digits left in half precision, "
                "and complex parameters are to be optimised as their real view"
            )
    kinds = {(param.dtype, param.device) for param in params}
    if len(kinds) > 1:
        raise ValueError(
            f"{name} treats all parameters as one vector, so they must share dtype and device, got "
            + ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        )
    if not sum(param.numel() for param in params):
        raise ValueError(f"{name} got parameters without elements; pass at least one number")
