"""A domain for testing the bench: a noisy walk whose every step depends on the whole past."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from threadpoolctl import threadpool_info

from sciopt.bench import Answer, Claim, Domain, Ended, Run, Status, Verdict
from sciopt.bench.style import new_figure, plot_curves


@dataclass(frozen=True)
class Drift:
    """A walk with a drift."""

    drift: float = 0.1
    diverges_at: int = 0
    lowest: float = 0.0

    def __post_init__(self) -> None:
        if self.drift < self.lowest:
            raise ValueError(f"drift is {self.drift}, below lowest, which is {self.lowest}")
        if self.drift < 0:
            raise ValueError(f"drift is {self.drift}; it must be at least 0")


@dataclass(frozen=True)
class Walk:
    """Gaussian steps."""

    pause: float = 0.0
    ends_at: int = 0
    resumable: bool = True


class Walker:
    """Its position, its random stream and, for tests, what this process has done.

    `threads_seen` holds torch's thread count and the largest of any other library, step by step.
    """

    steps_taken = 0
    threads_seen: ClassVar[set[tuple[int, int]]] = set()

    def __init__(self, problem: Drift, method: Walk, seed: int, device: torch.device) -> None:
        if problem.drift > 1e6:
            raise ValueError("this drift fits no method")
        self.problem, self.method = problem, method
        self.resumable = method.resumable
        self.generator = torch.Generator().manual_seed(seed)
        self.position = torch.zeros(3, dtype=torch.float64, device=device)
        self.count = 0

    def step(self) -> Ended | None:
        Walker.steps_taken += 1
        largest = max(pool["num_threads"] for pool in threadpool_info())
        Walker.threads_seen.add((torch.get_num_threads(), largest))
        time.sleep(self.method.pause)
        noise = torch.randn(3, generator=self.generator, dtype=torch.float64)
        self.position = 0.9 * self.position + self.problem.drift + noise
        self.count += 1
        if self.count == self.problem.diverges_at:
            self.position = self.position * float("nan")
        if self.count == self.method.ends_at:
            return Ended(Status.CONVERGED, "walked far enough")
        return None

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self.position.clone(),
            "generator": self.generator.get_state(),
            "count": self.count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"].clone()
        self.generator.set_state(state["generator"])
        self.count = state["count"]


def evaluate(problem: Drift, solver: Walker) -> dict[str, float]:
    return {"distance": solver.position.norm().item()}


def arrays(problem: Drift, solver: Walker) -> dict[str, np.ndarray]:
    return {"position": solver.position.numpy()}


def judge(results: Any) -> Verdict:
    distance = float(np.median([result.last.metrics["distance"] for result in results]))
    return Verdict(Answer.HOLDS, "it moved", {"distance": distance})


def draw(results: Any) -> Any:
    figure, axes = new_figure()
    plot_curves(axes, results, "distance", x="step")
    axes.set(xlabel="step", ylabel="distance")
    return figure


DRIFTER = Domain(
    name="drifter",
    problems={"drift": Drift()},
    methods={"walk": Walk()},
    start=Walker,
    evaluate=evaluate,
    arrays=arrays,
    claims={
        "it-moves": Claim(
            says="The walker moves <b>away</b> & drifts.",
            runs=[Run("drift", "walk", 50, seed) for seed in range(3)],
            judge=judge,
            draw=draw,
        )
    },
)
