"""The compiled step goes where the eager one goes, and a run compiles no more than it must."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_twins import compiles, follow, loss_of, new_network

import sciopt
from sciopt import Composed, Scope
from sciopt.directions import (
    EligibilityTrace,
    ExponentialAverage,
    Gradient,
    Momentum,
    Orthogonal,
    Sign,
)
from sciopt.engine.compiled import _PROGRAMS
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
)

pytestmark = compiles
Make = Callable[..., Composed]


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def of_every_kind() -> list[Tensor]:
    """Gapped, transposed, channels last, without axes, without elements; two precisions."""
    return [
        noise(4, 6)[:, ::2],
        noise(2, 5).T.float(),
        noise(2, 3, 2, 2).to(memory_format=torch.channels_last),
        noise().float(),
        noise(),
        noise(0, 2),
        noise(3).float(),
    ]


def matrices() -> list[Tensor]:
    return [noise(4, 6)[:, ::2], noise(2, 5).T, noise(3, 3).float()]


def rows() -> list[Tensor]:
    """What a simplex is along."""
    return [noise(4, 6)[:, ::2].abs(), noise(3).float().abs()]


def published(optimizer: Composed, **values: Any) -> Composed:
    for name, value in values.items():
        optimizer.publish(name, value)
    return optimizer


def composed(direction: sciopt.Direction, *rates: sciopt.Rate) -> Make:
    """Both ways of weight decay are among the settings of the cases."""
    return lambda params, **keywords: Composed(params, direction, rates, **keywords)


def with_slopes(params: Sequence[Tensor], **keywords: Any) -> Composed:
    rates = [
        Saturation(-0.5, 0.2),
        Confidence(0.5),
        Published("noise", scope=Scope.ELEMENT, apply="loss"),
    ]
    optimizer = Composed(params, Momentum(0.8, 0.3), rates, **keywords)
    for index, param in enumerate(params):
        slope = noise(*Scope.NEURON.shape(param), seed=index).abs().to(param.dtype)
        optimizer.publish("slope", slope, [param])
        optimizer.publish("noise", noise(*param.shape, seed=9).abs().to(param.dtype), [param])
    return published(optimizer, confidence=0.3)


COUPLED: dict[str, Any] = {"weight_decay": 0.1, "lr": 0.05}
DECOUPLED: dict[str, Any] = {**COUPLED, "decoupled_weight_decay": True}
CASES: dict[str, tuple[Make, Callable[[], list[Tensor]], dict[str, Any]]] = {
    "Adam with everything": (
        sciopt.Adam,
        of_every_kind,
        {**COUPLED, "amsgrad": True, "maximize": True},
    ),
    "AdamW, its norms and the clock": (
        composed(
            ExponentialAverage(),
            SecondMoment(),
            InverseNorm(Scope.NEURON),
            InverseNorm(Scope.LAYER),
            InverseNorm(),
            InverseTimeDecay(0.3),
        ),
        of_every_kind,
        DECOUPLED,
    ),
    "LaProp of damped sums in a box": (
        composed(ExponentialAverage(after_rates=True), SumOfSquares(0.1, 0.2)),
        of_every_kind,
        {**COUPLED, "projection": sciopt.Box(-0.8, 0.9)},
    ),
    "slopes, confidence and a weighted loss": (with_slopes, of_every_kind, COUPLED),
    "RMSProp, centred, Nesterov": (
        composed(Momentum(0.9, nesterov=True, after_rates=True), SquareAverage(0.9, 0.1, True)),
        of_every_kind,
        {"lr": 0.05, "maximize": True},
    ),
    "Lion": (composed(Sign(0.9, 0.99)), of_every_kind, DECOUPLED),
    "LARS": (sciopt.LARS, of_every_kind, {**COUPLED, "trust_coefficient": 0.5}),
    "own spectral norms": (
        composed(Momentum(0.5), InverseSpectralNorm()),
        of_every_kind,
        {"lr": 0.05},
    ),
    "the others' spectral norms": (
        composed(Gradient(), InverseSpectralNorm("others")),
        of_every_kind,
        {"lr": 1.0},
    ),
    "TD(lambda)": (
        lambda params, **k: published(
            composed(EligibilityTrace(0.8), Published("step_size"))(params, **k),
            td_error=-0.7,
            discount=0.9,
            step_size=0.5,
        ),
        of_every_kind,
        {"lr": 0.05},
    ),
    "Muon": (
        composed(Orthogonal(precision=None), MatrixShape()),
        matrices,
        DECOUPLED,
    ),
    "Adam on a simplex": (
        sciopt.Adam,
        rows,
        {"lr": 0.05, "projection": sciopt.Simplex()},
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def gradients(params: Sequence[Tensor], steps: int, seed: int = 1) -> list[list[Tensor]]:
    """Noise about a constant; a gradient's strides are its parameter's or other ones."""
    return [
        [
            (1 + noise(*param.shape, seed=seed + 31 * step + 7 * index)).to(param.dtype)
            for index, param in enumerate(params)
        ]
        for step in range(steps)
    ]


def assert_same_path(
    ours: Sequence[Tensor], eager: Sequence[Tensor], start: Sequence[Tensor]
) -> None:
    """To round-off of the distance moved and of the numbers at the start."""
    for mine, other, begin in zip(ours, eager, start, strict=True):
        if other.numel():
            moved = (other - begin).abs().max().item()
            assert moved > 1e-3
            tolerance = {torch.float64: 1e-11, torch.float32: 2e-5}[other.dtype]
            scale = torch.finfo(other.dtype).eps * begin.abs().max().item()
            torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * moved + 4 * scale)


@cases
def test_compiled_goes_where_eager_goes(
    case: tuple[Make, Callable[[], list[Tensor]], dict[str, Any]],
) -> None:
    """Also where the third step has no gradient for the second parameter."""
    make, new_params, keywords = case
    ends, kept = [], []
    for engine in ("compiled", "eager"):
        params = new_params()
        optimizer = make(params, engine=engine, **keywords)
        series: list[list[Tensor | None]] = [[*grads] for grads in gradients(params, 5)]
        series[2][1] = None
        follow(optimizer, params, series)
        ends.append(params)
        kept.append([optimizer.state[param] for param in params if param.numel()])
    assert_same_path(ends[0], ends[1], new_params())
    torch.testing.assert_close(kept[0], kept[1], rtol=1e-5, atol=1e-6)


def both(
    make: Make, live: Callable[[Composed, list[Tensor]], list[Tensor]], **keywords: Any
) -> None:
    """The same life under both engines is the same path."""
    paths = []
    for engine in ("compiled", "eager"):
        params = [noise(4, 3), noise(3, seed=1)]
        paths.append(live(make(params, engine=engine, **keywords), params))
    torch.testing.assert_close(*paths, rtol=1e-11, atol=1e-13)


def confident_adam(params: Any, **keywords: Any) -> Composed:
    rates = [SecondMoment(), Confidence()]
    optimizer = Composed(params, ExponentialAverage(), rates, lr=0.1, weight_decay=0.1, **keywords)
    return published(optimizer, confidence=0.5)


def lower_the_number(optimizer: Composed) -> None:
    optimizer.param_groups[0]["lr"] = 0.05


def make_it_a_tensor(optimizer: Composed) -> None:
    optimizer.param_groups[0]["lr"] = torch.tensor(0.03, dtype=torch.float64)


def lower_the_tensor(optimizer: Composed) -> None:
    optimizer.param_groups[0]["lr"].fill_(0.02)


def decay_more(optimizer: Composed) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.4


def publish_a_number(optimizer: Composed) -> None:
    optimizer.publish("confidence", 0.25)


def publish_tensors(optimizer: Composed) -> None:
    for number, param in enumerate(optimizer.param_groups[0]["params"], 1):
        optimizer.publish("confidence", torch.tensor(0.1 * number), [param])


CHANGES = [
    lower_the_number,
    make_it_a_tensor,
    lower_the_tensor,
    decay_more,
    publish_a_number,
    publish_tensors,
]


def test_what_changes_from_step_to_step_compiles_nothing_anew() -> None:
    counts = []

    def live(optimizer: Composed, params: list[Tensor]) -> list[Tensor]:
        path = follow(optimizer, params, gradients(params, 1))
        counts.append(len(_PROGRAMS))
        for seed, change in enumerate(CHANGES, 2):
            change(optimizer)
            path += follow(optimizer, params, gradients(params, 2, seed))
        counts.append(len(_PROGRAMS))
        return path

    both(confident_adam, live)
    assert counts[0] > 0
    assert set(counts) == {counts[0]}


def test_other_groups_and_optimizers_of_one_kind_share_their_programs() -> None:
    first = [noise(4, 3), noise(3)]
    follow(sciopt.Lion(first, engine="compiled"), first, gradients(first, 1))
    count = len(_PROGRAMS)
    paths = []
    for engine in ("compiled", "eager"):
        params = [noise(*shape) for shape in [(4, 3), (3,), (4, 3), (3,)]]
        groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}]
        optimizer = sciopt.Lion(groups, lr=0.02, engine=engine)
        paths.append(follow(optimizer, params, gradients(params, 2)))
    torch.testing.assert_close(*paths, rtol=1e-13, atol=0)
    assert len(_PROGRAMS) == count


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_step_size_may_become_a_tensor_of_any_precision(dtype: torch.dtype) -> None:
    def live(optimizer: Composed, params: list[Tensor]) -> list[Tensor]:
        path = follow(optimizer, params, gradients(params, 2))
        optimizer.param_groups[0]["lr"] = torch.tensor(0.25, dtype=dtype)
        return path + follow(optimizer, params, gradients(params, 2, 3))

    both(sciopt.SGD, live, lr=0.1)


def test_settings_of_the_rules_that_change_are_those_that_are_stepped() -> None:
    def live(optimizer: Composed, params: list[Tensor]) -> list[Tensor]:
        path = []
        for number, settings in enumerate([{}, {"momentum": 0.3}, {"maximize": True}]):
            optimizer.param_groups[0].update(settings)
            path += follow(optimizer, params, gradients(params, 2, number))
        return path

    both(sciopt.SGD, live, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("order", [("compiled", "eager"), ("eager", "compiled")], ids="-".join)
def test_a_checkpoint_goes_on_under_the_other_engine_and_back(order: tuple[str, str]) -> None:
    def path(engines: Sequence[str]) -> list[Tensor]:
        params, state, passed = [noise(4, 3), noise(3)], None, []
        for number, engine in enumerate(engines):
            optimizer = confident_adam(params, engine=engine)
            if state is not None:
                optimizer.load_state_dict(state)
            passed += follow(optimizer, params, gradients(params, 2, number))
            state = copy.deepcopy(optimizer.state_dict())
        return passed

    torch.testing.assert_close(path(order * 2), path(["eager"] * 4), rtol=1e-11, atol=1e-13)


def test_a_graph_that_needs_the_old_parameters_notices() -> None:
    network = new_network()
    optimizer = sciopt.Adam(network.parameters(), engine="compiled")
    loss = loss_of(network)
    loss.backward(retain_graph=True)
    for _ in range(2):
        before = [param._version for param in network.parameters()]
        optimizer.step()
        pairs = zip(network.parameters(), before, strict=True)
        assert all(param._version > old for param, old in pairs)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def other_memory(optimizer: Composed, params: list[Tensor]) -> None:
    params[0].data = params[0].detach().flip(0)


def other_strides(optimizer: Composed, params: list[Tensor]) -> None:
    params[0].data = params[0].detach().T.clone().T


def other_precision(optimizer: Composed, params: list[Tensor]) -> None:
    params[0].data = params[0].detach().float()


def strided_state(optimizer: Composed, params: list[Tensor]) -> None:
    optimizer.state[params[0]]["exp_avg"] = noise(3, 4).T


def other_state(optimizer: Composed, params: list[Tensor]) -> None:
    optimizer.state[params[0]]["exp_avg"] = noise(4, 3)


@pytest.mark.parametrize(
    "change", [other_memory, other_strides, other_precision, strided_state, other_state]
)
def test_memory_that_is_exchanged_in_mid_run_is_what_is_stepped(
    change: Callable[[Composed, list[Tensor]], None],
) -> None:
    def live(optimizer: Composed, params: list[Tensor]) -> list[Tensor]:
        follow(optimizer, params, gradients(params, 2))
        change(optimizer, params)
        follow(optimizer, params, gradients(params, 2, 5))
        return params

    paths = []
    for engine in ("compiled", "eager"):
        params = [noise(4, 3), noise(3)]
        paths.append(live(sciopt.Adam(params, lr=0.1, engine=engine), params))
    rtol = 1e-5 if change is other_precision else 1e-12
    torch.testing.assert_close(*paths, rtol=rtol, atol=0)


def test_gradients_whose_strides_change_between_steps_are_read_rightly() -> None:
    layouts: list[Callable[[Tensor], Tensor]] = [
        lambda grad: grad,
        lambda grad: grad.T.clone().T,
        lambda grad: grad[:1].expand(4, 3),
        lambda grad: torch.stack([grad, grad], -1)[..., 1],
        lambda grad: grad.sum().expand(4, 3),
        lambda grad: grad,
    ]
    ends = []
    for engine in ("compiled", "eager"):
        param = noise(4, 3)
        optimizer = sciopt.SGD([param], lr=0.1, momentum=0.9, engine=engine)
        for number, layout in enumerate(layouts):
            param.grad = layout(noise(4, 3, seed=number))
            optimizer.step()
        ends.append(param)
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-15)


def test_more_parameters_than_one_call_takes() -> None:
    ends = []
    for engine in ("compiled", "eager"):
        params = [noise(2, 2, seed=seed) for seed in range(10)]
        optimizer = sciopt.SGD(params, lr=0.1, momentum=0.9, engine=engine)
        ends.append(follow(optimizer, params, gradients(params, 2)))
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-15)


class Replacing(sciopt.Rate):
    """Puts another tensor where its state was."""

    scope = Scope.LAYER

    def slots(self) -> dict[str, sciopt.Slot]:
        return {"total": sciopt.Slot(Scope.LAYER)}

    def observe(self, signals: sciopt.Signals, state: dict[str, Any]) -> None:
        state["total"] = state["total"] + signals.grad.sum()

    def rate(self, state: dict[str, Any], clock: Any) -> Tensor:
        return state["total"]


class Branching(Replacing):
    """Asks how large a number is."""

    def observe(self, signals: sciopt.Signals, state: dict[str, Any]) -> None:
        if signals.grad.sum() > 0:
            state["total"].add_(1)


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (Replacing(), ValueError, r"replaced its state 'total'.*state\['total'\].copy_"),
        (Branching(), RuntimeError, "must not branch on numbers of tensors"),
    ],
)
def test_a_rule_that_cannot_be_compiled_is_refused_with_what_to_do(
    rate: sciopt.Rate, error: type[Exception], message: str
) -> None:
    param = noise(4, 3)
    optimizer = Composed([param], Gradient(), [rate], engine="compiled")
    with pytest.raises(error, match=message):
        follow(optimizer, [param], gradients([param], 1))
    assert torch.equal(param, noise(4, 3))


def test_settings_that_cannot_be_looked_up_are_refused_with_what_to_do() -> None:
    param, direction = noise(4, 3), Orthogonal(ns_coefficients=[1.0, 2.0, 3.0])
    optimizer = Composed([param], direction, engine="compiled")
    with pytest.raises(ValueError, match="can be hashed, such as tuples"):
        follow(optimizer, [param], gradients([param], 1))


def test_without_a_compiler_the_engine_is_refused_and_leaves_no_trace() -> None:
    from torch._inductor import config

    params = [noise(3), noise(2)]
    optimizer = sciopt.Adam(params[:1], engine="compiled")
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(RuntimeError, match=r'needs a C\+\+ compiler.*engine="auto"'),
    ):
        optimizer.add_param_group({"params": params[1:]})
    assert len(optimizer.param_groups) == 1
    assert set(optimizer.state) == {params[0]}
