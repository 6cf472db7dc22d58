"""What an optimizer holds: torch's own state and no second copy of parameters or gradients."""

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_twins import Make, Twin, descend, engines, follow, lives, loss_of, new_network

import sciopt

Engine = dict[str, Any]
Contents = dict[str, tuple[torch.Size, torch.dtype, torch.device]]

METHODS: dict[str, Twin] = {
    "SGD": Twin(sciopt.SGD, torch.optim.SGD),
    "SGD-momentum": Twin(
        partial(sciopt.SGD, momentum=0.9, dampening=0.5),
        partial(torch.optim.SGD, momentum=0.9, dampening=0.5),
    ),
    "AdaGrad": Twin(sciopt.AdaGrad, torch.optim.Adagrad),
    "RMSProp": Twin(sciopt.RMSProp, torch.optim.RMSprop),
    "RMSProp-all": Twin(
        partial(sciopt.RMSProp, momentum=0.9, centered=True),
        partial(torch.optim.RMSprop, momentum=0.9, centered=True),
    ),
    "Adam": Twin(sciopt.Adam, torch.optim.Adam),
    "AdamW": Twin(sciopt.AdamW, torch.optim.AdamW),
    "AMSGrad": Twin(sciopt.AMSGrad, partial(torch.optim.Adam, amsgrad=True)),
}
methods = pytest.mark.parametrize("twin", METHODS.values(), ids=METHODS)


def contents(optimizer: Optimizer) -> list[Contents]:
    """Shape, dtype and device of all that is kept, by parameter and name."""
    return [
        {name: (value.shape, value.dtype, value.device) for name, value in kept.items()}
        for kept in optimizer.state_dict()["state"].values()
    ]


@pytest.fixture(autouse=True)
def only_new_objects() -> Iterator[None]:
    """Hides what the test did not make from the garbage collector."""
    gc.freeze()
    yield
    gc.unfreeze()


def live_bytes() -> int:
    """Bytes of all storages that some new tensor refers to."""
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if type(each) in (Tensor, torch.nn.Parameter):
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@lives
@methods
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_state_is_exactly_torchs(twin: Twin, engine: Engine, dtype: torch.dtype) -> None:
    kept = []
    for make in (partial(twin.ours, **engine), twin.theirs):
        params = [torch.ones(shape, dtype=dtype) for shape in [(5, 3), (4,), (), (0, 2)]]
        optimizer = make(params)
        follow(optimizer, params, [[torch.ones_like(param) for param in params]] * 2)
        kept.append(contents(optimizer))
    assert kept[0] == kept[1] or (kept[0], kept[1]) == ([{}] * 4, [])


# Not flat, which copies the gradients into a buffer that stays.
@engines
@methods
def test_steps_leave_no_more_behind_than_torchs(twin: Twin, engine: Engine) -> None:
    grown = []
    for make in (partial(twin.ours, **engine), twin.theirs):
        params = [torch.ones(100, 100), torch.ones(1000)]
        grads = [torch.ones_like(param) for param in params]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        before = live_bytes()
        optimizer = make(params)
        for _ in range(3):
            optimizer.step()
        grown.append(live_bytes() - before)
        del optimizer
    # A handful of scalars: a rate of one, a clock.
    assert abs(grown[0] - grown[1]) < 100


@lives
@methods
def test_the_optimizer_and_its_gradients_are_freed(twin: Twin, engine: Engine) -> None:
    """Nothing keeps a gradient that was set to None, or an optimizer that went out of use."""
    network = new_network()
    optimizer = twin.ours(network.parameters(), **engine)
    descend(network, optimizer, 2)
    grads = [weakref.ref(param.grad) for param in network.parameters() if param.grad is not None]
    moments = [weakref.ref(value) for kept in optimizer.state.values() for value in kept.values()]
    optimizer.zero_grad()
    gc.collect()
    assert len(grads) == 4
    assert all(grad() is None for grad in grads)
    del optimizer
    gc.collect()
    assert all(moment() is None for moment in moments)


@lives
@methods
def test_parameters_stay_where_they_are(twin: Twin, engine: Engine) -> None:
    """Their memory is written in place: views, shared memory and captured pointers stay good."""
    network = new_network()
    optimizer = twin.ours(network.parameters(), lr=0.1, **engine)
    before = [param.data_ptr() for param in network.parameters()]
    weight = next(network.parameters())
    view, start = weight.detach()[0], weight.detach()[0].clone()
    descend(network, optimizer, 2)
    assert [param.data_ptr() for param in network.parameters()] == before
    assert torch.equal(view, weight.detach()[0])
    assert not torch.equal(view, start)


@lives
@methods
def test_a_graph_that_needs_the_old_parameters_notices(twin: Twin, engine: Engine) -> None:
    def stale(make: Make) -> None:
        network = new_network()
        optimizer = make(network.parameters())
        loss = loss_of(network)
        loss.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    checks: list[Callable[..., Optimizer]] = [partial(twin.ours, **engine), twin.theirs]
    for make in checks:
        stale(make)
