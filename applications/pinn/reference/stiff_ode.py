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


MOST_RISE = 8.0
"""Of the logarithm of the pace along the oscillator's arc, per length."""


def van_der_pol_arc(stiffness: float, end_time: float, length: float) -> StiffOde:
    """Liénard's form of the oscillator along its arc, whose jumps take as long as they are.

    Time in units of `end_time`, x and y = x'/stiffness + x³/3 - x are unknowns, and so is the
    logit q of the time p that passes per unit of s, the coordinate. With the speeds v = dx/dt,
    w = dy/dt of the oscillator,

        1 - p² (1 + v² + w²) = (q_s + √(q_s² + 1)) / (2 MOST_RISE).

    Where q falls, the right-hand side is small and s the length of the curve (time, x, y). It
    rises by no more than MOST_RISE: where a jump has ended, s is the logarithm of time for a while.
    """
    steep, slope, most = stiffness * end_time, end_time / stiffness, 2 * MOST_RISE

    def speeds(state: Vector) -> tuple[float, float, float, float]:
        _, x, y, logit = state
        pace = 1 / (1 + float(np.exp(-logit)))
        dx, dy = steep * (y - x**3 / 3 + x), -slope * x
        return pace, dx, dy, 1 - pace**2 * (1 + dx**2 + dy**2)

    def rate(state: Vector) -> Vector:
        pace, dx, dy, rest = speeds(state)
        return np.array([pace, pace * dx, pace * dy, (most * rest - 1 / (most * rest)) / 2])

    def jacobian(state: Vector) -> Float[np.ndarray, "unknowns unknowns"]:
        pace, dx, dy, rest = speeds(state)
        by_logit, bent = pace * (1 - pace), steep * (1 - state[1] ** 2)
        slopes = np.zeros((4, 4))
        slopes[:3, 3] = by_logit * np.array([1.0, dx, dy])
        slopes[1, 1:3] = pace * bent, pace * steep
        slopes[2, 1] = -pace * slope
        slopes[3, 1:] = [
            -2 * pace**2 * (dx * bent - dy * slope),
            -2 * pace**2 * dx * steep,
            -2 * pace * by_logit * (1 + dx**2 + dy**2),
        ]
        slopes[3] *= (most + 1 / (most * rest**2)) / 2
        return slopes

    start = np.sqrt((1 - 1 / most) / (1 + (2 * slope) ** 2))
    initial = (0.0, 2.0, 2 / 3, float(np.log(start / (1 - start))))
    return StiffOde(("time", "x", "y", "pace"), initial, length, rate, jacobian)


def van_der_pol_along_its_arc(
    stiffness: float = 1000.0, end_time: float = 2000.0, length: float = 12.0
) -> Reference:
    """The oscillator at 1001 points of its arc; begins on the slow curve y = x³/3 - x."""
    s = np.linspace(0.0, length, 1001)
    reference = ode_reference(van_der_pol_arc(stiffness, end_time, length), s, tolerance=1e-10)
    return Reference({"s": s}, reference.values, reference.error_bar)
