"""Functions compiled by JAX with little effort, and never twice."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax

__all__ = ["compiled"]


def compiled(function: Callable[..., Any], *, once: bool = False) -> Callable[..., Any]:
    """A pure function of arrays, compiled at its first call.

    A program that was compiled before is used again, so that a model is tried several times at the price of once.

    Args:
        function: Its arguments are arrays in any nesting, of the same shapes in each call.
        once: Whether it runs so rarely, or is so simple, that making it fast takes longer than it saves.

    Example:
        >>> float(compiled(lambda x: x + 1)(jax.numpy.ones(())))
        2.0
    """
    programs: list[Any] = []

    def run(*args: Any) -> Any:
        """The function."""
        if not programs:
            lowered = jax.jit(function).lower(*args)
            key = lowered.as_text(), lowered.in_tree, lowered.out_tree
            programs.append(_executable(_Program(key, lowered), once))
        return programs[0](*args)

    return run


@dataclass(frozen=True)
class _Program:
    """A program that can be compiled; all that it depends on is in its key."""

    key: tuple[Any, ...]
    lowered: Any = field(compare=False)


@lru_cache(maxsize=8)
def _executable(program: _Program, once: bool) -> Any:
    if jax.default_backend() != "cpu":
        return program.lowered.compile()
    # Compiling takes longer than all that is done with it; this halves it, and more where nothing is optimized.
    options: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False}
    try:
        return program.lowered.compile(options | ({"xla_backend_optimization_level": 0} if once else {}))
    except jax.errors.JaxRuntimeError:  # these options come and go
        return program.lowered.compile()
