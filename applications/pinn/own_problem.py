"""A user's own problem, read from a file: `my_pde.py:MyProblem`.

The file is run as Python runs a script's imports, and errors in it are told with their line.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from applications.pinn.language import Problem, ProblemError
from sciopt.bench.identity import InvalidRunError, pick

MODULE = "problem_file_"
"""What the names of modules made from users' files begin with."""


@dataclass(frozen=True)
class OwnProblem:
    """A problem, what it is called in results, and the files it was read from."""

    name: str
    problem: Problem
    files: Sequence[Path]


def is_file(target: str) -> bool:
    """Whether `target` names a file, alone or as `file.py:name`."""
    return target.endswith(".py") or ".py:" in target


def load(target: str) -> OwnProblem:
    """The problem `file.py:name`, a class or an instance; the name of the only one may be left out.

    Raises:
        InvalidRunError: no such file or name, no problem, or an error in the file.
    """
    path, _, name = (target, "", "") if target.endswith(".py") else target.rpartition(":")
    file = Path(path).resolve()
    module = execute(file)
    problems = {key: value for key, value in vars(module).items() if _is_problem(value, module)}
    if not name:
        if len(problems) != 1:
            raise InvalidRunError(
                f"{path} has {len(problems) or 'no'} problems{_listed(problems)}; name one of a "
                f"file: {path}:MyProblem"
            )
        (name,) = problems
    found = problems.get(name, vars(module).get(name))
    if found is None:
        pick(problems, name, f"problem in {path}:")
    if isinstance(found, type) and issubclass(found, Problem):
        with blamed_on(file):
            found = _instance(found, f"{path}:{name}")
    if not isinstance(found, Problem):
        raise InvalidRunError(
            f"{path}:{name} is a {type(found).__name__}, not a Problem: derive its class from "
            f"applications.pinn.language.Problem. Problems there: {', '.join(problems) or 'none'}"
        )
    return OwnProblem(f"{file.stem}.{name}", found, [file, *_siblings(file)])


def execute(file: Path) -> ModuleType:
    """The module that a file makes; its folder is searched last for what it imports.

    Raises:
        InvalidRunError: no such file, or an error in it.
    """
    if not file.is_file():
        raise InvalidRunError(f"there is no file {file}; give file.py:name or a problem's name")
    module = ModuleType(f"{MODULE}{file.stem}")
    module.__file__ = str(file)
    # dataclasses look the module up; the source is compiled here because a cached compilation of
    # a file saved twice within a second may be the old one.
    sys.modules[module.__name__] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    with blamed_on(file):
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    return module


@contextmanager
def blamed_on(file: Path) -> Iterator[None]:
    """Turn an error that passed through a user's file into one line with the place in it."""
    try:
        yield
    except Exception as error:
        line = _line_in(file, error)
        if line is None:
            raise
        raise InvalidRunError(f"{file.name}, line {line}: {_words(error)}") from error


def _words(error: Exception) -> str:
    if isinstance(error, (InvalidRunError, ProblemError)):
        return str(error)
    says = error.msg if isinstance(error, SyntaxError) else str(error)
    hint = "; write @dataclass(frozen=True)" if "non-frozen dataclass" in says else ""
    return f"{type(error).__name__}: {says}{hint}"


def _line_in(file: Path, error: BaseException | None) -> int | None:
    """The line of the file at which an error, or one that led to it, was raised."""
    while error is not None:
        if isinstance(error, SyntaxError) and error.filename == str(file):
            return error.lineno
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename == str(file):
                return frame.lineno
        error = error.__cause__ or error.__context__
    return None


def _is_problem(value: object, module: ModuleType) -> bool:
    if isinstance(value, type):
        return issubclass(value, Problem) and value.__module__ == module.__name__
    return isinstance(value, Problem)


def _instance(kind: type[Problem], target: str) -> Problem:
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidRunError(
            f"{target} needs a value for {', '.join(missing)}: give defaults, or make an instance "
            "in the file and name that one"
        )
    return kind()


def _siblings(file: Path) -> list[Path]:
    """Files of the same folder that are imported."""
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {Path(name) for name in modules if name}
    return sorted(f for f in files if f.parent == file.parent and f != file and f.suffix == ".py")


def _listed(names: Mapping[str, object]) -> str:
    return f" ({', '.join(names)})" if names else ""
