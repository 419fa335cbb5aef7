"""Nanoseconds per drawn weight, against the frameworks and against what the memory can take.

python bench/fill.py [--quick] [--json] [--keep]

Every pair is measured in turns in this process; the numbers are medians. The sizes are those of a small
matrix, of a large one, and of a budget that does not fit any cache.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import keras
import numpy as np
import torch
from common import Row, keep, show

import fanin.torch
from fanin.initializers import fill
from fanin.initializers.laws import Normal, TruncatedNormal, Uniform

SEED = 7
SIZES = (10**4, 10**6, 10**8)
QUICK_SIZES = (10**4, 10**6, 10**7)


@dataclass(frozen=True)
class Case:
    """One law: how we draw it, what the peers call it, and what DESIGN.md asks for at the largest size."""

    name: str
    draw: Normal | TruncatedNormal | Uniform
    ours: Callable[..., torch.Tensor]
    torch: Callable[..., torch.Tensor]
    jax: Callable[[], object]
    keras: Callable[[], object]
    numpy: Callable[[np.random.Generator, np.ndarray], object] | None
    over_torch: float
    of_memory: float


CASES = (
    Case(
        "normal", Normal(0.0, 1.0), fanin.torch.normal_, torch.nn.init.normal_,
        lambda: jax.nn.initializers.normal(1.0), lambda: keras.initializers.RandomNormal(0.0, 1.0, seed=SEED),
        lambda generator, out: generator.standard_normal(out=out, dtype=np.float32), 4.0, 0.25,
    ),
    Case(
        "uniform", Uniform(0.0, 1.0), fanin.torch.uniform_, torch.nn.init.uniform_,
        lambda: jax.nn.initializers.uniform(1.0), lambda: keras.initializers.RandomUniform(0.0, 1.0, seed=SEED),
        lambda generator, out: generator.random(out=out, dtype=np.float32), 5.0, 0.4,
    ),
    Case(
        "truncated normal", TruncatedNormal(0.0, 1.0), fanin.torch.trunc_normal_, torch.nn.init.trunc_normal_,
        lambda: jax.nn.initializers.truncated_normal(1.0),
        lambda: keras.initializers.TruncatedNormal(0.0, 1.0, seed=SEED), None, 10.0, 0.4,
    ),
)  # fmt: skip


def in_turns(actions: dict[str, Callable[[], object]], repeats: dict[str, int]) -> dict[str, float]:
    """Median seconds of each action; the first round is not counted."""
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(max(repeats.values())):
        for name, action in actions.items():
            if turn < repeats[name]:
                begun = time.perf_counter()
                action()
                seconds[name].append(time.perf_counter() - begun)
    return {name: median(values) for name, values in seconds.items()}


def law_rows(case: Case, size: int, last: bool) -> list[Row]:
    side = round(size**0.5)
    flat, matrix = torch.empty(size), torch.empty(side, side)
    array, generator = flat.numpy(), np.random.default_rng(SEED)
    drawn = jax.jit(case.jax(), static_argnums=1)
    key, initializer = jax.random.key(SEED), case.keras()
    actions = {
        "fill": lambda: fill(array, case.draw, seed=SEED, name="weight"),
        "torch": lambda: case.torch(flat),
        "fanin.torch": lambda: case.ours(flat),
        "torch matrix": lambda: case.torch(matrix),
        "fanin.torch matrix": lambda: case.ours(matrix),
        "jax": lambda: drawn(key, (size,)).block_until_ready(),
        "keras": lambda: initializer((size,)).block_until_ready(),
        "memory": lambda: flat.fill_(1.0),
    }
    if case.numpy is not None:
        actions["numpy"] = lambda: case.numpy(generator, array)
    few = {10**4: 201, 10**6: 51}.get(size, 7)
    slow = {name: 3 for name in ("torch", "torch matrix") if case.name == "truncated normal" and size > 10**6}
    times = in_turns(actions, {name: slow.get(name, few) for name in actions})
    nano = {name: seconds / size * 1e9 for name, seconds in times.items()}
    what = f"{case.name} {size:.0e}".replace("e+0", "e")
    peer = case.torch.__name__

    def row(ours: str, theirs: str, against: str, budget: float | None = None) -> Row:
        label = what if ours == "fill" else f"{what}, {ours}"
        return Row(label, against, nano[theirs] / nano[ours], budget if last else None, nano[ours], nano[theirs], "ns")

    rows = [
        row("fill", "torch", f"torch.nn.init.{peer}", case.over_torch),
        row("fill", "memory", "tensor.fill_ (share)", case.of_memory),
        row("fill", "jax", "jax.nn.initializers, jit"),
        row("fill", "keras", "keras.initializers (JAX)"),
        row("fanin.torch", "torch", f"torch.nn.init.{peer}"),
        row("fanin.torch matrix", "torch matrix", f"torch.nn.init.{peer}"),
    ]
    return rows + ([row("fill", "numpy", "numpy.random.Generator")] if "numpy" in nano else [])


def orthogonal_row(repeats: int) -> Row:
    weight = torch.empty(2048, 2048)
    times = in_turns(
        {
            "ours": lambda: fanin.torch.orthogonal_(weight),
            "theirs": lambda: torch.nn.init.orthogonal_(weight),
        },
        {"ours": repeats, "theirs": repeats},
    )
    ours, theirs = times["ours"], times["theirs"]
    return Row("orthogonal 2048 x 2048", "torch.nn.init.orthogonal_", theirs / ours, 1.0, ours, theirs, "s")


FIRST = """
import time, numpy as np
{imports}
out = np.empty({size}, np.float32)
begun = time.perf_counter()
{call}
print(time.perf_counter() - begun)
"""


def first_row(size: int) -> Row:
    """The first call in a new process, whatever it has to load."""

    def seconds(imports: str, call: str) -> float:
        code = FIRST.format(imports=imports, call=call, size=size)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout)

    ours = ("from fanin.initializers import fill; from fanin.initializers.laws import Normal",
            "fill(out, Normal(0.0, 1.0), seed=7, name='weight')")  # fmt: skip
    theirs = ("import torch; out_tensor = torch.empty({size})".replace("{size}", str(size)),
              "torch.nn.init.normal_(out_tensor)")  # fmt: skip
    pairs = [(seconds(*ours), seconds(*theirs)) for _ in range(3)]
    mine, other = (median(values) for values in zip(*pairs, strict=True))
    what = f"normal {size:.0e}, first call of a process".replace("e+0", "e")
    return Row(what, "torch.nn.init.normal_", other / mine, None, mine, other, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="sizes up to 1e7, budgets not judged")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/fill.json")
    options = parser.parse_args()
    sizes = QUICK_SIZES if options.quick else SIZES
    rows = []
    for size in sizes:
        for case in CASES:
            rows += law_rows(case, size, size == SIZES[-1])
    rows.append(orthogonal_row(3 if options.quick else 9))
    rows += [first_row(size) for size in (sizes[0], sizes[-1])]
    show(rows, options.json)
    if options.keep:
        modules = {"torch": torch, "jax": jax, "keras": keras, "numpy": np}
        versions = {name: module.__version__ for name, module in modules.items()}
        keep("fill", rows, {**versions, "threads": str(torch.get_num_threads())})


if __name__ == "__main__":
    main()
