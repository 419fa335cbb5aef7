"""What a check of a model costs: time and memory against one plain forward and backward pass over the same batch.

Each side runs in a process of its own, on random classes with PyTorch's cross-entropy. Time is the best of several
turns after one that is not counted; memory is the highest resident size above that before the first. `fanin.check` is
run with ``steps=0``: what it measures and looks at, without training copies.

    python bench/check.py [--quick] [--only WORD ...] [--json] [--keep]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from common import Row, keep, show
from models import Case, cases

SIDES = ("plain", "check")
BUDGETS = {"time": 1 / 3, "memory": 1 / 1.5}
"""At most three times the time and one and a half times the memory."""
NETWORKS = ("mlp 50 relu", "vgg", "resnet 18", "mobilenet", "transformer 6 pre-norm", "lstm")
QUICK = ("vgg", "transformer 6 pre-norm")


def problem(case: Case) -> tuple[Any, Any, Any]:
    """A model, its batch and random classes."""
    import torch

    torch.manual_seed(0)
    model, x = case.build(), torch.as_tensor(case.example())
    with torch.no_grad():
        outputs = model(x)
    return model, x, torch.randint(0, outputs.shape[-1], outputs.shape[:-1])


def plain(model: Any, x: Any, y: Any) -> None:
    """One forward and one backward pass."""
    import torch

    outputs = model(x)
    torch.nn.functional.cross_entropy(outputs.flatten(0, -2), y.flatten()).backward()
    model.zero_grad()


def check(model: Any, x: Any, y: Any) -> None:
    import torch

    import fanin

    fanin.check(
        model, x, y, steps=0,
        loss=lambda outputs, y: torch.nn.functional.cross_entropy(outputs.flatten(0, -2), y.flatten()),
    )  # fmt: skip


def side(name: str, network: str, turns: int) -> dict[str, float]:
    """Seconds and bytes of one side, in this process."""
    run: Callable[..., None] = {"plain": plain, "check": check}[name]
    case = next(each for each in cases("torch") if each.name == network)
    tiny = next(each for each in cases("torch") if each.name.startswith("mlp 5 "))
    run(*problem(tiny))  # imports all that it needs
    made = problem(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = []
    for _ in range(turns + 1):
        begun = time.perf_counter()
        run(*made)
        taken.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"time": min(taken[1:]), "memory": max(1, peak) / 1024}


def in_process(name: str, network: str, turns: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", name, "--network", network, "--turns", str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(network: str, turns: int) -> list[Row]:
    """The rows of one network."""
    them, us = (in_process(name, network, turns) for name in SIDES)
    return [
        Row(f"{network}, {what}", "forward and backward", them[what] / us[what], budget, us[what], them[what], unit)
        for (what, budget), unit in zip(BUDGETS.items(), ("s", "MiB"), strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two networks")
    parser.add_argument("--only", nargs="+", default=[], help="networks whose name has one of these words")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/check.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--turns", type=int, default=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options.side, options.network, options.turns)))
        return
    rows: list[Row] = []
    for network in QUICK if options.quick else NETWORKS:
        if options.only and not any(word in network for word in options.only):
            continue
        new = measure(network, options.turns)
        show(new, options.json)
        rows += new
    if options.keep:
        keep("check", rows, {name: metadata.version(name) for name in ("fanin", "torch")})


if __name__ == "__main__":
    main()
