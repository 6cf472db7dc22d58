"""The main job survives a kill -9: nothing finished is repeated and the result is the same."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from readme import ROOT

DONE_AGAIN = ": already done"


def finished_runs(results: Path) -> dict[str, str]:
    """The arrays' checksums of the finished runs, by run id."""
    files = results.glob("runs/*/*/result.json")
    return {f.parent.name: json.loads(f.read_text())["sha256"]["arrays.npz"] for f in files}


def reproduce(results: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "applications", "reproduce", "--results", str(results)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_reproduce_killed_in_the_middle_goes_on_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    killed = reproduce(tmp_path)
    assert killed.stdout is not None
    deadline = time.monotonic() + 600
    while len(finished_runs(tmp_path)) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    killed.kill()
    killed.communicate()
    before = finished_runs(tmp_path)
    assert len(before) >= 5

    output, _ = reproduce(tmp_path).communicate(timeout=1200)
    assert output.count(DONE_AGAIN) == len(before)
    after = finished_runs(tmp_path)
    assert before.items() <= after.items() and len(after) > len(before)
    report = (tmp_path / "report.html").read_text()
    verdicts = {f.name: json.loads(f.read_text()) for f in tmp_path.glob("figures/*/*.json")}

    output, _ = reproduce(tmp_path).communicate(timeout=600)
    assert output.count(DONE_AGAIN) == len(after)
    assert finished_runs(tmp_path) == after
    assert (tmp_path / "report.html").read_text() == report
    assert verdicts == {
        f.name: json.loads(f.read_text()) for f in tmp_path.glob("figures/*/*.json")
    }
