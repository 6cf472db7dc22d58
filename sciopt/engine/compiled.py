"""The compiled engine: a parameter's update as few passes over its memory, by TorchInductor.

Two programs are traced for a bucket of parameters, the rates coarser than an element and the rest,
because sums must be known before the first element moves. They are traced once per signature -
the rules with their settings, shapes, strides, dtypes, device - and buckets of one signature
share the code. lr, weight decay, clocks and published values are inputs: none of them
compiles anything anew; a schedule of betas does, and a new pattern of missing gradients.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sciopt.engine.plan import Programs, layouts
from sciopt.engine.update import Part, move, observe_coarse, step_one
from sciopt.rule import Clock, Real, Scope, State

Program = Callable[..., Any]

# Whatever optimizer asks for them, programs of one signature are compiled once in a process.
_PROGRAMS: dict[Hashable, Programs] = {}
_LOCK = threading.Lock()
_MANY = 64

# One call for several parameters saves overhead; on the host a cache shall still hold their
# gradients when the second program reads them.
_BUCKET = {"cpu": 6, "cuda": 32}


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
    ready = list(parts)
    if ready and ready[0].plan.begins:
        ready = [part for part in ready if not _stepped_as_it_reads(part)]
    ready = [part for part in ready if part.param.numel()]
    if not ready:
        return
    plan = ready[0].plan
    if plan.factors is None:
        plan.factors = _factors(ready[0])
    by_device: dict[torch.device, list[Part]] = {}
    for part in ready:
        by_device.setdefault(part.param.device, []).append(part)
    for device, of_device in by_device.items():
        ticks = _ticker(plan.factors, "step" in plan.names, device)
        size = _BUCKET.get(device.type, 8)
        for start in range(0, len(of_device), size):
            _Bucket(of_device[start : start + size], ticks).step()


def _stepped_as_it_reads(part: Part) -> bool:
    """Whether the part has state that a rule has yet to begin, which cannot be traced."""
    begins = any(value is None for value in part.state.values())
    if begins:
        step_one(part)
    return begins


class _Bucket:
    """Some parameters of a group, as the inputs of two programs and as their signature.

    The inputs are what is common - lr, decay, skip, surveys, where there are such - and then, of
    each parameter, itself, its gradient, its state in the order of `names`, and its clock.
    """

    def __init__(self, parts: Sequence[Part], ticks: Callable[[Clock], list[Tensor]]):
        first = parts[0]
        self.parts, self.plan = parts, first.plan
        self.names = sorted(first.plan.names - {"step"})
        decay, surveys = first.settings.decay, first.surveys
        self.absent = tuple(each is None for each in (decay, first.skip, *surveys))
        device = first.param.device
        self.inputs = [_tensor(first.settings.lr, device)]
        self.inputs += [] if decay is None else [_tensor(decay, device)]
        self.inputs += [each for each in (first.skip, *surveys) if each is not None]
        self.lasting: list[Tensor] = []
        self.gradients: list[Tensor] = []
        for _, _, param, grad, state, clock, _, _ in parts:
            if grad.stride() != param.stride():
                grad = torch.empty_like(param).copy_(grad)
            kept = [*map(state.__getitem__, self.names)]
            self.lasting += (param, *kept)
            self.gradients.append(grad)
            self.inputs += (param, grad, *kept, *ticks(clock))

    def step(self) -> None:
        """Run the programs, compiled on the first occasion."""
        known = self.plan.programs
        assert known is not None
        params = [part.param for part in self.parts]
        key = (tuple(map(id, params)), self.absent, self._flags())
        fingerprint = (
            list(map(Tensor.data_ptr, self.lasting)),
            layouts([*params, *self.gradients]),
        )
        before, programs = known.get(key, (None, None))
        if programs is None or before != fingerprint:
            programs = self._compiled()
            known[key] = fingerprint, programs
        coarse, rest = programs
        products = [] if coarse is None else coarse(*self.inputs)
        rest(*self.inputs, *products)

    def _flags(self) -> tuple[bool, bool]:
        settings = self.parts[0].settings
        return settings.decoupled, settings.maximize

    def _compiled(self) -> Programs:
        """The programs of this signature."""
        rules = (self.plan.direction, *self.plan.weights, None, *self.plan.rates)
        kinds = tuple((each.shape, each.stride(), each.dtype, each.device) for each in self.inputs)
        signature = (rules, self.plan.projection, self.absent, self._flags(), kinds)
        try:
            hash(signature)
        except TypeError as error:
            raise ValueError(
                f'engine="compiled" needs settings that can be hashed, such as tuples: {error}; '
                f"the rules are {rules}"
            ) from error
        with _LOCK:
            return self._looked_up(signature)

    def _looked_up(self, signature: Hashable) -> Programs:
        if signature not in _PROGRAMS:
            if len(_PROGRAMS) % _MANY == _MANY - 1:
                warnings.warn(
                    f"the compiled engine has compiled {len(_PROGRAMS) + 1} programs; settings "
                    "such as betas that change from step to step, or gradients that are missing "
                    'in ever new patterns, compile anew: engine="auto" does not',
                    RuntimeWarning,
                    stacklevel=2,
                )
            example = [_alike(each) for each in self.inputs]
            coarse, products = None, []
            if any(rate.scope is not Scope.ELEMENT for rate in self.plan.rates):
                coarse = _compile(lambda *flat: self._observe(flat), example, sums=True)
                products = coarse(*example)
            rest = _compile(lambda *flat: self._move(flat), [*example, *map(_alike, products)])
            _PROGRAMS[signature] = coarse, rest
        return _PROGRAMS[signature]

    def _observe(self, flat: Sequence[Tensor]) -> list[Tensor]:
        products = []
        for part in self._traced(flat):
            before = dict(part.state)
            products.append(observe_coarse(part))
            _check_in_place(part, before)
        return products

    def _move(self, flat: Sequence[Tensor]) -> None:
        products = flat[len(self.inputs) :] or [None] * len(self.parts)
        for part, product in zip(self._traced(flat), products, strict=True):
            before = dict(part.state)
            move(part, product)
            _check_in_place(part, before)

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
            clock = Clock(next(rest) if "step" in self.plan.names else None)
            clock.factors = {key: next(rest) for key in self.plan.factors or ()}
            traced.append(Part(self.plan, settings, param, grad, state, clock, surveys, skip))
        return traced


def _check_in_place(part: Part, before: State) -> None:
    """Raise ValueError if a rule has put another tensor where the program knows the old one."""
    for name, value in before.items():
        if part.state[name] is not value:
            raise ValueError(
                f"a rule has replaced its state {name!r}; to be compiled it must change it in "
                f"place, as state[{name!r}].copy_(...) does"
            )


def _factors(part: Part) -> tuple[tuple[Real, Real], ...]:
    """The factors that the rules ask a clock for, found by a step of copies."""
    copies = {name: value.clone() for name, value in part.state.items()}
    clock = Clock(part.clock.step if "step" in part.plan.names else None)
    step_one(part._replace(param=part.param.clone(), state=copies, clock=clock))
    return tuple(clock.factors)


def _ticker(
    factors: Sequence[tuple[Real, Real]], counts: bool, device: torch.device
) -> Callable[[Clock], list[Tensor]]:
    """A function from clocks to inputs, which makes those of equal clocks once."""
    made: dict[int, list[Tensor]] = {}

    def ticks(clock: Clock) -> list[Tensor]:
        if id(clock) not in made:
            numbers = [clock.step, *(clock.debias(*key) for key in factors)] if counts else []
            made[id(clock)] = [_tensor(number, device) for number in numbers]
        return made[id(clock)]

    return ticks


def _tensor(value: Any, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        # One precision for all, which the programs are compiled for.
        return value.to(device, torch.float64, non_blocking=True)
    # Filled on the device: a copy from the host would wait for it.
    return torch.full((), value, dtype=torch.float64, device=device)


def _alike(tensor: Tensor) -> Tensor:
    """A tensor of its own memory with the same layout and numbers."""
    tensor = tensor.detach()
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _compile(function: Program, example: list[Tensor], *, sums: bool = False) -> Program:
    """The function for inputs like these, which it must meet with: nothing looks again."""
    from torch._inductor import compile as compiled
    from torch.fx.experimental.proxy_tensor import make_fx

    # The layouts are known from the fingerprint; looking again takes as long as the rest of a call.
    options: dict[str, Any] = {"size_asserts": False}
    if sums and torch.backends.cpu.get_cpu_capability() == "AVX512":
        # Rows are seldom multiples of 16, and their rest costs more than wide registers save.
        options["cpp.simdlen"] = 256
    try:
        graph = make_fx(function)(*map(_alike, example))
    except RuntimeError as error:
        if "tracing tensor" not in str(error):
            raise
        raise RuntimeError(
            "a rule cannot be compiled: it must not branch on numbers of tensors or read them by "
            '.item(); use engine="auto"'
        ) from error
    return compiled(graph, [*example], options=options)  # pyright: ignore[reportReturnType]
