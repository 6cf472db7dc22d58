"""The code blocks of the README, so that tests run what a newcomer types."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_block(first_line: str, language: str = "python") -> str:
    """The README's code block that begins with `first_line`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (block,) = [block for block in blocks if block.startswith(first_line)]
    return block
