"""Every adaptive method is a direction times rates: `step = -lr * rate(signal) * direction`.

A direction says where to go: the gradient, its momentum. A rate listens to a signal at a scope
and scales the step: an element's squared gradients (AdaGrad, RMSProp, Adam), the norm of the
model's gradient, the clock. `Composed` makes an ordinary `torch.optim.Optimizer` of one direction
and any rates, and the known methods are compositions:

    Adam(params, lr) = Composed(params, ExponentialAverage(), [SecondMoment()], lr=lr)

A projection keeps parameters on a simplex or in a box, in the metric of the rates. Read next
`rule.py`, the vocabulary, then `rates/second_moment.py`, then `engine/update.py`, the step. All
directions are in `sciopt.directions`, all rates in `sciopt.rates`.
"""

from sciopt.directions import ExponentialAverage, Gradient, Momentum
from sciopt.named import (
    LARS,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    Lion,
    Muon,
    NormalizedSGD,
    RMSProp,
)
from sciopt.optimizer import Composed
from sciopt.projection import Box, Simplex, project_simplex
from sciopt.rates import SecondMoment, SquareAverage, SumOfSquares
from sciopt.rule import Direction, Rate, Scope, Signals, Slot

__all__ = [
    "LARS",
    "SGD",
    "AMSGrad",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Box",
    "Composed",
    "Direction",
    "ExponentialAverage",
    "Gradient",
    "Lion",
    "Momentum",
    "Muon",
    "NormalizedSGD",
    "RMSProp",
    "Rate",
    "Scope",
    "SecondMoment",
    "Signals",
    "Simplex",
    "Slot",
    "SquareAverage",
    "SumOfSquares",
    "project_simplex",
]
