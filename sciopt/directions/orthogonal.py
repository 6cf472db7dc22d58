"""The orthogonal matrix nearest to the momentum: all singular directions move alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Direction, Real, Scope, Signals, Slot, State, check_range


def newton_schulz(
    matrix: Float[Tensor, "rows columns"],
    coefficients: Sequence[Real],
    steps: int,
    eps: Real,
) -> Float[Tensor, "rows columns"]:
    """U p(...p(S)) V^T of matrix / |matrix|_F = U S V^T, p(s) = a s + b s^3 + c s^5.

    U and V are left as they are; p is iterated `steps` times, by X = a X + (b G + c G^2) X with
    G = X X^T. Muon's coefficients (Jordan et al. 2024, kellerjordan.github.io/posts/muon) take
    all values of S above 0.002 into 0.68..1.21 in five steps, and never to 1; (15/8, -5/4, 3/8)
    converge to 1, but slowly from small values. `eps` is the least norm that is divided by.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        gram = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        wide = torch.addmm(wide, gram, wide, beta=a)
    return wide.T if tall else wide


@final
@dataclass(frozen=True)
class Orthogonal(Direction):
    """b = momentum * b + (1 - momentum) * g, d = newton_schulz of b, Nesterov's look-ahead first.

    Muon's direction, as torch.optim.Muon computes it; multiply by `MatrixShape`. `nesterov`
    orthogonalises momentum * b + (1 - momentum) * g. `precision` is the dtype of the iteration,
    None the parameter's own: torch's is bfloat16, which rounds d by 1 to 2 %.

    Raises:
        ValueError: a setting out of range; in `check`, a parameter that is not a matrix.
    """

    elementwise: ClassVar[bool] = False
    momentum: Real = 0.95
    nesterov: bool = True
    ns_coefficients: Sequence[Real] = (3.4445, -4.7750, 2.0315)
    eps: Real = 1e-7
    ns_steps: int = 5
    precision: torch.dtype | None = field(default=torch.bfloat16, metadata={"key": None})

    def __post_init__(self):
        check_range("momentum", self.momentum)
        check_range("eps", self.eps)
        check_range("ns_steps", self.ns_steps, below=100.0)
        if len(self.ns_coefficients) != 3:
            raise ValueError(f"ns_coefficients must be three numbers, got {self.ns_coefficients}")

    def slots(self) -> Mapping[str, Slot]:
        """The average b."""
        return {"momentum_buffer": Slot(Scope.ELEMENT)}

    def check(self, param: Tensor) -> None:
        """Raise ValueError unless the parameter is a matrix."""
        if param.ndim != 2:
            raise ValueError(
                f"Orthogonal needs matrices, got a parameter of shape {tuple(param.shape)}; "
                "put biases and embeddings in another optimizer, such as AdamW"
            )

    def direction(
        self,
        vector: Float[Tensor, "*shape"],
        signals: Signals,  # noqa: ARG002
        state: State,
    ) -> Float[Tensor, "*shape"]:
        """A matrix with singular values near one."""
        buffer = state["momentum_buffer"].lerp_(vector, 1 - self.momentum)
        ahead = vector.lerp(buffer, self.momentum) if self.nesterov else buffer
        ahead = ahead.to(self.precision or vector.dtype)
        return newton_schulz(ahead, self.ns_coefficients, self.ns_steps, self.eps).to(vector.dtype)
