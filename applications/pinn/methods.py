"""The methods' settings; `solve.py` turns them into solvers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Adam:
    """Adam on the full batch of points."""

    precision: Precision = "float32"
    """Number format of params, points and derivatives."""
    lr: float = 1e-3
    """Learning rate."""

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_lr(self.lr)


@dataclass(frozen=True)
class LBFGS:
    """SciPy's L-BFGS-B without bounds; its driver is float64, evaluations are in `precision`."""

    precision: Precision = "float64"
    """Number format of params, points and derivatives inside an evaluation."""
    memory: int = 50
    """Pairs of steps and gradient differences kept."""
    gradient_tolerance: float = 1e-8
    """The run has converged once no component of the gradient is larger."""

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_memory(self.memory, self.gradient_tolerance)


@dataclass(frozen=True)
class AdamThenLBFGS:
    """Adam for `switch_step` steps, then SciPy's L-BFGS-B from where Adam left off."""

    precision: Precision = "float64"
    """Number format of params, points and derivatives inside an evaluation."""
    switch_step: int = 1000
    """Steps of Adam before L-BFGS takes over."""
    lr: float = 1e-3
    """Adam's learning rate."""
    memory: int = 50
    """Pairs of steps and gradient differences L-BFGS keeps."""
    gradient_tolerance: float = 1e-8
    """L-BFGS has converged once no component of the gradient is larger."""

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_lr(self.lr)
        check_memory(self.memory, self.gradient_tolerance)
        if self.switch_step < 1:
            raise ValueError(
                f"switch_step is {self.switch_step}; give at least 1, or take method lbfgs"
            )


Method = Adam | LBFGS | AdamThenLBFGS


def check_precision(precision: str) -> None:
    """Raise ValueError unless derivatives of second order keep some digits in `precision`."""
    if precision not in ("float32", "float64"):
        raise ValueError(
            f"precision is {precision!r}; give 'float32' or 'float64': fewer bits lose the "
            "second derivatives"
        )


def check_lr(lr: float) -> None:
    """Raise ValueError unless the learning rate is positive and finite."""
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr is {lr}; give a positive number")


def check_memory(memory: int, gradient_tolerance: float) -> None:
    """Raise ValueError for settings of L-BFGS that cannot run."""
    if not 1 <= memory <= 10_000:
        raise ValueError(f"memory is {memory}; give 1 to 10000 (10 to 100 are usual)")
    if not (math.isfinite(gradient_tolerance) and gradient_tolerance >= 0):
        raise ValueError(f"gradient_tolerance is {gradient_tolerance}; give a finite number >= 0")


METHODS: Mapping[str, Method] = {
    "adam-float32": Adam(precision="float32"),
    "adam-float64": Adam(precision="float64"),
    "lbfgs-float32": LBFGS(precision="float32"),
    "lbfgs-float64": LBFGS(precision="float64"),
    "adam-lbfgs-float32": AdamThenLBFGS(precision="float32"),
    "adam-lbfgs-float64": AdamThenLBFGS(precision="float64"),
}
