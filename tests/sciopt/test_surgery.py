"""Parameters, state and groups that the user exchanges in mid-run are those that are stepped."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_twins import TORCHS, Make, Twin, lives, new_inputs, positions, same_path, torchs

Engine = dict[str, Any]


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(new_inputs(*shape))


def step(optimizer: Optimizer, number: int) -> None:
    """Gradients that differ from step to step."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.cos(param.detach() + number)
    optimizer.step()


def life(make: Make, change: Callable[[Optimizer], Any]) -> list[Tensor]:
    """All parameters after each of three steps, the change, and three more."""
    first, second = parameter(3), parameter(2, 2)
    optimizer = make([first, second])
    path = []
    for number in range(6):
        if number == 3:
            change(optimizer)
        step(optimizer, number)
        path.append(positions(optimizer.param_groups[0]["params"]))
    return [*path, positions([first, second])]


def prune_and_grow(optimizer: Optimizer) -> None:
    """As Gaussian splatting does: another number of rows, the state of those that stay."""
    group = optimizer.param_groups[0]
    old = group["params"][0]
    state = optimizer.state.pop(old)
    for name, value in state.items():
        if isinstance(value, Tensor) and value.ndim:
            state[name] = torch.cat([value[1:], value.new_zeros(3)])
    group["params"][0] = parameter(5)
    optimizer.state[group["params"][0]] = state


def replace_list(optimizer: Optimizer) -> None:
    optimizer.param_groups[0]["params"] = [parameter(3), parameter(2, 2)]


def replace_list_by_other_shapes(optimizer: Optimizer) -> None:
    optimizer.param_groups[0]["params"] = [parameter(4)]


def append(optimizer: Optimizer) -> None:
    optimizer.param_groups[0]["params"].append(parameter(2))


def take_out(optimizer: Optimizer) -> None:
    del optimizer.param_groups[0]["params"][0]


def forget(optimizer: Optimizer) -> None:
    del optimizer.state[optimizer.param_groups[0]["params"][0]]


def clear_in_place(optimizer: Optimizer) -> None:
    optimizer.state[optimizer.param_groups[0]["params"][0]].clear()


def put_another_dict(optimizer: Optimizer) -> None:
    param = optimizer.param_groups[0]["params"][0]
    optimizer.state[param] = {
        name: value / 2 if isinstance(value, Tensor) else value
        for name, value in optimizer.state[param].items()
    }


def halve_in_place(optimizer: Optimizer) -> None:
    for value in optimizer.state[optimizer.param_groups[0]["params"][0]].values():
        if isinstance(value, Tensor) and value.ndim:
            value.mul_(0.5)


def reset_a_clock(optimizer: Optimizer) -> None:
    step = optimizer.state[optimizer.param_groups[0]["params"][1]].get("step")
    if isinstance(step, Tensor):
        step.zero_()


def drop_the_group(optimizer: Optimizer) -> None:
    groups = optimizer.param_groups
    optimizer.add_param_group({"params": [parameter(4)], "lr": 0.5})
    del groups[0]


CHANGES = [
    prune_and_grow,
    replace_list,
    replace_list_by_other_shapes,
    append,
    take_out,
    forget,
    clear_in_place,
    put_another_dict,
    halve_in_place,
    reset_a_clock,
    drop_the_group,
]


@lives
@torchs
@pytest.mark.parametrize("change", CHANGES)
def test_what_the_user_put_there_is_stepped(twin: Twin, engine: Engine, change: Any) -> None:
    if change is reset_a_clock and engine.get("flat"):
        pytest.skip("the clocks of a packed group are one")
    same_path(twin, engine, lambda make: life(make, change))


@lives
def test_moments_of_other_strides_are_read_rightly(engine: Engine) -> None:
    def treat(make: Make) -> Tensor:
        param = torch.nn.Parameter(new_inputs(2, 3).T)
        optimizer = make([param])
        step(optimizer, 0)
        optimizer.state[param]["exp_avg"] = new_inputs(3, 2)
        step(optimizer, 1)
        return param.detach()

    same_path(TORCHS["Adam"], engine, treat)


@lives
@torchs
@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (2, 3)])
def test_moments_of_another_shape_are_refused(
    twin: Twin, engine: Engine, shape: tuple[int, int]
) -> None:
    param = parameter(*shape)
    optimizer = twin.ours([param], **engine)
    step(optimizer, 0)
    name = next(name for name, value in optimizer.state[param].items() if value.ndim)
    # A kernel that does not look writes past the end, here into memory of the test's own.
    optimizer.state[param][name] = torch.zeros(64, dtype=torch.float64)[:6].view(3, 2)
    with pytest.raises((RuntimeError, ValueError), match=r"shape|size"):
        step(optimizer, 1)


@lives
@torchs
def test_a_network_converted_before_its_first_step(twin: Twin, engine: Engine) -> None:
    def treat(make: Make) -> list[Tensor]:
        param = torch.nn.Parameter(new_inputs(3).float())
        optimizer = make([param])
        param.data = param.data.double()
        path = []
        for number in range(3):
            step(optimizer, number)
            path.append(param.detach().clone())
        return path

    same_path(twin, engine, treat)
