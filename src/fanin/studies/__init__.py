"""Named experiments: a question, a claim, a design, and a verdict with numbers."""

from fanin.studies.records import Answer, Conditions, Contrast, Designed, Evidence, Judged, Study
from fanin.studies.table import STUDIES, find
from fanin.studies.trials import Trial, Variant, points, trained

__all__ = [
    "STUDIES",
    "Answer",
    "Conditions",
    "Contrast",
    "Designed",
    "Evidence",
    "Judged",
    "Study",
    "Trial",
    "Variant",
    "find",
    "points",
    "trained",
]
