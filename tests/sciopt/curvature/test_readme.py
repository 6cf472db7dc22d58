"""What the README of the closure optimizers shows works."""

import re
from pathlib import Path
from typing import Any

import sciopt.curvature

README = Path(sciopt.curvature.__file__).with_name("README.md")


def test_the_examples_run_and_every_class_is_in_the_table(capsys):
    text = README.read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert "no element of the gradient exceeds" in capsys.readouterr().out
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(sciopt.curvature.__all__)
