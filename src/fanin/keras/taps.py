"""Models as pure functions on JAX, and a trainable function that measures each layer's signal and gradient."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras

from fanin.keras.layouts import PRE_ACTIVATED

__all__ = ["forward", "signal_function", "tapped_layers"]


def forward(model: keras.Model, trainable: Any, other: Any, x: Any, *, training: bool) -> tuple[Any, Any, list[Any]]:
    """A model as a pure function of its variables' values.

    Returns:
        Outputs, the changed values of the other variables, and the losses that layers add (regularisers).
    """
    parameters = inspect.signature(model.call).parameters.values()
    takes = any(each.name == "training" or each.kind is each.VAR_KEYWORD for each in parameters)
    mode = {"training": training} if takes else {}
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


def signal_function(
    model: keras.Model, loss: Callable[[Any, Any], Any]
) -> Callable[[list[Any], list[Any], Any, Any], tuple[Any, Any]]:
    """A traceable function that measures each tapped layer's pre-activation and its gradient.

    Args:
        model: A built model.
        loss: From targets and outputs to one loss per example.

    Returns:
        A function of (trainable, non-trainable, x, y) that gives two arrays, one number per tapped layer in
        the order of `tapped_layers`: the root mean square of the pre-activation, and of the gradient of the
        batch's mean loss with respect to it. The model is run as in inference. A layer used more than once
        reports its last use; one that is not used, not a number.
    """
    layers = tapped_layers(model)

    def tapped(trainable: Any, other: Any, x: Any, y: Any, nudges: Mapping[str, Any]) -> tuple[Any, Any]:
        seen: dict[str, Any] = {}

        def tap(name: str, z: Any) -> Any:
            seen[name] = z
            return z + nudges[name] if name in nudges else z

        with _taps(layers, tap):
            outputs, _, _ = forward(model, trainable, other, x, training=False)
        return jnp.mean(loss(y, outputs)), seen

    def rms(value: Any) -> Any:
        return jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.float32))))

    def measure(trainable: Any, other: Any, x: Any, y: Any) -> tuple[Any, Any]:
        if not layers:
            return jnp.zeros(0), jnp.zeros(0)
        shapes = jax.eval_shape(lambda t, o, a, b: tapped(t, o, a, b, {})[1], trainable, other, x, y)
        nudges = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        gradients, seen = jax.grad(lambda n: tapped(trainable, other, x, y, n), has_aux=True)(nudges)
        names = [layer.path for layer in layers]
        missing = jnp.float32(jnp.nan)
        return (
            jnp.stack([rms(seen[name]) if name in seen else missing for name in names]),
            jnp.stack([rms(gradients[name]) if name in seen else missing for name in names]),
        )

    return measure
