"""Every scheduler of torch moves our settings as it moves torch's own, and resumes with them."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.swa_utils import SWALR
from torch_twins import (
    LIVES,
    TORCHS,
    TWINS,
    Make,
    Twin,
    descend,
    label,
    lives,
    new_network,
    same_path,
    twins,
)

Engine = dict[str, Any]
Schedule = Callable[[Optimizer], Any]

SCHEDULES: dict[str, Schedule] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, [lambda n: 0.9**n, lambda n: 1 / (1 + n)]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.8),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.5, total_iters=6),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20, cycle_momentum=False),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.2, total_iters=3), lr_scheduler.ExponentialLR(o, 0.8)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.3, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: SWALR(o, 0.05, anneal_epochs=5),
}
PLATEAU = "ReduceLROnPlateau"
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def groups_of(network: torch.nn.Sequential) -> list[dict[str, Any]]:
    """Two groups, the second with a step size of its own."""
    return [
        {"params": network[0].parameters()},
        {"params": network[2].parameters(), "lr": torch.tensor(0.03, dtype=torch.float64)},
    ]


def scheduled(schedule: Schedule) -> Callable[[Make], list[Tensor]]:
    """Ten steps, with a step of the scheduler after each."""

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(groups_of(network))
        scheduler = schedule(optimizer)
        return descend(network, optimizer, 10, after_step=scheduler.step)

    return treat


def test_no_scheduler_of_torch_is_left_out() -> None:
    all_of_torch = set(lr_scheduler.__all__) - {"LRScheduler"}
    assert all_of_torch == SCHEDULES.keys() - {"SWALR"} | {PLATEAU}


@lives
@twins
@schedules
def test_step_sizes_are_moved_as_torchs(twin: Twin, engine: Engine, schedule: Schedule) -> None:
    same_path(twin, engine, scheduled(schedule))


@lives
@twins
@pytest.mark.parametrize("name", ["LambdaLR", "StepLR", "CosineAnnealingWarmRestarts"])
def test_a_tensor_step_size_is_moved_as_torchs(twin: Twin, engine: Engine, name: str) -> None:
    def treat(make: Make) -> list[Tensor]:
        return scheduled(SCHEDULES[name])(
            lambda params: make(params, lr=torch.tensor(0.02, dtype=torch.float64))
        )

    same_path(twin, engine, treat)


# Not compiled: every change of a beta would compile anew.
@pytest.mark.parametrize("engine", LIVES, ids=label)
@pytest.mark.parametrize("twin", TORCHS.values(), ids=TORCHS)
@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20, base_momentum=0.5, max_momentum=0.95),
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, base_momentum=0.5, max_momentum=0.95),
    ],
    ids=["OneCycleLR", "CyclicLR"],
)
def test_momentum_is_cycled_as_torchs(twin: Twin, engine: Engine, schedule: Schedule) -> None:
    same_path(twin, engine, scheduled(schedule))


def test_momentum_that_is_not_there_cannot_be_cycled() -> None:
    optimizer = TWINS["NormalizedSGD"].ours(new_network().parameters())
    with pytest.raises(ValueError, match="must support momentum"):
        lr_scheduler.OneCycleLR(optimizer, 0.1, 20)


@lives
@twins
def test_a_plateau_lowers_the_step_size_as_torchs(twin: Twin, engine: Engine) -> None:
    losses = iter([3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0] * 2)

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(groups_of(network))
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=1)
        path = descend(network, optimizer, 10, after_step=lambda: scheduler.step(next(losses)))
        assert float(optimizer.param_groups[0]["lr"]) < 0.01
        return path

    same_path(twin, engine, treat)


@lives
@twins
@pytest.mark.parametrize("name", ["LambdaLR", "OneCycleLR", "SequentialLR", "ChainedScheduler"])
def test_a_run_resumes_bit_for_bit_with_its_scheduler(
    twin: Twin, engine: Engine, name: str
) -> None:
    def start(network: torch.nn.Sequential) -> tuple[Optimizer, Any]:
        optimizer = twin.ours(groups_of(network), lr=0.02, **engine)
        return optimizer, SCHEDULES[name](optimizer)

    network = new_network()
    optimizer, scheduler = start(network)
    descend(network, optimizer, 4, after_step=scheduler.step)
    resumed = copy.deepcopy(network)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), scheduler.state_dict()), file)
    file.seek(0)
    optimizer_state, scheduler_state = torch.load(file, weights_only=True)
    again, scheduler_again = start(resumed)
    again.load_state_dict(optimizer_state)
    scheduler_again.load_state_dict(scheduler_state)
    expected = descend(network, optimizer, 6, after_step=scheduler.step)
    actual = descend(resumed, again, 6, after_step=scheduler_again.step)
    assert all(map(torch.equal, actual, expected))


@lives
@twins
def test_a_copied_optimizer_may_be_scheduled_anew(twin: Twin, engine: Engine) -> None:
    """The scheduler wraps the step of the first; the copy must not call the wrapped one."""

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(groups_of(network))
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        path = descend(network, optimizer, 3, after_step=scheduler.step)
        network, optimizer = copy.deepcopy((network, optimizer))
        path += descend(network, optimizer, 3)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        return path + descend(network, optimizer, 3, after_step=scheduler.step)

    if twin is not TWINS["AdamW-in-a-box"]:  # the oracle's clamp is a hook, which is not copied
        same_path(twin, engine, treat)
