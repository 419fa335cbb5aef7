"""Does `fanin.check` name what keeps a network from training, and leave healthy ones alone?

python bench/doctor.py [--framework torch] [--only WORD ...] [--seeds 1] [--steps 50] [--part 1] [--validate]
                       [--json] [--keep]
python bench/doctor.py --docs

Each network of `corpus` is built anew for each seed and checked with its batch, loss and optimizer. Shown are the
codes that are right, the first that was named, and all of severity error and warning. Then, with Wilson's 95 %
intervals over runs: how often each cause was named first (recall), how often it was right where it was named first
(precision), and how many healthy networks have an error or a warning. A check that raises names nothing.

With --part 2 to 6 that part of `corpus` is taken; its causes were settled before any doctor had seen its cases.
With --validate nothing is checked: each network is trained to show that the corpus holds what it says.
With --docs nothing is run: the kept results are written into docs/check.md.
"""

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from common import keep, kept, write_table
from corpus import FILES, PARTS, Case, cases
from corpus.validate import STEPS, Verdict, seed_all, validate

NAMED, FALSE = 0.8, 0.02
"""What must be reached: causes named first, and at most so many healthy networks with an error."""
SHOWN = 90
"""Characters of an error that the table shows."""


@dataclass(frozen=True)
class Checked:
    """One network, checked once.

    Attributes:
        causes: Codes of which any is right; none for a healthy network.
        first: The code of the first error or warning; empty for none.
        errors, warnings: All codes of that severity, in order.
        raised: What the check raised, or empty.
    """

    framework: str
    name: str
    seed: int
    causes: tuple[str, ...]
    first: str = ""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    raised: str = ""

    @property
    def right(self) -> bool:
        return self.first in self.causes if self.causes else not self.errors and not self.raised


def check(case: Case, seed: int, steps: int) -> Checked:
    """One network. Whatever the check raises is its result."""
    import fanin

    seed_all(case.framework, seed)
    built, (x, y) = case.build(), case.data()
    model, optimizer = built if isinstance(built, tuple) else (built, case.optimizer)
    head = (case.framework, case.name, seed, case.causes)
    begun = time.perf_counter()
    try:
        found = fanin.check(model, x, y, loss=case.loss, optimizer=optimizer, steps=steps).findings
    except Exception as error:  # of whatever kind: it is what the user gets
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        return Checked(*head, seconds=time.perf_counter() - begun, raised=message)
    codes = {level: tuple(each.code for each in found if each.severity == level) for level in ("error", "warning")}
    first = next((each.code for each in found if each.severity in codes), "")
    return Checked(*head, first, codes["error"], codes["warning"], time.perf_counter() - begun)


def wilson(hits: int, runs: int) -> tuple[float, float]:
    """The 95 % interval of a share.

    >>> [round(each, 3) for each in wilson(8, 10)]
    [0.49, 0.943]
    """
    if not runs:
        return 0.0, 1.0
    z = 1.959964
    share, extra = hits / runs, z * z / runs
    half = z * math.sqrt(share * (1 - share) / runs + extra / (4 * runs))
    return tuple(max(0.0, min(1.0, (share + extra / 2 + sign * half) / (1 + extra))) for sign in (-1, 1))


def share(hits: int, runs: int) -> str:
    if not runs:
        return f"{'none':>24}"
    low, high = wilson(hits, runs)
    return f"{hits:3d}/{runs:<3d} {hits / runs:4.0%} ({low:4.0%} to {high:4.0%})"


def show(row: Checked, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(row)), flush=True)
        return
    mark = "    " if row.right else "MISS" if row.causes else "FALS"
    others = [f"{code}!" for code in row.errors] + list(row.warnings)
    said = row.raised[:SHOWN] if row.raised else f"{row.first or '-':26} {', '.join(others)}"
    expected = " or ".join(row.causes) or "healthy"
    print(f"{mark} {row.framework:6}{row.name:37}{expected[:50]:51}{row.seconds:6.1f} s  {said}", flush=True)


def summary(rows: Sequence[Checked]) -> None:
    """Recall and precision by cause, then what must be reached."""
    faulty, healthy = [row for row in rows if row.causes], [row for row in rows if not row.causes]
    print(f"\n{'':27}{'named first':31}{'named at all':31}right where named first")
    for code in sorted({row.causes[0] for row in faulty} | {row.first for row in rows if row.first}):
        own = [row for row in faulty if row.causes[0] == code]
        named = [row for row in rows if row.first == code]
        seen = sum(bool(set(row.causes) & {*row.errors, *row.warnings}) for row in own)
        columns = ((sum(row.right for row in own), len(own)), (seen, len(own)),
                   (sum(code in row.causes for row in named), len(named)))  # fmt: skip
        print(f"{code:27}" + "   ".join(f"{share(*each):28}" for each in columns))
    hits = sum(row.right for row in faulty)
    _line("causes named first", hits, len(faulty), hits >= NAMED * len(faulty), f"at least {NAMED:.0%}")
    false = sum(not row.right for row in healthy)
    _line("healthy with an error", false, len(healthy), false <= FALSE * len(healthy), f"at most {FALSE:.0%}")
    _line("healthy with a warning", sum(bool(row.warnings) for row in healthy), len(healthy))
    _line("checks that raised", sum(bool(row.raised) for row in rows), len(rows))


def _line(what: str, hits: int, runs: int, met: bool = True, wanted: str = "") -> None:
    if runs:
        print(f"{what:27}{share(hits, runs)}" + (f"  ({wanted}: {'met' if met else 'MISSED'})" if wanted else ""))


def show_verdicts(verdicts: Iterable[Verdict], as_json: bool) -> list[Verdict]:
    """Each verdict as it comes, and at the end how many cases hold."""
    rows = []
    for row in verdicts:
        rows.append(row)
        if as_json:
            print(json.dumps(asdict(row)), flush=True)
            continue
        mended = "" if row.mended is None else f"{row.mended:6.2f}"
        mark = "    " if row.holds else "FAIL"
        print(f"{mark} {row.framework:6}{row.name:37}{row.measure:19}{row.share:6.2f} {mended:6}  {row.note[:SHOWN]}",
              flush=True)  # fmt: skip
    if not as_json:
        print(f"{sum(row.holds for row in rows)} of {len(rows)} hold; numbers are shares of the way from a constant "
              "prediction to a perfect one, as it is and mended")  # fmt: skip
    return rows


NAMES = ("", "_second", "_third", "_fourth", "_fifth", "_sixth")
"""What the kept results of a part are called."""
KEPT = {
    "doctor": "the corpus that the checks were made with",
    "doctor_second_before": "a second corpus, by somebody who did not know the checks: before anything was mended",
    "doctor_second": "the same after what it showed was mended",
    "doctor_third_before": "a third one, made in the same way later: before anything was mended",
    "doctor_third": "the same after what it showed was mended",
    "doctor_fourth_before": "a fourth one, of questions as they came: before anything was mended",
    "doctor_fourth": "the same after some of what it showed was mended",
    "doctor_fifth_before": "a fifth one, of ordinary questions, by somebody who had the list of checks alone: "
    "before anything was mended",
    "doctor_fifth": "the same after it was mended",
    "doctor_sixth_before": "a sixth one, made as the fifth: before anything was mended",
    "doctor_sixth": "the same after it was mended",
}
"""The kept results that docs/check.md shows, and what they are of."""


def table() -> str:
    """The kept results as a table in Markdown."""
    lines = ["| networks | causes named first | healthy with an error | with a warning |", "|---|---|---|---|"]
    for name, words in KEPT.items():
        rows = kept(name)
        faulty, healthy = [row for row in rows if row["causes"]], [row for row in rows if not row["causes"]]
        counts = (
            (sum(row["first"] in row["causes"] for row in faulty), len(faulty)),
            (sum(bool(row["errors"] or row["raised"]) for row in healthy), len(healthy)),
            (sum(bool(row["warnings"]) for row in healthy), len(healthy)),
        )
        lines.append(f"| {words} | " + " | ".join(" ".join(share(*each).split()) for each in counts) + " |")
    return "\n".join(lines)


def checks(chosen: Iterable[Case], seeds: int, steps: int, as_json: bool) -> Iterator[Checked]:
    for case in chosen:
        for seed in range(seeds):
            row = check(case, seed, steps)
            show(row, as_json)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", action="append", choices=list(FILES))
    parser.add_argument("--only", nargs="+", default=[""], help="networks whose name or causes have one of these words")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of training in a check (50) or to validate")
    parser.add_argument("--part", type=int, default=1, choices=range(1, 1 + len(PARTS)), help="of the corpus")
    parser.add_argument("--validate", action="store_true", help="train the corpus instead of checking it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/doctor.json, or corpus.json")
    parser.add_argument("--docs", action="store_true", help="only write docs/check.md from what is kept")
    options = parser.parse_args()
    if options.docs:
        write_table("check.md", "doctor.py", table())
        return
    os.environ.setdefault("KERAS_BACKEND", "jax")
    warnings.simplefilter("ignore")  # PyTorch's own words on some of the faults
    found = [case for framework in options.framework or FILES for case in cases(framework, options.part)]
    chosen = [case for case in found if any(word in " ".join((case.name, *case.causes)) for word in options.only)]
    if options.validate:
        rows = show_verdicts(validate(chosen, options.seeds, options.steps or STEPS), options.json)
    else:
        rows = list(checks(chosen, options.seeds, 50 if options.steps is None else options.steps, options.json))
        if not options.json:
            summary(rows)
    if options.keep:
        wanted = ("fanin", "torch", "keras", "jax", "scikit-learn")
        name = "corpus" if options.validate else "doctor"
        keep(f"{name}{NAMES[options.part - 1]}", rows, {name: metadata.version(name) for name in wanted})


if __name__ == "__main__":
    main()
