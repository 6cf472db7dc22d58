"""What is left of a run: the solution as a function of the coordinates.

    solution = solve(MyProblem(), max_steps=300)
    solution.predict_grid(x=np.linspace(0, 1, 101), t=0.5)["u"]
    solution.save("mine.npz")

A `Solution` knows the network of each time slab and nothing of how it was trained. It computes in
float64 on the CPU; numpy arrays go in and come out.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from applications.pinn import DOMAIN, own_problem
from applications.pinn.embedding import Embedding
from applications.pinn.language import (
    Index,
    Problem,
    derivatives_used,
    expressions,
    fields,
    parse,
)
from applications.pinn.lift import lift_at
from applications.pinn.methods import Method, Setup
from applications.pinn.module import PieceModule, SolutionModule, plain
from applications.pinn.network import MLP
from applications.pinn.reference import Reference
from applications.pinn.slabs import boundaries, slab
from applications.pinn.solve import Solver
from applications.pinn.taylor import closure
from applications.pinn.torch_func import Network, constants_of, rebuilt
from applications.pinn.training import CHUNK
from sciopt.bench import Record, Result, Run
from sciopt.bench.identity import pick
from sciopt.bench.runner import Watcher, run_one
from sciopt.bench.store import Store, record_as_json, record_from_json

PROBED = 16
"""Points at which a loaded solution must have the values it was saved with."""


@dataclass(frozen=True)
class Piece:
    """The network of one time slab, whose problem is the slab's."""

    problem: Problem
    network: Network
    params: Float[Tensor, " params"]

    def channels(
        self, points: Float[Tensor, "points coordinates"], indices: tuple[Index, ...]
    ) -> Float[Tensor, "channels points unknowns"]:
        """The unknowns' derivatives at any points."""
        lift = lift_at(self.problem, points, indices)
        output, _ = self.network.forward(self.params, self.network.inputs(points, indices))
        solution = output if lift is None else lift.apply(output)
        sizes = [self.problem.magnitudes.get(name, 1.0) for name in self.problem.unknowns]
        return solution * solution.new_tensor(sizes)


@dataclass(frozen=True)
class Solution:
    """The unknowns of a problem as functions of its coordinates."""

    problem: Problem
    pieces: Sequence[Piece] = field(repr=False)
    """One for each time slab that was reached, from the first."""
    points: Float[np.ndarray, "points coordinates"] = field(repr=False)
    """The collocation points trained on last."""
    records: Sequence[Record] = field(default=(), repr=False)
    """The curve of the run, if it was recorded."""
    ended: str = ""
    """Why the run ended."""

    @classmethod
    def of(cls, solver: Solver) -> Solution:
        """What a solver has reached so far."""
        trained = [(s.training, s.params) for s in solver.solved]
        trained.append((solver.training, solver.params))
        pieces = [
            Piece(training.problem, training.network, params.detach().double().cpu().clone())
            for training, params in trained
        ]
        points = solver.training.least_squares.terms[0].points.cpu().numpy().copy()
        return cls(solver.problem, pieces, points)

    @classmethod
    def of_result(cls, problem: Problem, method: Setup, result: Result) -> Solution:
        """What a finished run of these settings left behind."""
        declared = method.activation == "declared"
        network = {
            "activation": problem.activation if declared else method.activation,
            "harmonics": method.harmonics,
        }
        pieces = _pieces(problem, network, result.arrays)
        ended = f"{result.status.value}: {result.reason}"
        return cls(problem, pieces, result.arrays["points"], result.records, ended)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last point of the curve: error against the reference, losses and so on."""
        return self.records[-1].metrics if self.records else {}

    @cached_property
    def reference(self) -> Reference | None:
        """What the solution is measured against, if anything is known."""
        return self.problem.reference()

    @property
    def reached(self) -> float:
        """The value of the last coordinate up to which time slabs have been trained."""
        return boundaries(self.problem)[len(self.pieces)]

    def predict(self, points: ArrayLike | Tensor, *quantities: str) -> dict[str, np.ndarray]:
        """The unknowns, or the named quantities such as "u" and "u.xx", at points.

        `points` has shape (points, coordinates), its columns in the order of the problem's region;
        (points,) will do for one coordinate. Each quantity has shape (points,). Outside of the
        region there is a warning: no network was trained there.

        Raises:
            ValueError: points of another shape or not finite, an unknown quantity.
        """
        coordinates = list(self.problem.region)
        wanted: dict[str, tuple[int, Index]] = {}
        for quantity in quantities or self.problem.unknowns:
            unknown, _, derivative = quantity.partition(".")
            numbers = {name: k for k, name in enumerate(self.problem.unknowns)}
            number = pick(numbers, unknown, "quantity")
            wanted[quantity] = number, parse(unknown, derivative, coordinates)
        indices = closure({index for _, index in wanted.values()} | {(0,) * len(coordinates)})
        channels = self._channels(self._checked(points), indices)
        return {
            quantity: channels[indices.index(index), :, number].numpy()
            for quantity, (number, index) in wanted.items()
        }

    def predict_grid(self, *quantities: str, **axes: ArrayLike) -> dict[str, np.ndarray]:
        """As `predict` on a grid: every coordinate by name, one value or many.

        `predict_grid(x=np.linspace(0, 1, 50), t=[0.0, 0.5])["u"]` has shape (50, 2): the axes are
        in the order of the problem's region, one for each coordinate given many values.
        """
        for name in axes:
            pick(self.problem.region, name, "coordinate")
        missing = [name for name in self.problem.region if name not in axes]
        if missing:
            raise ValueError(f"give every coordinate one value or many; missing: {missing}")
        values = [np.asarray(axes[name], dtype=float) for name in self.problem.region]
        grid = np.meshgrid(*values, indexing="ij")
        shape = [len(value) for value in values if value.ndim]
        found = self.predict(np.stack([axis.ravel() for axis in grid], axis=1), *quantities)
        return {quantity: value.reshape(shape) for quantity, value in found.items()}

    def residual(self, points: ArrayLike | Tensor) -> Float[np.ndarray, "points equations"]:
        """What `equations` returns for the solution, one column for each expression."""
        places, problem = self._checked(points), self.problem
        used, _ = derivatives_used(problem, problem.equations, places[:1])
        indices = closure(set().union(*used) | {(0,) * len(problem.region)})
        channels = self._channels(places, indices)
        unknowns = fields(problem, lambda k, index: channels[indices.index(index), :, k])
        with torch.no_grad():
            found = expressions(problem.equations(*unknowns, *places.unbind(1)))
        return torch.stack([one.expand(len(places)) for one in found], dim=1).numpy()

    def module(self) -> SolutionModule:
        """A plain module: float64 coordinates (points, coordinates) to (points, unknowns)."""
        pieces = [PieceModule(one.problem, plain(one.network, one.params)) for one in self.pieces]
        return SolutionModule(pieces, boundaries(self.problem)[1 : len(pieces)])

    def export(self, path: str | Path) -> None:
        """Write the module as a torch.export program that takes any number of points.

        `torch.export.load(path).module()(coordinates)` needs torch and nothing else.
        """
        if Path(path).suffix != ".pt2":
            raise ValueError(f"{path}: the name of an exported program ends in .pt2")
        example = torch.zeros(8, len(self.problem.region), dtype=torch.float64)
        points = torch.export.Dim("points", min=1)
        program = torch.export.export(
            self.module().eval(), (example,), dynamic_shapes={"coordinates": {0: points}}
        )
        torch.export.save(program, path)

    def save(self, path: str | Path) -> None:
        """Write an npz archive that `load` reads, without pickled objects."""
        network = self.pieces[0].network
        described = {
            "problem": _found_by(self.problem),
            "activation": network.activation if isinstance(network, MLP) else "its own",
            "harmonics": network.embedding.harmonics,
            "records": [record_as_json(record) for record in self.records],
            "ended": self.ended,
        }
        arrays = {
            "description": np.array(json.dumps(described)),
            "points": self.points,
            "probe": self._probe(),
            **arrays_of(self.pieces),
        }
        with Path(path).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path, problem: Problem | None = None) -> Solution:
        """Read what `save` wrote.

        A problem of the suite, of a module or of a user's file is found again by itself; one that
        was defined in a notebook or has fields that are no plain values is to be passed.

        Raises:
            ValueError: the file is no solution, or the problem is another than it was.
        """
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if "description" not in arrays:
            raise ValueError(f"{path} is no solution: it holds {', '.join(arrays) or 'nothing'}")
        described = json.loads(str(arrays["description"]))
        problem = problem or _find(described["problem"], path)
        records = [record_from_json(record) for record in described["records"]]
        pieces = _pieces(problem, described, arrays)
        solution = cls(problem, pieces, arrays["points"], records, described["ended"])
        if not np.allclose(solution._probe(), arrays["probe"], rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"{path} was saved for another {type(problem).__name__}: with this one the network "
                "has other values. Pass the problem as it was, or solve again"
            )
        return solution

    def _probe(self) -> Float[np.ndarray, "points unknowns"]:
        return self._channels(torch.from_numpy(self.points[:PROBED]), _value(self.problem))[
            0
        ].numpy()

    def _checked(self, points: ArrayLike | Tensor) -> Float[Tensor, "points coordinates"]:
        names = list(self.problem.region)
        given = points.detach().cpu().numpy() if isinstance(points, Tensor) else points
        given = np.array(given, dtype=float)
        if len(names) == 1 and given.ndim == 1:
            given = given[:, None]
        if given.ndim != 2 or given.shape[1] != len(names):
            raise ValueError(
                f"points have shape {given.shape}; expected (points, {len(names)}), the columns "
                f"being {', '.join(names)}"
            )
        if not np.isfinite(given).all():
            raise ValueError("points have coordinates that are not finite")
        ends = dict(self.problem.region)
        ends[names[-1]] = (ends[names[-1]][0], self.reached)
        for values, (name, (low, high)) in zip(given.T, ends.items(), strict=True):
            outside = int(((values < low) | (values > high)).sum())
            if outside and name not in self.problem.periodic:
                warnings.warn(
                    f"{outside} of {len(given)} points have {name} outside of {low:g} to {high:g}, "
                    "where the network was trained",
                    stacklevel=3,
                )
        return torch.from_numpy(given)

    def _channels(
        self, points: Float[Tensor, "points coordinates"], indices: tuple[Index, ...]
    ) -> Float[Tensor, "channels points unknowns"]:
        """Derivatives at any points, each from the network of its slab."""
        result = points.new_empty(len(indices), len(points), len(self.problem.unknowns))
        begins = torch.tensor(boundaries(self.problem)[1 : len(self.pieces)], dtype=points.dtype)
        number = torch.bucketize(points[:, -1].contiguous(), begins)
        for k, piece in enumerate(self.pieces):
            here = number == k
            if here.any():
                chunks = points[here].split(CHUNK)
                found = [piece.channels(chunk, indices) for chunk in chunks]
                result[:, here] = torch.cat(found, dim=1)
        return result


def solve(
    problem: Problem,
    method: str | Method = "gauss-newton",
    *,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    watcher: Watcher | None = None,
) -> Solution:
    """Train a network on a problem and keep nothing but the solution.

    Without `max_steps` there are as many steps as on the command line. A `watcher`, such as
    `ProgressDisplay`, is told how the run goes.

    Raises:
        ValueError: a problem that cannot be solved as written, settings that cannot run.
    """
    settings = pick(DOMAIN.methods, method, "method") if isinstance(method, str) else method
    name = type(problem).__name__
    domain = dataclasses.replace(DOMAIN, problems={name: problem}, methods={"method": settings})
    steps = default_steps(problem, settings) if max_steps is None else max_steps
    run = Run(name, "method", steps, seed, device=device, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        run_one(domain, run, store, max_seconds=max_seconds, watcher=watcher)
        return Solution.of_result(problem, settings, store.folder(domain, run).load())


def default_steps(problem: Problem, method: Setup) -> int:
    """Steps unless asked for otherwise: the domain's, or enough for all time slabs."""
    return method.slab_steps * problem.slabs if problem.slabs > 1 else DOMAIN.max_steps


def arrays_of(pieces: Sequence[Piece]) -> dict[str, np.ndarray]:
    """What tells the networks of one kind apart."""
    frequencies = pieces[0].network.embedding.frequencies
    arrays = {} if frequencies is None else {"frequencies": frequencies.numpy()}
    for k, piece in enumerate(pieces):
        arrays[f"params.{k}"] = piece.params.numpy()
        arrays[f"rates.{k}"] = np.array(list(piece.network.embedding.scales.values()))
        arrays[f"hidden.{k}"] = np.array(piece.network.sizes[1:-1])
        arrays |= constants_of(piece.network, k)
    return arrays


def _pieces(
    problem: Problem, network: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> list[Piece]:
    """The inverse of `arrays_of`."""
    frequencies = arrays.get("frequencies")
    waves = None if frequencies is None else torch.from_numpy(frequencies)
    pieces = []
    for k in range(sum(name.startswith("params.") for name in arrays)):
        part = slab(problem, k, None)
        scales = arrays[f"rates.{k}"].tolist()
        if len(scales) != len(problem.region):
            raise ValueError(
                f"{type(problem).__name__} has the coordinates {', '.join(problem.region)}, the "
                f"solution {len(scales)}: it is not the problem that was solved"
            )
        rates = dict(zip(problem.region, scales, strict=True))
        embedding = Embedding(part, rates, network["harmonics"], waves)
        its = rebuilt(embedding, k, arrays) or _mlp(
            embedding, arrays[f"hidden.{k}"].tolist(), network["activation"]
        )
        params = torch.from_numpy(arrays[f"params.{k}"]).double()
        if its.count != len(params):
            raise ValueError(
                f"there are {len(params)} params for a network that has {its.count} for this "
                f"{type(problem).__name__}: it is not the problem that was solved"
            )
        pieces.append(Piece(part, its, params))
    return pieces


def _mlp(embedding: Embedding, hidden: Sequence[int], activation: str) -> MLP:
    problem = embedding.problem
    sample = torch.zeros(1, len(problem.region), dtype=torch.float64)
    seen = embedding.features(sample, _value(problem)).shape[2]
    return MLP(embedding, seen, hidden, len(problem.unknowns), activation)


def _value(problem: Problem) -> tuple[Index, ...]:
    return ((0,) * len(problem.region),)


def _found_by(problem: Problem) -> dict[str, Any] | None:
    """What finds the problem again; None if it must be passed."""
    kind = type(problem)
    settings = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}
    try:
        json.dumps(settings)
    except TypeError:
        return None
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return None
    file = inspect.getfile(kind) if kind.__module__.startswith(own_problem.MODULE) else None
    return {
        "module": kind.__module__,
        "class": kind.__qualname__,
        "file": file,
        "settings": settings,
    }


def _find(described: Mapping[str, Any] | None, path: str | Path) -> Problem:
    if described is None:
        raise ValueError(f"pass the problem of {path}: it was defined in a session or a notebook")
    file = described["file"]
    try:
        module = (
            own_problem.execute(Path(file))
            if file
            else importlib.import_module(described["module"])
        )
        kind = getattr(module, described["class"])
        return kind(**{name: _tupled(value) for name, value in described["settings"].items()})
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"the problem of {path} is not found ({error}); pass it") from error


def _tupled(value: Any) -> Any:
    """JSON's lists are the tuples they were."""
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
