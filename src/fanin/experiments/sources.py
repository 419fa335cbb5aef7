"""Where a user's own function comes from: ``path/to/file.py:name`` or ``package.module:name``."""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fanin.errors import InvalidValueError, UnknownNameError, unknown_name
from fanin.training import cores

__all__ = ["call_function", "load_function"]


def load_function(text: str, kind: str) -> tuple[Callable[..., Any], str]:
    """Load a function and fingerprint the file that defines it.

    Args:
        text: ``path/to/file.py:name`` or ``package.module:name``.
        kind: What the function is for, for the errors.

    Returns:
        The function and a hash of its file's content.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such file or function, or it cannot be run.
    """
    # A user's file may import Keras and JAX, which then decide on backend and devices for the whole process.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))
    place, _, name = text.rpartition(":")
    try:
        if place.endswith(".py"):
            path = Path(place)
            if not path.is_file():
                raise UnknownNameError(f"The {kind}'s file does not exist", given=str(path))
            # The path makes the name unique, so that two files of the same name do not meet.
            unique = f"fanin_user_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()}"
            spec = importlib.util.spec_from_file_location(unique, path)
            if spec is None or spec.loader is None:
                raise InvalidValueError(f"The {kind}'s file cannot be read", given=str(path))
            module = importlib.util.module_from_spec(spec)
            sys.modules[unique] = module
            sys.path.insert(0, str(path.parent.resolve()))
            try:
                spec.loader.exec_module(module)
            finally:
                sys.path.remove(str(path.parent.resolve()))
        else:
            module = importlib.import_module(place)
            path = Path(module.__file__ or "")
    except (UnknownNameError, InvalidValueError):
        raise
    except (Exception, SystemExit) as error:
        raise InvalidValueError(
            f"The {kind}'s file cannot be run: {type(error).__name__}: {error}", given=text
        ) from error
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if name not in functions:
        raise unknown_name(f"function in {place}", name, functions)
    return getattr(module, name), hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def call_function(text: str, kind: str) -> Any:
    """What a user's function returns when it is called without arguments.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such function, it needs arguments, or it fails.
    """
    function, _ = load_function(text, kind)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InvalidValueError(
            f"The {kind}'s function needs arguments: {error}", given=text, hint="Give its parameters defaults."
        ) from None
    except ValueError:  # built-in functions tell nothing of their arguments
        pass
    try:
        return function()
    except Exception as error:
        raise InvalidValueError(f"The {kind}'s function fails: {type(error).__name__}: {error}", given=text) from error
