"""A landscape nobody drew: the loss of a small network that reads handwritten digits.

As everywhere in this domain a grid of learning rates descends in lockstep: a row of the parameter
is a whole network, all rows begin at the same point and meet the same minibatches. The data are
scikit-learn's own copy of the UCI digits, so that nothing is downloaded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from applications.landscapes.methods import Method
from applications.landscapes.rules import GridRate
from sciopt import Composed
from sciopt.bench.domain import Ended, Status
from sciopt.diagnostics import fisher_diagonal, top_hessian_eigenvalues
from sciopt.diagnostics.effective_rates import summary
from sciopt.diagnostics.hessian_product import hessian_product

PIXELS, CLASSES = 64, 10
IMAGES = 1797
# Eigenvalues need two or three digits here; an isolated one is exact to the square of this.
SHARPNESS_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Digits:
    """Handwritten digits of 8 x 8 pixels, a network with one hidden layer, in minibatches."""

    hidden: int = 16
    """Hidden units, of tanh."""
    batch_size: int = 64
    """Images per step, drawn anew without replacement; 0 for all of them."""
    training_images: int = 1000
    """How many of the 1797 images are trained on, drawn by the seed; the others test."""
    diagonals: bool = False
    """Whether to keep the diagonals of Hessian and Fisher information at the end: many products."""

    def __post_init__(self) -> None:
        if not (self.hidden >= 1 and 1 <= self.training_images < IMAGES):
            raise ValueError(
                f"got hidden = {self.hidden} and training_images = {self.training_images}; use "
                f"hidden >= 1 and 1 <= training_images < {IMAGES}"
            )
        if not 0 <= self.batch_size <= self.training_images:
            raise ValueError(
                f"got batch_size = {self.batch_size}; use 0 to {self.training_images}, 0 for all"
            )


@lru_cache
def _images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    # Loading scikit-learn takes a second that `list` need not wait for.
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits.data / 8 - 1, digits.target


class Networks:
    """One network for each learning rate of the method."""

    resumable = True

    def __init__(self, problem: Digits, method: Method, seed: int, device: torch.device) -> None:
        self.problem, self.method = problem, method
        direction, rates = method.rules(None)
        split, initial, batches = (np.random.SeedSequence([seed, stream]) for stream in range(3))
        pixels, labels = _images_and_labels()
        order = np.random.default_rng(split).permutation(IMAGES)
        self.images = torch.from_numpy(pixels[order]).float().to(device)
        self.labels = torch.from_numpy(labels[order]).to(device)

        self.start = _first_point(problem.hidden, initial).to(device)
        self.rows = self.start.repeat(len(method.lr), 1)
        self.lr = torch.tensor(method.lr, dtype=self.rows.dtype, device=device)
        self.optimizer = Composed([self.rows], direction, [*rates, GridRate(self.lr)], lr=1.0)
        self.generator = torch.Generator()
        self.generator.manual_seed(int(batches.generate_state(1, np.uint64)[0]) >> 1)
        self.steps = 0
        self.diverged_step = torch.zeros(len(method.lr), dtype=torch.int64, device=device)

    @property
    def diverged(self) -> Bool[Tensor, " rates"]:
        """Which networks have left the finite range."""
        return self.diverged_step > 0

    @property
    def training(self) -> tuple[Tensor, Tensor]:
        """The images that are trained on, and their labels."""
        count = self.problem.training_images
        return self.images[:count], self.labels[:count]

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """The images that are not, and their labels."""
        count = self.problem.training_images
        return self.images[count:], self.labels[count:]

    def step(self) -> Ended | None:
        """One minibatch and one move of every network."""
        self.steps += 1
        images, labels = self.training
        if self.problem.batch_size:
            drawn = torch.randperm(len(images), generator=self.generator)
            batch = drawn[: self.problem.batch_size].to(images.device)
            images, labels = images[batch], labels[batch]
        point = self.rows.detach().requires_grad_()
        loss = losses(logits(point, images), labels).sum()
        (self.rows.grad,) = torch.autograd.grad(loss, point)
        if self.method.lr_schedule == "inverse-sqrt":
            self.optimizer.param_groups[0]["lr"] = 1 / sqrt(self.steps)
        before = self.rows.clone()
        self.optimizer.step()
        lost = ~self.rows.isfinite().all(1)
        self.diverged_step.masked_fill_(lost & ~self.diverged, self.steps)
        self.rows.copy_(torch.where(self.diverged[:, None], before, self.rows))
        return self._all_diverged() if self.diverged.all() else None

    def _all_diverged(self) -> Ended:
        return Ended(
            Status.DIVERGED,
            f"every network diverged; the last in step {int(self.diverged_step.max())}",
        )

    @torch.no_grad()
    def _losses_and_accuracies(
        self, images: Tensor, labels: Tensor
    ) -> tuple[Float[Tensor, " rates"], Float[Tensor, " rates"]]:
        outputs = logits(self.rows, images)
        return losses(outputs, labels), (outputs.argmax(-1) == labels).float().mean(-1)

    def metrics(self) -> Mapping[str, float]:
        """`loss` in training of the best learning rate, its `test_accuracy`, and who diverged."""
        loss, _ = self._losses_and_accuracies(*self.training)
        loss = loss.nan_to_num(nan=torch.inf).masked_fill(self.diverged, torch.inf)
        _, accuracy = self._losses_and_accuracies(*self.test)
        best = int(loss.argmin())
        return {
            "loss": float(loss[best]),
            "test_accuracy": float(accuracy[best]),
            "best_lr": float(self.lr[best]),
            "fraction_diverged": float(self.diverged.double().mean()),
        }

    def arrays(self) -> Mapping[str, np.ndarray]:
        """What each learning rate came to, in shapes that begin with (rates,).

        `loss` in training, `test_loss`, `test_accuracy`; `sharpness`, the largest eigenvalue of
        the Hessian of the training loss, and `start_sharpness` (one number), that of the first
        point; `rate_rank_correlation` and `rate_log_correlation` of the last rates with the
        parameters' magnitude. `diverged_step` is 0 if it never was; of the diverged the rest is
        NaN. With `diagonals` also (rates, params): `inverse_rate`, 1 / (product of rates), and
        the diagonals `hessian_diagonal`, `fisher_diagonal` and `empirical_fisher_diagonal`.
        """
        loss, _ = self._losses_and_accuracies(*self.training)
        test_loss, test_accuracy = self._losses_and_accuracies(*self.test)
        rate = self._rate()
        columns = {
            "loss": loss.tolist(),
            "test_loss": test_loss.tolist(),
            "test_accuracy": test_accuracy.tolist(),
            "sharpness": [self._sharpness(row) for row in self.rows],
        }
        spreads = [
            summary(*(each.double().cpu().numpy() for each in (size, row.abs())))
            for size, row in zip(rate, self.rows, strict=True)
        ]
        columns["rate_rank_correlation"] = [spread.spearman for spread in spreads]
        columns["rate_log_correlation"] = [spread.pearson_of_logs for spread in spreads]
        lost = self.diverged.cpu().numpy()
        kept = {name: np.where(lost, np.nan, column) for name, column in columns.items()}
        kept["start_sharpness"] = np.array(self._sharpness(self.start))
        kept["diverged_step"] = self.diverged_step.cpu().numpy().copy()
        kept["lr"] = np.array(self.method.lr)
        if self.problem.diagonals:
            kept["inverse_rate"] = 1 / rate.double().cpu().numpy()
            diagonals = [self._diagonals(row) for row in self.rows]
            for name in diagonals[0]:
                kept[name] = np.stack([diagonal[name] for diagonal in diagonals])
        return kept

    def _rate(self) -> Float[Tensor, "rates params"]:
        """The product of the method's own rates in the last step, without the learning rate."""
        applied = prod(scope[self.rows] for scope in self.optimizer.last_rates().values())
        return (applied / self.lr[:, None]).expand_as(self.rows)

    def _sharpness(self, row: Float[Tensor, " params"]) -> float:
        network, (images, labels) = self._network(row), self.training
        found = top_hessian_eigenvalues(
            lambda: cross_entropy(network(images.double()), labels),
            network.parameters(),
            tolerance=SHARPNESS_TOLERANCE,
        )
        return float(found.values[0])

    def _diagonals(self, row: Float[Tensor, " params"]) -> dict[str, np.ndarray]:
        network, (images, labels) = self._network(row), self.training
        images = images.double()
        product = hessian_product(
            lambda: cross_entropy(network(images), labels), [*network.parameters()]
        )
        units = torch.eye(len(row), dtype=torch.float64, device=row.device)
        hessian = torch.stack([product(unit)[place] for place, unit in enumerate(units)])
        empirical = fisher_diagonal(network, cross_entropy, images, labels)
        drawn = fisher_diagonal(network, cross_entropy, images)
        return {
            "hessian_diagonal": hessian.cpu().numpy(),
            "fisher_diagonal": _joined(drawn),
            "empirical_fisher_diagonal": _joined(empirical),
        }

    def _network(self, row: Float[Tensor, " params"]) -> nn.Sequential:
        """A row as an ordinary network, in float64."""
        hidden = self.problem.hidden
        network = nn.Sequential(
            nn.Linear(PIXELS, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES)
        ).to(row.device, torch.float64)
        nn.utils.vector_to_parameters(row.double(), network.parameters())
        return network

    def state_dict(self) -> dict[str, Any]:
        """Networks, the optimizer's state and the minibatches to come."""
        return {
            "rows": self.rows.clone(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "diverged_step": self.diverged_step.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""
        self.rows.copy_(state["rows"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.steps = state["steps"]
        self.diverged_step = state["diverged_step"].to(self.rows.device, copy=True)


def logits(
    rows: Float[Tensor, "rates params"], images: Float[Tensor, "images 64"]
) -> Float[Tensor, "rates images 10"]:
    """What every network answers; a row holds weights and biases of layer one, then of two."""
    rates, hidden = len(rows), (rows.shape[1] - CLASSES) // (PIXELS + 1 + CLASSES)
    into, shift, out, bias = rows.split([hidden * PIXELS, hidden, CLASSES * hidden, CLASSES], dim=1)
    # All first layers are one product with the images that they share.
    first = images @ into.reshape(rates * hidden, PIXELS).T + shift.flatten()
    units = first.tanh().unflatten(1, (rates, hidden)).transpose(0, 1)
    return torch.baddbmm(bias[:, None], units, out.unflatten(1, (CLASSES, hidden)).mT)


def losses(
    outputs: Float[Tensor, "rates images 10"], labels: Int[Tensor, " images"]
) -> Float[Tensor, " rates"]:
    """Each network's mean cross-entropy."""
    each = cross_entropy(outputs.flatten(0, 1), labels.repeat(len(outputs)), reduction="none")
    return each.unflatten(0, (len(outputs), -1)).mean(1)


def _first_point(hidden: int, seeds: np.random.SeedSequence) -> Float[Tensor, " params"]:
    """Uniform in +-1 / sqrt(inputs of the layer), as torch's own layers begin."""
    draw = np.random.default_rng(seeds).uniform
    layers = ((PIXELS, hidden), (hidden, CLASSES))
    parts = [
        draw(-1 / sqrt(inputs), 1 / sqrt(inputs), outputs * (inputs + 1))
        for inputs, outputs in layers
    ]
    return torch.from_numpy(np.concatenate(parts)).float()


def _joined(by_name: Mapping[str, Tensor]) -> np.ndarray:
    return torch.cat([part.flatten() for part in by_name.values()]).cpu().numpy()
