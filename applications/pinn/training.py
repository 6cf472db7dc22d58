"""The loss of one run: points, network and equation put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import qmc
from torch import Tensor

from applications.pinn.methods import Precision
from applications.pinn.network import glorot_normal, mlp
from applications.pinn.problems import Burgers

HELD_OUT_POINTS = 2000


@dataclass(frozen=True)
class Points:
    """Where the loss looks: collocation points, and points whose value u is given."""

    x: Float[Tensor, " collocation"]
    t: Float[Tensor, " collocation"]
    given_x: Float[Tensor, " conditions"]
    given_t: Float[Tensor, " conditions"]
    given_u: Float[Tensor, " conditions"]

    def to(self, target: torch.dtype | torch.device) -> Points:
        """The same points in another precision or on another device."""
        return Points(**{name: value.to(target) for name, value in vars(self).items()})


def draw_points(problem: Burgers, generator: np.random.Generator, device: torch.device) -> Points:
    """A Latin hypercube in the region; condition points evenly spread over t = 0 and both ends."""
    low, high = (problem.left, 0.0), (problem.right, problem.end_time)
    sampler = qmc.LatinHypercube(2, rng=generator)
    inside = qmc.scale(sampler.random(problem.collocation_points), low, high)
    at_end = problem.condition_points // 4
    at_start = problem.condition_points - 2 * at_end
    start_x = torch.linspace(problem.left, problem.right, at_start, dtype=torch.float64)
    end_t = torch.linspace(0.0, problem.end_time, at_end, dtype=torch.float64)
    ends = torch.tensor([problem.left, problem.right], dtype=torch.float64)
    given_x = torch.cat([start_x, ends.repeat_interleave(at_end)])
    points = Points(
        x=torch.from_numpy(inside[:, 0].copy()),
        t=torch.from_numpy(inside[:, 1].copy()),
        given_x=given_x,
        given_t=torch.cat([torch.zeros(at_start, dtype=torch.float64), end_t, end_t]),
        given_u=problem.initial(given_x),
    )
    return points.to(device)


class Training:
    """The loss of one run, and what measures its params: fresh points, a reference solution.

    Points, initial params and held-out points come from three random streams of the seed.
    `evaluations` counts calls of `loss_and_gradient`.
    """

    def __init__(
        self, problem: Burgers, precision: Precision, seed: int, device: torch.device
    ) -> None:
        self.problem = problem
        self.sizes = (2, *problem.hidden, 1)
        streams = [np.random.default_rng(np.random.SeedSequence([seed, k])) for k in range(3)]
        dtype = torch.float64 if precision == "float64" else torch.float32
        self.exact_points = draw_points(problem, streams[0], device)
        self.points = self.exact_points.to(dtype)
        self.initial_params = torch.from_numpy(glorot_normal(self.sizes, streams[1])).to(
            device, dtype
        )
        fresh = torch.from_numpy(streams[2].random((2, HELD_OUT_POINTS))).to(device)
        self.held_out_x = problem.left + (problem.right - problem.left) * fresh[0]
        self.held_out_t = problem.end_time * fresh[1]
        self.reference = problem.reference()
        self.reference_u = torch.from_numpy(self.reference.u).to(device)
        grid_t, grid_x = np.meshgrid(self.reference.t, self.reference.x, indexing="ij")
        self.grid_x = torch.from_numpy(grid_x.ravel()).to(device)
        self.grid_t = torch.from_numpy(grid_t.ravel()).to(device)
        self.evaluations = 0

    def solution(
        self,
        params: Float[Tensor, " params"],
        x: Float[Tensor, " points"],
        t: Float[Tensor, " points"],
    ) -> Float[Tensor, " points"]:
        """u(t, x; params)."""
        inputs = torch.stack([x, t], dim=1)
        output = mlp(params, inputs, self.sizes, self.problem.activation)[:, 0]
        if self.problem.conditions == "lift":
            return self.problem.lift(x, t, output)
        return output

    def residual(
        self,
        params: Float[Tensor, " params"],
        x: Float[Tensor, " points"],
        t: Float[Tensor, " points"],
    ) -> Float[Tensor, " points"]:
        """The equation's residual of the network."""
        x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
        return self.problem.residual(x, t, self.solution(params, x, t))

    def loss(self, params: Float[Tensor, " params"], points: Points) -> Float[Tensor, ""]:
        """Mean squared residual, plus mean squared misfit of the conditions under a penalty."""
        residual_loss = self.residual(params, points.x, points.t).square().mean()
        if self.problem.conditions == "lift":
            return residual_loss
        misfit = self.solution(params, points.given_x, points.given_t) - points.given_u
        return residual_loss + misfit.square().mean()

    def loss_and_gradient(
        self, params: Float[Tensor, " params"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " params"]]:
        """The loss on the training points and its gradient by nested reverse-mode autograd."""
        self.evaluations += 1
        params = params.detach().requires_grad_()
        loss = self.loss(params, self.points)
        (gradient,) = torch.autograd.grad(loss, params)
        return loss.detach(), gradient

    def predict(self, params: Float[Tensor, " params"]) -> Float[Tensor, "nt nx"]:
        """The network on the reference solution's grid, in float64."""
        with torch.no_grad():
            u = self.solution(params.double(), self.grid_x, self.grid_t)
        return u.view_as(self.reference_u)
