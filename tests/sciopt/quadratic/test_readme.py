"""What the README of the quadratic programs shows works."""

import re
from pathlib import Path
from typing import Any

import torch

import sciopt.quadratic

README = Path(sciopt.quadratic.__file__).with_name("README.md")


def test_the_example_runs_and_what_is_in_the_table_exists() -> None:
    text = README.read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert names["answer"].relative_gap <= 1e-14
    assert names["answer"].point.sum().item() == torch.tensor(1.0).item()
    for call in re.findall(r"^\|.*?`(\w+)\(", text, re.MULTILINE):
        assert call in sciopt.quadratic.__all__
