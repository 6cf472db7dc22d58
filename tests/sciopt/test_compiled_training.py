"""Forward and backward passes compiled by torch, the step outside: the optimizer does not care."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_twins import (
    Make,
    Twin,
    compiles,
    lives,
    loss_of,
    new_inputs,
    new_network,
    positions,
    same_path,
    twins,
)

from sciopt import Composed, ExponentialAverage, Scope, SecondMoment
from sciopt.rates import InverseNorm

Engine = dict[str, Any]

pytestmark = compiles


@pytest.fixture(scope="module")
def compiled_loss() -> Any:
    """One compilation for all: the parameters are arguments, so that each test may own them."""

    def loss(weights: list[Tensor], inputs: Tensor) -> Tensor:
        hidden = torch.tanh(inputs @ weights[0].T + weights[1])
        return (torch.tanh(hidden @ weights[2].T + weights[3]) - 0.5).square().sum()

    return torch.compile(loss)


@lives
@twins
def test_a_compiled_closure_is_stepped_as_torchs(
    twin: Twin, engine: Engine, compiled_loss: Any
) -> None:
    def treat(make: Make) -> list[Tensor]:
        network, path = new_network(), []
        optimizer = make(network.parameters())

        def closure() -> Any:
            optimizer.zero_grad()
            loss = compiled_loss(list(network.parameters()), new_inputs(8, 3))
            loss.backward()
            return loss

        for _ in range(3):
            assert optimizer.step(closure) is not None
            path.append(positions(network.parameters()))
        return path

    same_path(twin, engine, treat)


# torch's compiler looks at the gradients of what is no leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_step_inside_a_compiled_iteration_is_left_as_it_is() -> None:
    """torch's compiler drops what is copied into a tensor without axes: state of a layer."""

    def path(iterations: int, compiled: bool) -> list[Tensor]:
        network, inputs = new_network(), new_inputs(8, 3)
        rates = [SecondMoment(), InverseNorm(Scope.LAYER)]
        optimizer = Composed(network.parameters(), ExponentialAverage(), rates, lr=0.05)

        def iterate() -> None:
            optimizer.zero_grad()
            loss_of(network, inputs).backward()
            optimizer.step()

        run = torch.compile(iterate) if compiled else iterate
        positions_passed = []
        for _ in range(iterations):
            run()
            positions_passed.append(positions(network.parameters()))
        return positions_passed

    torch.testing.assert_close(path(4, True), path(4, False), rtol=1e-12, atol=1e-13)
