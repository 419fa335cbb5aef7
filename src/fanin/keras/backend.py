"""Keras on JAX, with one device per core and compiled programs kept on disk."""

import os
import sys
import threading
from pathlib import Path

from fanin.errors import InvalidValueError, extra_missing

__all__ = ["KERAS", "start", "versions"]

KERAS = threading.RLock()
"""Held while any Keras code runs in a thread: building and tracing share state of the whole process."""


def start(cache: Path | None = None) -> None:
    """Load Keras on the JAX backend; the first call decides devices and cache for the whole process.

    On a machine without an accelerator each core becomes one JAX device. A process that has used JAX
    before keeps the devices it has.

    Args:
        cache: Folder for compiled programs, or None to keep none.

    Raises:
        MissingExtraError: If keras or jax is not installed.
        InvalidValueError: If Keras is already loaded on another backend.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "jax"
    try:
        import keras
    except ImportError as error:
        raise extra_missing(error, "keras", ("keras", "jax", "jaxlib"), "Training") from None
    if keras.backend.backend() != "jax":
        raise InvalidValueError(
            "Keras is already loaded on another backend",
            given=keras.backend.backend(),
            allowed="jax",
            hint="Set the environment variable KERAS_BACKEND=jax before importing keras.",
        )
    from fanin.jax.backend import prepare

    prepare(cache)


def versions() -> dict[str, str]:
    """What a result depends on besides its run: library versions and kind of device."""
    import keras

    from fanin.jax.backend import device_versions

    return {"keras": keras.__version__, **device_versions()}
