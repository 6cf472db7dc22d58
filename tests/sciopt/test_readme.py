"""What the README composes runs, and the rate that it adds works as it says."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import sciopt
from sciopt.directions import Gradient

README = Path(sciopt.__file__).with_name("README.md")


COMPOSING, ADDING = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(block, names)
    return names


def test_the_composition_of_the_readme_applies_the_slope_that_the_probe_has_seen() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        names = run(COMPOSING)
    network, rates = names["network"], names["rates"]
    assert list(rates) == ["SecondMoment", "Saturation", "InverseNorm", "Confidence"]
    # The probe saw the network of the last step, one step away from this one.
    slope = 1 - network[1](network[0](names["inputs"])).square().mean(0)
    expected = slope.clamp(min=0.1) ** -1
    torch.testing.assert_close(
        rates["Saturation"][network[0].weight][:, 0], expected, rtol=0.05, atol=0
    )
    confidence = math.exp(-names["loss"].item())
    assert rates["Confidence"][network[0].bias].item() == pytest.approx(confidence, rel=1e-6)


def test_the_rate_of_the_readme_is_adagrad_per_layer() -> None:
    names = run(ADDING)
    params = [torch.zeros(2, dtype=torch.float64), torch.zeros((), dtype=torch.float64)]
    optimizer = sciopt.Composed(params, Gradient(), [names["LayerSumOfSquares"]()], lr=1.0)
    for _ in range(2):
        params[0].grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
        params[1].grad = torch.tensor(-7.0, dtype=torch.float64)
        optimizer.step()
    travel = 1 + 1 / math.sqrt(2)
    assert params[0].tolist() == pytest.approx([-0.6 * travel, -0.8 * travel], rel=1e-9)
    assert params[1].item() == pytest.approx(travel, rel=1e-9)
    assert optimizer.param_groups[0]["eps"] == 1e-10
    assert optimizer.state_dict()["state"][0]["layer_sum"].item() == 50.0
