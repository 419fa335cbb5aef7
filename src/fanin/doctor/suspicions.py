"""What a check reports before anything is tried."""

from dataclasses import dataclass

from fanin.doctor.cures import Cure
from fanin.records import Severity

__all__ = ["Suspicion"]


@dataclass(frozen=True)
class Suspicion:
    """Something that may be wrong.

    Attributes:
        where, observed, expected: As in `fanin.records.Finding`.
        cure: What to do, a sentence.
        remedy: The same as a change that can be tried; None where it cannot.
        severity: If no cure was tried, or the fact speaks for itself.
        unproven: The severity if the cure was tried and changed nothing; None drops the suspicion. Facts that speak
            for themselves have the same severity in both.
        proven: The severity if the cure helped.
    """

    where: str
    observed: str
    expected: str
    cure: str
    remedy: Cure | None = None
    severity: Severity = "error"
    unproven: Severity | None = "error"
    proven: Severity = "error"
