"""Stiff systems y' = f(y): SciPy's Radau method at two tolerances.

Radau IIA of order five is implicit and L-stable, so the fast decaying parts limit no step. Source:
Hairer & Wanner (1996), "Solving Ordinary Differential Equations II", sections IV.8 and IV.10; both
systems here are among their test problems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from applications.pinn.reference.gridded import Reference, relative_difference

Vector = Float[np.ndarray, " unknowns"]


@dataclass(frozen=True)
class StiffOde:
    """y' = rate(y), y(0) = initial, for t in [0, end_time]."""

    unknowns: tuple[str, ...]
    initial: tuple[float, ...]
    end_time: float
    rate: Callable[[Vector], Vector]
    jacobian: Callable[[Vector], Float[np.ndarray, "unknowns unknowns"]]
    """d rate / d y: Newton's method inside a step needs it exact to reach small tolerances."""


def radau(
    ode: StiffOde, tolerance: float, t: Float[np.ndarray, " times"] | None = None
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, "unknowns times"]]:
    """Times and solution: at `t`, or without it at the steps that the method itself took.

    `tolerance` is the relative error allowed per step. The absolute one is a millionth of it,
    because unknowns of size 1e-5 (Robertson's y2) count as well.

    Raises:
        RuntimeError: the method gave up before the end.
    """
    solution = solve_ivp(
        lambda _, y: ode.rate(y),
        (0, ode.end_time),
        ode.initial,
        method="Radau",
        t_eval=t,
        jac=lambda _, y: ode.jacobian(y),
        rtol=tolerance,
        atol=1e-6 * tolerance,
    )
    if not solution.success:
        raise RuntimeError(f"Radau at tolerance {tolerance:g} gave up: {solution.message}")
    return solution.t, solution.y


def ode_reference(
    ode: StiffOde, t: Float[np.ndarray, " times"], tolerance: float = 1e-12
) -> Reference:
    """The solution at `t` with its error bar: the largest change with other tolerances.

    They are 10, 1/3 and 1/10 of `tolerance`: the first shows what the method leaves out, the
    others the rounding errors, which grow with the number of steps.
    """

    def solution(allowed: float) -> dict[str, np.ndarray]:
        return dict(zip(ode.unknowns, radau(ode, allowed, t)[1], strict=True))

    values = solution(tolerance)
    others = [solution(factor * tolerance) for factor in (10, 1 / 3, 1 / 10)]
    return Reference({"t": t}, values, max(relative_difference(o, values) for o in others))


ROBERTSON = StiffOde(
    unknowns=("y1", "y2", "y3"),
    initial=(1.0, 0.0, 0.0),
    end_time=1e5,
    rate=lambda y: np.array(
        [
            -0.04 * y[0] + 1e4 * y[1] * y[2],
            0.04 * y[0] - 1e4 * y[1] * y[2] - 3e7 * y[1] ** 2,
            3e7 * y[1] ** 2,
        ]
    ),
    jacobian=lambda y: np.array(
        [
            [-0.04, 1e4 * y[2], 1e4 * y[1]],
            [0.04, -1e4 * y[2] - 6e7 * y[1], -1e4 * y[1]],
            [0.0, 6e7 * y[1], 0.0],
        ]
    ),
)
"""Three concentrations of an autocatalytic reaction, whose rates span nine decades; their sum is 1.

y1' = -0.04 y1 + 10⁴ y2 y3, y2' = 0.04 y1 - 10⁴ y2 y3 - 3·10⁷ y2², y3' = 3·10⁷ y2².
"""


def robertson() -> Reference:
    """Robertson's reaction at t = 0 and 441 times evenly spaced in log t, from 1e-6 to 1e5."""
    t = np.concatenate([[0.0], np.geomspace(1e-6, ROBERTSON.end_time, 441)])
    return ode_reference(ROBERTSON, t)


def van_der_pol_oscillator(stiffness: float, end_time: float) -> StiffOde:
    """The system x' = v, v' = stiffness (1 - x²) v - x from (2, 0): slow drift and jumps."""
    return StiffOde(
        unknowns=("x", "v"),
        initial=(2.0, 0.0),
        end_time=end_time,
        rate=lambda y: np.array([y[1], stiffness * (1 - y[0] ** 2) * y[1] - y[0]]),
        jacobian=lambda y: np.array(
            [[0.0, 1.0], [-2 * stiffness * y[0] * y[1] - 1, stiffness * (1 - y[0] ** 2)]]
        ),
    )


def van_der_pol(stiffness: float = 1000.0, end_time: float = 2000.0) -> Reference:
    """The oscillator at the times that Radau chooses at tolerance 1e-7, dense where it jumps.

    Most of these times lie in the jumps, so the error bar tells above all how well their moment
    is known.

    Raises:
        ValueError: stiffness or end_time is not positive.
    """
    if not (stiffness > 0 and end_time > 0):
        raise ValueError(
            f"stiffness is {stiffness} and end_time is {end_time}; both must be positive"
        )
    ode = van_der_pol_oscillator(stiffness, end_time)
    t, _ = radau(ode, 1e-7)
    return ode_reference(ode, t)


def van_der_pol_arc(stiffness: float, end_time: float, length: float) -> StiffOde:
    """Liénard's form of the oscillator along its own arc, whose jumps take as long as they are.

    Time in units of `end_time`, x and y = x'/stiffness + x³/3 - x are unknowns, the length s of
    the curve (time, x, y) is the coordinate.
    """

    def speeds(state: Vector) -> tuple[float, float, float]:
        _, x, y = state
        dx, dy = stiffness * end_time * (y - x**3 / 3 + x), -x * end_time / stiffness
        return dx, dy, float(np.sqrt(1 + dx**2 + dy**2))

    def rate(state: Vector) -> Vector:
        dx, dy, speed = speeds(state)
        return np.array([1.0, dx, dy]) / speed

    def jacobian(state: Vector) -> Float[np.ndarray, "unknowns unknowns"]:
        dx, dy, speed = speeds(state)
        steep = stiffness * end_time
        slopes = np.zeros((3, 3))
        slopes[1, 1:] = steep * (1 - state[1] ** 2), steep
        slopes[2, 1] = -end_time / stiffness
        along = (dx * slopes[1] + dy * slopes[2]) / speed
        return slopes / speed - np.outer([1.0, dx, dy], along) / speed**2

    return StiffOde(("time", "x", "y"), (0.0, 2.0, 2 / 3), length, rate, jacobian)


def van_der_pol_along_its_arc(
    stiffness: float = 1000.0, end_time: float = 2000.0, length: float = 10.0
) -> Reference:
    """The oscillator at 1001 points of its arc; begins on the slow curve y = x³/3 - x.

    `pace` is the root of the time that passes per length, in units of `end_time`.
    """
    s = np.linspace(0.0, length, 1001)
    ode = van_der_pol_arc(stiffness, end_time, length)
    reference = ode_reference(ode, s, tolerance=1e-10)
    states = np.stack(list(reference.values.values()), axis=1)
    pace = np.sqrt([ode.rate(state)[0] for state in states])
    return Reference({"s": s}, {**reference.values, "pace": pace}, reference.error_bar)
