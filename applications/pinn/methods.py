"""The methods' settings; `solve.py` turns them into solvers.

Network and points are alike for all methods, and `Setup`'s to set; only Gauss-Newton begins with a
smaller network, which it widens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from applications.pinn.sampling import Sampling

Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Setup:
    """Network and points, alike for all methods."""

    precision: Precision = "float64"
    """Number format of params, points and derivatives."""
    hidden: tuple[int, ...] = ()
    """Units of each hidden layer; none given: three of 20 for tanh, one of 80 for sin."""
    activation: Literal["declared", "tanh", "sin"] = "declared"
    """Activation of the hidden layers; "declared" is the problem's own."""
    first_layer_scale: float = 2.0
    """What the first layer's weights are multiplied with at the start."""
    scaled: bool = True
    """Whether coordinates and residuals are scaled to order one as the equations suggest."""
    harmonics: int = 1
    """Waves seen of each periodic coordinate."""
    fourier_features: int = 0
    """Random Fourier features, each a sine and a cosine."""
    fourier_scale: float = 1.0
    """Standard deviation of their frequencies, in scaled coordinates."""
    equation_weight: float = 1.0
    """Weight of the equations' mean squared residual, conditions having weight 1."""
    points_per_param: float = 3.0
    """Collocation points at the start, in units of the number of params."""
    most_points_per_param: float = 8.0
    """Collocation points when the residual on fresh points has exceeded that trained on."""
    condition_points: int = 256
    """Points of each condition."""
    adaptive_conditions: bool = False
    """Whether the conditions' points are adapted too."""
    sampling: Sampling = "adaptive"
    """Points where the residual is large, or spread evenly: a Sobol sequence, or random."""
    redraw_every: int = 5
    """Steps between two draws of points; 0 keeps the first."""
    candidates: int = 20
    """Points drawn for each one that adaptive sampling chooses."""
    slab_steps: int = 400
    """Steps on each time slab of a problem that has several, at most."""
    slab_loss: float = 1e-9
    """Loss on fresh points with which a slab is done before."""
    exponent: float = 0.5
    """Of the residual in a candidate's chance."""

    def __post_init__(self) -> None:
        check_setup(self)


@dataclass(frozen=True)
class FirstOrder(Setup):
    """A composed optimizer of sciopt on the full batch of points."""

    optimizer: Literal[
        "Adam", "AdamW", "AMSGrad", "AdaGrad", "RMSProp", "SGD", "NormalizedSGD", "Lion", "Muon"
    ] = "Adam"
    """Its name in sciopt."""
    lr: float = 1e-3
    """Learning rate."""
    redraw_every: int = 100

    def __post_init__(self) -> None:
        check_setup(self)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr is {self.lr}; give a positive number")


@dataclass(frozen=True)
class GaussNewton(Setup):
    """sciopt's damped Gauss-Newton with geodesic acceleration."""

    widen: float = 1.4
    """What the units of each layer are multiplied with where progress ends; 1 keeps them.

    Tanh layers that are to be widened begin with 10 units if `hidden` does not say otherwise.
    """
    most_params: int = 3000
    """Params that a widened network has at most."""
    damping: float = 1e-2
    """Damping of the first step."""
    target: float = 0.075
    """Share of the promised decrease that a step must achieve."""
    acceleration: bool = True
    """Whether steps have the second-order correction."""

    def __post_init__(self) -> None:
        check_setup(self)
        if not 1 <= self.widen <= 4 or self.most_params < 1:
            raise ValueError(
                f"widen is {self.widen} and most_params {self.most_params}; give a factor of 1 to "
                "4 and a positive number"
            )


@dataclass(frozen=True)
class QuasiNewton(Setup):
    """sciopt's L-BFGS or dense self-scaled Broyden, keeping their curvature at each redraw."""

    optimizer: Literal["LBFGS", "SelfScaledBroyden"] = "SelfScaledBroyden"
    """Its name in sciopt.curvature."""
    memory: int = 50
    """Pairs that L-BFGS keeps."""
    line_search: Literal["declared", "strong-wolfe", "hager-zhang"] = "declared"
    """"declared" is the optimizer's own."""
    redraw_every: int = 500


@dataclass(frozen=True)
class NewtonCG(Setup):
    """sciopt's truncated Newton method with Nyström's preconditioner."""

    rank: int = 60
    """Of the preconditioner."""
    redraw_every: int = 100


@dataclass(frozen=True)
class SciPy(Setup):
    """SciPy's L-BFGS-B or BFGS, started anew at each redraw; its driver is float64."""

    optimizer: Literal["L-BFGS-B", "BFGS"] = "L-BFGS-B"
    """Its name in scipy.optimize.minimize."""
    memory: int = 50
    """Pairs of steps and gradient differences that L-BFGS-B keeps."""
    gradient_tolerance: float = 1e-8
    """The run has converged once no component of the gradient is larger."""
    redraw_every: int = 0

    def __post_init__(self) -> None:
        check_setup(self)
        if not 1 <= self.memory <= 10_000:
            raise ValueError(f"memory is {self.memory}; give 1 to 10000 (10 to 100 are usual)")
        if not (math.isfinite(self.gradient_tolerance) and self.gradient_tolerance >= 0):
            raise ValueError(
                f"gradient_tolerance is {self.gradient_tolerance}; give a finite number >= 0"
            )


@dataclass(frozen=True)
class Sequence(Setup):
    """Several methods one after the other, each from where the last one ended."""

    stages: tuple[str, ...] = ("adam", "gauss-newton", "broyden")
    """Names of methods; network and points are the sequence's own."""
    stage_steps: tuple[int, ...] = (200, 300)
    """Steps of each stage but the last, which goes on."""

    def __post_init__(self) -> None:
        check_setup(self)
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown or not self.stages:
            raise ValueError(f"stages are {self.stages}; give some of {', '.join(STAGES)}")
        if len(self.stage_steps) != len(self.stages) - 1 or min(self.stage_steps, default=1) < 1:
            raise ValueError(
                f"stage_steps is {self.stage_steps}; give a positive number of steps for each of "
                f"the {len(self.stages)} stages but the last"
            )


def units(setup: Setup, activation: Literal["tanh", "sin"]) -> tuple[int, ...]:
    """Units of each hidden layer at the start.

    A layer of sines is a trigonometric sum with free frequencies; it has many units and needs no
    second one. Layers of tanh have few, of which Gauss-Newton makes more once they are not enough.
    """
    if setup.hidden:
        return setup.hidden
    if activation == "sin":
        return (80,)
    grows = isinstance(setup, GaussNewton) and setup.widen > 1
    return (10, 10, 10) if grows else (20, 20, 20)


Stage = FirstOrder | GaussNewton | QuasiNewton | NewtonCG | SciPy
Method = Stage | Sequence


CHOICES: Mapping[str, tuple[str, ...]] = {
    "precision": ("float32", "float64"),  # fewer bits lose the second derivatives
    "activation": ("declared", "tanh", "sin"),
    "sampling": ("adaptive", "sobol", "uniform"),
}
POSITIVE = (
    "equation_weight",
    "points_per_param",
    "most_points_per_param",
    "fourier_scale",
    "first_layer_scale",
)
LEAST: Mapping[str, int] = {
    **dict.fromkeys(("condition_points", "candidates", "harmonics", "slab_steps"), 1),
    **dict.fromkeys(("redraw_every", "fourier_features", "exponent", "slab_loss"), 0),
}


def check_setup(setup: Setup) -> None:
    """Raise ValueError for settings that cannot run."""
    for name, choices in CHOICES.items():
        if getattr(setup, name) not in choices:
            raise ValueError(
                f"{name} is {getattr(setup, name)!r}; give one of {', '.join(map(repr, choices))}"
            )
    if setup.hidden and min(setup.hidden) < 1:
        raise ValueError(f"hidden is {setup.hidden}; give one positive unit count per layer")
    for name in POSITIVE:
        value = getattr(setup, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; give a positive number")
    for name, lowest in LEAST.items():
        if not getattr(setup, name) >= lowest:
            raise ValueError(f"{name} is {getattr(setup, name)}; give at least {lowest}")


STAGES: Mapping[str, Stage] = {
    "adam": FirstOrder(),
    "adamw": FirstOrder(optimizer="AdamW"),
    "amsgrad": FirstOrder(optimizer="AMSGrad"),
    "adagrad": FirstOrder(optimizer="AdaGrad", lr=1e-2),
    "rmsprop": FirstOrder(optimizer="RMSProp"),
    "sgd": FirstOrder(optimizer="SGD", lr=1e-2),
    "normalized-sgd": FirstOrder(optimizer="NormalizedSGD", lr=1e-2),
    "lion": FirstOrder(optimizer="Lion", lr=1e-4),
    "gauss-newton": GaussNewton(),
    "lbfgs": QuasiNewton(optimizer="LBFGS"),
    "broyden": QuasiNewton(),
    "newton-cg": NewtonCG(),
    "scipy-lbfgs": SciPy(),
    "scipy-bfgs": SciPy(optimizer="BFGS"),
}

METHODS: Mapping[str, Method] = {
    **STAGES,
    "gauss-newton-broyden": Sequence(stages=("gauss-newton", "broyden"), stage_steps=(300,)),
    "adam-gauss-newton-broyden": Sequence(),
    "adam-lbfgs": Sequence(stages=("adam", "lbfgs"), stage_steps=(1000,)),
    "adam-scipy-lbfgs": Sequence(stages=("adam", "scipy-lbfgs"), stage_steps=(1000,)),
}
