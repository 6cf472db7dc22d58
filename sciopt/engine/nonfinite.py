"""Gradients that hold a NaN or an infinity: found on the device, or told by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.engine.plan import Group
from sciopt.rule import State


def found_nonfinite(gradients: Sequence[Tensor]) -> Float[Tensor, ""]:
    """1 on the first gradient's device if any element of any gradient is not finite, else 0.

    No device is waited for. float32, as torch's fused kernels want it.
    """
    device = gradients[0].device
    finite = [
        gradient.abs().amax().isfinite().to(device, non_blocking=True)
        for gradient in gradients
        if gradient.numel()
    ]
    if not finite:
        return torch.zeros((), device=device)
    return (~torch.stack(finite).all()).float()


def raise_if_nonfinite(
    groups: Sequence[Group],
    gradients: Sequence[Sequence[Tensor | None]],
    states: Mapping[Tensor, State],
    counted: int,
) -> None:
    """Raise FloatingPointError that names step and parameter. Waits for the device.

    The step is the parameter's own if it has a clock, else that after the `counted` ones.
    """
    for place, (group, of_group) in enumerate(zip(groups, gradients, strict=True)):
        for index, gradient in enumerate(of_group):
            if gradient is None or gradient.isfinite().all():
                continue
            names = group.get("param_names")
            name = f"parameter {index} of group {place}" if names is None else names[index]
            clock = states[group["params"][index]].get("step")
            step = 1 + (counted if clock is None else int(clock))
            bad = int((~gradient.isfinite()).sum())
            raise FloatingPointError(
                f"step {step}: the gradient of {name}, shape {tuple(gradient.shape)}, has {bad} of "
                f"{gradient.numel()} elements that are NaN or infinite; nothing was changed. Lower "
                'lr or clip the gradient, or use on_nonfinite="skip" to leave such steps out'
            )
