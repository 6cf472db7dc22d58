"""READ FIRST for networks: the solver. Small networks in lockstep, each with its own environment.

For each transition of each network, v being its value of the action taken:

    td_error = reward + discount_t * max_a v(next observation, a) - v
    trace_decay = discount * lambda, or 0 for an episode's first and every exploring action
    params += rule(gradient of v, td_error, trace_decay)

Watkins's Q(lambda): the trace is cut where the action is not the best one, as what follows says
nothing of the best actions before. Rewards are divided by the deviation of the discounted return,
observations normalised, with each network's own running moments.

One step of the solver is `TIME_STEPS` time steps. Episodes begin anew within it as they end. A
network whose TD error leaves the finite range is frozen before the update that would have
followed, and the time, rate and error are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from applications.td.dynamics import DYNAMICS
from applications.td.environments import bootstrap_discount
from applications.td.network_problems import TIME_STEPS, NetworkProblem, NetworkQ
from applications.td.networks import Networks
from applications.td.philox import Luck, Moment, Purpose
from applications.td.running_moments import Moments, discounted_return, normalised, scaled
from sciopt.bench.domain import Ended, Status
from sciopt.bench.statistics import interquartile_mean

# Time goes on through all episodes of a run, as if it were one; the first weights come before it.
WHOLE_RUN, BEFORE = 1, 0
# Values are in deviations of the discounted return: a TD error that big is none.
DIVERGENCE_BOUND = 1e6
# Smaller traces become 0: they change nothing, and denormal numbers are slow on CPUs.
SMALLEST_TRACE = 1e-30

MOMENTS = "observation_moments", "return_moments"
OUTCOMES = "diverged_time_step", "diverged_rate", "diverged_td_error"
KEPT = (
    "params",
    "state",
    "observation",
    "clock",
    "reward_trace",
    "episode_return",
    "last_return",
    "scores",
    *OUTCOMES,
)


class LockstepNetworks:
    """`problem.agents` networks for each coefficient of the method, all at the same time step.

    Agent k has the same first network and the same luck under every coefficient, method and batch
    size, as its random numbers are a function of (seed, k, time step): compare agents in pairs.
    """

    resumable = True

    def __init__(
        self, problem: NetworkProblem, method: NetworkQ, seed: int, device: torch.device
    ) -> None:
        self.problem, self.method = problem, method
        self.dynamics = DYNAMICS[problem.environment]
        self.worst_return = self.dynamics.worst_return
        self.networks = Networks(
            (self.dynamics.observation_size, *method.hidden, self.dynamics.actions)
        )
        self.groups = len(method.grid)
        self.luck, self.agent = Luck(seed), torch.arange(problem.agents, device=device)

        dtype = getattr(torch, method.precision)
        words = self._uniforms(Purpose.START, range(2 * self.networks.weights), BEFORE)
        weights = words.unflatten(0, (2, -1)).mT
        self.params = self.networks.initial(weights, method.sparsity).to(dtype)
        self.memory = method.rule.memory(self.params)
        coefficients = torch.tensor(method.grid, dtype=dtype, device=device)
        self.memory["coefficient"].copy_(coefficients.repeat_interleave(problem.agents))

        self.time_step = 0
        self.state = self._first_states(range(1))[0]
        zeros = torch.zeros(len(self.params), dtype=torch.float64, device=device)
        observation = self.dynamics.observation(self.state)
        self.observation_moments = Moments.before(observation)
        self.return_moments = Moments.before(zeros)
        self.observation = observation.to(dtype)
        self.clock = torch.zeros_like(zeros, dtype=torch.int64)
        self.reward_trace = zeros
        self.episode_return = zeros.clone()
        self.last_return = torch.full_like(zeros, self.worst_return)
        self.scores = torch.zeros(0, len(self.params), dtype=torch.float64, device=device)
        self.diverged_time_step = torch.zeros_like(self.clock)
        self.diverged_rate = torch.zeros_like(self.memory["coefficient"])
        self.diverged_td_error = torch.zeros_like(self.diverged_rate)

    @property
    def diverged(self) -> Bool[Tensor, " networks"]:
        """Which networks have left the finite range."""
        return self.diverged_time_step > 0

    def step(self) -> Ended | None:
        """`TIME_STEPS` time steps of every network."""
        block = range(self.time_step + 1, self.time_step + TIME_STEPS + 1)
        exploration = self._uniforms(Purpose.EXPLORE, block)
        choice = self._uniforms(Purpose.CHOOSE, block)
        normal = torch.special.ndtri(self._uniforms(Purpose.NOISE, block))
        noise = self.problem.reward_noise * normal
        first_states = self._first_states(block)
        self.memory["trace"] = torch.nn.functional.hardshrink(self.memory["trace"], SMALLEST_TRACE)
        for i, self.time_step in enumerate(block):
            self._transition(exploration[i], choice[i], noise[i], first_states[i])
        score = torch.where(self.diverged, self.worst_return, self.last_return)
        self.scores = torch.cat([self.scores, score[None]])
        return self._all_diverged() if self.diverged.all() else None

    def _transition(
        self,
        exploration: Float[Tensor, " networks"],
        choice: Float[Tensor, " networks"],
        noise: Float[Tensor, " networks"],
        first_state: Float[Tensor, "networks state"],
    ) -> None:
        """Every network acts once and learns from what came."""
        method, dtype = self.method, self.params.dtype
        values, tape = self.networks.values(self.params, self.observation)
        action = self._choose(values, exploration, choice)
        value = values.gather(1, action[:, None]).squeeze(1)
        cut = (self.clock == 0) | (value < values.amax(1))
        gradient = self.networks.gradient(self.params, tape, action)

        next_state, reward, terminated = self.dynamics.step(self.state, action)
        self.clock += 1
        ended = terminated | (self.clock >= self.dynamics.max_episode_steps)
        next_observation = self._see(next_state)
        learnt = self._scaled((reward + noise) * self.problem.reward_scale, ended).to(dtype)
        next_value = self.networks.values(self.params, next_observation)[0].amax(1)
        discount_t = bootstrap_discount(method.discount, terminated).to(dtype)
        td_error = learnt + discount_t * next_value - value

        trace_decay = (method.discount * method.lambda_) * (~cut).to(dtype)
        increment, rate = method.rule.step(self.memory, gradient, td_error, trace_decay)
        self._freeze_diverged(td_error, rate)
        self.params += increment.masked_fill_(self.diverged[:, None], 0.0)

        self.episode_return += reward
        self.last_return = torch.where(ended, self.episode_return, self.last_return)
        self.episode_return.masked_fill_(ended, 0.0)
        self.clock.masked_fill_(ended, 0)
        self.state = torch.where(ended[:, None], first_state, next_state)
        begun = self._normalised(self.dynamics.observation(first_state))
        self.observation = torch.where(ended[:, None], begun, next_observation)

    def _choose(
        self,
        values: Float[Tensor, "networks actions"],
        exploration: Float[Tensor, " networks"],
        choice: Float[Tensor, " networks"],
    ) -> Int[Tensor, " networks"]:
        """Epsilon-greedy actions, epsilon falling from 1 along a straight line."""
        method = self.method
        done = min(1.0, self.time_step / method.exploration_time_steps)
        epsilon = 1.0 + done * (method.exploration - 1.0)
        at_random = (choice * values.shape[1]).long()
        return torch.where(exploration < epsilon, at_random, values.argmax(1))

    def _see(self, state: Float[Tensor, "networks state"]) -> Float[Tensor, "networks observation"]:
        """The normalised observation, once it is counted."""
        observation = self.dynamics.observation(state)
        self.observation_moments = self.observation_moments.with_sample(observation, self.time_step)
        return self._normalised(observation)

    def _normalised(
        self, observation: Float[Tensor, "networks observation"]
    ) -> Float[Tensor, "networks observation"]:
        seen = normalised(observation, self.observation_moments, self.time_step)
        return seen.to(self.params.dtype)

    def _scaled(
        self, reward: Float[Tensor, " networks"], ended: Bool[Tensor, " networks"]
    ) -> Float[Tensor, " networks"]:
        """The reward in deviations of the discounted return."""
        trace = discounted_return(self.reward_trace, reward, self.method.discount)
        self.return_moments = self.return_moments.with_sample(trace, self.time_step)
        self.reward_trace = trace.masked_fill(ended, 0.0)
        return scaled(reward, self.return_moments, self.time_step)

    def _freeze_diverged(
        self, td_error: Float[Tensor, " networks"], rate: Float[Tensor, " networks"]
    ) -> None:
        """Note who diverges now."""
        finite = (td_error.abs() <= DIVERGENCE_BOUND) & rate.isfinite()
        lost = ~finite & ~self.diverged
        self.diverged_time_step.masked_fill_(lost, self.time_step)
        self.diverged_rate = torch.where(lost, rate, self.diverged_rate)
        self.diverged_td_error = torch.where(lost, td_error, self.diverged_td_error)

    def _uniforms(
        self, purpose: Purpose, numbers: range, episode: int = WHOLE_RUN
    ) -> Float[Tensor, "numbers networks"]:
        """Uniform numbers, the same for an agent in every group."""
        first = torch.full_like(self.agent, numbers.start)
        moment = Moment(self.agent, torch.full_like(self.agent, episode), first)
        return self.luck.uniforms(purpose, moment, len(numbers)).repeat(1, self.groups)

    def _first_states(self, time_steps: range) -> Float[Tensor, "time_steps networks state"]:
        """The state of an episode that begins after each of the time steps."""
        size = self.dynamics.state_size
        numbers = range(size * time_steps.start, size * time_steps.stop)
        words = self._uniforms(Purpose.START, numbers).unflatten(0, (-1, size))
        return self.dynamics.reset(words.mT)

    def _all_diverged(self) -> Ended:
        """The end of a run without survivors, naming the last of them."""
        last = int(self.diverged_time_step.argmax())
        return Ended(
            Status.DIVERGED,
            f"all {len(self.params)} networks diverged; the last at time step "
            f"{int(self.diverged_time_step[last])} with rate {float(self.diverged_rate[last]):.3g} "
            f"and TD error {float(self.diverged_td_error[last]):.3g} "
            f"(coefficient {float(self.memory['coefficient'][last]):g})",
        )

    def state_dict(self) -> dict[str, Any]:
        """Networks, environments, moments and outcomes; random numbers are a function of time."""
        parts = {name: vars(getattr(self, name)) for name in MOMENTS} | {"memory": self.memory}
        return {
            "time_step": self.time_step,
            **{name: getattr(self, name).clone() for name in KEPT},
            **{
                name: {key: value.clone() for key, value in part.items()}
                for name, part in parts.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of another solver of the same run."""

        def copied(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {key: value.to(self.params.device, copy=True) for key, value in part.items()}

        self.time_step = state["time_step"]
        for name, value in copied({name: state[name] for name in KEPT}).items():
            setattr(self, name, value)
        for name in MOMENTS:
            setattr(self, name, Moments(**copied(state[name])))
        self.memory = copied(state["memory"])


def start_networks(
    problem: NetworkProblem, method: NetworkQ, seed: int, device: torch.device
) -> LockstepNetworks:
    """Networks that know nothing yet."""
    return LockstepNetworks(problem, method, seed, device)


def evaluate_networks(problem: NetworkProblem, solver: LockstepNetworks) -> Mapping[str, float]:
    """Interquartile means over the networks of the best coefficient, and how many have diverged.

    `episode_return` is that of the last complete episode, in units of the reward and without its
    noise, `mean_episode_return` its mean over time, as the area under the learning curve; the
    best coefficient has the best of these. Before its first episode's end, and once it has
    diverged, a network counts as the lowest return there is.
    """
    scores = arrays_networks(problem, solver)["scores"]
    means = interquartile_mean(scores.mean(0))
    best = int(means.argmax())
    return {
        "episode_return": float(interquartile_mean(scores[-1, best])),
        "mean_episode_return": float(means[best]),
        "best_coefficient": float(solver.method.grid[best]),
        "fraction_diverged": float(solver.diverged.double().mean()),
    }


def arrays_networks(problem: NetworkProblem, solver: LockstepNetworks) -> Mapping[str, np.ndarray]:
    """Each network's outcome.

    `scores` (steps, coefficients, agents): the return of the last complete episode after each
    step. `diverged_time_step` (coefficients, agents), from 1, is 0 for a network that never
    diverged; `diverged_rate` and `diverged_td_error` say how it happened.
    """
    kept = {name: getattr(solver, name) for name in ("scores", *OUTCOMES)}
    return {
        "coefficients": np.array(solver.method.grid),
        **{
            name: values.unflatten(-1, (-1, problem.agents)).cpu().numpy()
            for name, values in kept.items()
        },
    }
