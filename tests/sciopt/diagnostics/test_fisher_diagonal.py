"""Per-sample squares against a loop of backward passes, and against closed forms."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from sciopt.diagnostics import fisher_diagonal


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_empirical_fisher_is_the_mean_of_squared_gradients(chunk: int):
    generator = torch.Generator().manual_seed(0)
    network = (
        nn.Sequential(
            nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.GELU(), nn.Flatten(), nn.Linear(9, 4)
        )
        .double()
        .eval()
    )
    network[1].running_mean = torch.full((3,), 0.3, dtype=torch.float64)
    network[0].bias.requires_grad_(False)
    inputs = torch.randn(10, 1, 4, dtype=torch.float64, generator=generator)
    labels = torch.randint(4, (10,), generator=generator)
    expected = {n: torch.zeros_like(p) for n, p in network.named_parameters() if p.requires_grad}
    for one, label in zip(inputs, labels, strict=True):
        network.zero_grad()
        cross_entropy(network(one[None]), label[None]).backward()
        for name, param in network.named_parameters():
            if param.grad is not None:
                expected[name] += param.grad**2 / len(inputs)
    found = fisher_diagonal(network, cross_entropy, inputs, labels, chunk=chunk)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=0)
        assert not value.requires_grad


def test_drawn_labels_give_the_fisher_information_of_logistic_regression():
    # F_i = E[x_i^2 p (1 - p)] for each of the two rows of logits, whatever the data's labels.
    generator = torch.Generator().manual_seed(1)
    network = nn.Linear(3, 2, bias=False).double()
    network.weight.data = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    inputs = torch.randn(100, 3, dtype=torch.float64, generator=generator)
    p = network(inputs).softmax(-1)[:, 0].detach()
    exact = (inputs.square() * (p * (1 - p))[:, None]).mean(0)
    many = inputs.repeat(400, 1)
    found = fisher_diagonal(network, cross_entropy, many, generator=generator, chunk=5000)
    for row in found["weight"]:
        torch.testing.assert_close(row, exact, rtol=0.03, atol=0)
    again = fisher_diagonal(network, cross_entropy, inputs)
    assert torch.equal(again["weight"], fisher_diagonal(network, cross_entropy, inputs)["weight"])


def test_mistakes_are_answered_at_the_entrance():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    inputs, targets = torch.zeros(4, 2), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="1 is a batch norm in training mode"):
        fisher_diagonal(network, mse_loss, inputs, targets)
    with pytest.raises(ValueError, match="4 inputs and 3 targets"):
        fisher_diagonal(network.eval(), mse_loss, inputs, targets[:3])
    with pytest.raises(ValueError, match="no parameters"):
        fisher_diagonal(nn.Identity(), mse_loss, inputs, targets)
