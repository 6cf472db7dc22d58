"""The known methods, each one composition; arguments and defaults are those of torch's class."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.engine import Projection
from sciopt.optimizer import Composed
from sciopt.rates import (
    InverseModelNorm,
    InverseTimeDecay,
    SecondMoment,
    SquareAverage,
    SumOfSquares,
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
        *,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        super().__init__(
            params,
            Momentum(momentum, dampening, nesterov),
            lr=lr,
            weight_decay=weight_decay,
            maximize=maximize,
            projection=projection,
            engine=engine,
        )


class NormalizedSGD(Composed):
    """The gradient divided by its norm over the model: every step has length lr."""

    def __init__(
        self,
        params: ParamsT,
        lr: Real | Tensor = 1e-3,
        weight_decay: Real = 0.0,
        *,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        super().__init__(
            params,
            Gradient(),
            [InverseModelNorm()],
            lr=lr,
            weight_decay=weight_decay,
            maximize=maximize,
            projection=projection,
            engine=engine,
        )


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
        *,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        super().__init__(
            params,
            Gradient(),
            [SumOfSquares(eps, initial_accumulator_value), InverseTimeDecay(lr_decay)],
            lr=lr,
            weight_decay=weight_decay,
            maximize=maximize,
            projection=projection,
            engine=engine,
        )


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
        *,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        super().__init__(
            params,
            Momentum(momentum, after_rates=True),
            [SquareAverage(alpha, eps, centered)],
            lr=lr,
            weight_decay=weight_decay,
            maximize=maximize,
            projection=projection,
            engine=engine,
        )


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
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        beta1, beta2 = betas
        super().__init__(
            params,
            ExponentialAverage(beta1),
            [SecondMoment(beta2, eps, amsgrad)],
            lr=lr,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
            projection=projection,
            engine=engine,
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
        *,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            decoupled_weight_decay=True,
            maximize=maximize,
            projection=projection,
            engine=engine,
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
        *,
        maximize: bool = False,
        projection: Projection | None = None,
        engine: str = "auto",
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad=True,
            maximize=maximize,
            projection=projection,
            engine=engine,
        )
