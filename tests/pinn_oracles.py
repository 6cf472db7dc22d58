"""A network of `applications.pinn` written out again as torch has it, and nested autograd."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from applications.pinn.embedding import Embedding
from applications.pinn.language import Problem
from applications.pinn.network import MLP
from applications.pinn.torch_func import Network

Function = Callable[[Tensor], Tensor]
"""Of points, one in each row, with the unknowns in columns."""


def derivative(function: Function, points: Tensor, index: Sequence[int]) -> Tensor:
    """A derivative of each unknown at each point, by autograd of autograd."""
    points = points.detach().clone().requires_grad_()
    columns = []
    for value in function(points).unbind(1):
        for axis, order in enumerate(index):
            for _ in range(order):
                (gradient,) = torch.autograd.grad(value.sum(), points, create_graph=True)
                value = gradient[:, axis]
        columns.append(value)
    return torch.stack(columns, dim=1)


def seen(embedding: Embedding, points: Tensor) -> Tensor:
    """The features of each point."""
    problem = embedding.problem
    columns = []
    for x, (name, (low, high)) in zip(points.unbind(1), problem.region.items(), strict=True):
        if name in problem.periodic:
            for k in range(1, embedding.harmonics + 1):
                angle = 2 * math.pi * k * x / (high - low)
                columns += [torch.cos(angle), torch.sin(angle)]
            continue
        middle = 0.0 if name in problem.symmetry else (low + high) / 2
        columns.append(embedding.scales[name] * (x - middle))
        if name in problem.layers():
            position, width = problem.layers()[name]
            ends = [math.asinh((end - position) / width) for end in (low, high)]
            columns.append(torch.asinh((x - position) / width) - sum(ends) / 2)
    features = torch.stack(columns, dim=1)
    if embedding.frequencies is None:
        return features
    waves = features @ embedding.frequencies
    return torch.cat([features, torch.sin(waves), torch.cos(waves)], dim=1)


def torch_network(network: Network, params: Tensor) -> torch.nn.Sequential:
    """The same layers as torch's own modules, the params copied."""

    class Sine(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x)

    assert isinstance(network, MLP), "layers of torch's own need no others"
    modules: list[torch.nn.Module] = []
    rest = params
    for rows, columns in itertools.pairwise(network.sizes):
        linear = torch.nn.Linear(rows, columns, dtype=params.dtype)
        weight, bias, rest = rest.split([rows * columns, columns, len(rest) - (rows + 1) * columns])
        with torch.no_grad():
            linear.weight.copy_(weight.reshape(rows, columns).T)
            linear.bias.copy_(bias)
        modules += [linear, torch.nn.Tanh() if network.activation == "tanh" else Sine()]
    return torch.nn.Sequential(*modules[:-1])


def mirrored(problem: Problem, function: Function) -> Function:
    """The mean over all reflections, those in odd coordinates with their sign."""
    names = list(problem.region)

    def symmetric(points: Tensor) -> Tensor:
        images = []
        for flips in itertools.product([1.0, -1.0], repeat=len(problem.symmetry)):
            signs, factor = torch.ones(len(names), dtype=points.dtype), 1.0
            for sign, (name, parity) in zip(flips, problem.symmetry.items(), strict=True):
                signs[names.index(name)] = sign
                factor *= sign if parity == "odd" else 1.0
            images.append(factor * function(points * signs))
        return torch.stack(images).mean(0)

    return symmetric


def lifted(problem: Problem, function: Function) -> Function:
    """Offset + factor times the function, in the unknowns' units."""
    sizes = [problem.magnitudes.get(name, 1.0) for name in problem.unknowns]

    def solution(points: Tensor) -> Tensor:
        values, lift = function(points), problem.lift(*points.unbind(1))
        if lift is not None:
            pairs = lift if len(problem.unknowns) > 1 else [lift]
            parts = [
                offset + factor * value
                for (offset, factor), value in zip(pairs, values.unbind(1), strict=True)
            ]
            values = torch.stack(parts, dim=1)
        return values * values.new_tensor(sizes)

    return solution


def solution_of(problem: Problem, embedding: Embedding, layers: torch.nn.Module) -> Function:
    """What a network of these layers says of the problem's unknowns."""
    return lifted(problem, mirrored(problem, lambda points: layers(seen(embedding, points))))
