"""The step sizes an optimizer really takes, element by element."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from sciopt.optimizer import Composed

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class StepSizes(NamedTuple):
    """How step sizes are spread, and whether they go with the magnitude of the parameter.

    `pearson_of_logs` is of log step size and log |parameter|, over the elements where both are
    positive; `spearman` is of the ranks of all elements. NaN where one of the two is constant.
    """

    quantiles: dict[float, float]
    pearson_of_logs: float
    spearman: float


class EffectiveRates(NamedTuple):
    """Step sizes over all elements together, and parameter by parameter."""

    model: StepSizes
    by_parameter: dict[Tensor, StepSizes]


def step_sizes(optimizer: Composed) -> dict[Tensor, Tensor]:
    """The step size lr * rates of the last step, all scopes together, for every element.

    A tensor of the parameter's shape for every parameter that had a gradient.
    """
    applied = optimizer.last_rates().values()
    sizes: dict[Tensor, Tensor] = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            rates = [rates[param] for rates in applied if param in rates]
            if rates or not applied:
                size = torch.as_tensor(group["lr"], dtype=torch.float64, device=param.device)
                for rate in rates:
                    size = size * rate.to(size)
                sizes[param] = size.expand(param.shape)
    return sizes


def effective_rates(optimizer: Composed) -> EffectiveRates:
    """Quantiles of lr * rate, and its correlations with the magnitude of the parameters.

    Computed on the host in float64: a few sorts of all elements.

    Args:
        optimizer: one of sciopt's, after a step.

    Raises:
        ValueError: no parameter has been stepped yet.
    """
    by_parameter = {
        param: (_on_host(size), np.abs(_on_host(param)))
        for param, size in step_sizes(optimizer).items()
        if param.numel()
    }
    if not by_parameter:
        raise ValueError("the optimizer has not stepped any parameter yet; call it after a step")
    together = [np.concatenate(parts) for parts in zip(*by_parameter.values(), strict=True)]
    return EffectiveRates(
        summary(*together), {param: summary(*pair) for param, pair in by_parameter.items()}
    )


def summary(
    sizes: Float[np.ndarray, " elements"], magnitudes: Float[np.ndarray, " elements"]
) -> StepSizes:
    """The spread of the sizes and their correlations with the magnitudes."""
    both = (sizes > 0) & (magnitudes > 0)
    return StepSizes(
        dict(zip(QUANTILES, np.quantile(sizes, QUANTILES).tolist(), strict=True)),
        correlation(np.log(sizes[both]), np.log(magnitudes[both])),
        correlation(rankdata(sizes), rankdata(magnitudes)),
    )


def correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """Pearson's correlation; NaN where one of the two is constant to round-off."""
    if len(one) < 2:
        return float("nan")
    spreads = one.std(), other.std()
    round_off = 1e-13 * np.abs(one).max(), 1e-13 * np.abs(other).max()
    if spreads[0] <= round_off[0] or spreads[1] <= round_off[1]:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _on_host(tensor: Tensor) -> Float[np.ndarray, " elements"]:
    return tensor.detach().double().reshape(-1).cpu().numpy()
