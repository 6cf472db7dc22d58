"""Optimizers that ask for a closure, since they look at the loss or residuals more than once.

`LBFGS` and `SelfScaledBroyden` learn the curvature from gradients, `NewtonCG` multiplies with the
Hessian, `GaussNewton` has the Jacobian of a residual vector. All are `torch.optim.Optimizer`s of
float64 (or float32) parameters on any device, say in `stopped` why they take no further steps,
and go on after `objective_changed()`.
"""

from sciopt.curvature.gauss_newton import GaussNewton
from sciopt.curvature.lbfgs import LBFGS
from sciopt.curvature.newton_cg import NewtonCG
from sciopt.curvature.self_scaled_broyden import SelfScaledBroyden

__all__ = ["LBFGS", "GaussNewton", "NewtonCG", "SelfScaledBroyden"]
