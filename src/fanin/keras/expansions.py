"""Layers and operations of Keras that a trace takes apart in its own way: what they are, in smaller steps."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from fanin.activations import leaky_relu
from fanin.keras.pointwise import Expression
from fanin.keras.recorder import Known, Recorder, replaced

__all__ = ["EXPANSIONS", "REWRITES"]


def _norm(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """A normalisation as one step; a shift that comes without a scale is added in a step of its own."""
    scale = next((v for v in (getattr(layer, "gamma", None), getattr(layer, "scale", None)) if _is_variable(v)), None)
    shift = getattr(layer, "beta", None)
    known = Known("norm", variables=tuple(v for v in (scale, shift) if v is not None), name=_norm_name(layer, inputs))
    if scale is not None or shift is None:
        return recorder.leaf(layer, known, (inputs,), inputs, *args, **kwargs)
    shape = [1] * len(inputs.shape)
    for axis in np.atleast_1d(layer.axis):
        shape[axis] = inputs.shape[axis]

    def unshifted(*given: Any, **named: Any) -> Any:
        return layer(*given, **named) - keras.ops.reshape(shift.value, shape)

    plain = recorder.step(unshifted, inputs, *args, known=Known("norm", name=known.name), signals=(inputs,), **kwargs)
    return keras.ops.add(plain, keras.ops.reshape(shift, shape))


def _is_variable(value: Any) -> bool:
    return isinstance(value, keras.Variable)


def _norm_name(layer: Layer, inputs: Any) -> str:
    match type(layer).__name__:
        case "LayerNormalization":
            return "rms" if getattr(layer, "rms_scaling", False) else "layer"
        case "GroupNormalization":
            return "instance" if layer.groups == inputs.shape[layer.axis] else "group"
        case "RMSNormalization":
            return "rms"
    return "batch"


def _standardised(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """A layer that was adapted to data: known means are taken off, known spreads divided by."""
    return recorder.leaf(layer, Known("norm", name="batch"), (inputs,), inputs, *args, **kwargs)


def _dropout(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return recorder.leaf(layer, Known("dropout", value=float(layer.rate)), (inputs,), inputs, *args, **kwargs)


def _noise(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """Nothing in inference."""
    if not kwargs.get("training"):
        return inputs
    return recorder.leaf(layer, Known("other", name=type(layer).__name__), (inputs,), inputs, *args, **kwargs)


def _passed(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return recorder.leaf(layer, Known("same"), (inputs,), inputs, *args, **kwargs)


def _moved(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """The same values in other places, unless they are mixed."""
    mixed = getattr(layer, "interpolation", "nearest") != "nearest"
    known = Known("other", name=f"{type(layer).__name__}({layer.interpolation})") if mixed else Known("move")
    return recorder.leaf(layer, known, (inputs,), inputs, *args, **kwargs)


def _picture(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """A picture cut, turned or recoloured is a picture still."""
    return recorder.leaf(layer, Known("move", name=type(layer).__name__), (inputs,), inputs, *args, **kwargs)


_CELLS = {
    ("LSTMCell", "tanh", "sigmoid"): "lstm",
    ("GRUCell", "tanh", "sigmoid"): "gru",
    ("SimpleRNNCell", "tanh", ""): "rnn_tanh",
    ("SimpleRNNCell", "relu", ""): "rnn_relu",
}


def _recurrent(recorder: Recorder, layer: Layer, sequences: Any, *args: Any, **kwargs: Any) -> Any:
    """One step for all time steps; a cell that is none of the plain ones is named."""
    cell = layer.cell
    activations = [
        getattr(getattr(cell, name, None), "__name__", "") for name in ("activation", "recurrent_activation")
    ]
    name = _CELLS.get((type(cell).__name__, activations[0], activations[1]))
    if name is not None:
        kernels = (cell.kernel, cell.recurrent_kernel, cell.bias)
        known = Known("recurrent", variables=tuple(v for v in kernels if v is not None), name=name)
    else:
        shown = ", ".join(filter(None, activations))
        known = Known("other", variables=tuple(layer.trainable_variables), name=f"{type(cell).__name__}({shown})")
    initial = kwargs.get("initial_state")
    signals = tuple(each for each in keras.tree.flatten(initial) if each is not None)
    return recorder.leaf(layer, known, (sequences, *signals), sequences, *args, **kwargs)


def _prelu(recorder: Recorder, layer: Layer, inputs: Any) -> Any:
    """A leaky ReLU with the slope that it has now; with many slopes, no function of each element."""
    slopes = np.unique(keras.ops.convert_to_numpy(layer.alpha.value))
    known = Known("other", variables=(layer.alpha,), name="prelu")
    if len(slopes) == 1:
        slope = Expression(leaky_relu(float(slopes[0])), f"leaky_relu({slopes[0]:g})")
        known = Known("pointwise", variables=(layer.alpha,), expression=slope)
    return recorder.leaf(layer, known, (inputs,), inputs)


def _attention(recorder: Recorder, layer: Layer, *args: Any, **kwargs: Any) -> Any:
    """Projections read as the layers that they are, and what happens between them as one step."""
    inner, known = layer._compute_attention, Known("attention", name="dot_product")

    def compute(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> Any:
        """Means of values, in the shape of queries; scores are made only where the user wants them, too."""
        given, signals = (query, key, value, *rest), (query, key, value)
        if kwargs.get("return_attention_scores"):
            return recorder.step(inner, *given, known=known, signals=signals, **named)
        means = keras.KerasTensor((*query.shape[:-1], value.shape[-1]), query.dtype)
        return recorder.add(inner, given, named, (means, None), None, known, signals)

    with replaced(layer, {"_compute_attention": compute}):
        return layer.call(*args, **kwargs)


def _plain_attention(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """Attention without projections; its inputs are query, value and key."""
    query, value, *key = inputs
    known = Known("attention", variables=tuple(layer.trainable_variables), name=type(layer).__name__.lower())
    return recorder.leaf(layer, known, (query, *(key or [value]), value), inputs, *args, **kwargs)


def _bidirectional(recorder: Recorder, layer: Layer, *args: Any, **kwargs: Any) -> Any:
    """Its two directions, never as the one fused kernel that some backends have."""
    fused = [name for name in ("_can_attempt_fused_lstm", "_can_attempt_fused_gru") if hasattr(layer, name)]
    with replaced(layer, {name: lambda *_: False for name in fused}):
        return layer.call(*args, **kwargs)


def _time_distributed(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """The layer within, on all time steps at once, as further examples of the batch."""
    if layer.layer._call_has_mask_arg and kwargs.get("mask") is not None:
        raise TypeError("the layer within is given a mask")
    batch, steps, *rest = inputs.shape
    inner = {"training": kwargs["training"]} if layer.layer._call_has_training_arg and "training" in kwargs else {}
    outputs = layer.layer(keras.ops.reshape(inputs, (batch * steps, *rest)), **inner)
    return keras.ops.reshape(outputs, (batch, steps, *outputs.shape[1:]))


def _spectral(recorder: Recorder, layer: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """The wrapped layer with its weights as they are; training divides them by their largest singular value first."""
    if kwargs.get("training"):
        raise TypeError("training changes its weights before they are used")
    return layer.layer(inputs)


def _rescaled(recorder: Recorder, layer: Layer, inputs: Any) -> Any:
    scaled = keras.ops.multiply(keras.ops.cast(inputs, layer.compute_dtype), layer.scale)
    return keras.ops.add(scaled, layer.offset) if np.any(np.asarray(layer.offset)) else scaled


_TABLE: Mapping[Callable[..., Any], tuple[str, ...]] = {
    _norm: ("BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization"),
    _standardised: ("Normalization",),
    _dropout: ("AlphaDropout", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    _noise: ("GaussianDropout", "GaussianNoise"),
    _passed: ("ActivityRegularization", "Identity"),
    _moved: (
        *(f"{name}{rank}D" for name in ("Cropping", "UpSampling", "ZeroPadding") for rank in (1, 2, 3)),
        "Flatten", "Masking", "Permute", "RepeatVector", "Reshape",
    ),
    _picture: (
        "AugMix", "AutoContrast", "CenterCrop", "Equalization", "RandAugment", "Resizing", "Solarization",
        *(
            f"Random{change}"
            for change in (
                "Brightness", "ColorDegeneration", "ColorJitter", "Contrast", "Crop", "ElasticTransform", "Erasing",
                "Flip", "GaussianBlur", "Grayscale", "Hue", "Invert", "Perspective", "Posterization", "Rotation",
                "Saturation", "Sharpness", "Shear", "Translation", "Zoom",
            )
        ),
    ),
    _recurrent: ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "LSTM", "RNN", "SimpleRNN"),
    _prelu: ("PReLU",),
    _attention: ("GroupQueryAttention", "MultiHeadAttention"),
    _plain_attention: ("AdditiveAttention", "Attention"),
    _bidirectional: ("Bidirectional",),
    _time_distributed: ("TimeDistributed",),
    _spectral: ("SpectralNormalization",),
    _rescaled: ("Rescaling",),
}  # fmt: skip

EXPANSIONS: Mapping[type, Callable[..., Any]] = MappingProxyType({
    getattr(keras.layers, name): expansion
    for expansion, names in _TABLE.items()
    for name in names
    if hasattr(keras.layers, name)  # later versions of Keras have more layers
})  # fmt: skip
"""From a class of layers to the function that records its steps; all other layers are opened and read."""


def _glu(recorder: Recorder, operation: Any, x: Any) -> Any:
    left, right = keras.ops.split(x, 2, axis=operation.axis)
    return keras.ops.multiply(left, keras.ops.sigmoid(right))


def _subtract(recorder: Recorder, operation: Any, x1: Any, x2: Any) -> Any:
    return keras.ops.add(x1, keras.ops.multiply(x2, -1.0)) if _is_tensor(x2) else None


def _divide(recorder: Recorder, operation: Any, x1: Any, x2: Any) -> Any:
    return keras.ops.multiply(x1, keras.ops.reciprocal(x2)) if _is_tensor(x2) else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor | keras.Variable) and "float" in str(value.dtype)


def _separable(recorder: Recorder, operation: Any, inputs: Any, depthwise: Any, pointwise: Any) -> Any:
    between = keras.ops.depthwise_conv(
        inputs, depthwise, operation.strides, operation.padding, operation.data_format, operation.dilation_rate
    )
    return keras.ops.conv(between, pointwise, 1, "valid", operation.data_format)


def _conv_transpose(recorder: Recorder, operation: Any, inputs: Any, kernel: Any) -> Any:
    """The same by its function: the operation of Keras 3.15 hands on its two paddings in each other's place."""

    def run(signal: Any, weight: Any) -> Any:
        return keras.ops.conv_transpose(
            signal, weight, operation.strides, operation.padding, operation.output_padding, operation.data_format,
            operation.dilation_rate,
        )  # fmt: skip

    return recorder.add(run, (inputs, kernel), {}, operation.compute_output_spec(inputs, kernel), operation)


def _normalize(recorder: Recorder, operation: Any, x: Any) -> Any:
    """A vector of length 1: one of second moment 1, shrunk."""
    if operation.order != 2 or operation.axis is None:
        return None
    length = math.sqrt(math.prod(x.shape[axis] for axis in np.atleast_1d(operation.axis)))

    def enlarged(value: Any) -> Any:
        return operation.call(value) * length

    return keras.ops.multiply(recorder.step(enlarged, x, known=Known("norm", name="rms"), signals=(x,)), 1 / length)


REWRITES: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "ConvTranspose": _conv_transpose,
    "Divide": _divide,
    "Glu": _glu,
    "Normalize": _normalize,
    "SeparableConv": _separable,
    "Subtract": _subtract,
    "TrueDivide": _divide,
})  # fmt: skip
"""From the name of an operation's class to the same in other operations; None where it does not apply."""
