"""Values that the application publishes: heard by those they are for, kept, saved, or refused."""

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_pairs import gradients
from torch_twins import COMPILED, ENGINES, LIVES, compiles, follow, label, new_inputs

import sciopt
from sciopt import Composed, Scope
from sciopt.directions import EligibilityTrace, ExponentialAverage, Gradient, Momentum
from sciopt.rates import Confidence, InverseNorm, Published, Saturation, SecondMoment

Engine = dict[str, Any]
all_lives = pytest.mark.parametrize("engine", LIVES, ids=label)
every_life = pytest.mark.parametrize(
    "engine", [*LIVES, pytest.param(COMPILED, marks=compiles)], ids=label
)


def two_params() -> list[Tensor]:
    return [new_inputs(4, 3), new_inputs(3)]


def listening(*rates: sciopt.Rate, **keywords: Any) -> tuple[list[Tensor], Composed]:
    params = two_params()
    return params, Composed(params, Gradient(), rates, lr=1.0, **keywords)


SLOPE, CONFIDENCE = Saturation(1.0, 0.0), Confidence()
REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "an unknown name": (
        r"no rule listens to 'slop'; those here listen to \['confidence', 'slope'\]",
        lambda: listening(SLOPE, CONFIDENCE)[1].publish("slop", 1.0),
    ),
    "a name where none listens": (
        r"no rule listens to 'confidence'; those here listen to \[\]",
        lambda: sciopt.Adam(two_params()).publish("confidence", 1.0),
    ),
    "a name of state that is the rule's own": (
        r"no rule listens to 'layer_norm'",
        lambda: listening(InverseNorm(Scope.LAYER))[1].publish("layer_norm", 1.0),
    ),
    "a number per element for the model": (
        r"'confidence' is one number for all parameters.*shape \(\), got shape \(4, 3\)",
        lambda: listening(CONFIDENCE)[1].publish("confidence", torch.ones(4, 3)),
    ),
    "one axis of one number for the model": (
        r"'confidence' is one number for all parameters.*shape \(\), got shape \(1,\)",
        lambda: listening(CONFIDENCE)[1].publish("confidence", torch.ones(1)),
    ),
    "a row too few": (
        r"'slope' is one number per row.*shape \(4, 1\), got shape \(3, 1\)",
        lambda: listening(SLOPE)[1].publish("slope", torch.ones(3, 1)),
    ),
    "rows along the columns": (
        r"'slope' is one number per row.*shape \(4, 1\), got shape \(4,\)",
        lambda: listening(SLOPE)[1].publish("slope", torch.ones(4)),
    ),
    "another optimizer's parameter": (
        r"'confidence' was published for a parameter of shape \(7,\) that is not",
        lambda: listening(CONFIDENCE)[1].publish("confidence", 1.0, [torch.zeros(7)]),
    ),
}


@pytest.mark.parametrize(("message", "publish"), REFUSED.values(), ids=REFUSED)
def test_what_nobody_can_hear_is_refused(message: str, publish: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=message):
        publish()


@all_lives
def test_a_step_before_all_parameters_are_told_is_refused_and_changes_nothing(
    engine: Engine,
) -> None:
    params, optimizer = listening(CONFIDENCE, SecondMoment(), **engine)
    series = gradients(params, 1)
    for told in ([], params[:1]):
        optimizer.publish("confidence", 0.5, told)
        with pytest.raises(ValueError, match=r"publish\('confidence', value\) before step"):
            follow(optimizer, params, series)
        assert all(map(torch.equal, params, two_params()))
        assert all(state["step"] == 0 for state in optimizer.state.values())
    optimizer.publish("confidence", 0.5, params[1:])
    follow(optimizer, params, series)
    assert not torch.equal(params[0], two_params()[0])


@every_life
@pytest.mark.parametrize("scope", [Scope.ELEMENT, Scope.NEURON, Scope.LAYER, Scope.MODEL])
@pytest.mark.parametrize("apply", ["update", "loss"])
def test_each_parameter_is_moved_by_what_was_published_for_it(
    engine: Engine, scope: Scope, apply: str
) -> None:
    rate = Published("trust", scope=scope, apply=apply)
    if "flat" in engine and scope in (Scope.NEURON, Scope.LAYER):
        with pytest.raises(ValueError, match="Published needs them; use flat=False"):
            listening(rate, **engine)
        return
    params, optimizer = listening(rate, **engine)
    for number, grads in enumerate(gradients(params, 3)):
        before = [param.clone() for param in params]
        values = [
            (1 + number + 2 * index) * new_inputs(*scope.shape(grad)).abs()
            for index, grad in enumerate(grads)
        ]
        for param, value in zip(params, values, strict=True):
            optimizer.publish("trust", value, [param])
        follow(optimizer, params, [grads])
        for param, old, value, grad in zip(params, before, values, grads, strict=True):
            torch.testing.assert_close(param, old - value * grad, rtol=1e-13, atol=1e-14)


@all_lives
def test_what_is_published_for_one_parameter_leaves_the_others_as_they_were(engine: Engine) -> None:
    params, optimizer = listening(CONFIDENCE, **engine)
    optimizer.publish("confidence", 1.0)
    series = gradients(params, 1)
    follow(optimizer, params, series)
    optimizer.publish("confidence", 0.25, [params[1]])
    before = [param.clone() for param in params]
    follow(optimizer, params, series)
    torch.testing.assert_close(params[0], before[0] - series[0][0], rtol=1e-14, atol=0)
    torch.testing.assert_close(params[1], before[1] - series[0][1] / 4, rtol=1e-14, atol=0)


@all_lives
def test_a_parameter_that_joins_in_mid_run_can_be_told(engine: Engine) -> None:
    """Put into the group's list by hand, as methods do that grow a model."""
    params, optimizer = listening(CONFIDENCE, **engine)
    optimizer.publish("confidence", 1.0)
    follow(optimizer, params, gradients(params, 1))
    optimizer.param_groups[0]["params"].append(torch.zeros(2, dtype=torch.float64))
    params = optimizer.param_groups[0]["params"]
    optimizer.publish("confidence", 0.5)
    grads = gradients(params, 1)
    follow(optimizer, params, grads)
    torch.testing.assert_close(params[2], -grads[0][2] / 2)


@all_lives
def test_what_was_published_is_a_copy_without_a_graph(engine: Engine) -> None:
    _, optimizer = listening(CONFIDENCE, **engine)
    value = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    optimizer.publish("confidence", value * 1)
    optimizer.publish("confidence", value.detach())
    with torch.no_grad():
        value.fill_(7.0)
    kept = [state["confidence"] for state in optimizer.state.values()]
    assert [(each.item(), each.requires_grad) for each in kept] == [(0.5, False)] * 2


@all_lives
def test_the_same_value_may_weight_the_loss_and_the_step(engine: Engine) -> None:
    rates = [Confidence(2.0, "loss"), Confidence(0.5, "update")]
    params = two_params()
    optimizer = Composed(params, Momentum(0.5), rates, lr=1.0, **engine)
    series = gradients(params, 3)
    buffers = [torch.zeros_like(param) for param in params]
    for confidence, grads in zip((0.25, 0.5, 1.0), series, strict=True):
        before = [param.clone() for param in params]
        optimizer.publish("confidence", confidence)
        follow(optimizer, params, [grads])
        buffers = [b / 2 + confidence**2 * g for b, g in zip(buffers, grads, strict=True)]
        for param, old, buffer in zip(params, before, buffers, strict=True):
            torch.testing.assert_close(param, old - confidence**0.5 * buffer, rtol=1e-13, atol=0)


def travelled(apply: str, confidences: list[float], engine: Engine, *, adam: bool) -> np.ndarray:
    """The steps along fixed noise, one row for each step."""
    params = two_params()
    if adam:
        direction, rates = ExponentialAverage(0.5), [SecondMoment(0.9, 0.0)]
    else:
        direction, rates = Gradient(), []
    optimizer = Composed(params, direction, [*rates, Confidence(apply=apply)], lr=0.1, **engine)
    path = [torch.cat([param.flatten() for param in params])]
    for confidence, grads in zip(confidences, gradients(params, len(confidences)), strict=True):
        optimizer.publish("confidence", confidence)
        path += follow(optimizer, params, [grads])
    return np.diff(np.stack([each.numpy() for each in path]), axis=0)


@all_lives
def test_adam_forgets_a_confidence_in_the_loss_but_is_scaled_by_one_in_the_update(
    engine: Engine,
) -> None:
    """From the moment it falls to a tenth: 0.9^200 of Adam's memory is 1e-9."""
    steps, drop = 240, 20
    falls = [1.0] * drop + [0.1] * (steps - drop)
    whole = travelled("update", [1.0] * steps, engine, adam=True)
    in_loss = travelled("loss", falls, engine, adam=True)
    in_update = travelled("update", falls, engine, adam=True)
    np.testing.assert_allclose(in_loss[-20:], whole[-20:], rtol=1e-6)
    assert np.linalg.norm(in_loss[drop]) < 0.9 * np.linalg.norm(whole[drop])
    np.testing.assert_allclose(in_update[drop:], 0.1 * whole[drop:], rtol=1e-10, atol=1e-15)


@all_lives
def test_without_memory_a_weighted_loss_is_a_weighted_update(engine: Engine) -> None:
    confidences = [1.0, 0.3, 0.0, 0.7]
    in_loss, in_update = (
        travelled(apply, confidences, engine, adam=False) for apply in ("loss", "update")
    )
    np.testing.assert_allclose(in_loss, in_update, rtol=1e-12, atol=1e-15)
    assert (in_loss[2] == 0).all()


def of_td_errors(params: Any, **keywords: Any) -> Composed:
    optimizer = Composed(params, EligibilityTrace(0.8), lr=0.1, **keywords)
    optimizer.publish("td_error", 0.7)
    optimizer.publish("discount", 0.9)
    return optimizer


def of_slopes(params: Any, **keywords: Any) -> Composed:
    optimizer = Composed(params, Momentum(0.9), [Saturation(-1.0)], lr=0.1, **keywords)
    for param in params:
        optimizer.publish("slope", new_inputs(*Scope.NEURON.shape(param)).abs(), [param])
    return optimizer


def of_confidences(params: Any, **keywords: Any) -> Composed:
    optimizer = Composed(params, Momentum(0.9), [Confidence(0.5)], lr=0.1, **keywords)
    for number, param in enumerate(params, 1):
        optimizer.publish("confidence", 0.3 * number, [param])
    return optimizer


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


TOLD: dict[str, Callable[..., Composed]] = {
    "td_error": of_td_errors,
    "slope": of_slopes,
    "confidence": of_confidences,
}


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        pytest.param(name, engine, id=f"{name}-{label(engine)}")
        for name in TOLD
        for engine in (ENGINES if name == "slope" else LIVES)
    ],
)
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("journey", [through_a_file, copy.deepcopy])
def test_published_values_are_saved_and_a_resumed_run_goes_on_without_telling_again(
    name: str, engine: Engine, steps: int, journey: Callable[..., Any]
) -> None:
    params = two_params()
    optimizer = TOLD[name](params, **engine)
    series = gradients(params, steps + 3)
    follow(optimizer, params, series[:steps])
    resumed = [param.clone() for param in params]
    again = TOLD[name](resumed, **engine)
    # What it was told before is replaced by what the checkpoint holds.
    again.publish(name, 9.0)
    again.load_state_dict(journey(optimizer.state_dict()))
    expected = follow(optimizer, params, series[steps:])
    assert all(map(torch.equal, follow(again, resumed, series[steps:]), expected))


@all_lives
def test_a_checkpoint_from_before_anything_was_published_waits_to_be_told(engine: Engine) -> None:
    params, optimizer = listening(CONFIDENCE, **engine)
    again = Composed(params, Gradient(), [CONFIDENCE], lr=0.5, **engine)
    again.publish("confidence", 0.5)
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    with pytest.raises(ValueError, match="has not been published"):
        follow(again, params, gradients(params, 1))
