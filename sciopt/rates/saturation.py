"""A rate that listens to the slope of a unit's activation, and the probe that measures it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from sciopt.activations import ACTIVATIONS, output_and_slope
from sciopt.rule import Clock, Rate, Real, Scope, Slot, State, check_range

if TYPE_CHECKING:
    import sciopt.optimizer

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@final
@dataclass(frozen=True)
class Saturation(Rate):
    """r = max(slope, floor)^power, of the mean |derivative| of the unit's activation.

    A gradient carries one factor of the slope. Power -1 takes it out, so that a saturating unit
    moves like any other; power 1 puts in a second, so that it rests. `floor` bounds the rate of a
    unit whose slope is zero. The slope is published before each step: `probe_saturation` does it.

    Raises:
        ValueError: a power that is not finite, a negative floor, none with a negative power.
    """

    scope: ClassVar[Scope] = Scope.NEURON
    power: Real = 1.0
    floor: Real = 0.1

    def __post_init__(self):
        check_range("floor", self.floor)
        if not math.isfinite(self.power) or (self.power < 0 and self.floor == 0):
            raise ValueError(
                "power must be finite, and floor > 0 if it is negative, got "
                f"power = {self.power}, floor = {self.floor}"
            )

    def slots(self) -> Mapping[str, Slot]:
        """The published slope of each unit, one where the rate is to be one."""
        return {"slope": Slot(Scope.NEURON, None, published=True)}

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number per row."""
        return state["slope"].clamp(min=self.floor) ** self.power


@dataclass(frozen=True)
class Probe:
    """The hooks of a probe on the modules of a network."""

    hooks: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """Take the hooks off; the slopes published last stay."""
        for hook in self.hooks:
            hook.remove()


def probe_saturation(network: nn.Module, optimizer: sciopt.optimizer.Composed) -> Probe:
    """Publish every unit's slope to the optimizer in each forward pass that records gradients.

    The slope is the mean over samples and positions of |derivative| of an activation module, such
    as `nn.Tanh()`, and goes to weight and bias of the linear or convolutional layer whose very
    output the activation is called with. Of several calls in a pass, or passes in a step, the
    last counts. All other parameters have the slope one. It costs a second pass through the
    activations.

    Returns:
        The probe, whose `remove()` ends it.
    """
    params = {param for group in optimizer.param_groups for param in group["params"]}
    makers = WeakTensorKeyDictionary()

    def remember(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        makers[output] = layer

    def measure(activation: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        layer = makers.get(inputs[0])
        if layer is None or not torch.is_grad_enabled():
            return
        _, slopes = output_and_slope(activation, inputs[0])
        units = 1 - layer.weight.ndim  # the axis: -1 of a linear layer, -3 of an image
        slope = slopes.movedim(units, 0).flatten(1).mean(1)
        for param in params.intersection((layer.weight, layer.bias)):
            optimizer.publish("slope", slope.view(Scope.NEURON.shape(param)), [param])

    optimizer.publish("slope", 1.0)
    layers = [part for part in network.modules() if isinstance(part, LAYERS)]
    activations = [part for part in network.modules() if isinstance(part, ACTIVATIONS)]
    return Probe(
        (
            *(layer.register_forward_hook(remember) for layer in layers),
            # Before the call, as one in place leaves no input behind.
            *(activation.register_forward_pre_hook(measure) for activation in activations),
        )
    )
