"""Models as pure functions on JAX, with a look at each layer's pre-activation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from fanin.keras.layouts import PRE_ACTIVATED
from fanin.keras.trace import takes_training

__all__ = ["forward", "tapped", "tapped_layers"]


def forward(model: keras.Model, trainable: Any, other: Any, x: Any, *, training: bool) -> tuple[Any, Any, list[Any]]:
    """A model as a pure function of its variables' values.

    Returns:
        Outputs, the changed values of the other variables, and the losses that layers add (regularisers).
    """
    mode = {"training": training} if takes_training(model) else {}
    return model.stateless_call(trainable, other, x, return_losses=True, **mode)  # type: ignore[no-any-return]


def tapped_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers whose pre-activation is measured: weighted, with an activation of their own, in model order.

    Recurrent cells are left out: their pre-activation is not one tensor but one for each time step.
    """
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, PRE_ACTIVATED)]


@contextmanager
def _taps(layers: list[keras.layers.Layer], tap: Callable[[str, Any], Any]) -> Iterator[None]:
    """While open, each layer's activation function first hands its input to `tap` and goes on with what returns."""
    originals = [layer.activation for layer in layers]
    for layer, original in zip(layers, originals, strict=True):
        layer.activation = lambda z, name=layer.path, function=original: (function or (lambda v: v))(tap(name, z))
    try:
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.activation = original


def tapped(model: keras.Model, trainable: Any, other: Any, x: Any, tap: Callable[[str, Any], Any]) -> Any:
    """The outputs of a model, run as in inference, while `tap` sees and may replace each pre-activation.

    Args:
        model: A built model.
        trainable, other: The values of its variables.
        x: A batch.
        tap: From the path of one of `tapped_layers` and its pre-activation to what the layer goes on with.
    """
    with _taps(tapped_layers(model), tap):
        return forward(model, trainable, other, x, training=False)[0]
