"""The compiled engine: a parameter's update as few passes over its memory, by TorchInductor.

Two programs are traced for a bucket of parameters, the rates coarser than an element and the rest,
because sums must be known before the first element moves. They are traced once per signature -
the rules with their settings, shapes, strides, dtypes, device - and buckets of one signature
share the code. lr, weight decay, the clocks and published values are inputs: none of them
compiles anything anew, a schedule of betas does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sciopt.engine.update import Part, move, observe_coarse, step_one
from sciopt.rule import Clock, Scope, State

Program = Callable[..., Any]

# Whatever optimizer asks for them, programs of one signature are compiled once in a process.
_PROGRAMS: dict[Hashable, Program] = {}

# One call for several parameters saves overhead, and a cache still holds their gradients.
_BUCKET = 8


def require_compiler(device: str) -> None:
    """Raise RuntimeError if there is nothing to compile with for such a device."""
    if device == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise RuntimeError(
                'engine="compiled" needs Triton on CUDA; install it, or use engine="auto"'
            )
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RuntimeError(
            'engine="compiled" needs a C++ compiler (g++ or clang++ on the path, or CXX set); '
            'install one, or use engine="auto"'
        ) from error


def compiled_step(parts: Sequence[Part]) -> None:
    """One step of a group, by programs that are compiled when first needed."""
    ready: list[Part] = []
    for part in parts:
        # State that a rule has yet to begin cannot be traced.
        if any(value is None for value in part.state.values()):
            step_one(part)
        elif part.param.numel():
            ready.append(part)
    if not ready:
        return
    programs = ready[0].plan.programs
    assert programs is not None
    betas = programs.get("betas") or programs.setdefault("betas", _betas(ready[0]))
    ticks = _ticker(betas, "step" in ready[0].plan.names)
    for start in range(0, len(ready), _BUCKET):
        _Bucket(ready[start : start + _BUCKET], betas, ticks).step()


class _Bucket:
    """Some parameters of a group, as the inputs of two programs and as their signature.

    The inputs are what is common - lr, decay, skip, surveys, where there are such - and then, of
    each parameter, itself, its gradient, its state in the order of `names`, and its clock.
    """

    def __init__(self, parts: Sequence[Part], betas: Sequence[float], ticks: Callable[..., Any]):
        first = parts[0]
        self.parts, self.plan, self.betas = parts, first.plan, betas
        self.names = sorted(first.plan.names - {"step"})
        settings = first.settings
        maybe = (settings.decay, first.skip, *first.surveys)
        self.common = [_tensor(each) for each in (settings.lr, *maybe) if each is not None]
        self.absent = tuple(each is None for each in maybe)
        self.inputs = list(self.common)
        for part in parts:
            param, grad = part.param, part.loss_grad
            if grad.stride() != param.stride():
                grad = torch.empty_like(param).copy_(grad)
            self.inputs += [param, grad, *(part.state[name] for name in self.names)]
            self.inputs += ticks(part.clock)

    def step(self) -> None:
        """Run the programs, compiled on the first occasion."""
        programs = self.plan.programs
        assert programs is not None
        key = (tuple(map(id, (part.param for part in self.parts))), self.absent, self._flags())
        if key not in programs:
            programs[key] = self._compiled()
        coarse, rest = programs[key]
        products = [] if coarse is None else coarse(*self.inputs)
        rest(*self.inputs, *products)

    def _flags(self) -> tuple[bool, bool]:
        settings = self.parts[0].settings
        return settings.decoupled, settings.maximize

    def _compiled(self) -> tuple[Program | None, Program]:
        """The programs of this signature."""
        rules = (self.plan.direction, *self.plan.weights, None, *self.plan.rates)
        layouts = tuple((each.shape, each.stride(), each.dtype, each.device) for each in self.inputs)
        signature = (rules, self.plan.projection, self.betas, self.absent, self._flags(), layouts)
        if signature not in _PROGRAMS:
            example = [_alike(each) for each in self.inputs]
            coarse, products = None, []
            if any(rate.scope is not Scope.ELEMENT for rate in self.plan.rates):
                coarse = _compile(lambda *flat: self._observe(flat), example)
                products = coarse(*example)
            rest = _compile(lambda *flat: self._move(flat), [*example, *map(_alike, products)])
            _PROGRAMS[signature] = coarse, rest
        return _PROGRAMS[signature]

    def _observe(self, flat: Sequence[Tensor]) -> list[Tensor]:
        products = [observe_coarse(part) for part in self._traced(flat)]
        assert None not in products
        return products  # pyright: ignore[reportReturnType]

    def _move(self, flat: Sequence[Tensor]) -> None:
        products = flat[len(self.inputs) :] or [None] * len(self.parts)
        for part, product in zip(self._traced(flat), products, strict=True):
            move(part, product)

    def _traced(self, flat: Sequence[Tensor]) -> list[Part]:
        """The parts of which `flat` are the inputs."""
        rest = iter(flat)
        lr = next(rest)
        decay, skip, *surveys = [None if absent else next(rest) for absent in self.absent]
        settings = replace(self.parts[0].settings, lr=lr, decay=decay)
        traced = []
        for _ in self.parts:
            param, grad = next(rest), next(rest)
            state: State = {name: next(rest) for name in self.names}
            step = next(rest) if "step" in self.plan.names else float("nan")
            clock = Clock(step, {beta: next(rest) for beta in self.betas})
            traced.append(Part(self.plan, settings, param, grad, state, clock, surveys, skip))
        return traced


def _betas(part: Part) -> tuple[float, ...]:
    """The decays whose bias the rules correct, found by a step of copies."""
    copies = {name: value.clone() for name, value in part.state.items()}
    clock = Clock(part.clock.step)
    step_one(part._replace(param=part.param.clone(), state=copies, clock=clock))
    return tuple(clock.corrections)


def _ticker(betas: Sequence[float], counts: bool) -> Callable[[Clock], list[Tensor]]:
    """A function from clocks to inputs, which makes those of equal clocks once."""
    made: dict[int, list[Tensor]] = {}

    def ticks(clock: Clock) -> list[Tensor]:
        if id(clock) not in made:
            numbers = [clock.step, *map(clock.debias, betas)] if counts else []
            made[id(clock)] = [_tensor(number) for number in numbers]
        return made[id(clock)]

    return ticks


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _alike(tensor: Tensor) -> Tensor:
    """A tensor of its own memory with the same layout and numbers."""
    tensor = tensor.detach()
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _compile(function: Program, example: list[Tensor]) -> Program:
    from torch._inductor import compile as compiled
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function)(*map(_alike, example))
    return compiled(graph, example)  # pyright: ignore[reportReturnType]
