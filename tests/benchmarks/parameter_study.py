"""Sutton and Barto's lambda-alpha study of the 19-state walk: lockstep against a plain loop.

`python -m tests.benchmarks.parameter_study` runs 11 lambdas x 20 rates x 100 agents x 10 episodes,
22 million transitions, in lockstep, and a Python loop over one agent with NumPy vectors for some of
them; it prints seconds and the ratio of transitions per second of processor time. It asserts
that both have learnt, and never a time.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from rich.console import Console

from applications.td.methods import Method
from applications.td.problems import RandomWalk
from applications.td.rules import Fixed
from applications.td.solve import start

EPISODES, MEAN_LENGTH = 10, 100
"""Of a study; the mean length of the walk's episodes is 10 * 10 (gambler's ruin)."""
BAR, MOST_SECONDS = 30.0, 4.0


@dataclass(frozen=True)
class Study:
    """The lockstep's seconds, and both rates in transitions per second of processor time."""

    seconds: float
    lockstep: float
    plain: float

    @property
    def ratio(self) -> float:
        """How many times more the lockstep does."""
        return self.lockstep / self.plain


def plain_loop(transitions: int, rate: float = 0.1, lambda_: float = 0.8) -> float:
    """Seconds of TD(lambda) by one agent, one transition after the other."""
    luck, values, trace, state = random.Random(0), np.zeros(21), np.zeros(21), 10
    begin = time.process_time()
    for _ in range(transitions):
        following = state + 1 if luck.random() < 0.5 else state - 1
        over = following in (0, 20)
        reward = (following == 20) - (following == 0)
        trace *= lambda_
        trace[state] += 1
        bootstrap = 0.0 if over else values[following]
        values += rate * (reward + bootstrap - values[state]) * trace
        state = following
        if over:
            trace[:] = 0
            state = 10
    seconds = time.process_time() - begin
    assert values.any()
    return seconds


def measure(lambdas: int, rates: int, agents: int, turns: int, plain_transitions: int) -> Study:
    """Both by turns; the best of each."""
    method = Method(
        algorithm="td",
        rule=Fixed(),
        lambdas=tuple(np.linspace(0, 1, lambdas).tolist()),
        coefficients=tuple((np.arange(1, rates + 1) / rates).tolist()),
    )
    problem = RandomWalk(agents=agents, episodes_per_step=EPISODES)
    ours, theirs = [], []
    for turn in range(turns):
        solver = start(problem, method, turn, torch.device("cpu"))
        begin = time.process_time()
        solver.step()
        ours.append(time.process_time() - begin)
        assert solver.weights.any(-1).all()
        theirs.append(plain_loop(plain_transitions))
    transitions = lambdas * rates * agents * EPISODES * MEAN_LENGTH
    return Study(min(ours), transitions / min(ours), plain_transitions / min(theirs))


def main(turns: int = 5) -> None:
    """Print what both do on one core."""
    torch.set_num_threads(1)
    study = measure(11, 20, 100, turns, plain_transitions=100_000)
    console = Console(width=100)
    console.print(f"plain loop    {study.plain:12,.0f} transitions per second")
    console.print(f"lockstep      {study.lockstep:12,.0f} transitions per second")
    met = "yes" if study.ratio >= BAR else "no"
    console.print(f"ratio         {study.ratio:12.1f}  (bar: >= {BAR:g}, met: {met})")
    met = "yes" if study.seconds < MOST_SECONDS else "no"
    console.print(f"whole study   {study.seconds:12.2f} s  (bar: < {MOST_SECONDS:g} s, met: {met})")


if __name__ == "__main__":
    tyro.cli(main)
