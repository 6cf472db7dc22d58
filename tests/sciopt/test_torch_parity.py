"""Our named methods and torch's own give the same numbers, and read each other's checkpoints."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_pairs import PAIRS, Pair, difference, gradients, new_params, run

import sciopt

ROUND_OFF = {torch.float64: 1e-12, torch.float32: 1e-5}


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict after a journey through a file that may hold no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_torchs_database_holds_what_is_compared() -> None:
    assert {pair.name for pair in PAIRS} == {"SGD", "Adagrad", "RMSprop", "Adam", "AdamW"}
    assert len(PAIRS) >= 40


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_path_equals_torchs(pair: Pair, dtype: torch.dtype, engine: str) -> None:
    ours, theirs = new_params(dtype), new_params(dtype)
    series = gradients(ours, 200)
    run(pair.ours(ours, engine=engine, **pair.keywords), ours, series)
    run(pair.theirs(theirs, **pair.keywords), theirs, series)
    assert difference(ours, theirs, new_params(dtype)) <= ROUND_OFF[dtype]


GROUPS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "SGD": (
        {"momentum": 0.9, "dampening": 0.5},
        {"lr": 0.05},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
    ),
    "Adagrad": ({"lr_decay": 0.1}, {"eps": 0.1}, {"lr": 0.3, "maximize": True}),
    "RMSprop": ({"momentum": 0.9}, {"centered": True}, {"alpha": 0.5, "weight_decay": 0.1}),
    "Adam": (
        {"betas": (0.5, 0.6)},
        {"amsgrad": True, "eps": 0.1},
        {"lr": 0.3, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "AdamW": ({"betas": (0.5, 0.6)}, {"amsgrad": True}, {"lr": 0.3, "weight_decay": 0.3}),
}
FIRST = [next(pair for pair in PAIRS if pair.name == name) for name in GROUPS]


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("pair", FIRST, ids=lambda pair: pair.name)
def test_groups_with_their_own_settings_equal_torchs(pair: Pair, engine: str) -> None:
    ours, theirs = new_params(), new_params()

    def grouped(params: list[torch.Tensor]) -> list[dict[str, Any]]:
        parts = (params[:2], params[2:4], params[4:])
        return [
            {"params": part, **settings}
            for part, settings in zip(parts, GROUPS[pair.name], strict=True)
        ]

    series = gradients(ours, 200)
    run(pair.ours(grouped(ours), engine=engine), ours, series)
    run(pair.theirs(grouped(theirs)), theirs, series)
    assert difference(ours, theirs, new_params()) <= 1e-12


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_torch_continues_our_run_and_we_torchs(pair: Pair, at: int) -> None:
    ours, theirs = new_params(), new_params()
    before, after = gradients(ours, at), gradients(ours, 20, seed=2)
    our_optimizer = pair.ours(ours, **pair.keywords)
    their_optimizer = pair.theirs(theirs, **pair.keywords)
    run(our_optimizer, ours, before)
    run(their_optimizer, theirs, before)

    with torch.no_grad():
        from_torch = [param.clone().requires_grad_() for param in theirs]
        from_us = [param.clone().requires_grad_() for param in ours]
    # Other settings, which those of the checkpoint must replace.
    loaded_by_us = pair.ours(from_torch, lr=7.0)
    loaded_by_us.load_state_dict(saved_and_loaded(their_optimizer.state_dict()))
    loaded_by_torch = pair.theirs(from_us, lr=7.0)
    loaded_by_torch.load_state_dict(saved_and_loaded(our_optimizer.state_dict()))

    run(their_optimizer, theirs, after)
    run(loaded_by_us, from_torch, after)
    run(loaded_by_torch, from_us, after)
    assert difference(from_torch, theirs, new_params()) <= 1e-12
    assert difference(from_us, theirs, new_params()) <= 1e-12


@pytest.mark.parametrize("pair", FIRST, ids=lambda pair: pair.name)
def test_a_parameter_without_gradient_keeps_its_clock_as_in_torch(pair: Pair) -> None:
    ours, theirs = new_params(), new_params()
    series = gradients(ours, 12)
    keywords = {"momentum": 0.9} if pair.name in ("SGD", "RMSprop") else {}
    pairs = [(pair.ours(ours, **keywords), ours), (pair.theirs(theirs, **keywords), theirs)]
    for optimizer, params in pairs:
        for number, grads in enumerate(series):
            for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
                param.grad = grad.clone() if (number + index) % 3 else None
            optimizer.step()
    assert difference(ours, theirs, new_params()) <= 1e-12


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]] = {
    "OneCycleLR": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=40, base_momentum=0.5, max_momentum=0.95
    ),
    "CyclicLR": lambda optimizer: torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.01, max_lr=0.1, step_size_up=7
    ),
    "StepLR": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5),
}


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("pair", FIRST, ids=lambda pair: pair.name)
def test_schedulers_move_our_settings_as_torchs(pair: Pair, name: str, engine: str) -> None:
    if pair.name == "Adagrad" and name != "StepLR":
        pytest.skip("AdaGrad has no momentum to cycle")
    ours, theirs = new_params(), new_params()
    series = gradients(ours, 30)
    keywords = {"momentum": 0.9} if pair.name in ("SGD", "RMSprop") else {}
    for optimizer, params in [
        (pair.ours(ours, engine=engine, **keywords), ours),
        (pair.theirs(theirs, **keywords), theirs),
    ]:
        scheduler = SCHEDULERS[name](optimizer)
        for grads in series:
            run(optimizer, params, [grads])
            scheduler.step()
    assert difference(ours, theirs, new_params()) <= 1e-12


def test_momentum_that_a_scheduler_switches_on_gets_its_buffer() -> None:
    ours, theirs = new_params(), new_params()
    series = gradients(ours, 10)
    for optimizer, params in [(sciopt.SGD(ours), ours), (torch.optim.SGD(theirs), theirs)]:
        run(optimizer, params, series[:5])
        optimizer.param_groups[0]["momentum"] = 0.9
        run(optimizer, params, series[5:])
    assert difference(ours, theirs, new_params()) <= 1e-12
