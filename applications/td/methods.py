"""Temporal-difference methods: what is learnt, and the rule that says how far to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from applications.td.element_rules import Adam, RMSProp
from applications.td.rules import (
    VSGD,
    AlphaBound,
    AutoTIDBD,
    BiasAdjusted,
    BoundedSurprise,
    Fixed,
    Harmonic,
    Intentional,
    ObGD,
    PearceHall,
    PooledAgreement,
    Rule,
    Surprise,
    TriggLeach,
)

Algorithm = Literal["td", "true-online-td", "q-learning", "sarsa", "expected-sarsa"]

GRID = tuple(2.0**-k for k in range(7, -1, -1))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A temporal-difference method with accumulating traces; true online TD's are Dutch."""

    algorithm: Algorithm
    """td, true-online-td: prediction; q-learning (Watkins's), sarsa, expected-sarsa: control."""
    rule: Rule
    """How far a TD error moves the entries."""
    lambdas: tuple[float, ...]
    """Trace decays in [0, 1], each tried with each coefficient."""
    coefficients: tuple[float, ...] = (1.0,)
    """The c of the rule; a group of agents for each, and for each lambda."""
    exploration: float = 0.1
    """Probability of a uniformly random action (epsilon); predictions follow their own policy."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point type of weights and traces."""

    def __post_init__(self) -> None:
        if not 0 <= self.exploration <= 1:
            raise ValueError(f"got exploration = {self.exploration}; use a number in [0, 1]")
        if not self.lambdas or not all(0 <= lambda_ <= 1 for lambda_ in self.lambdas):
            raise ValueError(f"got lambdas = {self.lambdas}; use one or more numbers in [0, 1]")
        if not self.coefficients or not all(0 < c < float("inf") for c in self.coefficients):
            raise ValueError(
                f"got coefficients = {self.coefficients}; use one or more finite numbers > 0"
            )
        gains = type(self.rule).gain is not Rule.gain and self.rule.accumulates != "updates"
        if self.true_online and not gains:
            raise ValueError(
                f"{type(self.rule).__name__} sets its step only when the TD error is known, and "
                "true-online-td needs the gain before; use td, or a rule such as Fixed"
            )

    @property
    def predicts(self) -> bool:
        """Whether a policy is evaluated, not improved."""
        return self.algorithm in ("td", "true-online-td")

    @property
    def true_online(self) -> bool:
        """Whether the trace is van Seijen's Dutch one."""
        return self.algorithm == "true-online-td"


# Each rule with the coefficients that it is tried with by default.
RULES: Mapping[str, tuple[Rule, tuple[float, ...]]] = {
    "fixed": (Fixed(), GRID),
    "surprise": (Surprise(), GRID),
    "bounded": (BoundedSurprise(), GRID),
    "capped": (Surprise(cap=0.5), (0.5,)),
    "harmonic": (Harmonic(), (1.0,)),
    "pearce-hall": (PearceHall(), (0.5,)),
    "trigg-leach": (TriggLeach(), (0.5,)),
    "bakf": (BiasAdjusted(), (1.0,)),
    "vsgd": (VSGD(), (1.0,)),
    "alpha-bound": (AlphaBound(), (1.0,)),
    "auto-tidbd": (AutoTIDBD(), (1 / 8,)),
    "obgd": (ObGD(), (1.0,)),
    "intentional": (Intentional(), (0.5,)),
    "rmsprop": (RMSProp(), (2.0**-7,)),
    "adam": (Adam(), (2.0**-7,)),
    "agreement": (PooledAgreement(), (1.0,)),
}

_ALGORITHMS: Mapping[str, tuple[Algorithm, float]] = {
    "td": ("td", 0.8),
    "q": ("q-learning", 0.0),
    "sarsa": ("sarsa", 0.8),
    "expected-sarsa": ("expected-sarsa", 0.0),
}

METHODS: Mapping[str, Method] = {
    f"{short}-{name}": Method(
        algorithm=algorithm, rule=rule, lambdas=(lambda_,), coefficients=coefficients
    )
    for short, (algorithm, lambda_) in _ALGORITHMS.items()
    for name, (rule, coefficients) in RULES.items()
} | {
    f"true-online-td-{name}": Method(
        algorithm="true-online-td", rule=RULES[name][0], lambdas=(0.8,), coefficients=RULES[name][1]
    )
    for name in ("fixed", "harmonic", "bakf", "agreement")
}
