"""The two line searches on functions of one variable, against SciPy and their own conditions."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize._dcsrch import DCSRCH

from sciopt.curvature.line_search import Ending, LineSearch, Trial, line_search

Curve = Callable[[float], tuple[float, float]]


def more_thuente_1(a: float) -> tuple[float, float]:
    return -a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2


def more_thuente_2(a: float) -> tuple[float, float]:
    c = a + 0.004
    return c**5 - 2 * c**4, 5 * c**4 - 8 * c**3


def more_thuente_3(a: float) -> tuple[float, float]:
    wave = 2 * 0.99 / (39 * math.pi) * math.sin(39 * math.pi / 2 * a)
    slope = 0.99 * math.cos(39 * math.pi / 2 * a)
    if abs(a - 1) >= 0.01:
        return abs(a - 1) + wave, math.copysign(1.0, a - 1) + slope
    return (a - 1) ** 2 / 0.02 + 0.005 + wave, (a - 1) / 0.01 + slope


def yanai(beta_1: float, beta_2: float) -> Curve:
    first = math.sqrt(1 + beta_1**2) - beta_1
    second = math.sqrt(1 + beta_2**2) - beta_2

    def curve(a: float) -> tuple[float, float]:
        left, right = math.hypot(1 - a, beta_2), math.hypot(a, beta_1)
        return first * left + second * right, -first * (1 - a) / left + second * a / right

    return curve


# The six functions of More & Thuente (1994), section 5.
CURVES: dict[str, Curve] = {
    "1": more_thuente_1,
    "2": more_thuente_2,
    "3": more_thuente_3,
    "4": yanai(0.001, 0.001),
    "5": yanai(0.01, 0.001),
    "6": yanai(0.001, 0.01),
}
curves = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
firsts = pytest.mark.parametrize("first", [1e-3, 1e-1, 1.0, 10.0, 1e3])


def searched(
    method: str, curve: Curve, first: float, limit: int = 60, dtype: torch.dtype = torch.float64
) -> tuple[LineSearch, list[float], Trial]:
    gradient = torch.zeros(1, dtype=dtype)
    asked: list[float] = []

    def trial(a: float) -> Trial:
        loss, slope = curve(a)
        return Trial(a, loss, slope, gradient, abs(slope))

    def evaluate(a: float) -> Trial:
        asked.append(a)
        return trial(a)

    start = trial(0.0)
    return line_search(method, evaluate, start, first, limit), asked, start


@curves
@firsts
def test_more_thuente_evaluates_where_scipy_does(curve: Curve, first: float) -> None:
    found, asked, start = searched("strong-wolfe", curve, first)
    expected: list[float] = []

    def loss(a: float) -> float:
        expected.append(a)
        return curve(a)[0]

    scipys = DCSRCH(loss, lambda a: curve(a)[1], 1e-4, 0.9, 1e-14, 1e-100, 1e100)
    scipys(first, start.loss, start.slope)
    assert asked == pytest.approx(expected, rel=1e-9)
    assert found.ending is Ending.WOLFE


@curves
@firsts
@pytest.mark.parametrize("method", ["strong-wolfe", "hager-zhang"])
def test_the_step_satisfies_the_conditions(method: str, curve: Curve, first: float) -> None:
    found, asked, start = searched(method, curve, first)
    end = found.trial
    assert end is not None
    assert found.evaluations == len(asked)
    assert found.last.step_size == asked[-1]
    assert end.slope >= 0.9 * start.slope
    if found.ending is Ending.WOLFE:
        assert end.loss <= start.loss + 1e-4 * end.step_size * start.slope
    else:
        assert found.ending is Ending.APPROXIMATE_WOLFE
        assert end.loss <= start.loss + 1e-6 * abs(start.loss)
        assert end.slope <= (2 * 0.1 - 1) * start.slope
    if method == "strong-wolfe":
        assert abs(end.slope) <= 0.9 * abs(start.slope)


def near_its_minimum(a: float) -> tuple[float, float]:
    """A parabola whose loss has no digit left to differ in."""
    return 1.0 + 1e-20 * (a - 1) ** 2, 2e-20 * (a - 1)


def test_slopes_decide_where_the_loss_has_no_digits_left() -> None:
    found, _, _ = searched("hager-zhang", near_its_minimum, 5.0)
    assert found.ending is Ending.APPROXIMATE_WOLFE
    assert found.trial is not None
    assert found.trial.step_size == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["strong-wolfe", "hager-zhang"])
@pytest.mark.parametrize("edge", [1e-6, 0.5, 1.5, 1e4])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [1e-3, 1.0, 1e6])
def test_what_is_not_finite_is_never_accepted(
    method: str, edge: float, bad: float, first: float
) -> None:
    def curve(a: float) -> tuple[float, float]:
        return ((a - edge) ** 2, 2 * (a - edge)) if a <= 0.9 * edge else (bad, bad)

    found, _, start = searched(method, curve, first)
    assert found.trial is not None
    assert found.trial.finite
    assert found.trial.loss < start.loss


@pytest.mark.parametrize("method", ["strong-wolfe", "hager-zhang"])
@pytest.mark.parametrize("limit", [1, 3, 8])
def test_the_evaluations_are_limited_and_the_lowest_decrease_kept(method: str, limit: int) -> None:
    # Falls for ever: no step has a gentle slope.
    found, asked, _ = searched(method, lambda a: (-a, -1.0), 1.0, limit)
    assert len(asked) == limit
    assert found.ending is Ending.DECREASE
    assert found.trial is not None
    assert found.trial.step_size == max(asked)


@pytest.mark.parametrize("method", ["strong-wolfe", "hager-zhang"])
def test_a_loss_that_only_rises_has_no_step(method: str) -> None:
    found, asked, _ = searched(method, lambda a: (1 + a, -1.0), 1.0, 400)
    assert found.trial is None
    assert found.ending in (Ending.ROUNDING, Ending.EVALUATIONS_EXHAUSTED)
    assert min(asked) < 1e-6
