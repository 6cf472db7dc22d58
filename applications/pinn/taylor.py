"""Derivatives carried through a network: channels u, u_t, u_x, u_xx, ... at every layer.

A layer's pre-activations z come with their derivatives z_α; those of σ(z) are Faà di Bruno's sum
over the partitions of α, each block of which is one factor:

    σ(z)_xx = σ'(z) z_xx + σ''(z) z_x²

Linear maps act on every channel alike. The reverse sweep is the transpose of that, written by
hand: it gives the gradient, and point by point the Jacobian, at the price of one forward sweep
each. Source: Griewank & Walther (2008), "Evaluating Derivatives", chapter 13; Bettencourt et al.
(2019), "Taylor-mode automatic differentiation for higher-order derivatives in JAX".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from jaxtyping import Float
from numpy.polynomial import Polynomial
from torch import Tensor

from applications.pinn.language import Index

Monomial = tuple[int, ...]
"""Channels multiplied with each other, by their numbers."""
Channels = Sequence[Float[Tensor, "..."]]
"""An array of channels, taken apart."""


def closure(indices: Iterable[Index]) -> tuple[Index, ...]:
    """All derivatives below the given ones, the value first: what a sweep has to carry."""
    below = {
        lower for index in indices for lower in product(*(range(order + 1) for order in index))
    }
    return tuple(sorted(below, key=lambda index: (sum(index), index)))


def partitions(elements: Sequence[int]) -> Iterator[list[list[int]]]:
    """All ways to split labelled elements into non-empty blocks."""
    if not elements:
        yield []
        return
    first, rest = elements[0], elements[1:]
    for split in partitions(rest):
        yield [[first], *split]
        for k, block in enumerate(split):
            yield [*split[:k], [first, *block], *split[k + 1 :]]


@dataclass(frozen=True)
class Product:
    """One part of a channel's formula: σ^(order) times a sum of monomials of several channels."""

    channel: int
    order: int
    monomials: tuple[tuple[int, Monomial], ...]

    def value(self, z: Channels) -> Float[Tensor, ...]:
        """The sum of monomials."""
        (factor, monomial), *rest = self.monomials
        value = _times(z, monomial)
        if factor != 1:
            value = factor * value
        for factor, monomial in rest:
            value = value.add(_times(z, monomial), alpha=factor)
        return value

    def derivatives(self, z: Channels) -> Iterator[tuple[int, int, Float[Tensor, ...]]]:
        """The sum's derivatives: a channel and a part of the derivative by it, factor and value."""
        for factor, monomial in self.monomials:
            for channel in sorted(set(monomial)):
                others = list(monomial)
                others.remove(channel)
                yield channel, factor * monomial.count(channel), _times(z, others)


def _times(z: Channels, monomial: Sequence[int]) -> Float[Tensor, ...]:
    value = z[monomial[0]]
    for channel in monomial[1:]:
        value = value * z[channel]
    return value


@lru_cache
def products(indices: tuple[Index, ...]) -> tuple[Product, ...]:
    """Faà di Bruno's terms of two factors and more; those of one factor are σ' z_α."""
    number = {index: k for k, index in enumerate(indices)}
    found = []
    for index in indices:
        labelled = [axis for axis, order in enumerate(index) for _ in range(order)]
        counts: Counter[Monomial] = Counter()
        for split in partitions(labelled):
            blocks = [tuple(block.count(axis) for axis in range(len(index))) for block in split]
            counts[tuple(sorted(number[block] for block in blocks))] += 1
        for order in range(2, sum(index) + 1):
            monomials = [(factor, m) for m, factor in counts.items() if len(m) == order]
            found.append(Product(number[index], order, tuple(monomials)))
    return tuple(found)


def highest(indices: tuple[Index, ...]) -> int:
    """The order of the highest derivative."""
    return max(sum(index) for index in indices)


def tanh_derivatives(z: Float[Tensor, ...], orders: int) -> list[Float[Tensor, ...]]:
    """Tanh and its first `orders` derivatives, as polynomials of s = 1 - tanh² and tanh."""
    # 1 - 2 sigmoid(-2z), for torch.tanh takes six times as long as torch.sigmoid.
    a = torch.rsub(torch.sigmoid(-2 * z), 1, alpha=2)
    s = torch.addcmul(z.new_ones(()), a, a, value=-1)
    found = [a, s]
    for odd, coefficients in _tanh_polynomials(orders):
        value = coefficients[-1] * s
        for coefficient in reversed(coefficients[1:-1]):
            value = (value + coefficient) * s
        found.append(value * a if odd else value)
    return found[: orders + 1]


@lru_cache
def _tanh_polynomials(orders: int) -> list[tuple[bool, list[float]]]:
    """Of the derivatives from the second on: whether a factor tanh stands before p(s), p(0) = 0."""
    s = Polynomial([0.0, 1.0])
    p, odd, found = s, False, []
    for _ in range(2, orders + 1):
        # s' = -2 a s and a' = s, hence (p)' = a (-2 s p') and (a p)' = s p - 2 s (1 - s) p'.
        p = s * p - 2 * s * (1 - s) * p.deriv() if odd else -2 * s * p.deriv()
        odd = not odd
        found.append((odd, [float(c) for c in p.coef]))
    return found


def sin_derivatives(z: Float[Tensor, ...], orders: int) -> list[Float[Tensor, ...]]:
    """Sine and its first `orders` derivatives."""
    sine, cosine = torch.sin(z), torch.cos(z)
    cycle = [sine, cosine, -sine, -cosine]
    return [cycle[order % 4] for order in range(orders + 1)]


ACTIVATIONS: dict[str, Callable[[Tensor, int], list[Tensor]]] = {
    "tanh": tanh_derivatives,
    "sin": sin_derivatives,
}


@dataclass(frozen=True)
class Activated:
    """What the reverse sweep through one activation needs."""

    z: Channels
    sigma: list[Float[Tensor, "points units"]]
    sums: list[Float[Tensor, "points units"]]
    """Values of the products' sums of monomials."""


def activate(
    z: Float[Tensor, "channels points units"], indices: tuple[Index, ...], activation: str
) -> tuple[Float[Tensor, "channels points units"], Activated]:
    """σ(z) with all its derivatives."""
    apart = z.unbind()
    sigma = ACTIVATIONS[activation](apart[0], highest(indices) + 1)
    result = z * sigma[1]
    result[0] = sigma[0]
    sums = []
    for term in products(indices):
        value = term.value(apart)
        result[term.channel].addcmul_(sigma[term.order], value)
        sums.append(value)
    return result, Activated(apart, sigma, sums)


def activate_transposed(
    cotangent: Float[Tensor, "channels points units"],
    tape: Activated,
    indices: tuple[Index, ...],
) -> Float[Tensor, "channels points units"]:
    """The cotangent of z from that of σ(z): the transpose of the derivative of `activate`."""
    z, sigma = tape.z, tape.sigma
    result, above = cotangent * sigma[1], cotangent.unbind()
    of_value = result[0]
    # The value's cotangent: of each channel's formula only σ^(order) depends on z_0.
    if len(indices) > 1:
        by_slope = above[1] * z[1]
        for channel in range(2, len(indices)):
            by_slope.addcmul_(above[channel], z[channel])
        of_value.addcmul_(by_slope, sigma[2])
    for term, value in zip(products(indices), tape.sums, strict=True):
        of_value.addcmul_(above[term.channel] * value, sigma[term.order + 1])
        weighted = above[term.channel] * sigma[term.order]
        for channel, factor, derivative in term.derivatives(z):
            result[channel].addcmul_(weighted, derivative, value=factor)
    return result
