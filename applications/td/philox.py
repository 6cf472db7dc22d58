"""Random words by counter: Philox4x32-10, so that an agent's luck depends on nothing but itself.

A counter-based generator has no state to advance: agent, episode and time step go in, four words
come out. An agent therefore meets the same transitions and the same noise whatever batch it is
in, and a run can go on from any episode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
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


def uniforms(
    seed: int, agents: Int[Tensor, " agents"], episode: int, time_steps: range
) -> Float[Tensor, "4 time_steps agents"]:
    """Four independent uniform numbers in (0, 1), in float64, per time step and agent.

    The key is made of the run's seed and the agent's number, the counter of episode and time.
    """
    seed_word = int(np.random.SeedSequence(seed).generate_state(1)[0])
    time = torch.arange(time_steps.start, time_steps.stop, device=agents.device)[:, None]
    time, agent = torch.broadcast_tensors(time, agents[None, :])
    zero = torch.zeros_like(time)
    words = philox4x32((time, zero + episode, zero, zero), (zero + seed_word, agent))
    return (torch.stack(words).double() + 0.5) * 2.0**-32
