"""How a Flax model is set up for training."""

from typing import Any

from flax import nnx

from fanin.jax.losses import loss_name
from fanin.jax.models import parts_of, walk
from fanin.jax.trial import rate_of
from fanin.records import Setup

__all__ = ["setup"]

_INFERENCE = ("deterministic", "use_running_average")
"""Attributes of nnx modules that are true in evaluation."""


def setup(model: Any, optimizer: Any = None, loss: Any = None) -> Setup:
    """How a model is set up for training; nothing is run or changed.

    Args:
        model: An nnx module, or a bound linen module.
        optimizer: A gradient transformation of optax, or a text like ``sgd(momentum=0.9)``.
        loss: A function of outputs and targets, or the name of one in `optax.losses`.

    Returns:
        A linen module has no mode: it counts as in training. What an optimizer trains is said where it is called, so
        that nothing is frozen or forgotten here.

    Raises:
        ModelError, UnknownNameError, InvalidValueError: If there is no such model, optimizer or loss.

    Example:
        >>> found = setup(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), "sgd(momentum=0.9)", "squared_error")
        >>> found.optimizer, found.learning_rate, found.momentum, found.loss
        ('sgd', 0.01, 0.9, 'squared_error')
    """
    parts_of(model)
    nodes = [node for _, node in walk(model)] if isinstance(model, nnx.Module) else []
    training = not any(getattr(node, name, None) is True for node in nodes for name in _INFERENCE)
    name, rate, momentum = rate_of(optimizer) if optimizer is not None else ("", None, 0.0)
    return Setup(training, optimizer=name, learning_rate=rate, momentum=momentum, loss=loss_name(loss))
