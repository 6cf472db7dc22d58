"""torch's loss scaler of mixed precision treats our optimizers as it treats torch's."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_twins import Make, Twin, lives, loss_of, new_network, positions, same_path, twins

Engine = dict[str, Any]


@lives
@twins
@pytest.mark.parametrize("unscale", [False, True])
def test_scaled_steps_equal_torchs_and_overflow_skips_one(
    twin: Twin, engine: Engine, unscale: bool
) -> None:
    scales = []

    def treat(make: Make) -> list[Tensor]:
        network = new_network()
        optimizer = make(network.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
        path, of_run = [], []
        for number in range(7):
            optimizer.zero_grad()
            scaler.scale(loss_of(network)).backward()
            if number == 3:
                bias: Any = network[0].bias
                bias.grad[1] = float("inf")
            if unscale:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            of_run.append(scaler.get_scale())
            path.append(positions(network.parameters()))
        assert torch.equal(path[3], path[2])
        assert all(each.isfinite().all() for each in path)
        scales.append(of_run)
        return path

    same_path(twin, engine, treat)
    assert scales[0] == scales[1] == [256.0, 512.0, 512.0, 256.0, 256.0, 512.0, 512.0]


@lives
@twins
def test_a_step_that_the_scaler_skips_leaves_the_state_alone(twin: Twin, engine: Engine) -> None:
    network = new_network()
    optimizer = twin.ours(network.parameters(), **engine)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = [value.clone() for state in optimizer.state.values() for value in state.values()]
    scaler.scale(loss_of(network) * float("inf")).backward()
    assert scaler.step(optimizer) is None
    after = [value for state in optimizer.state.values() for value in state.values()]
    assert all(map(torch.equal, after, before))


@lives
@twins
def test_autocast_and_a_scaler_train_a_float32_network(twin: Twin, engine: Engine) -> None:
    """Forward and backward passes in bfloat16; what is stepped is float32."""
    paths = []
    for make in (lambda p: twin.ours(p, lr=0.02, **engine), lambda p: twin.theirs(p, lr=0.02)):
        network = new_network().float()
        optimizer = make(network.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
        inputs = torch.linspace(-1, 1, 24).reshape(8, 3)
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = network(inputs).float().square().sum()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
            scaler.update()
        assert all(param.dtype == torch.float32 for param in network.parameters())
        paths.append(positions(network.parameters()))
    # One bit of a bfloat16 activation may fall otherwise.
    torch.testing.assert_close(paths[0], paths[1], rtol=0, atol=2e-3)
