"""One network in training on one time slab: its points, how they are redrawn, what is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from applications.pinn.embedding import Embedding
from applications.pinn.growth import widened
from applications.pinn.language import Index, Problem
from applications.pinn.least_squares import LeastSquares, Term
from applications.pinn.methods import Setup, units
from applications.pinn.network import MLP
from applications.pinn.sampling import Points, chances, chosen, on_face, placed, spread
from applications.pinn.scales import Scales, scales_of
from applications.pinn.torch_func import ModuleNetwork, Network, module_of

HELD_OUT_POINTS = 2000
CHUNK = 4096
# A loss this much larger on fresh points, and standing still over so many draws, asks for more.
OVERFITTED = 3.0
STANDING = 6
MORE_POINTS = 1.5


class Training:
    """The params' least-squares problem, whose points follow the residual.

    Initial params, points and held-out points come from three random streams of the seed, so that
    all methods begin alike. `rates` of another training make its params mean the same here.
    """

    def __init__(
        self,
        problem: Problem,
        setup: Setup,
        seed: int,
        device: torch.device,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.problem, self.setup, self.device = problem, setup, device
        self.dtype = torch.float64 if setup.precision == "float64" else torch.float32
        self.weights, self.points, held_out = (_stream(seed, k) for k in range(3))
        scales = scales_of(problem) if setup.scaled else unscaled(problem)
        if rates is not None:
            scales = replace(scales, rates=rates)
        embedding = Embedding(problem, scales.rates, setup.harmonics, _waves(problem, setup, seed))
        self.network, initial = build(problem, setup, embedding, self.weights)
        self.initial_params = initial.to(device, self.dtype)
        self.least_squares = LeastSquares(
            problem, self.network, scales, setup.equation_weight, self.dtype
        )
        # Each point gives as many residuals as there are unknowns.
        self.params_per_residual = self.network.count / len(problem.unknowns)
        self.count = max(1, int(setup.points_per_param * self.params_per_residual))
        self.fresh: list[float] = []
        self.draw(None)
        unit = torch.rand(
            HELD_OUT_POINTS, len(problem.region), generator=held_out, dtype=torch.float64
        )
        self.held_out = placed(problem, unit).to(device)

    def draw(self, params: Float[Tensor, " params"] | None) -> None:
        """New points for every term: evenly spread, or where the params' residual is large."""
        for term in self.least_squares.terms:
            points, chance = self._points_for(term, params)
            self.least_squares.place(term, points)
            if term.face is None:
                self.chances = chance

    def redraw(self, params: Float[Tensor, " params"]) -> None:
        """Draw anew; more points than before if the last ones were fitted, not the equations.

        Both losses compared are means over the region: that on the points trained on undoes the
        chances by which they were chosen. There are to be more points once the one on fresh points
        is several times larger and has hardly fallen over the last draws.
        """
        trained = self.trained_size(params)
        self.draw(params)
        most = int(self.setup.most_points_per_param * self.params_per_residual)
        if self.standing and self.fresh[-1] > OVERFITTED * trained and self.count < most:
            self.count = min(int(MORE_POINTS * self.count), most)
            self.fresh.clear()

    def trained_size(self, params: Float[Tensor, " params"]) -> float:
        """The equations' mean squared residual over the region, judged by the points trained on."""
        equations = self.least_squares.terms[0]
        squares = self.residual_size(equations, params, equations.points).square()
        return float((squares / self.chances).sum() / (1 / self.chances).sum())

    @property
    def standing(self) -> bool:
        """Whether the residual on fresh points has hardly fallen over the last draws."""
        return len(self.fresh) > STANDING and self.fresh[-1] > 0.5 * self.fresh[-1 - STANDING]

    @property
    def rounding(self) -> float:
        """The mean square of residuals that are no more than rounding errors."""
        return (1000 * torch.finfo(self.dtype).eps) ** 2

    def below(self, size: float, params: Float[Tensor, " params"]) -> bool:
        """Whether the mean squared residuals on fresh points are smaller than that.

        Those of the conditions too: a constant may solve the equations.
        """
        if not self.fresh or self.fresh[-1] >= size:
            return False
        _, *conditions = self.least_squares.terms
        return all(self._share(term, params, term.points) < size for term in conditions)

    def widen(
        self, params: Float[Tensor, " params"], factor: float, most_params: int
    ) -> Float[Tensor, " params"] | None:
        """More units in every layer and as many more points: the wider network's params.

        None if it would have too many, or if its layers are those of a module of the problem.
        """
        if isinstance(self.network, ModuleNetwork):
            return None
        wider = self._with(
            self.network, [math.ceil(factor * units) for units in self.hidden], params
        )
        if wider[0].count > most_params:
            return None
        self._use(*wider)
        self.draw(wider[1])
        return wider[1]

    @property
    def hidden(self) -> list[int]:
        """Units of each hidden layer."""
        return list(self.network.sizes[1:-1])

    def resize(self, hidden: Sequence[int]) -> None:
        """Take the network's size from another training, with as many points as it has params."""
        if isinstance(self.network, MLP) and list(hidden) != self.hidden:
            self._use(*self._with(self.network, hidden, self.initial_params))
            self.draw(None)

    def _with(
        self, network: MLP, hidden: Sequence[int], params: Float[Tensor, " params"]
    ) -> tuple[MLP, Float[Tensor, " params"]]:
        samples = sample_features(self.problem, network.embedding)
        scale = self.setup.first_layer_scale
        return widened(network, params, hidden, samples, scale, self.weights)

    def _use(self, network: Network, params: Float[Tensor, " params"]) -> None:
        self.network, self.initial_params = network, params
        self.least_squares.use(network)
        self.params_per_residual = network.count / len(self.problem.unknowns)
        self.count = max(self.count, int(self.setup.points_per_param * self.params_per_residual))
        self.fresh.clear()

    def loss(self, params: Float[Tensor, " params"]) -> float:
        """On the points trained on, in the precision of the params."""
        terms = self.least_squares.terms
        return sum(self._share(term, params, term.points) for term in terms)

    def held_out_loss(self, params: Float[Tensor, " params"]) -> float:
        """The equations' share of the loss, on points that are never trained on."""
        return self._share(self.least_squares.terms[0], params, self.held_out)

    def _share(self, term: Term, params: Float[Tensor, " params"], points: Points) -> float:
        return term.weight * float(self.residual_size(term, params, points).square().mean())

    def residual_size(
        self, term: Term, params: Float[Tensor, " params"], points: Points
    ) -> Float[Tensor, " points"]:
        """The norm of a term's scaled expressions at any points."""
        found = []
        for chunk in points.split(CHUNK):
            channels = self.channels(params, chunk, term.indices)
            sizes = self.least_squares.sizes_at(term, chunk).to(channels)
            scaled = self.least_squares.expressions(term, channels, chunk, sizes)
            found.append(scaled.norm(dim=0))
        return torch.cat(found)

    def channels(
        self, params: Float[Tensor, " params"], points: Points, indices: tuple[Index, ...]
    ) -> Float[Tensor, "channels points unknowns"]:
        """The solution's derivatives at any points, in the precision of the params."""
        params = params.detach()
        inputs, lift = self.least_squares.prepared(points, indices, params.dtype)
        return self.least_squares.solution(params, inputs, lift)[0]

    def worst_term(self, params: Float[Tensor, " params"]) -> str:
        """The condition or equation with the largest loss, or the first that is not finite."""
        losses = {
            term.label: self._share(term, params, term.points) for term in self.least_squares.terms
        }
        return max(losses, key=lambda label: np.nan_to_num(losses[label], nan=np.inf))

    def values(
        self, params: Float[Tensor, " params"], points: Points
    ) -> Float[Tensor, "points unknowns"]:
        """The unknowns at any points, in the precision of the params."""
        indices = ((0,) * len(self.problem.region),)
        chunks = points.to(self.device).split(CHUNK)
        return torch.cat([self.channels(params, chunk, indices)[0] for chunk in chunks])

    def state_dict(self) -> dict[str, Any]:
        """The points and the random stream that the next ones come from."""
        return {
            "points": [term.points.clone() for term in self.least_squares.terms],
            "stream": self.points.get_state(),
            "weights": self.weights.get_state(),
            "hidden": self.hidden,
            "chances": self.chances.clone(),
            "fresh": list(self.fresh),
            "count": self.count,
            "evaluations": self.least_squares.evaluations,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the network's size and the points of another training of the same run."""
        self.resize(state["hidden"])
        self.weights.set_state(state["weights"])
        for term, points in zip(self.least_squares.terms, state["points"], strict=True):
            self.least_squares.place(term, points.to(self.device))
        self.points.set_state(state["stream"])
        self.chances, self.fresh = state["chances"].to(self.device), list(state["fresh"])
        self.count = state["count"]
        self.least_squares.evaluations = state["evaluations"]

    def _points_for(
        self, term: Term, params: Float[Tensor, " params"] | None
    ) -> tuple[Points, Float[Tensor, " points"]]:
        """Points and the relative chances by which they were drawn."""
        if term.face is not None and len(self.problem.region) == 1:
            point = torch.tensor([[term.face[1]]], dtype=torch.float64, device=self.device)
            return point, torch.ones_like(point[:, 0])
        setup = self.setup
        count = self.count if term.face is None else setup.condition_points
        adaptive = params is not None and setup.sampling == "adaptive"
        adaptive = adaptive and (term.face is None or setup.adaptive_conditions)
        many = setup.candidates * count if adaptive else count
        law = "uniform" if adaptive else "sobol" if setup.sampling == "adaptive" else setup.sampling
        points = on_face(spread(self.problem, many, law, self.points), term.face).to(self.device)
        even = torch.ones_like(points[:, 0])
        if params is None:
            return points, even
        size = self.residual_size(term, params, points)
        if term.face is None:
            self.fresh.append(float(size.square().mean()))
        if not adaptive:
            return points, even
        chance = chances(size, setup.exponent)
        number = chosen(chance, count, self.points)
        return points[number], chance[number]


def build(
    problem: Problem, setup: Setup, embedding: Embedding, generator: torch.Generator
) -> tuple[Network, Float[Tensor, " params"]]:
    """The network and its params at the start."""
    module = module_of(problem, generator)
    if module is not None:
        own = ModuleNetwork(embedding, module)
        return own, own.initial_params
    activation = problem.activation if setup.activation == "declared" else setup.activation
    samples, hidden = sample_features(problem, embedding), units(setup, activation)
    network = MLP(embedding, samples.shape[1], hidden, len(problem.unknowns), activation)
    return network, network.initial_params(samples, setup.first_layer_scale, generator)


def sample_features(problem: Problem, embedding: Embedding) -> Float[Tensor, "samples features"]:
    """What the network sees at points of the region."""
    samples = spread(problem, 256, "uniform", torch.Generator().manual_seed(0))
    return embedding.features(samples, ((0,) * len(problem.region),))[0, : len(samples)]


def unscaled(problem: Problem) -> Scales:
    """Scales of one throughout."""
    return replace(scales_of(problem), rates=dict.fromkeys(problem.region, 1.0))


def _waves(problem: Problem, setup: Setup, seed: int) -> Tensor | None:
    """Frequencies of the random Fourier features, in units of the other features."""
    if not setup.fourier_features:
        return None
    per_axis = [
        2 * setup.harmonics if name in problem.periodic else 2 if name in problem.layers() else 1
        for name in problem.region
    ]
    frequencies = torch.empty(sum(per_axis), setup.fourier_features, dtype=torch.float64)
    return frequencies.normal_(0, setup.fourier_scale, generator=_stream(seed, 3))


def _stream(seed: int, number: int) -> torch.Generator:
    """An independent random stream of the seed."""
    words = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)
