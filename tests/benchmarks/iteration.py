"""A whole iteration of a small network, closure and step: call by call, and as one CUDA graph.

The network meets the residual of Burgers' equation, u_t + u u_x = 0.01/pi u_xx, whose second
derivative is a backward pass through a backward pass: some hundred kernels, each of which takes
longer to launch than to run. A graph launches them all at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

import sciopt
from tests.benchmarks.race import Bar, Row, judge

WARM_UP = 3
TORCH = "torch"


@dataclass(frozen=True)
class Contestant:
    """An optimizer class with its settings, whose iteration is called or captured as a graph."""

    name: str
    optimizer: Callable[..., torch.optim.Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    graph: bool = False
    bars: tuple[Bar, ...] = ()


CALLED = [
    Contestant(TORCH, Adam),
    Contestant("torch fused", Adam, {"fused": True}),
    Contestant("sciopt", sciopt.Adam),
    Contestant("sciopt flat", sciopt.Adam, {"flat": True}),
]

CAPTURED = [
    Contestant("torch fused, one graph", Adam, {"fused": True, "capturable": True}, graph=True),
    Contestant("sciopt, one graph", sciopt.Adam, graph=True, bars=(Bar(TORCH, 1 / 5),)),
]


class Iteration:
    """A contestant's network and optimizer after `WARM_UP` iterations, from the same start."""

    def __init__(self, contestant: Contestant, dtype: torch.dtype, device: str, points: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = nn.Linear(2, 52), nn.Tanh(), nn.Linear(52, 52), nn.Tanh(), nn.Linear(52, 1)
            inputs = torch.rand(points, 2)
        self.network = nn.Sequential(*layers).to(device, dtype)
        self.points = inputs.to(device, dtype).requires_grad_()
        self.optimizer = contestant.optimizer(self.network.parameters(), **contestant.settings)
        if contestant.graph:
            self.advance = self._captured().replay
        else:
            self.advance = self._called
            for _ in range(WARM_UP):
                self.advance()

    def _called(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = residual_loss(self.network, self.points)
        # Not into the points, which ask for gradients too.
        loss.backward(inputs=list(self.network.parameters()))
        self.optimizer.step()

    def _captured(self) -> torch.cuda.CUDAGraph:
        """The iteration as "Whole-network capture" of torch's notes on CUDA semantics has it.

        Warmed up and captured on one stream, because autograd remembers the stream that a
        parameter was first used on.
        """
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._called()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # The gradients of the warm-up go first: those of the graph come from its own memory.
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph, stream=stream):
            self._called()
        return graph

    def arrived(self) -> Tensor:
        """All parameters end to end."""
        return torch.cat([param.detach().reshape(-1) for param in self.network.parameters()])

    def lap(self, iterations: int) -> float:
        """Mean seconds of an iteration, none waited for but the last."""
        self._wait()
        begin = time.perf_counter()
        for _ in range(iterations):
            self.advance()
        self._wait()
        return (time.perf_counter() - begin) / iterations

    def _wait(self) -> None:
        if self.points.is_cuda:
            torch.cuda.synchronize()


def residual_loss(network: nn.Module, points: Tensor) -> Tensor:
    """Mean squared residual of Burgers' equation at points (x, t)."""
    u = network(points)
    (first,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    u_x, u_t = first.unbind(1)
    (second,) = torch.autograd.grad(u_x.sum(), points, create_graph=True)
    return (u_t + u[:, 0] * u_x - 0.01 / math.pi * second[:, 0]).square().mean()


def check(contestants: list[Contestant], device: str) -> None:
    """Assert that all go torch's way: in float64, where rounding does not part them."""
    paths = [Iteration(each, torch.float64, device, points=20) for each in contestants]
    start = paths[0].arrived()
    for _ in range(10):
        for path in paths:
            path.advance()
    moved = (paths[0].arrived() - start).abs().amax().item()
    assert moved > 0, "no parameter moved: no-ops would be timed"
    for contestant, path in zip(contestants, paths, strict=True):
        apart = (path.arrived() - paths[0].arrived()).abs().amax().item() / moved
        assert apart <= 1e-9, f"{contestant.name} is {apart:.1e} away from {TORCH}"


def race_iterations(
    case: str, *, device: str, points: int, rounds: int, iterations: int
) -> list[Row]:
    """One row per contestant: laps of `iterations` by turns, the fastest and the median of them."""
    contestants = CALLED if device == "cpu" else [*CALLED, *CAPTURED]
    check(contestants, device)
    at_work = [Iteration(each, torch.float32, device, points) for each in contestants]
    laps: list[list[float]] = [[] for _ in at_work]
    for turn in range(rounds):
        for place in range(len(at_work)):
            index = (turn + place) % len(at_work)
            laps[index].append(at_work[index].lap(iterations))
    rows = [
        Row(case, each.name, fastest=min(of_each), median=median(of_each))
        for each, of_each in zip(contestants, laps, strict=True)
    ]
    judge(rows, [each.bars for each in contestants])
    return rows
