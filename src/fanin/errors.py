"""The errors that fanin raises for a user's mistake.

Every message follows one grammar: what was wrong, what was given, what is allowed, and a hint on a line
of its own. The command line prints the message without a traceback and exits with code 2.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any

__all__ = [
    "DataError",
    "FaninError",
    "InvalidValueError",
    "MissingExtraError",
    "ModelError",
    "StoreError",
    "UnknownNameError",
    "cause_of",
    "extra_missing",
    "unknown_name",
]


class FaninError(Exception):
    """A user's mistake, told in one grammar.

    Args:
        what: What was wrong, a sentence without its full stop.
        given: The offending value, shown with ``repr`` unless it is a string.
        allowed: What would have been right.
        hint: What to do next.

    Example:
        >>> print(FaninError("The number of seeds is too small", given=0, allowed="1 or more", hint="Try 8."))
        The number of seeds is too small. Given: 0. Allowed: 1 or more.
        Hint: Try 8.
    """

    def __init__(self, what: str, *, given: Any = None, allowed: str | None = None, hint: str | None = None):
        self.what, self.given, self.allowed, self.hint = what, given, allowed, hint
        message = what.rstrip(".") + "."
        if given is not None:
            message += f" Given: {given if isinstance(given, str) else repr(given)}."
        if allowed is not None:
            message += f" Allowed: {allowed.rstrip('.')}."
        if hint is not None:
            message += f"\nHint: {hint}"
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by parts: by default the finished message would go in as `what`."""
        return _rebuild, (type(self), self.what, self.given, self.allowed, self.hint)


def _rebuild(kind: type[FaninError], what: str, given: Any, allowed: str | None, hint: str | None) -> FaninError:
    return kind(what, given=given, allowed=allowed, hint=hint)


class InvalidValueError(FaninError, ValueError):
    """A value outside of what is allowed."""


class UnknownNameError(FaninError, LookupError, ValueError):
    """A name that no table knows. A `ValueError` too, because that is what frameworks raise for it."""


class DataError(FaninError, ValueError):
    """Data that cannot be trained on, or that did not arrive whole."""


class ModelError(FaninError, ValueError):
    """A model that cannot be built, read or trained."""


class StoreError(FaninError, OSError):
    """A store that cannot be opened, read or written."""


class MissingExtraError(FaninError, ImportError):
    """A part of fanin whose optional dependency is not installed."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not in a table, with the nearest known names as the hint.

    Example:
        >>> print(unknown_name("initializer", "he_norml", ["he_normal", "zeros"]))
        There is no such initializer. Given: he_norml. Allowed: he_normal, zeros.
        Hint: Did you mean he_normal?
    """
    names = sorted(known)
    near = difflib.get_close_matches(given.lower(), names, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else None
    return UnknownNameError(f"There is no such {kind}", given=given, allowed=", ".join(names), hint=hint)


def extra_missing(error: ImportError, extra: str, packages: Iterable[str], purpose: str) -> ImportError:
    """The error to raise for a failed import: about the extra only if one of its packages is what is missing.

    An ``ImportError`` from inside an installed package (a broken build, say) comes back unchanged, so that
    nobody is told to install what is already there.
    """
    if (error.name or "").split(".")[0] not in set(packages):
        return error
    return MissingExtraError(
        f"{purpose} needs a package that is not installed",
        given=f"no module named {error.name}",
        hint=f"pip install 'fanin[{extra}]'",
    )


def cause_of(error: Exception) -> str:
    r"""The line that says what went wrong in somebody's model: Keras puts where it happened, in bold, before it.

    Example:
        >>> cause_of(ValueError("Exception encountered when calling Own.call().\n\n\x1b[1mtoo short\x1b[0m"))
        'too short'
    """
    lines = [line.strip() for line in re.sub("\x1b\\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return (told or lines or ["no message"])[0]
