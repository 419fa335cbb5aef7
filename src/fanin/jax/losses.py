"""Losses for Flax models: functions of outputs and targets, or the names of those of optax."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError, extra_missing, unknown_name

__all__ = ["USUAL", "Criterion", "criterion", "loss_function", "loss_name"]

Criterion = Callable[[Any, Any], Any]
"""From outputs and targets, arrays in any nesting, to one number."""


_USUAL = {"cross_entropy": "softmax_cross_entropy_with_integer_labels", "mse": "squared_error"}
"""Short names of the two that are used most."""


def _known() -> dict[str, Callable[..., Any]]:
    """The losses of optax by name."""
    try:
        import optax
    except ImportError as error:
        raise extra_missing(error, "jax", ("optax",), "A loss by its name") from None
    found = {name: value for name, value in vars(optax.losses).items() if inspect.isfunction(value)}
    return {name: value for name, value in found.items() if not name.startswith(("_", "make_"))}


def criterion(loss: Any) -> Criterion:
    """The loss of a batch as one number: the mean, where a loss gives a number for each example.

    Args:
        loss: A function of outputs and targets, or the name of one in `optax.losses`; ``cross_entropy`` and ``mse``
            stand for those of logits and class numbers, and of squared errors.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such loss. What is returned raises a `ModelError` if the
            loss does not take outputs and targets.
    """
    if isinstance(loss, str):
        known = _known()
        name = _USUAL.get(loss, loss)
        if name not in known:
            raise unknown_name("loss of optax", loss, {**known, **_USUAL})
        found = known[name]
    elif callable(loss):
        found = loss
    else:
        allowed = "a function of outputs and targets, or a name in optax.losses"
        raise InvalidValueError("This is no loss", given=type(loss).__name__, allowed=allowed)

    def value(outputs: Any, targets: Any) -> Any:
        """One number."""
        try:
            return jnp.mean(found(outputs, targets))
        except Exception as error:  # whatever a user's function raises
            shapes = [[jnp.shape(each) for each in jax.tree.leaves(given)] for given in (outputs, targets)]
            raise ModelError(
                f"The loss cannot be computed: {str(error).strip()}", given="outputs {}, targets {}".format(*shapes)
            ) from error

    return value


def loss_function(loss: Any) -> Callable[[NDArray[Any] | tuple[NDArray[Any], ...], Any], float]:
    """The loss as a function of arrays, outputs first; several outputs are a tuple.

    Args:
        loss: As for `criterion`.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such loss.

    Example:
        >>> loss_function("squared_error")(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]]))
        2.5
    """
    value = criterion(loss)

    def function(outputs: NDArray[Any] | tuple[NDArray[Any], ...], targets: Any) -> float:
        """The loss of a batch."""
        return float(value(*jax.tree.map(jnp.asarray, (outputs, targets))))

    return function


def loss_name(loss: Any) -> str:
    """What to call a loss; empty where there is none.

    Example:
        >>> loss_name("squared_error"), loss_name(None)
        ('squared_error', '')
    """
    if loss is None or isinstance(loss, str):
        return loss or ""
    return str(getattr(loss, "__name__", type(loss).__name__))


def _of_probabilities(outputs: Any, targets: Any) -> Any:
    """The binary cross-entropy of probabilities, which optax does not have."""
    sure = jnp.clip(outputs, 1e-7, 1 - 1e-7)
    return -jnp.mean(targets * jnp.log(sure) + (1 - targets) * jnp.log1p(-sure))


_CLASSES = "softmax_cross_entropy_with_integer_labels"
USUAL: Mapping[str, tuple[str, Any]] = {
    "classes": (_CLASSES, _CLASSES), "words": (_CLASSES, _CLASSES), "shares": (_CLASSES, _CLASSES),
    "chance": ("binary cross-entropy", _of_probabilities),
    "logit": ("sigmoid_binary_cross_entropy", "sigmoid_binary_cross_entropy"),
    "numbers": ("squared_error", "squared_error"),
}  # fmt: skip
"""By kind of outputs: the loss that is taken where none was given, with its name; optax has none of shares."""
