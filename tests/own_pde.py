"""A user's own file of problems, as the tests of the front door write it."""

from pathlib import Path

SOURCE = '''\
from dataclasses import dataclass

import torch

from applications.pinn.language import Condition, Problem


@dataclass(frozen=True)
class Fisher(Problem):
    """Fisher-KPP: a front moves at its own speed."""

    region = {"x": (-2.0, 2.0), "t": (0.0, 0.5)}

    growth: float = 1.0

    def equations(self, u, x, t):
        return u.t - u.xx - self.growth * u * (1 - u)

    def conditions(self):
        return [
            Condition("t", 0.0, lambda u, x, t: u - self.front(x, t)),
            Condition("x", -2.0, lambda u, x, t: u - self.front(x, t)),
            Condition("x", 2.0, lambda u, x, t: u - self.front(x, t)),
        ]

    def front(self, x, t):
        """Ablowitz & Zeppetella (1979), for growth 1: speed 5/sqrt(6)."""
        return (1 + torch.exp(x / 6**0.5 - 5 / 6 * t)) ** -2

    def exact(self, x, t):
        return self.front(x, t) if self.growth == 1.0 else None


@dataclass(frozen=True)
class SineGordon(Problem):
    """A kink at rest."""

    region = {"x": (-4.0, 4.0), "t": (0.0, 1.0)}

    def equations(self, u, x, t):
        return u.tt - u.xx + torch.sin(u)

    def conditions(self):
        def kink(u, x, t):
            return u - 4 * torch.atan(torch.exp(x))

        return [
            Condition("t", 0.0, kink),
            Condition("t", 0.0, lambda u, x, t: u.t),
            Condition("x", -4.0, kink),
            Condition("x", 4.0, kink),
        ]


faster = Fisher(growth=2.0)


def helper():
    return 0
'''


def write_own_pde(folder: Path, source: str = SOURCE, name: str = "my_pde.py") -> Path:
    """The file in a folder, compiled anew by whoever loads it."""
    file = folder / name
    file.write_text(source)
    return file
