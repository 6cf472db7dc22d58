"""What makes two runs the same run: resolved settings, identifier and source fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

import sciopt
from sciopt.bench.domain import Domain, Run

Option = TypeVar("Option")


class InvalidRunError(ValueError):
    """A run that cannot start; the message says what was got, what fits and what to do."""


def pick(options: Mapping[str, Option], name: str, kind: str) -> Option:
    """`options[name]`; an unknown name is answered with the nearest ones."""
    if name in options:
        return options[name]
    raise InvalidRunError(f"unknown {kind} {name!r}{_nearest(name, options)}")


def _nearest(name: str, options: Iterable[str]) -> str:
    known = list(options)
    near = get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"{hint} There are: {', '.join(known) or 'none'}."


def resolve(domain: Domain, run: Run) -> tuple[Any, Any]:
    """The problem's and the method's settings of a run, its overrides applied.

    Raises:
        InvalidRunError: an unknown name or field, or settings the domain rejects.
    """
    if run.max_steps < 1:
        raise InvalidRunError(f"max_steps is {run.max_steps}; it must be at least 1")
    if run.seed < 0 or run.threads < 1:
        raise InvalidRunError(
            f"got seed {run.seed} and threads {run.threads}; expected seed >= 0 and threads >= 1"
        )
    settings = {
        "problem": pick(domain.problems, run.problem, f"problem of {domain.name}"),
        "method": pick(domain.methods, run.method, f"method of {domain.name}"),
    }
    for key, value in run.overrides.items():
        part, _, field = key.partition(".")
        fields = [f"{p}.{f.name}" for p, s in settings.items() for f in dataclasses.fields(s)]
        if key not in fields:
            raise InvalidRunError(f"unknown setting {key!r}{_nearest(key, fields)}")
        try:
            settings[part] = dataclasses.replace(settings[part], **{field: value})
        except ValueError as error:
            raise InvalidRunError(f"{key} = {value!r}: {error}") from error
    return settings["problem"], settings["method"]


def specification(domain: Domain, run: Run) -> dict[str, Any]:
    """All that decides the result of a run, as JSON-ready values."""
    problem, method = resolve(domain, run)
    return {
        "domain": domain.name,
        "run": dataclasses.asdict(run),
        "problem": dataclasses.asdict(problem),
        "method": dataclasses.asdict(method),
    }


def run_id(domain: Domain, run: Run) -> str:
    """`problem.method.seed.hash`, the hash being that of the `specification`."""
    text = json.dumps(specification(domain, run), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{run.problem}.{run.method}.{run.seed}.{digest}"


def fingerprint(domain: Domain) -> str:
    """A hash of the source that can change a number of this domain.

    That is `sciopt` without its bench, and the domain's folder without its claims.
    """
    library = Path(sciopt.__file__).parent
    room = Path(inspect.getfile(domain.start)).parent
    sources = [p for p in library.rglob("*.py") if library / "bench" not in p.parents]
    sources += [p for p in room.rglob("*.py") if p.name not in ("claims.py", "__main__.py")]
    return _hash_of(tuple(sorted(sources)))


@lru_cache
def _hash_of(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def device_of(run: Run) -> torch.device:
    """The run's device.

    Raises:
        InvalidRunError: a name torch does not know, or CUDA where there is none.
    """
    try:
        device = torch.device(run.device)
    except RuntimeError as error:
        raise InvalidRunError(f"unknown device {run.device!r}; use cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidRunError("device 'cuda' asked for, but torch finds none here; use cpu")
    return device
