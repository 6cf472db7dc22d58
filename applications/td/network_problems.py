"""Control by small networks that learn from each transition once: problems and methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from applications.td.network_rules import (
    Adam,
    Fixed,
    Intentional,
    IntentionalSurprise,
    NaiveSurprise,
    NetworkRule,
    ObGD,
    RelativeSurprise,
)

Environment = Literal["CartPole-v1", "MountainCar-v0", "Acrobot-v1"]
TIME_STEPS = 100
"""Of the environment in one step of the solver."""


@dataclass(frozen=True, kw_only=True)
class NetworkProblem:
    """A classic control task of Gymnasium; one step is 100 time steps of every agent."""

    environment: Environment
    """Which of Gymnasium's environments; they run as tensor programs."""
    reward_noise: float = 0.0
    """Standard deviation of normal noise on every reward that is learnt from."""
    reward_scale: float = 1.0
    """Factor on every reward that is learnt from, its noise included."""
    agents: int = 30
    """Independent networks for each coefficient of a method; they share no luck."""

    def __post_init__(self) -> None:
        if self.environment not in get_args(Environment):
            raise ValueError(
                f"got environment = {self.environment!r}; use one of "
                f"{', '.join(get_args(Environment))}"
            )
        if self.agents < 1:
            raise ValueError(f"got agents = {self.agents}; use 1 or more")
        if not (0 <= self.reward_noise <= 1e9 and 1e-9 <= self.reward_scale <= 1e9):
            raise ValueError(
                f"got reward_noise = {self.reward_noise} and reward_scale = {self.reward_scale}; "
                "use a standard deviation in [0, 1e9] and a factor in [1e-9, 1e9]"
            )


@dataclass(frozen=True, kw_only=True)
class CartPole(NetworkProblem):
    """CartPole-v1: keep a pole upright; the return is the length of the episode, 500 at most."""

    environment: Environment = "CartPole-v1"


@dataclass(frozen=True, kw_only=True)
class Acrobot(NetworkProblem):
    """Acrobot-v1: swing two links up; -1 a time step, -500 at worst."""

    environment: Environment = "Acrobot-v1"


@dataclass(frozen=True, kw_only=True)
class NetworkQ:
    """Streaming Q(lambda): a network learns from every transition once, as it comes.

    Watkins's: the trace is cut at every action that is not the best one. Observations are
    normalised and rewards scaled by running moments, as Elsayed et al. (2024, arXiv 2410.14606).
    """

    rule: NetworkRule
    """How far to go along the trace."""
    coefficients: tuple[float, ...] = ()
    """The rule's coefficients to compare, one group of agents for each; if none, the rule's own."""
    discount: float = 0.99
    """Discount per time step, in [0, 1]."""
    lambda_: float = 0.8
    """Trace decay, in [0, 1]."""
    hidden: tuple[int, ...] = (32,)
    """Neurons of each hidden layer."""
    sparsity: float = 0.9
    """Share of a neuron's inputs that is disconnected at first; two are always kept."""
    exploration: float = 0.01
    """Probability of a random action in the end."""
    exploration_time_steps: int = 4000
    """The probability falls from 1 in so many time steps, along a straight line."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating-point type of the networks."""

    def __post_init__(self) -> None:
        shares = {
            name: getattr(self, name) for name in ("discount", "lambda_", "sparsity", "exploration")
        }
        if not all(0 <= share <= 1 for share in shares.values()):
            got = ", ".join(f"{name} = {share}" for name, share in shares.items())
            raise ValueError(f"got {got}; use numbers in [0, 1]")
        if not all(0 < c < float("inf") for c in self.coefficients):
            raise ValueError(f"got coefficients = {self.coefficients}; use finite numbers > 0")
        if self.exploration_time_steps < 1:
            raise ValueError(
                f"got exploration_time_steps = {self.exploration_time_steps}; use 1 or more"
            )
        if not self.hidden or min(self.hidden) < 2:
            raise ValueError(
                f"got hidden = {self.hidden}; use one or more layers of 2 neurons or more"
            )

    @property
    def grid(self) -> tuple[float, ...]:
        """The coefficient of each group of agents."""
        return self.coefficients or (self.rule.coefficient,)


NETWORK_PROBLEMS: Mapping[str, NetworkProblem] = {
    "cart-pole": CartPole(),
    "noisy-cart-pole": CartPole(reward_noise=1.0),
    "acrobot": Acrobot(),
}

NETWORK_METHODS: Mapping[str, NetworkQ] = {
    "stream-q-fixed": NetworkQ(rule=Fixed()),
    "stream-q-surprise": NetworkQ(rule=NaiveSurprise()),
    "stream-q-adam": NetworkQ(rule=Adam()),
    "stream-q-obgd": NetworkQ(rule=ObGD()),
    "stream-q-relative-surprise": NetworkQ(rule=RelativeSurprise()),
    "stream-q-intentional": NetworkQ(rule=Intentional()),
    "stream-q-intentional-surprise": NetworkQ(rule=IntentionalSurprise()),
}
