"""Keras models from a specification: the built-in networks, or the user's own function."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import keras

from fanin.errors import ModelError, unknown_name
from fanin.records import ModelSpec
from fanin.training import call_build

__all__ = ["activation_names", "build"]


def activation_names() -> list[str]:
    """The activations that Keras knows by name."""
    return sorted(
        name
        for name, value in vars(keras.activations).items()
        if inspect.isfunction(value) and name not in ("get", "serialize", "deserialize")
    )


def build(spec: ModelSpec, input_shape: tuple[int, ...], outputs: int, activation: str) -> keras.Model:
    """Build the network, with the same layer names each time it is built.

    Args:
        spec: Which network.
        input_shape: Shape of one example.
        outputs: Number of classes or target columns; the built-in networks end in that many logits.
        activation: Between the layers; empty for a user's model that brings its own.

    Raises:
        ModelError, UnknownNameError, InvalidValueError: If it cannot be built.
    """
    # Keras numbers unnamed layers per process; parameters are known by name, so counting starts anew. A collection
    # of garbage each time would cost more than the network.
    keras.utils.clear_session(free_memory=False)
    if spec.kind == "user":
        return _user(spec, activation, {"input_shape": input_shape, "outputs": outputs})
    if activation not in activation_names():
        raise unknown_name("activation", activation, activation_names())
    return {"mlp": _mlp, "cnn": _cnn}[spec.kind](spec.sizes, input_shape, outputs, activation)


def _mlp(sizes: tuple[int, ...], input_shape: tuple[int, ...], outputs: int, activation: str) -> keras.Model:
    layers = [keras.layers.Flatten(name="flatten")] if len(input_shape) > 1 else []
    layers += [keras.layers.Dense(size, activation, name=f"hidden_{i}") for i, size in enumerate(sizes, 1)]
    return keras.Sequential([keras.Input(input_shape), *layers, keras.layers.Dense(outputs, name="output")])


def _cnn(sizes: tuple[int, ...], input_shape: tuple[int, ...], outputs: int, activation: str) -> keras.Model:
    if len(input_shape) not in (2, 3):
        raise ModelError(
            "A cnn needs images",
            given=f"examples of shape {input_shape}",
            allowed="(height, width) or (height, width, channels)",
            hint="Use --model mlp:128x128 for data that has no rows and columns.",
        )
    images = input_shape if len(input_shape) == 3 else (*input_shape, 1)
    layers: list[Any] = [keras.layers.Reshape(images, name="reshape")] if len(input_shape) == 2 else []
    size = min(images[:2])
    for i, channels in enumerate(sizes, 1):
        layers.append(keras.layers.Conv2D(channels, 3, padding="same", activation=activation, name=f"conv_{i}"))
        if size >= 4:
            layers.append(keras.layers.MaxPooling2D(name=f"pool_{i}"))
            size //= 2
    layers += [keras.layers.Flatten(name="flatten"), keras.layers.Dense(outputs, name="output")]
    return keras.Sequential([keras.Input(input_shape), *layers])


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _user(spec: ModelSpec, activation: str, facts: Mapping[str, Any]) -> keras.Model:
    # A default is the function's own word, as it was when the first stores were written.
    parameters = inspect.signature(spec.build).parameters
    asked = {name: value for name, value in facts.items() if name in parameters and _required(parameters[name])}
    model = call_build(spec, activation, asked)
    if not isinstance(model, keras.Model):
        raise ModelError(
            "The function did not return a Keras model",
            given=f"{spec.text} returned {type(model).__name__}",
            allowed="a keras.Model",
        )
    return model


def fit_input(model: keras.Model, example_shape: tuple[int, ...], text: str) -> tuple[int, ...]:
    """The shape in which examples go into the model: their own, or the same numbers laid out as it wants.

    Raises:
        ModelError: If the model takes another number of inputs.
    """
    wanted = getattr(model, "input_shape", None) if model.built else None
    if wanted is None:
        return example_shape
    if isinstance(wanted, list | dict):
        raise ModelError("The model takes several inputs", given=text, allowed="one input")
    sizes = tuple(wanted[1:])
    if len(sizes) == len(example_shape) and all(w in (None, e) for w, e in zip(sizes, example_shape, strict=True)):
        return example_shape
    if None not in sizes and math.prod(sizes) == math.prod(example_shape):
        return sizes
    raise ModelError(
        "The model and the data do not fit together",
        given=f"{text} takes examples of shape {sizes}, the data has {example_shape}",
        hint="Let build() make an input of the data's shape.",
    )
