"""What every composed optimizer keeps: engines agree, runs resume, hooks and closures work."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_pairs import difference, gradients, new_params, run

import sciopt
from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.rates import (
    InverseNorm,
    InverseTimeDecay,
    SecondMoment,
    SquareAverage,
    SumOfSquares,
)
from sciopt.rule import Clock, Model

Make = Callable[..., sciopt.Composed]

COMPOSITIONS: dict[str, Make] = {
    "SGD": lambda params, **k: sciopt.SGD(params, momentum=0.9, **k),
    "SGD damped": lambda params, **k: sciopt.SGD(params, momentum=0.9, dampening=0.5, **k),
    "NormalizedSGD": sciopt.NormalizedSGD,
    "AdaGrad": lambda params, **k: sciopt.AdaGrad(params, lr_decay=0.1, **k),
    "RMSProp": lambda params, **k: sciopt.RMSProp(params, momentum=0.9, centered=True, **k),
    "Adam": sciopt.Adam,
    "AdamW": sciopt.AdamW,
    "AMSGrad": sciopt.AMSGrad,
    "LaProp": lambda params, **k: sciopt.Composed(
        params, ExponentialAverage(after_rates=True), [SecondMoment()], **k
    ),
    "Adam, normalised and slowing": lambda params, **k: sciopt.Composed(
        params,
        ExponentialAverage(),
        [InverseTimeDecay(0.1), SecondMoment(), InverseNorm()],
        **k,
    ),
}

compositions = pytest.mark.parametrize("make", COMPOSITIONS.values(), ids=COMPOSITIONS)
FUSED = ["SGD", "AdaGrad", "Adam", "AdamW", "AMSGrad"]


@st.composite
def fused_cases(draw: st.DrawFn) -> tuple[Make, list[dict[str, Any]], dict[str, Any]]:
    """A method with a fused kernel, settings per group, and shapes per group."""
    number = st.floats(0.0, 0.99)
    name = draw(st.sampled_from(FUSED))
    common: dict[str, Any] = {"maximize": draw(st.booleans())}
    own: dict[str, dict[str, Any]] = {
        "SGD": {"momentum": number, "nesterov": st.just(False)},
        "AdaGrad": {"lr_decay": number, "eps": st.floats(1e-10, 1.0)},
        "Adam": {
            "betas": st.tuples(number, number),
            "eps": st.floats(1e-10, 1.0),
            "amsgrad": st.booleans(),
        },
    }
    keys = own.get(name, own["Adam"])
    groups = [
        {key: draw(values) for key, values in keys.items()}
        | {
            "lr": draw(st.floats(1e-4, 1.0)),
            "weight_decay": draw(st.sampled_from([0.0, 0.1])),
            "shapes": draw(
                st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=3)
            ),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]
    makers: dict[str, Make] = {
        "SGD": sciopt.SGD,
        "AdaGrad": sciopt.AdaGrad,
        "Adam": sciopt.Adam,
        "AdamW": sciopt.AdamW,
        "AMSGrad": sciopt.AMSGrad,
    }
    return makers[name], groups, common


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=fused_cases())
def test_eager_equals_fused(case: tuple[Make, list[dict[str, Any]], dict[str, Any]]) -> None:
    make, groups, common = case
    paths = []
    for engine in ("eager", "fused"):
        generator = torch.Generator().manual_seed(3)

        def noise(shape: list[int], generator: torch.Generator = generator) -> Tensor:
            return 1 + torch.randn(shape, generator=generator, dtype=torch.float64)

        made = [
            {key: value for key, value in group.items() if key != "shapes"}
            | {"params": [noise(shape).requires_grad_() for shape in group["shapes"]]}
            for group in groups
        ]
        params = [param for group in made for param in group["params"]]
        start = [param.detach().clone() for param in params]
        optimizer = make(made, engine=engine, **common)
        for number in range(6):
            for index, param in enumerate(params):
                skipped = (number + index) % 4 == 3
                grad = noise(list(param.shape))
                param.grad = None if skipped else grad
            optimizer.step()
        paths.append((params, start, [param for param in params if param.numel()]))
    (eager, start, some), (fused, _, _) = paths
    if some:
        assert difference(eager, fused, start) <= 1e-11


@compositions
def test_a_run_resumes_bit_for_bit(make: Make) -> None:
    params = new_params(torch.float32)
    series = gradients(params, 10)
    optimizer = make(params)
    run(optimizer, params, series[:5])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = [param.detach().clone().requires_grad_() for param in params]
    fresh = make(resumed)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    run(optimizer, params, series[5:])
    run(fresh, resumed, series[5:])
    assert all(torch.equal(a, b) for a, b in zip(params, resumed, strict=True))


@compositions
def test_copies_and_pickles_continue_the_run(make: Make) -> None:
    params = new_params()
    series = gradients(params, 6)
    optimizer = make(params)
    run(optimizer, params, series[:3])
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        copied = other.param_groups[0]["params"]
        run(other, copied, series[3:])
        ours = [param.detach().clone().requires_grad_() for param in params]
        again = make(ours)
        again.load_state_dict(optimizer.state_dict())
        run(again, ours, series[3:])
        assert all(torch.equal(a, b) for a, b in zip(copied, ours, strict=True))


@compositions
def test_optimizers_loaded_from_one_dict_share_nothing(make: Make) -> None:
    params = new_params()
    optimizer = make(params)
    run(optimizer, params, gradients(params, 3))
    state = optimizer.state_dict()
    others = [make(new_params()) for _ in range(2)]
    for other in others:
        other.load_state_dict(state)
    pointers = [
        {
            value.data_ptr()
            for kept in each.state.values()
            for value in kept.values()
            if isinstance(value, Tensor) and value.numel()
        }
        for each in (optimizer, *others)
    ]
    assert pointers[0].isdisjoint(pointers[1])
    assert pointers[1].isdisjoint(pointers[2])


@compositions
def test_state_is_whole_from_the_start(make: Make) -> None:
    params = new_params()
    optimizer = make(params)
    names = {index: set(kept) for index, kept in optimizer.state_dict()["state"].items()}
    run(optimizer, params, gradients(params, 2))
    assert {index: set(kept) for index, kept in optimizer.state_dict()["state"].items()} == names


@compositions
@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("keywords", [{}, {"weight_decay": 0.1, "maximize": True}], ids=str)
def test_step_leaves_gradients_unchanged(make: Make, engine: str, keywords: dict[str, Any]) -> None:
    params = new_params()
    start = [param.detach().clone() for param in params]
    optimizer = make(params, engine=engine, **keywords)
    (grads,) = gradients(params, 1)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.clone()
    for _ in range(3):
        optimizer.step()
    torch.testing.assert_close([param.grad for param in params], grads, rtol=0, atol=0)
    assert not torch.equal(params[0], start[0])


@pytest.mark.parametrize(
    "rate",
    [SumOfSquares(), SquareAverage(), SecondMoment(), InverseNorm(), InverseTimeDecay()],
)
def test_a_rate_has_the_shape_of_its_scope(rate: sciopt.Rate) -> None:
    for param in new_params():
        grad = torch.ones_like(param)
        state = {name: slot.allocate(param, 0.0) for name, slot in rate.slots().items()}
        survey = rate.survey(Model([param], [grad], [state]))
        rate.observe(sciopt.Signals(grad, grad, param, Clock(1), survey), state)
        assert rate.rate(state, Clock(1)).shape == rate.scope.shape(param)


def test_scopes_hold_one_number_per_element_row_tensor_and_model() -> None:
    param = torch.zeros(5, 3, 2)
    shapes = [sciopt.Scope[name].shape(param) for name in ("ELEMENT", "NEURON", "LAYER", "MODEL")]
    assert shapes == [(5, 3, 2), (5, 1, 1), (), ()]
    assert sciopt.Scope.NEURON.shape(torch.zeros(())) == ()


def test_rates_commute() -> None:
    rates = [SecondMoment(), InverseTimeDecay(0.3), InverseNorm()]
    paths = []
    for order in (rates, rates[::-1]):
        params = new_params()
        run(sciopt.Composed(params, Momentum(), order, lr=0.1), params, gradients(params, 20))
        paths.append(params)
    assert difference(paths[0], paths[1], new_params()) <= 1e-13


def test_splitting_parameters_into_groups_changes_nothing() -> None:
    paths = []
    for split in (1, 3):
        params = new_params()
        parts = [{"params": params[index::split]} for index in range(split)]
        optimizer = sciopt.Composed(parts, Gradient(), [InverseNorm(), SecondMoment()])
        run(optimizer, params, gradients(params, 20))
        paths.append(params)
    assert difference(paths[0], paths[1], new_params()) <= 1e-13


def test_a_setting_name_used_twice_is_prefixed_by_its_rule() -> None:
    rates = [SecondMoment(eps=0.5), SquareAverage(eps=0.25)]
    optimizer = sciopt.Composed(new_params(), Gradient(), rates)
    group = optimizer.param_groups[0]
    assert (group["eps"], group["SquareAverage.eps"], group["betas"]) == (0.5, 0.25, (0.0, 0.999))
    one = torch.ones(1, dtype=torch.float64).requires_grad_()
    optimizer = sciopt.Composed([one], Gradient(), rates, lr=1.0)
    run(optimizer, [one], [[torch.ones_like(one)]])
    # 1 / (1 + 0.5) from the corrected average, 1 / (0.1 + 0.25) from the uncorrected.
    assert one.item() == pytest.approx(1 - 1 / 1.5 / 0.35, rel=1e-14)


def test_an_added_group_takes_part_with_its_own_settings() -> None:
    paths = []
    for later in (False, True):
        params = new_params()
        groups = [{"params": params[:2]}, {"params": params[2:], "betas": (0.5, 0.6), "lr": 0.1}]
        optimizer = sciopt.Adam(groups[:1] if later else groups)
        if later:
            optimizer.add_param_group(groups[1])
        run(optimizer, params, gradients(params, 5))
        paths.append(params)
    assert difference(paths[0], paths[1], new_params()) == 0


@pytest.mark.parametrize(
    ("message", "group"),
    [
        ("betas", {"params": new_params()[1:2], "betas": (0.9, 1.5)}),
        ("one device", {"params": [torch.zeros(1), torch.zeros(1, dtype=torch.float64)]}),
    ],
)
def test_a_refused_group_leaves_no_trace(message: str, group: dict[str, Any]) -> None:
    optimizer = sciopt.Adam(new_params()[:1], engine="fused")
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1
    assert set(optimizer.state_dict()["state"]) == {0}


def test_state_follows_the_settings() -> None:
    params = new_params()
    optimizer = sciopt.Adam(params)
    for amsgrad in (True, False):
        optimizer.param_groups[0]["amsgrad"] = amsgrad
        run(optimizer, params, gradients(params, 1))
        kept = optimizer.state_dict()
        assert ("max_exp_avg_sq" in kept["state"][0]) == amsgrad
        sciopt.Adam(new_params()).load_state_dict(kept)


def test_closure_is_called_once_with_gradients_on() -> None:
    param = torch.tensor([3.0], requires_grad=True)
    optimizer = sciopt.SGD([param], lr=0.5)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        optimizer.zero_grad()
        loss = param.square().sum() / 2
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    assert (loss.item(), param.item(), len(calls)) == (4.5, 1.5, 1)
    optimizer.zero_grad()
    assert param.grad is None
    assert optimizer.step() is None
    assert param.item() == 1.5


def test_step_hooks_run_before_and_after() -> None:
    param = torch.tensor([1.0], requires_grad=True)
    optimizer = sciopt.SGD([param], lr=1.0)
    param.grad = torch.tensor([1.0])
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(param.item()))
    optimizer.register_step_post_hook(lambda *_: seen.append(param.item()))
    optimizer.step()
    assert seen == [1.0, 0.0]


def test_a_loss_scaler_of_mixed_precision_is_understood() -> None:
    param = torch.tensor([1.0], requires_grad=True)
    optimizer = sciopt.Adam([param], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(param.square().sum()).backward()
    scaler.step(optimizer)
    assert param.item() == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize("engine", ["eager", "auto", "fused"])
def test_gradients_of_other_strides_than_their_parameter_are_read_rightly(engine: str) -> None:
    series = gradients(new_params()[:2], 5)
    paths = []
    for transpose in (False, True):
        params = new_params()[:2]
        optimizer = sciopt.Adam(params, engine=engine)
        for matrix, vector in series:
            params[0].grad = matrix.T.clone().T if transpose else matrix.clone()
            params[1].grad = vector.clone()
            optimizer.step()
        paths.append(params)
    assert difference(paths[0], paths[1], new_params()[:2]) == 0


def moved_param(engine: str, *, move: bool) -> Tensor:
    """A parameter after two steps, laid out anew in memory between them or not."""
    param = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    grad = torch.arange(18, dtype=torch.float64).view_as(param) - 4
    optimizer = sciopt.Adam([param], betas=(0.5, 0.6), engine=engine)
    for step in range(2):
        if step and move:
            param.data = param.data.to(memory_format=torch.channels_last)
        param.grad = torch.empty_like(param).copy_(grad ** (step + 1))
        optimizer.step()
    return param


def test_a_parameter_laid_out_anew_is_stepped_rightly_or_refused() -> None:
    stayed = moved_param("auto", move=False)
    torch.testing.assert_close(moved_param("auto", move=True), stayed, rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="laid out anew"):
        moved_param("fused", move=True)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    ("saved", "loading"),
    [
        ("SGD", "Adam"),
        ("Adam", "SGD"),
        ("Adam", "RMSProp"),
        ("RMSProp", "AdaGrad"),
        ("Adam", "NormalizedSGD"),
    ],
)
def test_state_of_another_composition_is_refused(saved: str, loading: str, steps: int) -> None:
    params, others = new_params(), new_params()
    optimizer, other = COMPOSITIONS[saved](params), COMPOSITIONS[loading](others, lr=0.25)
    run(optimizer, params, gradients(params, steps))
    run(other, others, gradients(params, 2))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match="another composition"):
        other.load_state_dict(optimizer.state_dict())
    torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)


def test_state_of_other_shapes_is_refused() -> None:
    optimizer = sciopt.Adam(new_params()[:2])
    with pytest.raises(ValueError, match="same order"):
        optimizer.load_state_dict(sciopt.Adam(new_params()[1::-1]).state_dict())
