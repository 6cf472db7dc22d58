"""`python -m applications.pinn solve` on a user's own file, right and wrong."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from own_pde import SOURCE, write_own_pde

from applications.pinn import DOMAIN, own_problem, solve_command
from applications.pinn.language import Problem
from applications.pinn.solution import Solution
from applications.pinn.solve import Solver
from applications.pinn.solve_command import solve
from sciopt.bench import Ended, identity
from sciopt.bench.cli import main

QUICK = "--max-steps 4 --method.hidden 6 --method.condition-points 16"


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, arguments: str) -> int:
    """The exit code of a command typed in the folder by a process of its own."""
    identity._fingerprint.cache_clear()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["applications.pinn", *arguments.split()])
    try:
        main(DOMAIN, {"solve": solve})
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than so few steps."""
    monkeypatch.setattr(solve_command, "figures_of", lambda solution: {})


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "results/runs/pinn").glob("[!.]*"))


def test_a_problem_of_ones_own_is_solved_measured_drawn_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own_pde(tmp_path)
    arguments = "solve my_pde.py:Fisher --max-steps 25 --method.hidden 10 --seed 3"
    assert call(monkeypatch, tmp_path, arguments) == 0
    output = capsys.readouterr().out
    (run,) = runs(tmp_path)
    assert run.name.startswith("my_pde.Fisher.gauss-newton.3.")
    rows = ("held-out loss", "collocation points", "seconds in steps", "the step limit was reached")
    assert all(row in output for row in rows)
    assert f"solution: {run.relative_to(tmp_path)}/solution.npz" in output
    for name in ("solution", "error", "residual", "training"):
        assert (run / f"figures/{name}.svg").exists()
        assert (run / f"figures/{name}.png").exists()
    solution = Solution.load(run / "solution.npz")
    # The front of Ablowitz & Zeppetella, in numpy.
    x, t = np.linspace(-2, 2, 41)[:, None], np.linspace(0, 0.5, 11)
    front = (1 + np.exp(x / np.sqrt(6) - 5 / 6 * t)) ** -2
    found = solution.predict_grid(x=x[:, 0], t=t)["u"]
    error = np.linalg.norm(found - front) / np.linalg.norm(front)
    assert error < 1e-2
    told = float(output.split("relative L2 error")[1].split()[1])
    assert told == pytest.approx(solution.metrics["relative_l2_error"], rel=1e-3)
    assert told == pytest.approx(error, rel=0.5)


@pytest.mark.usefixtures("no_figures")
def test_instances_settings_and_problems_of_the_suite_are_taken_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own_pde(tmp_path)
    for problem in ("my_pde.py:faster", "my_pde.py:Fisher --problem.growth 3", "boundary-layer"):
        assert call(monkeypatch, tmp_path, f"solve {problem} {QUICK}") == 0
    solutions = [Solution.load(run / "solution.npz") for run in runs(tmp_path)]
    growths = [getattr(solution.problem, "growth", None) for solution in solutions]
    assert growths == [None, 3.0, 2.0]
    # The run of the suite is the one that `run` would make.
    folder = runs(tmp_path)[0]
    written = (folder / "result.json").read_bytes()
    assert call(monkeypatch, tmp_path, f"run boundary-layer gauss-newton {QUICK}") == 0
    assert runs(tmp_path)[0] == folder
    assert (folder / "result.json").read_bytes() == written


@pytest.mark.usefixtures("no_figures")
def test_an_interrupted_run_goes_on_and_a_changed_file_is_solved_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, steps = write_own_pde(tmp_path), []
    step = Solver.step

    def counted(self: Solver) -> Ended | None:
        steps.append(self.steps)
        return step(self)

    def stepped_until_ctrl_c(self: Solver) -> Ended | None:
        ended = counted(self)
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return ended

    command = f"solve my_pde.py:SineGordon {QUICK} --max-steps 8".replace("--max-steps 4 ", "")
    monkeypatch.setattr(Solver, "step", stepped_until_ctrl_c)
    assert call(monkeypatch, tmp_path, command) == 130
    monkeypatch.setattr(Solver, "step", counted)
    assert call(monkeypatch, tmp_path, command) == 0
    assert "goes on from step 5" in capsys.readouterr().out
    assert steps == list(range(8))
    (run,) = runs(tmp_path)
    resumed = (run / "solution.npz").read_bytes()
    assert call(monkeypatch, tmp_path, command) == 0
    assert len(steps) == 8
    assert call(monkeypatch, tmp_path, f"{command} --results elsewhere") == 0
    (alone,) = (tmp_path / "elsewhere/runs/pinn").glob("[!.]*")
    one, other = (np.load(folder / "solution.npz") for folder in (run, alone))
    np.testing.assert_array_equal(one["params.0"], other["params.0"])
    file.write_text(SOURCE.replace("torch.sin(u)", "2 * torch.sin(u)"))
    assert call(monkeypatch, tmp_path, command) == 0
    assert "made by other source; it is done again" in capsys.readouterr().out
    assert (run / "solution.npz").read_bytes() != resumed


@pytest.mark.usefixtures("no_figures")
def test_points_that_were_fitted_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = "--method.points-per-param 0.05 --method.most-points-per-param 0.05"
    arguments = (
        f"solve convection --max-steps 40 --method.hidden 10 10 {few} --method.redraw-every 0"
    )
    assert call(monkeypatch, tmp_path, arguments) == 0
    assert "overfitted points: the equations' loss is" in capsys.readouterr().out


def test_a_run_that_diverged_or_did_not_reach_the_end_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own_pde(tmp_path)
    arguments = f"solve my_pde.py:Fisher --method sgd --method.lr 1e9 {QUICK}"
    assert call(monkeypatch, tmp_path, arguments) == 0
    output = capsys.readouterr().out
    assert "diverged: there is no solution to keep" in output and "solution:" not in output
    monkeypatch.setattr(solve_command, "figures_of", lambda solution: {})
    arguments = f"solve kuramoto-sivashinsky {QUICK} --method.slab-steps 2"
    assert call(monkeypatch, tmp_path, arguments) == 0
    assert "time slab 2 of 10 was reached, and beyond t = 0.2" in capsys.readouterr().out


def edited(old: str, new: str) -> str:
    assert old in SOURCE
    return SOURCE.replace(old, new)


LINE = SOURCE.splitlines().index("        return u.t - u.xx - self.growth * u * (1 - u)") + 1


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (SOURCE, "your_pde.py:Fisher", "there is no file"),
        (SOURCE, "my_pde.py:Fischer", "did you mean 'Fisher'?"),
        (SOURCE, "my_pde.py", "has 3 problems (Fisher, SineGordon, faster)"),
        (SOURCE, "my_pde.py:helper", "is a function, not a Problem"),
        (SOURCE, "my_pde.py:torch", "is a module, not a Problem"),
        (SOURCE, "burgesr", "did you mean 'burgers'"),
        (SOURCE, "fisher", "A problem of your own is given as FILE.py:NAME"),
        (SOURCE, "", "missing: FILE.py:NAME"),
        (SOURCE, "my_pde.py:Fisher --method gaus-newton", "did you mean 'gauss-newton'"),
        (SOURCE, "my_pde.py:Fisher --method=gaus-newton", "did you mean 'gauss-newton'"),
        (SOURCE, "my_pde.py:Fisher --max-steps 0", "max_steps is 0"),
        (SOURCE, "my_pde.py:Fisher --max-seconds -1", "max_seconds is -1.0"),
        (SOURCE, "my_pde.py:Fisher --problem.grwth 2", "--problem.growth"),
        (SOURCE, "my_pde.py:Fisher --device tpu", "unknown device 'tpu'"),
        ("", "my_pde.py", "has no problems"),
        ("x = (1,", "my_pde.py:x", "my_pde.py, line 1: SyntaxError: '(' was never closed"),
        ("\nimport nunpy", "my_pde.py:x", "my_pde.py, line 2: ModuleNotFoundError"),
        (
            edited("growth: float = 1.0", "growth: float"),
            "my_pde.py:Fisher",
            "my_pde.py:Fisher needs a value for growth",
        ),
        (
            edited("(frozen=True)", ""),
            "my_pde.py:Fisher",
            "write @dataclass(frozen=True)",
        ),
        (
            edited("u.t - u.xx", "u.t - u.xy"),
            "my_pde.py:Fisher",
            f"my_pde.py, line {LINE}: in equations: u.xy is no derivative here",
        ),
        (
            edited("u.t - u.xx", "u.t - torch.sinn(u)"),
            "my_pde.py:Fisher",
            f"my_pde.py, line {LINE}: AttributeError",
        ),
        (
            edited('            Condition("x", 2.0, lambda u, x, t: u - self.front(x, t)),\n', ""),
            "my_pde.py:Fisher",
            "the solution is not determined",
        ),
        (edited('"t": (0.0, 0.5)', '"t": (0.5, 0.0)'), "my_pde.py:Fisher", "'t' reaches from 0.5"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    source: str,
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_own_pde(tmp_path, source)
    assert call(monkeypatch, tmp_path, f"solve {arguments}") == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
    assert "Traceback" not in captured.err
    if captured.err.startswith("error:"):
        assert captured.err.count("\n") == 1
    assert not runs(tmp_path)


def test_a_file_is_read_anew_and_may_import_its_neighbours(tmp_path: Path) -> None:
    neighbour = tmp_path / "constants_of_fisher.py"
    neighbour.write_text("GROWTH = 4.0\n")
    source = f"from constants_of_fisher import GROWTH\n{edited('= 1.0', '= GROWTH')}"
    target = f"{write_own_pde(tmp_path, source)}:Fisher"
    own = own_problem.load(target)
    assert own.problem == type(own.problem)(growth=4.0)  # pyright: ignore[reportCallIssue]
    assert [file.name for file in own.files] == ["my_pde.py", "constants_of_fisher.py"]
    # Two sources of one length, written within one tick of the file system's clock.
    for growth in ("= 5.0", "= 6.0"):
        write_own_pde(tmp_path, edited("= 1.0", growth))
        problem = own_problem.load(target).problem
        assert isinstance(problem, Problem)
        assert getattr(problem, "growth") == float(growth[2:])  # noqa: B009


def test_an_error_elsewhere_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own_problem.blamed_on(write_own_pde(tmp_path)):
        torch.zeros(1).item() / 0  # pyright: ignore[reportUnusedExpression]


def test_help_lists_the_problems_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own_pde(tmp_path)
    arguments = "solve my_pde.py:Fisher --method adam --help"
    assert call(monkeypatch, tmp_path, arguments) == 0
    output = capsys.readouterr().out
    for option in ("--max-seconds", "--problem.growth", "--method.lr"):
        assert option in output
    assert call(monkeypatch, tmp_path, "list") == 0
    assert "FILE.py:NAME or PROBLEM [options]" in capsys.readouterr().out
