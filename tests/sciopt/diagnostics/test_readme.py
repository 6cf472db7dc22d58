"""What the README of the instruments shows works."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import sciopt.diagnostics

README = Path(sciopt.diagnostics.__file__).with_name("README.md")


def test_the_examples_run_and_tell_the_truth(capsys):
    text = README.read_text()
    names: dict[str, Any] = {}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(block, names)
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert names["edge"].edge == pytest.approx(38)
    assert 0 < names["edge"].ratio < 2
    residual = names["network"](names["inputs"]) - names["targets"]
    fisher = (2 * residual).square().mean().item()
    assert names["fisher"]["2.bias"].item() == pytest.approx(fisher, rel=1e-5)
    assert {name for name in sciopt.diagnostics.__all__ if name[0].islower()} == set(
        re.findall(r"^\| `(\w+)\(", text, re.MULTILINE)
    )
