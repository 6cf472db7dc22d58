"""Gymnasium's classic control tasks as tensor programs: any number of them in one step.

The formulas and constants are those of Gymnasium's own environments, step for step, so that an
agent trained here acts there. A state has its components along the last axis; what ends an
episode by time is the caller's count up to `max_episode_steps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import pi
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Dynamics(ABC):
    """What an environment does to states and actions; it has no memory."""

    actions: ClassVar[int]
    state_size: ClassVar[int]
    observation_size: ClassVar[int]
    max_episode_steps: ClassVar[int]
    worst_return: ClassVar[float]
    """A lower bound of every episode's return."""

    @abstractmethod
    def reset(self, uniform: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """The first state, made of independent uniform numbers in [0, 1)."""

    @abstractmethod
    def step(
        self, state: Float[Tensor, "*batch state"], action: Int[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch state"], Float[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
        """The next state, the reward, and whether the next state ends the episode."""

    def observation(
        self, state: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch observation"]:
        """What the agent sees."""
        return state


@final
class CartPole(Dynamics):
    """CartPole-v1: keep a pole upright on a cart; reward 1 a time step."""

    actions, state_size, observation_size, max_episode_steps = 2, 4, 4, 500
    worst_return = 0.0
    FORCE, GRAVITY, TIME_STEP = 10.0, 9.8, 0.02
    CART_MASS, POLE_MASS, HALF_LENGTH = 1.0, 0.1, 0.5
    MOST_ANGLE, MOST_POSITION = 12 * 2 * pi / 360, 2.4

    def reset(self, uniform: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Close to upright in the middle."""
        return 0.1 * uniform - 0.05

    def step(
        self, state: Float[Tensor, "*batch state"], action: Int[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch state"], Float[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
        """One Euler step (Barto, Sutton and Anderson 1983); action 1 pushes to the right."""
        position, speed, angle, angular_speed = state.unbind(-1)
        cosine, sine = angle.cos(), angle.sin()
        mass, moment = self.CART_MASS + self.POLE_MASS, self.POLE_MASS * self.HALF_LENGTH
        force = (2 * action - 1).to(state.dtype) * self.FORCE
        pushed = (force + moment * angular_speed.square() * sine) / mass
        inertia = self.HALF_LENGTH * (4 / 3 - self.POLE_MASS * cosine.square() / mass)
        angular_acceleration = (self.GRAVITY * sine - cosine * pushed) / inertia
        acceleration = pushed - moment * angular_acceleration * cosine / mass
        change = torch.stack([speed, acceleration, angular_speed, angular_acceleration], dim=-1)
        following = state + self.TIME_STEP * change
        out = following[..., 0].abs() > self.MOST_POSITION
        fallen = following[..., 2].abs() > self.MOST_ANGLE
        return following, torch.ones_like(position), out | fallen


@final
class MountainCar(Dynamics):
    """MountainCar-v0: swing a weak car up the hill; reward -1 a time step."""

    actions, state_size, observation_size, max_episode_steps = 3, 2, 2, 200
    worst_return = -200.0
    LEFT_END, RIGHT_END, GOAL, MOST_SPEED = -1.2, 0.6, 0.5, 0.07
    FORCE, GRAVITY = 0.001, 0.0025

    def reset(self, uniform: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """At rest near the bottom."""
        position = 0.2 * uniform[..., 0] - 0.6
        return torch.stack([position, torch.zeros_like(position)], dim=-1)

    def step(
        self, state: Float[Tensor, "*batch state"], action: Int[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch state"], Float[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
        """Accelerate by action - 1; the left end is a wall (Moore 1990)."""
        position, speed = state.unbind(-1)
        push = (action - 1).to(state.dtype) * self.FORCE
        speed = speed + push - self.GRAVITY * (3 * position).cos()
        speed = speed.clamp(-self.MOST_SPEED, self.MOST_SPEED)
        position = (position + speed).clamp(self.LEFT_END, self.RIGHT_END)
        speed = torch.where((position == self.LEFT_END) & (speed < 0), 0.0, speed)
        arrived = (position >= self.GOAL) & (speed >= 0)
        return torch.stack([position, speed], dim=-1), -torch.ones_like(position), arrived


@final
class Acrobot(Dynamics):
    """Acrobot-v1: swing two links up by the torque between them; reward -1 a time step, 0 at last.

    The equations of Sutton and Barto's book, as Gymnasium's default.
    """

    actions, state_size, observation_size, max_episode_steps = 3, 4, 6, 500
    worst_return = -500.0
    TIME_STEP, GRAVITY = 0.2, 9.8
    # Both links alike: unit length, mass and moment of inertia, mass in the middle.
    MIDDLE = 0.5
    MOST_SPEEDS = 4 * pi, 9 * pi

    def reset(self, uniform: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Hanging nearly still; rounded to float32, as Gymnasium's."""
        return (0.2 * uniform - 0.1).float().to(uniform.dtype)

    def step(
        self, state: Float[Tensor, "*batch state"], action: Int[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch state"], Float[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
        """One Runge-Kutta step of fourth order under the torque action - 1."""
        torque, h = (action - 1).to(state.dtype), self.TIME_STEP
        k1 = self._change(state, torque)
        k2 = self._change(state + h / 2 * k1, torque)
        k3 = self._change(state + h / 2 * k2, torque)
        k4 = self._change(state + h * k3, torque)
        angle1, angle2, speed1, speed2 = (state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).unbind(-1)
        angle1, angle2 = _wrapped(angle1), _wrapped(angle2)
        speed1 = speed1.clamp(-self.MOST_SPEEDS[0], self.MOST_SPEEDS[0])
        speed2 = speed2.clamp(-self.MOST_SPEEDS[1], self.MOST_SPEEDS[1])
        up = -angle1.cos() - (angle2 + angle1).cos() > 1.0
        following = torch.stack([angle1, angle2, speed1, speed2], dim=-1)
        return following, torch.where(up, 0.0, -1.0).to(state.dtype), up

    def observation(
        self, state: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch observation"]:
        """Cosine and sine of both angles, and the speeds."""
        angles = state[..., :2]
        turned = torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(-2)
        return torch.cat([turned, state[..., 2:]], dim=-1)

    def _change(
        self, state: Float[Tensor, "*batch state"], torque: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch state"]:
        """Time derivative of the state."""
        angle1, angle2, speed1, speed2 = state.unbind(-1)
        middle, gravity = self.MIDDLE, self.GRAVITY
        cosine, sine = angle2.cos(), angle2.sin()
        inertia = middle**2 + (1 + middle**2 + 2 * middle * cosine) + 2
        coupling = middle**2 + middle * cosine + 1
        weight2 = middle * gravity * (angle1 + angle2 - pi / 2).cos()
        weight1 = (
            -middle * speed2.square() * sine
            - 2 * middle * speed2 * speed1 * sine
            + (middle + 1) * gravity * (angle1 - pi / 2).cos()
            + weight2
        )
        pull = torque + coupling / inertia * weight1 - middle * speed1.square() * sine - weight2
        acceleration2 = pull / (middle**2 + 1 - coupling.square() / inertia)
        acceleration1 = -(coupling * acceleration2 + weight1) / inertia
        return torch.stack([speed1, speed2, acceleration1, acceleration2], dim=-1)


def _wrapped(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The same angle in [-pi, pi]; what is there already is left alone."""
    turns = ((angle.abs() - pi) / (2 * pi)).ceil().clamp(min=0)
    return angle - 2 * pi * turns * angle.sign()


DYNAMICS: Mapping[str, Dynamics] = {
    "CartPole-v1": CartPole(),
    "MountainCar-v0": MountainCar(),
    "Acrobot-v1": Acrobot(),
}
