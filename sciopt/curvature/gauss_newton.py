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
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.curvature.descent import check_count, check_params, refuse_group_settings
from sciopt.curvature.flat import move, values_of
from sciopt.curvature.jacobians import MatrixFree, whole
from sciopt.curvature.normal_equations import (
    Factorization,
    Sketched,
    Vector,
    factorization,
)

Residuals = Callable[[], Float[Tensor, " residuals"]]
Jacobian = Callable[[], tuple[Float[Tensor, " residuals"], Float[Tensor, "residuals params"]]]

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

    residual: Float[Tensor, " residuals"]
    loss: float
    gradient: Vector
    """Jᵀr, half the gradient of the loss."""
    product: Callable[[Vector], Float[Tensor, " residuals"]]
    transposed_product: Callable[[Float[Tensor, " residuals"]], Vector]
    factorization: Factorization


@dataclass(frozen=True)
class Rung:
    """The step with one damping; `gain` is the achieved share of the promised decrease."""

    damping: float
    gain: float
    loss: float
    step: Vector | None


class GaussNewton(torch.optim.Optimizer):
    """Damped Gauss-Newton with geodesic acceleration.

    All parameters are one vector. A step evaluates the Jacobian once and the residuals twice for
    each damping it tries, two or three on average. The work is that of JᵀJ and of a Cholesky
    factor for each damping: m p² + k p³/3 multiplications for m residuals and p parameters. Where
    residuals are fewer than parameters, JJᵀ is factored instead.

    Args:
        params: dense parameters of float32 or float64 (preferably), all of one dtype and device.
        damping: where the ladder begins, in units of JᵀJ.
        target: the share of the promised decrease that a step must achieve. Between 0.05 and 0.2
            it matters little; close to one, steps are short and timid.
        factor: from one rung of the ladder to the next.
        acceleration: whether to add the second-order correction.
        tolerance_gradient: stop where no element of Jᵀr exceeds it.
        memory_limit: bytes that the Jacobian and its Gram matrix may take. Beyond that a step is
            found by conjugate gradients from products with J alone, unless it is sketched.
        iterations: of conjugate gradients at most.
        sketch_rows, sketch_columns: the size to which a random sketch reduces the Jacobian.
        seed: of the sketches.

    Raises:
        ValueError: a setting out of range, no parameters, parameters of several dtypes or devices;
            in `step`, residuals that are no vector or depend on no parameter.
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
        }
        _check_settings(defaults)
        super().__init__(params, defaults)
        check_params(type(self).__name__, self._params)
        self._memory.update(damping=float(damping), steps=0)
        self._generator = torch.Generator().manual_seed(seed)

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
        memory["loss"] = here.loss
        largest = float(here.gradient.abs().max())
        if not (math.isfinite(here.loss) and math.isfinite(largest)):
            memory["stopped"] = Stopped.NONFINITE_START.name
            return here.loss
        if largest <= self.param_groups[0]["tolerance_gradient"]:
            memory["stopped"] = Stopped.GRADIENT_SMALL.name
            return here.loss
        origin = values_of(self._params)
        rung = self._climb(closure, here, origin)
        if rung is None or rung.step is None:
            move(self._params, origin, origin, 0.0)
            memory["stopped"] = Stopped.NO_DECREASE.name
            return here.loss
        move(self._params, origin, rung.step, 1.0)
        memory.update(damping=rung.damping, loss=rung.loss, steps=memory["steps"] + 1)
        if held_out is not None:
            self._remember_best(float(held_out()))
        return rung.loss

    def state_dict(self) -> dict[str, Any]:
        """Torch's, with the sketches' random stream."""
        return {**super().state_dict(), "generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the state was saved, bit for bit. The state is copied."""
        state = copy.deepcopy(state_dict)
        self._generator.set_state(state.pop("generator"))
        super().load_state_dict(state)

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
        if jacobian is None:
            with torch.enable_grad():
                residual = _checked(closure())
            wanted = (len(residual) + count) * count * residual.element_size()
            if wanted > group["memory_limit"] and group["sketch_columns"] is None:
                free = MatrixFree(residual, params, group["iterations"])
                return Linearised(
                    residual.detach(),
                    float(residual @ residual),
                    free.transposed_product(residual),
                    free.product,
                    free.transposed_product,
                    free,
                )
            matrix = whole(residual, params)
            residual = residual.detach()
        else:
            residual, matrix = jacobian()
            if matrix.shape != (len(residual), count):
                raise ValueError(
                    f"the Jacobian has shape {tuple(matrix.shape)}; {len(residual)} residuals and "
                    f"{count} parameter elements ask for ({len(residual)}, {count})"
                )
        rows, columns = group["sketch_rows"], group["sketch_columns"]
        factored = (
            factorization(matrix)
            if rows is None and columns is None
            else Sketched(matrix, rows, columns, self._generator)
        )
        return Linearised(
            residual,
            float(residual @ residual),
            matrix.T @ residual,
            lambda v: matrix @ v,
            lambda w: matrix.T @ w,
            factored,
        )

    def _climb(self, closure: Residuals, here: Linearised, origin: Vector) -> Rung | None:
        """The smallest damping with enough gain; failing that, any that lowers the loss."""
        group = self.param_groups[0]
        target, factor = group["target"], group["factor"]
        eps = torch.finfo(here.residual.dtype).eps
        # Below the first, damping is lost in the rounding of J; above the other, the step in x.
        least, most = eps**2 * here.factorization.scale, here.factorization.scale / eps
        rung = self._rung(closure, here, origin, self.damping)
        if rung.gain >= target:
            for _ in range(MOST_RUNGS):
                if rung.damping / factor < least:
                    break
                lower = self._rung(closure, here, origin, rung.damping / factor)
                if lower.gain < target:
                    break
                rung = lower
            return rung
        decreasing = rung if rung.gain > 0 else None
        while rung.damping < most:
            rung = self._rung(closure, here, origin, rung.damping * factor)
            if rung.gain >= target:
                return rung
            if rung.gain > 0:
                decreasing = rung
        return decreasing

    def _rung(self, closure: Residuals, here: Linearised, origin: Vector, damping: float) -> Rung:
        """The step with this damping, tried."""
        failed = Rung(damping, -math.inf, math.inf, None)
        solve = here.factorization.damped(damping)
        if solve is None:
            return failed
        step = -solve(here.gradient)
        promised = float(damping * (step @ step) - step @ here.gradient)
        if not (math.isfinite(promised) and promised > 0):
            return failed
        if self.param_groups[0]["acceleration"]:
            ahead = self._residual(closure, origin, DIFFERENCE * step)
            change = (ahead - here.residual) / DIFFERENCE - here.product(step)
            bend = -solve(here.transposed_product(2 / DIFFERENCE * change))
            share = float(bend.norm() / step.norm())
            if math.isfinite(share):
                step = step + 0.5 * bend * min(1.0, LONGEST_ACCELERATION / max(share, 1e-300))
        residual = self._residual(closure, origin, step)
        loss = float(residual @ residual)
        if not math.isfinite(loss):
            return failed
        return Rung(damping, (here.loss - loss) / promised, loss, step)

    def _residual(self, closure: Residuals, origin: Vector, step: Vector) -> Tensor:
        move(self._params, origin, step, 1.0)
        return _checked(closure()).detach()


def _checked(residual: object) -> Float[Tensor, " residuals"]:
    if not (isinstance(residual, Tensor) and residual.ndim == 1 and len(residual)):
        shape = tuple(residual.shape) if isinstance(residual, Tensor) else residual
        raise ValueError(f"the closure must return a vector of residuals, not reduced, got {shape}")
    return residual


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
