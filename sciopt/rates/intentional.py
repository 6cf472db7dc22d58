"""A rate that asks for an outcome: the fraction of its TD error that an update takes away.

For values v(w) with gradient g, an update rate * td_error * g changes the value by
rate * |g|^2 * td_error to first order; the fraction eta is taken away by rate = eta / |g|^2, the
normalised least mean squares. Sharifnassab, Elsayed, De Asis, Mahmood and Sutton (2026),
"Intentional updates for streaming reinforcement learning" (arXiv 2604.19033), extend this to
eligibility traces and a diagonal scale.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def scaled_square(
    vector: Float[Tensor, "*batch params"], scale: Float[Tensor, "*batch params"]
) -> Float[Tensor, "*batch"]:
    """The squared length sum_i vector_i^2 / scale_i."""
    return (vector.square() / scale).sum(-1)


def intentional_rate(
    fraction: Float[Tensor, "*#batch"],
    gradient_square: Float[Tensor, "*batch"],
    trace_square: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """The rate fraction / sqrt(gradient_square * trace_square) of td_error * trace / scale.

    `gradient_square` is the usual and `trace_square` the present `scaled_square`, of gradients and
    of the trace. Where trace and gradient are the same, as without memory of either, the update
    takes away the `fraction` of the TD error, to first order.
    """
    return fraction / (gradient_square * trace_square).sqrt().clamp(min=1e-8)


def clipped_error(
    td_error: Float[Tensor, "*batch"], mean_square: Float[Tensor, "*batch"], multiple: float
) -> Float[Tensor, "*batch"]:
    """The TD error cut to `multiple` times its root mean square."""
    most = multiple * mean_square.sqrt()
    return td_error.clamp(min=-most, max=most)


def intended_fraction(
    fraction: Float[Tensor, "*#batch"], surprise: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The fraction min(1, fraction * surprise): a big surprise may be taken away whole, never more.

    `surprise` is unit-free, as `relative_surprise`: a usual one counts 1.
    """
    return (fraction * surprise).clamp(max=1.0)
