"""An optimizer's life beside torch's own: groups, missing gradients, hooks, closures, modes."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch_pairs import gradients, new_params
from torch_twins import (
    TWINS,
    Make,
    Twin,
    descend,
    follow,
    lives,
    loss_of,
    new_network,
    positions,
    same_path,
    twins,
)

import sciopt

Engine = dict[str, Any]


@lives
@twins
def test_a_thawed_layer_joins_in_mid_run(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        network[0].requires_grad_(False)
        optimizer = make(network[2].parameters())
        path = descend(network, optimizer)
        network[0].requires_grad_(True)
        path += descend(network, optimizer)
        optimizer.add_param_group({"params": network[0].parameters(), "lr": 0.05})
        return path + descend(network, optimizer)

    same_path(twin, engine, treat)


@lives
@twins
def test_a_parameter_frozen_in_mid_run_rests(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        path = descend(network, optimizer)
        network[0].requires_grad_(False)
        path += descend(network, optimizer)
        network[0].requires_grad_(True)
        return path + descend(network, optimizer)

    same_path(twin, engine, treat)


@lives
@twins
def test_steps_without_some_or_all_gradients(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        params = new_params()
        series = [
            [None if number == 4 or (number + index) % 3 == 0 else grad for index, grad in each]
            for number, each in enumerate(map(enumerate, gradients(params, 9)))
        ]
        # Groups: one that is at times whole, at times without any gradient.
        optimizer = make([{"params": params[:4]}, {"params": params[4:]}])
        return follow(optimizer, params, series)

    same_path(twin, engine, treat)


@lives
@twins
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_after_zero_grad(twin: Twin, engine: Engine, set_to_none: bool) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        path = descend(network, optimizer)
        kept = [param.grad for param in network.parameters()]
        optimizer.zero_grad(set_to_none=set_to_none)
        for param, grad in zip(network.parameters(), kept, strict=True):
            assert param.grad is (None if set_to_none else grad)
        optimizer.step()
        path.append(positions(network.parameters()))
        return path + descend(network, optimizer)

    same_path(twin, engine, treat)


@lives
@twins
def test_gradients_accumulate_over_passes(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        return descend(network, optimizer, before_step=lambda: loss_of(network).backward())

    same_path(twin, engine, treat)


@lives
@twins
def test_settings_changed_by_hand_take_effect(twin: Twin, engine: Engine) -> None:
    changes = {
        "momentum": 0.5,
        "weight_decay": 0.3,
        "betas": (0.5, 0.7),
        "eps": 0.1,
        "alpha": 0.5,
        "maximize": True,
        "lr_decay": 0.9,
        "lr": 0.05,
    }

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        first, second = network[0].parameters(), network[2].parameters()
        optimizer = make([{"params": first}, {"params": second}])
        path = descend(network, optimizer)
        for key, value in changes.items():
            if key in of_both:
                optimizer.param_groups[1][key] = value
                path += descend(network, optimizer, 2)
        return path

    ours, theirs = (make(new_network().parameters()).param_groups[0] for make in twin)
    of_both = ours.keys() & theirs.keys()
    same_path(twin, engine, treat)


@lives
@twins
def test_the_step_leaves_each_gradient_where_it_was(twin: Twin, engine: Engine) -> None:
    params = new_params()
    optimizer = twin.ours(params, **engine)
    follow(optimizer, params, gradients(params, 1))
    kept = [param.grad for param in params]
    versions = [param.grad._version for param in params if param.grad is not None]
    optimizer.step()
    assert all(param.grad is grad for param, grad in zip(params, kept, strict=True))
    assert [grad._version for grad in kept if grad is not None] == versions


@lives
@twins
def test_hooks_run_in_torchs_order_and_may_change_the_gradient(twin: Twin, engine: Engine) -> None:
    histories = []

    def treat(make: Make) -> list[Tensor]:
        network, events = new_network(), []
        optimizer = make(network.parameters())
        histories.append(events)

        def saw(event: str, halve: bool = False) -> Any:
            def hook(seen: Optimizer, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
                assert seen is optimizer
                events.append(f"{event} {len(args)} {sorted(keywords)}")
                for param in network.parameters() if halve else ():
                    assert param.grad is not None
                    param.grad /= 2

            return hook

        with ExitStack() as removed:
            for handle in (
                register_optimizer_step_pre_hook(saw("before any")),
                register_optimizer_step_post_hook(saw("after any")),
                optimizer.register_step_pre_hook(saw("before", halve=True)),
                optimizer.register_step_post_hook(saw("after")),
            ):
                removed.callback(handle.remove)
            path = descend(network, optimizer)
        return path + descend(network, optimizer)

    same_path(twin, engine, treat)
    assert histories[0] == histories[1]
    assert len(histories[0]) == 16


@lives
@twins
def test_a_pre_hook_may_put_another_closure(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> tuple[float, Tensor]:
        network = new_network()
        optimizer = make(network.parameters())

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(network)
            loss.backward()
            return loss

        optimizer.register_step_pre_hook(lambda *_: ((optimizer, closure), {}))
        loss: Any = optimizer.step()
        return loss.item(), positions(network.parameters())

    same_path(twin, engine, treat)


@lives
@twins
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_a_closure_is_evaluated_once_with_gradients_on(
    twin: Twin, engine: Engine, mode: Any
) -> None:
    def treat(make: Make) -> tuple[list[float], list[Tensor]]:
        network = new_network()
        optimizer, losses, path = make(network.parameters()), [], []

        def closure() -> float:
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = loss_of(network)
            loss.backward()
            losses.append(loss.item())
            return losses[-1]

        for number in range(4):
            with mode():
                returned: Any = optimizer.step(closure)
                assert torch.is_grad_enabled() == (mode is torch.enable_grad)
            assert (returned, len(losses)) == (losses[-1], number + 1)
            path.append(positions(network.parameters()))
        return losses, path

    same_path(twin, engine, treat)


@lives
@twins
def test_a_closure_that_fails_leaves_everything_as_it_was(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        path = descend(network, optimizer)

        def closure() -> float:
            loss_of(network).backward()
            raise ArithmeticError

        with pytest.raises(ArithmeticError):
            optimizer.step(closure)
        assert torch.equal(positions(network.parameters()), path[-1])
        return path + descend(network, optimizer)

    same_path(twin, engine, treat)


@lives
@twins
def test_a_step_in_inference_mode_counts(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        params = new_params()
        optimizer, series = make(params), gradients(params, 6)
        path = follow(optimizer, params, series[:2])
        # torch's own state must exist before it is written there, and only in place.
        with torch.inference_mode(inference):
            for param, grad in zip(params, series[2], strict=True):
                param.grad = grad
            optimizer.step()
            path.append(positions(params).clone())
        return [each.clone() for each in path] + follow(optimizer, params, series[3:])

    inference = twin is not TWINS["NormalizedSGD"] and twin is not TWINS["slowing"]
    same_path(twin, engine, treat)


@lives
@twins
def test_steps_taken_inside_backward(twin: Twin, engine: Engine) -> None:
    """One optimizer for each parameter, stepping as soon as its gradient is there."""

    def treat(make: Make) -> list[Tensor]:
        network, path = new_network(), []
        optimizers = {param: make([param]) for param in network.parameters()}

        def step(param: Any) -> None:
            optimizers[param].step()
            optimizers[param].zero_grad()

        for param in network.parameters():
            param.register_post_accumulate_grad_hook(step)
        for _ in range(4):
            loss_of(network).backward()
            assert all(param.grad is None for param in network.parameters())
            path.append(positions(network.parameters()))
        return path

    same_path(twin, engine, treat)


@pytest.fixture
def graphs_in_gradients_allowed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
        yield


@lives
@twins
@pytest.mark.usefixtures("graphs_in_gradients_allowed")
def test_gradients_that_carry_a_graph_leave_none_in_the_state(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network, path = new_network(), []
        optimizer = make(network.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(network).backward(create_graph=True)
            grads = [param.grad for param in network.parameters()]
            slope = sum(grad.square().sum() for grad in grads if grad is not None)
            assert isinstance(slope, Tensor)
            slope.backward()
            optimizer.step()
            kept = [value for state in optimizer.state.values() for value in state.values()]
            assert not any(isinstance(each, Tensor) and each.requires_grad for each in kept)
            path.append(positions(network.parameters()))
        return path

    same_path(twin, engine, treat)


@lives
@twins
def test_a_rate_of_zero_moves_nothing_but_the_state(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        params = [param for param in new_params() if param.numel()]
        optimizer, series = make(params), gradients(params, 6)
        start = positions(params)
        optimizer.param_groups[0]["lr"] = 0
        path = follow(optimizer, params, series[:3])
        if twin is not TWINS["AdamW-in-a-box"]:
            assert all(torch.equal(each, start) for each in path)
        optimizer.param_groups[0]["lr"] = 0.02
        return path + follow(optimizer, params, series[3:])

    same_path(twin, engine, treat, lr=0.0)


@lives
@twins
def test_groups_may_be_given_with_names(twin: Twin, engine: Engine) -> None:
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.named_parameters())
        assert optimizer.state_dict()["param_groups"][0]["param_names"] == names
        return descend(network, optimizer)

    same_path(twin, engine, treat)


@lives
@pytest.mark.parametrize("extra", [{"foreach": False}, {"tag": "head"}])
def test_groups_may_hold_keys_of_the_users_own(engine: Engine, extra: dict[str, Any]) -> None:
    network = new_network()
    optimizer = sciopt.Adam([{"params": network.parameters(), **extra}], **engine)
    descend(network, optimizer, 1)
    assert extra.items() <= optimizer.state_dict()["param_groups"][0].items()


@lives
@twins
def test_a_default_dtype_of_float64_changes_nothing(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        torch.set_default_dtype(torch.float64)
        try:
            network = new_network()
            return descend(network, make(network.parameters()))
        finally:
            torch.set_default_dtype(torch.float32)

    same_path(twin, engine, treat)
