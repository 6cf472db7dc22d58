"""READ FIRST: one step of each method, and what is measured of the weights it holds.

Adam divides each asset's gradient by its own sqrt(v_i). Where the gradients of all assets have
one sign, the quotients m_i / sqrt(v_i) tend to that sign whatever the gradients' sizes: a step
common to all assets, which a Euclidean projection onto the simplex takes back, wherever w is. A
projection that measures distance by sum_i sqrt(v_i) (w_i - y_i)^2 takes back a step proportional
to 1 / sqrt(v_i) instead. Nothing is left of Adam's step then only where the gradients of all held
assets are equal: at a solution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from applications.portfolio.methods import (
    ActiveSet,
    Clarabel,
    Fista,
    Method,
    ProjectedAdam,
    SoftmaxAdam,
)
from applications.portfolio.problems import TRADING_DAYS, Problem, Program, WalkForward, pose
from applications.portfolio.reference import clarabel_weights, reference_weights
from applications.portfolio.walk_forward import WalkForwardSolver
from sciopt import Adam
from sciopt.bench import Ended, Status
from sciopt.projection import Simplex, project_simplex
from sciopt.quadratic import Dense, quadratic_program, solve

DAYS_STREAM = 0  # of the run's seed: which days a minibatch draws


class AdamSolver:
    """Adam on the weights or on their logits, from equal weights, with gradients in closed form."""

    resumable = True

    def __init__(
        self,
        program: Program,
        method: ProjectedAdam | SoftmaxAdam,
        seed: int,
        device: torch.device,
    ) -> None:
        days, assets = program.asset_returns.shape
        if not 0 <= method.batch <= days:
            raise ValueError(
                f"batch is {method.batch}; expected 0 (all days) to {days}, the window's days"
            )
        if method.decay_steps < 1:
            raise ValueError(f"decay_steps is {method.decay_steps}; expected at least 1")
        self.program = program
        self.method = method
        self.steps = 0
        stream = np.random.SeedSequence([seed, DAYS_STREAM]).generate_state(1, np.uint64)
        self.generator = torch.Generator(device).manual_seed(int(stream[0]))
        if isinstance(method, ProjectedAdam):
            self.param = torch.full_like(program.mean, 1 / assets)
            projection = Simplex(metric=method.metric)
        else:
            self.param = torch.zeros_like(program.mean)
            projection = None
        self.optimizer = Adam(
            [self.param],
            lr=method.lr,
            betas=(method.beta1, method.beta2),
            eps=method.eps,
            projection=projection,
        )

    def step(self) -> Ended | None:
        """One step of Adam; a NaN is left to the metrics to find, off the clock."""
        decay = 0.5 * (1 + math.cos(math.pi * self.steps / self.method.decay_steps))
        self.optimizer.param_groups[0]["lr"] = self.method.lr * decay
        weights = self.weights()
        gradient = self.gradient(weights)
        if isinstance(self.method, SoftmaxAdam):
            gradient = softmax_gradient(weights, gradient)
        self.param.grad = gradient
        self.optimizer.step()
        self.steps += 1
        if self.steps < self.method.decay_steps:
            return None
        return Ended(Status.STEP_LIMIT, f"the learning rate is zero after {self.steps} steps")

    def weights(self) -> Float[Tensor, " assets"]:
        """The portfolio, on the simplex."""
        if isinstance(self.method, SoftmaxAdam):
            return torch.softmax(self.param, 0)
        return self.param

    def gradient(self, weights: Float[Tensor, " assets"]) -> Float[Tensor, " assets"]:
        """With respect to the weights, from all days or from those drawn now."""
        if self.method.batch == 0:
            return self.program.gradient(weights)
        days = torch.randint(
            len(self.program.asset_returns),
            (self.method.batch,),
            generator=self.generator,
            device=weights.device,
        )
        return self.program.sampled_gradient(weights, days)

    def sqrt_v(self) -> Float[Tensor, " assets"]:
        """Root of Adam's second moment, bias corrected: the divisor of its step."""
        correction = 1 - self.method.beta2**self.steps
        return (self.optimizer.state[self.param]["exp_avg_sq"] / correction).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """A copy of the parameter, Adam's moments, the step count and the random stream."""
        return {
            "steps": self.steps,
            "param": self.param.clone(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.steps = state["steps"]
        self.param.copy_(state["param"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


class ClarabelSolver:
    """CVXPY's one call; a failure inside Clarabel is a diverged run at equal weights."""

    resumable = False

    def __init__(self, program: Program, method: Clarabel) -> None:
        if not 0 < method.tolerance < 1:
            raise ValueError(f"tolerance is {method.tolerance}; expected a number > 0 and < 1")
        self.program = program
        self.method = method
        self.solution = torch.full_like(program.mean, 1 / len(program.assets))

    def step(self) -> Ended:
        """Pose and solve the problem, CVXPY's own work included."""
        # Here because it takes a second, which `list` need not wait for.
        from cvxpy import SolverError

        try:
            weights = clarabel_weights(self.program, tolerance=self.method.tolerance)
        except SolverError as error:
            return Ended(Status.DIVERGED, f"Clarabel: {error}")
        self.solution = torch.as_tensor(weights).to(self.solution)
        return Ended(Status.CONVERGED, f"Clarabel met its tolerance {self.method.tolerance:g}")

    def weights(self) -> Float[Tensor, " assets"]:
        """The portfolio, on the simplex."""
        return self.solution

    def state_dict(self) -> dict[str, Any]:
        """Nothing: CVXPY starts again."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take over."""


class ActiveSetSolver:
    """The exact solution, by `sciopt.quadratic`, in one call."""

    resumable = True

    def __init__(self, program: Program) -> None:
        self.program = program
        self.solution = torch.full_like(program.mean, 1 / len(program.assets))

    def step(self) -> Ended:
        """Pose and solve; the objective is divided by risk_aversion, where there is one."""
        program = self.program
        price = program.risk_aversion or 1.0
        matrix = program.covariance * (program.risk_aversion / price)
        reward = program.mean * (program.return_weight / price)
        found = solve(quadratic_program(Dense(matrix), reward))
        self.solution = found.point
        return Ended(Status.CONVERGED, f"exact after {found.iterations} systems of equations")

    def weights(self) -> Float[Tensor, " assets"]:
        """The portfolio, on the simplex."""
        return self.solution

    def state_dict(self) -> dict[str, Any]:
        """The weights."""
        return {"solution": self.solution.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.solution = state["solution"].clone()


class FistaSolver:
    """Nesterov's accelerated gradients, projected onto the simplex, from equal weights.

    The momentum starts anew whenever it points against the last step (O'Donoghue & Candès 2015,
    section 3.2), which makes convergence linear without knowing the smallest eigenvalue.
    """

    resumable = True

    def __init__(self, program: Program, method: Fista) -> None:
        if not 0 < method.tolerance < 1 or method.check_every < 1:
            raise ValueError(
                f"tolerance is {method.tolerance} and check_every {method.check_every}; expected "
                "a number > 0 and < 1, and at least 1"
            )
        self.program, self.method, self.steps = program, method, 0
        self.solution = torch.full_like(program.mean, 1 / len(program.assets))
        self.ahead, self.momentum = self.solution, torch.ones(()).to(self.solution)
        curvature = program.risk_aversion * torch.linalg.eigvalsh(program.covariance)[-1]
        self.step_size = 1 / curvature.clamp_min(torch.finfo(curvature.dtype).tiny)

    def step(self) -> Ended | None:
        """A projected gradient step from a point ahead, and the next such point."""
        gradient = self.program.gradient(self.ahead)
        found = project_simplex(self.ahead - self.step_size * gradient)
        uphill = (self.ahead - found) @ (found - self.solution) > 0
        grown = (1 + (1 + 4 * self.momentum**2).sqrt()) / 2
        share = torch.where(uphill, 0.0, (self.momentum - 1) / grown)
        self.momentum = torch.where(uphill, 1.0, grown)
        self.ahead = found + share * (found - self.solution)
        self.solution = found
        self.steps += 1
        if self.steps % self.method.check_every:
            return None
        gap = self.program.duality_gap(found) / self.program.scale(found)
        if gap > self.method.tolerance:
            return None
        return Ended(Status.CONVERGED, f"relative duality gap {gap:.1e} after {self.steps} steps")

    def weights(self) -> Float[Tensor, " assets"]:
        """The portfolio, on the simplex."""
        return self.solution

    def state_dict(self) -> dict[str, Any]:
        """The last two points, the momentum and the step count."""
        return {
            "steps": self.steps,
            "solution": self.solution.clone(),
            "ahead": self.ahead.clone(),
            "momentum": self.momentum.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.steps = state["steps"]
        self.solution, self.ahead = state["solution"].clone(), state["ahead"].clone()
        self.momentum = state["momentum"].clone()


PortfolioSolver: TypeAlias = (
    AdamSolver | ActiveSetSolver | FistaSolver | ClarabelSolver | WalkForwardSolver
)


def softmax_gradient(
    weights: Float[Tensor, " assets"], gradient: Float[Tensor, " assets"]
) -> Float[Tensor, " assets"]:
    """w_i (g_i - w'g): the gradient with respect to the logits whose softmax is w."""
    return weights * (gradient - weights @ gradient)


def start(problem: Problem, method: Method, seed: int, device: torch.device) -> PortfolioSolver:
    """The method at equal weights on the problem; the reference is solved here, off the clock.

    Raises:
        ValueError: dates, assets or settings that cannot work, naming them.
    """
    if isinstance(problem, WalkForward) and isinstance(method, ActiveSet):
        return WalkForwardSolver(problem, device)
    posed = pose(problem, device)
    reference_weights(problem)
    if isinstance(method, Clarabel):
        return ClarabelSolver(posed, method)
    if isinstance(method, Fista):
        return FistaSolver(posed, method)
    if isinstance(method, ActiveSet):
        return ActiveSetSolver(posed)
    return AdamSolver(posed, method, seed, device)


def evaluate(problem: Problem, solver: PortfolioSolver) -> dict[str, float]:
    """Certified and true distance from the solution, and where the portfolio lies.

    `relative_gap` is the duality gap over `Program.scale`, an upper bound of
    `objective_difference`, which is f less CVXPY's over the same scale. `weight_difference` is
    the largest over assets. `annual_volatility` and `annual_return` are in percent,
    `frontier_distance` in percentage points, between those two and CVXPY's. A walk forward has
    metrics of its own.
    """
    if isinstance(solver, WalkForwardSolver):
        return solver.metrics()
    posed, weights = solver.program, solver.weights()
    reference = torch.tensor(reference_weights(problem)).to(weights)
    scale = posed.scale(weights)
    point = annual_percent(posed, weights)
    metrics = {
        "objective": posed.objective(weights),
        "relative_gap": posed.duality_gap(weights) / scale,
        "objective_difference": (posed.objective(weights) - posed.objective(reference)) / scale,
        "weight_difference": (weights - reference).abs().max(),
        "annual_volatility": point[0],
        "annual_return": point[1],
        "frontier_distance": (point - annual_percent(posed, reference)).norm(),
    }
    return {name: value.item() for name, value in metrics.items()}


def annual_percent(posed: Program, weights: Float[Tensor, " assets"]) -> Float[Tensor, " 2"]:
    """Annualised volatility sqrt(252 w'Qw) and mean return 252 mu'w, in percent."""
    volatility = (TRADING_DAYS * (weights @ posed.covariance @ weights)).sqrt()
    return 100 * torch.stack([volatility, TRADING_DAYS * (posed.mean @ weights)])


def arrays(_problem: Problem, solver: PortfolioSolver) -> dict[str, np.ndarray]:
    """Per asset, daily: weights, mean, volatility, marginal risk Qw, risk contribution w_i (Qw)_i.

    With Adam also `sqrt_v`, the root of its second moment (of the logits' gradient under
    softmax). A walk forward has arrays of its own.
    """
    if isinstance(solver, WalkForwardSolver):
        return solver.arrays()
    posed, weights = solver.program, solver.weights()
    marginal_risk = posed.covariance @ weights
    tensors = {
        "weights": weights,
        "mean": posed.mean,
        "volatility": posed.covariance.diagonal().sqrt(),
        "marginal_risk": marginal_risk,
        "risk_contribution": weights * marginal_risk,
    }
    if isinstance(solver, AdamSolver):
        tensors["sqrt_v"] = solver.sqrt_v()
    per_asset = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
    return {"assets": np.array(posed.assets), **per_asset}
