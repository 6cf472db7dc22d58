"""Units that do no work: dead ones, whose output is zero, and saturated ones, without slope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sciopt.activations import ACTIVATIONS, output_and_slope
from sciopt.diagnostics.untouched import untouched


@dataclass(frozen=True)
class Units:
    """The units of one activation layer.

    `slope` is the mean of |derivative of the activation| over the inputs, `dead` says whose
    output was zero for all of them, `saturated` whose slope is below the threshold otherwise.
    """

    slope: Float[Tensor, " units"]
    dead: Bool[Tensor, " units"]
    saturated: Bool[Tensor, " units"]


def dead_and_saturated_units(
    network: nn.Module,
    *inputs: Tensor,
    threshold: float = 0.05,
    axis: int = 1,
    activations: tuple[type[nn.Module], ...] = ACTIVATIONS,
) -> dict[str, Units]:
    """The dead and saturated units by activation layer, in the order the layers are called.

    Only activations that are modules are seen: `nn.Tanh()`, not `torch.tanh`. A module called
    several times appears as `name`, `name (2)` and so on. The network is run once, in the mode
    it is in.

    Args:
        network: any network.
        inputs: what it is called with: a batch, so large that zero for all of it means dead.
        threshold: a slope below it counts as saturated.
        axis: the axis of the activations along which the units lie: 1 for features (samples,
            units) and channels (samples, units, height, width), -1 behind linear layers that
            act on sequences.
        activations: the elementwise modules to be looked at.

    Raises:
        ValueError: the network calls none of the `activations`.
    """
    found: dict[str, Units] = {}

    def look(name: str, module: nn.Module, before: Tensor) -> None:
        calls = 1 + sum(key.startswith(f"{name} (") or key == name for key in found)
        found[name if calls == 1 else f"{name} ({calls})"] = _units(module, before, threshold, axis)

    def looking(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, args: look(name, module, args[0])

    hooks = [
        # Before the call, as one in place leaves no input behind.
        part.register_forward_pre_hook(looking(name))
        for name, part in network.named_modules()
        if isinstance(part, activations)
    ]
    try:
        with torch.no_grad(), untouched([*network.parameters()]):
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(
            "the network calls no activation module; make them modules, such as nn.Tanh() "
            "for torch.tanh, or name your own by `activations`"
        )
    return found


def _units(module: nn.Module, before: Tensor, threshold: float, axis: int) -> Units:
    after, slopes = output_and_slope(module, before)
    slope = slopes.movedim(axis, 0).flatten(1).mean(1)
    dead = (after.movedim(axis, 0).flatten(1) == 0).all(1)
    return Units(slope, dead, (slope < threshold) & ~dead)
