"""`python -m applications.td train`, right and wrong, interrupted and resumed."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import gym_examples  # noqa: F401
import numpy as np
import pytest
from train_runs import call, curve, kept, runs

from applications.td.training_run import Streams, Training
from sciopt.bench import runner

SMALL = "--agent.hidden 6"
CASES = {
    "table": "FrozenLake-v1 --agent sarsa",
    "q-network": f"CartPole-v1 {SMALL} --method intentional-surprise",
    "actor-critic": f"CartPole-v1 --agent actor-critic {SMALL} --method adam",
    "continuous": f"Pendulum-v1 {SMALL} --max-episode-steps 15",
}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of figures take longer than such short trainings."""
    monkeypatch.setattr("applications.td.train_command.save_figure", lambda figure, stem: "")


def assert_same_run(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    left, right = kept(one), kept(other)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_in_the_middle_goes_on_bit_for_bit(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"train {CASES[case]} --episodes 6 --eval-episodes 2"
    monkeypatch.setattr(runner, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)
    step = Training.step

    def dies(self: Training) -> Any:
        if self.episode < 4:
            return step(self)
        choose = self.environment.step
        times = iter(range(3))

        def stops_working(action: Any) -> Any:
            if next(times) == 2:
                raise MemoryError("the machine is gone")
            return choose(action)

        self.environment.step = stops_working  # type: ignore[method-assign]
        return step(self)

    monkeypatch.setattr(Training, "step", dies)
    with pytest.raises(MemoryError):
        call(monkeypatch, tmp_path, command)
    monkeypatch.setattr(Training, "step", step)
    assert call(monkeypatch, tmp_path, command) == 0
    assert "goes on from step 4" in capsys.readouterr().out
    assert call(monkeypatch, tmp_path, f"{command} --results elsewhere") == 0
    (killed,), (whole,) = runs(tmp_path), runs(tmp_path, "elsewhere")
    assert_same_run(killed, whole)
    assert len(kept(whole)["episode_returns"]) == 6
    assert len(kept(whole)["evaluation_returns"]) == 2


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, step = "train Example-v0 --seeds 2 --episodes 8", Training.step

    def signalled(self: Training) -> Any:
        if self.episode == 4 and self.seed == 1:
            os.kill(os.getpid(), number)
        return step(self)

    monkeypatch.setattr(Training, "step", signalled)
    assert call(monkeypatch, tmp_path, command) == code
    assert f"{word}; the same command goes on from here" in capsys.readouterr().err
    monkeypatch.setattr(Training, "step", step)
    assert call(monkeypatch, tmp_path, command) == 0
    output = capsys.readouterr().out
    assert "seed 0: already done" in output and "goes on from step 5" in output
    assert call(monkeypatch, tmp_path, command) == 0
    assert capsys.readouterr().out.count("already done") == 2


def test_time_that_ran_out_is_recorded_and_more_of_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "train Example-v0 --episodes 40"
    assert call(monkeypatch, tmp_path, f"{command} --time-limit 1e-9") == 0
    output = capsys.readouterr().out
    assert "out of time" in output and "larger --time-limit goes on" in output
    assert call(monkeypatch, tmp_path, f"{command} --time-limit 60") == 0
    assert "goes on from step 1" in capsys.readouterr().out
    assert call(monkeypatch, tmp_path, f"{command} --results elsewhere") == 0
    (cut,), (whole,) = runs(tmp_path), runs(tmp_path, "elsewhere")
    assert_same_run(cut, whole)


def test_time_steps_may_be_limited_instead_of_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, "train Example-v0 --max-time-steps 3000") == 0
    lengths = kept(*runs(tmp_path))["episode_lengths"]
    assert lengths[:-1].sum() < 3000 <= lengths.sum()
    assert len(lengths) > 500
    assert "step limit" in capsys.readouterr().out


def test_a_seed_that_diverges_is_told_with_step_rate_and_error_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "train CliffWalking-v1 --method surprise --method.coefficient 0.05 --seeds 2 5 9"
    assert call(monkeypatch, tmp_path, f"{command} --episodes 30 --max-episode-steps 200") == 0
    output = capsys.readouterr().out
    found = [json.loads((run / "result.json").read_text()) for run in runs(tmp_path)]
    assert len(found) == 3
    lost = [result for result in found if result["status"] == "DIVERGED"]
    assert lost
    for result in lost:
        words = (
            "the values grow without end: in episode",
            "at time step",
            "the rate was",
            "TD error",
        )
        assert all(word in result["reason"] for word in words)
        assert result["reason"] in output
    # Worse than every return there is.
    assert "-inf" in output


def test_evaluations_along_the_way_disturb_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"train CartPole-v1 {SMALL} --episodes 5 --eval-episodes 2"
    assert call(monkeypatch, tmp_path, command) == 0
    assert call(monkeypatch, tmp_path, f"{command} --eval-along --results elsewhere") == 0
    (plain,), (along,) = runs(tmp_path), runs(tmp_path, "elsewhere")
    one, other = kept(plain), kept(along)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    points = curve(along)
    assert all("evaluation_return" in point for point in points)
    assert points[-1]["evaluation_return"] == other["evaluation_returns"].mean()


def test_no_two_episodes_share_their_luck() -> None:
    words = {
        word
        for seed in range(3)
        for purpose in range(2)
        for episode in range(50)
        for streams in [Streams.of(seed, purpose, episode)]
        for word in (streams.environment, streams.actions, streams.luck.random())
    }
    assert len(words) == 3 * 2 * 50 * 3
    assert Streams.of(1, 0, 2).luck.random() == Streams.of(1, 0, 2).luck.random()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("Carpole-v1", "Near it: CartPole-v1"),
        ("CliffWalking-v0", "use `CliffWalking-v1`"),
        ("Pendulum-v1 --agent q-network", "has continuous actions.*use --agent actor-critic"),
        ("CartPole-v1 --agent sarsa", "no table can be made; use --agent q-network"),
        ("CartPole-v1 --agent dqn", "unknown agent 'dqn'"),
        ("CartPole-v1 --method adma", "did you mean 'adam'"),
        ("FrozenLake-v1 --method adam", "unknown method of q-learning 'adam'"),
        ("CartPole-v1 --discount 1.5", "got discount = 1.5"),
        ("CartPole-v1 --agent.lambda_ -1", "got lambda_ = -1"),
        ("FrozenLake-v1 --agent.lambda_ 2", "got lambda_ = 2"),
        ("CartPole-v1 --seeds 0", "got --seeds 0; use how many"),
        ("CartPole-v1 --seeds 4 4", "got --seeds 4 4"),
        ("CartPole-v1 --episodes 0", "max_steps is 0"),
        ("CartPole-v1 --time-limit 0", "use seconds > 0"),
        ("Example-v0 --video", "cannot be recorded|needs moviepy"),
        ("Example-v0 --arguments kind=vector faulty_from=2", "at time step 2 of an episode"),
        ("FrozenLake-v1 --device cuda:7", "device"),
        ("", "train needs ENVIRONMENT"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    arguments: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Training, "step", lambda self: pytest.fail("training has begun"))
    assert call(monkeypatch, tmp_path, f"train {arguments}") == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert re.search(words, errors), errors


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert call(monkeypatch, tmp_path, "train Example-v0 --results taken") == 1
    assert "taken" in capsys.readouterr().err


def test_an_observation_that_turns_bad_ends_the_run_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--arguments kind=vector faulty_from=60 reward=0 --max-episode-steps 80"
    stays = "--agent.exploration-time-steps 0 --agent.exploration 1"
    monkeypatch.setattr("random.Random.random", lambda self: 0.1)
    assert call(monkeypatch, tmp_path, f"train Example-v0 {arguments} {stays}") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "in episode 1 at time step 60 Example-v0 gave the reward" in output
    assert "1 are not finite" in output
