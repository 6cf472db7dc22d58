"""The diagonal of the Fisher information: the mean square of per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.func import functional_call, grad, vmap

from sciopt.diagnostics.hessian_product import differentiable
from sciopt.diagnostics.untouched import untouched


def fisher_diagonal(
    network: torch.nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Shaped[Tensor, "samples ..."],
    targets: Tensor | None = None,
    *,
    chunk: int = 128,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """F_i = mean over samples of (d loss / d param_i)^2, by the parameter's name.

    With the data's own targets this is the empirical Fisher information, what the second moment
    of Adam averages when batches hold one sample. With `targets=None` labels are drawn from
    the network's own distribution, which gives the Fisher information itself, equal to the
    Gauss-Newton matrix in expectation (Kunstner, Balles & Hennig 2019).

    Args:
        network: called on batches, in the mode it is in; parameters that need no gradient are
            left out.
        loss_fn: loss of (outputs, targets), a mean or sum over a batch of one sample.
        inputs: samples along the first axis; of any dtype, such as tokens.
        targets: as many along the first axis; None if `loss_fn` is the cross-entropy of outputs
            of shape (samples, classes), to draw the labels.
        chunk: samples at a time; memory is that of so many gradients.
        generator: of the labels; one with a fixed seed if not given.

    Raises:
        ValueError: no parameter needs a gradient; inputs and targets of different number; a
            batch norm in training mode, where a sample has no gradient of its own.
    """
    params = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    differentiable(p for p in network.parameters() if p.requires_grad)
    _check_samples(network, inputs, targets)
    generator = generator or torch.Generator(inputs.device).manual_seed(0)

    def sample_loss(params: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(network, params, (one.unsqueeze(0),))
        return loss_fn(outputs, target.unsqueeze(0)).sum()

    gradients = vmap(grad(sample_loss), in_dims=(None, 0, 0), randomness="different")
    total = {name: torch.zeros_like(param) for name, param in params.items()}
    with untouched([*params.values()]):
        for start in range(0, len(inputs), chunk):
            batch = inputs[start : start + chunk]
            if targets is None:
                labels = _drawn_labels(network, batch, generator)
            else:
                labels = targets[start : start + chunk]
            for name, gradient in gradients(params, batch, labels).items():
                total[name] += gradient.square().sum(0)
    return {name: value / len(inputs) for name, value in total.items()}


@torch.no_grad()
def _drawn_labels(network: torch.nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
    probabilities = network(batch).softmax(-1).to(generator.device)
    return probabilities.multinomial(1, generator=generator).squeeze(-1).to(batch.device)


def _check_samples(network: torch.nn.Module, inputs: Tensor, targets: Tensor | None) -> None:
    if not len(inputs) or (targets is not None and len(targets) != len(inputs)):
        raise ValueError(
            f"got {len(inputs)} inputs and {0 if targets is None else len(targets)} targets; "
            "expected one target for each of at least one input"
        )
    for name, part in network.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.training:
            raise ValueError(
                f"{name or 'the network'} is a batch norm in training mode, which mixes the "
                "samples; call network.eval() first"
            )
