"""Fan-in and fan-out of every kind of layer, against a count made by perturbing its inputs.

The Jacobian of a layer with random weights has an entry where an input reaches an output. The inputs that reach one
inner output are fan-in, the outputs that one inner input reaches are fan-out: the most found in a row and a column, as
those at the edges of a convolution have fewer.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fanin.initializers.fans import Fans, fans_of
from fanin.records import ModelInfo
from fanin.torch.adapter import describe


def counted(jacobian: np.ndarray) -> tuple[int, int]:
    """The most inputs that reach one output, and the most outputs that one input reaches."""
    reaches = np.abs(jacobian) > 1e-12
    return int(reaches.sum(1).max()), int(reaches.sum(0).max())


def by_torch(module: nn.Module, *shape: int) -> np.ndarray:
    module = module.double()
    x = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(module, x)
    return jacobian.reshape(-1, x.numel()).numpy()


def first(info: ModelInfo) -> Fans:
    return fans_of(next(param for param in info.params if param.axes))


TORCH = {
    "linear": (nn.Linear(5, 7), (5,)),
    "conv1d": (nn.Conv1d(3, 4, 5), (3, 21)),
    "conv2d": (nn.Conv2d(3, 4, (3, 2)), (3, 9, 8)),
    "conv3d": (nn.Conv3d(2, 3, (2, 3, 1)), (2, 5, 7, 3)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2), (3, 13, 13)),
    "grouped": (nn.Conv2d(6, 9, (3, 2), groups=3), (6, 8, 7)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (4, 8, 8)),
    "depthwise, two for each": (nn.Conv2d(4, 8, (3, 2), groups=4), (4, 8, 7)),
    "transposed": (nn.ConvTranspose2d(3, 5, (3, 2)), (3, 7, 6)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, (2, 3), groups=2), (4, 6, 7)),
    "transposed 1d": (nn.ConvTranspose1d(3, 2, 4), (3, 11)),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, (2, 1, 3)), (2, 5, 3, 7)),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_torch_layers(name: str) -> None:
    module, shape = TORCH[name]
    fans = first(describe(module))
    assert (fans.fan_in, fans.fan_out) == counted(by_torch(module, *shape))


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_torch_gates_are_weights_of_their_own(kind: type[nn.Module], gates: int) -> None:
    """One input reaches every unit of one gate; a unit of one gate sums over every input."""
    cell = kind(5, 7)
    found = {param.path: fans_of(param) for param in describe(cell).params if param.axes}
    for path, inputs in (("weight_ih", 5), ("weight_hh", 7)):
        block = nn.Linear(inputs, 7)
        block.weight.data = getattr(cell, path).data.chunk(gates)[-1]
        assert (found[path].fan_in, found[path].fan_out) == counted(by_torch(block, inputs))


def test_torch_packed_attention() -> None:
    """Queries alone, as values and keys alone, are a matrix of the module's width: what one projection does."""
    found = {param.path: fans_of(param) for param in describe(nn.MultiheadAttention(6, 2)).params if param.axes}
    one = counted(by_torch(nn.Linear(6, 6), 6))
    assert (found["in_proj_weight"].fan_in, found["in_proj_weight"].fan_out) == one
    assert (found["out_proj.weight"].fan_in, found["out_proj.weight"].fan_out) == one


def test_torch_bilinear() -> None:
    module = nn.Bilinear(3, 4, 5, bias=False)
    assert first(describe(module)).fan_in == 3 * 4  # products of one of the first and one of the second


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_strided_transposed_convolution_sums_a_share_of_its_fan_in(stride: int) -> None:
    """What `Op.value` says: inner outputs sum ``value * fan_in`` products in the mean over the positions."""
    module = nn.ConvTranspose1d(3, 2, 6, stride=stride, bias=False)
    info = describe(module, torch.zeros(1, 3, 40))
    (value,) = [op.value for op in info.ops if op.kind == "weight"]
    reaches = (np.abs(by_torch(module, 3, 40)) > 1e-12).sum(1).reshape(2, -1)
    middle = reaches.shape[1] // 2
    assert reaches[:, middle - 6 : middle + 6].mean() == pytest.approx(value * first(info).fan_in)


def by_identity(layer: Callable[[Any], Any], *shape: int) -> np.ndarray:
    """The Jacobian of a layer of JAX that is linear but for its biases: what it does to each unit vector."""
    size = math.prod(shape)
    units, zero = (each.reshape(-1, *shape).astype(np.float32) for each in (np.eye(size), np.zeros((1, size))))
    return np.asarray(layer(units) - layer(zero)).reshape(size, -1).T


KERAS = {
    "dense": (lambda layers, plain: layers.Dense(7, **plain), (5,)),
    "conv1d": (lambda layers, plain: layers.Conv1D(4, 5, **plain), (21, 3)),
    "conv2d": (lambda layers, plain: layers.Conv2D(4, (3, 2), **plain), (9, 8, 3)),
    "conv3d": (lambda layers, plain: layers.Conv3D(3, (2, 3, 1), **plain), (5, 7, 3, 2)),
    "grouped": (lambda layers, plain: layers.Conv2D(9, (3, 2), groups=3, **plain), (8, 7, 6)),
    "dilated": (lambda layers, plain: layers.Conv1D(4, 3, dilation_rate=2, **plain), (21, 3)),
    "depthwise": (lambda layers, plain: layers.DepthwiseConv2D((3, 2), depth_multiplier=2, **plain), (8, 7, 4)),
    "transposed": (lambda layers, plain: layers.Conv2DTranspose(5, (3, 2), **plain), (7, 6, 3)),
    "transposed 1d": (lambda layers, plain: layers.Conv1DTranspose(2, 4, **plain), (11, 3)),
    "einsum": (lambda layers, _: layers.EinsumDense("abc,cde->abde", output_shape=(None, 3, 4)), (2, 5)),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_layers(name: str) -> None:
    import keras

    from fanin.keras.adapter import describe

    make, shape = KERAS[name]
    layer = make(keras.layers, {"use_bias": False})
    model = keras.Sequential([keras.Input(shape), layer])
    fans = first(describe(model))
    assert (fans.fan_in, fans.fan_out) == counted(by_identity(layer, *shape))


FLAX = {
    "linear": (lambda nnx, rest: nnx.Linear(5, 7, rngs=rest["rngs"]), (5,)),
    "conv1d": (lambda nnx, rest: nnx.Conv(3, 4, 5, **rest), (21, 3)),
    "conv2d": (lambda nnx, rest: nnx.Conv(3, 4, (3, 2), **rest), (9, 8, 3)),
    "grouped": (lambda nnx, rest: nnx.Conv(6, 9, (3, 2), feature_group_count=3, **rest), (8, 7, 6)),
    "depthwise": (lambda nnx, rest: nnx.Conv(4, 8, (3, 2), feature_group_count=4, **rest), (8, 7, 4)),
    "transposed": (lambda nnx, rest: nnx.ConvTranspose(3, 5, (3, 2), **rest), (7, 6, 3)),
    "transposed kernel": (lambda nnx, rest: nnx.ConvTranspose(3, 5, (3, 2), transpose_kernel=True, **rest), (7, 6, 3)),
    "general": (lambda nnx, rest: nnx.LinearGeneral((3, 4), (5, 2), axis=(-2, -1), rngs=rest["rngs"]), (3, 4)),
}


@pytest.mark.parametrize("name", FLAX)
def test_flax_layers(name: str) -> None:
    from flax import nnx

    from fanin.jax.adapter import describe

    make, shape = FLAX[name]
    layer = make(nnx, {"padding": "VALID", "rngs": nnx.Rngs(0)})
    fans = first(describe(layer))
    assert (fans.fan_in, fans.fan_out) == counted(by_identity(layer, *shape))
