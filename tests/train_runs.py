"""Commands of `applications.td train` and `play` typed in a folder, and what they leave there."""

import json
from pathlib import Path

import numpy as np
import pytest

from applications.td import DOMAIN
from applications.td.play_command import play
from applications.td.train_command import train
from sciopt.bench.cli import main


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, arguments: str) -> int:
    """The exit code of a command typed in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["applications.td", *arguments.split()])
    try:
        main(DOMAIN, {"train": train, "play": play})
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def runs(folder: Path, results: str = "results") -> list[Path]:
    return sorted((folder / results / "runs/td").glob("[!.]*"))


def kept(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "arrays.npz") as arrays:
        return dict(arrays)


def curve(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["metrics"] for line in (run / "curve.jsonl").read_text().splitlines()]
