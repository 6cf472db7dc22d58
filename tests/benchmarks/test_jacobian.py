"""The benchmark of Jacobians runs, and notices when they are not the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.jacobian import GRADS, JVPS, NESTED, OURS, Contest

ROOT = Path(__file__).parents[2]


def test_the_command_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    tiny = ["--points", "5", "--hidden", "3", "--rounds", "1", "--json", str(file)]
    command = [sys.executable, "-m", "tests.benchmarks.jacobian", *tiny]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    rows = json.loads(file.read_text())
    assert [row["candidate"] for row in rows] == 2 * [GRADS, JVPS, OURS, NESTED, OURS]
    assert all(0 < row["fastest"] <= row["median"] for row in rows)
    for row in rows:
        assert bool(row["verdicts"]) == (row["candidate"] == OURS)


# torch.func's forward mode calls torch.jit.script, which warns of its end.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
def test_another_residual_is_not_taken_for_this_one() -> None:
    contest = Contest(5, (3, 4), "float64", "cpu")
    contest.check()
    contest.viscosity *= 1.01
    with pytest.raises(AssertionError, match="the Jacobian of"):
        contest.check()
