"""The named methods are their compositions, and take what torch's classes take."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_pairs import difference, gradients, new_params
from torch_twins import ENGINES, follow, label, new_inputs

import sciopt
from sciopt import Composed
from sciopt.directions import Momentum, Sign
from sciopt.rates import TrustRatio

NAMESAKES: dict[type[Composed], type[torch.optim.Optimizer]] = {
    sciopt.SGD: torch.optim.SGD,
    sciopt.AdaGrad: torch.optim.Adagrad,
    sciopt.RMSProp: torch.optim.RMSprop,
    sciopt.Adam: torch.optim.Adam,
    sciopt.AdamW: torch.optim.AdamW,
    sciopt.Muon: torch.optim.Muon,
}
# How torch runs a step, and what ours take as options.
EXECUTION = {"foreach", "capturable", "differentiable", "fused", "maximize"}


def arguments(method: type, *, positional: bool) -> dict[str, Any]:
    """Names and defaults, in order if they may be given by position."""
    found = inspect.signature(method).parameters.values()
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {
        each.name: each.default
        for each in found
        if (each.kind is by_position) == positional and each.name not in EXECUTION
    }


@pytest.mark.parametrize("method", NAMESAKES, ids=lambda method: method.__name__)
def test_arguments_and_defaults_are_torchs(method: type[Composed]) -> None:
    ours, theirs = (arguments(each, positional=True) for each in (method, NAMESAKES[method]))
    assert list(ours.items()) == list(theirs.items())
    theirs |= arguments(NAMESAKES[method], positional=False)
    ours = arguments(method, positional=False)
    shared = ours.keys() & theirs.keys()
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


COMPOSED: dict[str, tuple[Callable[..., Composed], Callable[..., Composed]]] = {
    # Chen et al. 2023, algorithm 2, of which test_directions.py has the formula.
    "Lion": (
        sciopt.Lion,
        lambda params, **k: Composed(
            params, Sign(0.9, 0.99), lr=1e-4, decoupled_weight_decay=True, **k
        ),
    ),
    # You, Gitman & Ginsburg 2017, equation 6, of which test_rates.py has the formula.
    "LARS": (
        sciopt.LARS,
        lambda params, **k: Composed(
            params, Momentum(0.9, after_rates=True), [TrustRatio(1e-3, 1e-8)], lr=0.1, **k
        ),
    ),
}


@pytest.mark.parametrize(("named", "composed"), COMPOSED.values(), ids=COMPOSED)
@pytest.mark.parametrize("keywords", [{}, {"weight_decay": 0.3, "maximize": True}], ids=str)
def test_lion_and_lars_are_their_compositions(
    named: Callable[..., Composed], composed: Callable[..., Composed], keywords: dict[str, Any]
) -> None:
    ours, theirs = new_params(), new_params()
    series = gradients(ours, 5)
    first = follow(named(ours, **keywords), ours, series)
    second = follow(composed(theirs, **keywords), theirs, series)
    assert all(map(torch.equal, first, second))


def matrices() -> list[Tensor]:
    return [new_inputs(*shape).float() for shape in [(4, 7), (7, 4), (5, 5), (1, 6)]]


MUON: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.0, "momentum": 0.5, "nesterov": False},
    {"adjust_lr_fn": "original", "lr": 0.05},
    {"adjust_lr_fn": "match_rms_adamw", "lr": 0.05, "weight_decay": 0.3, "ns_steps": 3},
]


@pytest.mark.parametrize("engine", ENGINES, ids=label)
@pytest.mark.parametrize("keywords", MUON, ids=str)
def test_muon_is_torchs_over_thirty_steps_in_float32(
    keywords: dict[str, Any], engine: dict[str, Any]
) -> None:
    ours, theirs = matrices(), matrices()
    series = gradients(ours, 30)
    follow(sciopt.Muon(ours, **keywords, **engine), ours, series)
    follow(torch.optim.Muon(theirs, **keywords), theirs, series)
    assert difference(ours, theirs, matrices()) <= 1e-5


@pytest.mark.parametrize("keywords", MUON, ids=str)
@pytest.mark.parametrize("ours_first", [True, False])
def test_muons_checkpoints_go_to_torch_and_back(keywords: dict[str, Any], ours_first: bool) -> None:
    def path(makers: Sequence[Callable[..., torch.optim.Optimizer]]) -> list[Tensor]:
        params, state = matrices(), None
        series = gradients(params, 9)
        for turn, make in enumerate(makers):
            # Other settings, which those of the checkpoint must replace.
            optimizer = make(params, **keywords) if state is None else make(params, lr=7.0)
            if state is not None:
                optimizer.load_state_dict(state)
            follow(optimizer, params, series[3 * turn : 3 * turn + 3])
            state = copy.deepcopy(optimizer.state_dict())
        return params

    makers = [sciopt.Muon, torch.optim.Muon, sciopt.Muon]
    if not ours_first:
        makers = [torch.optim.Muon, sciopt.Muon, torch.optim.Muon]
    assert difference(path(makers), path([torch.optim.Muon] * 3), matrices()) <= 1e-5
