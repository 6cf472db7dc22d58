"""A rate that listens to the largest singular values of the model's matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Model, Rate, Real, Scope, Signals, Slot, State, check_range

FIRST_ITERATIONS = 10


@final
@dataclass(frozen=True)
class InverseSpectralNorm(Rate):
    """r = 1 / max(sigma, floor)^power, or with of="others" 1 over the others' product of these.

    sigma is the spectral norm of the parameter, that of its rows flattened for a convolution. In
    a deep linear net the curvature along one layer is at most the product of the other layers'
    squared norms times the largest eigenvalue of the inputs' Gram matrix: "others" with power 2
    divides by it. "own" is what is often proposed instead.

    A parameter with less than two axes has no norm and counts in no product: its rate is 1, or
    with "others" that of the product over all. "others" are those with a gradient in this step.

    sigma comes from power iteration carried from step to step (Miyato et al. 2018, arXiv
    1802.05957, algorithm 1), in the parameter's dtype and from below. `power` is 1 for "own" and
    2 for "others" unless set; all parameter groups share `of`, `floor` and `iterations`.

    Raises:
        ValueError: another `of`, a floor that is not positive, a negative power, no iteration.
    """

    scope: ClassVar[Scope] = Scope.LAYER
    of: str = field(default="own", metadata={"key": None})
    power: Real | None = None
    floor: Real = field(default=1e-2, metadata={"key": None})
    iterations: int = field(default=1, metadata={"key": None})

    def __post_init__(self):
        if self.of not in ("own", "others"):
            raise ValueError(f'of must be "own" or "others", got {self.of!r}')
        if self.power is not None:
            check_range("power", self.power)
        check_range("floor", self.floor)
        if self.floor == 0:
            raise ValueError("floor must be positive, got 0: a matrix of zeros has norm 0")
        check_range("iterations", self.iterations, low=1.0)

    def slots(self) -> Mapping[str, Slot]:
        """Left singular vector, norm (1 without a matrix), and log of what is divided by."""
        return {
            "singular_vector": Slot(Scope.NEURON, None),
            "spectral_norm": Slot(Scope.LAYER, 1.0, torch.float64),
            "log_norm": Slot(Scope.LAYER, 0.0, torch.float64),
        }

    def survey(self, model: Model) -> Tensor | None:
        """Iterate for every matrix; the log of the product of their norms, for "others"."""
        logs: list[Tensor] = []
        for param, state in zip(model.params, model.states, strict=True):
            first = state["singular_vector"] is None
            if first:
                state["singular_vector"] = _normal(Scope.NEURON.shape(param)).to(param)
            if _is_matrix(param):
                iterations = FIRST_ITERATIONS + self.iterations if first else self.iterations
                _iterate(param.flatten(1), state, iterations)
                logs.append(self._log_norm(state).to(model.params[0].device))
        return torch.stack(logs).sum() if self.of == "others" and logs else None

    def observe(self, signals: Signals, state: State) -> None:
        """Take the own norm into, or out of, what is divided by."""
        own = self._log_norm(state) if _is_matrix(signals.param) else None
        if signals.survey is not None:
            own = signals.survey if own is None else signals.survey - own
        if own is not None:
            state["log_norm"].copy_(own)

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number."""
        power = (1.0 if self.of == "own" else 2.0) if self.power is None else self.power
        return torch.exp(-power * state["log_norm"])

    def _log_norm(self, state: State) -> Float[Tensor, ""]:
        return state["spectral_norm"].clamp(min=self.floor).log()


def _is_matrix(param: Tensor) -> bool:
    return param.ndim >= 2 and param.numel() > 0


def _normal(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _iterate(matrix: Float[Tensor, "rows columns"], state: State, iterations: int) -> None:
    """Iterations of u = W v / |W v| with v = W^T u / |W^T u|, and sigma = |W v|, in place."""
    vector = state["singular_vector"]
    for _ in range(iterations):
        right = matrix.T @ vector.flatten()
        image = matrix @ _unit(right, otherwise=right)
        # Once zero, the vector would stay so: where the matrix is zero it waits.
        vector.copy_(_unit(image, otherwise=vector.flatten()).view_as(vector))
        state["spectral_norm"].copy_(torch.linalg.vector_norm(image))


def _unit(vector: Float[Tensor, " size"], otherwise: Tensor) -> Float[Tensor, " size"]:
    norm = torch.linalg.vector_norm(vector)
    return torch.where(norm > 0, vector / norm, otherwise)
