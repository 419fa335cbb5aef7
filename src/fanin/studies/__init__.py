"""Named experiments: a question, a claim, a design, and a verdict with numbers."""

from fanin.studies.comparisons import Training, Variant, points, trained
from fanin.studies.records import Answer, Conditions, Contrast, Designed, Evidence, Judged, Study
from fanin.studies.table import STUDIES, find

__all__ = [
    "STUDIES",
    "Answer",
    "Conditions",
    "Contrast",
    "Designed",
    "Evidence",
    "Judged",
    "Study",
    "Training",
    "Variant",
    "find",
    "points",
    "trained",
]
