"""DeepXDE's own example of Burgers' equation: its Adam step, and its error in the same seconds.

The example is `examples/pinn_forward/Burgers.py`: a network 2-20-20-20-1, 2,540 points inside, 80
on the boundary and 160 at the start, 15,000 steps of Adam at 1e-3, then L-BFGS. Two things differ:
it runs to t = 1 as the problem of the suite does, and where errors are compared in float64,
because in float32 its L-BFGS stops after a few iterations.

`python -m tests.benchmarks.deepxde` prints both comparisons. That both networks start from the
same loss and take the same steps is asserted, and never a time.
"""

from __future__ import annotations

import json as json_format
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from applications.pinn.language import Condition
from applications.pinn.memory import keep_freed_memory
from applications.pinn.methods import FirstOrder
from applications.pinn.problems import Burgers
from applications.pinn.solve import grid_of
from applications.pinn.stages import stage_of
from applications.pinn.training import Training
from tests.benchmarks.race import Bar, Row
from tests.benchmarks.suite import Mark, marks_of
from tests.benchmarks.turns import as_dict, by_turns, table

DEEPXDE, OURS = "DeepXDE", "sciopt's PINN"
PI = math.pi
ADAM_STEPS = 15_000
STEP_AT_LEAST, ERROR_AT_LEAST = 1.5, 100.0
"""How many times as fast the step is to be, and how many times as small the error."""


class Example:
    """DeepXDE's example, one step at a time."""

    def __init__(self, precision: Literal["float32", "float64"], seed: int) -> None:
        os.environ["DDE_BACKEND"] = "pytorch"
        self.dde: Any = import_module("deepxde")
        self.dde.config.set_default_float(precision)
        self.dde.config.set_random_seed(seed)
        icbc, geometry = self.dde.icbc, self.dde.geometry
        region = geometry.GeometryXTime(geometry.Interval(-1, 1), geometry.TimeDomain(0, 1))
        ends = icbc.DirichletBC(region, lambda x: 0, lambda _, on_boundary: on_boundary)
        start = icbc.IC(region, lambda x: -np.sin(PI * x[:, 0:1]), lambda _, on_initial: on_initial)
        self.data = self.dde.data.TimePDE(
            region,
            self.equation,
            [ends, start],
            num_domain=2540,
            num_boundary=80,
            num_initial=160,
        )
        self.net = self.dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot normal")
        self.model = self.dde.Model(self.data, self.net)
        self.steps = 0
        self._compile("adam", lr=1e-3)

    def equation(self, x: Any, u: Any) -> Any:
        """The residual as the example has it."""
        u_x = self.dde.grad.jacobian(u, x, i=0, j=0)
        u_t = self.dde.grad.jacobian(u, x, i=0, j=1)
        u_xx = self.dde.grad.hessian(u, x, i=0, j=0)
        return u_t + u * u_x - 0.01 / PI * u_xx

    def _compile(self, optimizer: str, **settings: Any) -> None:
        self.model.compile(optimizer, verbose=0, **settings)
        self.batch = self.data.train_next_batch()

    def step(self) -> None:
        """One step of Adam; after `ADAM_STEPS` a call of L-BFGS, which is up to 1,000 steps."""
        if self.steps == ADAM_STEPS:
            self._compile("L-BFGS")
        self.model.train_step(*self.batch)
        self.steps += 1

    def loss(self) -> float:
        """The sum of its three mean squares."""
        _, losses = self.model.outputs_losses_train(*self.batch)
        return float(losses.detach().sum())


@dataclass(frozen=True)
class SameBurgers(Burgers):
    """The example in our terms: nothing met by construction, and t is not centred."""

    region = {"x": (-1.0, 1.0), "t": (-1.0, 1.0)}
    periodic = ()
    symmetry = {}

    def conditions(self) -> Sequence[Condition]:
        """At both ends, for points are given to it from outside, and at the start."""
        return [
            Condition("x", 1.0, lambda u, x, t: u.value),
            Condition("t", 0.0, lambda u, x, t: u + torch.sin(PI * x)),
        ]


def same(example: Example) -> Training:
    """A training from the example's params, at its points, of its loss."""
    setup = FirstOrder(
        hidden=(20, 20, 20),
        precision="float32",
        equation_weight=1.0,
        sampling="uniform",
        scaled=False,
    )
    training = Training(SameBurgers(), setup, 0, torch.device("cpu"))
    squares, data = training.least_squares, example.data
    everywhere, on_faces = (
        torch.from_numpy(x).double() for x in (data.train_x_all, data.train_x_bc)
    )
    at_ends, at_start = on_faces.split(list(data.num_bcs))
    for term, points in zip(squares.terms, (everywhere, at_ends, at_start), strict=True):
        squares.place(term, points)
        term.sizes_there = torch.ones_like(term.sizes_there)
    training.initial_params = params_of(example)
    return training


def params_of(example: Example) -> Float[Tensor, " params"]:
    """Layer by layer, weights before biases; torch's weights are transposed."""
    parts = [(linear.weight.T, linear.bias) for linear in example.net.linears]
    return torch.cat([part.detach().reshape(-1) for pair in parts for part in pair])


def race_steps(rounds: int) -> list[Row]:
    """Adam's step, of the same network from the same params at the same points, in float32."""
    example = Example("float32", 0)
    training = same(example)
    stage = stage_of(FirstOrder(lr=1e-3), training, training.initial_params)
    for _ in range(10):
        _assert_equal(example, training, stage.params)
        example.step()
        stage.step()
    return by_turns(
        "Adam step of DeepXDE's example, float32",
        {DEEPXDE: example.step, OURS: stage.step},
        rounds,
        bars={OURS: [Bar(DEEPXDE, 1 / STEP_AT_LEAST)]},
    )


def _assert_equal(example: Example, training: Training, params: Tensor) -> None:
    loss, _ = training.least_squares.loss_and_gradient(params.detach())
    expected = example.loss()
    apart = abs(float(loss) - expected) / expected
    assert apart < 1e-4, f"our loss {float(loss):.6g} is not DeepXDE's {expected:.6g}"


def deepxde_marks(seed: int, seconds: Sequence[float]) -> list[Mark]:
    """DeepXDE's run, evaluated at the end of the step in which each of the seconds passed."""
    torch.set_num_threads(1)
    keep_freed_memory()
    example, reference = Example("float64", seed), Burgers().reference()
    assert reference is not None
    expected = reference.values["u"].ravel()
    grid = grid_of(reference).numpy()
    found, clock = [], 0.0
    for mark in sorted(seconds):
        while clock < mark:
            begin = time.process_time()
            example.step()
            clock += time.process_time() - begin
        error = np.linalg.norm(example.model.predict(grid).ravel() - expected)
        relative = float(error / np.linalg.norm(expected))
        found.append(Mark("burgers", seed, mark, example.steps, relative, math.nan))
    return found


@dataclass(frozen=True)
class Comparison:
    """Relative L2 errors after the same seconds of one core."""

    seed: int
    seconds: float
    deepxde: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times as small ours is."""
        return self.deepxde / self.ours


def compare_errors(seeds: int, seconds: Sequence[float], jobs: int) -> list[Comparison]:
    """Both at every mark, each run in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        runs = [
            (
                pool.submit(deepxde_marks, seed, seconds),
                pool.submit(marks_of, "burgers", "gauss-newton", seed, seconds),
            )
            for seed in range(seeds)
        ]
        return [
            Comparison(one.seed, one.seconds, one.error, other.error)
            for theirs, ours in runs
            for one, other in zip(theirs.result(), ours.result(), strict=True)
        ]


def errors_table(comparisons: Sequence[Comparison]) -> Table:
    """A line per seed and mark."""
    title = "relative L2 error of DeepXDE's example and of gauss-newton"
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("seed", "CPU s", DEEPXDE, OURS, "times as small", f">= {ERROR_AT_LEAST:g}?"):
        result.add_column(heading, justify="right")
    for each in comparisons:
        met = "[green]yes[/]" if each.ratio >= ERROR_AT_LEAST else "[red]no[/]"
        errors = f"{each.deepxde:.1e}", f"{each.ours:.1e}"
        result.add_row(str(each.seed), f"{each.seconds:g}", *errors, f"{each.ratio:.0f}", met)
    return result


def main(
    only: tuple[Literal["step", "error"], ...] = ("step", "error"),
    seconds: tuple[float, ...] = (60, 120, 240),
    seeds: int = 1,
    rounds: int = 50,
    jobs: int = 1,
    json: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Compare with DeepXDE and print the tables.

    Args:
        only: the comparisons to make.
        seconds: of one core, at which errors are compared.
        seeds: how many, from 0 on, for the errors.
        rounds: laps of each step.
        jobs: processes at a time for the errors.
        json: file to write all numbers to.
    """
    if find_spec("deepxde") is None:
        sys.exit('DeepXDE is not installed: pip install -e ".[benchmark]"')
    console = Console(width=120)
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    if "step" in only:
        torch.set_num_threads(1)
        keep_freed_memory()
        rows = race_steps(rounds)
        console.print(table(rows))
    if "error" in only:
        comparisons = compare_errors(seeds, seconds, jobs)
        console.print(errors_table(comparisons))
    if json is not None:
        errors = [asdict(each) | {"ratio": each.ratio} for each in comparisons]
        json.write_text(json_format.dumps({"steps": as_dict(rows), "errors": errors}, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
