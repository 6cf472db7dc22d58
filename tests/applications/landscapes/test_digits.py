"""The networks in lockstep against ordinary ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from applications.landscapes import DOMAIN
from applications.landscapes.digits import Digits, Networks, logits, losses
from applications.landscapes.methods import METHODS
from sciopt.bench import Status

CPU = torch.device("cpu")
SMALL = Digits(hidden=3, batch_size=16)


def networks(
    problem: Digits, method: str = "sgd", lr: tuple[float, ...] = (0.1,), seed: int = 0
) -> Networks:
    return Networks(problem, replace(METHODS[method], lr=lr), seed, CPU)


def ordinary(row: torch.Tensor, hidden: int) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10)).double()
    nn.utils.vector_to_parameters(row.double(), network.parameters())
    return network


def test_every_row_is_a_network():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 3 * 65 + 10 * 4, generator=generator, dtype=torch.float64)
    images = torch.randn(7, 64, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (7,), generator=generator)
    outputs = logits(rows, images)
    for row, output, loss in zip(rows, outputs, losses(outputs, labels), strict=True):
        expected = ordinary(row, 3)(images)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(loss, cross_entropy(expected, labels), rtol=1e-12, atol=0)


def test_a_step_in_full_batch_is_gradient_descent_of_each_learning_rate():
    solver = networks(replace(SMALL, batch_size=0), lr=(0.1, 2.0))
    solver.step()
    network = ordinary(solver.start, 3)
    images, labels = solver.training
    cross_entropy(network(images.double()), labels).backward()
    gradient = torch.cat(
        [param.grad.flatten() for param in network.parameters() if param.grad is not None]
    )
    for row, lr in zip(solver.rows, (0.1, 2.0), strict=True):
        torch.testing.assert_close(
            row, (solver.start.double() - lr * gradient).float(), rtol=1e-5, atol=1e-6
        )


def test_a_learning_rate_of_a_grid_descends_as_alone():
    grid, alone = networks(SMALL, "adam", (1e-3, 1e-2)), networks(SMALL, "adam", (1e-2,))
    for _ in range(20):
        grid.step()
        alone.step()
    torch.testing.assert_close(grid.rows[1], alone.rows[0], rtol=1e-4, atol=1e-5)
    assert (grid.rows[0] - grid.rows[1]).abs().max() > 1e-2


def test_seeds_draw_other_images_weights_and_minibatches():
    one, same, other = networks(SMALL), networks(SMALL, "adam"), networks(SMALL, seed=1)
    assert torch.equal(one.start, same.start)
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.start, other.start)
    assert not torch.equal(one.images, other.images)
    assert one.images.min() == -1
    assert one.images.max() == 1
    assert torch.bincount(torch.cat([one.training[1], one.test[1]])).sum() == 1797


def test_sharpness_and_diagonals_are_those_of_the_dense_hessian():
    problem = Digits(hidden=1, batch_size=16, diagonals=True)
    solver = networks(problem, "adam", (0.01,))
    for _ in range(30):
        solver.step()
    images, labels = solver.training
    images = images.double()

    def loss(row: torch.Tensor) -> torch.Tensor:
        return losses(logits(row[None], images), labels)[0]

    row = solver.rows[0].double()
    dense = torch.autograd.functional.hessian(loss, row)
    assert isinstance(dense, torch.Tensor)
    found = solver.arrays()
    top = float(torch.linalg.eigvalsh(dense)[-1])
    assert found["sharpness"][0] == pytest.approx(top, rel=1e-5)
    np.testing.assert_allclose(
        found["hessian_diagonal"][0], dense.diagonal().numpy(), rtol=1e-9, atol=1e-12
    )
    point = row.clone().requires_grad_()
    each = cross_entropy(logits(point[None], images)[0], labels, reduction="none")
    gradients = torch.stack([torch.autograd.grad(one, point, retain_graph=True)[0] for one in each])
    np.testing.assert_allclose(
        found["empirical_fisher_diagonal"][0],
        gradients.square().mean(0).numpy(),
        rtol=1e-9,
        atol=1e-15,
    )
    assert found["fisher_diagonal"].shape == found["inverse_rate"].shape == (1, row.numel())


def test_inverse_rates_are_the_roots_of_the_second_moment():
    solver = networks(replace(SMALL, diagonals=True), "rmsprop", (1e-2,))
    for _ in range(3):
        solver.step()
    second = solver.optimizer.state[solver.rows]["square_avg"][0]
    expected = second.sqrt().double().numpy() + 1e-8
    np.testing.assert_allclose(solver.arrays()["inverse_rate"][0], expected, rtol=1e-5)


def test_a_network_that_diverges_is_held_and_told():
    solver = networks(SMALL, "momentum", (0.1, 3e38))
    ended = [solver.step() for _ in range(30)]
    assert not any(ended)
    assert solver.diverged.tolist() == [False, True]
    kept = solver.arrays()
    assert np.isnan(kept["sharpness"]).tolist() == [False, True]
    assert kept["diverged_step"][1] > 0
    metrics = DOMAIN.evaluate(SMALL, solver)
    assert np.isfinite([*metrics.values()]).all()
    assert metrics["fraction_diverged"] == 0.5
    both = networks(SMALL, "momentum", (3e38, 3e38))
    ends = [both.step() for _ in range(30)]
    last = next(end for end in ends if end)
    assert last.status is Status.DIVERGED
    assert "every network" in last.reason


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="batch_size = 2000"):
        Digits(batch_size=2000)
    with pytest.raises(ValueError, match="training_images = 1797"):
        Digits(training_images=1797)
    with pytest.raises(ValueError, match="Hessian"):
        networks(SMALL, "newton")
