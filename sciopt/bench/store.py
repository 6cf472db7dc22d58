"""One folder per run, written so that a kill at any moment loses nothing reported as done.

    spec.json         what decides the result, and the fingerprint of the source
    environment.json  commit, versions, machine
    curve.jsonl       one record per line, appended as the run goes
    checkpoint-<step>-<sha256>.pt   the two newest states of a run under way
    arrays.npz        what the domain keeps at the end
    result.json       written last, atomically: its presence is what "done" means

Every file of a finished run is covered by a checksum kept in result.json.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from sciopt.bench.domain import Domain, Record, Result, Run, Status
from sciopt.bench.environment import environment
from sciopt.bench.identity import fingerprint, run_id, specification

COVERED = ("spec.json", "environment.json", "curve.jsonl", "arrays.npz")


class DamagedRunError(Exception):
    """A file of a finished run is missing or not what was written; the message names it."""


class Condition(Enum):
    """What a run's folder holds."""

    MISSING = "not run yet"
    UNFINISHED = "begun, not finished"
    STALE = "made by other source code"
    DAMAGED = "damaged"
    DONE = "done"


@dataclass(frozen=True)
class Store:
    """The results of all domains below one folder."""

    root: Path

    def folder(self, domain: Domain, run: Run) -> RunFolder:
        """The folder of a run, which need not exist yet."""
        path = self.root / "runs" / domain.name / run_id(domain, run)
        return RunFolder(path, run, specification(domain, run) | {"source": fingerprint(domain)})


@dataclass(frozen=True)
class RunFolder:
    """The files of one run; `spec` is what its spec.json must say to be up to date."""

    path: Path
    run: Run
    spec: Mapping[str, Any]

    def condition(self) -> Condition:
        """What the folder holds; a finished run is verified against its checksums."""
        if not self.path.exists():
            return Condition.MISSING
        if not (self.path / "result.json").exists():
            return Condition.UNFINISHED
        if self.damage():
            return Condition.DAMAGED
        return Condition.DONE if self.is_current() else Condition.STALE

    def damage(self) -> str | None:
        """Which file of a finished run is not what was written; None if all are."""
        try:
            self._verified_summary()
        except DamagedRunError as error:
            return str(error)
        return None

    def is_current(self) -> bool:
        """Whether the run was begun with the source, data and packages of today."""
        return json.loads((self.path / "spec.json").read_text()) == self.spec

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the run against other processes; `waiting` is called if another one has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def may_go_on(self, max_seconds: float | None) -> bool:
        """Whether a finished run had been cut by a time limit that is now larger."""
        summary = json.loads((self.path / "result.json").read_text())
        if Status[summary["status"]] is not Status.OUT_OF_TIME:
            return False
        return max_seconds is None or self.load().last.seconds < max_seconds

    def reopen(self) -> None:
        """Make a finished run an unfinished one."""
        (self.path / "result.json").unlink()

    def commit(self) -> str:
        """The commit the run was made at."""
        return json.loads((self.path / "environment.json").read_text())["commit"]

    def begin(self) -> None:
        """Make the folder ready for a run that starts from nothing."""
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        write_atomically(self.path / "spec.json", _json(self.spec))
        write_atomically(self.path / "environment.json", _json(environment(self.run.device)))

    def set_aside(self) -> Path:
        """Move a damaged folder out of the way and return where it went."""
        return self.path.rename(self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}"))

    def append(self, record: Record) -> None:
        """Add a point to the curve."""
        with (self.path / "curve.jsonl").open("a") as curve:
            curve.write(_record_line(record))

    def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep `state` and the checkpoint before it; older ones go.

        Raises:
            TypeError: the state holds what could not be loaded again.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        try:
            torch.load(io.BytesIO(buffer.getbuffer()), weights_only=True)
        except UnpicklingError as error:
            raise TypeError(
                f"the state of {self.path.name} holds more than tensors, numbers, strings, lists "
                "and dicts, and could not be loaded again; numpy's numbers need float() or int()"
            ) from error
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:16]
        write_atomically(self.path / f"checkpoint-{step:012d}-{digest}.pt", buffer.getvalue())
        for old in self._checkpoints()[2:]:
            old.unlink()

    def load_checkpoint(self) -> tuple[dict[str, Any] | None, list[Path]]:
        """The newest intact checkpoint, if the source is the same, and the damaged files."""
        damaged: list[Path] = []
        try:
            same = self.is_current()
        except (OSError, ValueError):
            return None, damaged
        for file in self._checkpoints() if same else ():
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] == file.stem.rpartition("-")[2]:
                return torch.load(io.BytesIO(content), weights_only=True), damaged
            damaged.append(file)
        return None, damaged

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-*.pt"), reverse=True)

    def rewrite_curve(self, records: Sequence[Record]) -> None:
        """Replace the curve by `records`, as a resumed run must."""
        write_atomically(self.path / "curve.jsonl", "".join(map(_record_line, records)).encode())

    def finish(self, result: Result) -> None:
        """Write the arrays and then, last, the result; afterwards the run is done."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(result.arrays))
        write_atomically(self.path / "arrays.npz", buffer.getvalue())
        self.rewrite_curve(result.records)
        summary = {
            "status": result.status.name,
            "reason": result.reason,
            "start_seconds": result.start_seconds,
            "sha256": {name: _digest(self.path / name) for name in COVERED},
        }
        sealed = summary | {"checksum": hashlib.sha256(_json(summary)).hexdigest()}
        write_atomically(self.path / "result.json", _json(sealed))
        if result.status is not Status.OUT_OF_TIME:
            for checkpoint in self._checkpoints():
                checkpoint.unlink()

    def load(self) -> Result:
        """The finished run.

        Raises:
            DamagedRunError: a file is missing or not what was written.
        """
        summary = self._verified_summary()
        with np.load(self.path / "arrays.npz", allow_pickle=False) as arrays:
            kept = dict(arrays)
        return Result(
            run=self.run,
            status=Status[summary["status"]],
            reason=summary["reason"],
            records=[
                _record(line) for line in (self.path / "curve.jsonl").read_text().splitlines()
            ],
            arrays=kept,
            start_seconds=summary["start_seconds"],
        )

    def _verified_summary(self) -> dict[str, Any]:
        file = self.path / "result.json"
        try:
            summary = json.loads(file.read_bytes())
            checksum = summary.pop("checksum")
        except (ValueError, KeyError, AttributeError) as error:
            raise DamagedRunError(f"{file} cannot be read") from error
        if hashlib.sha256(_json(summary)).hexdigest() != checksum:
            raise DamagedRunError(f"{file} is not what was written")
        for name, digest in summary["sha256"].items():
            if not (self.path / name).exists() or _digest(self.path / name) != digest:
                raise DamagedRunError(f"{self.path / name} is missing or not what was written")
        return summary


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that a reader or a crash sees the old content or the new, never a part."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def record_as_json(record: Record) -> dict[str, Any]:
    """A record as JSON values; numbers that are not finite become null."""
    metrics = {k: v if math.isfinite(v) else None for k, v in record.metrics.items()}
    return {"step": record.step, "seconds": record.seconds, "metrics": metrics}


def record_from_json(value: Mapping[str, Any]) -> Record:
    """The inverse of `record_as_json`, null becoming NaN."""
    metrics = {k: math.nan if v is None else v for k, v in value["metrics"].items()}
    return Record(value["step"], value["seconds"], metrics)


def _record_line(record: Record) -> str:
    return json.dumps(record_as_json(record)) + "\n"


def _record(line: str) -> Record:
    return record_from_json(json.loads(line))
