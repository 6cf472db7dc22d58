"""One agent by the book in plain Python: Sutton and Barto's algorithms, read off the boxes."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from applications.td.philox import Luck, Moment, Purpose
from applications.td.rules import BoundedSurprise, Fixed


class Words:
    """The agent's own random numbers, one at a time."""

    def __init__(self, agent: int, seed: int = 0) -> None:
        self.luck, self.agent = Luck(seed), torch.tensor([agent])

    def uniform(self, purpose: Purpose, episode: int, time_step: int) -> float:
        return float(self.luck.uniforms(purpose, self._moment(episode, time_step), 1)[0, 0])

    def coin(self, episode: int, time_step: int) -> bool:
        return bool(self.luck.coins(Purpose.MOVE, self._moment(episode, time_step), 1)[0, 0])

    def normal(self, episode: int, time_step: int) -> float:
        uniform = self.uniform(Purpose.NOISE, episode, time_step)
        return float(torch.special.ndtri(torch.tensor(uniform, dtype=torch.float64)))

    def _moment(self, episode: int, time_step: int) -> Moment:
        return Moment(self.agent, torch.tensor([episode]), torch.tensor([time_step]))


class PlainAgent:
    """Learns a table of values, or of action values, in the episodes it is sent through."""

    def __init__(self, problem, method, agent, coefficient, lambda_):
        self.problem, self.method, self.words = problem, method, Words(agent)
        self.coefficient, self.lambda_ = coefficient, lambda_
        environment: Any = gym.make(problem.environment)
        self.table = environment.unwrapped.P
        self.start = int(np.argmax(environment.unwrapped.initial_state_distrib))
        self.actions = len(self.table[0])
        self.predicts = problem.task == "prediction"
        width = 1 if self.predicts else self.actions
        self.values = np.zeros((len(self.table), width))
        self.square, self.seen = 0.0, 0

    def branch(self, s, a, episode, t):
        if self.predicts:  # the walk: a coin decides
            return self.table[s][int(self.words.coin(episode, t))][0]
        cumulative = np.cumsum([branch[0] for branch in self.table[s][a]])
        uniform = self.words.uniform(Purpose.MOVE, episode, t)
        return self.table[s][a][int(np.argmax(cumulative > uniform))]

    def choose(self, s, episode, t):
        if self.predicts:
            return 0
        best = self.values[s].max()
        explores = self.words.uniform(Purpose.EXPLORE, episode, t) < self.method.exploration
        allowed = [a for a in range(self.actions) if explores or self.values[s, a] == best]
        return allowed[int(self.words.uniform(Purpose.CHOOSE, episode, t) * len(allowed))]

    def bootstrap(self, s, a):
        best, epsilon = self.values[s].max(), self.method.exploration
        match self.method.algorithm:
            case "td" | "true-online-td":
                return self.values[s, 0]
            case "sarsa":
                return self.values[s, a]
            case "expected-sarsa":
                return (1 - epsilon) * best + epsilon * self.values[s].mean()
        return best

    def rate(self, td_error, traces):
        match self.method.rule:
            case Fixed():
                return self.coefficient
            case BoundedSurprise(memory=memory):
                self.seen += 1
                self.square += max(1 / self.seen, memory) * (td_error**2 - self.square)
                rate = self.coefficient * abs(td_error) / self.square**0.5 if self.square else 0.0
                return min(rate, 1 / traces.sum())
        return self.coefficient * abs(td_error)

    def episode(self, number):
        problem, discount = self.problem, self.problem.discount
        s, total = self.start, 0.0
        a = self.choose(s, number, 0)
        traces, greedy = np.zeros_like(self.values), True
        value_before = None
        for t in range(1, problem.max_episode_steps + 1):
            _, s2, reward, terminated = self.branch(s, a, number, t)
            total += reward * problem.reward_scale
            if problem.reward_noise:
                reward += problem.reward_noise * self.words.normal(number, t)
            a2 = self.choose(s2, number, t)
            following = self.bootstrap(s2, a2)
            watkins = self.method.algorithm == "q-learning"
            best_is_next = not watkins or self.values[s2, a2] == following
            value = self.values[s, a]
            td_error = reward * problem.reward_scale - value
            td_error += 0.0 if terminated else discount * following
            traces *= discount * self.lambda_ * greedy
            if self.method.algorithm == "true-online-td":
                alpha = self.coefficient
                traces[s, a] += 1 - alpha * traces[s, a]
                moved = 0.0 if value_before is None else value - value_before
                self.values += alpha * (td_error + moved) * traces
                self.values[s, a] -= alpha * moved
            else:
                traces[s, a] += 1
                self.values += self.rate(td_error, traces) * td_error * traces
            greedy, value_before = best_is_next, following
            s, a = s2, a2
            if terminated:
                break
        return total
