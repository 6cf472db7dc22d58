"""How many updates of a small network per second: 450 in lockstep against one in a plain loop.

`python -m tests.benchmarks.lockstep_networks` prints both, by turns in one run, and their ratio.
The plain loop is written as streaming agents usually are: `torch.nn` modules, autograd, a loop over
the parameters for trace and step, Gymnasium's CartPole. Both do ObGD with 226 parameters and the
same normalisation. It asserts that all networks moved, and never a time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console

from applications.td.lockstep_networks import LockstepNetworks
from applications.td.network_problems import TIME_STEPS, CartPole, NetworkQ
from applications.td.network_rules import ObGD

DISCOUNT, LAMBDA, KAPPA = 0.99, 0.8, 2.0
BAR = 25.0


class PlainLoop:
    """One network, one environment, one transition after the other."""

    def __init__(self) -> None:
        self.environment = gym.make("CartPole-v1")
        self.network = torch.nn.Sequential(
            torch.nn.Linear(4, 32),
            torch.nn.LayerNorm(32, elementwise_affine=False),
            torch.nn.LeakyReLU(),
            torch.nn.Linear(32, 2),
        )
        self.traces = [torch.zeros_like(param) for param in self.network.parameters()]
        self.rng = np.random.default_rng(0)
        self.count, self.reward_trace = 0, 0.0
        self.mean, self.scatter = np.zeros(4), np.zeros(4)
        self.return_mean, self.return_scatter = 0.0, 0.0
        self.observation, _ = self.environment.reset(seed=0)
        self.begins = True

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(param.numel() for param in self.network.parameters())

    def run(self, time_steps: int) -> None:
        """Act and learn."""
        for _ in range(time_steps):
            self._transition()

    def _transition(self) -> None:
        values = self.network(torch.as_tensor(self.observation, dtype=torch.float32))
        best = int(values.argmax())
        action = int(self.rng.integers(2)) if self.rng.random() < 0.1 else best
        following, reward, terminated, truncated, _ = self.environment.step(action)
        following, reward = self._normalised(following), self._scaled(float(reward))
        with torch.no_grad():
            after = self.network(torch.as_tensor(following, dtype=torch.float32)).max()
        value = values[action]
        td_error = reward + DISCOUNT * (not terminated) * float(after) - float(value.detach())
        gradients = torch.autograd.grad(value, list(self.network.parameters()))
        decay = 0.0 if self.begins or action != best else DISCOUNT * LAMBDA
        length = 0.0
        for trace, gradient in zip(self.traces, gradients, strict=True):
            trace.mul_(decay).add_(gradient)
            length += float(trace.abs().sum())
        rate = 1.0 / max(1.0, KAPPA * max(abs(td_error), 1.0) * length)
        with torch.no_grad():
            for param, trace in zip(self.network.parameters(), self.traces, strict=True):
                param.add_(trace, alpha=rate * td_error)
        self.observation, self.begins = following, terminated or truncated
        if self.begins:
            self.reward_trace = 0.0
            self.observation, _ = self.environment.reset()

    def _normalised(self, observation: np.ndarray) -> np.ndarray:
        self.count += 1
        deviation = observation - self.mean
        self.mean = self.mean + deviation / self.count
        self.scatter = self.scatter + deviation * (observation - self.mean)
        return (observation - self.mean) / np.sqrt(self.scatter / max(1, self.count - 1) + 1e-8)

    def _scaled(self, reward: float) -> float:
        self.reward_trace = DISCOUNT * self.reward_trace + reward
        deviation = self.reward_trace - self.return_mean
        self.return_mean += deviation / self.count
        self.return_scatter += deviation * (self.reward_trace - self.return_mean)
        return reward / (self.return_scatter / max(1, self.count - 1) + 1e-8) ** 0.5


@dataclass(frozen=True)
class Rates:
    """Updates of a network per second of processor time; the best of some turns."""

    plain: float
    lockstep: float

    @property
    def ratio(self) -> float:
        """How many times more the lockstep does."""
        return self.lockstep / self.plain


def measure(networks: int, turns: int, plain_steps: int, lockstep_steps: int) -> Rates:
    """Both by turns."""
    method = NetworkQ(rule=ObGD(kappa=KAPPA), discount=DISCOUNT, lambda_=LAMBDA)
    lockstep = LockstepNetworks(CartPole(agents=networks), method, 0, torch.device("cpu"))
    plain = PlainLoop()
    assert lockstep.networks.params == plain.params
    before = (
        lockstep.params.clone(),
        torch.nn.utils.parameters_to_vector(plain.network.parameters()),
    )
    plain_seconds, lockstep_seconds = [], []
    for _ in range(turns):
        begin = time.process_time()
        plain.run(plain_steps)
        plain_seconds.append(time.process_time() - begin)
        begin = time.process_time()
        for _ in range(lockstep_steps):
            lockstep.step()
        lockstep_seconds.append(time.process_time() - begin)
    moved = torch.nn.utils.parameters_to_vector(plain.network.parameters()) != before[1]
    assert moved.any()
    assert (lockstep.params != before[0]).any(1).all()
    return Rates(
        plain_steps / min(plain_seconds),
        lockstep_steps * TIME_STEPS * networks / min(lockstep_seconds),
    )


def main(networks: int = 450, turns: int = 5) -> None:
    """Print what both do in a second of one core."""
    torch.set_num_threads(1)
    rates = measure(networks, turns, plain_steps=2000, lockstep_steps=10)
    console = Console(width=100)
    console.print(f"plain loop            {rates.plain:12,.0f} updates per second")
    console.print(f"lockstep of {networks:5d}     {rates.lockstep:12,.0f} updates per second")
    met = "yes" if rates.ratio >= BAR else "no"
    console.print(f"ratio                 {rates.ratio:12.1f}  (bar: >= {BAR:g}, met: {met})")


if __name__ == "__main__":
    tyro.cli(main)
