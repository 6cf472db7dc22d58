"""Read-only instruments: each is one line in a training loop and leaves everything as it was.

Parameters, gradients, buffers, training mode and random streams are the same after a measurement
as before it. The README beside this file shows every instrument at work.
"""

from sciopt.diagnostics.effective_rates import EffectiveRates, StepSizes, effective_rates
from sciopt.diagnostics.fisher_diagonal import fisher_diagonal
from sciopt.diagnostics.gradient_noise import GradientNoise, gradient_noise_scale
from sciopt.diagnostics.hessian_trace import HessianTrace, hessian_trace
from sciopt.diagnostics.stability_edge import StabilityEdge, stability_edge
from sciopt.diagnostics.top_eigenvalues import HessianEigenvalues, top_hessian_eigenvalues
from sciopt.diagnostics.units import Units, dead_and_saturated_units

__all__ = [
    "EffectiveRates",
    "GradientNoise",
    "HessianEigenvalues",
    "HessianTrace",
    "StabilityEdge",
    "StepSizes",
    "Units",
    "dead_and_saturated_units",
    "effective_rates",
    "fisher_diagonal",
    "gradient_noise_scale",
    "hessian_trace",
    "stability_edge",
    "top_hessian_eigenvalues",
]
