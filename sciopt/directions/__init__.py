"""Where to step: one file per direction."""

from sciopt.directions.eligibility_trace import EligibilityTrace
from sciopt.directions.gradient import Gradient
from sciopt.directions.momentum import ExponentialAverage, Momentum
from sciopt.directions.orthogonal import Orthogonal
from sciopt.directions.sign import Sign

__all__ = [
    "EligibilityTrace",
    "ExponentialAverage",
    "Gradient",
    "Momentum",
    "Orthogonal",
    "Sign",
]
