"""Where to step: one file per direction."""

from sciopt.directions.gradient import Gradient
from sciopt.directions.momentum import ExponentialAverage, Momentum

__all__ = ["ExponentialAverage", "Gradient", "Momentum"]
