"""Every study in one table, and the way from a name or a user's file to a study."""

from collections.abc import Mapping
from types import MappingProxyType

from fanin.errors import InvalidValueError, unknown_name
from fanin.experiments.sources import load_function
from fanin.studies.choices import CHOICES
from fanin.studies.data import DATA
from fanin.studies.depths import DEPTHS
from fanin.studies.mistakes import MISTAKES
from fanin.studies.originals import ORIGINALS
from fanin.studies.records import Study

__all__ = ["STUDIES", "find"]

STUDIES: Mapping[str, Study] = MappingProxyType(
    {study.name: study for study in (*ORIGINALS, *MISTAKES, *CHOICES, *DEPTHS, *DATA)}
)
"""The studies by name."""


def find(text: str) -> Study:
    """A study by its name, or a user's own from ``path/to/file.py:name`` or ``package.module:name``.

    Raises:
        UnknownNameError, InvalidValueError: If there is none.

    Example:
        >>> find("symmetry").claim
        'Units that start equal stay equal: symmetry has to be broken at the start.'
    """
    if ":" not in text:
        if text not in STUDIES:
            raise unknown_name("study", text, STUDIES)
        return STUDIES[text]
    found, _ = load_function(text, "study")
    if not isinstance(found, Study):
        raise InvalidValueError(
            "This is no study", given=f"{text} is {type(found).__name__}", allowed="a fanin.studies.Study"
        )
    return found
