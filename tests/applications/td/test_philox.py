import torch
from scipy import stats

from applications.td.philox import philox4x32, uniforms


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


def test_uniforms_are_uniform_and_uncorrelated_along_every_axis():
    drawn = uniforms(7, torch.arange(200), 3, range(1, 501))
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    centred = (drawn - 0.5) * 12**0.5
    for one, other in (
        (centred[:, 1:], centred[:, :-1]),
        (centred[:, :, 1:], centred[:, :, :-1]),
        (centred[1:], centred[:-1]),
        (centred, (uniforms(7, torch.arange(200), 4, range(1, 501)) - 0.5) * 12**0.5),
        (centred, (uniforms(8, torch.arange(200), 3, range(1, 501)) - 0.5) * 12**0.5),
    ):
        product = one * other
        assert abs(float(product.mean())) < 4 / product.numel() ** 0.5


def test_an_agents_words_depend_neither_on_the_batch_nor_on_the_block():
    batch = uniforms(1, torch.arange(100), 5, range(1, 65))
    alone = uniforms(1, torch.tensor([37]), 5, range(20, 22))
    assert torch.equal(batch[:, 19:21, 37:38], alone)
