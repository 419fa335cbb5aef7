"""JAX with one device per core and compiled programs kept on disk."""

import contextlib
import warnings
from functools import lru_cache
from pathlib import Path

import jax

from fanin.errors import extra_missing
from fanin.training import cores

__all__ = ["compiler_options", "device_versions", "devices", "prepare", "start", "versions"]

_cache_set = False


def prepare(cache: Path | None = None) -> None:
    """Give JAX its devices and its cache; the first call decides for the whole process.

    On a machine without an accelerator each core becomes one JAX device. A process that has used JAX
    before keeps the devices it has.

    Args:
        cache: Folder for compiled programs, or None to keep none.
    """
    global _cache_set  # noqa: PLW0603 - JAX's configuration is global to the process
    with contextlib.suppress(RuntimeError):  # JAX is running: its devices stay as they are
        jax.config.update("jax_num_cpu_devices", cores())
    if cache is not None and not _cache_set:
        _cache_set = True
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # A cache that cannot be read or written costs time, not correctness.
        warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")


def start(cache: Path | None = None) -> None:
    """Load Flax and prepare JAX.

    Args:
        cache: As for `prepare`.

    Raises:
        MissingExtraError: If flax is not installed.
    """
    try:
        import flax.nnx  # noqa: F401
        import optax  # noqa: F401
    except ImportError as error:
        raise extra_missing(error, "jax", ("flax", "optax"), "Training") from None
    prepare(cache)


def devices() -> list[jax.Device]:
    """The devices that runs are spread over."""
    return list(jax.local_devices())


@lru_cache(maxsize=1)
def compiler_options() -> dict[str, bool] | None:
    """Options for compiling a training step, where this JAX has them.

    On a CPU the optimizer's slots are otherwise copied at each step before they are overwritten, which
    costs a tenth to a half of the time of a network whose weights do not fit the cache.
    """
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    if jax.local_devices()[0].platform != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def device_versions() -> dict[str, str]:
    """The version of JAX, and kind and number of its devices."""
    first = jax.local_devices()[0]
    return {"jax": jax.__version__, "device": first.device_kind, "devices": str(len(jax.local_devices()))}


def versions() -> dict[str, str]:
    """What a result depends on besides its run: library versions and kind of device."""
    import flax
    import optax

    return {"flax": flax.__version__, "optax": optax.__version__, **device_versions()}
