"""A rate that listens to the shape of a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Clock, Rate, Scope, Signals, State


@final
@dataclass(frozen=True)
class MatrixShape(Rate):
    """r = sqrt(max(1, rows / columns)), or 0.2 * sqrt(max(rows, columns)) to match AdamW's RMS.

    The factors that torch.optim.Muon puts on lr: "original" or None is Jordan et al. 2024,
    "match_rms_adamw" Liu et al. 2025 (arXiv 2502.16982, section 2.2). The shape is read off the
    direction's `momentum_buffer`, which has the parameter's: a state of its own would be missing
    from torch's checkpoints.

    Raises:
        ValueError: another `adjust_lr_fn`; at the first step, no `momentum_buffer` of a matrix.
    """

    scope: ClassVar[Scope] = Scope.LAYER
    adjust_lr_fn: str | None = None

    def __post_init__(self):
        if self.adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                'adjust_lr_fn must be "original", "match_rms_adamw" or None, '
                f"got {self.adjust_lr_fn!r}"
            )

    def observe(self, signals: Signals, state: State) -> None:
        """Remember nothing; raise ValueError where the shape cannot be read."""
        if state.get("momentum_buffer") is None or signals.param.ndim != 2:
            raise ValueError(
                "MatrixShape needs a matrix and its momentum_buffer, got a parameter of shape "
                f"{tuple(signals.param.shape)} with state {sorted(state)}; compose it with "
                "Orthogonal, or with Momentum without dampening"
            )

    def rate(self, state: State, clock: Clock) -> Float[Tensor, "*rate"]:  # noqa: ARG002
        """One number."""
        rows, columns = state["momentum_buffer"].shape
        if self.adjust_lr_fn == "match_rms_adamw":
            factor = 0.2 * max(rows, columns) ** 0.5
        else:
            factor = max(1, rows / columns) ** 0.5
        return torch.tensor(factor, dtype=torch.float64)
