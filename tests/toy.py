"""The README's example of a domain, written to a temporary folder and found there."""

import tempfile
from pathlib import Path

from readme import code_block

from applications import all_domains
from sciopt.bench import Domain


def write_toy(folder: Path) -> Domain:
    """The domain of the README's example, as a package of its own in `folder`."""
    package = folder / "bowl"
    package.mkdir()
    source = code_block("# applications/bowl/__init__.py", "applications/README.md")
    (package / "__init__.py").write_text(source)
    return all_domains(folder)["bowl"]


TOY = write_toy(Path(tempfile.mkdtemp()))
