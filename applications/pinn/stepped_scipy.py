"""SciPy's minimisers, one iteration per call.

`scipy.optimize.minimize` runs whole and owns the loop. Here it runs in a thread that only asks:
for the loss and gradient at a point, or to show an iterate. Answers are computed in the caller's
thread, so that torch, its thread count, the clock and interrupts stay there; between two calls
the thread sleeps.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread, current_thread

import numpy as np
from jaxtyping import Float
from scipy.optimize import OptimizeResult, minimize

Vector = Float[np.ndarray, " params"]
LossAndGradient = Callable[[Vector], tuple[float, Vector]]


@dataclass(frozen=True)
class Iterate:
    """A point the minimiser has accepted."""

    params: Vector


class Stopped(Exception):
    """The minimisation was given up from outside."""


class SteppedMinimization:
    """A minimisation by `scipy.optimize.minimize` that stands still between calls of `next`.

    Its thread ends when the minimisation does, or when this object is dropped. There is no limit
    of iterations, and no test but that of the gradient.
    """

    def __init__(
        self, start: Vector, *, method: str, memory: int, gradient_tolerance: float
    ) -> None:
        self._questions: SimpleQueue[Vector | Iterate | OptimizeResult | BaseException] = (
            SimpleQueue()
        )
        self._answers: SimpleQueue[tuple[float, Vector] | None] = SimpleQueue()
        options: dict[str, float] = {"gtol": gradient_tolerance, "maxiter": 10**9}
        if method == "L-BFGS-B":
            options |= {"maxcor": memory, "ftol": 0.0, "maxls": 50, "maxfun": 10**9}
        thread = Thread(
            target=_minimize,
            args=(start, method, options, self._questions, self._answers),
            daemon=True,
        )
        thread.start()
        weakref.finalize(self, _hang_up, self._answers, thread)

    def next(self, loss_and_gradient: LossAndGradient) -> Iterate | OptimizeResult:
        """The next iterate, or SciPy's result if it stopped before finding one."""
        while True:
            question = self._questions.get()
            if isinstance(question, (OptimizeResult, BaseException)):
                # The thread is over: whoever asks again must hear the same.
                self._questions.put(question)
            if isinstance(question, BaseException):
                raise question
            if isinstance(question, (Iterate, OptimizeResult)):
                return question
            try:
                answer = loss_and_gradient(question)
            except BaseException:
                self._answers.put(None)
                raise
            self._answers.put(answer)


def _minimize(
    start: Vector,
    method: str,
    options: dict[str, float],
    questions: SimpleQueue[Vector | Iterate | OptimizeResult | BaseException],
    answers: SimpleQueue[tuple[float, Vector] | None],
) -> None:
    """The thread: SciPy's own loop, talking through the queues."""

    def loss_and_gradient(params: Vector) -> tuple[float, Vector]:
        questions.put(params.copy())
        answer = answers.get()
        if answer is None:
            raise Stopped("this minimisation was interrupted; start a new one")
        return answer

    def callback(intermediate_result: OptimizeResult) -> None:
        questions.put(Iterate(intermediate_result.x.copy()))

    try:
        outcome = minimize(
            loss_and_gradient,
            start,
            jac=True,
            method=method,
            callback=callback,
            options=options,
        )
    except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
        outcome = error
    questions.put(outcome)


def _hang_up(answers: SimpleQueue[tuple[float, Vector] | None], thread: Thread) -> None:
    """End the thread; a free function, since a method would keep its object alive."""
    answers.put(None)
    # Garbage collection may run this in the very thread that is to end.
    if thread is not current_thread():
        thread.join()
