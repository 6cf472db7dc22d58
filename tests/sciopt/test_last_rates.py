"""The rates that are told are those that were applied."""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_pairs import gradients, new_params
from torch_twins import ENGINES, LIVES, follow, label, new_inputs

import sciopt.rates
from sciopt import Composed, Rate, Scope
from sciopt.directions import Gradient, Momentum
from sciopt.rates import (
    Confidence,
    InverseNorm,
    InverseSpectralNorm,
    InverseTimeDecay,
    MatrixShape,
    Published,
    Saturation,
    SecondMoment,
    SquareAverage,
    SumOfSquares,
    TrustRatio,
)

Engine = dict[str, Any]
all_lives = pytest.mark.parametrize("engine", LIVES, ids=label)

RATES: list[Rate] = [
    SumOfSquares(0.1, 0.2),
    SquareAverage(0.9, 0.1, centered=True),
    SecondMoment(0.99, 1e-3, amsgrad=True),
    InverseTimeDecay(0.3),
    InverseNorm(Scope.NEURON),
    InverseNorm(Scope.LAYER),
    InverseNorm(Scope.MODEL),
    InverseSpectralNorm("own"),
    InverseSpectralNorm("others"),
    MatrixShape("match_rms_adamw"),
    TrustRatio(0.1, 0.01),
    Saturation(-0.5, 0.2),
    Confidence(2.0),
    Confidence(2.0, "loss"),
    Published("trust", scope=Scope.ELEMENT),
]


def test_no_rate_is_left_out() -> None:
    every = [getattr(sciopt.rates, name) for name in sciopt.rates.__all__]
    classes = {each for each in every if isinstance(each, type) and issubclass(each, Rate)}
    assert classes == {type(rate) for rate in RATES}


def publish(optimizer: Composed, rates: Sequence[Rate], number: int) -> None:
    """All that these rates listen to, another value for each step and parameter."""
    for group in optimizer.param_groups:
        for index, param in enumerate(group["params"], number):
            for rate in rates:
                for name, slot in rate.slots().items():
                    if slot.published:
                        of_param = slot.scope is not Scope.MODEL
                        value = new_inputs(*slot.scope.shape(param)).abs() * (1 + index * of_param)
                        optimizer.publish(name, value, [param] if of_param else None)


def executions() -> Iterator[Any]:
    for rate in RATES:
        packs = rate.scope in (Scope.ELEMENT, Scope.MODEL)
        for engine in LIVES if packs else ENGINES:
            yield pytest.param(rate, engine, id=f"{rate.label}-{rate.scope.name}-{label(engine)}")


def assert_applied(
    optimizer: Composed,
    before: dict[Tensor, Tensor],
    labels: Sequence[str],
    scopes: Sequence[Scope],
) -> None:
    """step = lr * (product of rates) * gradient, for each parameter that had one."""
    told = optimizer.last_rates()
    assert list(told) == list(labels)
    for group in optimizer.param_groups:
        for param in group["params"]:
            moved = before[param] - param
            if param.grad is None:
                assert not any(param in of_rate for of_rate in told.values())
                assert (moved == 0).all()
                continue
            rates = [of_rate[param] for of_rate in told.values()]
            assert [rate.shape for rate in rates] == [scope.shape(param) for scope in scopes]
            expected = group["lr"] * math.prod(rates, start=param.grad)
            torch.testing.assert_close(moved, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("rate", "engine"), list(executions()))
def test_each_rate_is_told_as_it_was_applied(rate: Rate, engine: Engine) -> None:
    params, direction = new_params(), Gradient()
    if isinstance(rate, MatrixShape):
        # Its shape is read off a momentum buffer; this one is the gradient to round-off.
        params, direction = [new_inputs(4, 3), new_inputs(2, 5)], Momentum(1e-300)
    optimizer = Composed(params, direction, [rate], lr=0.1, **engine)
    for number, grads in enumerate(gradients(params, 4)):
        publish(optimizer, [rate], number)
        before = {param: param.detach().clone() for param in params}
        absent = None if number == 2 else grads[0]
        follow(optimizer, params, [[absent, *grads[1:]]])
        assert_applied(optimizer, before, [rate.label], [rate.scope])


TOGETHER: dict[str, dict[str, Rate]] = {
    # torch's fused AdaGrad.
    "fused": {"SumOfSquares": SumOfSquares(), "InverseTimeDecay": InverseTimeDecay(0.1)},
    "packed": {
        "SecondMoment": SecondMoment(),
        "SumOfSquares": SumOfSquares(),
        "InverseNorm": InverseNorm(),
        "Confidence": Confidence(0.5, "loss"),
    },
    "of all scopes": {
        "InverseNorm(MODEL)": InverseNorm(Scope.MODEL),
        "SecondMoment": SecondMoment(),
        "InverseNorm(LAYER)": InverseNorm(Scope.LAYER),
        "Saturation": Saturation(),
        "InverseNorm(NEURON)": InverseNorm(Scope.NEURON),
        "trust": Published("trust", scope=Scope.ELEMENT),
        "TrustRatio": TrustRatio(),
    },
}


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        pytest.param(name, engine, id=f"{name}-{label(engine)}")
        for name in TOGETHER
        for engine in (ENGINES if name == "of all scopes" else LIVES)
    ],
)
def test_rates_together_multiply_to_what_was_applied(name: str, engine: Engine) -> None:
    """Norms of one class are told apart by their scopes; groups have settings of their own."""
    params, rates = new_params(), list(TOGETHER[name].values())
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.3, "eps": 0.1}]
    optimizer = Composed(groups, Gradient(), rates, lr=0.1, **engine)
    for number, grads in enumerate(gradients(params, 3)):
        publish(optimizer, rates, number)
        before = {param: param.detach().clone() for param in params}
        follow(optimizer, params, [grads])
        assert_applied(optimizer, before, list(TOGETHER[name]), [rate.scope for rate in rates])


def test_two_rates_of_one_class_and_scope_are_both_told() -> None:
    param = new_inputs(3)
    optimizer = Composed([param], Gradient(), [Confidence(2.0), Confidence(1.0, "loss")], lr=1.0)
    optimizer.publish("confidence", 0.5)
    follow(optimizer, [param], [[torch.ones_like(param)]])
    told = [of_rate[param].item() for of_rate in optimizer.last_rates().values()]
    assert sorted(told) == [0.25, 0.5]


COMPOSITION = partial(
    Composed,
    direction=Gradient(),
    rates=[SecondMoment(), InverseNorm(), InverseTimeDecay(0.1)],
    lr=0.1,
)


def equal(told: dict[str, dict[Tensor, Tensor]], other: dict[str, dict[Tensor, Tensor]]) -> bool:
    """Whether two optimizers of as many parameters tell the same."""
    return told.keys() == other.keys() and all(
        len(mine) == len(theirs) and all(map(torch.equal, mine.values(), theirs.values()))
        for mine, theirs in zip(told.values(), other.values(), strict=True)
    )


@all_lives
def test_nothing_is_told_before_a_step_and_after_a_resumed_one_what_the_uncut_run_tells(
    engine: Engine,
) -> None:
    params = new_params()
    optimizer = COMPOSITION(params, **engine)
    nothing = {"SecondMoment": {}, "InverseNorm": {}, "InverseTimeDecay": {}}
    assert optimizer.last_rates() == nothing
    series = gradients(params, 4)
    follow(optimizer, params, series[:3])
    others = [param.detach().clone() for param in params]
    resumed = COMPOSITION(others, **engine)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.last_rates() == nothing
    follow(optimizer, params, series[3:])
    follow(resumed, others, series[3:])
    assert equal(resumed.last_rates(), optimizer.last_rates())


@all_lives
def test_what_is_told_is_a_copy(engine: Engine) -> None:
    params = new_params()
    optimizer = COMPOSITION(params, **engine)
    follow(optimizer, params, gradients(params, 2))
    told = optimizer.last_rates()
    kept = copy.deepcopy(optimizer.state_dict()["state"])
    for of_rate in told.values():
        for rate in of_rate.values():
            rate.zero_()
    torch.testing.assert_close(optimizer.state_dict()["state"], kept, rtol=0, atol=0)
    assert not equal(optimizer.last_rates(), told)


@all_lives
def test_after_a_skipped_step_the_rates_are_still_those_of_the_step_before(engine: Engine) -> None:
    params = new_params()
    optimizer = COMPOSITION(params, on_nonfinite="skip", **engine)
    spoiled = [torch.full_like(param, float("nan")) for param in params]
    follow(optimizer, params, [spoiled])
    # Nothing was applied: there may be nothing to tell, but no division by zero.
    for of_rate in optimizer.last_rates().values():
        assert all(rate.isfinite().all() for rate in of_rate.values())
    follow(optimizer, params, gradients(params, 2))
    told = optimizer.last_rates()
    follow(optimizer, params, [spoiled])
    assert equal(optimizer.last_rates(), told)
