"""Where the residual is trained: spread evenly, or where it is large."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from applications.pinn.embedding import stretched
from applications.pinn.language import Problem

Points = Float[Tensor, "points coordinates"]
Sampling = Literal["adaptive", "sobol", "uniform"]


def fundamental(problem: Problem) -> tuple[Tensor, Tensor]:
    """Lower and upper corner of the region without its mirror images."""
    ends = torch.tensor(list(problem.region.values()), dtype=torch.float64)
    for axis, name in enumerate(problem.region):
        if name in problem.symmetry:
            ends[axis, 0] = 0.0
    return ends[:, 0], ends[:, 1]


def placed(problem: Problem, unit: Points) -> Points:
    """Points of the unit cube in the region; half of them evenly in each stretched coordinate.

    Every other point is stretched around the layers, if the problem has any.
    """
    low, high = fundamental(problem)
    points = low + (high - low) * unit
    for axis, name in enumerate(problem.region):
        if name in problem.layers():
            position, width = problem.layers()[name]
            first, last = (stretched(end, position, width) for end in (low[axis], high[axis]))
            inside = position + width * torch.sinh(first + (last - first) * unit[1::2, axis])
            points[1::2, axis] = inside.clamp(low[axis], high[axis])
    return points


def spread(problem: Problem, count: int, sampling: Sampling, generator: torch.Generator) -> Points:
    """Points independent of any residual: a scrambled Sobol sequence, or random ones."""
    axes = len(problem.region)
    if sampling == "uniform":
        return placed(problem, torch.rand(count, axes, generator=generator, dtype=torch.float64))
    seed = int(torch.randint(2**31, (1,), generator=generator))
    sobol = torch.quasirandom.SobolEngine(axes, scramble=True, seed=seed)
    return placed(problem, sobol.draw(count, dtype=torch.float64))


def on_face(points: Points, face: tuple[int, float] | None) -> Points:
    """The points with one coordinate fixed."""
    if face is None:
        return points
    axis, value = face
    points = points.clone()
    points[:, axis] = value
    return points


def chances(residual_size: Float[Tensor, " points"], exponent: float) -> Float[Tensor, " points"]:
    """|residual|^exponent / mean + 1: half of the points are spread evenly.

    Source: Wu et al. (2023), "A comprehensive study of non-adaptive and residual-based adaptive
    sampling for physics-informed neural networks", section 2.3.
    """
    size = residual_size.double() ** exponent
    return size / size.mean().clamp(min=torch.finfo(torch.float64).tiny) + 1


def chosen(
    chance: Float[Tensor, " points"], count: int, generator: torch.Generator
) -> Int64[Tensor, " chosen"]:
    """Numbers of `count` points, drawn without replacement in proportion to their chances.

    They have the largest log chance plus Gumbel noise, which any device can sort.
    """
    noise = torch.rand(len(chance), generator=generator, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(noise.clamp(1e-300, 1 - 1e-16)))
    return (torch.log(chance) + gumbel.to(chance.device)).topk(count).indices
