"""How fast to step: one file per signal that a rate listens to."""

from sciopt.rates.client_weights import inverse_variance_weights
from sciopt.rates.clock import InverseTimeDecay
from sciopt.rates.confidence import Confidence
from sciopt.rates.gradient_norm import InverseNorm
from sciopt.rates.matrix_shape import MatrixShape
from sciopt.rates.published import Published
from sciopt.rates.sample_weights import confidence_weights
from sciopt.rates.saturation import Saturation, probe_saturation
from sciopt.rates.second_moment import SecondMoment, SquareAverage, SumOfSquares
from sciopt.rates.spectral_norm import InverseSpectralNorm
from sciopt.rates.trust_ratio import TrustRatio

__all__ = [
    "Confidence",
    "InverseNorm",
    "InverseSpectralNorm",
    "InverseTimeDecay",
    "MatrixShape",
    "Published",
    "Saturation",
    "SecondMoment",
    "SquareAverage",
    "SumOfSquares",
    "TrustRatio",
    "confidence_weights",
    "inverse_variance_weights",
    "probe_saturation",
]
