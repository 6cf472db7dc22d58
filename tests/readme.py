"""The code blocks of the READMEs, so that tests run what a newcomer types."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_block(first_line: str, readme: str = "README.md") -> str:
    """The Python block of a README that begins with `first_line`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.S)
    (block,) = [block for block in blocks if block.startswith(first_line)]
    return block
