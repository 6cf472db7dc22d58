"""Settings that cannot run are refused, in words."""

import dataclasses
import math
import re
from typing import Any

import pytest

import sciopt
from applications.pinn.methods import (
    METHODS,
    STAGES,
    FirstOrder,
    GaussNewton,
    QuasiNewton,
    SciPy,
    Sequence,
    Setup,
    units,
)
from sciopt import curvature


@pytest.mark.parametrize("method", [Setup, FirstOrder, GaussNewton, QuasiNewton, SciPy, Sequence])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float16"}, "precision is 'float16'; give one of 'float32', 'float64'"),
        ({"activation": "relu"}, "activation is 'relu'; give one of 'declared', 'tanh', 'sin'"),
        ({"sampling": "grid"}, "sampling is 'grid'; give one of 'adaptive', 'sobol', 'uniform'"),
        ({"hidden": (20, 0)}, "hidden is (20, 0); give one positive unit count per layer"),
        ({"equation_weight": 0.0}, "equation_weight is 0.0; give a positive number"),
        ({"points_per_param": -1.0}, "points_per_param is -1.0; give a positive number"),
        ({"fourier_scale": math.nan}, "fourier_scale is nan"),
        ({"condition_points": 0}, "condition_points is 0; give at least 1"),
        ({"candidates": 0}, "candidates is 0; give at least 1"),
        ({"harmonics": 0}, "harmonics is 0; give at least 1"),
        ({"slab_steps": 0}, "slab_steps is 0; give at least 1"),
        ({"redraw_every": -1}, "redraw_every is -1; give at least 0"),
        ({"fourier_features": -2}, "fourier_features is -2; give at least 0"),
        ({"first_layer_scale": 0.0}, "first_layer_scale is 0.0; give a positive number"),
        ({"exponent": math.nan}, "exponent is nan; give at least 0"),
    ],
)
def test_a_setup_that_cannot_run_is_refused(method: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        method(**settings)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (FirstOrder, {"lr": 0.0}, "lr is 0.0; give a positive number"),
        (FirstOrder, {"lr": math.inf}, "lr is inf"),
        (GaussNewton, {"widen": 0.5}, "widen is 0.5 and most_params 3000; give a factor of 1 to 4"),
        (GaussNewton, {"widen": 5.0}, "widen is 5.0"),
        (GaussNewton, {"widen": math.nan}, "widen is nan"),
        (GaussNewton, {"most_params": 0}, "most_params 0; give a factor of 1 to 4 and a positive"),
        (SciPy, {"memory": 0}, "memory is 0; give 1 to 10000"),
        (SciPy, {"gradient_tolerance": math.nan}, "gradient_tolerance is nan; give a finite"),
        (Sequence, {"stages": ("adam", "newton"), "stage_steps": (3,)}, "give some of adam, adamw"),
        (Sequence, {"stages": (), "stage_steps": ()}, "stages are ()"),
        (Sequence, {"stage_steps": (3,)}, "each of the 3 stages but the last"),
        (Sequence, {"stage_steps": (3, 0)}, "stage_steps is (3, 0); give a positive number"),
    ],
)
def test_settings_of_a_method_that_cannot_run_are_refused(
    method: Any, settings: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        method(**settings)


def test_units_that_are_not_given_are_those_of_the_activation() -> None:
    assert units(GaussNewton(), "tanh") == (10, 10, 10)
    assert units(GaussNewton(widen=1.0), "tanh") == units(FirstOrder(), "tanh") == (20, 20, 20)
    assert units(GaussNewton(), "sin") == units(FirstOrder(), "sin") == (80,)
    assert units(GaussNewton(hidden=(7, 5)), "sin") == (7, 5)


def test_every_optimizer_named_here_exists() -> None:
    for method in STAGES.values():
        match method:
            case FirstOrder():
                assert hasattr(sciopt, method.optimizer)
            case QuasiNewton():
                assert hasattr(curvature, method.optimizer)


def test_all_methods_have_the_same_network_and_points() -> None:
    # What may differ from method to method is how often points are drawn.
    shared = {f.name for f in dataclasses.fields(Setup)} - {"redraw_every"}
    for method in METHODS.values():
        assert all(getattr(method, name) == getattr(Setup(), name) for name in shared)
