"""Four processes that initialise DTensors together; started by test_sharding.py, which judges what rank 0 saves.

Run as ``python sharding_worker.py FOLDER``: the facts of all ranks are written to ``FOLDER/facts.pt``.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import fanin.torch as init
from fanin.initializers import fills

RANKS = 4
PLACEMENTS = {
    "rows": ((4,), [Shard(0)]),
    "columns": ((4,), [Shard(1)]),
    "last": ((4,), [Shard(-1)]),
    "replicated": ((4,), [Replicate()]),
    "both": ((2, 2), [Shard(0), Shard(1)]),
    "both turned": ((2, 2), [Shard(1), Shard(0)]),
    "rows twice": ((2, 2), [Shard(0), Shard(0)]),
    "hybrid": ((2, 2), [Replicate(), Shard(0)]),
}
SHAPES = {"even": (8, 12), "uneven": (7, 5), "fewer than ranks": (3, 2), "kernel": (6, 5, 3, 2)}
LAWS = {
    "normal_": {"std": 0.5},
    "uniform_": {"a": -1.0, "b": 3.0},
    "trunc_normal_": {"std": 0.3, "a": -0.4, "b": 0.2},
    "he_normal_": {},
    "constant_": {"val": 0.5},
    "orthogonal_": {"gain": 2.0},
    "delta_orthogonal_": {},
}
DELTA = {(6, 5, 3, 2), (7, 5), (3, 2)}
"""Shapes with no more inputs than units, as delta_orthogonal_ needs them."""


class Counter:
    """Counts the elements that are drawn, at the innermost functions of `fills`, whoever calls them."""

    def __init__(self):
        self.drawn = 0
        elements, compiled, across = fills._elements, fills._fill_compiled, fills._fill_across

        def count_elements(draw, seed, name, start, stop):
            self.drawn += stop - start
            return elements(draw, seed, name, start, stop)

        def count_compiled(out, *rest):
            self.drawn += out.size
            compiled(out, *rest)

        def count_across(view, *rest):
            self.drawn += view.size
            across(view, *rest)

        fills._elements, fills._fill_compiled, fills._fill_across = count_elements, count_compiled, count_across


def sharded(shape, mesh, placements, dtype=torch.float32):
    """A DTensor of 7s."""
    return distribute_tensor(torch.full(shape, 7.0, dtype=dtype), mesh, placements)


def whole(tensor):
    return tensor.detach().full_tensor().clone()


def with_a_seed(meshes, counter):
    """Law, shape and placement to: what was drawn where, and whether that is the tensor of one process."""
    for placement, (mesh_shape, placements) in PLACEMENTS.items():
        for size, shape in SHAPES.items():
            for law, given in LAWS.items():
                if law == "delta_orthogonal_" and shape not in DELTA:
                    continue
                function, tensor = getattr(init, law), sharded(shape, meshes[mesh_shape], placements)
                counter.drawn = 0
                same = function(tensor, seed=2**40 + 1, name="net.weight", **given) is tensor
                drawn, local = counter.drawn, tensor.to_local().numel()
                expected = function(torch.empty(shape), seed=2**40 + 1, name="net.weight", **given)
                fact = {"same": same, "equal": torch.equal(whole(tensor), expected), "drawn": drawn, "local": local}
                yield f"{law}|{size}|{placement}", fact


def without_a_seed(rank, meshes):
    """Each rank's generator is its own; the tensor must be one all the same."""
    for placement, (mesh_shape, placements) in PLACEMENTS.items():
        torch.manual_seed(100 + rank)
        before = torch.get_rng_state()
        tensors = [sharded((8, 12), meshes[mesh_shape], placements) for _ in range(3)]
        init.normal_(tensors[0])
        moved = not torch.equal(torch.get_rng_state(), before)
        init.normal_(tensors[1])
        init.normal_(tensors[2], generator=torch.Generator().manual_seed(200 + rank))
        torch.manual_seed(100)  # that of rank 0
        alone = [init.normal_(torch.empty(8, 12)) for _ in range(2)]
        alone.append(init.normal_(torch.empty(8, 12), generator=torch.Generator().manual_seed(200)))
        yield placement, {"wholes": [whole(tensor) for tensor in tensors], "alone": alone, "moved": moved}


def modules(meshes, counter):
    """Parameters of modules, whose description splits an axis or has gates and groups."""
    cases = {
        "transposed grouped": (nn.ConvTranspose2d(6, 4, (3, 2), groups=2), "weight"),
        "transposed": (nn.ConvTranspose2d(6, 5, (3, 2)), "weight"),
        "grouped": (nn.Conv2d(6, 9, (3, 2), groups=3), "weight"),
        "lstm": (nn.LSTM(7, 5), "weight_hh_l0"),
        "attention": (nn.MultiheadAttention(6, 2), "in_proj_weight"),
    }
    for placement in ("rows", "columns", "both"):
        mesh_shape, placements = PLACEMENTS[placement]
        for name, (module, own) in cases.items():
            for law in ("xavier_normal_", "orthogonal_"):
                plain = getattr(module, own)
                expected = getattr(init, law)(plain, seed=3, module=module).detach().clone()
                parameter = nn.Parameter(sharded(tuple(plain.shape), meshes[mesh_shape], placements))
                setattr(module, own, parameter)
                counter.drawn = 0
                same = getattr(init, law)(parameter, seed=3, module=module) is parameter
                drawn, local = counter.drawn, parameter.to_local().numel()
                fact = {"same": same, "equal": torch.equal(whole(parameter), expected), "drawn": drawn, "local": local}
                setattr(module, own, plain)
                yield f"{law}|{name}|{placement}", fact


def others(meshes):
    """Low precision, a tensor that is a sum over ranks, and mistakes, which must show on each rank before any waits."""
    mesh = meshes[4,]
    low = sharded((7, 5), mesh, [Shard(0)], torch.bfloat16)
    expected = init.normal_(torch.empty(7, 5), seed=1).bfloat16()
    yield "bfloat16", torch.equal(whole(init.normal_(low, seed=1)), expected)
    meta = DTensor.from_local(torch.empty(2, 5, device="meta"), mesh, [Shard(0)], run_check=False)
    yield "meta", init.normal_(meta, seed=1) is meta
    partial = DTensor.from_local(torch.zeros(7, 5), mesh, [Partial()], run_check=False)
    try:
        yield "partial", torch.equal(whole(init.normal_(partial, seed=1)), init.normal_(torch.empty(7, 5), seed=1))
    except ValueError:
        yield "partial", True
    refused = sharded((7, 5), mesh, [Shard(0)])
    for given in ({"std": -1.0}, {"seed": -1}):
        try:
            init.normal_(refused, **given)
        except ValueError:
            continue
        yield "refused", False
    yield "untouched", bool((whole(refused) == 7).all())


def run(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    meshes = {shape: init_device_mesh("cpu", shape) for shape in ((4,), (2, 2))}
    counter = Counter()
    facts = {
        "seeded": dict(with_a_seed(meshes, counter)),
        "unseeded": dict(without_a_seed(rank, meshes)),
        "modules": dict(modules(meshes, counter)),
        "others": dict(others(meshes)),
    }
    torch.save(facts, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(run, (str(Path(sys.argv[1]).absolute()),), nprocs=RANKS)
