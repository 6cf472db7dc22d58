"""The rate that the README adds works as it says."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import sciopt
from sciopt.directions import Gradient

README = Path(sciopt.__file__).with_name("README.md")


def test_the_rate_of_the_readme_is_adagrad_per_layer() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(blocks[0], names)
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
