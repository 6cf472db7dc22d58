"""On an accelerator: the engines agree with the host, and no step waits for the device."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._triton import has_triton
from torch_pairs import difference, gradients, new_params
from torch_twins import LIVES, compiles, label, new_inputs, new_network, positions

import sciopt
from sciopt import Composed, Scope
from sciopt.directions import ExponentialAverage, Gradient
from sciopt.rates import Confidence, InverseNorm, InverseTimeDecay, SecondMoment

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

Engine = dict[str, Any]
METHODS: dict[str, Callable[..., sciopt.Composed]] = {
    "SGD": lambda params, **k: sciopt.SGD(params, momentum=0.9, **k),
    "damped": lambda params, **k: sciopt.SGD(params, momentum=0.9, dampening=0.5, **k),
    "NormalizedSGD": sciopt.NormalizedSGD,
    "AdaGrad": lambda params, **k: sciopt.AdaGrad(params, lr_decay=0.1, **k),
    "RMSProp": lambda params, **k: sciopt.RMSProp(params, momentum=0.9, centered=True, **k),
    "Adam": sciopt.Adam,
    "AdamW": sciopt.AdamW,
    "AMSGrad": sciopt.AMSGrad,
    "Lion": sciopt.Lion,
    "LARS": sciopt.LARS,
    "Adam on a simplex": lambda params, **k: sciopt.Adam(
        [param for param in params if param.ndim and param.numel()],
        projection=sciopt.Simplex(),
        **k,
    ),
}
# What has layers or a last axis does not pack.
UNPACKED = ("LARS", "Adam on a simplex")
HOST: Engine = {"engine": "eager"}
COMPILED: Any = pytest.param(
    {"engine": "compiled"},
    marks=[*compiles, pytest.mark.skipif(not has_triton(), reason="compiling needs Triton")],
)
every_life = pytest.mark.parametrize("engine", [*LIVES, COMPILED], ids=label)


@pytest.fixture
def waiting_is_an_error() -> Iterator[Callable[[], None]]:
    """Called, any wait for the device raises RuntimeError until the test ends."""
    yield partial(torch.cuda.set_sync_debug_mode, "error")
    torch.cuda.set_sync_debug_mode("default")


def path(
    name: str,
    device: str,
    engine: Engine,
    *,
    forbid: Callable[[], None] = lambda: None,
    after: int = 0,
    spoiled: int | None = None,
) -> list[Tensor]:
    """The parameters after 20 steps, on the host; `forbid` is called `after` so many of them.

    The gradients of the step `spoiled` hold a NaN.
    """
    series = gradients(new_params(), 20)
    if spoiled is not None:
        series[spoiled][0][-1, -1] = float("nan")
    params = [param.detach().to(device).requires_grad_() for param in new_params()]
    optimizer = METHODS[name](params, **engine)
    on_device = [[grad.to(device) for grad in grads] for grads in series]
    for number, grads in enumerate(on_device):
        if number == after:
            forbid()
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    return [param.detach().cpu() for param in params]


@every_life
@pytest.mark.parametrize("name", METHODS)
def test_device_equals_host_without_waiting(
    name: str, engine: Engine, waiting_is_an_error: Callable[[], None]
) -> None:
    if "flat" in engine and name in UNPACKED:
        pytest.skip("does not pack")
    # To compile takes its time, in the first step and where a buffer is there to be compiled for.
    after = 2 if engine == {"engine": "compiled"} else 0
    device = path(name, "cuda", engine, forbid=waiting_is_an_error, after=after)
    assert difference(device, path(name, "cpu", HOST), new_params()) <= 1e-11


@every_life
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spoiled", [0, 7])
def test_a_step_is_left_out_without_waiting(
    name: str, engine: Engine, spoiled: int, waiting_is_an_error: Callable[[], None]
) -> None:
    """It is decided on the device, but where a rule has yet to begin its state."""
    if "flat" in engine and name in UNPACKED:
        pytest.skip("does not pack")
    skipping = {"on_nonfinite": "skip"}
    device = path(
        name,
        "cuda",
        engine | skipping,
        forbid=waiting_is_an_error,
        after=3 if name == "damped" or engine == {"engine": "compiled"} else 0,
        spoiled=spoiled,
    )
    host = path(name, "cpu", HOST | skipping, spoiled=spoiled)
    assert all(param.isfinite().all() for param in device)
    assert difference(device, host, new_params()) <= 1e-11


@pytest.mark.parametrize("name", ["SGD", "AdaGrad", "Adam", "AdamW", "AMSGrad"])
@pytest.mark.parametrize("flat", [False, True])
def test_torchs_kernels_are_used_on_the_device(name: str, flat: bool) -> None:
    device = path(name, "cuda", {"engine": "fused", "flat": flat})
    assert difference(device, path(name, "cpu", HOST), new_params()) <= 1e-11


@pytest.mark.parametrize("engine", LIVES, ids=label)
def test_publishing_waits_for_nothing(
    engine: Engine, waiting_is_an_error: Callable[[], None]
) -> None:
    ends = []
    for device in ("cuda", "cpu"):
        params = [param.detach().to(device) for param in new_params()]
        optimizer = Composed(params, Gradient(), [Confidence()], lr=0.1, **engine)
        values = [0.5, torch.tensor(0.3, dtype=torch.float64, device=device)]
        for param in params:
            param.grad = torch.ones_like(param)
        if device == "cuda":
            waiting_is_an_error()
        for value in values:
            optimizer.publish("confidence", value)
            optimizer.step()
        torch.cuda.set_sync_debug_mode("default")
        ends.append([param.cpu() for param in params])
    assert difference(ends[0], ends[1], new_params()) <= 1e-14


def composed(params: Any, **keywords: Any) -> Composed:
    rates = [SecondMoment(), InverseNorm(Scope.LAYER), InverseNorm(), InverseTimeDecay(0.1)]
    return Composed(params, ExponentialAverage(), rates, engine="eager", **keywords)


CAPTURED: dict[str, Callable[..., Composed]] = {
    "Adam": sciopt.Adam,
    "flat": partial(sciopt.Adam, flat=True),
    "flat-eager": partial(sciopt.Lion, flat=True, engine="eager"),
    "skipping": partial(sciopt.AdamW, on_nonfinite="skip"),
    "composed": composed,
}


@pytest.mark.parametrize("make", CAPTURED.values(), ids=CAPTURED)
def test_a_captured_iteration_goes_where_the_uncaptured_goes(
    make: Callable[..., Composed],
) -> None:
    """The clocks count on the device, so that each replay is another step."""
    ends = []
    batches = [(new_inputs(8, 3) + number).cuda() for number in range(10)]
    for captured in (True, False):
        network, inputs = new_network().cuda(), torch.empty_like(batches[0])
        optimizer = make(network.parameters(), lr=0.02)

        def iteration(network: Any = network, optimizer: Any = optimizer, batch: Any = inputs):
            optimizer.zero_grad()
            (network(batch) - 0.5).square().sum().backward()
            optimizer.step()

        # torch wants a few iterations on another stream before it captures one.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for batch in batches[:3]:
                inputs.copy_(batch)
                iteration()
        torch.cuda.current_stream().wait_stream(stream)
        once = iteration
        if captured:
            graph = torch.cuda.CUDAGraph()
            optimizer.zero_grad()
            with torch.cuda.graph(graph):
                iteration()
            once = graph.replay
        for batch in batches[3:]:
            inputs.copy_(batch)
            once()
        ends.append(positions(network.parameters()).cpu())
    torch.testing.assert_close(*ends, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("keywords", [{}, {"engine": "eager"}, {"on_nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("name", ["SGD", "NormalizedSGD", "Adam", "Lion", "LARS"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_model_may_lie_on_two_devices(name: str, keywords: Engine, groups: int) -> None:
    ends = []
    for places in (["cuda", "cpu"], ["cpu", "cpu"]):
        params = [param.detach().to(places[index % 2]) for index, param in enumerate(new_params())]
        parts = [{"params": params[::2]}, {"params": params[1::2]}]
        optimizer = METHODS[name](params if groups == 1 else parts, **keywords)
        for grads in gradients(new_params(), 5):
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad.to(param.device)
            optimizer.step()
        ends.append([param.cpu() for param in params])
    assert difference(ends[0], ends[1], new_params()) <= 1e-11


def test_a_host_run_continues_on_the_device() -> None:
    host, device = new_params(), [p.detach().cuda().requires_grad_() for p in new_params()]
    first, second = sciopt.Adam(host), sciopt.Adam(device)
    second.load_state_dict(first.state_dict())
    for grads in gradients(host, 5):
        for a, b, grad in zip(host, device, grads, strict=True):
            a.grad, b.grad = grad, grad.cuda()
        first.step()
        second.step()
    assert difference([p.detach().cpu() for p in device], host, new_params()) <= 1e-12
