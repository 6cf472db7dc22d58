"""A group packed into one buffer goes where its parameters go one by one, and stays packed."""

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_pairs import gradients, new_params
from torch_twins import (
    Make,
    Twin,
    descend,
    follow,
    loss_of,
    new_inputs,
    new_network,
    positions,
    same_path,
    torchs,
    twins,
)

import sciopt
from sciopt import Composed, Scope, Slot
from sciopt.directions import ExponentialAverage, Gradient, Momentum, Sign
from sciopt.rates import (
    Confidence,
    InverseNorm,
    InverseSpectralNorm,
    InverseTimeDecay,
    MatrixShape,
    Saturation,
    SecondMoment,
    TrustRatio,
)
from sciopt.rule import Clock, Model, Signals, State

Engine = dict[str, Any]
FLAT: list[Engine] = [{"flat": True}, {"flat": True, "engine": "eager"}]
flats = pytest.mark.parametrize("engine", FLAT, ids=["auto", "eager"])


@dataclass(frozen=True)
class SumOfNorms(sciopt.Rate):
    """1 over the sum of the model's squared gradient norms: a number for the model, remembered."""

    scope: ClassVar[Scope] = Scope.MODEL

    def slots(self) -> dict[str, Slot]:
        return {"sum_of_norms": Slot(Scope.MODEL)}

    def survey(self, model: Model) -> Tensor:
        return torch.stack([gradient.square().sum() for gradient in model.gradients]).sum()

    def observe(self, signals: Signals, state: State) -> None:
        state["sum_of_norms"].add_(signals.survey)

    def rate(self, state: State, clock: Clock) -> Tensor:
        return 1 / state["sum_of_norms"]


def confident(params: Any, **keywords: Any) -> Composed:
    optimizer = Composed(params, ExponentialAverage(), [SecondMoment(), Confidence()], **keywords)
    optimizer.publish("confidence", 0.3)
    return optimizer


METHODS: dict[str, Callable[..., Composed]] = {
    "SGD": sciopt.SGD,
    "Nesterov": partial(sciopt.SGD, momentum=0.9, nesterov=True),
    "damped": partial(sciopt.SGD, momentum=0.9, dampening=0.5),
    "AdaGrad": partial(sciopt.AdaGrad, lr_decay=0.3),
    "RMSProp": partial(sciopt.RMSProp, momentum=0.9, centered=True),
    "AdamW": sciopt.AdamW,
    "AMSGrad-in-a-box": partial(sciopt.AMSGrad, projection=sciopt.Box(-0.2, 0.2)),
    "Lion": partial(sciopt.Lion, weight_decay=0.1),
    "NormalizedSGD": sciopt.NormalizedSGD,
    "slowing": lambda params, **k: Composed(params, Momentum(), [InverseTimeDecay(0.3)], **k),
    "LaProp": lambda params, **k: Composed(
        params, ExponentialAverage(after_rates=True), [SecondMoment(), InverseNorm()], **k
    ),
    "Confidence": confident,
    "SumOfNorms": lambda params, **k: Composed(params, Momentum(), [SumOfNorms()], **k),
}
methods = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)

# Which of the five parameters have no gradient, step by step.
ABSENCES: dict[str, list[set[int]]] = {
    "never": [set()] * 5,
    "at first": [{0, 3}, set(), set(), set(), set()],
    "later": [set(), {1}, set(), {0, 1, 2, 3, 4}, set()],
    "always": [{2}] * 5,
    "all at first": [{0, 1, 2, 3, 4}, set(), {4}, set(), set()],
}


@flats
@methods
@pytest.mark.parametrize("absences", ABSENCES.values(), ids=ABSENCES)
def test_steps_with_some_gradients_go_where_separate_parameters_go(
    make: Callable[..., Composed], engine: Engine, absences: list[set[int]]
) -> None:
    def path(**keywords: Any) -> list[Tensor]:
        params = new_params()
        series = [
            [None if index in absent else grad for index, grad in enumerate(grads)]
            for grads, absent in zip(gradients(params, len(absences)), absences, strict=True)
        ]
        return follow(make(params, lr=0.05, **keywords), params, series)

    torch.testing.assert_close(path(**engine), path(engine="eager"), rtol=1e-12, atol=1e-14)


def storages(tensors: Sequence[Tensor]) -> set[int]:
    """The memories that the tensors lie in; what has no elements lies nowhere."""
    return {each.untyped_storage().data_ptr() for each in tensors if each.numel()}


def assert_packed(optimizer: Optimizer) -> None:
    """Each group has one buffer of parameters and one of each state, and they are all different."""
    seen: set[int] = set()
    for group in optimizer.param_groups:
        states = [optimizer.state[param] for param in group["params"]]
        for tensors in (group["params"], *([s[name] for s in states] for name in states[0])):
            buffers = storages(tensors)
            assert len(buffers) == 1
            assert not buffers & seen
            seen |= buffers


def load_state(optimizer: Composed, params: list[Tensor]) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def add_group(optimizer: Composed, params: list[Tensor]) -> None:
    optimizer.add_param_group({"params": new_params()})


def put_other_memory(optimizer: Composed, params: list[Tensor]) -> None:
    params[0].data = params[0].detach().clone()
    optimizer.step()


@pytest.mark.parametrize("name", ["damped", "RMSProp", "AMSGrad-in-a-box", "NormalizedSGD"])
@pytest.mark.parametrize("change", [load_state, add_group, put_other_memory])
def test_parameters_and_state_lie_in_buffers_whatever_happens(
    name: str, change: Callable[[Composed, list[Tensor]], None]
) -> None:
    params = new_params()
    optimizer = METHODS[name]([{"params": params[:2]}, {"params": params[2:]}], flat=True)
    follow(optimizer, params, gradients(params, 2))
    assert_packed(optimizer)
    change(optimizer, params)
    every = [param for group in optimizer.param_groups for param in group["params"]]
    follow(optimizer, every, gradients(every, 1))
    assert_packed(optimizer)


@methods
def test_parameters_stay_in_their_buffer_where_some_have_no_gradient(
    make: Callable[..., Composed],
) -> None:
    params = new_params()
    optimizer = make(params, flat=True)
    before = storages(params)
    for number in range(3):
        series = gradients(params, 1)
        follow(optimizer, params, [[None, *series[0][1:]] if number == 1 else series[0]])
        assert storages(params) == before
    assert len(before) == 1


def other_memory(param: Tensor) -> None:
    param.data = param.detach().flip(0)


def other_layout(param: Tensor) -> None:
    param.data = new_inputs(3, 3).T


def transposed_in_place(param: Tensor) -> None:
    """The same memory, read along the other axis."""
    param.data = param.detach().T


def other_precision(param: Tensor) -> None:
    param.data = param.detach().float().double()


def other_numbers(param: Tensor) -> None:
    param.data.copy_(new_inputs(3, 3))


@flats
@torchs
@pytest.mark.parametrize(
    "change", [other_memory, other_layout, transposed_in_place, other_precision, other_numbers]
)
def test_data_that_is_exchanged_in_mid_run_is_what_is_stepped(
    twin: Twin, engine: Engine, change: Callable[[Tensor], None]
) -> None:
    def treat(make: Make) -> list[Tensor]:
        params = [new_inputs(2).requires_grad_(), new_inputs(3, 3).requires_grad_()]
        optimizer = make(params)
        series = gradients(params, 6)
        path = follow(optimizer, params, series[:3])
        change(params[1])
        return path + follow(optimizer, params, series[3:])

    same_path(twin, engine, treat)


@flats
@twins
@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
def test_a_network_that_loads_its_parameters_in_mid_run(
    twin: Twin, engine: Engine, assign: bool
) -> None:
    """Assigned parameters are other ones, of which no optimizer knows, torch's neither."""

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        stepped = list(network.parameters())
        path = descend(network, optimizer)
        halves = {name: value / 2 for name, value in network.state_dict().items()}
        network.load_state_dict(halves, assign=assign)
        path += descend(network, optimizer)
        if not assign and isinstance(optimizer, Composed):
            assert len(storages(stepped)) == 1
        return [*path, positions(stepped)]

    same_path(twin, engine, treat)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


INTERCHANGED: dict[str, Twin] = {
    "damped": Twin(METHODS["damped"], partial(torch.optim.SGD, momentum=0.9, dampening=0.5)),
    "AdaGrad": Twin(sciopt.AdaGrad, torch.optim.Adagrad),
    "RMSProp": Twin(METHODS["RMSProp"], partial(torch.optim.RMSprop, momentum=0.9, centered=True)),
    "AdamW": Twin(sciopt.AdamW, torch.optim.AdamW),
    "AMSGrad": Twin(sciopt.AMSGrad, partial(torch.optim.Adam, amsgrad=True)),
}


@flats
@pytest.mark.parametrize("twin", INTERCHANGED.values(), ids=INTERCHANGED)
@pytest.mark.parametrize("absences", ABSENCES.values(), ids=ABSENCES)
@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 1)], ids=["torch first", "we first"])
def test_checkpoints_go_to_torch_and_back(
    twin: Twin, engine: Engine, absences: list[set[int]], order: tuple[int, ...]
) -> None:
    makers = (twin.theirs, partial(twin.ours, **engine))

    def path(turns: Sequence[int]) -> list[Tensor]:
        params, state, passed = new_params(), None, []
        series = [
            [None if index in absent else grad for index, grad in enumerate(grads)]
            for grads, absent in zip(gradients(params, 15), absences * 3, strict=True)
        ]
        # Cut where clocks and buffers are of several kinds.
        for turn, (start, stop) in zip(turns, [(0, 3), (3, 7), (7, 15)], strict=True):
            optimizer = makers[turn](params, lr=0.02)
            if state is not None:
                optimizer.load_state_dict(state)
            passed += follow(optimizer, params, series[start:stop])
            state = through_a_file(optimizer.state_dict())
        return passed

    torch.testing.assert_close(path(order), path((0, 0, 0)), rtol=1e-12, atol=1e-14)


@flats
@methods
def test_versions_count_each_step_that_a_parameter_takes(
    make: Callable[..., Composed], engine: Engine
) -> None:
    """By these numbers autograd knows that what it has kept for a backward pass is out of date."""
    params = new_params()
    optimizer = make(params, **engine)
    before = [param._version for param in params]
    follow(optimizer, params, gradients(params, 2))
    assert all(param._version > old for param, old in zip(params, before, strict=True))
    before = [param._version for param in params]
    follow(optimizer, params, [[None, *gradients(params, 1)[0][1:]]])
    assert all(param._version > old for param, old in zip(params[1:], before[1:], strict=True))


@flats
@twins
def test_a_weight_that_rests_beside_one_that_moves_is_not_taken_for_modified(
    twin: Twin, engine: Engine
) -> None:
    network = new_network()
    optimizer = twin.ours(network.parameters(), **engine)
    loss = loss_of(network)
    loss.backward(retain_graph=True)
    expected = positions([param.grad for param in network.parameters()])
    for name, param in network.named_parameters():
        param.grad = param.grad if name == "0.bias" else None
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    assert torch.equal(positions([param.grad for param in network.parameters()]), expected)


REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "a norm per neuron": (
        "InverseNorm needs them; use flat=False",
        lambda: Composed(new_params(), Gradient(), [InverseNorm(Scope.NEURON)], flat=True),
    ),
    "a norm per layer": (
        "InverseNorm needs them",
        lambda: Composed(new_params(), Gradient(), [InverseNorm(Scope.LAYER)], flat=True),
    ),
    "slopes": (
        "Saturation needs them",
        lambda: Composed(new_params(), Gradient(), [Saturation()], flat=True),
    ),
    "spectral norms": (
        "InverseSpectralNorm needs them",
        lambda: Composed(new_params(), Gradient(), [InverseSpectralNorm()], flat=True),
    ),
    "trust ratios": ("TrustRatio needs them", lambda: sciopt.LARS(new_params(), flat=True)),
    "trust ratios of the loss": (
        "TrustRatio needs them",
        lambda: Composed(new_params(), Sign(), [SecondMoment(), TrustRatio()], flat=True),
    ),
    "orthogonal matrices": (
        "Orthogonal needs them",
        lambda: sciopt.Muon([torch.zeros(3, 2)], flat=True),
    ),
    "shapes": (
        "MatrixShape needs them",
        lambda: Composed([torch.zeros(3, 2)], Momentum(), [MatrixShape()], flat=True),
    ),
    "a simplex": (
        "no last axis to project onto a simplex",
        lambda: sciopt.Adam([torch.ones(3)], projection=sciopt.Simplex(), flat=True),
    ),
    "two precisions": (
        "one device and dtype in a group, got 2 kinds; make a group of each",
        lambda: sciopt.Adam([torch.zeros(3), torch.zeros(3).double()], flat=True),
    ),
    "two devices": (
        "one device and dtype in a group, got 2 kinds; make a group of each",
        lambda: sciopt.Adam([torch.zeros(3), torch.zeros(3, device="meta")], flat=True),
    ),
}


@pytest.mark.parametrize(("message", "make"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_in_one_vector_is_refused(
    message: str, make: Callable[[], Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.filterwarnings("ignore:.*duplicate parameters:UserWarning")
def test_a_parameter_listed_twice_is_refused_and_stays_where_it_is() -> None:
    param, other = new_inputs(3), new_inputs(2)
    before = [param.data_ptr(), other.data_ptr()]
    optimizer = sciopt.Adam([torch.zeros(1)], flat=True)
    with pytest.raises(ValueError, match="each parameter once"):
        optimizer.add_param_group({"params": [param, other, param]})
    assert [param.data_ptr(), other.data_ptr()] == before
    assert len(optimizer.param_groups) == 1


def test_two_precisions_in_two_groups_are_packed_apart() -> None:
    paths = []
    for flat in (True, False):
        params = [p for dtype in (torch.float64, torch.float32) for p in new_params(dtype)]
        optimizer = sciopt.Adam([{"params": params[:5]}, {"params": params[5:]}], flat=flat)
        paths.append(follow(optimizer, params, gradients(params, 4)))
    torch.testing.assert_close(*paths, rtol=1e-6, atol=0)


@flats
@methods
def test_a_group_without_elements_rests(make: Callable[..., Composed], engine: Engine) -> None:
    empty = [torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)]
    last, alone = new_inputs(2), new_inputs(2)
    optimizer = make([{"params": empty}, {"params": [last]}], **engine)
    series = gradients([*empty, last], 2)
    follow(optimizer, [*empty, last], series)
    follow(make([alone], engine="eager"), [alone], [grads[-1:] for grads in series])
    torch.testing.assert_close(last, alone, rtol=1e-12, atol=0)
    assert [tuple(param.shape) for param in empty] == [(0, 2), (0,)]


@flats
def test_a_group_without_parameters_rests(engine: Engine) -> None:
    param, alone = new_inputs(2), new_inputs(2)
    optimizer = sciopt.Adam([param], **engine)
    optimizer.add_param_group({"params": []})
    follow(optimizer, [param], gradients([param], 2))
    follow(sciopt.Adam([alone]), [alone], gradients([alone], 2))
    torch.testing.assert_close(param, alone, rtol=1e-12, atol=0)


@flats
def test_a_group_whose_last_parameter_is_taken_out_rests(engine: Engine) -> None:
    first, second = new_inputs(3), new_inputs(2)
    optimizer = sciopt.Adam([{"params": [first]}, {"params": [second]}], **engine)
    follow(optimizer, [first, second], gradients([first, second], 1))
    rested, alone = first.clone(), second.clone()
    optimizer.param_groups[0]["params"].clear()
    follow(optimizer, [first, second], gradients([first, second], 1))
    assert torch.equal(first, rested)
    assert not torch.equal(second, alone)
