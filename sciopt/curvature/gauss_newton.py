"""Gauss-Newton for nonlinear least squares, damped as much as the residuals are curved.

    min |r(x)|²:   (JᵀJ + damping I) d = -Jᵀr,   x += d + a/2

where a, the geodesic acceleration, is the second-order correction of d. No trust-region rule
finds the damping, a ladder does: of the dampings `damping · factorᵏ` the smallest is taken whose
step still achieves the share `target` of the decrease that the linear model promises. A long step
that achieves little gets further in the end than the step of least loss.

Sources: Levenberg (1944), Marquardt (1963); Transtrum & Sethna (2012), "Improvements to the
Levenberg-Marquardt algorithm for nonlinear least-squares minimization", for the acceleration.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.curvature.descent import check_count, check_params, refuse_group_settings
from sciopt.curvature.flat import move, values_of
from sciopt.curvature.jacobians import MatrixFree, whole
from sciopt.curvature.normal_equations import (
    Factorization,
    Matrix,
    Residual,
    Sketched,
    Solve,
    Vector,
    factorization,
)

Residuals = Callable[[], Residual]
Jacobian = Callable[[], tuple[Residual, Matrix]]

# The second derivative along the step is a difference over this share of it.
DIFFERENCE = 0.1
# A longer second term belongs to a series that is not to be trusted (Transtrum & Sethna, 3.2).
LONGEST_ACCELERATION = 0.75
MOST_RUNGS = 12


class Stopped(Enum):
    """Why Gauss-Newton takes no further steps."""

    GRADIENT_SMALL = "no element of the gradient exceeds tolerance_gradient"
    NO_DECREASE = "no damping lowers the loss: rounding errors are all that is left"
    NONFINITE_START = "a residual or its Jacobian is not finite where the step would start"


@dataclass(frozen=True)
class Linearised:
    """The residuals where a step starts, and what a step needs of their Jacobian."""

    residual: Residual
    gradient: Vector
    """Jᵀr, half the gradient of the loss."""
    product: Callable[[Vector], Residual]
    transposed_product: Callable[[Residual], Vector]
    factorization: Factorization


@dataclass(frozen=True)
class Rung:
    """The step with one damping; `gain` is the achieved share of the promised decrease."""

    damping: float
    promised: float
    gain: float
    loss: float
    step: Vector


class GaussNewton(torch.optim.Optimizer):
    """Damped Gauss-Newton with geodesic acceleration.

    All parameters are one vector. A step evaluates the Jacobian once and the residuals twice for
    each damping it tries, two or three on average. The work is that of JᵀJ and of a Cholesky
    factor for each damping: m p² + k p³/3 multiplications for m residuals and p parameters. Where
    residuals are fewer than parameters, JJᵀ is factored instead.

    Args:
        params: dense parameters of float32 or float64 (preferably), all of one dtype and device.
        damping: where the ladder begins, in units of JᵀJ. It is the same for all parameters, whose
            units should therefore make them comparable.
        target: the share of the promised decrease that a step must achieve. Between 0.05 and 0.2
            it matters little; close to one, steps are short and timid.
        factor: from one rung of the ladder to the next.
        acceleration: whether to add the second-order correction.
        tolerance_gradient: stop where no element of Jᵀr exceeds it.
        memory_limit: bytes that the Jacobian and its Gram matrix may take. Beyond that a step is
            found by conjugate gradients from products with J alone, unless a sketch is asked for.
        iterations: of conjugate gradients at most.
        sketch_rows, sketch_columns: the size to which a random sketch reduces the Jacobian, once
            it is whole.
        seed: of the sketches.

    Raises:
        ValueError: a setting out of range, no parameters, parameters of several dtypes or devices;
            in `step`, residuals that are no vector, without graph where there is no `jacobian`, or
            of another dtype or device, and a Jacobian of another shape.
        TypeError: half-precision, complex or integer parameters; in `step`, no closure.
    """

    def __init__(
        self,
        params: ParamsT,
        *,
        damping: float = 1e-2,
        target: float = 0.075,
        factor: float = 3.0,
        acceleration: bool = True,
        tolerance_gradient: float = 0.0,
        memory_limit: float = 4e9,
        iterations: int = 200,
        sketch_rows: int | None = None,
        sketch_columns: int | None = None,
        seed: int = 0,
    ) -> None:
        defaults = {
            "damping": damping,
            "target": target,
            "factor": factor,
            "acceleration": acceleration,
            "tolerance_gradient": tolerance_gradient,
            "memory_limit": memory_limit,
            "iterations": iterations,
            "sketch_rows": sketch_rows,
            "sketch_columns": sketch_columns,
            "seed": seed,
        }
        _check_settings(defaults)
        super().__init__(params, defaults)
        check_params(type(self).__name__, self._params)
        self._memory.update(damping=float(damping), steps=0, sketches=0)

    @property
    def damping(self) -> float:
        """The damping of the last step, where the next ladder begins."""
        return self._memory["damping"]

    @property
    def stopped(self) -> Stopped | None:
        """Why no further steps are taken; None while they are."""
        name = self._memory.get("stopped")
        return None if name is None else Stopped[name]

    @property
    def best(self) -> list[Tensor] | None:
        """The parameters of least held-out loss so far; None if no held-out loss was given."""
        return self._memory.get("best")

    def objective_changed(self) -> None:
        """Say that the residuals are others now, such as on new collocation points.

        Steps go on where they had stopped. The held-out loss is meant to stay the same.
        """
        self._memory.pop("stopped", None)

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        closure: Residuals | None = None,
        *,
        jacobian: Jacobian | None = None,
        held_out: Callable[[], Tensor | float] | None = None,
    ) -> float:
        """One step to the iterate of one damping; nothing once `stopped` says why.

        Args:
            closure: the residual vector where the parameters are. Differentiated by autograd
                unless `jacobian` is given.
            jacobian: residuals and their Jacobian, whose columns are the elements of the
                parameters one after the other.
            held_out: a loss on other samples, evaluated once per step: the parameters where it is
                least are kept in `best`.

        Returns:
            The loss |r|² where the step ends.
        """
        if closure is None:
            raise TypeError("GaussNewton.step needs a closure that returns the residual vector")
        memory = self._memory
        if "stopped" in memory:
            return memory["loss"]
        here = self._linearise(closure, jacobian)
        numbers = [here.residual @ here.residual, here.gradient.abs().max()]
        loss, largest = torch.stack(numbers).tolist()
        memory["loss"] = loss
        if not (math.isfinite(loss) and math.isfinite(largest)):
            memory["stopped"] = Stopped.NONFINITE_START.name
            return loss
        if largest <= self.param_groups[0]["tolerance_gradient"]:
            memory["stopped"] = Stopped.GRADIENT_SMALL.name
            return loss
        origin = values_of(self._params)
        rung = self._climb(closure, here, origin, loss)
        if rung is None:
            move(self._params, origin, origin, 0.0)
            memory["stopped"] = Stopped.NO_DECREASE.name
            return loss
        move(self._params, origin, rung.step, 1.0)
        memory.update(damping=rung.damping, loss=rung.loss, steps=memory["steps"] + 1)
        if held_out is not None:
            self._remember_best(float(held_out()))
        return rung.loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the state was saved, bit for bit. The state is copied."""
        super().load_state_dict(copy.deepcopy(state_dict))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, before the first step; settings are of all groups together."""
        refuse_group_settings(self, param_group, bool(self.state) and self._memory["steps"] > 0)
        super().add_param_group(param_group)

    @property
    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    @property
    def _memory(self) -> dict[str, Any]:
        return self.state[self._params[0]]

    def _remember_best(self, loss: float) -> None:
        if loss < self._memory.get("best_loss", math.inf):
            self._memory["best_loss"] = loss
            self._memory["best"] = [param.detach().clone() for param in self._params]

    def _linearise(self, closure: Residuals, jacobian: Jacobian | None) -> Linearised:
        group, params = self.param_groups[0], self._params
        count = sum(param.numel() for param in params)
        rows, columns = group["sketch_rows"], group["sketch_columns"]
        sketched = rows is not None or columns is not None
        if jacobian is None:
            residual = self._with_graph(closure)
            smaller = min(len(residual), count)
            wanted = (len(residual) * count + smaller**2) * residual.element_size()
            if wanted > group["memory_limit"] and not sketched:
                free = MatrixFree(lambda: self._with_graph(closure), params, group["iterations"])
                return Linearised(
                    residual.detach(),
                    free.transposed_product(residual.detach()),
                    free.product,
                    free.transposed_product,
                    free,
                )
            matrix = whole(residual, params)
        else:
            residual, matrix = jacobian()
            matrix = self._checked_jacobian(self._checked(residual), matrix).detach()
        residual = residual.detach()
        # A generator of its own for each, so that a resumed run draws the same.
        generator = torch.Generator().manual_seed(group["seed"] + self._memory["sketches"])
        self._memory["sketches"] += sketched
        return Linearised(
            residual,
            matrix.T @ residual,
            lambda v: matrix @ v,
            lambda w: matrix.T @ w,
            Sketched(matrix, rows, columns, generator) if sketched else factorization(matrix),
        )

    def _climb(
        self, closure: Residuals, here: Linearised, origin: Vector, loss: float
    ) -> Rung | None:
        """The smallest damping with enough gain, where the ladder leads down or up to one."""
        group = self.param_groups[0]
        target, factor = group["target"], group["factor"]
        eps, scale = torch.finfo(here.residual.dtype).eps, here.factorization.scale
        # Below the first, damping is lost in the rounding of J; above the other, the step in x.
        least, most = eps**2 * scale, scale / eps
        # So large a damping as `most` would leave nothing to measure its gain by.
        rung = self._rung(closure, here, origin, min(max(self.damping, least), eps**0.5 * most))
        if rung.gain >= target:
            for _ in range(MOST_RUNGS):
                if rung.damping / factor < least:
                    break
                lower = self._rung(closure, here, origin, rung.damping / factor)
                if lower.gain < target:
                    break
                rung = lower
            return rung
        # Longer dampings promise less, in the end less than the loss has digits.
        while rung.damping < most and rung.promised > eps * loss:
            rung = self._rung(closure, here, origin, rung.damping * factor)
            if rung.gain >= target:
                return rung
        return None

    def _rung(self, closure: Residuals, here: Linearised, origin: Vector, damping: float) -> Rung:
        """The step with this damping, tried."""
        failed = Rung(damping, math.inf, -math.inf, math.inf, here.gradient)
        solve = here.factorization.damped(damping)
        if solve is None:
            return failed
        step = -solve(here.residual, here.gradient)
        promised = float(damping * (step @ step) - step @ here.gradient)
        if not 0 < promised < math.inf:
            return failed
        if self.param_groups[0]["acceleration"]:
            ahead = self._residual(closure, origin, DIFFERENCE * step)
            step = step + acceleration(here, solve, step, ahead) / 2
        residual = self._residual(closure, origin, step)
        # More digits than in the difference of two losses.
        decrease = (here.residual - residual) @ (here.residual + residual)
        loss, decrease = torch.stack([residual @ residual, decrease]).tolist()
        if not math.isfinite(loss):
            return failed
        return Rung(damping, promised, decrease / promised, loss, step)

    def _residual(self, closure: Residuals, origin: Vector, step: Vector) -> Tensor:
        move(self._params, origin, step, 1.0)
        return self._checked(closure()).detach()

    def _with_graph(self, closure: Residuals) -> Tensor:
        with torch.enable_grad():
            residual = self._checked(closure())
        if not (residual.requires_grad and all(param.requires_grad for param in self._params)):
            raise ValueError(
                "GaussNewton differentiates the residuals by every parameter and needs them with "
                "their graph; compute them without detach() from parameters that require "
                "gradients, or pass `jacobian`"
            )
        return residual

    def _checked(self, residual: object) -> Tensor:
        """The residuals; raise unless they are a vector in the parameters' precision."""
        if not (isinstance(residual, Tensor) and residual.ndim == 1 and len(residual)):
            got = tuple(residual.shape) if isinstance(residual, Tensor) else residual
            raise ValueError(
                f"the closure must return a vector of residuals, not reduced, got {got}"
            )
        self._check_kind("residuals", residual)
        return residual

    def _checked_jacobian(self, residual: Tensor, matrix: Tensor) -> Tensor:
        count = sum(param.numel() for param in self._params)
        if matrix.shape != (len(residual), count):
            raise ValueError(
                f"the Jacobian has shape {tuple(matrix.shape)}; {len(residual)} residuals and "
                f"{count} parameter elements ask for ({len(residual)}, {count})"
            )
        self._check_kind("Jacobian", matrix)
        return matrix

    def _check_kind(self, name: str, tensor: Tensor) -> None:
        param = self._params[0]
        if (tensor.dtype, tensor.device) != (param.dtype, param.device):
            raise ValueError(
                f"the {name} must be {param.dtype} on {param.device} like the parameters, got "
                f"{tensor.dtype} on {tensor.device}"
            )


def acceleration(here: Linearised, solve: Solve, step: Vector, ahead: Residual) -> Vector:
    """The second-order correction a = -(JᵀJ + damping I)⁻¹ Jᵀ r'' along a step; zero if not finite.

    `ahead` are the residuals at the share `DIFFERENCE` of the step, r'' is a difference of them.
    """
    curved = 2 / DIFFERENCE * ((ahead - here.residual) / DIFFERENCE - here.product(step))
    bend = -solve(curved, here.transposed_product(curved))
    share = bend.norm() / step.norm()
    # Stays on the device: the host need not wait for it.
    bounded = bend * (LONGEST_ACCELERATION / share).clamp(max=1.0)
    return torch.where(share.isfinite(), bounded, torch.zeros_like(step))


def _check_settings(settings: dict[str, Any]) -> None:
    for name in ("damping", "memory_limit"):
        if not 0 < settings[name] < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {settings[name]!r}")
    if not 0 < settings["target"] < 1:
        raise ValueError(f"target must be between 0 and 1, got {settings['target']!r}")
    if not 1 < settings["factor"] < math.inf:
        raise ValueError(f"factor must be greater than 1, got {settings['factor']!r}")
    if not settings["tolerance_gradient"] >= 0:
        raise ValueError(
            f"tolerance_gradient must be at least 0, got {settings['tolerance_gradient']!r}"
        )
    check_count("iterations", settings["iterations"])
    for name in ("sketch_rows", "sketch_columns"):
        if settings[name] is not None:
            check_count(name, settings[name])
