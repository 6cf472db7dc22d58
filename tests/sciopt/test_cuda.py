"""On an accelerator: the engines agree with the host, and no step waits for the device."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch_pairs import difference, gradients, new_params

import sciopt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

METHODS: dict[str, Callable[..., sciopt.Composed]] = {
    "SGD": lambda params, **k: sciopt.SGD(params, momentum=0.9, **k),
    "NormalizedSGD": sciopt.NormalizedSGD,
    "AdaGrad": lambda params, **k: sciopt.AdaGrad(params, lr_decay=0.1, **k),
    "RMSProp": lambda params, **k: sciopt.RMSProp(params, momentum=0.9, centered=True, **k),
    "Adam": sciopt.Adam,
    "AdamW": sciopt.AdamW,
    "AMSGrad": sciopt.AMSGrad,
    "Adam on a simplex": lambda params, **k: sciopt.Adam(
        [param for param in params if param.ndim and param.numel()],
        projection=sciopt.Simplex(),
        **k,
    ),
}


@pytest.fixture
def waiting_is_an_error() -> Iterator[Callable[[str], None]]:
    yield torch.cuda.set_sync_debug_mode
    torch.cuda.set_sync_debug_mode("default")


def path(name: str, device: str, engine: str, before_steps: Callable[[], None]) -> list[Tensor]:
    """The parameters after 20 steps, on the host."""
    series = gradients(new_params(), 20)
    params = [param.detach().to(device).requires_grad_() for param in new_params()]
    optimizer = METHODS[name](params, engine=engine)
    on_device = [[grad.to(device) for grad in grads] for grads in series]
    before_steps()
    for grads in on_device:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    return [param.detach().cpu() for param in params]


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("name", METHODS)
def test_device_equals_host_without_waiting(
    name: str, engine: str, waiting_is_an_error: Callable[[str], None]
) -> None:
    host = path(name, "cpu", "eager", lambda: None)
    device = path(name, "cuda", engine, lambda: waiting_is_an_error("error"))
    assert difference(device, host, new_params()) <= 1e-12


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "AMSGrad"])
def test_torchs_kernels_are_used_on_the_device(name: str) -> None:
    path(name, "cuda", "fused", lambda: None)


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
