"""Directions beside the programs of their papers and torch's own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sciopt import Composed
from sciopt.directions import EligibilityTrace, Gradient, Orthogonal, Sign
from sciopt.directions.orthogonal import newton_schulz
from sciopt.rates import MatrixShape

SHAPES = [(4, 7), (7, 4), (5, 5), (1, 6)]


def matrices(seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES
    ]


def follow(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], series: Sequence[Sequence[Tensor]]
) -> None:
    for grads in series:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.to(param.dtype)
        optimizer.step()


def test_lion_is_the_program_of_its_paper() -> None:
    lr, beta1, beta2, weight_decay = 0.01, 0.9, 0.99, 0.3
    start, series = matrices(0), [matrices(seed) for seed in range(1, 31)]
    params = [param.clone() for param in start]
    optimizer = Composed(
        params, Sign(beta1, beta2), lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True
    )
    follow(optimizer, params, series)
    for index, param in enumerate(params):
        weight, average = start[index].numpy(), np.zeros(SHAPES[index])
        for grads in series:
            gradient = grads[index].numpy()
            update = np.sign(average * beta1 + gradient * (1 - beta1))
            average = average * beta2 + gradient * (1 - beta2)
            weight = weight - lr * (update + weight_decay * weight)
        np.testing.assert_allclose(param.numpy(), weight, rtol=1e-13)
        np.testing.assert_allclose(optimizer.state[param]["exp_avg"], average, rtol=1e-12)


def test_sign_without_betas_keeps_nothing_and_rests_where_the_gradient_is_zero() -> None:
    param = torch.zeros(5, dtype=torch.float64)
    optimizer = Composed([param], Sign(), lr=0.25)
    param.grad = torch.tensor([-1e300, -1e-300, 0.0, 1e-300, 7.0], dtype=torch.float64)
    optimizer.step()
    assert param.tolist() == [0.25, 0.25, 0.0, -0.25, -0.25]
    assert not optimizer.state[param]


MUON_SETTINGS: list[dict[str, Any]] = [
    {},
    {"nesterov": False, "momentum": 0.5},
    {"adjust_lr_fn": "original", "weight_decay": 0.0},
    {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3},
    {"ns_steps": 2, "eps": 3.0, "ns_coefficients": (1.875, -1.25, 0.375)},
    {"momentum": 0.0, "ns_steps": 0},
]


def muon(params: Sequence[Tensor], lr: float = 0.02, **settings: Any) -> Composed:
    shape = MatrixShape(settings.pop("adjust_lr_fn", None))
    weight_decay = settings.pop("weight_decay", 0.1)
    return Composed(
        params,
        Orthogonal(**settings),
        [shape],
        lr=lr,
        weight_decay=weight_decay,
        decoupled_weight_decay=True,
    )


@pytest.mark.parametrize(
    ("settings", "dtype", "rtol"),
    [
        (settings, dtype, rtol)
        for settings in MUON_SETTINGS
        for dtype, rtol in [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 0.02)]
        # Without Nesterov's copy torch divides a buffer of bfloat16 by its norm, in place.
        if dtype is not torch.bfloat16 or settings.get("nesterov", True)
    ],
    ids=str,
)
def test_orthogonal_times_shape_is_torchs_muon(
    settings: dict[str, Any], dtype: torch.dtype, rtol: float
) -> None:
    ours, theirs = matrices(0, dtype), matrices(0, dtype)
    series = [matrices(seed, dtype) for seed in range(1, 8)]
    optimizer = muon(ours, **settings)
    reference = torch.optim.Muon(theirs, lr=0.02, **settings)
    follow(optimizer, ours, series)
    follow(reference, theirs, series)
    for mine, other, start in zip(ours, theirs, matrices(0, dtype), strict=True):
        moved = (other - start).abs().max().item()
        assert moved > 0.01
        assert (mine - other).abs().max().item() <= rtol * max(moved, start.abs().max().item())
        assert torch.equal(
            optimizer.state[mine]["momentum_buffer"], reference.state[other]["momentum_buffer"]
        )


def test_muons_checkpoints_go_to_torch_and_back() -> None:
    settings = {"momentum": 0.8, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.2}
    series = [matrices(seed) for seed in range(1, 10)]

    def path(makers: Sequence[Callable[..., torch.optim.Optimizer]]) -> list[Tensor]:
        params, state = matrices(0), None
        for turn, make in enumerate(makers):
            optimizer = make(params, lr=0.03, **settings) if turn == 0 else make(params)
            if state is not None:
                optimizer.load_state_dict(state)
            follow(optimizer, params, series[3 * turn : 3 * turn + 3])
            state = optimizer.state_dict()
        return params

    expected = path([torch.optim.Muon] * 3)
    for makers in ([torch.optim.Muon, muon, torch.optim.Muon], [muon, torch.optim.Muon, muon]):
        for mine, other in zip(path(makers), expected, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_newton_schulz_maps_the_singular_values_and_keeps_the_vectors(shape) -> None:
    matrix = matrices(3)[SHAPES.index(shape)]
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = 3.4445, -4.7750, 2.0315
    mapped = values / values.norm()
    for _ in range(5):
        mapped = a * mapped + b * mapped**3 + c * mapped**5
    expected = left @ mapped.diag() @ right
    torch.testing.assert_close(newton_schulz(matrix, (a, b, c), 5, 1e-7), expected)
    nearest = newton_schulz(matrix, (1.875, -1.25, 0.375), 40, 0.0)
    torch.testing.assert_close(nearest, left @ right)


def test_in_the_parameters_own_precision_the_step_has_no_bfloat16_in_it() -> None:
    param, grad = matrices(0)[1], matrices(1)[1]
    start = param.clone()
    direction = Orthogonal(ns_coefficients=(1.875, -1.25, 0.375), ns_steps=40, precision=None)
    follow(Composed([param], direction, lr=1.0), [param], [[grad]])
    left, _, right = torch.linalg.svd(grad, full_matrices=False)
    torch.testing.assert_close(start - param, left @ right)


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\).*AdamW"):
        Composed([torch.zeros(2, 3), torch.zeros(3)], Orthogonal())
    param = torch.zeros(2, 3)
    param.grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match="compose it with Orthogonal"):
        Composed([param], Gradient(), [MatrixShape()]).step()


def test_eligibility_trace_is_linear_td_lambda_over_episodes() -> None:
    rng = np.random.default_rng(0)
    states, features, lr, lambda_, discount = 6, 4, 0.05, 0.8, 0.9
    phi = rng.normal(size=(states, features))
    reward, chain = rng.normal(size=states), rng.dirichlet(np.ones(states), size=states)

    weight, bias, trace = np.zeros(features), 0.0, np.zeros(features + 1)
    params = [
        torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in (features, ())
    ]
    optimizer = Composed(params, EligibilityTrace(lambda_), lr=lr)
    state, first, episodes = 0, True, 0
    for _ in range(300):
        after, terminated = rng.choice(states, p=chain[state]), rng.random() < 0.1
        discount_t = 0.0 if terminated else discount

        td_error = reward[state] - phi[state] @ weight - bias
        td_error += discount_t * (phi[after] @ weight + bias)
        trace = (0.0 if first else discount * lambda_) * trace + np.append(phi[state], 1.0)
        weight, bias = weight + lr * td_error * trace[:-1], bias + lr * td_error * trace[-1]

        value, next_value = (torch.tensor(phi[s]) @ params[0] + params[1] for s in (state, after))
        optimizer.zero_grad()
        value.backward()
        optimizer.publish("td_error", (reward[state] + discount_t * next_value - value).detach())
        optimizer.publish("discount", torch.tensor(0.0 if first else discount, dtype=torch.float64))
        optimizer.step()

        state, first, episodes = after, terminated, episodes + terminated
    assert episodes > 10
    np.testing.assert_allclose(params[0].detach(), weight, rtol=1e-11)
    np.testing.assert_allclose(params[1].detach(), bias, rtol=1e-11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sign(1.0, 0.5), r"betas\[0\] must be below 1"),
        (lambda: Sign(0.5, -0.1), r"betas\[1\] must be below 1 and at least 0, got -0.1"),
        (lambda: Orthogonal(ns_steps=100), "ns_steps must be below 100"),
        (lambda: Orthogonal(ns_coefficients=(1.0, 2.0)), "three numbers"),
        (lambda: MatrixShape("adamw"), "match_rms_adamw"),
        (lambda: EligibilityTrace(1.1), r"lambda_ must be in \[0, 1\], got 1.1"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
