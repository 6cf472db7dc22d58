"""The comparison with DeepXDE says what is missing; where all is there, like is held to like."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def test_without_deepxde_one_line_says_how_to_install_it() -> None:
    hidden = "import sys; sys.modules['deepxde'] = None; "
    command = hidden + "from tests.benchmarks.deepxde import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'DeepXDE is not installed: pip install -e ".[benchmark]"'
    )


@pytest.mark.filterwarnings("ignore")
def test_both_take_the_same_steps() -> None:
    pytest.importorskip("deepxde")
    from tests.benchmarks.deepxde import race_steps

    before = torch.get_default_dtype()
    rows = race_steps(rounds=1)
    torch.set_default_dtype(before)
    assert all(row.fastest is not None for row in rows)
