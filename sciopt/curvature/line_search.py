"""How far to go along a direction: More-Thuente and Hager-Zhang line searches.

Both are written as generators that propose a step size and are sent what was found there, so that
the algorithm reads as in its paper, and one loop (`line_search`) evaluates, counts and decides.
A trial whose loss or slope is not finite counts as infinitely high: it is never accepted, and the
next one is shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

# Sufficient decrease and curvature of the Wolfe conditions (Nocedal & Wright 2006, section 3.1).
DECREASE, CURVATURE = 1e-4, 0.9


@dataclass(frozen=True)
class Trial:
    """What is known at one point of the line: loss, its slope along the direction, gradient."""

    step_size: float
    loss: float
    slope: float
    gradient: Tensor
    gradient_max: float

    @property
    def finite(self) -> bool:
        """Whether a step may end here: no NaN and no infinity in the loss or any gradient."""
        return all(map(math.isfinite, (self.loss, self.slope, self.gradient_max)))


Evaluate = Callable[[float], Trial]
Proposals = Generator[float, Trial, None]


class Ending(Enum):
    """Why a line search ended."""

    WOLFE = "the step satisfies the Wolfe conditions"
    APPROXIMATE_WOLFE = (
        "the slope satisfies the Wolfe conditions, and the loss is no higher within its accuracy"
    )
    DECREASE = "the loss is sufficiently lower, but no step with a gentle enough slope was found"
    EVALUATIONS_EXHAUSTED = "the evaluations were used up before the loss was lower"
    ROUNDING = "the interval has shrunk to rounding errors before the loss was lower"


Propose = Callable[[Trial, float, float], Proposals]
Accept = Callable[[Trial, Trial, float], Ending | None]


@dataclass(frozen=True)
class LineSearch:
    """The trial to accept, None if there is none; the one evaluated last; why the search ended."""

    trial: Trial | None
    last: Trial
    evaluations: int
    ending: Ending


def line_search(
    method: str,
    evaluate: Evaluate,
    start: Trial,
    first: float,
    max_evaluations: int,
    loss_error: float = 1e-6,
) -> LineSearch:
    """A step that satisfies the conditions of the method, or else the lowest sufficient decrease.

    Args:
        method: "strong-wolfe" or "hager-zhang".
        evaluate: the trial at a step size.
        start: the trial at zero; its slope must be negative.
        first: the step size to try first.
        max_evaluations: limit of calls of `evaluate`, at least one.
        loss_error: relative error of the loss that "hager-zhang" allows for.
    """
    propose, accept = METHODS[method]
    highest = start.loss + loss_error * abs(start.loss)
    proposals = propose(start, first, highest)
    lowest, ending = start, Ending.EVALUATIONS_EXHAUSTED
    trial = evaluate(next(proposals))
    spent = 1
    while True:
        accepted = accept(start, trial, highest) if trial.finite else None
        if accepted is not None:
            return LineSearch(trial, trial, spent, accepted)
        if trial.finite and decreases(start, trial) and trial.loss < lowest.loss:
            lowest = trial
        if spent == max_evaluations:
            break
        try:
            step_size = proposals.send(trial)
        except StopIteration:
            ending = Ending.ROUNDING
            break
        trial = evaluate(step_size)
        spent += 1
    if lowest is start:
        return LineSearch(None, trial, spent, ending)
    return LineSearch(lowest, trial, spent, Ending.DECREASE)


def decreases(start: Trial, trial: Trial) -> bool:
    """f(a) <= f(0) + DECREASE a f'(0)."""
    return trial.loss <= start.loss + DECREASE * trial.step_size * start.slope


def strong_wolfe(start: Trial, trial: Trial, highest: float) -> Ending | None:  # noqa: ARG001
    """Sufficient decrease, and |f'(a)| <= CURVATURE |f'(0)|."""
    if abs(trial.slope) > CURVATURE * -start.slope:
        return None
    if decreases(start, trial):
        return Ending.WOLFE
    gentle = _slope_suffices(start, trial) and _unchanged(start, trial)
    return Ending.APPROXIMATE_WOLFE if gentle else None


def approximate_wolfe(start: Trial, trial: Trial, highest: float) -> Ending | None:
    """The Wolfe conditions, or their limit for small steps, which needs slopes only.

    Differences of the loss lose all their digits where slopes still have half of theirs (Hager &
    Zhang 2005, section 4).
    """
    if trial.slope < CURVATURE * start.slope:
        return None
    lower = trial.loss <= start.loss + _DELTA * trial.step_size * start.slope
    if lower and not _unchanged(start, trial):
        return Ending.WOLFE
    gentle = trial.loss <= highest and _slope_suffices(start, trial)
    return Ending.APPROXIMATE_WOLFE if gentle else None


def _slope_suffices(start: Trial, trial: Trial) -> bool:
    """(2 delta - 1) f'(0) >= f'(a): for a parabola, the same as sufficient decrease."""
    return trial.slope <= (2 * _DELTA - 1) * start.slope


def _unchanged(start: Trial, trial: Trial) -> bool:
    """Whether the two losses differ by rounding only."""
    rounding = torch.finfo(start.gradient.dtype).eps * abs(start.loss)
    return abs(trial.loss - start.loss) <= 1e3 * rounding


# Hager & Zhang (2006), section 4: sufficient decrease, growth of the first bracket, required
# shrinkage per round.
_DELTA, _RHO, _GAMMA = 0.1, 5.0, 0.66
# Of the way to a trial that was not finite.
_RETREAT = 0.1


def hager_zhang(start: Trial, first: float, highest: float) -> Proposals:
    """Bracket a root of the slope, then shrink by two secants, or a bisection where they are slow.

    Names and steps are those of Hager & Zhang (2006), Algorithm 851, section 4.
    """
    a, b = yield from _bracket(start, first, highest)
    while b.step_size - a.step_size > 1e-14 * b.step_size:
        width = b.step_size - a.step_size
        a, b = yield from _double_secant(a, b, highest)
        if b.step_size - a.step_size > _GAMMA * width:
            middle = (a.step_size + b.step_size) / 2
            a, b = yield from _update(a, b, middle, highest)


def _bracket(
    start: Trial, first: float, highest: float
) -> Generator[float, Trial, tuple[Trial, Trial]]:
    """Two trials a < b: the first low and falling, the second rising."""
    a, c = start, (yield first)
    while _low_and_falling(c, highest):
        a, c = c, (yield _RHO * c.step_size)
    if _rising(c):
        return a, c
    return (yield from _bisect(a, c, highest))


def _double_secant(
    a: Trial, b: Trial, highest: float
) -> Generator[float, Trial, tuple[Trial, Trial]]:
    c = _secant(a, b)
    left, right = yield from _update(a, b, c, highest)
    if c == right.step_size:
        return (yield from _update(left, right, _secant(b, right), highest))
    if c == left.step_size:
        return (yield from _update(left, right, _secant(a, left), highest))
    return left, right


def _update(
    a: Trial, b: Trial, step_size: float, highest: float
) -> Generator[float, Trial, tuple[Trial, Trial]]:
    """The bracket with the trial at `step_size` in the place of one of its ends."""
    if not a.step_size < step_size < b.step_size:
        return a, b
    c = yield step_size
    if _rising(c):
        return a, c
    if _low_and_falling(c, highest):
        return c, b
    return (yield from _bisect(a, c, highest))


def _bisect(a: Trial, b: Trial, highest: float) -> Generator[float, Trial, tuple[Trial, Trial]]:
    """A bracket between `a`, low and falling, and `b`, which is too high."""
    while b.step_size - a.step_size > 1e-14 * b.step_size:
        part = 0.5 if b.finite else _RETREAT
        c = yield a.step_size + part * (b.step_size - a.step_size)
        if _rising(c):
            return a, c
        if _low_and_falling(c, highest):
            a = c
        else:
            b = c
    return a, b


def _rising(trial: Trial) -> bool:
    return trial.finite and trial.slope >= 0


def _low_and_falling(trial: Trial, highest: float) -> bool:
    return trial.finite and trial.slope < 0 and trial.loss <= highest


def _secant(a: Trial, b: Trial) -> float:
    """Where the line through both slopes is zero; NaN, which is in no interval, if nowhere."""
    rise = b.slope - a.slope
    return (a.step_size * b.slope - b.step_size * a.slope) / rise if rise else math.nan


@dataclass(frozen=True)
class _Point:
    """Step size, value and slope of the function that is interpolated."""

    at: float
    value: float
    slope: float

    def tilted(self, slope: float) -> _Point:
        """The same point of the function less slope * step size."""
        return _Point(self.at, self.value - self.at * slope, self.slope - slope)


@dataclass
class _Interval:
    """The best point, the other end, and where the next step size may lie."""

    best: _Point
    other: _Point
    low: float
    high: float
    bracketed: bool = False
    width: float = math.inf
    width_before: float = math.inf

    def place(self, here: _Point, step_size: float) -> float:
        """Put `here` in the place of an end; the next step size, bisected if shrinking is slow."""
        turned = here.slope * math.copysign(1.0, self.best.slope) < 0
        higher = here.value > self.best.value
        if higher:
            self.other = here
        else:
            self.best, self.other = here, self.best if turned else self.other
        self.bracketed = self.bracketed or turned or higher
        best, other = self.best.at, self.other.at
        if self.bracketed:
            if abs(other - best) >= 0.66 * self.width_before:
                step_size = best + 0.5 * (other - best)
            self.width_before, self.width = self.width, abs(other - best)
            self.low, self.high = min(best, other), max(best, other)
        else:
            self.low = step_size + 1.1 * (step_size - best)
            self.high = step_size + 4.0 * (step_size - best)
        return step_size

    def exhausted(self, step_size: float) -> bool:
        """Whether rounding errors prevent progress."""
        if not math.isfinite(step_size) or step_size == self.best.at:
            return True
        inside = self.low < step_size < self.high and self.high - self.low > 1e-14 * self.high
        return self.bracketed and not inside


def more_thuente(start: Trial, first: float, highest: float) -> Proposals:  # noqa: ARG001
    """Safeguarded cubic interpolation that ends in a strong Wolfe step.

    More & Thuente (1994), with the constants of MINPACK-2's dcsrch, so that the same points are
    evaluated as by SciPy's line_search_wolfe1.
    """
    zero = _Point(0.0, start.loss, start.slope)
    interval = _Interval(zero, zero, 0.0, 5 * first)
    tilt = DECREASE * start.slope
    first_stage, limit = True, math.inf
    trial = yield first
    while True:
        while not trial.finite:
            if not interval.bracketed:
                limit = (interval.best.at + trial.step_size) / 2
            back = _RETREAT * (trial.step_size - interval.best.at)
            trial = yield interval.best.at + back
        here = _Point(trial.step_size, trial.loss, trial.slope)
        enough = decreases(start, trial)
        first_stage = first_stage and not (enough and here.slope >= 0)
        # Until the decrease is sufficient, a tilted function, whose minimum has it, is minimised.
        tilted = first_stage and not enough and here.value <= interval.best.value
        step_size = _next(interval, here, tilt if tilted else 0.0)
        step_size = min(interval.place(here, step_size), limit)
        if interval.exhausted(step_size):
            return
        trial = yield step_size


def _next(interval: _Interval, here: _Point, tilt: float) -> float:
    """The next step size by the four cases of MINPACK-2's dcstep."""
    best, other, here = (p.tilted(tilt) for p in (interval.best, interval.other, here))
    if here.value > best.value:
        cubic, quadratic = _cubic(best, here), _quadratic(best, here)
        nearer = abs(cubic - best.at) <= abs(quadratic - best.at)
        return cubic if nearer else cubic + (quadratic - cubic) / 2
    if here.slope * math.copysign(1.0, best.slope) < 0:
        return max(_cubic(here, best), _secant_of(here, best), key=lambda at: abs(at - here.at))
    outwards = interval.high if here.at > best.at else interval.low
    if abs(here.slope) < abs(best.slope):
        ahead = _cubic_ahead(here, best, outwards), _secant_of(here, best)
        if not interval.bracketed:
            farther = max(ahead, key=lambda at: abs(at - here.at))
            return min(max(farther, interval.low), interval.high)
        nearer = min(ahead, key=lambda at: abs(at - here.at))
        bound = here.at + 0.66 * (other.at - here.at)
        return min(bound, nearer) if here.at > best.at else max(bound, nearer)
    return _cubic(here, other) if interval.bracketed else outwards


def _cubic_root(base: _Point, end: _Point) -> tuple[float, float]:
    """Where the cubic through both has its minimum, in units from base to end; and its gamma."""
    theta = 3 * (base.value - end.value) / (end.at - base.at) + base.slope + end.slope
    scale = max(abs(theta), abs(base.slope), abs(end.slope), 1e-300)
    square = (theta / scale) ** 2 - (base.slope / scale) * (end.slope / scale)
    gamma = math.copysign(scale * math.sqrt(max(square, 0.0)), end.at - base.at)
    below = ((gamma - base.slope) + gamma) + end.slope
    return ((gamma - base.slope) + theta) / below if below else math.inf, gamma


def _cubic(base: _Point, end: _Point) -> float:
    return base.at + _cubic_root(base, end)[0] * (end.at - base.at)


def _cubic_ahead(base: _Point, end: _Point, outwards: float) -> float:
    """The cubic's minimum if it lies beyond `base`, seen from `end`."""
    ratio, gamma = _cubic_root(base, end)
    return base.at + ratio * (end.at - base.at) if ratio < 0 and gamma != 0 else outwards


def _quadratic(base: _Point, end: _Point) -> float:
    """The minimum of the quadratic with both values and the slope at `base`."""
    width = end.at - base.at
    return base.at + base.slope / ((base.value - end.value) / width + base.slope) / 2 * width


def _secant_of(base: _Point, end: _Point) -> float:
    return base.at + base.slope / (base.slope - end.slope) * (end.at - base.at)


METHODS: dict[str, tuple[Propose, Accept]] = {
    "strong-wolfe": (more_thuente, strong_wolfe),
    "hager-zhang": (hager_zhang, approximate_wolfe),
}
