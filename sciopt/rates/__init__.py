"""How fast to step: one file per signal that a rate listens to."""

from sciopt.rates.clock import InverseTimeDecay
from sciopt.rates.model_norm import InverseModelNorm
from sciopt.rates.second_moment import SecondMoment, SquareAverage, SumOfSquares

__all__ = [
    "InverseModelNorm",
    "InverseTimeDecay",
    "SecondMoment",
    "SquareAverage",
    "SumOfSquares",
]
