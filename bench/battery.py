"""Does every network start with a signal and a gradient that keep their size, whoever initialises it?

python bench/battery.py [--quick] [--json] [--keep] [--framework torch] [--only NAME ...] [--seeds 1]

Each network of `models` is built and initialised in each way, then run forward and backward once on an example.
Shown are, over its trunk (see `signals`), the largest over the smallest second moment of the signal and squared
norm of the gradient, and the last over the first (of the last input); the median over seeds. `flat` means that
both stay within a factor of 2 both ways. A way that fails is shown with its error. PyTorch is measured by autograd
itself, Keras and Flax by fanin's probe.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from math import nan
from statistics import median
from typing import Any

from common import keep
from models import FILES, Case, cases
from peers import WAYS, Way
from signals import FLAT, Flow, fanin_flow, finite, spread, torch_flow

ADAPTERS = {"keras": "fanin.keras.adapter", "flax": "fanin.jax.adapter"}
SIDES = ("signal", "gradient")
SHOWN = 60
"""Characters of an error that the table shows."""


@dataclass(frozen=True)
class Measured:
    """One network, initialised in one way; numbers are medians over seeds, None where they are infinite.

    Attributes:
        forward, backward: Largest over smallest size of signal and of gradient on the trunk.
        forward_last, backward_last: Last over first.
        steps: Of the trunk, that were measured.
        seconds: That the way took.
        flat: Whether both spreads are within `FLAT`; no for a way that failed.
        error: Why it failed, or empty.
        notes: What fanin said of the whole model.
    """

    framework: str
    family: str
    model: str
    way: str
    forward: float | None = None
    forward_last: float | None = None
    backward: float | None = None
    backward_last: float | None = None
    steps: int = 0
    seconds: float | None = None
    flat: bool = False
    error: str = ""
    notes: tuple[str, ...] = ()


def measure(case: Case, name: str, way: Way, seeds: Sequence[int]) -> Measured:
    """One network in one way. What any way raises is its result."""
    head = (case.framework, case.family, case.name, name)
    flows, seconds, notes = [], [], ()
    for seed in seeds:
        _seed(case.framework, seed)
        try:
            model, example = case.build(), case.example()
            begun = time.perf_counter()
            done = way(model, example, seed)
            seconds.append(time.perf_counter() - begun)
        except Exception as error:  # a peer's, of whatever kind
            return Measured(*head, error=f"{type(error).__name__}: {error}".splitlines()[0])
        notes = tuple(getattr(done, "notes", ())) if name.startswith("fanin") else ()
        flows.append(flow(case, model, example))
    # Of several inputs the one that fares worst counts.
    forward, backward = (median(max(spread(getattr(f, side)) for f in each) for each in flows) for side in SIDES)
    lasts = [median(_last(getattr(each[-1], side)) for each in flows) for side in SIDES]
    return Measured(
        *head, finite(forward), finite(lasts[0]), finite(backward), finite(lasts[1]),
        sum(len(f.signal) for f in flows[0]), median(seconds), forward <= FLAT and backward <= FLAT, notes=notes,
    )  # fmt: skip


def flow(case: Case, model: Any, example: Any) -> list[Flow]:
    if case.framework == "torch":
        return torch_flow(model.train(), example)

    return fanin_flow(
        import_module(f"fanin.{'jax' if case.framework == 'flax' else case.framework}.adapter"), model, example
    )


def _last(sizes: Sequence[float]) -> float:
    return sizes[-1] / sizes[0] if sizes and sizes[0] else nan


def _seed(framework: str, seed: int) -> None:
    if framework == "torch":
        import torch

        torch.manual_seed(seed)
    elif framework == "keras":
        import keras

        keras.utils.set_random_seed(seed)


def battery(chosen: Sequence[Case], ways: Sequence[str], seeds: Sequence[int]) -> Iterator[Measured]:
    for case in chosen:
        for name, way in WAYS[case.framework].items():
            if name in ways or not ways:
                yield measure(case, name, way, seeds)


def show(row: Measured, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(row)), flush=True)
        return
    if row.error:
        numbers = row.error if len(row.error) <= SHOWN else f"{row.error[:SHOWN]}..."
    else:
        pairs = ((row.forward, row.forward_last), (row.backward, row.backward_last))
        numbers = "   ".join(" ".join("      inf" if v is None else f"{v:>9.3g}" for v in pair) for pair in pairs)
        numbers += f"   {row.steps:4d}  {row.seconds:7.2f} s  {'flat' if row.flat else 'NOT FLAT'}"
    print(f"{row.framework:6}{row.model:26}{row.way:19}{numbers}", flush=True)


def totals(rows: Sequence[Measured]) -> None:
    """For each framework, how many networks each way leaves flat."""
    for framework in dict.fromkeys(row.framework for row in rows):
        own = [row for row in rows if row.framework == framework]
        count = len({row.model for row in own})
        flat = {way: sum(row.flat for row in own if row.way == way) for way in dict.fromkeys(row.way for row in own)}
        print(f"{framework}: flat, of {count}: " + ", ".join(f"{way} {number}" for way, number in flat.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few networks of each kind, in PyTorch")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/battery.json")
    parser.add_argument("--framework", action="append", choices=list(FILES))
    parser.add_argument("--only", nargs="+", default=[], help="networks whose name has one of these words")
    parser.add_argument("--ways", nargs="+", default=[], help="only these ways, such as fanin")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    warnings.simplefilter("ignore")  # peers' words on what they leave alone
    frameworks = options.framework or (["torch"] if options.quick else list(FILES))
    if not options.json:
        print(f"{'':51}{'signal: max/min  last/first':>19}   {'gradient: same':>19}   steps")
    rows = []
    found = [case for framework in frameworks for case in cases(framework, options.quick)]
    chosen = [case for case in found if any(word in case.name for word in options.only or [""])]
    for row in battery(chosen, options.ways, range(options.seeds)):
        show(row, options.json)
        rows.append(row)
    if not options.json:
        totals(rows)
    if options.keep:
        wanted = ("fanin", "anyinit", "torch", "keras", "jax", "flax", "transformers")
        keep("battery", rows, {name: metadata.version(name) for name in wanted})


if __name__ == "__main__":
    main()
