"""What a check of a model has found, for people and for machines."""

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from fanin.doctor.table import CHECKS
from fanin.records import SEVERITIES, Finding, ModelInfo, Setup, Trial, Vitals, to_plain
from fanin.records.frames import frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Checkup"]


@dataclass(frozen=True)
class Checkup:
    """The findings on a model, causes before symptoms and the worst first.

    Attributes:
        trial: How the model as it is trained on the batch; None where nothing was trained.
        notes: Sentences on what could not be looked at.
    """

    findings: tuple[Finding, ...]
    info: ModelInfo
    vitals: Vitals
    setup: Setup
    trial: Trial | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that keeps, or may keep, the model from training."""
        return all(finding.severity == "info" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence."""
        counts = {each: sum(finding.severity == each for finding in self.findings) for each in SEVERITIES}
        if counts["error"]:
            return f"{CHECKS[self.findings[0].code].headline}: {_count(counts['error'], 'fault')} found" + (
                f", {_count(counts['warning'], 'warning')}." if counts["warning"] else "."
            )
        if counts["warning"]:
            return f"No fault found, {_count(counts['warning'], 'warning')}."
        if self.trial is not None and any(finding.code == "plateau" for finding in self.findings):
            return f"No fault found, but hardly anything was learned in {len(self.trial.losses) - 1} steps."
        return "No fault found: this model can be trained as it starts."

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, ready for JSON."""
        vitals = {
            name: value for name, value in vars(self.vitals).items() if name not in ("lowest", "highest", "outputs")
        }
        trial = None if self.trial is None else {
            "losses": self.trial.losses, "gradients": dict(self.trial.gradients), "updates": dict(self.trial.updates),
        }  # fmt: skip
        return to_plain({  # type: ignore[no-any-return]
            "ok": self.ok, "verdict": self.verdict, "findings": [each.to_dict() for each in self.findings],
            "notes": list(self.notes), "setup": asdict(self.setup), "vitals": vitals, "trial": trial,
        })  # fmt: skip

    def to_pandas(self) -> "pd.DataFrame":
        """One row for each finding.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        columns = ("severity", "code", "where", "observed", "expected", "cause", "cure")
        return frame({name: getattr(each, name) for name in columns} for each in self.findings)

    def __str__(self) -> str:
        return "\n\n".join([self.verdict, *("\n".join(lines(finding)) for finding in self.findings), *self.notes])

    def _repr_html_(self) -> str:
        """The findings, for notebooks."""
        found = "".join(
            f"<li><b>{escape(CHECKS[each.code].headline)}</b> ({each.severity}){_listed(lines(each)[1:])}</li>"
            for each in self.findings
        )
        return f"<p>{escape(self.verdict)}</p><ul>{found}</ul>{''.join(f'<p>{escape(n)}</p>' for n in self.notes)}"


def lines(finding: Finding) -> list[str]:
    """A finding in sentences.

    Example:
        >>> lines(Finding("plateau", "error", "", "accuracy 0.1", "more", "No step leads anywhere.", "Start anew."))[0]
        'Error: Nothing is learned [plateau]'
    """
    where = f" at {finding.where}" if finding.where else ""
    told = [
        f"{finding.severity.capitalize()}: {CHECKS[finding.code].headline}{where} [{finding.code}]",
        f"  Seen: {finding.observed}.",
        f"  Expected: {finding.expected}.",
        f"  Why it matters: {finding.cause}",
        *(f"  Also seen, because of it: {symptom}." for symptom in finding.symptoms),
        f"  Cure: {finding.cure}",
    ]
    if finding.outcome is not None:
        told.append(f"  Tried on a copy: {tried_words(finding)}")
    return told


def tried_words(finding: Finding) -> str:
    """What the trial of a cure showed; empty where it was not tried."""
    outcome = finding.outcome
    if outcome is None:
        return ""
    before = f"{outcome.before:.3g}" if math.isfinite(outcome.before) else "not finite"
    after = f"{outcome.after:.3g}" if math.isfinite(outcome.after) else "not finite"
    ending = "." if outcome.helps else ": this alone does not cure it."
    return f"{outcome.measure} after {outcome.steps} steps {before} without, {after} with the cure{ending}"


def _listed(sentences: list[str]) -> str:
    return "".join(f"<br>{escape(sentence.strip())}" for sentence in sentences)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number > 1 else "")
