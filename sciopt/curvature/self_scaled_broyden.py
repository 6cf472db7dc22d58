"""Dense quasi-Newton with self-scaling: for thousands of parameters and many digits."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.checks import check_choice
from sciopt.curvature.descent import Descent, Vector, steepest_step_size
from sciopt.curvature.line_search import Trial


class SelfScaledBroyden(Descent):
    """d = -H g with a dense inverse Hessian H.

    From each step s and change y of the gradient,

        H <- (H - Hy y'H / y'Hy + phi v v') / tau + s s' / s'y,
        v = sqrt(y'Hy) (s / s'y - Hy / y'Hy).

    BFGS is phi = tau = 1. The self-scaled updates divide by tau <= 1 what the new pair says nothing
    about (Al-Baali 1998); "broyden" chooses phi and tau together (Al-Baali & Khalfan 2005; Urban,
    Stefanou & Pons 2025 for physics-informed networks). One step reads H twice and writes it once,
    and takes one number more than the line search to the host.

    Args:
        params: dense parameters of float32 or float64, all of one dtype on one device.
        lr: multiplies the step size that is tried first.
        update: "broyden" (self-scaled), "bfgs" (self-scaled) or "unscaled-bfgs".
        line_search: "strong-wolfe", or "hager-zhang", which float32 needs.
        loss_error: relative error of the loss, by which "hager-zhang" lets it rise where the slope
            has become gentle; by default 1e-6 in float64 and 1e-3 in float32.
        max_evaluations: limit of closure calls per line search. A step has one, or two if the
            first fails.
        tolerance_gradient: stop where no element of the gradient exceeds it.
        tolerance_change: stop where a step changes the loss by less than this part of itself.
        max_params: limit of n, since H takes n^2 numbers and each step works through them.

    Raises:
        ValueError: a setting out of range, no parameters, more than `max_params`, parameters of
            several dtypes or devices; in `step`, a closure that returns no single number.
        TypeError: half-precision, complex or integer parameters; in `step`, no closure, or a
            sparse gradient.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        update: str = "broyden",
        line_search: str = "strong-wolfe",
        loss_error: float | None = None,
        max_evaluations: int = 25,
        tolerance_gradient: float = 0.0,
        tolerance_change: float = 0.0,
        max_params: int = 8000,
    ):
        check_choice("update", update, list(UPDATES))
        defaults = {
            "lr": lr,
            "update": update,
            "line_search": line_search,
            "loss_error": loss_error,
            "max_evaluations": max_evaluations,
            "tolerance_gradient": tolerance_gradient,
            "tolerance_change": tolerance_change,
        }
        super().__init__(params, defaults)
        count = sum(param.numel() for param in self._params)
        if count > max_params:
            size = count**2 * self._params[0].element_size() / 1e9
            raise ValueError(
                f"SelfScaledBroyden keeps a dense {count} x {count} matrix, {size:.1f} GB, for "
                f"{count} parameters; at most {max_params} are allowed. Use LBFGS, or raise "
                "max_params if memory and time allow"
            )

    def _first_step_size(self, start: Trial) -> float:
        if "inverse_hessian" not in self._memory:
            return steepest_step_size(start)
        before = self._memory.get("previous_loss")
        if before is None or before <= start.loss:
            return 1.0
        # The step of a quadratic that decreases as much as the last step did (Nocedal & Wright
        # 2006, equation 3.60).
        return min(1.0, 1.01 * 2 * (start.loss - before) / start.slope)

    def _direction(self, gradient: Vector) -> Vector:
        inverse = self._memory.get("inverse_hessian")
        return -gradient if inverse is None else -(inverse @ gradient)

    def _learn(self, start: Trial, direction: Vector, end: Trial) -> None:
        state, g = self._memory, end.gradient
        if "inverse_hessian" not in state:
            state["inverse_hessian"] = torch.eye(g.numel()).to(g)
        inverse = state["inverse_hessian"]
        # H g of the start is minus the direction, so that one product with H gives Hy and the
        # next direction.
        h_g = inverse @ g
        s, h_y = end.step_size * direction, h_g + direction
        s_y = end.step_size * (end.slope - start.slope)
        y_h_y = float((g - start.gradient) @ h_y)
        if not 0 < y_h_y < math.inf:
            return
        b = end.step_size**2 * -start.slope / s_y
        tau, phi = UPDATES[self.param_groups[0]["update"]](b, y_h_y / s_y, s.numel())
        terms = factors(s, h_y, s_y, y_h_y, tau, phi)
        update_in_place(inverse, terms, tau)
        (p, p_sign), (q, q_sign) = terms
        state["direction"] = -h_g / tau - p * (p_sign * (p @ g)) - q * (q_sign * (q @ g))

    def _forget(self) -> bool:
        return self._memory.pop("inverse_hessian", None) is not None


Term = tuple[Vector, float]
"""A vector v and a sign that stand for the matrix sign v v'."""


def factors(
    s: Vector, h_y: Vector, s_y: float, y_h_y: float, tau: float, phi: float
) -> tuple[Term, Term]:
    """Two terms whose sum is H_new - H / tau.

    That is the quadratic form of a 2 x 2 matrix in u = s / sqrt(s'y) and w = Hy / sqrt(y'Hy). Its
    square is completed around the diagonal element that cannot be zero.
    """
    h = y_h_y / s_y
    u, w = s / math.sqrt(s_y), h_y / math.sqrt(y_h_y)
    of_u, of_w, mixed = 1 + phi * h / tau, (phi - 1) / tau, -phi * math.sqrt(h) / tau
    if phi >= 0:
        rest = (phi - 1 - phi * h / tau) / (tau * of_u)
        return _term(u + mixed / of_u * w, of_u), _term(w, rest)
    rest = 1 + phi * h / (tau * (1 - phi))
    return _term(w + mixed / of_w * u, of_w), _term(u, rest)


def _term(vector: Vector, weight: float) -> Term:
    return vector * math.sqrt(abs(weight)), math.copysign(1.0, weight)


def update_in_place(inverse: Float[Tensor, "n n"], terms: tuple[Term, Term], tau: float) -> None:
    """H = H / tau + terms, in one pass over H where it is larger than the cache.

    Two products of rank one leave H symmetric to the last bit, which one of rank two does not, and
    1 / tau would let what is not symmetric grow without limit.
    """
    rows = 64 if inverse.is_cpu else len(inverse)
    (p, p_sign), (q, q_sign) = terms
    for block, of_p, of_q in zip(inverse.split(rows), p.split(rows), q.split(rows), strict=True):
        block.addmm_(of_p[:, None], p[None], alpha=p_sign, beta=1 / tau)
        block.addmm_(of_q[:, None], q[None], alpha=q_sign)


def self_scaled_broyden(b: float, h: float, n: int) -> tuple[float, float]:
    """The tau and phi of Al-Baali & Khalfan (2005), as in Urban, Stefanou & Pons (2025).

    Args:
        b: s'Bs / s'y, where B is the inverse of H.
        h: y'Hy / s'y.
        n: the number of parameters.
    """
    # b h >= 1 by Cauchy-Schwarz.
    a = max(b * h - 1, 1e-14)
    c = math.sqrt(a / (1 + a))
    lowest = (min(1.0, h * (1 - c)) - 1) / a
    highest = 1 / min(1.0, h * (1 - c))
    theta = max(lowest, min(highest, (1 - b) / b))
    sigma = 1 + a * theta
    root = abs(sigma) ** (-1 / max(n - 1, 1))
    of_bfgs = min(1.0, 1 / b)
    tau = of_bfgs * min(root, 1 / theta) if theta > 0 else min(of_bfgs * root, sigma)
    return tau, (1 - theta) / (1 + a * theta)


def self_scaled_bfgs(b: float, h: float, n: int) -> tuple[float, float]:  # noqa: ARG001
    """Only scaled: tau = min(1, s'y / s'Bs) of Al-Baali (1998), phi = 1."""
    return min(1.0, 1 / b), 1.0


def unscaled_bfgs(b: float, h: float, n: int) -> tuple[float, float]:  # noqa: ARG001
    """Broyden, Fletcher, Goldfarb, Shanno: tau = phi = 1."""
    return 1.0, 1.0


UPDATES = {
    "broyden": self_scaled_broyden,
    "bfgs": self_scaled_bfgs,
    "unscaled-bfgs": unscaled_bfgs,
}
