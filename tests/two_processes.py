"""One of two processes that train together: `python two_processes.py rank folder`.

It saves to the folder, as `<rank>.pt`, where every twin ends under every engine and every way of
sharing the work, or what went wrong.
"""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch_twins import (
    ENGINES,
    LIVES,
    TWINS,
    Make,
    label,
    new_inputs,
    new_network,
    positions,
)


def train(rank: int, wrap: Callable[[torch.nn.Module], Any], make: Make) -> Tensor | str:
    network = new_network()
    try:
        wrapped, optimizer = wrap(network), make(network.parameters())
        for number in range(5):
            optimizer.zero_grad()
            # Mean over this half; the processes' gradients are averaged.
            mine = new_inputs(8, 3)[rank::2] + number
            (wrapped(mine) - 0.5).square().mean().backward()
            optimizer.step()
    except Exception as error:  # noqa: BLE001  # the test says which one failed and how
        return repr(error)
    whole = [getattr(p, "full_tensor", lambda p=p: p)() for p in network.parameters()]
    return positions(whole)


def all_ways(rank: int, mesh: DeviceMesh) -> dict[tuple[str, str, str], Tensor | str]:
    ends = {}
    for name, twin in TWINS.items():
        for engine in LIVES:
            case, make = (name, label(engine)), partial(twin.ours, lr=0.02, **engine)
            views = partial(DistributedDataParallel, gradient_as_bucket_view=True)
            ends[*case, "copies"] = train(rank, DistributedDataParallel, make)
            ends[*case, "bucket-views"] = train(rank, views, make)
            if engine in ENGINES:
                ends[*case, "shards"] = train(rank, partial(fully_shard, mesh=mesh), make)
            # A share of the parameters has another norm than the model.
            if name != "NormalizedSGD":
                shares = partial(
                    ZeroRedundancyOptimizer, optimizer_class=twin.ours, lr=0.02, **engine
                )
                ends[*case, "state-in-shares"] = train(rank, DistributedDataParallel, shares)
    return ends


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), sys.argv[2]
    # From here on: torch's own modules warn when they are imported.
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(all_ways(rank, init_device_mesh("cpu", (2,))), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
