"""From facts to findings: look, try cures, and tell causes from symptoms."""

from dataclasses import dataclass, replace

from fanin.doctor.cures import can_help, tried
from fanin.doctor.facts import Facts, Patient
from fanin.doctor.suspicions import Suspicion
from fanin.doctor.table import CHECKS, Check
from fanin.records import SEVERITIES, Finding, Outcome, Severity, Trial

__all__ = ["examined"]

_PAGE = "docs/check.md"


def examined(patient: Patient) -> tuple[tuple[Finding, ...], Trial | None]:
    """All findings on a patient, the worst first, in the order of causes; and how it trained as it is.

    A cure is tried on a copy, where there is one: what its cure changes is an error. Symptoms go with the first cause;
    where there is none, or nothing but their own cure helps, they stand alone.

    Raises:
        ModelError: If the loss does not take the model's outputs and no finding says why.
    """
    facts = Facts(patient)
    findings = _findings(facts)
    if facts.refusal is not None and all(each.severity != "error" for each in findings):
        raise facts.refusal
    return findings, facts.trial


def _findings(facts: Facts) -> tuple[Finding, ...]:
    causes = sorted(
        (each for check in CHECKS.values() if not check.symptom for each in _found(facts, check)), key=_rank
    )
    symptoms = [check for check in CHECKS.values() if check.symptom]
    if facts.explained:
        return _with_symptoms(causes, [each.observed for check in symptoms for each in check.find(facts)])
    judged = [each for check in symptoms for each in _found(facts, check)]
    if facts.explained:  # the same cure may have been tried for several symptoms: the first is nearest to the cause
        proven = next(each.finding.outcome for each in judged if each.finding.severity == "error")
        first = replace(judged[0].finding, severity="error", outcome=proven)
        findings = [_Judged(first, fact=False), *causes]
        return _with_symptoms(findings, [each.finding.observed for each in judged[1:]])
    if causes and causes[0].finding.severity == "warning":
        return _with_symptoms(causes, [each.finding.observed for each in judged if each.finding.severity == "warning"])
    return _with_symptoms(sorted([*causes, *judged], key=_rank), [])


@dataclass(frozen=True)
class _Judged:
    """A finding, and whether it is a fact: then no trial had to show it."""

    finding: Finding
    fact: bool


def _with_symptoms(judged: list[_Judged], seen: list[str]) -> tuple[Finding, ...]:
    """The findings; the first one explains what else was seen."""
    findings = [each.finding for each in judged]
    return (replace(findings[0], symptoms=tuple(seen)), *findings[1:]) if findings else ()


def _rank(judged: _Judged) -> tuple[int, bool, float]:
    """The worst first; among faults the facts, and then those whose cure helps most."""
    finding, outcome = judged.finding, judged.finding.outcome
    if judged.fact or outcome is None or not outcome.helps:
        return SEVERITIES.index(finding.severity), False, 0.0
    return SEVERITIES.index(finding.severity), True, -round(outcome.after * (-1 if outcome.measure == "loss" else 1), 1)


def _found(facts: Facts, check: Check) -> list[_Judged]:
    """What a check finds, after cures were tried."""
    judged = [each for each in (_judged(facts, check, one) for one in check.find(facts)) if each is not None]
    facts.explained |= any(each.finding.severity == "error" for each in judged)
    return judged


def _judged(facts: Facts, check: Check, suspicion: Suspicion) -> _Judged | None:
    """A suspicion after its cure was tried; None where that clears the model of it."""
    outcome: Outcome | None = None
    severity: Severity | None = suspicion.severity
    if suspicion.remedy is not None and facts.trial is not None:
        outcome = tried(facts, suspicion.remedy) if can_help(facts) else None
        severity = suspicion.proven if outcome is not None and outcome.helps else suspicion.unproven
    if severity is None:
        return None
    plan = suspicion.remedy.plan if suspicion.remedy is not None else None
    finding = Finding(
        check.code, severity, suspicion.where, suspicion.observed, suspicion.expected, check.cause, suspicion.cure,
        plan, outcome, page=f"{_PAGE}#{check.code}",
    )  # fmt: skip
    return _Judged(finding, suspicion.unproven == "error")
