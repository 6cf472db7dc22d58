"""What can be computed by hand: paths of the methods on gradients simple enough."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.special import zeta
from torch import Tensor

import sciopt
from sciopt.directions import ExponentialAverage
from sciopt.rates import SecondMoment
from sciopt.rule import Clock

ENGINES = pytest.mark.parametrize("engine", ["auto", "eager"])


def travel(optimizer: sciopt.Composed, param: Tensor, grads: Sequence[float | None]) -> list[float]:
    """The distances of the single steps of a scalar, downhill positive."""
    steps = []
    for grad in grads:
        before = param.item()
        param.grad = None if grad is None else torch.full_like(param, grad)
        optimizer.step()
        steps.append(before - param.item())
    return steps


def scalar(value: float = 0.0) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@ENGINES
def test_adagrad_travels_the_sum_of_inverse_roots(engine: str) -> None:
    param, steps = scalar(), 2500
    optimizer = sciopt.AdaGrad([param], lr=1.0, eps=0.0, engine=engine)
    distance = sum(travel(optimizer, param, [0.7] * steps))
    assert distance == pytest.approx(98.549645, abs=5e-7)
    tail = 2 * math.sqrt(steps) + zeta(0.5) + 1 / (2 * math.sqrt(steps))
    assert distance == pytest.approx(tail, abs=1 / steps**1.5)


@ENGINES
def test_adam_without_memory_steps_by_the_sign(engine: str) -> None:
    grads = torch.tensor([s * 10.0**k for k in range(-6, 7) for s in (-1, 1)], dtype=torch.float64)
    param = torch.zeros_like(grads).requires_grad_()
    param.grad = grads.clone()
    sciopt.Adam([param], lr=0.1, betas=(0.0, 0.0), eps=1e-300, engine=engine).step()
    torch.testing.assert_close(param.detach(), -0.1 * grads.sign(), rtol=1e-15, atol=0)


def test_normalised_descent_ends_in_a_cycle_as_wide_as_the_rate() -> None:
    param = torch.tensor([2.34, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = sciopt.NormalizedSGD([param], lr=0.1)
    points = []
    for _ in range(200):
        optimizer.zero_grad()
        (param.square().sum() / 2).backward()
        optimizer.step()
        points.append(param[0].item())
    # Steps of exactly 0.1 from 2.34 meet zero's two sides at 0.04 and -0.06.
    assert sorted(points[-2:]) == pytest.approx([-0.06, 0.04], abs=1e-12)
    assert abs(points[-1] - points[-2]) == pytest.approx(0.1, abs=1e-12)


def test_normalised_step_has_the_same_length_over_all_parameters() -> None:
    generator = torch.Generator().manual_seed(0)
    params = [torch.zeros(shape, dtype=torch.float64) for shape in [(5, 4), (3,), ()]]
    for param in params:
        param.grad = 1e3 * torch.randn(param.shape, generator=generator, dtype=torch.float64)
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    sciopt.NormalizedSGD(groups, lr=0.25).step()
    whole = torch.cat([param.flatten() for param in params])
    along = torch.cat([param.grad.flatten() for param in params if param.grad is not None])
    assert whole.norm().item() == pytest.approx(0.25, rel=1e-15)
    torch.testing.assert_close(whole, -0.25 * along / along.norm(), rtol=1e-14, atol=0)


def test_normalised_descent_rests_where_the_gradient_is_zero() -> None:
    param = scalar(1.5)
    assert travel(sciopt.NormalizedSGD([param]), param, [0.0, 0.0]) == [0.0, 0.0]


@ENGINES
def test_adam_after_silence_steps_as_its_averages_say(engine: str) -> None:
    # k zero gradients, then g: lr (1-b1)/sqrt(1-b2) * sqrt(1-b2^n)/(1-b1^n) with n = k+1.
    b1, b2 = 0.9, 0.999
    for silence in (9, 99, 999):
        param, n = scalar(), silence + 1
        optimizer = sciopt.Adam([param], lr=1.0, betas=(b1, b2), eps=1e-30, engine=engine)
        last = travel(optimizer, param, [0.0] * silence + [3.0])[-1]
        expected = (1 - b1) / math.sqrt(1 - b2) * math.sqrt(1 - b2**n) / (1 - b1**n)
        assert last == pytest.approx(expected, rel=1e-12)


def test_adams_clock_stands_without_gradient() -> None:
    param = scalar()
    optimizer = sciopt.Adam([param], lr=0.5, eps=0.0)
    assert travel(optimizer, param, [None] * 50 + [3.0])[-1] == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize("highest", [3.0, 10.0])
def test_amsgrad_converges_where_adam_does_not(highest: float) -> None:
    """The loss `highest` * x every third step, -x else, on [-1, 1] (Reddi et al. 2018)."""
    ends = {}
    for name, make in {"Adam": sciopt.Adam, "AMSGrad": sciopt.AMSGrad}.items():
        param = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = make(
            [param],
            betas=(0.0, 1 / (1 + highest**2)),
            eps=0.0,
            projection=sciopt.Box(-1.0, 1.0),
        )
        for step in range(1, 3001):
            optimizer.param_groups[0]["lr"] = 0.5 / math.sqrt(step)
            param.grad = torch.full_like(param, highest if step % 3 == 1 else -1.0)
            optimizer.step()
        ends[name] = param.item()
    assert ends["Adam"] == 1.0
    assert ends["AMSGrad"] < -0.95


def test_laprop_averages_the_rated_gradient() -> None:
    generator = np.random.default_rng(0)
    grads, b1, b2, eps, lr = generator.normal(size=30), 0.8, 0.95, 1e-3, 0.1
    param = scalar()
    direction = ExponentialAverage(b1, after_rates=True)
    optimizer = sciopt.Composed([param], direction, [SecondMoment(b2, eps)], lr=lr)
    steps = travel(optimizer, param, list(grads))
    # The averages written out as sums over all gradients met, instead of step by step.
    for n in range(1, 31):
        ages = np.arange(n)[::-1]
        squares = [
            (1 - b2) * np.sum(b2 ** np.arange(k)[::-1] * grads[:k] ** 2) / (1 - b2**k)
            for k in range(1, n + 1)
        ]
        rated = grads[:n] / (np.sqrt(squares) + eps)
        expected = lr * (1 - b1) * np.sum(b1**ages * rated) / (1 - b1**n)
        assert steps[n - 1] == pytest.approx(expected, rel=1e-12)


SCALE_FREE: dict[str, Callable[[list[Tensor]], sciopt.Composed]] = {
    "NormalizedSGD": sciopt.NormalizedSGD,
    "AdaGrad": lambda params: sciopt.AdaGrad(params, eps=0.0),
    "RMSProp": lambda params: sciopt.RMSProp(params, eps=0.0, momentum=0.9),
    "Adam": lambda params: sciopt.Adam(params, eps=0.0),
    "AMSGrad": lambda params: sciopt.AMSGrad(params, eps=0.0),
}


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("name", SCALE_FREE)
def test_rated_methods_do_not_feel_the_gradients_scale(name: str, factor: float) -> None:
    paths = []
    for scale in (1.0, factor):
        generator = torch.Generator().manual_seed(1)
        param = torch.zeros(20, dtype=torch.float64, requires_grad=True)
        optimizer = SCALE_FREE[name]([param])
        for _ in range(50):
            param.grad = scale * torch.randn(20, generator=generator, dtype=torch.float64)
            optimizer.step()
        paths.append(param.detach())
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-11, atol=0)


def test_clocks_of_an_accelerator_have_the_hosts_factors() -> None:
    counts = torch.tensor([1.0, 7.0, 4000.0], dtype=torch.float64)
    stack = Clock(counts)
    for beta, power in [(0.9, 1), (0.999, 0.5), (0.0, 1)]:
        for place, count in enumerate(counts.tolist()):
            factor = Clock(counts[place], stack, place).debias(beta, power)
            expected = (1 - beta**count) ** -power
            assert float(factor) == pytest.approx(expected, rel=1e-14)
            assert Clock(count).debias(beta, power) == pytest.approx(expected, rel=1e-14)


def test_sgd_feels_the_gradients_scale_in_proportion() -> None:
    steps = [travel(sciopt.SGD([p := scalar()], lr=0.1), p, [g])[0] for g in (1.0, 1e3)]
    assert steps == pytest.approx([0.1, 100.0], rel=1e-15)


def test_normalised_descent_measures_what_it_descends() -> None:
    param = torch.tensor([3.0, -4.0], dtype=torch.float64, requires_grad=True)
    start = param.detach().clone()
    param.grad = torch.tensor([2.0, 1.0], dtype=torch.float64)
    sciopt.NormalizedSGD([param], lr=0.1, weight_decay=0.5, maximize=True).step()
    descended = torch.tensor([-0.5, -3.0], dtype=torch.float64)  # -g + 0.5 w
    expected = start - 0.1 * descended / descended.norm()
    torch.testing.assert_close(param.detach(), expected, rtol=1e-15, atol=0)


def test_centred_rmsprop_outlives_constant_gradients() -> None:
    # Their variance is round-off, of either sign: torch's own takes the root and ends in NaN.
    param = torch.zeros(100, dtype=torch.float64, requires_grad=True)
    optimizer = sciopt.RMSProp([param], centered=True, alpha=0.9)
    for _ in range(400):
        param.grad = torch.linspace(0.1, 10.0, 100, dtype=torch.float64)
        optimizer.step()
    assert param.isfinite().all()
