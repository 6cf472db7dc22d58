"""Whatever executes a step, any composition of any parameters goes where eager execution goes."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_twins import LIVES, label, slowing

import sciopt
from sciopt.directions import Sign

Make = Callable[..., Any]

number = st.floats(0.0, 0.97)
eps = st.floats(1e-8, 1.0)
OWN: dict[str, tuple[Make, dict[str, st.SearchStrategy[Any]]]] = {
    "Adam": (
        sciopt.Adam,
        {
            "betas": st.tuples(number, number),
            "eps": eps,
            "amsgrad": st.booleans(),
            "decoupled_weight_decay": st.booleans(),
        },
    ),
    "AMSGrad": (sciopt.AMSGrad, {"betas": st.tuples(number, number), "eps": eps}),
    "AdamW": (sciopt.AdamW, {"betas": st.tuples(number, number), "eps": eps}),
    "AdaGrad": (
        sciopt.AdaGrad,
        {"lr_decay": number, "eps": eps, "initial_accumulator_value": number},
    ),
    "SGD": (sciopt.SGD, {"momentum": st.sampled_from([0.0, 0.9])}),
    "Nesterov": (sciopt.SGD, {"momentum": st.floats(0.1, 0.9), "nesterov": st.just(True)}),
    "damped": (sciopt.SGD, {"momentum": number, "dampening": number}),
    "RMSProp": (
        sciopt.RMSProp,
        {
            # Centred, alpha = 0 leaves round-off of the square alone.
            "alpha": st.floats(0.3, 0.97),
            "eps": st.floats(1e-2, 1.0),
            "momentum": number,
            "centered": st.booleans(),
        },
    ),
    "NormalizedSGD": (sciopt.NormalizedSGD, {}),
    "slowing": (slowing, {"momentum": number, "lr_decay": number}),
    "Lion": (sciopt.Lion, {"betas": st.tuples(number, number)}),
    "sign": (lambda params, **k: sciopt.Composed(params, Sign(), **k), {}),
    "LARS": (
        sciopt.LARS,
        {"momentum": number, "trust_coefficient": st.floats(1e-3, 1.0), "eps": eps},
    ),
}


def contiguous(shape: list[int], whole: Tensor) -> Tensor:
    return whole[: math.prod(shape)].view(shape)


def shifted(shape: list[int], whole: Tensor) -> Tensor:
    return whole[3 : 3 + math.prod(shape)].view(shape)


def transposed(shape: list[int], whole: Tensor) -> Tensor:
    axes = tuple(reversed(range(len(shape))))
    return whole[: math.prod(shape)].view(shape[::-1]).permute(axes)


def channels_last(shape: list[int], whole: Tensor) -> Tensor:
    """The second axis innermost, as convolutions like it."""
    if len(shape) < 3:
        return contiguous(shape, whole)
    last = [shape[0], *shape[2:], shape[1]]
    return whole[: math.prod(shape)].view(last).movedim(-1, 1)


def gapped(shape: list[int], whole: Tensor) -> Tensor:
    """Every second element of the memory."""
    return whole[: 2 * math.prod(shape)].view(*shape, 2)[..., 0]


LAYOUTS = [gapped, transposed, channels_last, shifted, contiguous]


class Param(NamedTuple):
    """How a parameter and its gradient lie in memory, and the steps without gradient."""

    shape: list[int]
    layout: Callable[[list[int], Tensor], Tensor]
    gradient: str
    absent: set[int]


class Case(NamedTuple):
    """A method, its settings for all groups, and the settings and parameters of each."""

    name: str
    common: dict[str, Any]
    groups: list[tuple[dict[str, Any], list[Param]]]
    dtypes: list[torch.dtype]


STEPS = 5
params = st.builds(
    Param,
    st.lists(st.sampled_from([3, 2, 4, 1, 0]), max_size=4),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["as the parameter", "contiguous", "expanded"]),
    st.sets(st.integers(0, STEPS - 1), max_size=2),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(list(OWN)))
    common: dict[str, Any] = {"maximize": draw(st.booleans())}
    if draw(st.sampled_from([False, False, False, False, False, True])):
        common["projection"] = sciopt.Box(-0.5, 0.5)
    groups = []
    for _ in range(draw(st.integers(1, 3))):
        of_group = {key: draw(values) for key, values in OWN[name][1].items()}
        lr = draw(st.floats(1e-3, 0.5))
        of_group["lr"] = torch.tensor(lr, dtype=torch.float64) if draw(st.booleans()) else lr
        of_group["weight_decay"] = draw(st.sampled_from([0.0, 0.1]))
        groups.append((of_group, draw(st.lists(params, min_size=1, max_size=4))))
    sets = [[torch.float64], [torch.float32], [torch.float64, torch.float32]]
    return Case(name, common, groups, draw(st.sampled_from(sets)))


def journey(case: Case, engine: dict[str, Any]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The memory each parameter is made in, before the first step and after the last; and it."""
    generator = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    made, starts, every = [], [], []
    for of_group, of_params in case.groups:
        group = []
        for index, param in enumerate(of_params):
            whole = noise(2 * math.prod(param.shape) + 3).to(case.dtypes[index % len(case.dtypes)])
            group.append(param.layout(param.shape, whole).requires_grad_())
            starts.append((whole.clone(), whole))
            every.append((param, group[-1]))
        made.append({**of_group, "params": group})
    optimizer = OWN[case.name][0](made, **case.common, **engine)
    for step in range(STEPS):
        for param, tensor in every:
            grad = 1 + noise(*param.shape).to(tensor.dtype)
            if param.gradient == "expanded":
                grad = grad.mean().expand(param.shape) if grad.numel() else grad
            elif param.gradient == "as the parameter":
                grad = torch.empty_like(tensor).copy_(grad)
            tensor.grad = None if step in param.absent else grad
        optimizer.step()
    return [(*memory, tensor) for memory, (_, tensor) in zip(starts, every, strict=True)]


@pytest.mark.parametrize("engine", [{"engine": "auto"}, *LIVES[2:]], ids=label)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=cases())
def test_any_composition_goes_where_eager_execution_goes(
    engine: dict[str, Any], case: Case
) -> None:
    event(case.name)
    if "flat" in engine:
        assume(case.name != "LARS")
        case = case._replace(dtypes=case.dtypes[:1])
    with torch.no_grad():
        pairs = zip(journey(case, engine), journey(case, {"engine": "eager"}), strict=True)
        for (_, our_memory, ours), (start, memory, eager) in pairs:
            moved = (memory - start).abs().max().item()
            tolerance = {torch.float64: 1e-11, torch.float32: 1e-4}[eager.dtype]
            scale = torch.finfo(eager.dtype).eps * start.abs().max().item()
            atol = tolerance * moved + 4 * scale
            torch.testing.assert_close(ours, eager, rtol=0, atol=atol)
            if "flat" not in engine:
                # Nothing beside the parameter has moved.
                torch.testing.assert_close(our_memory, memory, rtol=0, atol=atol)
