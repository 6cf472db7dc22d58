"""What makes two runs the same run: resolved settings, identifier and source fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

import sciopt
from sciopt.bench.domain import Domain, Run
from sciopt.bench.environment import package_versions

Option = TypeVar("Option")
MOST_STEPS = 10**12


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
    if not 1 <= run.max_steps <= MOST_STEPS:
        raise InvalidRunError(f"max_steps is {run.max_steps}; expected 1 to {MOST_STEPS:.0e}")
    cores = os.cpu_count() or 1
    if run.seed < 0 or not 1 <= run.threads <= cores:
        raise InvalidRunError(
            f"got seed {run.seed} and threads {run.threads}; expected seed >= 0 and 1 to {cores} "
            "threads"
        )
    settings = {
        "problem": pick(domain.problems, run.problem, f"problem of {domain.name}"),
        "method": pick(domain.methods, run.method, f"method of {domain.name}"),
    }
    known = {
        name: value for p, s in settings.items() for name, value in settings_by_name(s, p).items()
    }
    changes: dict[str, Any] = {}
    for key, value in run.overrides.items():
        if key not in known:
            raise InvalidRunError(f"unknown setting {key!r}{_nearest(key, known)}")
        changes[key] = _like(known[key], value)
    try:
        return tuple(_replaced(settings[p], p, changes) for p in settings)
    except (ValueError, TypeError) as error:
        raise InvalidRunError(f"{dict(run.overrides)}: {error}") from error


def settings_by_name(settings: Any, prefix: str) -> dict[str, Any]:
    """The settings by dotted name, those of a dataclass among them in its place."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        name, value = f"{prefix}.{field.name}", getattr(settings, field.name)
        values |= (
            settings_by_name(value, name) if dataclasses.is_dataclass(value) else {name: value}
        )
    return values


def _replaced(settings: Any, prefix: str, changes: Mapping[str, Any]) -> Any:
    """The settings with the changes, which have dotted names, made in one go at each level."""
    fields = {field.name: f"{prefix}.{field.name}" for field in dataclasses.fields(settings)}
    new = {field: changes[name] for field, name in fields.items() if name in changes}
    for field, name in fields.items():
        if any(key.startswith(f"{name}.") for key in changes):
            new[field] = _replaced(getattr(settings, field), name, changes)
    return dataclasses.replace(settings, **new)


def _like(default: Any, value: Any) -> Any:
    """The value, an int made a float where the setting is one: 5 and 5.0 are the same run."""
    return float(value) if type(default) is float and type(value) is int else value


def specification(domain: Domain, run: Run) -> dict[str, Any]:
    """All that decides the result of a run, as JSON-ready values."""
    problem, method = resolve(domain, run)
    decided = {
        "domain": domain.name,
        "run": {k: v for k, v in dataclasses.asdict(run).items() if k != "overrides"},
        "problem": dataclasses.asdict(problem),
        "method": dataclasses.asdict(method),
    }
    try:
        # As it will be read back, tuples being lists.
        return json.loads(json.dumps(decided))
    except TypeError as error:
        raise InvalidRunError(
            f"a setting of {run} cannot be written as JSON ({error}); use numbers, strings, "
            "booleans, None and tuples of these"
        ) from error


def run_id(domain: Domain, run: Run) -> str:
    """`problem.method.seed.hash`, the hash being that of the `specification`."""
    text = json.dumps(specification(domain, run), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{run.problem}.{run.method}.{run.seed}.{digest}"


def fingerprint(domain: Domain) -> str:
    """A hash of what else can change a number of this domain: source, data, packages.

    The source is `sciopt` without its bench, and the domain's folder without its command line and
    what the domain declares to be `without_effect`. Read once per process: to be called when the
    source is imported, lest it be edited in between.
    """
    room = Path(inspect.getfile(domain.start)).parent
    library = Path(sciopt.__file__).parent
    return _fingerprint(library, room, tuple(domain.without_effect), tuple(domain.data))


@lru_cache
def _fingerprint(
    library: Path, room: Path, without_effect: tuple[str, ...], data: tuple[Path, ...]
) -> str:
    sources = [p for p in library.rglob("*.py") if library / "bench" not in p.parents]
    sources += [
        p
        for p in room.rglob("*.py")
        if p.relative_to(room).with_suffix("").parts[0] not in (*without_effect, "__main__")
    ]
    digest = hashlib.sha256(json.dumps(package_versions()).encode())
    for file in (*sorted(sources), *data):
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
    if device.type not in ("cpu", "cuda"):
        raise InvalidRunError(f"device {run.device!r} is not supported; use cpu, cuda or cuda:1")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidRunError("device 'cuda' asked for, but torch finds none here; use cpu")
    return device
