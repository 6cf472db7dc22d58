"""A problem's own module against the hand-written derivatives of the same function."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pinn_oracles import derivative, mirrored, seen, torch_network
from pinn_small import CPU, TINY, Heat, tiny
from torch import Tensor, nn

from applications.pinn.language import Condition, Field, Problem, ProblemError
from applications.pinn.methods import METHODS, GaussNewton, Sequence, Setup
from applications.pinn.network import MLP
from applications.pinn.solution import Solution, solve
from applications.pinn.solve import Solver
from applications.pinn.taylor import closure
from applications.pinn.torch_func import ModuleNetwork
from applications.pinn.training import Training

# Torch itself uses what it deprecates where a forward sweep begins.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
WANTED = [(2, 2), (4, 0), (2, 1), (0, 3), (1, 1)]


@dataclasses.dataclass(frozen=True)
class Coupled(Problem):
    region = {"x": (-1.0, 1.0), "t": (0.0, 2.0)}
    unknowns = ("u", "v")
    magnitudes = {"v": 3e-2}
    symmetry = {"x": "even"}

    def equations(self, u: Field, v: Field, x: Tensor, t: Tensor) -> Any:
        return [u.t - v, v.t + u.xx]

    def conditions(self) -> list[Condition]:
        return [Condition("t", 0.0, lambda u, v, x, t: [u - x**2, v.value])]

    def lift(self, x: Tensor, t: Tensor) -> Any:
        return [(x**2, t), (torch.cos(x), torch.exp(x * t))]


class Same(nn.Module):
    """The function that a perceptron of network.py with these params is."""

    def __init__(self, network: MLP, params: Tensor) -> None:
        super().__init__()
        self.embedding, self.layers = network.embedding, torch_network(network, params)

    def forward(self, points: Tensor) -> Tensor:
        def network(points: Tensor) -> Tensor:
            return self.layers(seen(self.embedding, points))

        return mirrored(self.embedding.problem, network)(points)


def as_torch_has_it(network: MLP, params: Tensor) -> Tensor:
    """The params, or an array of one row for each, in the order of torch's layers."""
    parts = []
    for weight, bias in network.layers(params):
        parts += [weight.transpose(0, 1).flatten(0, 1), bias]
    return torch.cat(parts)


Pair = tuple[Training, ModuleNetwork]


@pytest.fixture(params=[(Heat(), "sin"), (Coupled(), "tanh")], ids=["sine", "two unknowns"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A perceptron in training and the module that is the same."""
    problem, activation = request.param
    training = Training(problem, Setup(**TINY, activation=activation), 0, CPU)
    network = training.network
    assert isinstance(network, MLP)
    own = ModuleNetwork(network.embedding, Same(network, training.initial_params))
    return training, own


def assert_relatively_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_channels_are_the_hand_written_ones(pair: Pair) -> None:
    training, own = pair
    points, indices = training.held_out[:9], closure(WANTED)
    expected, _ = training.network.forward(
        training.initial_params, training.network.inputs(points, indices)
    )
    found, _ = own.forward(own.initial_params, own.inputs(points, indices))
    for channel, its in zip(found, expected, strict=True):
        assert_relatively_close(channel, its)


def test_both_reverse_sweeps_are_the_hand_written_ones(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, own = pair
    network = training.network
    assert isinstance(network, MLP)
    monkeypatch.setattr("applications.pinn.torch_func.ROOM", 3 * own.count)
    monkeypatch.setattr("applications.pinn.torch_func.CHUNK", 3)
    points, indices = training.held_out[:4], closure(WANTED)
    channels, tape = network.forward(training.initial_params, network.inputs(points, indices))
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(channels.shape, dtype=torch.float64, generator=generator)
    expected = points.new_empty(len(points), network.count)
    network.jacobian(tape, cotangent, expected)
    _, its_tape = own.forward(own.initial_params, own.inputs(points, indices))
    found = points.new_empty(own.count, len(points)).T
    own.jacobian(its_tape, cotangent, found)
    assert_relatively_close(found.T, as_torch_has_it(network, expected.T))
    gradient = network.gradient(tape, cotangent)
    assert_relatively_close(own.gradient(its_tape, cotangent), as_torch_has_it(network, gradient))


class Wave(nn.Module):
    """Two layers with random frozen frequencies and a buffer: neither is trained."""

    shift: Tensor

    def __init__(self, unknowns: int = 1) -> None:
        super().__init__()
        self.frequencies = nn.Linear(2, 3).requires_grad_(False)
        self.register_buffer("shift", torch.rand(1))
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, unknowns))

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(torch.sin(self.frequencies(points) + self.shift))


class OwnHeat(Heat):
    def network(self) -> nn.Module:
        return Wave()


class OwnSlabs(OwnHeat):
    slabs = 2


@dataclasses.dataclass(frozen=True)
class OwnCoupled(Coupled):
    symmetry = {}

    def network(self) -> nn.Module:
        return Wave(unknowns=2)


@dataclasses.dataclass(frozen=True)
class Given(Heat):
    """Heat by whatever module is given."""

    module: Any = None

    def network(self) -> Any:
        return self.module()


QUICK = GaussNewton(**TINY, slab_steps=2)


def after_steps(problem: Problem, method: Any, steps: int, seed: int = 0) -> Solver:
    solver = Solver(problem, method, seed, CPU)
    for _ in range(steps):
        solver.step()
    return solver


@pytest.mark.parametrize("name", ["gauss-newton", "adam", "newton-cg", "lbfgs", "scipy-lbfgs"])
def test_every_kind_of_method_lowers_the_loss(name: str) -> None:
    method = dataclasses.replace(tiny(METHODS[name]), redraw_every=0)
    solver = Solver(OwnCoupled(), method, 0, CPU)
    before = solver.training.loss(solver.params)
    for _ in range(5):
        assert solver.step() is None
    assert solver.training.loss(solver.params) < (0.99 if name == "adam" else 0.5) * before


def test_a_step_of_gauss_newton_is_that_of_the_same_perceptron() -> None:
    problem = Coupled()
    usual = Solver(problem, QUICK, 0, CPU)
    network, start = usual.training.network, usual.training.initial_params.clone()
    assert isinstance(network, MLP)

    @dataclasses.dataclass(frozen=True)
    class Own(Coupled):
        def network(self) -> nn.Module:
            return Same(network, start)

    own = Solver(Own(), QUICK, 0, CPU)
    usual.step()
    own.step()
    moved = as_torch_has_it(network, usual.params.detach())
    assert float((moved - own.training.initial_params).abs().max()) > 1e-3
    torch.testing.assert_close(own.params.detach(), moved, rtol=1e-7, atol=1e-9)


def test_float32_is_trained_and_measured_in_float64() -> None:
    solver = after_steps(OwnHeat(), dataclasses.replace(QUICK, precision="float32"), 2)
    assert solver.params.dtype == torch.float32
    points = solver.training.held_out[:5]
    exact, single = (
        solver.training.values(p, points) for p in (solver.params.double(), solver.params)
    )
    assert (exact.dtype, single.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "method", [dataclasses.replace(QUICK, redraw_every=2), tiny(METHODS["newton-cg"])]
)
def test_a_resumed_run_goes_on_bit_for_bit(method: Any) -> None:
    problem = OwnSlabs()
    method = dataclasses.replace(method, slab_steps=3)
    solver = after_steps(problem, method, 4)
    resumed = Solver(problem, method, 0, CPU)
    resumed.load_state_dict(solver.state_dict())
    for both in (solver, resumed):
        both.step()
        both.step()
    assert torch.equal(solver.params, resumed.params)
    assert torch.equal(solver.training.held_out, resumed.training.held_out)


def test_params_and_constants_are_those_of_the_seed_and_nothing_of_torchs_stream_is_used() -> None:
    def drawn(seed: int) -> Tensor:
        network = Training(OwnHeat(), QUICK, seed, CPU).network
        assert isinstance(network, ModuleNetwork)
        constants = [constant.flatten() for constant in network.constants.values()]
        return torch.cat([network.initial_params, *constants])

    before = torch.random.get_rng_state()
    one, same, other = drawn(0), drawn(0), drawn(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, same) and not (one == other).any()


def test_only_params_that_require_a_gradient_are_trained() -> None:
    solver = after_steps(OwnHeat(), QUICK, 0)
    network = solver.training.network
    assert isinstance(network, ModuleNetwork)
    assert network.count == 3 * 4 + 4 + 4 + 1
    before = {name: constant.clone() for name, constant in network.constants.items()}
    assert list(before) == ["frequencies.weight", "frequencies.bias", "shift"]
    for _ in range(3):
        solver.step()
    for name, constant in network.constants.items():
        assert torch.equal(constant, before[name])


def test_it_is_never_widened() -> None:
    solver = after_steps(OwnHeat(), dataclasses.replace(QUICK, redraw_every=1, widen=2.0), 1)
    training = solver.training
    assert training.widen(solver.params.detach(), 2.0, 3000) is None
    training.resize([7, 7])
    assert training.network.count == len(solver.params) and training.hidden == []


@pytest.mark.parametrize("problem", [OwnHeat(), OwnSlabs(), OwnCoupled()])
def test_a_solution_survives_a_file_and_an_export(problem: Problem, tmp_path: Path) -> None:
    solver = after_steps(problem, QUICK, 4, seed=3)
    solution = Solution.of(solver)
    points = np.random.default_rng(0).random((20, 2))
    found = solution.predict(points)
    expected = solver.values(torch.from_numpy(points)).numpy()
    np.testing.assert_array_equal(np.stack(list(found.values()), axis=1), expected)
    solution.save(tmp_path / "kept.npz")
    loaded = Solution.load(tmp_path / "kept.npz")
    for name, value in loaded.predict(points).items():
        np.testing.assert_array_equal(value, found[name])
    np.testing.assert_array_equal(loaded.residual(points), solution.residual(points))
    loaded.export(tmp_path / "plain.pt2")
    exported = torch.export.load(tmp_path / "plain.pt2").module()
    for module in (solution.module(), exported):
        values = module(torch.from_numpy(points)).detach().numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)


def test_derivatives_of_a_solution_are_those_of_its_module() -> None:
    solution = Solution.of(after_steps(OwnCoupled(), QUICK, 2))
    points = np.random.default_rng(0).random((6, 2))
    found = solution.predict(points, "u.xx", "v.xxt")
    for k, (name, index) in enumerate({"u.xx": (2, 0), "v.xxt": (2, 1)}.items()):
        expected = derivative(solution.module(), torch.from_numpy(points), index)[:, k]
        np.testing.assert_allclose(found[name], expected.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_a_run_keeps_the_module_with_its_constants() -> None:
    method = Sequence(**TINY, stages=("adam", "gauss-newton"), stage_steps=(2,))
    solution = solve(OwnHeat(), method, max_steps=4, seed=5)
    points = np.random.default_rng(0).random((6, 2))
    expected = Solution.of(after_steps(OwnHeat(), method, 4, seed=5)).predict(points)["u"]
    np.testing.assert_array_equal(solution.predict(points)["u"], expected)


def test_the_file_of_another_module_is_refused(tmp_path: Path) -> None:
    Solution.of(after_steps(OwnHeat(), QUICK, 1)).save(tmp_path / "kept.npz")
    others: dict[str, Callable[[], Any]] = {
        "has 3 for this Given": lambda: nn.Linear(2, 1),
        "has 'running_mean' of shape (2,), the file none": lambda: nn.Sequential(
            nn.BatchNorm1d(2), nn.Linear(2, 1)
        ).eval(),
    }
    for message, module in others.items():
        with pytest.raises(ValueError, match=re.escape(message.replace("'running", "'0.running"))):
            Solution.load(tmp_path / "kept.npz", Given(module=module))
    with pytest.raises(ValueError, match="it is not the problem that was solved"):
        Solution.load(tmp_path / "kept.npz", Heat())


class Periodic(Given):
    periodic = ("x",)

    def conditions(self) -> list[Condition]:
        return super().conditions()[:1]


class Odd(Periodic):
    region = {"x": (-1.0, 1.0), "t": (0.0, 1.0)}
    symmetry = {"x": "odd"}
    periodic = ()


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Given(module=lambda: torch.tanh), "return a torch.nn.Module, or None"),
        (Given(module=nn.Tanh), "network() of Given has no params that require a gradient"),
        (
            Given(module=lambda: nn.Linear(2, 3)),
            "gives (8, 3) for coordinates of shape (8, 2), the columns being x, t; expected (8, 1)",
        ),
        (Given(module=lambda: nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))), "gives (8,) for"),
        (Given(module=lambda: nn.Linear(3, 1)), "cannot take float64 coordinates of shape (8, 2)"),
        (
            Given(module=lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))),
            "changes its buffer '0.running_mean' when it is called",
        ),
        (
            Given(module=lambda: nn.Sequential(nn.Linear(2, 9), nn.Dropout(), nn.Linear(9, 1))),
            "without chance; call eval()",
        ),
        (
            Given(
                module=lambda: nn.Sequential(
                    nn.BatchNorm1d(2, track_running_stats=False), nn.Linear(2, 1)
                )
            ),
            "must treat each point by itself",
        ),
        (Periodic(module=Wave), "differs at the two ends of 'x', which is periodic"),
        (Odd(module=Wave), "is not odd in 'x', as `symmetry` says"),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused(problem: Problem, message: str) -> None:
    with pytest.raises(ProblemError, match=re.escape(message)):
        Solver(problem, QUICK, 0, CPU)


def test_batch_norm_that_is_not_in_training_is_a_constant() -> None:
    def module() -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).eval()

    solver = after_steps(Given(module=module), QUICK, 3)
    assert solver.training.loss(solver.params) < solver.training.loss(
        solver.training.initial_params
    )


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Mish, nn.GELU, nn.Softplus])
def test_torchs_smooth_activations_have_the_derivatives_that_methods_take(activation: Any) -> None:
    def module() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 4), activation(), nn.Linear(4, 1))

    solver = after_steps(Given(module=module), QUICK, 2)
    network, params = solver.training.network, solver.params.detach()
    assert isinstance(network, ModuleNetwork)
    points = solver.training.held_out[:5]
    with torch.no_grad():
        found = solver.training.channels(params, points, closure([(2, 1)]))[-1]
    assert not found.requires_grad
    expected = derivative(network.with_params(params), points, (2, 1)).detach()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


def test_in_a_slab_the_module_sees_the_slabs_region() -> None:
    class Recording(Heat):
        slabs = 2

        def network(self) -> nn.Module:
            low, high = self.region["t"]
            module = Wave()
            module.shift = torch.tensor([low, high, high])
            return module

    solver = after_steps(Recording(), QUICK, 3)
    seen_by = [*(solved.training.network for solved in solver.solved), solver.training.network]
    for network, ends in zip(seen_by, [(0.0, 0.5), (0.5, 1.0)], strict=True):
        assert isinstance(network, ModuleNetwork)
        assert tuple(network.constants["shift"][:2].tolist()) == ends
