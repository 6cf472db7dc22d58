"""A measurement leaves no trace: buffers and random streams are as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

BufferPlace = tuple[dict[str, Tensor | None], str, Tensor]


@contextmanager
def untouched(params: Sequence[Tensor]) -> Iterator[None]:
    """Modules called inside work on copies of their buffers; torch's random streams come back.

    The modules need not be known: hooks on all of them lend each a copy for the time of its call.
    The buffers themselves are never written, so that a graph that holds them stays valid. The
    streams are those of the host and of the CUDA devices of `params`.
    """
    copies: dict[Tensor, Tensor] = {}
    lent: list[list[BufferPlace]] = []

    def lend(module: torch.nn.Module, args: object) -> None:  # noqa: ARG001
        own = set(copies.values())
        lent.append(
            [
                (part._buffers, name, buffer)
                for part in module.modules()
                for name, buffer in part._buffers.items()
                if buffer is not None and buffer not in own
            ]
        )
        for buffers, name, buffer in lent[-1]:
            if buffer not in copies:
                copies[buffer] = buffer.detach().clone()
            buffers[name] = copies[buffer]

    def give_back(module: torch.nn.Module, args: object, output: object) -> None:  # noqa: ARG001
        for buffers, name, buffer in lent.pop():
            buffers[name] = buffer

    devices = sorted({param.device.index for param in params if param.is_cuda})
    hooks = (
        register_module_forward_pre_hook(lend),
        register_module_forward_hook(give_back, always_call=True),
    )
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for hook in hooks:
            hook.remove()
