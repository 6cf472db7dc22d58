"""`python -m applications.td play`: trained agents, from results and from checkpoints."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import gym_examples  # noqa: F401
import numpy as np
import pytest
from train_runs import call, kept, runs

from applications.td.gym_environments import make
from applications.td.play_command import trained
from applications.td.training_run import Training

TRAININGS = {
    "table": "train FrozenLake-v1 --arguments is_slippery=false --agent.exploration 0.3",
    "network": "train Example-v0 --arguments kind=vector --agent.hidden 6 --method adam",
    "actor-critic": "train Pendulum-v1 --max-episode-steps 30 --agent.hidden 6 5",
}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of figures take longer than such short trainings."""
    monkeypatch.setattr("applications.td.train_command.save_figure", lambda figure, stem: "")


@pytest.mark.parametrize("case", TRAININGS)
def test_a_run_plays_as_at_its_own_evaluation(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"{TRAININGS[case]} --episodes 12 --eval-episodes 3 --max-episode-steps 30"
    assert call(monkeypatch, tmp_path, command) == 0
    (run,) = runs(tmp_path)
    capsys.readouterr()
    assert call(monkeypatch, tmp_path, f"play {run} --episodes 3 --seed 0") == 0
    rows = re.findall(r"│ +(\d) +│ +(\S+) +│", capsys.readouterr().out)
    expected = kept(run)["evaluation_returns"]
    assert [float(value) for _, value in rows] == pytest.approx(expected.tolist(), rel=1e-4)


def test_an_unfinished_run_plays_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents: list[np.ndarray] = []
    step = Training.step

    def interrupted(self: Training) -> Any:
        ended = step(self)
        if self.episode == 7:
            os.kill(os.getpid(), signal.SIGINT)
            agents.append(self.agent.policy()["values"])
        return ended

    monkeypatch.setattr(Training, "step", interrupted)
    assert call(monkeypatch, tmp_path, "train Example-v0") == 130
    (run,) = runs(tmp_path)
    found = trained(run)
    np.testing.assert_array_equal(found.agent.policy()["values"], agents[0])
    assert len(found.play(make(found.task), 2, 0, greedy=True)) == 2
    assert call(monkeypatch, tmp_path, f"play {run}") == 0


def test_a_folder_without_a_training_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, f"play {tmp_path}") == 2
    assert "holds no run of `train`" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path, "train Example-v0 --episodes 1") == 0
    (run,) = runs(tmp_path)
    assert call(monkeypatch, tmp_path, f"play {run} --episodes 0") == 2
    (run / "result.json").unlink()
    assert call(monkeypatch, tmp_path, f"play {run}") == 2
    assert "neither a result nor a checkpoint" in capsys.readouterr().err


def test_a_video_is_recorded_of_each_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moviepy")
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = "train FrozenLake-v1 --max-episode-steps 4 --episodes 2 --video"
    assert call(monkeypatch, tmp_path, command) == 0
    (run,) = runs(tmp_path)
    assert call(monkeypatch, tmp_path, f"play {run} --episodes 1 --video --policy exploring") == 0
    names = sorted(file.name for file in (run / "video").iterdir())
    assert names == ["exploring-episode-0.mp4", *(f"greedy-episode-{i}.mp4" for i in range(3))]
    for name in names:
        read = [ffmpeg, "-i", str(run / "video" / name), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        shown = subprocess.run(read, capture_output=True, check=True).stdout
        # The lake is drawn in more than one colour.
        assert np.frombuffer(shown, np.uint8).std() > 10


def test_without_moviepy_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call(monkeypatch, tmp_path, "train FrozenLake-v1 --video") == 2
    assert '-e ".[video]"' in " ".join(capsys.readouterr().err.split())
