"""Day by day through the years: a portfolio chosen anew from the window of past returns.

On a decision's date t the weights minimise 0.5 risk_aversion w'Qw - return_weight mu'w, with Q and
mu the moments of the `window` returns up to and including that of t - 1. They are bought at the
close of t - 1, held through t and left to drift until the next decision. Trading is free; what it
would have to pay for is told as turnover. Equal weights, restored on the same dates, walk along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from applications.portfolio.problems import TRADING_DAYS, WalkForward, window_returns
from sciopt.bench import Ended, Status
from sciopt.quadratic import solve_batch


class WalkForwardSolver:
    """The exact portfolios of one year of decisions at each step, solved as one batch."""

    resumable = True

    def __init__(self, problem: WalkForward, device: torch.device) -> None:
        table = window_returns(problem)
        _check(problem, len(table))
        self.problem = problem
        self.assets = tuple(table.columns)
        self.days = table.index.to_numpy().astype("datetime64[D]")[problem.window :]
        self.asset_returns = torch.tensor(table.to_numpy(), device=device)
        ahead = range(problem.window, len(table), problem.every)
        self.decisions = torch.tensor(ahead, device=device)
        self.decided = 0
        options = {"dtype": torch.float64, "device": device}
        self.weights = torch.zeros(len(ahead), len(self.assets), **options)
        self.relative_gap = torch.zeros(len(ahead), **options)
        # Of the strategy and of equal weights, which start with nothing but cash.
        self.turnover = torch.zeros(2, len(ahead), **options)
        self.returns = torch.zeros(2, len(self.days), **options)
        self.held = torch.zeros(2, len(self.assets), **options)

    def step(self) -> Ended | None:
        """Decide for a year, then hold each portfolio until the next decision."""
        first = self.decided
        year = self.decisions[first : first + max(1, TRADING_DAYS // self.problem.every)]
        last = first + len(year)
        self.weights[first:last], self.relative_gap[first:last] = self.decide(year)
        equal = torch.full_like(self.held[0], 1 / len(self.assets))
        for decision in range(first, last):
            self.hold(decision, torch.stack([self.weights[decision], equal]))
        self.decided = last
        if last < len(self.decisions):
            return None
        worst = self.relative_gap.max().item()
        return Ended(Status.CONVERGED, f"{last} portfolios to a relative gap of {worst:.1e}")

    def decide(
        self, decisions: Float[Tensor, " dates"]
    ) -> tuple[Float[Tensor, "dates assets"], Float[Tensor, " dates"]]:
        """The weights on each date and their gap relative to max(|f|, the average asset's risk)."""
        window = self.problem.window
        past = self.asset_returns.unfold(0, window, 1)[decisions - window]
        mean = past.mean(2)
        deviations = past - mean.unsqueeze(2)
        covariance = deviations @ deviations.mT / (window - 1)
        # Divided by risk_aversion, so that gap and scale are too and their quotient is not.
        reward = mean * (self.problem.return_weight / self.problem.risk_aversion)
        weights = solve_batch(covariance, reward).point
        variance_gradient = (covariance @ weights.unsqueeze(2)).squeeze(2)
        gradient = variance_gradient - reward
        gap = (weights * (gradient - gradient.amin(1, keepdim=True))).sum(1)
        objective = (weights * (0.5 * variance_gradient - reward)).sum(1)
        average_risk = 0.5 * covariance.diagonal(dim1=1, dim2=2).mean(1)
        return weights, gap / torch.maximum(objective.abs(), average_risk)

    def hold(self, decision: int, wanted: Float[Tensor, "2 assets"]) -> None:
        """Trade to the weights wanted and let them drift until the next decision."""
        self.turnover[:, decision] = (wanted - self.held).abs().sum(1)
        begin = decision * self.problem.every
        end = min(begin + self.problem.every, len(self.days))
        window = self.problem.window
        ahead = 1 + self.asset_returns[window + begin : window + end]
        positions = wanted.unsqueeze(1) * ahead.cumprod(0)
        wealth = positions.sum(2)
        before = torch.cat([torch.ones_like(wealth[:, :1]), wealth[:, :-1]], 1)
        self.returns[:, begin:end] = wealth / before - 1
        self.held = positions[:, -1] / wealth[:, -1:]

    def metrics(self) -> dict[str, float]:
        """Of all days so far: the worst certificate, and what was earned, risked and traded.

        `annual_volatility` and `annual_return` are sqrt(252) standard deviations (divisor
        days - 1) and 252 means of daily returns, in percent; `annual_turnover` is the sum over
        assets of weights bought and sold, in portfolios a year.
        """
        days = self.days_held()
        found = {"worst_relative_gap": self.relative_gap[: self.decided].max().item()}
        for prefix, returns, turnover in zip(
            ("", "equal_"), self.returns, self.turnover, strict=True
        ):
            spread = returns[:days].std().item() if days > 1 else 0.0
            found[f"{prefix}annual_volatility"] = 100 * TRADING_DAYS**0.5 * spread
            found[f"{prefix}annual_return"] = 100 * TRADING_DAYS * returns[:days].mean().item()
            traded = turnover[: self.decided].sum().item()
            found[f"{prefix}annual_turnover"] = traded * TRADING_DAYS / days
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Daily returns of both, and the weights, turnover and gap of each decision so far."""
        days, decided = self.days_held(), self.decided
        returns, turnover = self.returns[:, :days], self.turnover[:, :decided]
        return {
            "assets": np.array(self.assets),
            "days": self.days[:days],
            "returns": returns[0].cpu().numpy().copy(),
            "equal_returns": returns[1].cpu().numpy().copy(),
            "decided_for": self.days[: days : self.problem.every],
            "weights": self.weights[:decided].cpu().numpy().copy(),
            "turnover": turnover[0].cpu().numpy().copy(),
            "relative_gap": self.relative_gap[:decided].cpu().numpy().copy(),
        }

    def days_held(self) -> int:
        """Days through which a portfolio has been held so far."""
        return min(self.decided * self.problem.every, len(self.days))

    def state_dict(self) -> dict[str, Any]:
        """All that was decided and earned so far, and what is held now."""
        return {"decided": self.decided, **{name: getattr(self, name).clone() for name in STATE}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.decided = state["decided"]
        for name in STATE:
            setattr(self, name, state[name].clone())


STATE = ("weights", "relative_gap", "turnover", "returns", "held")


def _check(problem: WalkForward, days: int) -> None:
    """Raises ValueError for settings that cannot work, naming them."""
    if problem.window < 2 or problem.every < 1:
        raise ValueError(
            f"window is {problem.window} and every {problem.every}; expected at least 2 and 1"
        )
    if days <= problem.window:
        raise ValueError(
            f"{days} returns; a window of {problem.window} leaves none to hold a portfolio "
            f"through, so choose a later end, an earlier start or a window below {days}"
        )
    if not 0 < problem.risk_aversion < float("inf"):
        raise ValueError(
            f"risk_aversion is {problem.risk_aversion}; expected a finite number above 0"
        )
