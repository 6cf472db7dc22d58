"""Representative compositions and the torch optimizers that do the same, to be treated alike.

A treatment takes a maker of optimizers, gives it a life (hooks, groups, closures) and returns the
path of the parameters; `same_path` says that ours and torch's are one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

import sciopt
from sciopt.directions import Momentum
from sciopt.rates import InverseTimeDecay

Make = Callable[..., Optimizer]
Treatment = Callable[[Make], Any]

# Whatever executes a step must pass all tests that use this list.
ENGINES: list[dict[str, Any]] = [{"engine": "auto"}, {"engine": "eager"}]

# What may not move parameters in memory is left to ENGINES.
LIVES: list[dict[str, Any]] = [*ENGINES, {"flat": True}, {"flat": True, "engine": "eager"}]

COMPILED: dict[str, Any] = {"engine": "compiled"}
compiles = [
    pytest.mark.skipif(
        not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="compiling needs C++"
    ),
    # torch's compiler warns of torch's own modules when it is imported.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    # All tests of a session compile in one process.
    pytest.mark.filterwarnings("ignore:the compiled engine has compiled:RuntimeWarning"),
]


def label(keywords: Mapping[str, Any]) -> str:
    """The execution in a word: auto, flat, flat-eager."""
    return "-".join(key if value is True else str(value) for key, value in keywords.items())


engines = pytest.mark.parametrize("engine", ENGINES, ids=label)
lives = pytest.mark.parametrize(
    "engine", [*LIVES, pytest.param(COMPILED, marks=[*compiles, pytest.mark.slow])], ids=label
)


class Written(Optimizer):
    """Gradient descent written out: momentum, the model's gradient norm, a slowing clock."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        lr_decay: float = 0.0,
        normalized: bool = False,
    ):
        defaults = {"lr": lr, "momentum": momentum, "lr_decay": lr_decay}
        super().__init__(params, defaults | {"normalized": normalized})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norm = sum(grad.double().square().sum().item() for grad in grads if grad is not None) ** 0.5
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None or (group["normalized"] and norm == 0):
                    continue
                state = self.state[param]
                rate = 1 / (1 + state.get("step", 0) * group["lr_decay"])
                rate = rate / norm if group["normalized"] else rate
                buffer = group["momentum"] * state.get("buffer", 0) + param.grad
                param -= group["lr"] * rate * buffer
                state.update(step=state.get("step", 0) + 1, buffer=buffer)
        return loss


def boxed(params: Any, **keywords: Any) -> Optimizer:
    """Torch's AdamW whose parameters are clamped after each step."""
    optimizer = torch.optim.AdamW(params, **keywords)

    def clamp(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.data.clamp_(-0.3, 0.3)

    optimizer.register_step_post_hook(clamp)
    return optimizer


def slowing(params: Any, momentum: float = 0.9, lr_decay: float = 0.3, **k: Any) -> Optimizer:
    """Momentum and a rate with one number per layer."""
    return sciopt.Composed(params, Momentum(momentum), [InverseTimeDecay(lr_decay)], **k)


class Twin(NamedTuple):
    """Ours and the oracle, which takes the same settings and has the same defaults."""

    ours: Make
    theirs: Make


TWINS: dict[str, Twin] = {
    "Adam": Twin(sciopt.Adam, torch.optim.Adam),
    "SGD": Twin(partial(sciopt.SGD, momentum=0.9), partial(torch.optim.SGD, momentum=0.9)),
    "RMSProp": Twin(
        partial(sciopt.RMSProp, momentum=0.9, centered=True),
        partial(torch.optim.RMSprop, momentum=0.9, centered=True),
    ),
    "AdamW-in-a-box": Twin(partial(sciopt.AdamW, projection=sciopt.Box(-0.3, 0.3)), boxed),
    "NormalizedSGD": Twin(sciopt.NormalizedSGD, partial(Written, normalized=True)),
    "slowing": Twin(slowing, partial(Written, momentum=0.9, lr_decay=0.3)),
}
twins = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
TORCHS = {name: TWINS[name] for name in ("Adam", "SGD", "RMSProp")}
torchs = pytest.mark.parametrize("twin", TORCHS.values(), ids=TORCHS)
"""Those whose oracle is a class of torch as it is."""


def same_path(
    twin: Twin, engine: dict[str, Any], treat: Treatment, lr: float | Tensor = 0.02
) -> None:
    """Both, treated alike, go the same way to round-off of float64."""
    ours = treat(partial(twin.ours, lr=lr, **engine))
    theirs = treat(partial(twin.theirs, lr=lr))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """The network in float64, every parameter the same noise each time."""
    generator = torch.Generator().manual_seed(0)
    network.double()
    with torch.no_grad():
        for param in network.parameters():
            noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
            param.copy_(0.3 * noise)
    return network


def new_network() -> torch.nn.Sequential:
    """Two layers, always the same numbers."""
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2), torch.nn.Tanh()
    )
    fill(network)
    return network


def new_inputs(*shape: int) -> Tensor:
    """Noise, always the same."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def loss_of(network: Callable[..., Tensor], inputs: Tensor | None = None) -> Tensor:
    """A loss that no method minimises in the few steps of a test."""
    outputs = network(new_inputs(8, 3) if inputs is None else inputs)
    return (outputs - torch.linspace(-1, 1, outputs.shape[-1], dtype=outputs.dtype)).square().sum()


def positions(params: Any) -> Tensor:
    """All parameters as one vector, copied."""
    return torch.cat([param.detach().reshape(-1) for param in params])


def descend(
    network: torch.nn.Module,
    optimizer: Optimizer,
    steps: int = 4,
    *,
    inputs: Tensor | None = None,
    before_step: Callable[[], Any] = lambda: None,
    after_step: Callable[[], Any] = lambda: None,
) -> list[Tensor]:
    """The network's parameters after each step."""
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(network, inputs).backward()
        before_step()
        optimizer.step()
        after_step()
        path.append(positions(network.parameters()))
    return path


def follow(
    optimizer: Optimizer, params: Sequence[Tensor], series: Sequence[Sequence[Tensor | None]]
) -> list[Tensor]:
    """The parameters after a step for each list of gradients."""
    path = []
    for grads in series:
        for param, grad in zip(params, grads, strict=True):
            param.grad = None if grad is None else grad.clone()
        optimizer.step()
        path.append(positions(params))
    return path
