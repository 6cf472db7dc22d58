"""Parameters of every kind that torch has: their layout, precision, ties and parametrizations."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, parametrizations
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch_pairs import gradients, new_params
from torch_twins import (
    LIVES,
    TORCHS,
    TWINS,
    Make,
    Twin,
    descend,
    engines,
    fill,
    follow,
    label,
    lives,
    loss_of,
    new_inputs,
    new_network,
    positions,
    same_path,
    torchs,
    twins,
)

import sciopt
from sciopt.directions import ExponentialAverage, Momentum
from sciopt.rates import InverseTimeDecay

Engine = dict[str, Any]


def gapped() -> tuple[Tensor, Tensor]:
    """Every second column of a bigger matrix, and that matrix."""
    whole = new_inputs(6, 8)
    return whole[:4, ::2].requires_grad_(), whole


def transposed() -> tuple[Tensor, Tensor]:
    whole = new_inputs(5, 4)
    return whole.T.requires_grad_(), whole


def shifted() -> tuple[Tensor, Tensor]:
    """A slice in the middle of a bigger vector."""
    whole = new_inputs(12)
    return whole[3:7].requires_grad_(), whole


def reversed_axes() -> tuple[Tensor, Tensor]:
    whole = new_inputs(2, 3, 4)
    return whole.permute(2, 0, 1).requires_grad_(), whole


PLAIN: dict[str, Twin] = {
    "SGD-without-momentum": Twin(sciopt.SGD, torch.optim.SGD),
    "AdaGrad": Twin(sciopt.AdaGrad, torch.optim.Adagrad),
}


@engines
@pytest.mark.parametrize("twin", [*TWINS.values(), *PLAIN.values()], ids=[*TWINS, *PLAIN])
@pytest.mark.parametrize("make_param", [gapped, transposed, shifted, reversed_axes])
@pytest.mark.parametrize("own_strides", [True, False])
def test_a_view_is_stepped_and_nothing_beside_it(
    twin: Twin, engine: Engine, make_param: Callable[[], tuple[Tensor, Tensor]], own_strides: bool
) -> None:
    def treat(make: Make) -> list[Tensor]:
        param, whole = make_param()
        optimizer, path = make([param]), []
        for grads in gradients([param], 3):
            param.grad = grads[0] if not own_strides else torch.empty_like(param).copy_(grads[0])
            optimizer.step()
            path.append(whole.detach().clone())
        return path

    same_path(twin, engine, treat)


@lives
@twins
@pytest.mark.parametrize("late", [False, True])
def test_channels_last_convolutions(twin: Twin, engine: Engine, late: bool) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = fill(
            torch.nn.Sequential(
                torch.nn.Conv2d(2, 3, 2),
                torch.nn.Tanh(),
                torch.nn.Flatten(),
                torch.nn.Linear(12, 2),
            )
        )
        inputs = new_inputs(2, 2, 3, 3)
        if not late:
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = make(network.parameters())
        path = descend(network, optimizer, inputs=inputs)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return path + descend(network, optimizer, inputs=inputs)

    same_path(twin, engine, treat)


@engines
@twins
def test_a_group_may_mix_precisions(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        params = [new_inputs(3).requires_grad_(), new_inputs(4).float().requires_grad_()]
        optimizer = make(params)
        for grads in gradients(params, 5):
            follow(optimizer, params, [grads])
        return [param.detach() for param in params]

    ours = treat(lambda params: twin.ours(params, lr=0.02, **engine))
    theirs = treat(lambda params: twin.theirs(params, lr=0.02))
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-6)


@lives
@pytest.mark.parametrize("twin", [*TORCHS.values(), *PLAIN.values()], ids=[*TORCHS, *PLAIN])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_low_precision_is_no_less_accurate_than_torchs(
    twin: Twin, engine: Engine, dtype: torch.dtype
) -> None:
    """Errors against the same steps in float64, from the same rounded numbers."""

    def travel(make: Make, dtype: torch.dtype, rounded: torch.dtype) -> Tensor:
        param = new_inputs(400).to(rounded).to(dtype).requires_grad_()
        optimizer = make([param], lr=0.05)
        for (grad,) in gradients([param.detach().double()], 5):
            param.grad = grad.to(rounded).to(dtype)
            optimizer.step()
        assert param.dtype == dtype
        return param.detach().double()

    exact = travel(twin.theirs, torch.float64, dtype)
    ours = travel(lambda p, **k: twin.ours(p, **k, **engine), dtype, dtype) - exact
    theirs = travel(twin.theirs, dtype, dtype) - exact
    assert 0 < ours.norm() <= 1.5 * theirs.norm()


# Not compiled, where a centred variance overflows earlier.
@pytest.mark.parametrize("engine", LIVES, ids=label)
@torchs
@pytest.mark.parametrize("size", [1e-22, 1e-19, 1e18, 1e30])
def test_squares_that_underflow_or_overflow_float32_do_so_as_in_torch(
    twin: Twin, engine: Engine, size: float
) -> None:
    results = []
    for make in (lambda p: twin.ours(p, lr=0.1, **engine), lambda p: twin.theirs(p, lr=0.1)):
        param = torch.zeros(50, requires_grad=True)
        optimizer = make([param])
        for (grad,) in gradients([param], 5):
            param.grad = size * grad
            optimizer.step()
        results.append([param.detach(), *map(torch.as_tensor, optimizer.state[param].values())])
    names = list(optimizer.state[param])
    ours, theirs = results
    torch.testing.assert_close(ours[0], theirs[0], rtol=2e-5, atol=1e-7, equal_nan=True)
    moments = dict(zip(names, theirs[1:], strict=True))
    kept = dict(zip(twin.ours([param], **engine).state[param], ours[1:], strict=True))
    for name, value in moments.items():
        # The spacing of float32 at zero is 1.4e-45.
        torch.testing.assert_close(kept[name], value, rtol=1e-5, atol=3e-45)


@lives
@torchs
def test_the_real_view_of_a_complex_parameter(twin: Twin, engine: Engine) -> None:
    complex_param = torch.complex(new_inputs(2, 3), new_inputs(3, 2).T.contiguous())
    ours, theirs = torch.view_as_real(complex_param.clone()), complex_param.clone()
    ours.requires_grad_()
    theirs.requires_grad_()
    for make, param in ((twin.ours, ours), (twin.theirs, theirs)):
        optimizer = make([param], lr=0.02, **(engine if param is ours else {}))
        for _ in range(4):
            optimizer.zero_grad()
            as_complex = param if param.is_complex() else torch.view_as_complex(param)
            (as_complex - 1j).abs().square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, torch.view_as_real(theirs), rtol=0, atol=1e-13)


@lives
@twins
@pytest.mark.parametrize("keywords", [{}, {"on_nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("devices", [["meta"], ["cpu", "meta"], ["meta", "cpu"]])
def test_parameters_without_storage_are_stepped_or_refused_by_name(
    twin: Twin, engine: Engine, keywords: dict[str, Any], devices: list[str]
) -> None:
    params = [torch.ones(3, device=device, requires_grad=True) for device in devices]
    for param in params:
        param.grad = torch.ones_like(param)
    try:
        twin.ours(params, lr=0.25, **engine, **keywords).step()
    except (RuntimeError, TypeError, ValueError) as error:
        assert re.search("meta|device", str(error))
    else:
        assert all(param.min() < 1 for param in params if param.device.type == "cpu")
    assert [(param.device.type, param.shape) for param in params] == [(d, (3,)) for d in devices]


@lives
@twins
def test_tied_weights_are_one_parameter(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
        network[2].weight = network[0].weight
        fill(network)
        optimizer = make(network.parameters())
        assert len(optimizer.param_groups[0]["params"]) == 3
        return descend(network, optimizer)

    same_path(twin, engine, treat)


@engines
@pytest.mark.parametrize("twin", [TWINS["RMSProp"], PLAIN["SGD-without-momentum"]])
def test_a_parameter_listed_twice_is_warned_of_and_stepped_twice(
    twin: Twin, engine: Engine
) -> None:
    def treat(make: Make) -> list[Tensor]:
        params = new_params()
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = make([*params, params[0]])
        return follow(optimizer, params, gradients(params, 4))

    same_path(twin, engine, treat)


@lives
@twins
def test_a_parameter_in_two_groups_is_refused(twin: Twin, engine: Engine) -> None:
    params = new_params()
    with pytest.raises(ValueError, match="more than one parameter group"):
        twin.ours([{"params": params}, {"params": params[:1]}], **engine)


@lives
@twins
@pytest.mark.parametrize(
    "parametrize",
    [parametrizations.weight_norm, parametrizations.orthogonal, parametrizations.spectral_norm],
)
def test_parametrized_layers(twin: Twin, engine: Engine, parametrize: Any) -> None:
    def treat(make: Make) -> list[Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = torch.nn.Sequential(
                parametrize(torch.nn.Linear(3, 3).double()), torch.nn.Linear(3, 2).double()
            )
        fill(network[1])
        return descend(network, make(network.parameters()))

    same_path(twin, engine, treat)


@lives
@twins
@pytest.mark.parametrize("decay", [None, 0.8])
def test_averages_of_the_model_follow_the_steps(
    twin: Twin, engine: Engine, decay: float | None
) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
        fill(network)
        multi_avg_fn = None if decay is None else get_ema_multi_avg_fn(decay)
        average = AveragedModel(network, multi_avg_fn=multi_avg_fn)
        optimizer = make(network.parameters())
        path = descend(network, optimizer, after_step=lambda: average.update_parameters(network))
        update_bn([new_inputs(8, 3)], average)
        assert not torch.equal(positions(average.parameters()), path[-1])
        return [*path, positions(average.parameters()), positions(average.buffers())]

    same_path(twin, engine, treat)


@lives
@twins
@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_clipped_gradients(twin: Twin, engine: Engine, clip: Any) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        return descend(network, optimizer, before_step=lambda: clip(network.parameters(), 0.1))

    same_path(twin, engine, treat)


@lives
@twins
def test_gradients_from_functional_calls_and_expanded_ones(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network, path = new_network(), []
        params = dict(network.named_parameters())
        optimizer = make(params.values())

        def loss(params: dict[str, Tensor]) -> Tensor:
            return loss_of(lambda x: torch.func.functional_call(network, params, x))

        for _ in range(4):
            grads = torch.func.grad(loss)({name: p.detach() for name, p in params.items()})
            for name, param in params.items():
                param.grad = grads[name].detach()
            params["2.weight"].grad = grads["2.weight"].mean().expand(2, 4)
            optimizer.step()
            path.append(positions(network.parameters()))
        return path

    same_path(twin, engine, treat)


@lives
@twins
def test_a_network_copied_together_with_its_optimizer_goes_its_own_way(
    twin: Twin, engine: Engine
) -> None:
    network = new_network()
    optimizer = twin.ours(network.parameters(), lr=0.02, **engine)
    descend(network, optimizer)
    twin_network, twin_optimizer = copy.deepcopy((network, optimizer))
    before = positions(network.parameters())
    copied = descend(twin_network, twin_optimizer)
    assert torch.equal(positions(network.parameters()), before)
    assert all(map(torch.equal, copied, descend(network, optimizer)))


@lives
@pytest.mark.parametrize("direction", [ExponentialAverage(after_rates=True), Momentum(0.9, 0.5)])
def test_a_coarse_rate_leaves_the_state_of_scalars_in_their_own_precision(
    engine: Engine, direction: sciopt.Direction
) -> None:
    """A parameter without axes goes as the same number in a vector of one."""
    paths = []
    for shape in ((), (1,)):
        param = torch.full(shape, 0.5, requires_grad=True)
        optimizer = sciopt.Composed(
            [param],
            type(direction)(**{**vars(direction), "after_rates": True}),
            [InverseTimeDecay(0.3)],
            lr=0.1,
            **engine,
        )
        path = []
        for step in range(4):
            param.grad = torch.full(shape, 1.0 + step)
            optimizer.step()
            path.append(param.item())
        kept = {name: value.dtype for name, value in optimizer.state[param].items()}
        assert set(kept.values()) == {torch.float32}
        paths.append(path)
    assert paths[0] == pytest.approx(paths[1], rel=1e-5)
