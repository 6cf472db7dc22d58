"""Any `torch.nn.Module` as the network, differentiated by torch.func: the slow path.

    u_xxt = ∂_t ∂_x ∂_x u:  one nested forward sweep along a coordinate for each order

The module is called with all points at once and must treat each by itself. The Jacobian is the
params' gradient of one point's output under `vmap`. What network.py does once for all derivatives
together is done here 2^order times.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from applications.pinn.embedding import Embedding
from applications.pinn.language import Index, Problem, ProblemError
from applications.pinn.network import MLP, Inputs
from applications.pinn.sampling import spread

ROOM = 2_000_000
"""Numbers of the Jacobian that are computed at once."""
CHUNK = 4096
SAMPLES = 8
# A module may have constants in float32.
ROUNDING = 1e-4


class ModuleNetwork:
    """A problem's own module, of which `params` are those with `requires_grad`, one flat vector.

    It sees the coordinates as they are. Of the embedding it only keeps the rates, which the time
    slabs share. Buffers and frozen params are its `constants`.

    Raises:
        ProblemError: what is no module or has no params, gives another shape, changes its buffers,
            mixes points, or is not periodic or symmetric as the problem says.
    """

    def __init__(self, embedding: Embedding, module: nn.Module) -> None:
        problem = embedding.problem
        _check_module(problem, module)
        self.embedding, self.module = embedding, copy.deepcopy(module).double().cpu()
        self.sizes = (len(problem.region), len(problem.unknowns))
        self.trained = {k: p for k, p in self.module.named_parameters() if p.requires_grad}
        self.parts = [param.numel() for param in self.trained.values()]
        self.count = sum(self.parts)
        _check_values(problem, self.module)

    @property
    def initial_params(self) -> Float[Tensor, " params"]:
        """The module's own, float64 on the CPU."""
        return torch.cat([param.detach().flatten() for param in self.trained.values()])

    @property
    def constants(self) -> dict[str, Tensor]:
        """Tensors of the module that are not trained, by name."""
        frozen = {k: p.data for k, p in self.module.named_parameters() if not p.requires_grad}
        return frozen | dict(self.module.named_buffers())

    def with_params(self, params: Float[Tensor, " params"]) -> nn.Module:
        """A copy of the module that has these params, float64 on the CPU."""
        module = copy.deepcopy(self.module)
        module.load_state_dict(self._by_name(params.detach()), strict=False)
        return module

    def inputs(
        self, points: Float[Tensor, "points coordinates"], indices: tuple[Index, ...]
    ) -> Inputs:
        """The points for `forward` with these derivatives, of which none is left out below any."""
        return Inputs(points.unsqueeze(0), indices, len(points))

    def forward(
        self, params: Float[Tensor, " params"], inputs: Inputs
    ) -> tuple[Float[Tensor, "channels points unknowns"], tuple[Tensor, Inputs]]:
        """The network's channels, and what the reverse sweeps begin from."""
        its = params if torch.is_grad_enabled() else params.detach()
        # Under no_grad torch takes formulas of SiLU and Mish that have no second derivative.
        with torch.enable_grad():
            return self._channels(its, inputs.features[0], inputs.indices), (params, inputs)

    def gradient(
        self, tape: tuple[Tensor, Inputs], cotangent: Float[Tensor, "channels points unknowns"]
    ) -> Float[Tensor, " params"]:
        """The params' gradient of a function whose derivative by the channels is `cotangent`."""
        params, inputs = tape
        gradient = torch.func.grad(self._weighted)
        total = torch.zeros_like(params)
        chunks = inputs.features[0].split(CHUNK), cotangent.split(CHUNK, dim=1)
        for points, above in zip(*chunks, strict=True):
            total += gradient(params, points, above, inputs.indices)
        return total

    def jacobian(
        self,
        tape: tuple[Tensor, Inputs],
        cotangent: Float[Tensor, "channels points unknowns"],
        out: Float[Tensor, "points params"],
    ) -> None:
        """Each point's gradient as a row of `out`, in chunks of points."""
        params, inputs = tape
        by_point = torch.func.vmap(torch.func.grad(self._weighted), in_dims=(None, 0, 1, None))
        at_once = max(1, ROOM // self.count)
        points, above = inputs.features[0].unsqueeze(1), cotangent.unsqueeze(2)
        chunks = points.split(at_once), above.split(at_once, dim=1), out.split(at_once)
        for some, their, rows in zip(*chunks, strict=True):
            rows.copy_(by_point(params, some, their, inputs.indices))

    def _by_name(self, params: Float[Tensor, " params"]) -> dict[str, Tensor]:
        parts = zip(self.trained.items(), params.split(self.parts), strict=True)
        return {name: part.view(param.shape) for (name, param), part in parts}

    def _weighted(
        self,
        params: Float[Tensor, " params"],
        points: Float[Tensor, "points coordinates"],
        cotangent: Float[Tensor, "channels points unknowns"],
        indices: tuple[Index, ...],
    ) -> Float[Tensor, ""]:
        return (cotangent * self._channels(params, points, indices)).sum()

    def _channels(
        self,
        params: Float[Tensor, " params"],
        points: Float[Tensor, "points coordinates"],
        indices: tuple[Index, ...],
    ) -> Float[Tensor, "channels points unknowns"]:
        named = self._by_name(params)
        for name, constant in self.constants.items():
            dtype = params.dtype if constant.is_floating_point() else constant.dtype
            named[name] = constant.to(params.device, dtype)
        found: dict[Index, Tensor] = {}
        for highest in _maximal(indices):
            found |= _derivatives(
                lambda at: torch.func.functional_call(self.module, named, (at,)), points, highest
            )
        return torch.stack([found[index] for index in indices])


Network = MLP | ModuleNetwork


def module_of(problem: Problem, generator: torch.Generator) -> nn.Module | None:
    """What `Problem.network` makes, torch's random stream being that of the generator's seed."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the streams of all devices, which are not kept here.
        torch.default_generator.manual_seed(generator.initial_seed())
        return problem.network()


def constants_of(network: Network, slab: int) -> dict[str, np.ndarray]:
    """What a file must hold of a network beside its params: a module may have drawn it."""
    constants = network.constants if isinstance(network, ModuleNetwork) else {}
    return {f"constant.{slab}.{name}": value.cpu().numpy() for name, value in constants.items()}


def rebuilt(
    embedding: Embedding, slab: int, arrays: Mapping[str, np.ndarray]
) -> ModuleNetwork | None:
    """The network of the problem's own module with the constants a file has for it, if any."""
    module = module_of(embedding.problem, torch.Generator().manual_seed(0))
    if module is None:
        return None
    network = ModuleNetwork(embedding, module)
    for name, value in network.constants.items():
        saved = arrays.get(f"constant.{slab}.{name}")
        if saved is None or saved.shape != value.shape:
            raise ValueError(
                f"the module of {type(embedding.problem).__name__} has {name!r} of shape "
                f"{tuple(value.shape)}, the file {'none' if saved is None else saved.shape}: it is "
                "not the problem that was solved"
            )
        value.copy_(torch.from_numpy(saved))
    return network


def _maximal(indices: tuple[Index, ...]) -> list[Index]:
    """Those that are below no other."""

    def below(lower: Index, upper: Index) -> bool:
        return lower != upper and all(a <= b for a, b in zip(lower, upper, strict=True))

    return [index for index in indices if not any(below(index, other) for other in indices)]


def _derivatives(
    function: Callable[[Tensor], Any], points: Float[Tensor, "points coordinates"], highest: Index
) -> dict[Index, Tensor]:
    """A function with all its derivatives up to the highest."""
    for axis, order in enumerate(highest):
        function = _differentiated(function, axis, order)
    nested, found = function(points), {}
    for index in product(*(range(order + 1) for order in highest)):
        value = nested
        for order in reversed(index):
            value = value[order]
        found[index] = value
    return found


def _differentiated(
    function: Callable[[Tensor], Any], axis: int, order: int
) -> Callable[[Tensor], tuple[Any, ...]]:
    """Points to what the function gives and its derivatives by one coordinate up to an order."""
    if order == 0:
        return lambda points: (function(points),)
    lower = _differentiated(function, axis, order - 1)

    def up_to_order(points: Tensor) -> tuple[Any, ...]:
        direction = torch.zeros_like(points)
        direction[:, axis] = 1
        found = torch.func.jvp(lower, (points,), (direction,))
        return *found[0], found[1][-1]

    return up_to_order


def _check_module(problem: Problem, module: Any) -> None:
    name = f"network() of {type(problem).__name__}"
    if not isinstance(module, nn.Module):
        raise ProblemError(
            f"{name} returns {module!r}; return a torch.nn.Module, or None for the usual network"
        )
    if not any(param.requires_grad for param in module.parameters()):
        raise ProblemError(f"{name} has no params that require a gradient: nothing can be trained")


@torch.no_grad()
def _check_values(problem: Problem, module: nn.Module) -> None:
    name = f"network() of {type(problem).__name__}"
    points = spread(problem, SAMPLES, "uniform", torch.Generator().manual_seed(0))
    before = {key: buffer.clone() for key, buffer in module.named_buffers()}
    with torch.random.fork_rng(devices=[]):
        value = _value(problem, module, points)
        for key, buffer in module.named_buffers():
            if not torch.equal(buffer, before[key]):
                raise ProblemError(
                    f"{name} changes its buffer {key!r} when it is called, as BatchNorm does in "
                    "training: the loss would not be a function of the params; call eval() on it"
                )
        halves = [_value(problem, module, half) for half in points.split(SAMPLES // 2)]
    if _differ(torch.cat(halves), value):
        raise ProblemError(
            f"{name} gives a point another value when it is called again with fewer points: it "
            "must treat each point by itself and without chance; call eval() on dropout"
        )
    for axis, coordinate in enumerate(problem.region):
        ends = points.clone(), points.clone()
        for end, place in zip(ends, problem.region[coordinate], strict=True):
            end[:, axis] = place
        first, last = (_value(problem, module, end) for end in ends)
        if coordinate in problem.periodic and _differ(first, last):
            raise ProblemError(
                f"{name} differs at the two ends of {coordinate!r}, which is periodic: let it see "
                f"sine and cosine of {coordinate}, or take it out of `periodic`"
            )
        image = points.clone()
        image[:, axis] *= -1
        parity = problem.symmetry.get(coordinate)
        sign = -1.0 if parity == "odd" else 1.0
        if parity and _differ(sign * _value(problem, module, image), value):
            raise ProblemError(
                f"{name} is not {parity} in {coordinate!r}, as `symmetry` says: build it so, or "
                f"take {coordinate!r} out of `symmetry`"
            )


def _value(problem: Problem, module: nn.Module, points: Tensor) -> Tensor:
    expected = len(points), len(problem.unknowns)
    given = f"coordinates of shape {tuple(points.shape)}, the columns being "
    try:
        value = module(points)
    except RuntimeError as error:
        raise ProblemError(
            f"network() of {type(problem).__name__} cannot take float64 {given}"
            f"{', '.join(problem.region)}: {error}"
        ) from error
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if shape != expected:
        raise ProblemError(
            f"network() of {type(problem).__name__} gives {shape} for {given}"
            f"{', '.join(problem.region)}; expected {expected}, one column for each unknown"
        )
    return value


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > ROUNDING * other.abs().max())
