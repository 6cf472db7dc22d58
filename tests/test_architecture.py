"""applications/<domain> -> sciopt.bench -> sciopt -> torch: never back, never sideways."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from applications import all_domains
from sciopt.bench import Domain

ROOT = Path(__file__).parents[1]


def imported_modules(file: Path, package: str) -> Iterator[str]:
    """Full names of everything a file imports, relative imports resolved."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            origin = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*origin, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def forbidden_imports(root: Path) -> list[str]:
    """Every import below `root` that goes back or sideways."""
    found = []
    for file in sorted([*root.glob("sciopt/**/*.py"), *root.glob("applications/**/*.py")]):
        parts = list(file.relative_to(root).with_suffix("").parts)
        package = ".".join(parts[:-1])
        for module in imported_modules(file, package):
            target = module.split(".")
            back = parts[0] == "sciopt" and target[0] == "applications"
            into_bench = parts[0] == "sciopt" and parts[1] != "bench"
            into_bench = into_bench and target[:2] == ["sciopt", "bench"]
            in_a_room = parts[0] == "applications" and len(parts) > 2
            sideways = in_a_room and target[0] == "applications" and target[1:2] != [parts[1]]
            if back or into_bench or sideways:
                found.append(f"{file.relative_to(root)} imports {module}")
    return found


@pytest.mark.parametrize("domain", all_domains().values(), ids=lambda domain: domain.name)
def test_nothing_that_computes_imports_what_is_said_to_be_without_effect(domain: Domain) -> None:
    room = Path(inspect.getfile(domain.start)).parent
    room_name = ".".join(room.relative_to(ROOT).parts)
    aside = tuple(f"{room_name}.{name}." for name in domain.without_effect)
    for name in domain.without_effect:
        assert (room / f"{name}.py").exists() or (room / name).is_dir()
    for file in room.rglob("*.py"):
        first, *_ = file.relative_to(room).with_suffix("").parts
        # The package and its command line bring everything together and compute nothing.
        if first not in (*domain.without_effect, "__init__", "__main__"):
            package = ".".join(file.relative_to(ROOT).parts[:-1])
            imported = [f"{module}." for module in imported_modules(file, package)]
            assert not [module for module in imported if module.startswith(aside)]


def test_imports_go_one_way() -> None:
    assert forbidden_imports(ROOT) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("sciopt/rule.py", "import applications.td"),
        ("sciopt/rates/noise.py", "from applications import all_domains"),
        ("sciopt/engine.py", "from sciopt.bench import Run"),
        ("sciopt/engine.py", "from .bench import Run"),
        ("applications/td/solve.py", "from applications.pinn.solve import evaluate"),
        ("applications/td/solve.py", "from ..pinn import DOMAIN"),
        ("applications/td/solve.py", "from applications import pinn"),
    ],
)
def test_an_import_back_or_sideways_is_found(place: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text(line)
    assert len(forbidden_imports(tmp_path)) == 1
