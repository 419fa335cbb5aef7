"""Fans from named axes, for every kind of layer, and against Keras where Keras is right."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.initializers.fans import Fans, axes_of_shape, canonical_order, fans, fans_of
from fanin.keras import backend
from fanin.records import ParamInfo

S, B, I, O = "spatial", "batch", "in", "out"  # noqa: E741
quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
axes_strategy = st.lists(st.sampled_from([S, B, I, O]), max_size=6)

LAYERS = {
    "dense": ((5, 7), (I, O), {}, (5, 7)),
    "conv1d": ((3, 5, 7), (S, I, O), {}, (15, 21)),
    "conv2d": ((2, 3, 5, 7), (S, S, I, O), {}, (30, 42)),
    "conv3d": ((2, 3, 4, 5, 7), (S, S, S, I, O), {}, (120, 168)),
    "conv2d in PyTorch's layout": ((7, 5, 2, 3), (O, I, S, S), {}, (30, 42)),
    "grouped conv, 8 to 12 channels": ((3, 3, 2, 12), (S, S, I, O), {"groups": 4}, (18, 27)),
    "depthwise": ((3, 5, 16, 2), (S, S, B, O), {}, (15, 30)),
    "transposed conv": ((3, 3, 7, 5), (S, S, O, I), {}, (45, 63)),
    "lstm kernel": ((5, 28), (I, O), {"gates": 4}, (5, 7)),
    "gru recurrent kernel": ((7, 21), (I, O), {"gates": 3}, (7, 7)),
    "experts": ((8, 5, 7), (B, I, O), {}, (5, 7)),
    "attention, query: two out axes": ((12, 3, 5), (I, O, O), {}, (12, 15)),
    "attention, output: two in axes": ((3, 5, 11), (I, I, O), {}, (15, 11)),
}


@pytest.mark.parametrize(("shape", "axes", "blocks", "expected"), LAYERS.values(), ids=LAYERS)
def test_fans(shape, axes, blocks, expected):
    result = fans(shape, axes, **blocks)
    receptive = math.prod(size for size, axis in zip(shape, axes, strict=True) if axis == S)
    assert result == Fans(*expected, receptive)
    assert fans_of(ParamInfo("w", shape, "float32", axes, "dense", **blocks)) == result
    assert result.fan_avg == sum(expected) / 2
    assert result.fan_geo_avg == pytest.approx(math.sqrt(math.prod(expected)))
    assert (result.rows * receptive, result.columns * receptive) == expected


def test_a_grouped_convolution_counted_by_hand():
    # Which weight joins which input and output channel: output o of group o // 3 sees the 2 inputs of its group.
    kernel, inputs, outputs, groups = 9, 8, 12, 4
    joined = [(i, o) for i in range(inputs) for o in range(outputs) if i // 2 == o // 3]
    into = {kernel * sum(1 for _, o in joined if o == unit) for unit in range(outputs)}
    out_of = {kernel * sum(1 for i, _ in joined if i == unit) for unit in range(inputs)}
    result = fans((3, 3, inputs // groups, outputs), (S, S, I, O), groups=groups)
    assert ({result.fan_in}, {result.fan_out}) == (into, out_of)


@quick
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([S, B, I, O])), max_size=5))
def test_every_weight_is_counted_once(sized):
    shape, axes = [size for size, _ in sized], [axis for _, axis in sized]
    count = {kind: math.prod(size for size, axis in sized if axis == kind) for kind in (B, I, O)}
    result = fans(shape, axes)
    assert result.fan_in * count[O] * count[B] == result.fan_out * count[I] * count[B] == math.prod(shape)


def test_axes_that_do_not_fit_the_shape_are_refused():
    with pytest.raises(ValueError, match="zip"):
        fans((3, 4), (I,))


@quick
@given(axes_strategy)
def test_canonical_order_sorts_and_keeps_the_order_among_equals(axes):
    order = canonical_order(axes)
    assert sorted(order) == list(range(len(axes)))
    ranks = [([S, B, I, O].index(axes[position]), position) for position in order]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("shape", "axes"), [((), ()), ((4,), (O,)), ((4, 5), (I, O)), ((2, 4, 5), (S, I, O)), ((2, 3, 4, 5), (S, S, I, O))]
)
def test_axes_of_shape(shape, axes):
    assert axes_of_shape(shape) == axes


@pytest.mark.parametrize(
    ("layer", "arguments", "inputs"),
    [
        ("Dense", {"units": 7}, (None, 5)),
        ("Conv1D", {"filters": 7, "kernel_size": 3}, (None, 9, 5)),
        ("Conv2D", {"filters": 7, "kernel_size": (2, 3)}, (None, 9, 8, 5)),
        ("Conv3D", {"filters": 7, "kernel_size": (2, 3, 4)}, (None, 9, 8, 6, 5)),
    ],
)
def test_keras_agrees_where_it_is_right(layer, arguments, inputs):
    backend.start(None)
    import keras
    from keras.src.initializers.random_initializers import compute_fans

    built = getattr(keras.layers, layer)(**arguments, kernel_initializer="zeros")  # the shape alone counts
    built.build(inputs)
    shape = tuple(built.kernel.shape)
    assert len(set(shape)) == len(shape)  # not square: swapped axes would show
    result = fans(shape, axes_of_shape(shape))
    assert (result.fan_in, result.fan_out) == compute_fans(shape)
