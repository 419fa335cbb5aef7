"""What the theory costs: a gain, a card, a phase diagram, and importing it.

python bench/theory.py [--quick] [--json] [--keep]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from common import Row, keep, show

from fanin import theory
from fanin.theory import criticality
from fanin.theory.card import card


def seconds(action: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        criticality.curve.cache_clear()
        begun = time.perf_counter()
        action()
        found.append(time.perf_counter() - begun)
    return median(found)


def importing(module: str) -> float:
    code = f"import time, numpy; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    done = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return median(float(each.stdout) for each in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/theory.json")
    options = parser.parse_args()
    repeats = 3 if options.quick else 15
    cases = (
        ("gain of mish", lambda: theory.gain("mish"), 0.005),
        ("gain of a user's function", lambda: theory.gain(lambda z: z * (z > 0.3)), None),
        ("phase diagram of tanh, 61 x 61", lambda: theory.phase_diagram("tanh"), 0.3),
        ("phase diagram of gelu, 61 x 61", lambda: theory.phase_diagram("gelu"), 0.3),
        ("card of gelu", lambda: card("gelu"), None),
        ("propagate 50 layers of tanh", lambda: theory.propagate([theory.Layer("tanh", 1.5, 0.05)] * 50), None),
    )
    rows = []
    for what, action, allowed in cases:
        taken = seconds(action, repeats)
        limit = allowed or taken
        rows.append(Row(what, "its limit", limit / taken, 1.0 if allowed else None, taken, limit, "s"))
    taken = importing("fanin.theory")
    rows.append(Row("import fanin.theory, after numpy", "none", 1.0, None, taken, taken, "s"))
    show(rows, options.json)
    if options.keep:
        import numpy

        keep("theory", rows, {"numpy": numpy.__version__})


if __name__ == "__main__":
    main()
