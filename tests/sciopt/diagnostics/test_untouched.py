"""No instrument leaves a trace."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import sciopt
from sciopt.diagnostics import (
    dead_and_saturated_units,
    effective_rates,
    fisher_diagonal,
    gradient_noise_scale,
    hessian_trace,
    stability_edge,
    top_hessian_eigenvalues,
)
from sciopt.diagnostics.untouched import untouched


class Training:
    """A network with batch norm, dropout and spectral norm in the middle of its training."""

    def __init__(self):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.utils.parametrizations.spectral_norm(nn.Linear(3, 5)),
                nn.BatchNorm1d(5),
                nn.Tanh(),
                nn.Dropout(0.5),
                nn.Linear(5, 1),
            )
            self.frozen = nn.Sequential(self.network, nn.Identity())
            self.inputs, self.targets = torch.randn(12, 3), torch.randn(12, 1)
        self.optimizer = sciopt.Adam(self.network.parameters(), lr=1e-2)
        for _ in range(3):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()

    def loss(self) -> Tensor:
        return mse_loss(self.frozen(self.inputs), self.targets)

    def params(self) -> list[Tensor]:
        return list(self.network.parameters())


def fisher(training: Training) -> None:
    training.network[1].eval()
    fisher_diagonal(training.network, mse_loss, training.inputs, training.targets)


INSTRUMENTS = {
    "eigenvalues": lambda t: top_hessian_eigenvalues(t.loss, t.params(), 2),
    "trace": lambda t: hessian_trace(t.loss, t.params(), 3),
    "fisher": fisher,
    "edge": lambda t: stability_edge(t.optimizer, t.loss),
    "noise": lambda t: gradient_noise_scale(lambda _: t.loss(), t.params(), [0, 1, 2], 12),
    "units": lambda t: dead_and_saturated_units(t.network, t.inputs),
    "rates": lambda t: effective_rates(t.optimizer),
}


def everything(training: Training) -> list[Any]:
    """All that could have been touched, with the identity and version of every tensor."""
    tensors = [*training.network.parameters(), *training.network.buffers()]
    grads = [param.grad for param in training.network.parameters()]
    modes = [module.training for module in training.network.modules()]
    states = training.optimizer.state.values()
    kept = [*tensors, *grads, *(value for state in states for value in state.values())]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in training.network.modules()]
    return [
        [(id(tensor), tensor._version, tensor.tolist()) for tensor in kept],
        modes,
        hooks,
        torch.get_rng_state().tolist(),
        len(nn.modules.module._global_forward_hooks),
        len(nn.modules.module._global_forward_pre_hooks),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("grad_enabled", [True, False])
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_nothing_is_touched(name: str, grad_enabled: bool):
    training = Training()
    if name == "fisher":
        training.network[1].eval()
    with torch.set_grad_enabled(grad_enabled):
        before = copy.deepcopy(everything(training))
        INSTRUMENTS[name](training)
        assert everything(training) == before


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_training_goes_on_bit_for_bit_with_a_graph_that_was_pending(name: str):
    def losses(measure: bool) -> list[float]:
        torch.manual_seed(1)
        training = Training()
        if name == "fisher":
            training.network[1].eval()
        values = []
        for _ in range(4):
            training.optimizer.zero_grad()
            loss = training.loss()
            if measure:
                INSTRUMENTS[name](training)
            loss.backward()
            training.optimizer.step()
            values.append(loss.item())
        return values

    with torch.random.fork_rng([]):
        assert losses(measure=True) == losses(measure=False)


def test_a_loss_that_raises_leaves_nothing_behind():
    training = Training()
    before = copy.deepcopy(everything(training))

    def broken() -> Tensor:
        training.loss()
        return training.network(torch.zeros(12, 7)).sum()

    with pytest.raises(RuntimeError):
        top_hessian_eigenvalues(broken, training.params())
    assert everything(training) == before


def test_buffers_of_one_call_are_seen_by_the_next_and_ties_are_kept():
    norm = nn.BatchNorm1d(1, momentum=1.0)
    twin = nn.BatchNorm1d(1, momentum=1.0)
    twin._buffers["running_mean"] = norm.running_mean
    original = norm.running_mean
    with untouched([]):
        norm(torch.tensor([[3.0], [5.0]]))
        twin.eval()
        assert twin(torch.tensor([[4.0]])).item() == 0.0
        assert norm.running_mean is original
    assert original is not None
    assert original.item() == 0.0
    norm(torch.tensor([[3.0], [5.0]]))
    assert original.item() == 4.0


def test_functional_calls_keep_their_own_buffers():
    norm = nn.BatchNorm1d(1, momentum=1.0)
    own = dict(norm.named_buffers())
    given = {name: value.clone() + 1 for name, value in own.items()}
    with untouched([]):
        torch.func.functional_call(norm, given, (torch.tensor([[3.0], [5.0]]),))
    assert all(norm._buffers[name] is own[name] for name in own)
    assert given["running_mean"].item() == 1.0


@pytest.mark.gpu
def test_nothing_is_touched_on_an_accelerator():
    generator = torch.Generator("cuda").manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))
    network.cuda()
    inputs = torch.randn(8, 3, device="cuda", generator=generator)
    before = torch.cuda.get_rng_state(), [value.tolist() for value in network.state_dict().values()]
    for stream in (None, generator):
        found = top_hessian_eigenvalues(
            lambda: network(inputs).square().mean(), network.parameters(), 2, generator=stream
        )
        assert found.vectors[0][0].device.type == "cuda"
    hessian_trace(
        lambda: network(inputs).square().mean(), network.parameters(), generator=generator
    )
    after = torch.cuda.get_rng_state(), [value.tolist() for value in network.state_dict().values()]
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
