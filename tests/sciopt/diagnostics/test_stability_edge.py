"""The edge against closed forms, and against runs on both sides of it."""

import numpy as np
import pytest
import torch
from torch import Tensor

import sciopt
from sciopt import Composed, ExponentialAverage, Gradient, Momentum
from sciopt.diagnostics import stability_edge
from sciopt.diagnostics.effective_rates import step_sizes

CURVATURES = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)
EDGES = {
    "gradient": (Gradient(), 2.0),
    "heavy ball": (Momentum(0.9), 3.8),
    "damped": (Momentum(0.5, dampening=0.25), 4.0),
    "nesterov": (Momentum(0.9, nesterov=True), 3.8 / 2.8),
    "average": (ExponentialAverage(0.9), 38.0),
    "average 0.5": (ExponentialAverage(0.5), 6.0),
    "momentum after rates": (Momentum(0.9, after_rates=True), 3.8),
}


def bowl(rotated: bool) -> Tensor:
    if not rotated:
        return torch.diag(CURVATURES)
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    return basis @ torch.diag(CURVATURES) @ basis.T


def descend(optimizer: Composed, x: Tensor, matrix: Tensor, steps: int) -> None:
    for _ in range(steps):
        x.grad = matrix @ x.detach()
        optimizer.step()


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("name", EDGES)
def test_one_percent_below_converges_and_one_percent_above_diverges(
    name: str, weight_decay: float, decoupled: bool
):
    direction, edge = EDGES[name]
    matrix = bowl(rotated=True)
    for factor in (0.99, 1.01):
        # Solve lr (L + decay) = edge, or lr L = edge (1 - lr decay / 2) decoupled, for lr.
        top = 10 + weight_decay * (edge / 2 if decoupled else 1)
        x = torch.ones(3, dtype=torch.float64, requires_grad=True)
        optimizer = Composed(
            [x],
            direction,
            lr=factor * edge / top,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled,
        )
        descend(optimizer, x, matrix, 1)
        found = stability_edge(optimizer, lambda x=x: x @ matrix @ x / 2)
        expected = edge * (1 - decoupled * factor * edge / top * weight_decay / 2)
        assert found.edge == pytest.approx(expected, rel=1e-14)
        assert found.sharpness == pytest.approx(
            factor * edge / top * (10 + (not decoupled) * weight_decay), rel=1e-9
        )
        assert (found.ratio < 1) == (factor < 1)
        descend(optimizer, x, matrix, 1500)
        size = float(x.detach().norm())
        assert size < 1e-6 if factor < 1 else size > 1e3


@pytest.mark.parametrize("rotated", [False, True])
def test_preconditioned_sharpness_is_that_of_the_dense_matrices(rotated: bool):
    matrix = bowl(rotated)
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    y = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = sciopt.Adam(
        [{"params": [x]}, {"params": [y], "lr": 0.5, "weight_decay": 0.0}],
        lr=0.1,
        weight_decay=0.3,
    )

    def loss() -> Tensor:
        return x @ matrix @ x / 2 + y * x.sum() + y**4

    for _ in range(5):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    sizes = step_sizes(optimizer)
    roots = torch.diag(torch.cat([sizes[x], sizes[y].reshape(1)]).sqrt())
    dense = torch.zeros(4, 4, dtype=torch.float64)
    dense[:3, :3] = matrix + 0.3 * torch.eye(3, dtype=torch.float64)
    dense[3, :3] = dense[:3, 3] = 1.0
    dense[3, 3] = 12 * y.item() ** 2
    expected = torch.linalg.eigvalsh(roots @ dense @ roots)[-1].item()
    found = stability_edge(optimizer, loss)
    assert found.sharpness == pytest.approx(expected, rel=1e-10)
    assert found.edge == pytest.approx(38)


def test_adam_near_its_minimum_turns_unstable_at_38():
    # Where eps outweighs the gradients the rates stand still, at 1 / eps.
    matrix = bowl(rotated=True)
    for factor in (0.99, 1.01):
        x = torch.full((3,), 1e-30, dtype=torch.float64, requires_grad=True)
        optimizer = sciopt.Adam([x], lr=factor * 3.8, eps=1.0)
        descend(optimizer, x, matrix * 0, 400)  # until no bias is left to correct
        found = stability_edge(optimizer, lambda x=x: x @ matrix @ x / 2)
        assert found.ratio == pytest.approx(factor, rel=1e-9)
        descend(optimizer, x, matrix, 300)
        size = float(x.detach().norm())
        assert size < 1e-34 if factor < 1 else size > 1e-12


def test_a_maximised_loss_is_turned_over():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    matrix = bowl(rotated=False)
    optimizer = sciopt.SGD([x], lr=0.1, maximize=True, weight_decay=0.5)
    descend(optimizer, x, -matrix, 1)
    found = stability_edge(optimizer, lambda: -x @ matrix @ x / 2)
    assert found.sharpness == pytest.approx(1.05)


def test_what_has_no_closed_form_is_refused():
    x = torch.ones(3, requires_grad=True)
    y = torch.ones(3, requires_grad=True)

    class Sign(sciopt.Direction):
        def direction(self, vector, signals, state):
            return vector.sign()

    def edge_of(optimizer: Composed) -> None:
        stability_edge(optimizer, lambda: (x * y).sum())

    with pytest.raises(ValueError, match=r"no closed-form edge is known for .*Sign"):
        edge_of(Composed([x, y], Sign()))
    with pytest.raises(ValueError, match="edges differ"):
        edge_of(sciopt.SGD([{"params": [x], "momentum": 0.5}, {"params": [y]}]))
    with pytest.raises(ValueError, match="projected"):
        edge_of(sciopt.SGD([x, y], projection=sciopt.Box(0.0, 1.0)))
    with pytest.raises(ValueError, match="saddle"):
        edge_of(sciopt.SGD([{"params": [x], "maximize": True}, {"params": [y]}]))
    with pytest.raises(ValueError, match="dampening"):
        edge_of(sciopt.SGD([x, y], momentum=0.5, dampening=1.0))


def test_the_edge_of_a_float32_network_is_that_of_float64():
    ratios = []
    for dtype in (torch.float32, torch.float64):
        generator = torch.Generator().manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        ).to(dtype)
        for param in network.parameters():
            param.data = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(
                dtype
            )
        inputs = torch.randn(30, 4, generator=generator, dtype=torch.float64).to(dtype)

        def loss(network=network, inputs=inputs) -> Tensor:
            return network(inputs).square().mean()

        optimizer = sciopt.RMSProp(network.parameters())
        loss().backward()
        optimizer.step()
        ratios.append(stability_edge(optimizer, loss).ratio)
    np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-3)
