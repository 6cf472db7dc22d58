"""A solution against the solver it came from, torch.func, and itself after a file."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_pde import write_own_pde
from pinn_small import SlabbedHeat
from torch import Tensor

from applications.pinn import own_problem
from applications.pinn.language import Condition, Problem
from applications.pinn.methods import METHODS, GaussNewton, Method
from applications.pinn.problems import (
    AllenCahn,
    BoundaryLayer,
    Burgers,
    Convection,
    KuramotoSivashinsky,
    MultiscalePoisson,
    Poisson5D,
    Robertson,
)
from applications.pinn.solution import Solution, default_steps, solve
from applications.pinn.solve import Solver, error
from sciopt.bench import Record
from sciopt.bench.runner import Silent

CPU = torch.device("cpu")
QUICK = GaussNewton(hidden=(6, 5), condition_points=16, slab_steps=2, points_per_param=1.0)
WIDENS = dataclasses.replace(QUICK, hidden=(2, 2), redraw_every=1, slab_steps=15)


@dataclasses.dataclass(frozen=True)
class Lifted(Problem):
    """Two unknowns, both met at t = 0 by construction, of very different size."""

    region = {"x": (-1.0, 1.0), "t": (0.0, 2.0)}
    unknowns = ("u", "v")
    magnitudes = {"v": 1e-3}
    periodic = ("x",)

    speeds: tuple[float, ...] = (1.0, 2.0)

    def equations(self, u: Any, v: Any, x: Tensor, t: Tensor) -> list[Tensor]:
        return [u.t - self.speeds[0] * u.xx, v.t + self.speeds[1] * v - 1e-3 * u.x]

    def conditions(self) -> Sequence[Condition]:
        return []

    def lift(self, x: Tensor, t: Tensor) -> list[tuple[Any, Any]]:
        return [(torch.sin(torch.pi * x), t), (0.0, t)]


EVERY = {
    "symmetric and periodic": (Burgers(), QUICK),
    "even": (AllenCahn(), QUICK),
    "slabs": (KuramotoSivashinsky(), QUICK),
    "layer": (BoundaryLayer(), QUICK),
    "five coordinates": (Poisson5D(), QUICK),
    "magnitudes": (Robertson(), QUICK),
    "lift": (Lifted(), QUICK),
    "sine": (MultiscalePoisson(), QUICK),
    "Fourier features": (AllenCahn(), dataclasses.replace(QUICK, fourier_features=3, harmonics=2)),
    "widened": (SlabbedHeat(), WIDENS, 30),
    "float32": (BoundaryLayer(), dataclasses.replace(METHODS["adam"], hidden=(4,))),
}


def after_steps(problem: Problem, method: Method, steps: int = 5) -> Solver:
    solver = Solver(problem, method, 0, CPU)
    for _ in range(steps):
        solver.step()
    return solver


def some_points(solution: Solution, count: int = 60) -> np.ndarray:
    """Random points of the region and its corners, as far as the solution was trained."""
    ends = np.array(list(solution.problem.region.values()))
    ends[-1, 1] = solution.reached
    low, high = ends.T
    inside = low + (high - low) * np.random.default_rng(0).random((count, len(low)))
    return np.concatenate([inside, low[None], high[None]])


@pytest.fixture(params=EVERY.values(), ids=list(EVERY), scope="module")
def solver(request: pytest.FixtureRequest) -> Solver:
    return after_steps(*request.param)


def test_a_prediction_is_what_the_solver_has_there(solver: Solver) -> None:
    solution = Solution.of(solver)
    points = some_points(solution)
    expected = solver.values(torch.from_numpy(points)).numpy()
    found = solution.predict(points)
    assert list(found) == list(solver.problem.unknowns)
    np.testing.assert_array_equal(np.stack(list(found.values()), axis=1), expected)
    # The solver going on leaves the solution as it was.
    solver.step()
    again = solution.predict(points)
    np.testing.assert_array_equal(np.stack(list(again.values()), axis=1), expected)


def test_a_saved_solution_is_the_same_to_the_last_bit(solver: Solver, tmp_path: Path) -> None:
    records = [Record(1, 0.25, {"loss": 0.5}), Record(3, 0.75, {"loss": 1e-9})]
    solution = dataclasses.replace(Solution.of(solver), records=records, ended="so it was")
    solution.save(tmp_path / "kept.npz")
    loaded = Solution.load(tmp_path / "kept.npz")
    assert type(loaded.problem) is type(solution.problem)
    assert loaded.problem == solution.problem
    assert (list(loaded.records), loaded.ended) == (records, "so it was")
    assert loaded.metrics == {"loss": 1e-9}
    points = some_points(solution)
    for name, expected in solution.predict(points).items():
        np.testing.assert_array_equal(loaded.predict(points)[name], expected)
    np.testing.assert_array_equal(loaded.residual(points), solution.residual(points))
    np.testing.assert_array_equal(loaded.points, solution.points)


def test_the_plain_module_and_its_export_are_the_solution(solver: Solver, tmp_path: Path) -> None:
    solution = Solution.of(solver)
    solution.export(tmp_path / "plain.pt2")
    exported = torch.export.load(tmp_path / "plain.pt2").module()
    for count in (1, 60):
        points = some_points(solution, count)
        expected = np.stack(list(solution.predict(points).values()), axis=1)
        size = np.abs(expected).max(axis=0)
        for module in (solution.module(), exported):
            found = module(torch.from_numpy(points)).detach().numpy()
            np.testing.assert_allclose(found / size, expected / size, rtol=0, atol=1e-12)


def test_derivatives_and_residuals_are_those_of_torch_func() -> None:
    problem = Lifted()
    solution = Solution.of(after_steps(problem, QUICK))
    points = some_points(solution, 8)
    module = solution.module()

    def at(number: int, *orders: int) -> np.ndarray:
        """A derivative by nested differentiation of the plain module."""

        def value(point: Tensor) -> Tensor:
            return module(point[None])[0, number]

        def by(axis: int, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda point: torch.func.jacrev(function)(point)[axis]

        function = value
        for axis in orders:
            function = by(axis, function)
        return torch.stack([function(p) for p in torch.from_numpy(points)]).detach().numpy()

    found = solution.predict(points, "u.xx", "v", "u.t", "u.tx", "v.t", "u.x")
    assert list(found) == ["u.xx", "v", "u.t", "u.tx", "v.t", "u.x"]
    np.testing.assert_allclose(found["u.xx"], at(0, 0, 0), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found["u.tx"], at(0, 0, 1), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found["v.t"], at(1, 1), rtol=1e-9, atol=1e-13)
    expected = [
        found["u.t"] - found["u.xx"],
        found["v.t"] + 2 * found["v"] - 1e-3 * found["u.x"],
    ]
    np.testing.assert_allclose(solution.residual(points), np.stack(expected, 1), atol=1e-12)


def test_a_grid_has_an_axis_for_each_coordinate_given_many_values() -> None:
    solution = Solution.of(after_steps(Convection(), QUICK, 1))
    x, t = np.linspace(0, 6, 5), np.linspace(0, 1, 3)
    grid = solution.predict_grid(t=t, x=x)["u"]
    assert grid.shape == (5, 3)
    for i, j in np.ndindex(5, 3):
        assert grid[i, j] == pytest.approx(solution.predict([[x[i], t[j]]])["u"][0], abs=1e-14)
    np.testing.assert_allclose(
        solution.predict_grid(x=x, t=0.5)["u"], grid[:, 1], rtol=1e-12, atol=1e-15
    )
    slopes = solution.predict_grid("u.x", x=0.0, t=t)
    assert {name: value.shape for name, value in slopes.items()} == {"u.x": (3,)}
    ode = Solution.of(after_steps(BoundaryLayer(), QUICK, 1))
    np.testing.assert_array_equal(ode.predict([0.1, 0.2])["u"], ode.predict([[0.1], [0.2]])["u"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.predict([0.0, 0.5]), "points have shape (2,); expected (points, 2), the"),
        (lambda s: s.predict(np.zeros((4, 3))), "the columns being x, t"),
        (lambda s: s.predict([[0.0, np.nan]]), "not finite"),
        (lambda s: s.predict([[0.0, 0.5]], "w"), "unknown quantity 'w'"),
        (lambda s: s.predict([[0.0, 0.5]], "u.y"), "u.y is no derivative here"),
        (lambda s: s.predict_grid(x=0.0, y=0.0), "unknown coordinate 'y'"),
        (lambda s: s.predict_grid(x=0.0), "missing: ['t']"),
        (lambda s: s.export("solution.pt"), "ends in .pt2"),
    ],
)
def test_a_mistake_is_answered_with_what_was_expected(call: Any, message: str) -> None:
    solution = Solution.of(after_steps(Convection(), QUICK, 0))
    with pytest.raises(ValueError, match=re.escape(message)):
        call(solution)


def test_points_where_nothing_was_trained_are_answered_with_a_warning() -> None:
    solution = Solution.of(after_steps(BoundaryLayer(), QUICK, 0))
    with pytest.warns(UserWarning, match="2 of 3 points have x outside of 0 to 1"):
        solution.predict([-0.1, 0.5, 1.1])
    periodic = Solution.of(after_steps(Convection(), QUICK, 0))
    here, there = periodic.predict([[0.25, 0.5], [0.25 + 2 * np.pi, 0.5]])["u"]
    assert here == pytest.approx(there, rel=1e-9)
    slabs = Solution.of(after_steps(KuramotoSivashinsky(), QUICK, 3))
    assert slabs.reached == pytest.approx(0.2)
    with pytest.warns(UserWarning, match="1 of 1 points have t outside of 0 to 0.2"):
        slabs.predict([[1.0, 0.5]])


def test_a_users_problem_is_found_again_by_its_file(tmp_path: Path) -> None:
    file = write_own_pde(tmp_path)
    own = own_problem.load(f"{file}:faster")
    Solution.of(after_steps(own.problem, QUICK, 1)).save(tmp_path / "mine.npz")
    loaded = Solution.load(tmp_path / "mine.npz")
    assert (type(loaded.problem).__name__, dataclasses.asdict(loaded.problem)) == (
        "Fisher",
        {"growth": 2.0},
    )
    file.rename(tmp_path / "moved.py")
    with pytest.raises(ValueError, match=r"there is no file .*my_pde.py.*; pass it"):
        Solution.load(tmp_path / "mine.npz")
    assert Solution.load(tmp_path / "mine.npz", own.problem).problem is own.problem


def test_another_problem_or_file_is_refused(tmp_path: Path) -> None:
    Solution.of(after_steps(BoundaryLayer(), QUICK, 1)).save(tmp_path / "kept.npz")
    with pytest.raises(ValueError, match="saved for another BoundaryLayer"):
        Solution.load(tmp_path / "kept.npz", BoundaryLayer(width=0.02))
    for other in (Burgers(), Robertson()):
        with pytest.raises(ValueError, match="it is not the problem that was solved"):
            Solution.load(tmp_path / "kept.npz", other)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="is no solution: it holds x"):
        Solution.load(tmp_path / "other.npz")


def test_a_problem_of_a_session_is_passed_when_loading(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Local(BoundaryLayer):
        pass

    Solution.of(after_steps(Local(), QUICK, 1)).save(tmp_path / "kept.npz")
    with pytest.raises(ValueError, match="pass the problem"):
        Solution.load(tmp_path / "kept.npz")
    assert Solution.load(tmp_path / "kept.npz", Local()).problem == Local()


def test_solve_is_a_run_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Points(Silent):
        steps: list[int] = []

        def point(self, record: Record) -> None:
            self.steps.append(record.step)

    monkeypatch.chdir(tmp_path)
    watcher = Points()
    solution = solve(BoundaryLayer(), QUICK, max_steps=6, watcher=watcher)
    solver = after_steps(BoundaryLayer(), QUICK, 6)
    x = np.linspace(0, 1, 9)
    np.testing.assert_array_equal(solution.predict(x)["u"], Solution.of(solver).predict(x)["u"])
    assert watcher.steps == [record.step for record in solution.records] == [1, 2, 3, 4, 5, 6]
    assert solution.metrics["relative_l2_error"] == error(solver)
    assert solution.ended == "the step limit was reached: after 6 steps, as asked for"
    assert not list(tmp_path.iterdir())
    cut = solve(BoundaryLayer(), "adam", max_steps=10**6, max_seconds=0.05)
    assert "the time limit was reached" in cut.ended
    with pytest.raises(ValueError, match="did you mean 'gauss-newton'"):
        solve(BoundaryLayer(), "gauss-newtn")
    with pytest.raises(ValueError, match="max_steps is 0"):
        solve(BoundaryLayer(), max_steps=0)


def test_what_a_run_keeps_of_networks_that_were_widened_is_the_solution() -> None:
    solution = solve(SlabbedHeat(), WIDENS, max_steps=30)
    solver = after_steps(SlabbedHeat(), WIDENS, 30)
    units = [piece.network.sizes[1:-1] for piece in solution.pieces]
    assert all(size > (2, 2) for size in units) and len(units) == 2
    points = some_points(solution)
    expected = solver.values(torch.from_numpy(points)).numpy()
    np.testing.assert_array_equal(solution.predict(points)["u"], expected[:, 0])


def test_a_problem_in_slabs_has_steps_for_each(tmp_path: Path) -> None:
    assert default_steps(KuramotoSivashinsky(), QUICK) == 20
    assert default_steps(Burgers(), QUICK) == 500
