"""Gradients of functions of tensors, on every backend of Keras."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras

__all__ = ["compiled", "differentiate"]

Function = Callable[[Sequence[Any]], tuple[Any, Any]]
"""From tensors to one number, and whatever else comes with it."""


def differentiate(function: Function, at: Sequence[Any]) -> tuple[Any, list[Any]]:
    """What comes with a function's value, and its gradient with respect to each of some floating tensors.

    Args:
        function: Differentiable; on JAX it is traced, so it must be pure.
        at: Where; tensors of the backend, not variables. Their own gradients, if they have any, stay.

    Returns:
        None stands for the gradient of what the value does not depend on, on JAX zeros do.
    """
    if not at:
        return function([])[1], []
    return _DIFFERENTIATE[keras.backend.backend()](function, list(at))


def compiled(function: Callable[..., Any], *, once: bool = False) -> Callable[..., Any]:
    """A pure function of tensors, compiled as by `fanin.jax.compiling` where the backend lives by it, which is JAX."""
    if keras.backend.backend() != "jax":
        return function
    from fanin.jax.compiling import compiled as by_jax

    return by_jax(function, once=once)


def _by_jax(function: Function, at: list[Any]) -> tuple[Any, list[Any]]:
    import jax

    gradients, rest = jax.grad(function, has_aux=True)(at)
    return rest, gradients


def _by_tensorflow(function: Function, at: list[Any]) -> tuple[Any, list[Any]]:
    # Keras has loaded it: it is the backend.
    with sys.modules["tensorflow"].GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        value, rest = function(at)
    gradients = tape.gradient(value, at)
    # That of a table of embeddings comes as the rows that were used.
    return rest, [None if each is None else keras.ops.convert_to_tensor(each, sparse=False) for each in gradients]


def _by_torch(function: Function, at: list[Any]) -> tuple[Any, list[Any]]:
    torch = sys.modules["torch"]
    leaves = [each.detach().requires_grad_(True) for each in at]
    with torch.enable_grad():
        value, rest = function(leaves)
    if not value.requires_grad:
        return rest, [None] * len(leaves)
    return rest, list(torch.autograd.grad(value, leaves, allow_unused=True))


_DIFFERENTIATE = {"jax": _by_jax, "tensorflow": _by_tensorflow, "torch": _by_torch}
