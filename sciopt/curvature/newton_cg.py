"""Newton's method with conjugate gradients, which need the Hessian's products with vectors only.

The preconditioner is a randomised Nyström approximation of the Hessian. It takes care of its few
large eigenvalues, which make the loss of a physics-informed network ill-conditioned.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.curvature.descent import Closure, Descent, Vector, check_count, checked_loss
from sciopt.curvature.line_search import Trial
from sciopt.diagnostics.hessian_product import Product, product_through
from sciopt.rule import check_range


class NewtonCG(Descent):
    """(H + damping I) d = -g, solved by preconditioned conjugate gradients.

    NysNewton-CG of Rathore et al. (2024), "Challenges in training PINNs", algorithm 4. Where the
    loss curves downwards along a direction of the conjugate gradients, these end with what they
    have, which is a descent direction (Nocedal & Wright 2006, section 7.1).

    Second derivatives come from the graph of the loss. The closure of `step` therefore differs from
    that of other optimizers: it computes the loss from the parameters and returns it with its
    graph, and calls neither `backward` nor `zero_grad`. `.grad` is left alone. The graph of the
    last evaluation is kept between steps, and each conjugate gradient brings two numbers to the
    host.

    Args:
        params: dense parameters of float32 or float64, all of one dtype on one device.
        lr: multiplies the step size that is tried first; 1 is Newton's step.
        rank: eigenvalues of the Hessian that the preconditioner knows; it keeps rank n numbers and
            costs `rank` Hessian products.
        refresh_every: steps between two preconditioners.
        damping: added to the Hessian's eigenvalues. The larger, the fewer products a step takes
            and the shorter it is along directions of small curvature.
        cg_tolerance: of the residual |(H + damping I) d + g|, relative to |g|.
        max_products: limit of Hessian products per step, those of the preconditioner apart.
        line_search: "strong-wolfe", or "hager-zhang", which float32 needs.
        loss_error: relative error of the loss, by which "hager-zhang" lets it rise where the slope
            has become gentle; by default 1e-6 in float64 and 1e-3 in float32.
        max_evaluations: limit of closure calls per line search. A step has one, or two if the
            first fails.
        tolerance_gradient: stop where no element of the gradient exceeds it.
        tolerance_change: stop where a step changes the loss by less than this part of itself.
        seed: of the random vectors of the preconditioner.

    Raises:
        ValueError: a setting out of range, no parameters, parameters of several dtypes or devices
            or without requires_grad; in `step`, a closure that returns no single number or one
            without graph.
        TypeError: half-precision, complex or integer parameters; in `step`, no closure.
    """

    # Gradient of the last evaluation as one vector, and as the graph's tensors.
    _graph: tuple[Vector, tuple[Tensor, ...]] | None = None
    _closure: Closure | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        rank: int = 60,
        refresh_every: int = 20,
        damping: float = 1e-3,
        cg_tolerance: float = 1e-3,
        max_products: int = 200,
        line_search: str = "strong-wolfe",
        loss_error: float | None = None,
        max_evaluations: int = 25,
        tolerance_gradient: float = 0.0,
        tolerance_change: float = 0.0,
        seed: int = 0,
    ):
        for name, count in (
            ("rank", rank),
            ("refresh_every", refresh_every),
            ("max_products", max_products),
        ):
            check_count(name, count)
        check_range("damping", damping)
        check_range("cg_tolerance", cg_tolerance, below=1.0)
        defaults = {
            "lr": lr,
            "rank": rank,
            "refresh_every": refresh_every,
            "damping": damping,
            "cg_tolerance": cg_tolerance,
            "max_products": max_products,
            "line_search": line_search,
            "loss_error": loss_error,
            "max_evaluations": max_evaluations,
            "tolerance_gradient": tolerance_gradient,
            "tolerance_change": tolerance_change,
            "seed": seed,
        }
        super().__init__(params, defaults)
        for param in self._params:
            if not param.requires_grad:
                raise ValueError(
                    "NewtonCG differentiates the loss twice and needs parameters that require "
                    f"gradients; got one of shape {tuple(param.shape)} that does not: leave it out "
                    "or call requires_grad_()"
                )

    def step(self, closure: Closure | None = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One iteration; nothing once `stopped` says why.

        Args:
            closure: computes the loss where the parameters are and returns it with its graph,
                without calling `backward`.

        Returns:
            The loss where the step ends.
        """
        self._closure = closure
        return super().step(closure)

    def objective_changed(self) -> None:
        """Say that the closure computes another loss now, such as on new collocation points.

        The next step evaluates the closure where the parameters are; the preconditioner is kept
        until it is due. To be called, too, after the parameters were changed from outside.
        """
        super().objective_changed()
        self._graph = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the state was saved, bit for bit.

        The graph is made anew by one more call of the closure, which `evaluations` leaves out.
        """
        super().load_state_dict(state_dict)
        self._graph = None

    def _evaluate(self, closure: Closure) -> tuple[Tensor, Vector]:
        self._graph = None
        with torch.enable_grad():
            loss = checked_loss(closure())
            if not loss.requires_grad:
                raise ValueError(
                    "NewtonCG needs the loss with its graph; return it from the closure as it was "
                    "computed, without backward(), detach() or float()"
                )
            parts = torch.autograd.grad(
                loss, self._params, create_graph=True, materialize_grads=True
            )
        vector = torch.cat([part.detach().reshape(-1) for part in parts])
        self._graph = vector, parts
        return loss.detach(), vector

    def _first_step_size(self, start: Trial) -> float:  # noqa: ARG002
        return 1.0

    def _direction(self, gradient: Vector) -> Vector:
        state, group = self._memory, self.param_groups[0]
        product = self._hessian_product(gradient)
        steps = state.get("steps", 0)
        state["steps"] = steps + 1
        if steps % group["refresh_every"] == 0 or "basis" not in state:
            # A generator of its own for each, so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(group["seed"] + steps)
            rank = min(group["rank"], gradient.numel())
            drawn = torch.randn(gradient.numel(), rank, generator=generator, dtype=torch.float64)
            state["basis"], state["eigenvalues"] = nystrom(product, drawn.to(gradient))
        damping = group["damping"]

        def precondition(vector: Vector) -> Vector:
            return nystrom_solve(state["basis"], state["eigenvalues"], damping, vector)

        return truncated_newton(
            lambda vector: product(vector) + damping * vector,
            gradient,
            precondition,
            group["cg_tolerance"],
            group["max_products"],
        )

    def _hessian_product(self, gradient: Vector) -> Product:
        """The map v -> H v at the current point."""
        if self._graph is None or self._graph[0] is not gradient:
            # Not counted: a resumed run needs it where another still has the graph.
            assert self._closure is not None
            self._evaluate(self._closure)
        assert self._graph is not None
        return product_through(self._graph[1], self._params)

    def _learn(self, start: Trial, direction: Vector, end: Trial) -> None:
        """Nothing: the Hessian is asked anew."""

    def _forget(self) -> bool:
        self._memory.pop("basis", None)
        return True


def truncated_newton(
    product: Product,
    gradient: Vector,
    precondition: Product,
    tolerance: float,
    max_products: int,
) -> Vector:
    """A d with |A d + g| <= tolerance |g|, or less exact if A is not positive definite.

    Preconditioned conjugate gradients from zero; all iterates are descent directions.
    """
    d, residual = torch.zeros_like(gradient), -gradient
    along = preconditioned = precondition(residual)
    size = residual @ preconditioned
    limit = tolerance * float(gradient.norm())
    for count in range(max_products):
        image = product(along)
        curvature = along @ image
        if not float(curvature) > 0:
            return along if count == 0 else d
        d = d + size / curvature * along
        residual = residual - size / curvature * image
        if float(residual.norm()) <= limit:
            break
        preconditioned = precondition(residual)
        size, before = residual @ preconditioned, size
        along = preconditioned + size / before * along
    return d


def nystrom(
    product: Product, drawn: Float[Tensor, "n rank"]
) -> tuple[Float[Tensor, "n rank"], Float[Tensor, " rank"]]:
    """U and L of the approximation U diag(L) U' of a symmetric matrix, from `rank` products.

    Frangella, Tropp & Udell (2023), algorithm 2.1, with the shift of Rathore et al. (2024) that
    makes the projected matrix positive definite where the Hessian is not.
    """
    test = torch.linalg.qr(drawn).Q
    image = torch.stack([product(column) for column in test.T.contiguous()], dim=1)
    projected = test.T @ image
    projected = (projected + projected.T) / 2
    lowest = torch.linalg.eigvalsh(projected)[0].clamp(max=0.0)
    # Tiny beside the image, but above the rounding errors of the factorisation below.
    noise = 10 * torch.finfo(drawn.dtype).eps * image.norm() + torch.finfo(drawn.dtype).tiny
    shift = noise - lowest
    identity = torch.eye(len(projected)).to(projected)
    root = torch.linalg.cholesky(projected + shift * identity)
    half = torch.linalg.solve_triangular(root, (image + shift * test).T, upper=False).T
    basis, singular, _ = torch.linalg.svd(half, full_matrices=False)
    return basis, (singular**2 - shift).clamp(min=0.0)


def nystrom_solve(
    basis: Float[Tensor, "n rank"], eigenvalues: Float[Tensor, " rank"], damping: float, v: Vector
) -> Vector:
    """P^-1 v with P = U (L + damping) U' / (smallest L + damping) + (I - U U').

    Eigenvalues that the basis does not hold are taken to be as large as the smallest it holds.
    """
    smallest = eigenvalues[-1] + damping
    inside = basis.T @ v
    factor = torch.where(eigenvalues + damping > 0, smallest / (eigenvalues + damping), 1.0)
    return v + basis @ ((factor - 1) * inside)
