"""Test problems of Moré, Garbow & Hillstrom (1981), ACM TOMS 7, as residual vectors in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def counted(first: int, last: int) -> Tensor:
    """The numbers from first to last, both included."""
    return torch.arange(first, last + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """Minimise the sum of squared residuals from `start`; `minima` are the published values."""

    residuals: Callable[[Tensor], Tensor]
    start: Tensor
    minima: tuple[float, ...] = (0.0,)

    def loss(self, x: Tensor) -> Tensor:
        return self.residuals(x).square().sum()


def rosenbrock(x: Tensor) -> Tensor:
    return torch.stack([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]]).flatten()


def freudenstein_roth(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack(
        [-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b],
    )


def powell_badly_scaled(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack([1e4 * a * b - 1, (-a).exp() + (-b).exp() - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack([a - 1e6, b - 2e-6, a * b - 2])


def beale(x: Tensor) -> Tensor:
    return f64(1.5, 2.25, 2.625) - x[0] * (1 - x[1] ** counted(1, 3))


def jennrich_sampson(x: Tensor) -> Tensor:
    i = counted(1, 10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


def helical_valley(x: Tensor) -> Tensor:
    a, b, c = x
    turn = torch.atan(b / a) / (2 * math.pi) + (0.5 if a < 0 else 0.0)
    return torch.stack([10 * (c - 10 * turn), 10 * (torch.hypot(a, b) - 1), c])


BARD = f64(
    *(0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39),
)


def bard(x: Tensor) -> Tensor:
    u, v = counted(1, 15), 16 - counted(1, 15)
    return BARD - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


GAUSSIAN = f64(0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989)


def gaussian(x: Tensor) -> Tensor:
    y = torch.cat([GAUSSIAN, GAUSSIAN[:-1].flip(0)])
    t = (8 - counted(1, 15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


MEYER = f64(
    *(34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744),
    *(8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872),
)


def meyer(x: Tensor) -> Tensor:
    return x[0] * torch.exp(x[1] / (45 + 5 * counted(1, 16) + x[2])) - MEYER


def box(x: Tensor) -> Tensor:
    t = 0.1 * counted(1, 10)
    model = torch.exp(-t * x[0]) - torch.exp(-t * x[1])
    return model - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x.view(-1, 4).unbind(1)
    root = math.sqrt(5)
    rows = [a + 10 * b, root * (c - d), (b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2]
    return torch.stack(rows).flatten()


def wood(x: Tensor) -> Tensor:
    a, b, c, d = x
    return torch.stack(
        [
            10 * (b - a**2),
            1 - a,
            math.sqrt(90) * (d - c**2),
            1 - c,
            math.sqrt(10) * (b + d - 2),
            (b - d) / math.sqrt(10),
        ]
    )


KOWALIK_Y = f64(
    *(0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246),
)
KOWALIK_U = f64(4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x: Tensor) -> Tensor:
    u = KOWALIK_U
    return KOWALIK_Y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    t = counted(1, 20) / 5
    return (x[0] + t * x[1] - t.exp()) ** 2 + (x[2] + x[3] * t.sin() - t.cos()) ** 2


OSBORNE_1 = f64(
    *(0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751),
    *(0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490),
    *(0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406),
)


def osborne_1(x: Tensor) -> Tensor:
    t = 10 * counted(0, 32)
    return OSBORNE_1 - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


def biggs_exp6(x: Tensor) -> Tensor:
    t = 0.1 * counted(1, 13)
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    decays = [torch.exp(-t * x[place]) for place in (0, 1, 4)]
    return x[2] * decays[0] - x[3] * decays[1] + x[5] * decays[2] - y


OSBORNE_2 = f64(
    *(1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608),
    *(0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661),
    *(0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428),
    *(0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559),
    *(0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054),
)


def osborne_2(x: Tensor) -> Tensor:
    t = counted(0, 64) / 10
    peaks = [x[1 + k] * torch.exp(-((t - x[8 + k]) ** 2) * x[5 + k]) for k in range(3)]
    return OSBORNE_2 - (x[0] * torch.exp(-t * x[4]) + peaks[0] + peaks[1] + peaks[2])


def watson(x: Tensor) -> Tensor:
    n = len(x)
    t = counted(1, 29)[:, None] / 29
    powers = t ** counted(0, n - 1)
    slopes = powers[:, :-1] * counted(1, n - 1)
    rows = slopes @ x[1:] - (powers @ x) ** 2 - 1
    return torch.cat([rows, x[:1], x[1:2] - x[:1] ** 2 - 1])


def penalty_1(x: Tensor) -> Tensor:
    return torch.cat([math.sqrt(1e-5) * (x - 1), (x @ x - 0.25).view(1)])


def penalty_2(x: Tensor) -> Tensor:
    n, root = len(x), math.sqrt(1e-5)
    i = counted(2, n)
    y = torch.exp(i / 10) + torch.exp((i - 1) / 10)
    grown = torch.exp(x / 10)
    return torch.cat(
        [
            x[:1] - 0.2,
            root * (grown[1:] + grown[:-1] - y),
            root * (grown[1:] - math.exp(-0.1)),
            (counted(1, n).flip(0) @ x**2 - 1).view(1),
        ]
    )


def variably_dimensioned(x: Tensor) -> Tensor:
    total = (counted(1, len(x)) @ (x - 1)).view(1)
    return torch.cat([x - 1, total, total**2])


def trigonometric(x: Tensor) -> Tensor:
    n = len(x)
    return n - x.cos().sum() + counted(1, n) * (1 - x.cos()) - x.sin()


def brown_almost_linear(x: Tensor) -> Tensor:
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1), (x.prod() - 1).view(1)])


def with_zero_ends(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (1, 1))


def grid(n: int) -> Tensor:
    return counted(1, n) / (n + 1)


def discrete_boundary_value(x: Tensor) -> Tensor:
    n, padded = len(x), with_zero_ends(x)
    curved = (x + grid(n) + 1) ** 3 / (2 * (n + 1) ** 2)
    return 2 * x - padded[:-2] - padded[2:] + curved


def discrete_integral(x: Tensor) -> Tensor:
    n, t = len(x), grid(len(x))
    cube = (x + t + 1) ** 3
    left = (t * cube).cumsum(0)
    right = ((1 - t) * cube).flip(0).cumsum(0).flip(0) - (1 - t) * cube
    return x + ((1 - t) * left + t * right) / (2 * (n + 1))


def broyden_tridiagonal(x: Tensor) -> Tensor:
    padded = with_zero_ends(x)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def broyden_banded(x: Tensor) -> Tensor:
    band = torch.ones(len(x), len(x), dtype=torch.float64).tril(1).triu(-5).fill_diagonal_(0)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


def linear_full_rank(x: Tensor) -> Tensor:
    m = 2 * len(x)
    shared = 2 / m * x.sum() + 1
    return torch.cat([x, x.new_zeros(m - len(x))]) - shared


def chebyquad(x: Tensor) -> Tensor:
    shifted = 2 * x - 1
    before, now = torch.ones_like(x), shifted
    rows = []
    for degree in range(1, len(x) + 1):
        integral = 0.0 if degree % 2 else -1 / (degree**2 - 1)
        rows.append(now.mean() - integral)
        before, now = now, 2 * shifted * now - before
    return torch.stack(rows)


def ones(n: int) -> Tensor:
    return torch.ones(n, dtype=torch.float64)


PROBLEMS: dict[str, Problem] = {
    "rosenbrock": Problem(rosenbrock, f64(-1.2, 1)),
    "freudenstein_roth": Problem(freudenstein_roth, f64(0.5, -2), (0.0, 48.9842536792)),
    "powell_badly_scaled": Problem(powell_badly_scaled, f64(0, 1)),
    "brown_badly_scaled": Problem(brown_badly_scaled, ones(2)),
    "beale": Problem(beale, ones(2)),
    "jennrich_sampson": Problem(jennrich_sampson, f64(0.3, 0.4), (124.362182356,)),
    "helical_valley": Problem(helical_valley, f64(-1, 0, 0)),
    "bard": Problem(bard, ones(3), (8.21487730658e-3, 17.4286)),
    "gaussian": Problem(gaussian, f64(0.4, 1, 0), (1.12793276962e-8,)),
    "meyer": Problem(meyer, f64(0.02, 4000, 250), (87.9458551710,)),
    "box": Problem(box, f64(0, 10, 20)),
    "powell_singular": Problem(powell_singular, f64(3, -1, 0, 1)),
    "wood": Problem(wood, f64(-3, -1, -3, -1)),
    "kowalik_osborne": Problem(kowalik_osborne, f64(0.25, 0.39, 0.415, 0.39), (3.07505603849e-4,)),
    "brown_dennis": Problem(brown_dennis, f64(25, 5, -5, -1), (85822.2016264,)),
    "osborne_1": Problem(osborne_1, f64(0.5, 1.5, -1, 0.01, 0.02), (5.46489469748e-5,)),
    "biggs_exp6": Problem(biggs_exp6, f64(1, 2, 1, 1, 1, 1), (0.0, 5.65564992468e-3)),
    "osborne_2": Problem(
        osborne_2, f64(1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5), (4.01377362935e-2,)
    ),
    "watson": Problem(watson, 0 * ones(6), (2.28767005355e-3,)),
    "extended_rosenbrock": Problem(rosenbrock, f64(-1.2, 1).repeat(10)),
    "extended_powell": Problem(powell_singular, f64(3, -1, 0, 1).repeat(3)),
    "penalty_1": Problem(penalty_1, counted(1, 4), (2.24997750089e-5,)),
    "penalty_2": Problem(penalty_2, ones(4) / 2, (9.37629317873e-6,)),
    "variably_dimensioned": Problem(variably_dimensioned, 1 - counted(1, 10) / 10),
    "trigonometric": Problem(trigonometric, ones(10) / 10, (0.0, 2.79506122e-5)),
    "brown_almost_linear": Problem(brown_almost_linear, ones(10) / 2, (0.0, 1.0)),
    "discrete_boundary_value": Problem(discrete_boundary_value, grid(10) * (grid(10) - 1)),
    "discrete_integral": Problem(discrete_integral, grid(10) * (grid(10) - 1)),
    "broyden_tridiagonal": Problem(broyden_tridiagonal, -ones(10)),
    "broyden_banded": Problem(broyden_banded, -ones(10)),
    "linear_full_rank": Problem(linear_full_rank, ones(10), (10.0,)),
    "chebyquad": Problem(chebyquad, grid(8), (3.51687372568e-3,)),
}
