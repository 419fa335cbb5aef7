"""Keras on JAX, with one device per core and compiled programs kept on disk."""

import contextlib
import os
import sys
import threading
import warnings
from functools import lru_cache
from pathlib import Path

from fanin.errors import InvalidValueError, extra_missing
from fanin.training import cores

__all__ = ["KERAS", "compiler_options", "devices", "start", "versions"]

KERAS = threading.RLock()
"""Held while any Keras code runs in a thread: building and tracing share state of the whole process."""

_cache_set = False


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
    global _cache_set  # noqa: PLW0603 - JAX's configuration is global to the process
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "jax"
    try:
        import jax
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
    with contextlib.suppress(RuntimeError):  # JAX is running: its devices stay as they are
        jax.config.update("jax_num_cpu_devices", cores())
    if cache is not None and not _cache_set:
        _cache_set = True
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # A cache that cannot be read or written costs time, not correctness.
        warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")


def devices() -> list["jax.Device"]:  # type: ignore[name-defined]  # noqa: F821
    """The devices that runs are spread over."""
    import jax

    return list(jax.local_devices())


@lru_cache(maxsize=1)
def compiler_options() -> dict[str, bool] | None:
    """Options for compiling a training step, where this JAX has them.

    On a CPU the optimizer's slots are otherwise copied at each step before they are overwritten, which
    costs a tenth to a half of the time of a network whose weights do not fit the cache.
    """
    import jax

    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    if jax.local_devices()[0].platform != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def versions() -> dict[str, str]:
    """What a result depends on besides its run: library versions and kind of device."""
    import jax
    import keras

    first = jax.local_devices()[0]
    return {
        "keras": keras.__version__,
        "jax": jax.__version__,
        "device": first.device_kind,
        "devices": str(len(jax.local_devices())),
    }
