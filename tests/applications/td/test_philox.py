import pytest
import torch
from scipy import stats

from applications.td.philox import Luck, Moment, Purpose, philox4x32


def words(*values: int) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_philox_gives_the_known_answers_of_random123():
    ones = 0xFFFFFFFF
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
    for values, expected in (
        ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ):
        got = philox4x32(words(*values[:4]), words(*values[4:]))
        assert tuple(map(int, got)) == expected


def moment(agents: torch.Tensor, episode: int, time_step: int) -> Moment:
    return Moment(agents, torch.full_like(agents, episode), torch.full_like(agents, time_step))


def numbers(kind: str, seed: int, agents: int, episode: int) -> torch.Tensor:
    at = moment(torch.arange(agents), episode, 1)
    if kind == "uniforms":
        return Luck(seed).uniforms(Purpose.MOVE, at, 500) - 0.5
    return Luck(seed).coins(Purpose.MOVE, at, 500).double() - 0.5


def test_uniforms_are_uniform():
    assert stats.kstest(numbers("uniforms", 7, 200, 3).flatten() + 0.5, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["uniforms", "coins"])
def test_numbers_are_uncorrelated_along_every_axis(kind):
    drawn = numbers(kind, 7, 200, 3)
    drawn = drawn / drawn.std()
    others = (numbers(kind, 7, 200, 4), numbers(kind, 8, 200, 3))
    for one, other in (
        (drawn[1:], drawn[:-1]),
        (drawn[4:], drawn[:-4]),
        (drawn[:, 1:], drawn[:, :-1]),
        *((drawn, other / other.std()) for other in others),
    ):
        product = one * other
        assert abs(float(product.mean())) < 4 / product.numel() ** 0.5
    assert abs(float(drawn.mean())) < 4 / drawn.numel() ** 0.5


@pytest.mark.parametrize("kind", ["uniforms", "coins"])
def test_an_agents_numbers_depend_neither_on_the_batch_nor_on_the_block(kind):
    batch = getattr(Luck(1), kind)(Purpose.NOISE, moment(torch.arange(100), 5, 1), 300)
    for time_step, count in ((20, 2), (1, 1), (127, 3), (128, 128), (203, 9)):
        alone = getattr(Luck(1), kind)(
            Purpose.NOISE, moment(torch.tensor([37]), 5, time_step), count
        )
        assert torch.equal(batch[time_step - 1 : time_step - 1 + count, 37:38], alone)


def test_players_at_different_times_and_episodes_get_their_own_numbers():
    agents = torch.tensor([4, 9, 4])
    at = Moment(agents, torch.tensor([1, 2, 3]), torch.tensor([5, 200, 31]))
    together = Luck(2).uniforms(Purpose.CHOOSE, at, 40)
    for i in range(3):
        own = Moment(agents[i : i + 1], at.episode[i : i + 1], at.time_step[i : i + 1])
        assert torch.equal(Luck(2).uniforms(Purpose.CHOOSE, own, 40)[:, 0], together[:, i])
