"""What the README and the domains' READMEs tell a newcomer to type works."""

import re
from pathlib import Path

import pytest
import torch
from readme import ROOT, code_block

from applications import all_domains

READMES = sorted(
    file for file in ROOT.rglob("README.md") if not {".venv", "results"} & set(file.parts)
)


def test_the_optimizer_example_trains() -> None:
    torch.manual_seed(0)
    names: dict[str, torch.Tensor] = {}
    exec(code_block("# sciopt.Adam"), names)
    targets = names["targets"]
    assert names["loss"] < 0.98 * targets.square().mean()


@pytest.mark.parametrize("file", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_name_what_exists(file: Path) -> None:
    domains = all_domains()
    commands = re.findall(
        r"applications\.(\w+) (run|claim) ([\w.-]+)(?: ([\w.-]+))?", file.read_text()
    )
    for domain, verb, first, second in commands:
        if domain == "bowl" or first.isupper():
            continue
        if verb == "claim":
            assert first in domains[domain].claims
        else:
            assert first in domains[domain].problems
            assert second in domains[domain].methods


@pytest.mark.parametrize("file", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_and_figures_exist(file: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", file.read_text())
    for target in targets:
        assert target.startswith("http") or (file.parent / target).exists(), target
