"""Products of a loss's Hessian with vectors, by differentiating twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Loss = Callable[[], Tensor]
"""Evaluates the loss, a tensor of one element, with its graph; must not call `backward`."""

Product = Callable[[Tensor], Tensor]


def differentiable(params: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list.

    Raises:
        ValueError: there is none, or one that needs no gradient.
        TypeError: one that is not real and floating-point.
    """
    listed = list(params)
    if not listed:
        raise ValueError("got no parameters; pass at least one, such as network.parameters()")
    for place, param in enumerate(listed):
        if not param.is_floating_point():
            raise TypeError(f"parameters must be real and floating-point, got {param.dtype}")
        if not param.requires_grad:
            raise ValueError(
                f"parameter {place} of shape {tuple(param.shape)} needs no gradient; "
                "leave it out or call requires_grad_()"
            )
    return listed


def evaluated(loss_fn: Loss) -> Tensor:
    """The loss, with gradients enabled.

    Raises:
        ValueError: it has several elements, or no graph.
    """
    with torch.enable_grad():
        loss = loss_fn()
    if loss.numel() != 1:
        raise ValueError(f"the loss must have one element, got shape {tuple(loss.shape)}")
    if not loss.requires_grad:
        raise ValueError("the loss has no graph; compute it from the parameters, without detach()")
    return loss


def flat(tensors: Sequence[Tensor], like: Tensor) -> Float[Tensor, " n"]:
    """All elements in one vector of `like`'s dtype and device."""
    return torch.cat([tensor.detach().reshape(-1).to(like) for tensor in tensors])


def unflat(vector: Float[Tensor, " n"], params: Sequence[Tensor]) -> list[Tensor]:
    """The vector cut into the parameters' shapes, dtypes and devices."""
    parts = vector.split([param.numel() for param in params])
    return [part.view_as(param).to(param) for part, param in zip(parts, params, strict=True)]


def hessian_product(loss_fn: Loss, params: Sequence[Tensor]) -> Product:
    """The map v -> H v, of the loss as it is evaluated now, once for all products.

    H is the Hessian with respect to all elements of `params` as one vector. Vectors have the
    dtype and the device of the first parameter. Its graph is kept as long as the function is.
    """
    loss = evaluated(loss_fn)
    gradients = torch.autograd.grad(loss, params, create_graph=True, materialize_grads=True)
    return product_through(gradients, params)


def product_through(gradients: Sequence[Tensor], params: Sequence[Tensor]) -> Product:
    """The map v -> H v, from gradients of the loss that have their graph."""
    # Where the loss is linear, or does not depend on a parameter at all, there is no graph.
    curved = [place for place, gradient in enumerate(gradients) if gradient.requires_grad]

    def product(vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        if not curved:
            return torch.zeros_like(vector)
        parts = unflat(vector, params)
        rows = torch.autograd.grad(
            [gradients[place] for place in curved],
            params,
            [parts[place] for place in curved],
            retain_graph=True,
            materialize_grads=True,
        )
        return flat(rows, vector)

    return product
