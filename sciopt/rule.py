"""The vocabulary of a step: `step = -lr * (product of rates) * direction`.

A `Direction` says where to go and may keep an order of its own (a momentum sums before or after
the rates). A `Rate` is a positive multiplier that listens to a signal at a `Scope`; it broadcasts
against the parameter, and rates commute. Both are frozen dataclasses whose fields are their
settings and both declare the state they keep, so that memory, `param_groups` and `state_dict`
follow from the declaration. Names of settings and state are torch's own where torch has the
method: an optimizer composed here then reads and writes torch's checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

Real = float | int
"""A number; torch's own checkpoints hold ints among the settings, such as momentum = 0."""


class Scope(Enum):
    """How far one number of a rate or of its state reaches."""

    ELEMENT = "one number per element"
    NEURON = "one number per row, the outputs of a layer"
    LAYER = "one number per parameter tensor"
    MODEL = "one number for all parameters, of which each parameter keeps a copy"

    def shape(self, param: Tensor) -> tuple[int, ...]:
        """The shape that holds this scope's numbers and broadcasts against `param`."""
        if self is Scope.ELEMENT:
            return tuple(param.shape)
        if self is Scope.NEURON:
            return (*param.shape[:1], *(1 for _ in param.shape[1:]))
        return ()


@dataclass(frozen=True)
class Slot:
    """A tensor of state: its scope, the value it starts from, and its dtype or the parameter's.

    With `initial=None` the state is None until the rule sets it at its first gradient. A
    `published` slot is written by the application through `Composed.publish`, not by a rule.
    """

    scope: Scope
    initial: Real | None = 0.0
    dtype: torch.dtype | None = None
    published: bool = False

    def allocate(self, param: Tensor, value: Real) -> Tensor:
        """A tensor filled with `value`, laid out for `param`."""
        if self.scope is Scope.ELEMENT:
            return torch.full_like(param, value, dtype=self.dtype)
        shape = self.scope.shape(param)
        return torch.full(shape, value, dtype=self.dtype or param.dtype, device=param.device)


CLOCK = Slot(Scope.LAYER, dtype=torch.float32)
"""The count of gradients a parameter has met; a rule that reads it declares it as `step`.

One clock serves all rules and the engine advances it. dtype and place are those that torch's
fused kernels want.
"""


class Clock:
    """The count of gradients a parameter has met, and the factors that follow from it.

    For a parameter on the host it is a number; on an accelerator a tensor, because reading one
    would wait for the device. There one clock, the `stack`, holds the counts of many parameters,
    this one's at `place`, and computes the factors of all at once.
    """

    def __init__(
        self,
        step: Real | Float[Tensor, "*clocks"] | None,
        stack: Clock | None = None,
        place: int = 0,
    ):
        self._step, self._stack, self._place = step, stack, place
        self.factors: dict[tuple[Real, Real], Real | Float[Tensor, "*clocks"]] = {}

    @property
    def step(self) -> Real | Float[Tensor, "*clocks"]:
        """The count; ValueError where no rule declares the CLOCK."""
        if self._step is None:
            raise ValueError(
                'a rule reads the clock and does not declare it; add "step": CLOCK to its slots()'
            )
        return self._step

    def debias(self, beta: Real, power: Real = 1) -> Real | Float[Tensor, "*clocks"]:
        """(1 - beta^step)^-power, which takes the bias from an average of decay `beta`.

        1 - beta^step is the sum of the weights that the average has given. A factor, because
        divisions take longest of all that is done to an element.
        """
        key = (beta, power)
        if key not in self.factors and self._stack is not None:
            self.factors[key] = torch.as_tensor(self._stack.debias(beta, power))[self._place]
        elif key not in self.factors:
            self.factors[key] = (1 - beta**self.step) ** -power
        return self.factors[key]


@dataclass(frozen=True)
class Model:
    """All parameters that have a gradient in this step, with their state, in parallel lists."""

    params: Sequence[Tensor]
    gradients: Sequence[Tensor]
    states: Sequence[State]


@dataclass(frozen=True)
class Signals:
    """What a rule may read, and must not write, for one parameter in one step.

    `grad` is the gradient to be descended: negated if the optimizer maximises, with the weight
    decay added if that is not decoupled; `loss_grad` is the gradient as it came. `survey` is what
    the rate's own `survey` returned.
    """

    grad: Float[Tensor, "*shape"]
    loss_grad: Float[Tensor, "*shape"]
    param: Float[Tensor, "*shape"]
    clock: Clock
    survey: Tensor | None = None


State = dict[str, Any]
"""One parameter's state by name: a tensor, or None before a `Slot(initial=None)` is first set."""


@dataclass(frozen=True)
class Direction(ABC):
    """Where to step: a frozen dataclass of settings.

    With `after_rates` the direction is given the gradient already multiplied by the rates and
    what it returns is stepped along as it is: RMSProp's momentum, LaProp. `elementwise` says that
    an element's direction depends on that element's gradients alone.
    """

    elementwise: ClassVar[bool] = True
    after_rates: bool = field(default=False, kw_only=True, metadata={"key": None})

    def slots(self) -> Mapping[str, Slot]:
        """The state this direction keeps, by name."""
        return {}

    def check(self, param: Tensor) -> None:  # noqa: B027
        """Raise ValueError if this direction has no meaning for such a parameter."""

    @abstractmethod
    def direction(
        self, vector: Float[Tensor, "*shape"], signals: Signals, state: State
    ) -> Float[Tensor, "*shape"]:
        """The direction from `vector`, the gradient or the gradient times the rates.

        Updates `state` in place; may return `vector` or a tensor of the state itself, which the
        engine leaves unchanged.
        """


@dataclass(frozen=True)
class Rate(ABC):
    """A multiplier of the step from one signal at one scope: a frozen dataclass of settings.

    `observe` remembers what the signal says, `rate` is a formula of what is remembered: so the
    rates of the last step can be read at any time, whatever executed it.
    """

    scope: ClassVar[Scope]

    @property
    def label(self) -> str:
        """What `Composed.last_rates` calls it."""
        return type(self).__name__

    @property
    def weights_loss(self) -> bool:
        """Whether the rate multiplies the gradient, as if it weighted the loss, not the update."""
        return False

    def slots(self) -> Mapping[str, Slot]:
        """The state this rate keeps, by name."""
        return {}

    def survey(self, model: Model) -> Tensor | None:  # noqa: ARG002
        """What the rate must know of all parameters, asked once per step before any `observe`."""
        return None

    def observe(self, signals: Signals, state: State) -> None:  # noqa: B027
        """Update `state` in place from the signals of one parameter."""

    @abstractmethod
    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:
        """The multiplier from the state alone, of the shape `scope.shape(param)`."""


Rule = Direction | Rate


def whole(value: Tensor) -> Tensor:
    """The value, gathered if its parts lie in several processes (torch's DTensor)."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def torch_key(name: str, index: int) -> dict[str, tuple[str, int]]:
    """Metadata of a field that lives in `param_groups` as element `index` of the tuple `name`.

    A field without metadata lives there under its own name; the key None keeps it out, for what
    is part of the composition rather than a setting. A field named as one of the optimizer's own
    settings, such as lr or weight_decay, always has the optimizer's value.
    """
    return {"key": (name, index)}


def check_range(name: str, value: Real, low: Real = 0.0, below: Real = float("inf")) -> None:
    """Raise ValueError unless `value` is a number in [low, below)."""
    if not low <= value < below:
        bound = "finite" if below == float("inf") else f"below {below:g}"
        raise ValueError(f"{name} must be {bound} and at least {low:g}, got {value!r}")
