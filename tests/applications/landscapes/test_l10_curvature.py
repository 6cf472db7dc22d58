"""Noise, fits and the judge, against closed forms and made-up results."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from landscape_runs import done

from applications.landscapes import DOMAIN
from applications.landscapes.claims.l10_curvature import (
    CONDITION,
    TIMES_SHARPNESS,
    best_times_sharpness,
    condition_left,
    curvature,
    fit,
    hessian,
    setting,
    sqrt_v,
)
from applications.landscapes.problems import NoisyQuadratic
from sciopt.bench import Answer, Record, Result, Run, Status

CLAIM = DOMAIN.claims["l10-curvature"]


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("covariance", ["isotropic", "hessian"])
def test_noise_has_the_covariance_that_it_is_said_to_have(rotated: bool, covariance):
    problem = NoisyQuadratic(
        start=(1.0,) * 4, condition=(100.0,), rotated=rotated, covariance=covariance,
        noise_scale=0.3, sharpness=5.0,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 3, 4, dtype=torch.float64)
    drawn = torch.stack([problem.noise(x, generator)[0, 0] for _ in range(20_000)])
    expected = torch.eye(4).double() if covariance == "isotropic" else problem.hessian()[0]
    deviation = torch.cov(drawn.T) / 0.3**2 - expected
    assert float(deviation.abs().max()) < 0.03 * float(expected.abs().max())


def test_the_hessian_is_that_of_the_loss():
    problem = NoisyQuadratic(start=(1.0,) * 4, condition=(50.0,), rotated=True, sharpness=3.0)
    point = torch.zeros(4, dtype=torch.float64)
    dense = torch.autograd.functional.hessian(lambda x: problem.loss(x[None, None], 1).sum(), point)
    assert isinstance(dense, torch.Tensor)
    torch.testing.assert_close(dense, problem.hessian()[0], rtol=1e-12, atol=1e-14)


def quick(noise: str, problem: str = "noisy-quadratic") -> Result:
    """The claim's run of this noise in seed 0, by the domain's own solver."""
    (run,) = (
        run
        for run in CLAIM.runs
        if run.method == "adam"
        and run.problem == problem
        and run.seed == 0
        and setting(Result(run, Status.STEP_LIMIT, "", [], {}, 0.0)).endswith(noise)
    )
    return done(run)


def test_without_noise_v_is_the_squared_curvature():
    # From (1, ..., 1) the gradients stay proportional to H: Adam moves all coordinates alike.
    result = quick("no noise")
    alike, slope = fit(curvature(result), sqrt_v(result))
    assert alike == pytest.approx(1.0)
    assert slope == pytest.approx(1.0, abs=1e-3)
    assert condition_left(result) == pytest.approx(1.0, abs=0.01)


def test_with_noise_as_curvature_v_is_the_curvature():
    for problem, left in (("noisy-quadratic", 100.0), ("rotated-noisy-quadratic", 6000.0)):
        result = quick("noise as curvature", problem)
        alike, slope = fit(curvature(result), sqrt_v(result))
        assert alike > 0.99
        assert slope == pytest.approx(0.5, abs=0.03)
        assert condition_left(result) == pytest.approx(left, rel=0.2)
        np.testing.assert_allclose(
            np.sqrt(hessian(result).diagonal()) * 0.1, sqrt_v(result), rtol=0.3
        )


def test_with_even_noise_v_knows_no_curvature():
    result = quick("even noise")
    assert abs(fit(curvature(result), sqrt_v(result))[1]) < 0.03


def test_the_best_rate_of_a_quadratic_is_next_to_two_over_the_extreme_eigenvalues():
    best = [
        value
        for run in CLAIM.runs
        if run.method == "sgd" and run.problem == "noisy-quadratic"
        for value in best_times_sharpness(done(run)).values()
    ]
    grid = np.array(TIMES_SHARPNESS)
    exact = 2 / (1 + 1 / CONDITION)
    neighbours = grid[np.searchsorted(grid, exact) - 1], grid[np.searchsorted(grid, exact)]
    assert len(best) == 2
    for value in best:
        assert min(abs(value - near) for near in neighbours) < 1e-9


def made_up(run: Run, power: float, best: float, alike: bool = True) -> Result:
    """A result with sqrt(v) = curvature^power, or shuffled, and a best rate times sharpness."""
    generator = np.random.default_rng(0)
    if run.method == "sgd":
        lr = np.array(run.overrides["method.lr"])
        scale = run.overrides.get("problem.sharpness", 2.0)
        distance = 1 + np.abs(np.log(lr * scale / best))
        kept = {
            "lr": lr,
            "loss": distance,
            "x": distance[None, :, None],
            "start_sharpness": np.array(2.0),
            "sharpness": np.full(lr.size, 2.0),
        }
    else:
        digits = run.problem == "digits"
        diagonal = 10 ** generator.uniform(-3, 0, 300)
        if not digits:
            problem = DOMAIN.problems[run.problem]
            assert isinstance(problem, NoisyQuadratic)
            diagonal = problem.hessian()[0].diagonal().numpy()
        roots = diagonal**power
        roots = roots if alike else generator.permutation(roots)
        (lr,) = run.overrides["method.lr"]
        kept = {
            "step_size": (lr / roots)[None, None, None],
            "inverse_rate": roots[None],
            "hessian_diagonal": diagonal[None],
            "fisher_diagonal": diagonal[None],
            "empirical_fisher_diagonal": diagonal[None],
        }
    return Result(run, Status.STEP_LIMIT, "", [Record(run.max_steps, 1.0, {})], kept, 0.0)


@pytest.mark.parametrize(
    ("power", "best", "alike", "answer"),
    [
        (1.0, 1.0, True, Answer.HOLDS),
        (1.0, 8.0, True, Answer.HOLDS_UNDER_CONDITIONS),
        (0.5, 1.0, True, Answer.HOLDS_UNDER_CONDITIONS),
        (1.0, 8.0, False, Answer.FAILS),
        (-1.0, 0.1, True, Answer.FAILS),
        (0.1, 9.0, True, Answer.FAILS),
    ],
)
def test_the_judge_follows_slopes_and_best_rates(power, best, alike, answer):
    verdict = CLAIM.judge([made_up(run, power, best, alike) for run in CLAIM.runs])
    assert verdict.answer is answer


def test_short_runs_decide_nothing():
    results = [made_up(replace(run, max_steps=2), 1.0, 1.0) for run in CLAIM.runs]
    assert CLAIM.judge(results).answer is Answer.UNDECIDED
