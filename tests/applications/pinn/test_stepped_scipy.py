"""Stepping through SciPy's minimisers: the same iterates, no thread left behind."""

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import OptimizeResult, minimize, rosen, rosen_der

from applications.pinn.stepped_scipy import Iterate, SteppedMinimization, Stopped

START = np.array([-1.2, 1.0, 0.7, -0.4])
ROOT = Path(__file__).parents[3]


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    return float(rosen(x)), rosen_der(x)


def begin(method: str = "L-BFGS-B") -> SteppedMinimization:
    return SteppedMinimization(START, method=method, memory=7, gradient_tolerance=1e-8)


LIMITED = {"maxcor": 7, "gtol": 1e-8, "ftol": 0.0, "maxls": 50}


@pytest.mark.parametrize(("method", "options"), [("L-BFGS-B", LIMITED), ("BFGS", {"gtol": 1e-8})])
def test_iterates_and_result_are_those_of_scipy_run_whole(
    method: str, options: dict[str, float]
) -> None:
    expected: list[np.ndarray] = []
    whole = minimize(
        rosenbrock,
        START,
        jac=True,
        method=method,
        callback=lambda x: expected.append(x.copy()),
        options=options,
    )
    minimization = begin(method)
    evaluations = 0

    def counted(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal evaluations
        evaluations += 1
        return rosenbrock(x)

    iterates = []
    while isinstance(outcome := minimization.next(counted), Iterate):
        iterates.append(outcome.params)
    np.testing.assert_array_equal(iterates, expected)
    assert outcome.message == whole.message
    assert evaluations == whole.nfev
    np.testing.assert_array_equal(outcome.x, whole.x)
    assert isinstance(minimization.next(counted), OptimizeResult), "asked again, it hung or went on"


def test_evaluations_run_in_the_callers_thread_and_nothing_runs_between_calls() -> None:
    asked: list[threading.Thread] = []

    def noted(x: np.ndarray) -> tuple[float, np.ndarray]:
        asked.append(threading.current_thread())
        return rosenbrock(x)

    minimization = begin()
    minimization.next(noted)
    assert set(asked) == {threading.current_thread()}


def test_the_thread_ends_when_the_minimization_is_dropped() -> None:
    before = set(threading.enumerate())
    minimization = begin()
    for _ in range(3):
        minimization.next(rosenbrock)
    (thread,) = set(threading.enumerate()) - before
    del minimization
    gc.collect()
    assert not thread.is_alive()


def test_an_error_in_an_evaluation_ends_the_minimization() -> None:
    def interrupted(x: np.ndarray) -> tuple[float, np.ndarray]:
        raise KeyboardInterrupt

    minimization = begin()
    minimization.next(rosenbrock)
    with pytest.raises(KeyboardInterrupt):
        minimization.next(interrupted)
    for _ in range(2):
        with pytest.raises(Stopped, match="start a new one"):
            minimization.next(rosenbrock)


def test_the_interpreter_exits_in_the_middle_of_a_minimization() -> None:
    program = (
        "import numpy as np\n"
        "from scipy.optimize import rosen, rosen_der\n"
        "from applications.pinn.stepped_scipy import SteppedMinimization\n"
        "minimization = SteppedMinimization(\n"
        "    np.zeros(5), method='L-BFGS-B', memory=5, gradient_tolerance=0.0\n"
        ")\n"
        "minimization.next(lambda x: (float(rosen(x)), rosen_der(x)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=60, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
