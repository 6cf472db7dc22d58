"""The known methods, each one composition; arguments and defaults are those of torch's class."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.directions import ExponentialAverage, Gradient, Momentum, Orthogonal, Sign
from sciopt.optimizer import Composed, Options
from sciopt.rates import (
    InverseNorm,
    InverseTimeDecay,
    MatrixShape,
    SecondMoment,
    SquareAverage,
    SumOfSquares,
    TrustRatio,
)
from sciopt.rule import Real


class SGD(Composed):
    """Gradient descent with momentum: no rates. Interchanges with torch.optim.SGD."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        momentum: Real = 0.0,
        dampening: Real = 0.0,
        weight_decay: Real = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ):
        direction = Momentum(momentum, dampening, nesterov)
        super().__init__(params, direction, lr=lr, weight_decay=weight_decay, **options)


class NormalizedSGD(Composed):
    """The gradient divided by its norm over the model: every step has length lr."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        weight_decay: Real = 0.0,
        **options: Unpack[Options],
    ):
        rates = [InverseNorm()]
        super().__init__(params, Gradient(), rates, lr=lr, weight_decay=weight_decay, **options)


class AdaGrad(Composed):
    """Rates from the sum of squared gradients. Interchanges with torch.optim.Adagrad."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-2,
        lr_decay: Real = 0.0,
        weight_decay: Real = 0.0,
        initial_accumulator_value: Real = 0.0,
        eps: Real = 1e-10,
        **options: Unpack[Options],
    ):
        rates = [SumOfSquares(eps, initial_accumulator_value), InverseTimeDecay(lr_decay)]
        super().__init__(params, Gradient(), rates, lr=lr, weight_decay=weight_decay, **options)


class RMSProp(Composed):
    """Rates from averaged squares, momentum after them. Interchanges with torch.optim.RMSprop."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-2,
        alpha: Real = 0.99,
        eps: Real = 1e-8,
        weight_decay: Real = 0.0,
        momentum: Real = 0.0,
        centered: bool = False,
        **options: Unpack[Options],
    ):
        direction = Momentum(momentum, after_rates=True)
        rates = [SquareAverage(alpha, eps, centered)]
        super().__init__(params, direction, rates, lr=lr, weight_decay=weight_decay, **options)


class Adam(Composed):
    """Averaged gradient, rates from averaged squares. Interchanges with torch.optim.Adam."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        betas: tuple[Real, Real] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Real = 0.0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ):
        beta1, beta2 = betas
        super().__init__(
            params,
            ExponentialAverage(beta1),
            [SecondMoment(beta2, eps, amsgrad)],
            lr=lr,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            **options,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay. Interchanges with torch.optim.AdamW."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        betas: tuple[Real, Real] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Real = 1e-2,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ):
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over groups and state, but keep decoupled decay, as torch's AdamW does."""
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


class AMSGrad(Adam):
    """Adam whose rates never rise. Interchanges with torch.optim.Adam(amsgrad=True)."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        betas: tuple[Real, Real] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Real = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad=True, **options)


class Lion(Composed):
    """The sign of a momentum that looks ahead, decoupled decay (Chen et al. 2023, 2302.06675)."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-4,
        betas: tuple[Real, Real] = (0.9, 0.99),
        weight_decay: Real = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(
            params,
            Sign(*betas),
            lr=lr,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
            **options,
        )


class LARS(Composed):
    """Momentum of gradients scaled by each layer's trust ratio (You, Gitman & Ginsburg 2017).

    Biases and normalisations usually go to a group with `trust_coefficient` of their own, or to
    an optimizer without it: their norms say little.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 0.1,
        momentum: Real = 0.9,
        weight_decay: Real = 0.0,
        trust_coefficient: Real = 1e-3,
        eps: Real = 1e-8,
        **options: Unpack[Options],
    ):
        direction = Momentum(momentum, after_rates=True)
        rates = [TrustRatio(trust_coefficient, eps)]
        super().__init__(params, direction, rates, lr=lr, weight_decay=weight_decay, **options)


class Muon(Composed):
    """Momentum made orthogonal, for matrices. Interchanges with torch.optim.Muon.

    `precision` is that of the Newton-Schulz iteration; None is the parameter's own.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        weight_decay: Real = 0.1,
        momentum: Real = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[Real, Real, Real] = (3.4445, -4.7750, 2.0315),
        eps: Real = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        precision: torch.dtype | None = torch.bfloat16,
        **options: Unpack[Options],
    ):
        coefficients = tuple(ns_coefficients)
        direction = Orthogonal(momentum, nesterov, coefficients, eps, ns_steps, precision)
        super().__init__(
            params,
            direction,
            [MatrixShape(adjust_lr_fn)],
            lr=lr,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
            **options,
        )
