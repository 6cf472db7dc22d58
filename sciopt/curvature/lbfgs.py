"""L-BFGS: the inverse Hessian of the last few steps, applied as matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.curvature.descent import Descent, Vector, check_count, steepest_step_size
from sciopt.curvature.line_search import Trial


class LBFGS(Descent):
    """d = -H g with the BFGS inverse Hessian H of the last `memory` steps s and changes y of g.

    With S, Y the pairs as columns, R the upper triangle of S'Y, D its diagonal and
    gamma = s'y / y'y of the last pair, the compact representation is

        H = gamma I + [S, gamma Y] [[R'^-1 (D + gamma Y'Y) R^-1, -R'^-1], [-R^-1, 0]] [S, gamma Y]'

    (Byrd, Nocedal & Schnabel 1994, theorem 2.2): three products of a memory x 2n matrix with a
    vector per step, whatever the memory. On an accelerator only the numbers of the line search
    come to the host.

    Args:
        params: dense parameters of float32 or float64, all of one dtype on one device.
        lr: multiplies the step size that is tried first; 1 is the quasi-Newton step.
        memory: pairs kept, 2 memory n numbers. More save evaluations of a costly closure.
        line_search: "hager-zhang" goes on where the loss has no digits left to differ in, so it is
            for float32 above all; "strong-wolfe" evaluates where SciPy does.
        loss_error: relative error of the loss, by which "hager-zhang" lets it rise where the slope
            has become gentle; by default 1e-6 in float64 and 1e-3 in float32.
        max_evaluations: limit of closure calls per line search. A step has one, or two if the
            first fails.
        tolerance_gradient: stop where no element of the gradient exceeds it.
        tolerance_change: stop where a step changes the loss by less than this part of itself.

    Raises:
        ValueError: a setting out of range, no parameters, parameters of several dtypes or devices;
            in `step`, a closure that returns no single number.
        TypeError: half-precision, complex or integer parameters; in `step`, no closure, or a
            sparse gradient.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        memory: int = 20,
        line_search: str = "hager-zhang",
        loss_error: float | None = None,
        max_evaluations: int = 25,
        tolerance_gradient: float = 0.0,
        tolerance_change: float = 0.0,
    ):
        check_count("memory", memory)
        defaults = {
            "lr": lr,
            "memory": memory,
            "line_search": line_search,
            "loss_error": loss_error,
            "max_evaluations": max_evaluations,
            "tolerance_gradient": tolerance_gradient,
            "tolerance_change": tolerance_change,
        }
        super().__init__(params, defaults)

    def _first_step_size(self, start: Trial) -> float:
        return 1.0 if self._memory.get("learned") else steepest_step_size(start)

    def _direction(self, gradient: Vector) -> Vector:
        state = self._memory
        if not state.get("learned"):
            return -gradient
        pairs = state["pairs"]
        size = len(pairs)
        kept = min(state["learned"], size)
        places = torch.arange(state["learned"] - kept, state["learned"], device=gradient.device)
        order = places % size
        rows = pairs[:kept].view(2 * kept, -1)
        along_s, along_y = (rows @ gradient).view(kept, 2)[order].double().unbind(1)
        s_y = state["s_dot_y"][order][:, order].double()
        y_y = state["y_dot_y"][order][:, order].double()
        coefficients, gamma = compact(s_y, y_y, along_s, along_y)
        weights = torch.empty_like(coefficients)
        weights[order] = coefficients
        weights, gamma = weights.to(gradient), gamma.to(gradient)
        return torch.addmv(gradient * gamma, rows.T, weights.view(-1)).neg_()

    def _learn(self, start: Trial, direction: Vector, end: Trial) -> None:
        state, size = self._memory, self.param_groups[0]["memory"]
        if "pairs" not in state:
            state["pairs"] = direction.new_zeros(size, 2, direction.numel())
            state["s_dot_y"] = direction.new_zeros(size, size)
            state["y_dot_y"] = direction.new_zeros(size, size)
        learned = state.get("learned", 0)
        slot, kept = learned % size, min(learned + 1, size)
        pair = state["pairs"][slot]
        torch.mul(direction, end.step_size, out=pair[0])
        torch.sub(end.gradient, start.gradient, out=pair[1])
        with_y = (state["pairs"][:kept].view(2 * kept, -1) @ pair[1]).view(kept, 2)
        state["s_dot_y"][:kept, slot] = with_y[:, 0]
        state["y_dot_y"][:kept, slot] = state["y_dot_y"][slot, :kept] = with_y[:, 1]
        state["learned"] = learned + 1

    def _forget(self) -> bool:
        return bool(self._memory.pop("learned", 0))


def compact(s_y: Tensor, y_y: Tensor, along_s: Tensor, along_y: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of [s, y] in H g - gamma g, one row per pair, and gamma.

    Args:
        s_y: S'Y, oldest pair first; what is below its diagonal is not read.
        y_y: Y'Y.
        along_s: S'g.
        along_y: Y'g.
    """
    upper, diagonal = s_y.triu(), s_y.diagonal()
    gamma = diagonal[-1] / y_y[-1, -1]
    u = torch.linalg.solve_triangular(upper, along_s[:, None], upper=True)[:, 0]
    middle = diagonal * u + gamma * (y_y @ u - along_y)
    s_weights = torch.linalg.solve_triangular(upper.T, middle[:, None], upper=False)[:, 0]
    return torch.stack([s_weights, -gamma * u], dim=1), gamma
