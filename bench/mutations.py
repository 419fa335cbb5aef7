"""Is a sound network told from the same network broken by a script?

python bench/mutations.py [--quick] [--framework torch] [--only WORD ...] [--ways WORD ...] [--sound]
    [--runs mutations.jsonl] [--finished] [--seconds 2] [--json] [--keep]
python bench/mutations.py --docs

Each network of `models` is initialised by fanin and gets made-up targets: random classes where its output is (n, k),
normal numbers of the output's shape otherwise. It must get a clean bill from `fanin.check`. Then it is broken in each
way of `MUTATIONS`, and the check must name one of the codes that fit first, or at all.

What a mutation does depends on the network: weights before a norm can be a hundred times too large without harm. So
each broken network is trained beside the sound one, by fanin's trial without any cure; where it gets at least
`HARMLESS` as far, the mutation is left out, and the table says so. A training of a large network ends after
`--seconds`; then both are compared at the last step that both took. So few steps cannot tell a slow network from one
that is kept from training: what is missed then is looked at again with all of them.

Every finished row is a line of the file of runs; the same command goes on where it was stopped. With --docs nothing is
run: what is kept is written into docs/check.md.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from common import keep, kept, write_table
from models import FILES, Case, cases
from mutants import MUTATIONS, RATES, Mutation, Patient, adapter, admit

SOUND = "none"
"""What the mutation of the sound network is called."""
HARMLESS = 0.75
"""Share of the sound network's fall of the loss."""
STEPS = 50
PATIENT = 60.0
"""Seconds in which every network here takes all steps."""
OUTCOMES = {
    "first": "named first",
    "named": "named, but not first",
    "missed": "MISSED",
    "harmless": "trains as well",
    "error": "could not be checked",
}


@dataclass(frozen=True)
class Mutated:
    """One network, broken in one way; or not at all, and then `outcome` is ``clean`` or ``false alarm``.

    Attributes:
        outcome: One of `OUTCOMES`.
        found: The codes of errors, then of warnings.
        progress: The fall of its loss over that of the sound network's.
        losses: Of the training of the sound network, before each step and after the last.
        rate: What the sound network is trained with.
        seconds: What the check took.
    """

    framework: str
    model: str
    mutation: str
    outcome: str
    found: tuple[str, ...] = ()
    progress: float | None = None
    note: str = ""
    losses: tuple[float, ...] = ()
    rate: float = RATES[0]
    seconds: float = 0.0


def course(patient: Patient, seconds: float, loss: float = 1.0) -> tuple[float, ...]:
    """The losses of some steps of training, in units of the sound network's."""
    trial = adapter(patient).trial(
        patient.model, patient.x, patient.y, loss=patient.loss, optimizer=patient.optimizer, steps=STEPS,
        seconds=seconds,
    )  # fmt: skip
    return tuple(each / loss for each in trial.losses)


def progress_of(sound: Sequence[float], broken: Sequence[float]) -> float:
    """The fall of a loss over that of the sound network's, at the last step that both took."""
    if not np.isfinite(broken[-1]):
        return -np.inf
    last = min(len(sound), len(broken)) - 1
    return float((sound[0] - broken[last]) / (sound[0] - sound[last]))


def codes(patient: Patient, seconds: float) -> tuple[str, ...]:
    """What the doctor finds: errors, then warnings."""
    import fanin

    found = fanin.check(
        patient.model, patient.x, patient.y, loss=patient.loss, optimizer=patient.optimizer, steps=STEPS,
        seconds=seconds,
    ).findings  # fmt: skip
    return tuple(f"{each.code}{'!' if each.severity == 'error' else ''}" for each in found if each.severity != "info")


def sound(case: Case, seconds: float, rates: Sequence[float] = RATES) -> Mutated:
    """The bill of the sound network, at the best of some rates."""
    head, begun = (case.framework, case.name, SOUND), time.perf_counter()
    try:
        patient = admit(case)
        courses = {rate: course(replace(patient, rate=rate), seconds) for rate in rates}
        best = min(courses, key=lambda each: courses[each][-1] if np.isfinite(courses[each][-1]) else np.inf)
        found = codes(replace(patient, rate=best), seconds)
    except Exception as error:  # of whatever kind: it is what the user gets
        return Mutated(*head, "error", note=_message(error))
    outcome = "false alarm" if any(code.endswith("!") for code in found) else "clean"
    return Mutated(*head, outcome, found, 1.0, "", courses[best], best, time.perf_counter() - begun)


def broken(case: Case, mutation: Mutation, healthy: Mutated, seconds: float) -> Mutated:
    """What the doctor says of a network that is broken in one way, if that harms it.

    Args:
        healthy: The row of the sound network.
    """
    head, begun = (case.framework, case.name, mutation.name), time.perf_counter()
    try:
        patient = mutation.breaks(admit(case, healthy.rate))
        if patient is None:
            return Mutated(*head, "impossible")
        frozen = adapter(patient).setup(patient.model).frozen
        progress = 0.0 if frozen else progress_of(healthy.losses, course(patient, seconds, mutation.loss))
        if progress >= HARMLESS:
            return Mutated(*head, "harmless", progress=progress)
        found = codes(patient, seconds)
    except Exception as error:
        return Mutated(*head, "error", note=_message(error))
    plain = [code.rstrip("!") for code in found]
    first = bool(plain) and plain[0] in mutation.codes
    outcome = "first" if first else "named" if set(plain) & set(mutation.codes) else "missed"
    known = progress if np.isfinite(progress) else None
    return Mutated(*head, outcome, found, known, seconds=time.perf_counter() - begun)


def judged(case: Case, mutation: Mutation, healthy: Mutated, seconds: float) -> Mutated:
    """What the doctor says; again with all steps, where it says the wrong thing after a few."""
    row = broken(case, mutation, healthy, seconds)
    if row.outcome in ("missed", "named") and seconds < PATIENT:
        row = broken(case, mutation, sound(case, PATIENT, (healthy.rate,)), PATIENT)
    return row


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def show(row: Mutated, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(row)), flush=True)
        return
    progress = "      " if row.progress is None else f"{max(row.progress, -9.99):6.2f}"
    print(f"{row.framework:6}{row.model:26}{row.mutation:22}{OUTCOMES.get(row.outcome, row.outcome):22}{progress}  "
          f"{', '.join(row.found) or row.note[:80]}", flush=True)  # fmt: skip


def totals(rows: Sequence[Mutated]) -> None:
    """For each mutation how many networks it harms, and in how many that was said."""
    clean = [row for row in rows if row.mutation == SOUND]
    print(f"\n{sum(row.outcome == 'clean' for row in clean)} of {len(clean)} sound networks without an error, "
          f"{sum(row.outcome == 'clean' and not row.found for row in clean)} without a warning")  # fmt: skip
    print(f"{'':22}" + "".join(f"{text:>22}" for text in OUTCOMES.values()))
    for name in [each.name for each in MUTATIONS] + [""]:
        own = [row for row in rows if row.mutation != SOUND and name in ("", row.mutation)]
        counts = (sum(row.outcome == outcome for row in own) for outcome in OUTCOMES)
        print(f"{name or 'all':22}" + "".join(f"{count:22d}" for count in counts))


def table() -> str:
    """What is kept as a table in Markdown: the networks that each mutation harms, and what was said of them."""
    rows = [row for row in kept("mutations") if row["outcome"] in ("first", "named", "missed")]
    lines = ["| broken by | networks that it harms | named first | named later | missed |", "|---|---|---|---|---|"]
    for name in [*(each.name for each in MUTATIONS), ""]:
        own = [row for row in rows if name in ("", row["mutation"])]
        counts = (sum(row["outcome"] == outcome for row in own) for outcome in ("first", "named", "missed"))
        lines.append(f"| {name or 'any'} | {len(own)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def read(file: Path) -> dict[tuple[str, str, str], Mutated]:
    """The finished rows of a file, by what determines them."""
    lines = file.read_text().splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be cut short
    rows = [Mutated(**record | {name: tuple(record[name]) for name in ("found", "losses")}) for record in records]
    return {(row.framework, row.model, row.mutation): row for row in rows}


def rows_of(chosen: Sequence[Case], ways: Sequence[Mutation], file: Path, seconds: float) -> Iterator[Mutated]:
    """All sound networks, then each broken one; what the file lacks is run and added to it."""
    done = read(file)

    def row(case: Case, name: str, make: Callable[[], Mutated]) -> Mutated:
        """One row, from the file if it is there."""
        key = (case.framework, case.name, name)
        if key not in done:
            done[key] = make()
            with file.open("a") as stream:
                stream.write(json.dumps(asdict(done[key])) + "\n")
        return done[key]

    for case in chosen:
        yield row(case, SOUND, partial(sound, case, seconds))
    for case in chosen:
        healthy = done[case.framework, case.name, SOUND]
        for mutation in ways if healthy.losses else ():
            found = row(case, mutation.name, partial(judged, case, mutation, healthy, seconds))
            if found.outcome != "impossible":
                yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few networks of each kind")
    parser.add_argument("--framework", action="append", choices=list(FILES))
    parser.add_argument("--only", nargs="+", default=[""], help="networks whose name has one of these words")
    parser.add_argument("--ways", nargs="+", default=[""], help="mutations whose name has one of these words")
    parser.add_argument("--sound", action="store_true", help="break nothing")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "fanin_mutations.jsonl")
    parser.add_argument("--finished", action="store_true", help="run nothing, show what the file has")
    parser.add_argument("--seconds", type=float, default=2.0, help="after which a training ends")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/mutations.json")
    parser.add_argument("--docs", action="store_true", help="only write docs/check.md from what is kept")
    options = parser.parse_args()
    if options.docs:
        write_table("check.md", "mutations.py", table())
        return
    os.environ.setdefault("KERAS_BACKEND", "jax")
    warnings.simplefilter("ignore")  # frameworks' own words on some of the faults
    found = [case for framework in options.framework or FILES for case in cases(framework, options.quick)]
    chosen = [case for case in found if any(word in case.name for word in options.only)]
    ways = () if options.sound else [each for each in MUTATIONS if any(word in each.name for word in options.ways)]
    finished = (row for row in read(options.runs).values() if row.outcome != "impossible")
    rows = []
    for row in finished if options.finished else rows_of(chosen, ways, options.runs, options.seconds):
        show(row, options.json)
        rows.append(replace(row, losses=()))  # fifty numbers that say no more than `progress`
    if not options.json:
        totals(rows)
    if options.keep:
        keep("mutations", rows, {name: metadata.version(name) for name in ("fanin", "torch", "keras", "jax", "flax")})


if __name__ == "__main__":
    main()
