"""Projections onto the simplex and the box, applied to a parameter after its update.

The nearest feasible point depends on what near means. A step scaled by a rate per element is
steepest descent in the metric diag(1 / rate), and only a projection in that same metric keeps the
constrained minimum a fixed point: Adam drives all coordinates equally where their gradients
agree in sign, an equal shift is exactly what the Euclidean projection onto the simplex removes,
and the iteration stops at a point that is no minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sciopt.rule import Real


def project_simplex(
    point: Float[Tensor, "*batch n"],
    total: Real = 1.0,
    metric: Float[Tensor, "*batch n"] | None = None,
) -> Float[Tensor, "*batch n"]:
    """The argmin of sum_i metric_i (w_i - point_i)^2 over w >= 0 with sum w = total > 0.

    The minimiser is w_i = max(0, point_i - tau / metric_i) and the multiplier tau is found by
    sorting metric * point (Held, Wolfe & Crowder 1974; with a metric, Brucker 1984): exact, in
    O(n log n). Computed in float64, in which sums lose no digit that matters until the metric
    spans more than about 1e16 / n. `metric` must be positive. A point with a NaN gives NaN.
    """
    _check_total(total)
    dtype, point = point.dtype, point.double()
    inverse = torch.ones_like(point) if metric is None else 1 / metric.double()
    # Moving the point along `inverse` leaves the answer as it is. Done by a first estimate of tau
    # it brings the numbers to the size of `total`, where the second loses nothing to round-off.
    point = point - _multiplier(point, inverse, total) * inverse
    return (point - _multiplier(point, inverse, total) * inverse).clamp_min(0).to(dtype)


def _check_total(total: Real) -> None:
    if not 0 < total < float("inf"):
        raise ValueError(f"total must be positive and finite, got {total!r}")


def _multiplier(
    point: Float[Tensor, "*batch n"], inverse: Float[Tensor, "*batch n"], total: Real
) -> Float[Tensor, "*batch 1"]:
    """The tau at which max(0, point - tau * inverse) sums to `total`."""
    leaves_at, order = (point / inverse).sort(dim=-1, descending=True)
    sums = point.gather(-1, order).cumsum(-1) - total
    taus = sums / inverse.gather(-1, order).cumsum(-1)
    # At least one is held, though round-off may deny it where point is huge beside total.
    held = (leaves_at > taus).sum(-1, keepdim=True).clamp_min(1)
    return taus.gather(-1, held - 1)


@dataclass(frozen=True)
class Simplex:
    """w >= 0 with sum w = total along the last axis.

    `metric` is what near means: "rate" is diag(1 / rate) with the rates of this step, under
    which the constrained minimum is a fixed point; "euclidean" ignores the rates.
    """

    total: Real = 1.0
    metric: str = "rate"

    def __post_init__(self):
        _check_total(self.total)
        if self.metric not in ("rate", "euclidean"):
            raise ValueError(f'metric must be "rate" or "euclidean", got {self.metric!r}')

    def project(
        self, param: Float[Tensor, "*batch n"], rate: Float[Tensor, "*rate"]
    ) -> Float[Tensor, "*batch n"]:
        """The nearest point; `rate`, the product of the rates, broadcasts against it."""
        # One rate for all is no metric of its own, and may be zero where there is no gradient.
        if self.metric == "euclidean" or rate.ndim == 0:
            return project_simplex(param, self.total)
        return project_simplex(param, self.total, (1 / rate.double()).expand_as(param))


@dataclass(frozen=True)
class Box:
    """lower <= w <= upper for every element; the nearest point is the same in every metric."""

    lower: Real
    upper: Real

    def __post_init__(self):
        if not self.lower <= self.upper:
            raise ValueError(f"lower must not exceed upper, got [{self.lower}, {self.upper}]")

    def project(
        self,
        param: Float[Tensor, "*shape"],
        rate: Float[Tensor, "*rate"],  # noqa: ARG002
    ) -> Float[Tensor, "*shape"]:
        """The nearest point."""
        return param.clamp(self.lower, self.upper)
