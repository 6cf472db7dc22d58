"""What is refused at the entrance, with words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciopt.engine import Projection
from sciopt.projection import Simplex
from sciopt.rule import Direction, Rate, Scope


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        allowed = ", ".join(f'"{each}"' for each in choices)
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def check_rules(direction: Direction, rates: Sequence[Rate]) -> None:
    """Raise TypeError or ValueError for what cannot be composed."""
    if not isinstance(direction, Direction):
        raise TypeError(f"direction must be a Direction, got {direction!r}")
    if not isinstance(rates, Sequence):
        raise TypeError(f"rates must be a list of rates, got {rates!r}; write [rate]")
    for rate in rates:
        _check_rate(rate)
    for rule in (direction, *rates):
        of_class = vars(type(rule))
        if "__init__" in of_class and "__dataclass_fields__" not in of_class:
            raise TypeError(
                f"{type(rule).__name__} has an __init__ of its own, which would lose its settings; "
                "make it a @dataclass(frozen=True) with fields"
            )


def _check_rate(rate: Rate) -> None:
    name = type(rate).__name__
    if not isinstance(rate, Rate):
        raise TypeError(f"rates must hold rates, got {rate!r}")
    if not isinstance(getattr(rate, "scope", None), Scope):
        raise TypeError(f"{name} has no scope; give it scope: ClassVar[Scope] = Scope.ELEMENT")
    listens = type(rate).observe is not Rate.observe or type(rate).survey is not Rate.survey
    if rate.weights_loss and listens:
        raise ValueError(
            f"{name} weights the loss, so it is applied before anything is observed: it must be a "
            "formula of published values, without observe and survey"
        )


def check_params(
    params: Sequence[Tensor], direction: Direction, projection: Projection | None
) -> None:
    """Raise TypeError or ValueError for parameters that cannot be stepped so."""
    for param in params:
        if isinstance(projection, Simplex) and not (param.ndim and param.shape[-1]):
            raise ValueError(
                f"a simplex needs a last axis with elements, got a parameter of shape "
                f"{tuple(param.shape)}"
            )
        if not param.is_floating_point() or param.layout is not torch.strided:
            raise TypeError(
                "parameters must be dense, real and floating-point, got "
                f"{param.dtype} with layout {param.layout}; optimise the real view of a "
                "complex one"
            )
        direction.check(param)


def dense_gradients(params: Sequence[Tensor]) -> list[Tensor | None]:
    """The parameters' gradients; a sparse one raises TypeError."""
    gradients, dense = [param.grad for param in params], torch.strided
    for gradient in gradients:
        if gradient is not None and gradient.layout is not dense:
            raise TypeError(
                f"gradients must be dense, got layout {gradient.layout}; for an embedding "
                "set sparse=False or use torch.optim.SparseAdam"
            )
    return gradients
