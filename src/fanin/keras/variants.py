"""Dense networks for studies: the built-in `mlp` with one thing changed."""

import keras

__all__ = ["build"]


def build(
    input_shape: tuple[int, ...],
    outputs: int,
    activation: str,
    *,
    widths: tuple[int, ...],
    batch_norm: bool = False,
    output: str = "linear",
    bias: float = 0.0,
    dropout: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
) -> keras.Model:
    """A dense network whose layers are named as in `mlp`, so that equal layers get equal weights.

    Args:
        input_shape: Of one example.
        outputs: Units of the last layer.
        activation: Between the layers.
        widths: Units of the hidden layers; none for a linear model.
        batch_norm: Whether each hidden layer is normalised in front of its activation.
        output: The activation of the last layer.
        bias: What all biases start at.
        dropout: Share of each hidden layer's units that are dropped.
        l1, l2: Penalties on all weights.
    """
    start = keras.initializers.Constant(bias)
    penalty = keras.regularizers.L1L2(l1, l2) if l1 or l2 else None
    layers: list[keras.layers.Layer] = [keras.layers.Flatten(name="flatten")]
    for i, width in enumerate(widths, 1):
        inside = None if batch_norm else activation
        layers.append(keras.layers.Dense(
            width, inside, bias_initializer=start, kernel_regularizer=penalty, name=f"hidden_{i}"
        ))  # fmt: skip
        if batch_norm:
            layers.append(keras.layers.BatchNormalization(name=f"norm_{i}"))
            layers.append(keras.layers.Activation(activation, name=f"activation_{i}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=f"dropout_{i}"))
    layers.append(keras.layers.Dense(
        outputs, output, bias_initializer=start, kernel_regularizer=penalty, name="output"
    ))  # fmt: skip
    return keras.Sequential([keras.Input(input_shape), *layers])
