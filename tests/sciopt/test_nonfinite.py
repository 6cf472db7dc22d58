"""Gradients with a NaN or an infinity: entered as torch enters them, left out, or told by name."""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_pairs import gradients, new_params
from torch_twins import COMPILED, ENGINES, LIVES, Make, Twin, compiles, follow, label, torchs

import sciopt
from sciopt import Composed, Scope
from sciopt.directions import Gradient, Momentum
from sciopt.rates import (
    Confidence,
    InverseNorm,
    InverseSpectralNorm,
    InverseTimeDecay,
    SecondMoment,
    TrustRatio,
)

Engine = dict[str, Any]
NAN, INFINITY = float("nan"), float("inf")


def confident(params: Any, **keywords: Any) -> Composed:
    optimizer = Composed(params, Momentum(0.9, 0.5), [SecondMoment(), Confidence()], **keywords)
    optimizer.publish("confidence", 0.5)
    return optimizer


METHODS: dict[str, Callable[..., Composed]] = {
    "SGD": sciopt.SGD,
    "SGD with momentum": partial(sciopt.SGD, momentum=0.9),
    # Its buffer is None before the first step.
    "damped": partial(sciopt.SGD, momentum=0.9, dampening=0.5),
    "AdaGrad": partial(sciopt.AdaGrad, lr_decay=0.1),
    "RMSProp": partial(sciopt.RMSProp, momentum=0.9, centered=True),
    "AMSGrad": partial(sciopt.AMSGrad, weight_decay=0.1),
    "Lion": partial(sciopt.Lion, weight_decay=0.1),
    "NormalizedSGD": sciopt.NormalizedSGD,
    "slowing in a box": lambda params, **k: Composed(
        params, Gradient(), [InverseTimeDecay(0.3)], projection=sciopt.Box(-0.2, 0.2), **k
    ),
    "Confidence": confident,
}
# Rates of layers and neurons, which do not pack.
COARSE: dict[str, Callable[..., Composed]] = {
    "LARS": lambda params, **k: Composed(params, Momentum(0.9), [TrustRatio(0.1)], **k),
    "norms": lambda params, **k: Composed(
        params, Gradient(), [InverseNorm(Scope.NEURON), InverseNorm(Scope.LAYER)], **k
    ),
    "spectral norms": lambda params, **k: Composed(
        params, Gradient(), [InverseSpectralNorm()], **k
    ),
}


def all_executions() -> Iterator[Any]:
    for name, make in (METHODS | COARSE).items():
        for engine in ENGINES if name in COARSE else LIVES:
            yield pytest.param(make, engine, id=f"{name}-{label(engine)}")
        few = name in ("damped", "NormalizedSGD", "spectral norms")
        marks = compiles if few else [*compiles, pytest.mark.slow]
        yield pytest.param(make, COMPILED, id=f"{name}-compiled", marks=marks)


executions = pytest.mark.parametrize(("make", "engine"), list(all_executions()))


def spoiled(grads: Sequence[Tensor], value: float, place: int) -> list[Tensor]:
    """The gradients, of which one element of one is not finite."""
    grads = [grad.clone() for grad in grads]
    grads[place].view(-1)[-1] = value
    return grads


def all_that_lasts(optimizer: Optimizer, params: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
    """Copies of parameters and state."""
    return [param.detach().clone() for param in params], copy.deepcopy(
        optimizer.state_dict()["state"]
    )


@executions
@pytest.mark.parametrize("steps", [0, 2])
def test_a_skipped_step_leaves_everything_bit_for_bit_and_the_run_goes_on_as_without_it(
    make: Callable[..., Composed], engine: Engine, steps: int
) -> None:
    """Of two groups, whichever holds the NaN or infinity, at the first step or later."""
    runs = []
    for bad in ([(NAN, 0), (INFINITY, 3), (-INFINITY, 1)], []):
        params = [param for param in new_params() if param.numel()]
        groups = [{"params": params[:2]}, {"params": params[2:]}]
        optimizer = make(groups, lr=0.05, on_nonfinite="skip", **engine)
        series = gradients(params, steps + 4)
        path = follow(optimizer, params, series[:steps])
        for value, place in bad:
            before = all_that_lasts(optimizer, params)
            follow(optimizer, params, [spoiled(series[steps], value, place)])
            after = all_that_lasts(optimizer, params)
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        path += follow(optimizer, params, series[steps:])
        runs.append((path, all_that_lasts(optimizer, params)))
    torch.testing.assert_close(*runs, rtol=0, atol=0)


all_lives = pytest.mark.parametrize("engine", LIVES, ids=label)


@all_lives
@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 1e200), (torch.bfloat16, 3e38)])
def test_a_gradient_that_is_finite_in_its_own_precision_is_stepped(
    engine: Engine, dtype: torch.dtype, size: float
) -> None:
    param = torch.zeros(3, dtype=dtype)
    optimizer = sciopt.SGD([param], lr=1 / size, on_nonfinite="skip", **engine)
    follow(optimizer, [param], [[torch.full_like(param, size)]])
    torch.testing.assert_close(param, torch.full_like(param, -1.0))


@all_lives
def test_parameters_without_elements_or_gradients_are_nothing_to_skip(engine: Engine) -> None:
    params = [torch.zeros(0, 2), torch.ones(2), torch.ones(3)]
    optimizer = sciopt.Adam(params, lr=0.25, on_nonfinite="skip", **engine)
    for grads in ([None] * 3, [torch.zeros(0, 2), None, None], [None, torch.ones(2), None]):
        follow(optimizer, params, [grads])
    torch.testing.assert_close(params[1], torch.full((2,), 0.75))
    assert optimizer.state[params[2]]["step"].item() == 0


@pytest.mark.parametrize("engine", [*LIVES, pytest.param(COMPILED, marks=compiles)], ids=label)
@torchs
@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_propagated_they_spread_as_in_torch(twin: Twin, engine: Engine, value: float) -> None:
    def path(make: Make) -> list[Tensor]:
        params = [param for param in new_params() if param.numel()]
        series = gradients(params, 5)
        series[2] = spoiled(series[2], value, 0)
        return follow(make(params, lr=0.02), params, series)

    expected = path(twin.theirs)
    assert 0 < expected[-1].isfinite().sum() < expected[-1].numel()
    actual = path(partial(twin.ours, **engine))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13, equal_nan=True)


NAMED: list[tuple[bool, str]] = [
    (True, "step 3: the gradient of second.weight, shape (2, 3), has 2 of 6 elements"),
    (False, "step 3: the gradient of parameter 1 of group 1, shape (2, 3), has 2 of 6 elements"),
]


@all_lives
@pytest.mark.parametrize(("named", "message"), NAMED, ids=["by name", "by index"])
def test_raised_they_name_step_and_parameter_and_change_nothing(
    engine: Engine, named: bool, message: str
) -> None:
    params = [torch.ones(3), torch.ones(4), torch.ones(2, 3)]
    names = ["first.weight", "second.bias", "second.weight"]
    of_groups = [*zip(names, params, strict=True)] if named else params
    groups: Any = [{"params": of_groups[:1]}, {"params": of_groups[1:]}]
    optimizer = sciopt.SGD(
        groups, lr=0.1, momentum=0.9, dampening=0.5, on_nonfinite="raise", **engine
    )
    follow(optimizer, params, gradients(params, 2))
    before = all_that_lasts(optimizer, params)
    params[2].grad = torch.tensor([[0.0, NAN, 1.0], [INFINITY, 0.0, 0.0]])
    with pytest.raises(FloatingPointError, match=re.escape(message)):
        optimizer.step()
    torch.testing.assert_close(all_that_lasts(optimizer, params), before, rtol=0, atol=0)
    params[2].grad = torch.ones(2, 3)
    optimizer.step()
    assert not torch.equal(params[2], before[0][2])
