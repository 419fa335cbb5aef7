"""From numbers by seed to verdicts: the same rules for every claim of every study.

A claim that a number is above 0 is *supported* if the sign-flip test, adjusted for all claims of the study, says so.
It is *refuted* if the 95 % interval excludes even the smallest size that would matter. A claim that two things are
the same is supported if the whole interval is smaller than what would matter, and refuted if the test finds a
difference. Everything else is not decided. Below 6 seeds there is neither interval nor test, so nothing is.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from fanin.errors import InvalidValueError
from fanin.experiments.analysis import SIGNIFICANT
from fanin.stats import Comparison, compare_paired
from fanin.studies.records import OPEN, REFUTED, SUPPORTED, Answer, Contrast, Evidence, Judged, Study, Verdict

__all__ = ["answer", "combined", "judged", "sentence", "spoken"]


def judged(contrasts: Sequence[Contrast]) -> tuple[Judged, ...]:
    """Each contrast with its verdict; p is adjusted for all of them together.

    Raises:
        InvalidValueError: If there is none, they differ in their number of seeds, or a number is not finite.
    """
    sizes = {len(contrast.differences) for contrast in contrasts}
    if len(sizes) != 1:
        raise InvalidValueError("The claims differ in their number of seeds", given=sorted(sizes), allowed="one number")
    table = np.array([contrast.differences for contrast in contrasts], float)
    if not np.isfinite(table).all():
        lacking = next(c.claim for c, row in zip(contrasts, table, strict=True) if not np.isfinite(row).all())
        raise InvalidValueError("A difference is not a finite number", given=lacking)
    compared = compare_paired(table, np.zeros(table.shape[1]))
    return tuple(_one(contrast, found) for contrast, found in zip(contrasts, compared, strict=True))


def _one(contrast: Contrast, found: Comparison) -> Judged:
    # What is 0 but for the last bits of a float64 is said to be 0, and never -0.
    effect, low, high = (round(value, 9) + 0.0 for value in (found.difference, found.low, found.high))
    return Judged(
        contrast.claim, contrast.source, _RULES[contrast.rule](found, contrast.margin), effect, low, high,
        found.p_adjusted, contrast.unit, found.seeds, contrast.main, _MATTERS[contrast.rule](contrast.margin),
    )  # fmt: skip


def _more(found: Comparison, margin: float) -> Verdict:
    if found.high < margin:
        return REFUTED
    return SUPPORTED if found.p_adjusted <= SIGNIFICANT and found.difference > 0 else OPEN


def _same(found: Comparison, margin: float) -> Verdict:
    if -margin < found.low and found.high < margin:
        return SUPPORTED
    return REFUTED if found.p_adjusted <= SIGNIFICANT else OPEN


_RULES = {"more": _more, "same": _same}
_MATTERS: dict[str, Callable[[float], tuple[float, ...]]] = {
    "more": lambda margin: (margin,), "same": lambda margin: (-margin, margin),
}  # fmt: skip


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim with several parts: refuted with any of them, supported with all.

    Example:
        >>> combined(["supported", "not decided at this size"])
        'not decided at this size'
    """
    if REFUTED in verdicts:
        return REFUTED
    return SUPPORTED if all(verdict == SUPPORTED for verdict in verdicts) else OPEN


def answer(study: Study, evidence: Evidence, size: str) -> Answer:
    """The answer of a study to its question.

    Raises:
        InvalidValueError: If no contrast is `main`, or as in `judged`.
    """
    main = [contrast for contrast in evidence.contrasts if contrast.main]
    if not main:
        raise InvalidValueError("The study measured nothing that its claim rests on", given=study.name)
    claims = judged(evidence.contrasts)
    verdict = combined([each.verdict for each in claims if each.main])
    return Answer(study.name, size, verdict, sentence(study.claim, claims), claims, evidence.numbers)


def sentence(claim: str, claims: Sequence[Judged]) -> str:
    """The verdict of a claim in words: with its numbers, or of several parts how many have that verdict.

    Example:
        >>> part = Judged("Zeros fail.", "", "supported", 2.0, 1.0, 3.0, 0.0078, "points", 8, True)
        >>> sentence("Some starts fail.", [part])
        'Supported: Some starts fail. +2 points (95 % interval +1 to +3, p = 0.008, 8 seeds).'
        >>> sentence("Some starts fail.", [part, part])
        'Supported: Some starts fail. Parts supported: 2 of 2.'
    """
    parts = [each for each in claims if each.main]
    verdict = combined([each.verdict for each in parts])
    agreeing = sum(each.verdict == verdict for each in parts)
    how = spoken(parts[0]) if len(parts) == 1 else f"Parts {verdict}: {agreeing} of {len(parts)}"
    return f"{verdict.capitalize()}: {claim} {how}."


def spoken(claim: Judged) -> str:
    """Effect, interval, p and number of seeds in words.

    Example:
        >>> spoken(Judged("", "", "supported", 2.0, 1.0, 3.0, 0.0078, "points of test accuracy", 8, True))
        '+2 points of test accuracy (95 % interval +1 to +3, p = 0.008, 8 seeds)'
    """
    if math.isfinite(claim.low):
        interval = f"95 % interval {claim.low:+.3g} to {claim.high:+.3g}"
    else:
        interval = "no 95 % interval below 6 seeds"
    return f"{claim.effect:+.3g} {claim.unit} ({interval}, p = {claim.p:.3f}, {claim.seeds} seeds)"
