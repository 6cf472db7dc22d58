"""L-BFGS: the compact representation, precision, and what a step costs in evaluations."""

from itertools import pairwise

import pytest
import torch
from closure_optimizers import Regression, descend
from torch import Tensor

from sciopt.curvature.lbfgs import LBFGS


def two_loops(pairs: list[tuple[Tensor, Tensor]], gradient: Tensor) -> Tensor:
    """H g by Nocedal & Wright (2006), algorithm 7.4."""
    q, weights = gradient.clone(), []
    for s, y in reversed(pairs):
        weights.append(s @ q / (s @ y))
        q -= weights[-1] * y
    s, y = pairs[-1]
    q *= s @ y / (y @ y)
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - y @ q / (s @ y)) * s
    return q


@pytest.mark.parametrize("memory", [1, 3, 7, 30])
def test_the_direction_is_that_of_the_two_loop_recursion(memory: int) -> None:
    task = Regression()
    optimizer = LBFGS(task.params, memory=memory)
    points = []
    for _ in range(20):
        descend(optimizer, task.loss, task.params, 1)
        loss = task.loss()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, task.params)])
        points.append((torch.cat([p.detach().flatten() for p in task.params]), gradient))
        steps = pairwise(points)
        pairs = [(x - x_before, g - g_before) for (x_before, g_before), (x, g) in steps]
        if not pairs:
            # The very first pair leads here from a point that was not kept.
            optimizer = LBFGS(task.params, memory=memory)
            continue
        expected = -two_loops(pairs[-memory:], gradient)
        actual = optimizer._direction(gradient)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-8 * float(expected.norm()))


def test_single_precision_goes_on_where_torch_stops() -> None:
    task, torchs = Regression(torch.float32, width=20), Regression(torch.float32, width=20)
    optimizer = LBFGS(task.params)
    losses = descend(optimizer, task.loss, task.params, 600)
    assert len(losses) == 600

    reference = torch.optim.LBFGS(
        torchs.params,
        max_iter=600,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )

    def closure() -> Tensor:
        reference.zero_grad()
        loss = torchs.loss()
        loss.backward()
        return loss

    reference.step(closure)
    assert losses[-1] < 0.5 * torchs.loss().item()
