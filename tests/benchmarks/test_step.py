"""The benchmark runs, and notices when what it times is not the step it should be."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.benchmarks.memory import held
from tests.benchmarks.race import Bar, Candidate, Row, judge, race

ROOT = Path(__file__).parents[2]
SHAPES = [(3, 2), (3,)]


def test_the_command_prints_every_case_and_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "tests.benchmarks.step", "--quick", "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    written = json.loads(file.read_text())
    fastest = {(row["case"], row["candidate"]): row["fastest"] for row in written["rows"]}
    assert len({case for case, _ in fastest}) == 4
    for row in written["rows"]:
        assert 0 < row["fastest"] <= row["median"]
        for against, ratio in row["ratios"].items():
            assert ratio == pytest.approx(row["fastest"] / fastest[row["case"], against])
    assert all(each["met"] in (True, None) for each in written["memory"])


class NoOp(torch.optim.SGD):
    """Steps nowhere."""

    def step(self, closure: None = None) -> None:
        """Do nothing."""


class ConsumingAdam(torch.optim.Adam):
    """Leaves garbage in the gradients, then takes them away."""

    def step(self, closure: None = None) -> None:
        """Step, and spoil the gradients."""
        super().step(closure)
        for param in self.param_groups[0]["params"]:
            assert param.grad is not None, "asked to step without a gradient"
            param.grad.fill_(7.0)
            param.grad = None


def rival(build: Callable[[list[Tensor]], object], **expected: object) -> list[Candidate]:
    return [
        Candidate("torch", torch.optim.Adam),
        Candidate("rival", build, equals="torch", **expected),  # pyright: ignore[reportArgumentType]
    ]


def test_a_step_that_does_nothing_is_not_timed() -> None:
    with pytest.raises(AssertionError, match="rival did not move"):
        race("case", rival(NoOp), SHAPES, rounds=1, steps=1)


def test_another_methods_time_is_not_taken_for_this_ones() -> None:
    other = rival(lambda params: torch.optim.Adam(params, betas=(0.9, 0.99)))
    with pytest.raises(AssertionError, match="away from torch"):
        race("case", other, SHAPES, rounds=2, steps=2)


def test_consumed_gradients_are_given_back() -> None:
    rows = race("case", rival(ConsumingAdam), SHAPES, rounds=2, steps=2)
    assert all(row.fastest is not None for row in rows)


def test_one_tensor_of_all_parameters_takes_the_same_steps() -> None:
    race("case", rival(torch.optim.Adam, one_tensor=True), SHAPES, rounds=2, steps=3)


def test_a_missing_library_costs_its_own_row_only() -> None:
    def build(params: list[Tensor]) -> object:
        raise ModuleNotFoundError("No module named 'peer'")

    torchs, rivals = race("case", rival(build), SHAPES, rounds=1, steps=1)
    assert torchs.fastest is not None
    assert (rivals.fastest, rivals.note) == (None, "not installed")


def test_a_bar_is_met_up_to_its_ratio() -> None:
    rows = [Row("case", "a", fastest=2.0), Row("case", "b", fastest=1.0), Row("case", "c")]
    judge(rows, [[], [Bar("a", 0.5), Bar("a", 0.49)], [Bar("a", 1.0)]])
    assert [verdict.met for verdict in rows[1].verdicts] == [True, False]
    assert rows[1].ratios == {"a": 0.5, "b": 1.0}
    assert rows[2].verdicts == []


def test_memory_counts_what_is_kept_and_views_once() -> None:
    class Keeper(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            (param, *_) = self.param_groups[0]["params"]
            buffer = torch.zeros(2, *param.shape)
            self.state[param] = {"whole": buffer, "half": buffer[0]}

    kept = held(Keeper, [(5, 3)])
    assert (kept.bytes, kept.tensors) == (2 * 15 * 4, 1)
