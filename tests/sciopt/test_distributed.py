"""Two processes that share the work end where one that does it all ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch_twins import ENGINES, LIVES, TWINS, label, new_inputs, new_network, positions

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)

Case = tuple[str, str, str]
CASES: list[Case] = [
    (name, label(engine), how)
    for name in TWINS
    for engine in LIVES
    for how in ("copies", "bucket-views", "shards", "state-in-shares")
    if (name, how) != ("NormalizedSGD", "state-in-shares")
    # A shard must stay where torch has put it.
    and (how != "shards" or engine in ENGINES)
]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Case, torch.Tensor | str]]:
    """Where each of the two processes ended; one pair for all cases, since starting costs."""
    folder, tests = tmp_path_factory.mktemp("ends"), Path(__file__).absolute().parents[1]
    roots = [str(tests), str(tests.parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots), "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(tests / "two_processes.py"), str(rank), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_end_where_one_does(
    ends: list[dict[Case, torch.Tensor | str]], case: Case
) -> None:
    network = new_network()
    optimizer = TWINS[case[0]].theirs(network.parameters(), lr=0.02)
    for number in range(5):
        optimizer.zero_grad()
        (network(new_inputs(8, 3) + number) - 0.5).square().mean().backward()
        optimizer.step()
    first, second = (each[case] for each in ends)
    assert isinstance(first, torch.Tensor), first
    assert isinstance(second, torch.Tensor), second
    assert torch.equal(first, second)
    torch.testing.assert_close(first, positions(network.parameters()), rtol=0, atol=1e-12)
