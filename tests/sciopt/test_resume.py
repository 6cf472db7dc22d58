"""A run cut in two is the run that was never cut; a refused load changes nothing."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict as named_states
from torch.optim import Optimizer
from torch_twins import (
    LIVES,
    Make,
    Twin,
    descend,
    label,
    lives,
    new_network,
    same_path,
    torchs,
    twins,
)

import sciopt

Engine = dict[str, Any]


def groups_of(network: torch.nn.Sequential) -> list[dict[str, Any]]:
    return [
        {"params": network[0].parameters()},
        {"params": network[2].parameters(), "lr": torch.tensor(0.03, dtype=torch.float64)},
    ]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_a_pickle(state: dict[str, Any]) -> dict[str, Any]:
    return pickle.loads(pickle.dumps(state))


@lives
@twins
@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("journey", [through_a_file, through_a_pickle, copy.deepcopy])
def test_a_cut_run_with_groups_goes_on_bit_for_bit(
    twin: Twin, engine: Engine, steps: int, journey: Callable[[Any], Any]
) -> None:
    network = new_network()
    optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
    descend(network, optimizer, steps)
    resumed = copy.deepcopy(network)
    again = twin.ours(groups_of(resumed), lr=9.0, **engine)
    again.load_state_dict(journey(optimizer.state_dict()))
    expected, actual = descend(network, optimizer), descend(resumed, again)
    assert all(map(torch.equal, actual, expected))


@twins
@pytest.mark.parametrize("first", LIVES, ids=label)
@pytest.mark.parametrize("second", LIVES, ids=label)
def test_a_run_goes_on_under_another_engine(twin: Twin, first: Engine, second: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        path = descend(network, optimizer)
        if isinstance(optimizer, sciopt.Composed):
            state = through_a_file(optimizer.state_dict())
            optimizer = twin.ours(network.parameters(), **second)
            optimizer.load_state_dict(state)
        return path + descend(network, optimizer)

    same_path(twin, first, treat)


@lives
@twins
@pytest.mark.parametrize("journey", [through_a_pickle, copy.deepcopy])
def test_a_whole_optimizer_travels(twin: Twin, engine: Engine, journey: Any) -> None:
    network = new_network()
    optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
    descend(network, optimizer)
    other_network, other = journey((network, optimizer))
    expected = descend(network, optimizer)
    path = descend(other_network, other)
    assert all(map(torch.equal, path, expected))
    other.add_param_group({"params": [torch.zeros(2, dtype=torch.float64, requires_grad=True)]})
    descend(other_network, other)
    assert type(other) is type(optimizer)


@lives
@twins
def test_a_whole_optimizer_is_loaded_from_a_file(twin: Twin, engine: Engine) -> None:
    network = new_network()
    optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
    descend(network, optimizer)
    file = io.BytesIO()
    torch.save((network, optimizer), file)
    file.seek(0)
    other_network, other = torch.load(file, weights_only=False)
    expected, actual = descend(network, optimizer), descend(other_network, other)
    assert all(map(torch.equal, actual, expected))


@lives
@twins
def test_hooks_see_and_may_change_what_is_saved_and_loaded(twin: Twin, engine: Engine) -> None:
    events = []

    def saw(event: str) -> Any:
        return lambda *_: events.append(event)

    def note(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return state | {"note": "of the user"}

    def halve(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        groups = [group | {"lr": group["lr"] / 2} for group in state["param_groups"]]
        return state | {"param_groups": groups}

    optimizer = twin.ours(new_network().parameters(), lr=0.5, **engine)
    optimizer.register_state_dict_pre_hook(saw("before saving"))
    optimizer.register_state_dict_post_hook(note)
    optimizer.register_load_state_dict_pre_hook(saw("before loading"))
    optimizer.register_load_state_dict_pre_hook(halve)
    optimizer.register_load_state_dict_post_hook(saw("after loading"))
    state = optimizer.state_dict()
    assert state["note"] == "of the user"
    optimizer.load_state_dict(state)
    assert events == ["before saving", "before loading", "after loading"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]
    assert [group["lr"] for group in state["param_groups"]] == [0.5]


def drop_a_group(state: dict[str, Any]) -> None:
    del state["param_groups"][1]


def drop_a_parameter(state: dict[str, Any]) -> None:
    state["param_groups"][1]["params"].pop()


def negative_step_size(state: dict[str, Any]) -> None:
    state["param_groups"][1]["lr"] = -1.0


def transposed_moment(state: dict[str, Any]) -> None:
    kept = state["state"][2]
    for name, value in kept.items():
        if isinstance(value, Tensor) and value.ndim == 2:
            kept[name] = value.T.contiguous()


def unknown_moment(state: dict[str, Any]) -> None:
    state["state"][2]["exp_avg_cube"] = torch.zeros(2, 4, dtype=torch.float64)


DAMAGES: dict[Callable[[dict[str, Any]], None], str] = {
    drop_a_group: "different number of parameter groups",
    drop_a_parameter: "size of optimizer's group",
    negative_step_size: r"lr must be .* got -1\.0",
    transposed_moment: "same order",
    unknown_moment: "exp_avg_cube",
}


@lives
@torchs
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(
    twin: Twin, engine: Engine, damage: Callable[[dict[str, Any]], None]
) -> None:
    """The damage is in the second group, which is read after the first."""
    network, other_network = new_network(), new_network()
    optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
    other = twin.ours(groups_of(other_network), lr=0.04, **engine)
    descend(network, optimizer)
    descend(other_network, other, 2)
    undisturbed_network, undisturbed = copy.deepcopy((network, optimizer))
    state = copy.deepcopy(other.state_dict())
    damage(state)
    with pytest.raises(ValueError, match=DAMAGES[damage]):
        optimizer.load_state_dict(state)
    torch.testing.assert_close(optimizer.state_dict(), undisturbed.state_dict(), rtol=0, atol=0)
    actual = descend(network, optimizer)
    assert all(map(torch.equal, actual, descend(undisturbed_network, undisturbed)))


@lives
@torchs
def test_a_loaded_dict_is_not_written_to(twin: Twin, engine: Engine) -> None:
    network = new_network()
    optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
    descend(network, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    other_network = new_network()
    other = twin.ours(groups_of(other_network), **engine)
    other.load_state_dict(state)
    before = copy.deepcopy(state)
    torch.optim.lr_scheduler.ExponentialLR(other, 0.5)
    descend(other_network, other)
    other.param_groups[1]["lr"].fill_(7.0)
    torch.testing.assert_close(state, before, rtol=0, atol=0)


@lives
@torchs
def test_loading_restores_the_parameters_own_precision_and_layout(
    twin: Twin, engine: Engine
) -> None:
    """A float64 checkpoint of a contiguous weight, into a float32 weight in channels-last."""
    weight = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    ours = weight.to(memory_format=torch.channels_last).requires_grad_()
    theirs = weight.clone().requires_grad_()
    teacher = weight.double().requires_grad_()
    saved = twin.theirs([teacher], lr=0.02)
    teacher.grad = torch.cos(teacher.detach())
    saved.step()
    optimizer, reference = twin.ours([ours], lr=0.02, **engine), twin.theirs([theirs], lr=0.02)
    for each, param in ((optimizer, ours), (reference, theirs)):
        each.load_state_dict(saved.state_dict())
        for number in range(3):
            param.grad = torch.cos(param.detach() + number)
            each.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for value in optimizer.state[ours].values():
        if value.ndim:
            assert (value.dtype, value.stride()) == (ours.dtype, ours.stride())


@lives
@torchs
def test_distributed_checkpoints_name_the_state_by_parameter(twin: Twin, engine: Engine) -> None:
    network = new_network()
    optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
    descend(network, optimizer)
    state = copy.deepcopy(named_states.get_optimizer_state_dict(network, optimizer))
    assert set(state["state"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    resumed = copy.deepcopy(network)
    again = twin.ours(groups_of(resumed), lr=9.0, **engine)
    named_states.set_optimizer_state_dict(resumed, again, state)
    expected, actual = descend(network, optimizer), descend(resumed, again)
    assert all(map(torch.equal, actual, expected))
