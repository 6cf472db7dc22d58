"""How far a composed optimizer is from its edge of stability."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciopt.diagnostics.effective_rates import step_sizes
from sciopt.diagnostics.hessian_product import Loss, differentiable, flat, hessian_product
from sciopt.diagnostics.top_eigenvalues import top_eigenpairs
from sciopt.diagnostics.untouched import untouched
from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.optimizer import Composed
from sciopt.rule import Direction


class StabilityEdge(NamedTuple):
    """Where the optimizer stands: above the edge, `ratio` > 1, a quadratic would diverge.

    `sharpness` is the largest eigenvalue of S^1/2 H S^1/2, where S holds every element's step
    size, lr times its rates, and H the coupled weight decay too. It has no unit.
    """

    sharpness: float
    edge: float

    @property
    def ratio(self) -> float:
        """How many times the edge the sharpness is."""
        return self.sharpness / self.edge


def stability_edge(
    optimizer: Composed,
    loss_fn: Loss,
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
    generator: torch.Generator | None = None,
) -> StabilityEdge:
    """The preconditioned sharpness times lr, and the edge at which the optimizer turns unstable.

    On a quadratic and with rates that stand still, a step is stable exactly below the edge: 2 for
    the gradient, 2 (1 + b) / (1 - dampening) for heavy ball, 2 (1 + b) / (1 + 2 b) for Nesterov,
    (2 + 2 b) / (1 - b) for an exponential average such as Adam's, 38 at b = 0.9 (Cohen et al.
    2022, arXiv 2207.14484, section 2). Decoupled weight decay multiplies each by
    1 - lr * weight_decay / 2.

    Args:
        optimizer: one of sciopt's, after a step: the rates are those of the last one.
        loss_fn: evaluates the loss that the optimizer minimises, or maximises; see `Loss`.
        tolerance: as in `top_hessian_eigenvalues`.
        max_products: as in `top_hessian_eigenvalues`.
        generator: as in `top_hessian_eigenvalues`.

    Raises:
        ValueError: a direction without a closed form, groups with different edges, a projection,
            and as `top_hessian_eigenvalues`.
    """
    edge = _common_edge(optimizer)
    sizes = step_sizes(optimizer)
    params = differentiable(param for param in sizes if param.requires_grad)
    like = params[0]
    roots = flat([sizes[param].sqrt() for param in params], like)
    decay = _coupled_decay(optimizer, params)
    sign = -1 if optimizer.param_groups[0]["maximize"] else 1
    with untouched(params):
        product = hessian_product(loss_fn, params)

        def preconditioned(vector: Tensor) -> Tensor:
            scaled = roots * vector
            return roots * (sign * product(scaled) + decay * scaled)

        pairs = top_eigenpairs(
            preconditioned,
            like,
            len(roots),
            tolerance=tolerance,
            max_products=max_products,
            generator=generator,
        )
    return StabilityEdge(float(pairs.values[0]), edge)


def _common_edge(optimizer: Composed) -> float:
    """The edge, which all groups must share."""
    if optimizer._projection is not None:
        raise ValueError("a projected step has no closed-form edge; monitor it without projection")
    if len({group["maximize"] for group in optimizer.param_groups}) > 1:
        raise ValueError("some groups ascend and others descend: no sharpness describes a saddle")
    edges = set()
    for group in optimizer.param_groups:
        direction, *_ = optimizer._rules(group)
        edge = _edge(direction)
        if group["decoupled_weight_decay"]:
            edge *= 1 - float(group["lr"]) * group["weight_decay"] / 2
        edges.add(edge)
    if len(edges) > 1:
        raise ValueError(
            f"the groups' edges differ: {sorted(edges)}; give all groups the same momentum and "
            "decoupled weight decay"
        )
    return edges.pop()


def _edge(direction: Direction) -> float:
    match direction:
        case Gradient():
            return 2.0
        case Momentum(momentum=beta, nesterov=True):
            return 2 * (1 + beta) / (1 + 2 * beta)
        case Momentum(momentum=beta, dampening=dampening) if beta == 0 or dampening < 1:
            return 2 * (1 + beta) / (1 - (dampening if beta else 0.0))
        case ExponentialAverage(beta=beta):
            return (2 + 2 * beta) / (1 - beta)
    raise ValueError(
        f"no closed-form edge is known for {direction}; there is one for Gradient, Momentum with "
        "dampening < 1, and ExponentialAverage"
    )


def _coupled_decay(optimizer: Composed, params: list[Tensor]) -> Tensor:
    """The coupled weight decay of every element, over the weight that its loss is given.

    Step sizes hold that weight, as if it were the step's; the decay is added after it.
    """
    decays = {
        param: 0.0 if group["decoupled_weight_decay"] else group["weight_decay"]
        for group in optimizer.param_groups
        for param in group["params"]
    }
    weights = [
        rates
        for rate, rates in zip(optimizer._rates, optimizer.last_rates().values(), strict=True)
        if rate.weights_loss
    ]
    return flat(
        [
            torch.full_like(param, decays[param]) / math.prod(each[param] for each in weights)
            for param in params
        ],
        params[0],
    )
