"""Random words by counter: Philox4x32-10, so that an agent's luck depends on nothing but itself.

A counter-based generator has no state to advance: agent, episode and time step go in, four words
come out. An agent therefore meets the same transitions and the same noise whatever batch it is
in, and a run can go on from any episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW_32 = 0xFFFFFFFF


def philox4x32(
    counter: Sequence[Int[Tensor, "*batch"]], key: Sequence[Int[Tensor, "*#batch"]]
) -> tuple[Int[Tensor, "*batch"], ...]:
    """Four random 32-bit words, held in int64, for each counter (four words) and key (two words).

    Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3",
    section 3.3. Products wrap around in int64, which leaves all 64 bits right.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            ((p1 >> 32) & LOW_32) ^ c1 ^ k0,
            p1 & LOW_32,
            ((p0 >> 32) & LOW_32) ^ c3 ^ k1,
            p0 & LOW_32,
        )
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & LOW_32, (k1 + KEY_INCREMENTS[1]) & LOW_32
    return c0, c1, c2, c3


class Purpose(IntEnum):
    """What a random number decides; each purpose has a stream of its own."""

    START = 1
    MOVE = 2
    NOISE = 3
    SPREAD = 4
    EXPLORE = 5
    CHOOSE = 6


@dataclass(frozen=True)
class Moment:
    """Where players are: each one's agent number, episode and time step in it."""

    agent: Int[Tensor, " n"]
    episode: Int[Tensor, " n"]
    time_step: Int[Tensor, " n"]


@dataclass(frozen=True)
class Luck:
    """Random numbers of players: functions of (seed, agent, purpose, episode, time step)."""

    seed: int

    def uniforms(self, purpose: Purpose, moment: Moment, count: int) -> Float[Tensor, "count n"]:
        """Uniform numbers in (0, 1), in float64, for the next `count` time steps."""
        words = self._words(purpose, moment, count, 2)
        return (words.double() + 0.5) * 2.0**-32

    def coins(self, purpose: Purpose, moment: Moment, count: int) -> Bool[Tensor, "count n"]:
        """Fair coins for the next `count` time steps; a bit each."""
        return self._words(purpose, moment, count, 7).bool()

    def _words(
        self, purpose: Purpose, moment: Moment, count: int, log2: int
    ) -> Int[Tensor, "count n"]:
        """A number for each time step, 2^log2 of them to a Philox counter: words, or bits."""
        seed_word = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        step = torch.arange(count, device=moment.agent.device)[:, None] + moment.time_step
        # Counters from that of the first time step to that of the last.
        first = moment.time_step >> log2
        counters = first + torch.arange((count - 2 >> log2) + 2, device=step.device)[:, None]
        zero = torch.zeros_like(counters)
        words = torch.stack(
            philox4x32(
                (counters, zero + moment.episode, zero + int(purpose), zero),
                (zero + seed_word, zero + moment.agent),
            ),
            1,
        )
        if log2 == 7:
            bit = torch.arange(32, device=words.device)[:, None]
            words = (words[:, :, None, :] >> bit) & 1
        flat = words.flatten(0, -2)
        return flat.gather(0, step - (first << log2))
