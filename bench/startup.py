"""What it costs to import fanin and to ask for help, in seconds above an empty Python process.

python bench/startup.py [--quick] [--json] [--keep]
"""

import argparse
import subprocess
import sys
import time
from statistics import median

from common import Row, keep, show

COMMANDS = {
    "import fanin": ([sys.executable, "-c", "import fanin"], 0.15),
    "fanin --help": ([sys.executable, "-m", "fanin.cli", "--help"], 0.35),
}
EMPTY = [sys.executable, "-c", "pass"]


def seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/startup.json")
    options = parser.parse_args()
    rows = []
    for name, (command, allowed) in COMMANDS.items():
        seconds(command)
        pairs = [(seconds(command), seconds(EMPTY)) for _ in range(5 if options.quick else 21)]
        extra = median(a - b for a, b in pairs)
        # The ratio is allowed over needed, so that 1 or more means that the budget is met.
        rows.append(Row(name, f"python -c pass + {allowed} s", allowed / extra, 1.0, extra, allowed, "s above empty"))
    show(rows, options.json)
    if options.keep:
        keep("startup", rows, {})


if __name__ == "__main__":
    main()
