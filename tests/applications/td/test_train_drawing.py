"""The figure over the seeds of a training, number by number."""

from pathlib import Path

import gym_examples  # noqa: F401
import numpy as np
import pytest
from train_runs import call

from applications.td.training_drawing import draw_training
from sciopt.bench import Record, Result, Run, Status


def result(seed: int, returns: list[float], status: Status = Status.STEP_LIMIT) -> Result:
    arrays = {"episode_returns": np.array(returns), "rates": np.full(len(returns), 0.5)}
    records = [Record(len(returns), 1.0, {"evaluation_return": 7.0 + seed})]
    return Result(Run("a", "b.c", 9, seed), status, "", records, arrays, 0.0)


def test_the_middle_of_the_seeds_is_drawn_and_a_diverged_one_counts_as_the_lowest() -> None:
    results = [
        result(0, [1.0, 2.0, 3.0]),
        result(1, [3.0, 4.0, 5.0, 6.0]),
        result(2, [8.0], Status.DIVERGED),
    ]
    left, right = draw_training(results, "title").axes
    middle = next(line for line in left.get_lines() if "3 seeds" in str(line.get_label()))
    np.testing.assert_allclose(np.asarray(middle.get_xydata()), [(1, 4), (2, 7 / 3), (3, 3)])
    assert [text.get_text() for text in left.texts] == ["1 of 3 diverged"]
    evaluated = next(line for line in left.get_lines() if line.get_label() == "evaluation")
    np.testing.assert_allclose(np.asarray(evaluated.get_xydata()), [(1, 9), (3, 7), (4, 8)])
    assert right.get_yscale() == "log"


def test_many_episodes_are_averaged_between_the_points_of_the_curve() -> None:
    (left, _) = draw_training([result(0, list(range(1000)))], "title").axes
    points = np.asarray(left.get_lines()[0].get_xydata())
    assert len(points) == 100
    np.testing.assert_allclose(points[:2], [(10, 4.5), (20, 14.5)])


def test_trainings_that_ended_in_their_first_episode_can_be_drawn() -> None:
    draw_training([result(seed, [], Status.DIVERGED) for seed in range(2)], "title")


def test_the_figure_and_the_help_page_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, "train Example-v0 --seeds 2 --episodes 4") == 0
    output = capsys.readouterr().out
    (figure,) = (tmp_path / "results/figures/td").glob("*.png")
    assert f"figure: {figure.relative_to(tmp_path)}" in output
    assert figure.stem.startswith("Example-v0.q-learning.relative-surprise.2-seeds.")
    assert call(monkeypatch, tmp_path, "train CartPole-v1 --help") == 0
    page = capsys.readouterr().out
    for option in ("--discount", "--agent.lambda_", "--method.kappa", "--time-limit"):
        assert option in page
