"""The suite's benchmark runs, and its summary is that of its runs."""

import json
import math
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.suite import Mark, summary

ROOT = Path(__file__).parents[2]


def test_the_command_writes_every_run_at_every_mark(tmp_path: Path) -> None:
    runs, lines = tmp_path / "runs.json", tmp_path / "table.md"
    tiny = ["--problems", "boundary-layer", "--seeds", "2", "--seconds", "1", "0.1"]
    files = ["--json", str(runs), "--markdown", str(lines)]
    command = [sys.executable, "-m", "tests.benchmarks.suite", *tiny, *files]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    written = json.loads(runs.read_text())
    assert [(run["seed"], run["seconds"]) for run in written] == [
        (seed, mark) for seed in range(2) for mark in (0.1, 1)
    ]
    for earlier, later in zip(written[::2], written[1::2], strict=True):
        assert 0 < earlier["steps"] < later["steps"]
        assert later["held_out_loss"] < earlier["held_out_loss"]
    assert len(lines.read_text().splitlines()) == 2 + 2


def test_a_run_without_a_finite_error_counts_as_worst() -> None:
    marks = [
        Mark("kdv", 0, 60.0, 10, 1e-3, 1e-6),
        Mark("kdv", 1, 60.0, 30, 1e-5, 1e-8),
        Mark("kdv", 2, 60.0, 20, math.nan, math.nan, "diverged at 3 s"),
    ]
    found = summary(marks)
    assert (found.error, found.worst, found.steps) == (1e-3, math.inf, 20)
    assert found.ended == "seed 2 diverged at 3 s"
