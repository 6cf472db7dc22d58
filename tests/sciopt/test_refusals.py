"""What cannot be is refused at the entrance, with words that say what to do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_pairs import new_params
from torch_twins import COMPILED, LIVES, compiles, label

import sciopt
from sciopt.directions import Gradient
from sciopt.rates import SecondMoment, SquareAverage
from sciopt.rule import CLOCK, Clock

Make = Callable[[list[Tensor]], sciopt.Composed]


class Twice(sciopt.Rate):
    """Keeps a state that SquareAverage keeps too."""

    scope = sciopt.Scope.ELEMENT

    def slots(self) -> dict[str, sciopt.Slot]:
        return {"step": CLOCK, "square_avg": sciopt.Slot(sciopt.Scope.NEURON)}

    def rate(self, state: dict[str, Any], clock: Clock) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("lr must be finite", lambda p: sciopt.SGD(p, lr=-0.1)),
        ("lr must be finite", lambda p: sciopt.SGD(p, lr=float("nan"))),
        ("lr must be finite", lambda p: sciopt.SGD(p, lr=float("inf"))),
        ("tensor lr", lambda p: sciopt.SGD(p, lr=torch.ones(2))),
        ("lr must be finite", lambda p: sciopt.SGD([{"params": p, "lr": -1.0}])),
        (r"betas\[0\] must be below 1", lambda p: sciopt.Adam(p, betas=(1.0, 0.9))),
        (r"betas\[1\] must be below 1", lambda p: sciopt.Adam(p, betas=(0.9, -0.1))),
        ("betas must be two", lambda p: sciopt.Adam([{"params": p, "betas": (0.9,)}])),
        ("eps must be", lambda p: sciopt.Adam(p, eps=-1e-8)),
        ("weight_decay must be", lambda p: sciopt.Adam(p, weight_decay=-1.0)),
        ("momentum must be", lambda p: sciopt.SGD(p, momentum=-0.9)),
        ("nesterov needs", lambda p: sciopt.SGD(p, nesterov=True)),
        ("nesterov needs", lambda p: sciopt.SGD(p, momentum=0.9, dampening=0.1, nesterov=True)),
        ("alpha must be", lambda p: sciopt.RMSProp(p, alpha=1.0)),
        ("lr_decay must be", lambda p: sciopt.AdaGrad(p, lr_decay=-1.0)),
        (
            "initial_accumulator_value must be",
            lambda p: sciopt.AdaGrad(p, initial_accumulator_value=-1),
        ),
        ("empty parameter list", lambda _: sciopt.Adam([])),
        ('engine must be one of "auto"', lambda p: sciopt.Adam(p, engine="quick")),
        ("no fused kernel", lambda p: sciopt.RMSProp(p, engine="fused")),
        ("no fused kernel", lambda p: sciopt.SGD(p, momentum=0.9, dampening=0.5, engine="fused")),
        (
            "device 'meta'",
            lambda p: sciopt.Adam([torch.empty_like(p[0], device="meta")], engine="fused"),
        ),
        ("projection", lambda p: sciopt.SGD(p, projection=sciopt.Box(0, 1), engine="fused")),
        ("one device and dtype", lambda p: sciopt.SGD([*p, p[0].detach().float()], engine="fused")),
        ("two rules of one", lambda p: sciopt.Composed(p, Gradient(), [SquareAverage(), Twice()])),
        (
            "can hold one SecondMoment",
            lambda p: sciopt.Composed(p, Gradient(), [SecondMoment()] * 3),
        ),
    ],
)
def test_what_cannot_be_is_refused(message: str, make: Make) -> None:
    with pytest.raises(ValueError, match=message):
        make(new_params()[:2])


class Constant(sciopt.Rate):
    """One, for the faulty rates below."""

    scope = sciopt.Scope.LAYER

    def rate(self, state: dict[str, Any], clock: Clock) -> Tensor:
        return torch.ones(())


class WithoutScope(sciopt.Rate):
    def rate(self, state: dict[str, Any], clock: Clock) -> Tensor:
        return torch.ones(())


class WithAnInit(Constant):
    def __init__(self, power: float):
        self.power = power


class OwnClock(Constant):
    def slots(self) -> dict[str, sciopt.Slot]:
        return {"step": sciopt.Slot(sciopt.Scope.MODEL)}


class ListeningWeight(Constant):
    @property
    def weights_loss(self) -> bool:
        return True

    def observe(self, signals: sciopt.Signals, state: dict[str, Any]) -> None:
        raise NotImplementedError


class UndeclaredClock(Constant):
    def rate(self, state: dict[str, Any], clock: Clock) -> Tensor:
        return torch.tensor(1 / clock.step)


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (WithoutScope(), TypeError, "WithoutScope has no scope; give it"),
        (WithAnInit(2.0), TypeError, "an __init__ of its own.*make it a @dataclass"),
        (OwnClock(), ValueError, '"step" is the clock.s name; OwnClock keeps another'),
        (ListeningWeight(), ValueError, "weights the loss.*without observe and survey"),
        (UndeclaredClock(), ValueError, 'reads the clock.*add "step": CLOCK to its slots'),
    ],
)
def test_a_faulty_rate_is_refused_with_what_to_do(
    rate: sciopt.Rate, error: type[Exception], message: str
) -> None:
    params = new_params()[:2]
    for param in params:
        param.grad = torch.ones_like(param)
    with pytest.raises(error, match=message):
        sciopt.Composed(params, Gradient(), [rate]).step()
    assert all(map(torch.equal, params, new_params()))


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (torch.ones(2, dtype=torch.int64), "floating-point, got torch.int64"),
        (torch.ones(2, dtype=torch.complex64), "optimise the real view of a complex one"),
        (torch.eye(2).to_sparse(), "dense.*torch.sparse_coo"),
    ],
    ids=["integers", "complex", "sparse"],
)
@pytest.mark.parametrize("engine", [*LIVES, COMPILED], ids=label)
def test_parameters_that_are_not_dense_real_numbers_are_refused(
    param: Tensor, message: str, engine: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=message):
        sciopt.Adam([param], **engine)


EXECUTIONS: list[Any] = [
    *LIVES,
    pytest.param(COMPILED, marks=compiles),
    {"on_nonfinite": "skip"},
    {"on_nonfinite": "raise"},
]


@pytest.mark.parametrize("keywords", EXECUTIONS, ids=label)
def test_a_sparse_gradient_is_refused_before_anything_moves(keywords: dict[str, Any]) -> None:
    """Though other parameters, and even other groups, come before it."""
    first = torch.ones(2, requires_grad=True)
    first.grad = torch.ones(2)
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    start = table.weight.detach().clone()
    optimizer = sciopt.Adam([{"params": [first]}, {"params": table.parameters()}], **keywords)
    with pytest.raises(TypeError, match=r"gradients must be dense.*sparse=False"):
        optimizer.step()
    assert torch.equal(first, torch.ones(2))
    assert torch.equal(table.weight, start)
    assert all(state["step"] == 0 for state in optimizer.state.values())
