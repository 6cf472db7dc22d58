"""The methods at work, against closed forms: what is kept, and how runs go on and end."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from pinn_small import CPU, PI, TINY, Decay, Heat, Settled, SlabbedHeat, ended, steps_of, tiny
from torch import Tensor

from applications.pinn.language import Condition, Field, Problem, ProblemError
from applications.pinn.methods import (
    METHODS,
    FirstOrder,
    GaussNewton,
    NewtonCG,
    QuasiNewton,
    Sequence,
)
from applications.pinn.solve import arrays, evaluate, start
from sciopt.bench import Status


def test_gauss_newton_solves_a_problem_in_seconds() -> None:
    method = GaussNewton(hidden=(10, 10))
    solver = start(Heat(), method, 0, CPU)
    steps_of(solver, 80)
    metrics = evaluate(Heat(), solver)
    assert metrics["relative_l2_error"] < 1e-5
    assert not metrics["overfitted_points"]


RESUMED: dict[str, tuple[Problem, Any, int]] = {
    "first order": (Heat(), tiny(FirstOrder(redraw_every=2)), 7),
    "Gauss-Newton": (Heat(), tiny(GaussNewton(redraw_every=3)), 8),
    "Broyden": (Heat(), tiny(QuasiNewton(redraw_every=3)), 8),
    "L-BFGS": (Heat(), tiny(QuasiNewton(optimizer="LBFGS", redraw_every=3)), 8),
    "Newton-CG": (Heat(), tiny(NewtonCG(redraw_every=2)), 5),
    "float32": (Heat(), tiny(GaussNewton(redraw_every=2, precision="float32")), 5),
    "sequence": (
        Heat(),
        Sequence(stages=("adam", "gauss-newton", "broyden"), stage_steps=(2, 3), **TINY),
        8,
    ),
    "slabs": (SlabbedHeat(), tiny(GaussNewton(redraw_every=2, slab_steps=3)), 9),
    "sequence on slabs": (
        SlabbedHeat(),
        Sequence(stages=("adam", "lbfgs"), stage_steps=(2,), slab_steps=3, **TINY),
        9,
    ),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_resumed_from_any_state_continues_bit_for_bit(name: str) -> None:
    problem, method, steps = RESUMED[name]
    solver = start(problem, method, 5, CPU)
    states = []
    for _ in range(steps):
        states.append(solver.state_dict())
        solver.step()
    expected, kept = evaluate(problem, solver), arrays(problem, solver)
    for done, state in enumerate(states):
        resumed = start(problem, method, 5, CPU)
        resumed.load_state_dict(state)
        for _ in range(steps - done):
            resumed.step()
        assert evaluate(problem, resumed) == expected
        for key, values in arrays(problem, resumed).items():
            np.testing.assert_array_equal(values, kept[key], err_msg=f"{key} from step {done}")


def test_a_state_is_a_snapshot() -> None:
    solver = start(Heat(), tiny(FirstOrder()), 0, CPU)
    solver.step()
    state = solver.state_dict()["stage"]
    before = state["params"].clone()
    moments = [v.clone() for v in state["optimizer"]["state"][0].values() if v.ndim]
    solver.step()
    assert torch.equal(state["params"], before)
    kept = [v for v in state["optimizer"]["state"][0].values() if v.ndim]
    assert moments and all(map(torch.equal, moments, kept))


@pytest.mark.parametrize("name", METHODS)
def test_evaluation_does_not_disturb_the_solver(name: str) -> None:
    measured, alone = (start(Heat(), tiny(METHODS[name]), 0, CPU) for _ in range(2))
    for _ in range(6):
        measured.step()
        evaluate(Heat(), measured)
        arrays(Heat(), measured)
        alone.step()
    assert torch.equal(measured.params, alone.params)
    assert evaluate(Heat(), measured) == evaluate(Heat(), alone)


def test_metrics_of_the_zero_function_have_closed_forms() -> None:
    solver = start(Heat(), tiny(FirstOrder()), 0, CPU)
    with torch.no_grad():
        solver.params.zero_()
    metrics = evaluate(Heat(), solver)
    points = solver.training.least_squares.terms[1].points
    given = torch.sin(PI * points[:, 0])
    assert metrics["relative_l2_error"] == pytest.approx(1.0, abs=1e-15)
    assert metrics["held_out_loss"] == 0.0
    assert metrics["loss"] == pytest.approx(float(given.square().mean()), rel=1e-14)


def test_metrics_follow_from_the_arrays() -> None:
    solver = start(Heat(), tiny(GaussNewton()), 0, CPU)
    steps_of(solver, 3)
    metrics, kept = evaluate(Heat(), solver), arrays(Heat(), solver)
    x, t = np.meshgrid(kept["axis.x"], kept["axis.t"], indexing="ij")
    expected = np.sin(np.pi * x) * np.exp(-0.1 * np.pi**2 * t)
    np.testing.assert_allclose(kept["reference.u"], expected, rtol=0, atol=1e-15)
    error = np.linalg.norm(kept["predicted.u"] - expected) / np.linalg.norm(expected)
    assert metrics["relative_l2_error"] == pytest.approx(error, rel=1e-12)
    assert kept["points"].shape == (solver.training.count, 2)
    np.testing.assert_array_equal(kept["params.0"], solver.params.detach().numpy())
    assert metrics["points"] == solver.training.count
    assert metrics["damping"] == solver.stage.numbers()["damping"]


def test_the_error_of_several_unknowns_is_that_of_the_worst() -> None:
    @dataclass(frozen=True)
    class Decay(Problem):
        region = {"t": (0.0, 1.0)}
        unknowns = ("u", "v")

        def equations(self, u: Field, v: Field, t: Tensor) -> list[Tensor]:
            return [u.t + u, v.t + 2 * v]

        def conditions(self) -> list[Condition]:
            return [Condition("t", 0.0, lambda u, v, t: [u - 1, v - 1])]

        def exact(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return torch.exp(-t), torch.exp(-2 * t)

    solver = start(Decay(), tiny(GaussNewton()), 0, CPU)
    steps_of(solver, 2)
    kept = arrays(Decay(), solver)
    errors = [
        np.linalg.norm(kept[f"predicted.{u}"] - kept[f"reference.{u}"])
        / np.linalg.norm(kept[f"reference.{u}"])
        for u in ("u", "v")
    ]
    assert evaluate(Decay(), solver)["relative_l2_error"] == pytest.approx(max(errors), rel=1e-12)


def test_a_problem_without_a_reference_has_no_error() -> None:
    class Unsolved(Heat):
        def exact(self, x: Tensor, t: Tensor) -> Any:
            return None

    solver = start(Unsolved(), tiny(FirstOrder()), 0, CPU)
    assert "relative_l2_error" not in evaluate(Unsolved(), solver)
    assert not any(key.startswith("predicted") for key in arrays(Unsolved(), solver))


def test_a_start_asks_for_the_reference_once() -> None:
    asked = []

    class Asked(Heat):
        def reference(self) -> Any:
            asked.append(1)
            return super().reference()

    start(Asked(), tiny(FirstOrder()), 0, CPU)
    assert len(asked) == 1


def test_a_problem_that_cannot_be_solved_is_refused_at_the_start() -> None:
    class Open(Heat):
        def conditions(self) -> list[Condition]:
            return super().conditions()[:2]

    with pytest.raises(ProblemError, match="1 conditions along 'x'"):
        start(Open(), GaussNewton(), 0, CPU)


def test_a_method_that_cannot_move_is_given_new_points_three_times() -> None:
    solver = start(Settled(), tiny(QuasiNewton()), 0, CPU)
    points = []
    for _ in range(3):
        points.append(solver.training.least_squares.terms[0].points)
        assert solver.step() is None
    points.append(solver.training.least_squares.terms[0].points)
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(points))
    outcome = solver.step()
    assert outcome is not None and outcome.status is Status.CONVERGED


class Known(Decay):
    def lift(self, t: Tensor) -> Any:
        return torch.exp(-t), 0 * t


class KnownInSlabs(Known):
    slabs = 2


@pytest.mark.parametrize(("problem", "steps"), [(Known(), 2), (KnownInSlabs(), 4)])
def test_a_solution_that_is_exact_on_fresh_points_has_converged(
    problem: Problem, steps: int
) -> None:
    solver = start(problem, tiny(FirstOrder(redraw_every=1)), 0, CPU)
    for _ in range(steps - 1):
        assert solver.step() is None
    outcome = solver.step()
    assert outcome is not None and outcome.status is Status.CONVERGED
    assert "rounding" in outcome.reason


def test_a_constant_that_solves_the_equations_alone_has_not_converged() -> None:
    solver = start(Heat(), tiny(FirstOrder(redraw_every=1)), 0, CPU)
    for _ in range(3):
        with torch.no_grad():
            solver.params.zero_()
        assert solver.step() is None
    assert solver.training.fresh[-1] == 0.0


def test_a_method_that_keeps_its_points_ends_at_once() -> None:
    outcome = start(Settled(), tiny(QuasiNewton(redraw_every=0)), 0, CPU).step()
    assert outcome is not None and outcome.status is Status.CONVERGED


def test_a_slab_on_which_nothing_moves_makes_room_for_the_next() -> None:
    class Slabs(Settled):
        slabs = 2

    solver = start(Slabs(), tiny(QuasiNewton(redraw_every=0)), 0, CPU)
    assert solver.step() is None and len(solver.solved) == 1
    assert ended(solver, 1).status is Status.CONVERGED


def test_a_stage_that_can_go_no_further_hands_over_to_the_next() -> None:
    method = Sequence(stages=("broyden", "adam"), stage_steps=(1000,), **TINY)
    solver = start(Settled(), method, 0, CPU)
    assert solver.step() is None and solver.stage_number == 1
    steps_of(solver, 3)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (GaussNewton(), "at step 1 with damping 1.0e-02, worst in"),
        (QuasiNewton(), "at step 1, worst"),
    ],
)
def test_divergence_is_told_with_step_damping_and_the_worst_condition(
    method: Any, words: str
) -> None:
    @dataclass(frozen=True)
    class Root(Heat):
        def conditions(self) -> list[Condition]:
            _, *ends = super().conditions()
            return [Condition("t", 0.0, lambda u, x, t: torch.sqrt(u + 9) - 3), *ends]

    solver = start(Root(), tiny(method), 0, CPU)
    with torch.no_grad():
        solver.params[-1] = -100.0
    outcome = ended(solver, 1)
    assert outcome.status is Status.DIVERGED
    assert words in outcome.reason
    assert outcome.reason.endswith("worst in 't = 0'")


def test_points_are_drawn_as_often_as_asked_for() -> None:
    for every in (0, 2):
        solver = start(Heat(), tiny(FirstOrder(redraw_every=every)), 0, CPU)
        seen = []
        for _ in range(6):
            solver.step()
            seen.append(solver.training.least_squares.terms[0].points)
        changes = [k for k in range(1, 6) if not torch.equal(seen[k], seen[k - 1])]
        assert changes == ([2, 4] if every else [])


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_a_cuda_device_gives_the_same_numbers(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    method = tiny(METHODS[name])
    on_cpu, on_cuda = (start(Heat(), method, 0, torch.device(kind)) for kind in ("cpu", "cuda"))
    steps_of(on_cpu, 3)
    steps_of(on_cuda, 3)
    torch.testing.assert_close(on_cuda.params.cpu(), on_cpu.params, rtol=1e-9, atol=1e-11)
    assert evaluate(Heat(), on_cuda) == pytest.approx(evaluate(Heat(), on_cpu), rel=1e-8)
