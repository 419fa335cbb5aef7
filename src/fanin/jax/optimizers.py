"""The optimizers of optax by their names."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fanin.errors import InvalidValueError, unknown_name
from fanin.records import Call

__all__ = ["Optimizers", "optimizers"]

Optimizers = Callable[[Any], optax.GradientTransformation]
"""Makes an optimizer for a learning rate, which JAX may be tracing."""

_UNSUITED = ("lbfgs", "noisy_sgd", "polyak_sgd")
"""They want the loss to call again, or random numbers of their own."""


def _known() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """What makes an optimizer for a learning rate, by name."""
    return {
        name: value
        for name, value in vars(optax).items()
        if inspect.isfunction(value)
        and "learning_rate" in inspect.signature(value).parameters
        and not name.startswith("scale_by_")
        and name not in _UNSUITED
    }


def optimizers(call: Call) -> Optimizers:
    """What makes the optimizer that a text like ``sgd(momentum=0.9)`` names.

    Args:
        call: Name and parameters, as optax has them; the learning rate comes with each run.

    Raises:
        UnknownNameError, InvalidValueError: If there is none, or it does not take these parameters.

    Example:
        >>> make, weight = optimizers(Call("sgd")), jnp.ones(2)
        >>> make(0.5).update(weight, make(0.5).init(weight))[0].tolist()
        [-0.5, -0.5]
    """
    known = _known()
    if call.name.lower() not in known:
        raise unknown_name("optimizer of optax", call.name, known)
    if "learning_rate" in call.params:
        raise InvalidValueError(
            "The learning rate is not a parameter of the optimizer here", given=str(call), hint="Use --lr."
        )
    kind = known[call.name.lower()]

    def make(learning_rate: Any) -> optax.GradientTransformation:
        return kind(learning_rate=learning_rate, **call.params)

    def tried(weights: Any) -> Any:
        made = make(0.01)
        return made.update(weights, made.init(weights), weights)

    try:
        jax.eval_shape(tried, {"matrix": jnp.zeros((3, 2)), "vector": jnp.zeros(2)})
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InvalidValueError(f"The optimizer cannot be made: {error}", given=str(call)) from None
    return make
