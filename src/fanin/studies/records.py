"""What a study is, under which conditions it is run, what it measured and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError
from fanin.experiments.executor import Progress, Quiet
from fanin.records import to_plain

__all__ = [
    "OPEN",
    "REFUTED",
    "SUPPORTED",
    "Answer",
    "Conditions",
    "Contrast",
    "Designed",
    "Evidence",
    "Judged",
    "Study",
    "Verdict",
]

Verdict = Literal["supported", "refuted", "not decided at this size"]
SUPPORTED: Verdict = "supported"
REFUTED: Verdict = "refuted"
OPEN: Verdict = "not decided at this size"


@dataclass(frozen=True)
class Conditions:
    """How a study is run.

    Attributes:
        size: ``quick`` (digits, under a minute) or ``full`` (the size of the original).
        seeds: Paired repetitions; below 6 nothing is decided.
        store: A file that keeps finished training runs, or None.
        progress: Who is told how it goes.
    """

    size: Literal["quick", "full"] = "quick"
    seeds: int = 8
    store: Path | None = None
    progress: Progress = field(default_factory=Quiet, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InvalidValueError: If the size is neither of the two, or there is no seed.
        """
        if self.size not in ("quick", "full"):
            raise InvalidValueError("There is no such size of a study", given=self.size, allowed="quick or full")
        if self.seeds < 1:
            raise InvalidValueError(
                "The number of seeds is too small", given=self.seeds, allowed="a whole number of 1 or more",
                hint="8 is the default; below 6 nothing is decided.",
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Contrast:
    """One claim as a number that is measured once for each seed.

    Attributes:
        claim: The claim, a sentence.
        source: Which text says so.
        rule: ``more``: the number is above 0, and `margin` or more cannot be excluded. ``same``: it lies within
            `margin` on either side of 0.
        differences: The number by seed, in `unit`; what is not finite must have been replaced before.
        margin: The smallest size that would matter, in `unit`.
        unit: Of the differences, such as ``points of test accuracy``.
        main: Whether the study's own verdict rests on it; if not, it is a finding beside it.
    """

    claim: str
    source: str
    rule: Literal["more", "same"]
    differences: NDArray[np.float64]
    margin: float
    unit: str
    main: bool = True


@dataclass(frozen=True)
class Evidence:
    """What a study measured.

    Attributes:
        contrasts: What is to be judged; one or more of them `main`.
        numbers: What else was measured, plain and ready for JSON.
    """

    contrasts: tuple[Contrast, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """One claim with its verdict.

    Attributes:
        effect: Mean over seeds, with its 95 % interval `low` to `high` (infinite below 6 seeds).
        p: Of the sign-flip test, adjusted for all claims of the study.
        matters: Where the smallest effects that would matter lie, in `unit`: one number, or one on either side of 0.
    """

    claim: str
    source: str
    verdict: Verdict
    effect: float
    low: float
    high: float
    p: float
    unit: str
    seeds: int
    main: bool
    matters: tuple[float, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of a study.

    Attributes:
        verdict: That of the main claims together.
        sentence: The verdict with its numbers.
        claims: Each claim with its own verdict, effect and interval.
        numbers: What else was measured.
    """

    study: str
    size: str
    verdict: Verdict
    sentence: str
    claims: tuple[Judged, ...]
    numbers: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; numbers that are not finite as null or ``"inf"``."""
        plain: dict[str, Any] = to_plain(asdict(self))
        return plain

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Designed:
    """How a study measures, at its two sizes; called with conditions it does so.

    Attributes:
        quick, full: The design of each size, whatever `measure` takes.
        measure: From a design and the conditions to the evidence.
    """

    quick: Any
    full: Any
    measure: Callable[[Any, Conditions], Evidence]

    def __call__(self, conditions: Conditions) -> Evidence:
        """Measure."""
        return self.measure(getattr(self, conditions.size), conditions)


@dataclass(frozen=True)
class Study:
    """A question with all that it takes to answer it. Called with conditions it is run.

    Attributes:
        name: By which it is run.
        question: What is asked.
        claim: What is said about it, and judged.
        sources: The texts that say so.
        design: What is measured, in plain words.
        supports, refutes: What would speak for the claim, and what against it.
        run: Measures; the verdict is not its business.
    """

    name: str
    question: str
    claim: str
    sources: tuple[str, ...]
    design: str
    supports: str
    refutes: str
    run: Callable[[Conditions], Evidence]

    def __call__(self, conditions: Conditions | None = None) -> Answer:
        """Run the study and judge its claim.

        Raises:
            FaninError: If something given cannot be, or cannot be trained.
        """
        from fanin.studies.judge import answer

        chosen = conditions or Conditions()
        return answer(self, self.run(chosen), chosen.size)
