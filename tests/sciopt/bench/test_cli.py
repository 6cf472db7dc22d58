from pathlib import Path

import pytest
from drifter import DRIFTER, Walker

from sciopt.bench import Domain
from sciopt.bench.cli import main
from sciopt.bench.identity import InvalidRunError


def stroll(domain: Domain, arguments: list[str]) -> None:
    """PLACE [options]: walk there and back.

    Not shown.
    """
    if not arguments:
        raise InvalidRunError(f"stroll of {domain.name} needs a PLACE")
    Path("strolled").write_text(" ".join(arguments))


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """The exit code of a command typed in an empty folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["drifter", *arguments])
    try:
        main(DRIFTER, {"stroll": stroll})
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_run_takes_seeds_steps_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Walker.steps_taken
    arguments = "run drift walk --seeds 3 4 --max-steps 25 --problem.drift 0.5 --method.ends-at 20"
    assert call(monkeypatch, tmp_path, *arguments.split()) == 0
    assert Walker.steps_taken - before == 40
    output = capsys.readouterr().out
    assert "seed 3" in output and "seed 4" in output
    assert "distance" in output and "walked far enough" in output
    assert len(list((tmp_path / "results/runs/drifter").glob("drift.walk.*"))) == 2


def test_claim_prints_verdict_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, "claim", "it-moves", "--results", "elsewhere") == 0
    output = capsys.readouterr().out
    assert "holds" in output and "distance = " in output
    assert (tmp_path / "elsewhere/figures/drifter/it-moves.pdf").exists()


def test_list_shows_problems_methods_and_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, "list") == 0
    output = capsys.readouterr().out
    for expected in ("A walk with a drift.", "Gaussian steps.", "it-moves"):
        assert expected in output


def test_a_domain_may_have_commands_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, "stroll", "home", "--slowly") == 0
    assert (tmp_path / "strolled").read_text() == "home --slowly"
    for arguments in (["list"], ["--help"]):
        assert call(monkeypatch, tmp_path, *arguments) == 0
        output = capsys.readouterr().out
        assert "PLACE [options]: walk there and back." in output
        assert "Not shown" not in output
    assert call(monkeypatch, tmp_path, "--help") == 0
    assert "claim NAME [options] | stroll ..." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("strol", "did you mean 'stroll'"),
        ("stroll", "stroll of drifter needs a PLACE"),
        ("rnu drift walk", "did you mean 'run'"),
        ("run drfit walk", "did you mean 'drift'"),
        ("run drift wolk", "did you mean 'walk'"),
        ("run drift", "missing: METHOD"),
        ("claim it-mooves", "did you mean 'it-moves'"),
        ("claim", "missing: NAME"),
        ("list all", "no arguments"),
        ("run drift walk --max-steps 0", "max_steps is 0"),
        ("run drift walk --problem.drift -1", "drift is -1"),
        ("run drift walk --method.paus 3", "--method.pause"),
        ("run drift walk --max-steps many", "max-steps"),
        ("run drift walk --seeds", "seeds"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, tmp_path, *arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
    assert "Traceback" not in captured.err


def test_a_results_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("a file where the folder should go")
    assert call(monkeypatch, tmp_path, "run", "drift", "walk", "--max-steps", "3") == 1
    error = capsys.readouterr().err
    assert "results" in error
    assert "Traceback" not in error
