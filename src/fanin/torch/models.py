"""The user's PyTorch models: built by their function, and the layout in which examples go into them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fanin.errors import ModelError
from fanin.records import ModelSpec
from fanin.training import call_build, channels_first

__all__ = ["Layout", "build", "layouts"]


@dataclass(frozen=True)
class Layout:
    """How examples go into a model.

    Attributes:
        shape: Of one example.
        channels_first: Whether the last axis of the data becomes the first.
    """

    shape: tuple[int, ...]
    channels_first: bool = False

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Examples of the data, laid out for the model.

        Example:
            >>> Layout((3, 8, 6), channels_first=True)(np.zeros((10, 8, 6, 3), np.float32)).shape
            (10, 3, 8, 6)
        """
        return np.ascontiguousarray(np.moveaxis(x, -1, 1) if self.channels_first else x).reshape(-1, *self.shape)


def layouts(example_shape: tuple[int, ...]) -> tuple[Layout, ...]:
    """The layouts in which a model may want examples, the likeliest first.

    Images of the data are (height, width) or (height, width, channels), PyTorch's (channels, height, width).

    Example:
        >>> [layout.shape for layout in layouts((8, 6))]
        [(1, 8, 6), (8, 6), (48,)]
    """
    images = Layout(channels_first(example_shape), channels_first=len(example_shape) > 2)
    return tuple(dict.fromkeys((images, Layout(example_shape), Layout((math.prod(example_shape),)))))


def build(spec: ModelSpec, example_shape: tuple[int, ...], outputs: int, activation: str) -> nn.Module:
    """Build the network.

    Args:
        spec: A user's model.
        example_shape: Shape of one example of the data.
        outputs: Number of classes or target columns.
        activation: Empty for a model that brings its own.

    Raises:
        ModelError, InvalidValueError: If it cannot be built.
    """
    model = call_build(spec, activation, {"input_shape": channels_first(example_shape), "outputs": outputs})
    if not isinstance(model, nn.Module):
        raise ModelError(
            "The function did not return a PyTorch model",
            given=f"{spec.text} returned {type(model).__name__}",
            allowed="a torch.nn.Module",
        )
    return model
