"""Values of described parameters: any part of any initializer in any layout, and what `sample` takes and refuses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.errors import FaninError, InvalidValueError, UnknownNameError
from fanin.initializers import INITIALIZERS, Fans, decide, draw_param, fill, sample
from fanin.initializers.draws import boxes
from fanin.initializers.fans import fans_of
from fanin.records import Init, ParamInfo

S, B, I, O = "spatial", "batch", "in", "out"  # noqa: E741
quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
LAYOUTS = {
    "scalar": ((), (), {}),
    "vector": ((7,), (O,), {}),
    "dense": ((4, 6), (I, O), {}),
    "dense, PyTorch's layout": ((6, 4), (O, I), {}),
    "conv1d": ((3, 4, 6), (S, I, O), {}),
    "conv2d, PyTorch's layout": ((6, 4, 2, 3), (O, I, S, S), {}),
    "conv3d": ((3, 2, 2, 4, 6), (S, S, S, I, O), {}),
    "transposed conv": ((3, 2, 6, 4), (S, S, O, I), {}),
    "lstm": ((4, 24), (I, O), {"gates": 4}),
    "packed attention, PyTorch's layout": ((18, 6), (O, I), {"gates": 3}),
    "grouped conv": ((12, 2, 3), (O, I, S), {"groups": 3}),
    "depthwise": ((3, 2, 5, 4), (S, S, B, O), {}),
    "experts with gates": ((12, 3, 4), (O, B, I), {"gates": 2}),
    "heads": ((4, 3, 2), (I, O, O), {}),
    "stft": ((8, 1, 5), (S, I, O), {}),
}
ELEMENTWISE = {"zeros", "ones", "constant", "fan_in_uniform", "variance_scaling", "truncated_normal"}
ELEMENTWISE |= {name for name in INITIALIZERS if name.endswith(("_normal", "_uniform"))}


def fits(name, layout):
    """Whether an initializer is meant for a layout, as the table and the documentation say."""
    shape, *_ = LAYOUTS[layout]
    if name in ELEMENTWISE:
        return True
    if name == "stft":
        return layout == "stft"
    if name == "identity":
        return len(shape) == 2
    if name == "mirrored":  # an even number of inputs and units
        return len(shape) > 1 and layout not in ("stft", "depthwise")
    return len(shape) > 1


CASES = [(name, layout) for name in INITIALIZERS for layout in LAYOUTS if fits(name, layout)]


def param(layout, path="w"):
    shape, axes, blocks = LAYOUTS[layout]
    return ParamInfo(path, shape, "float32", axes, "dense", **blocks)


def parts(shape, count=12):
    """Parts of a shape: the whole, single elements, nothing, and at random, some counted from the end."""
    rng = np.random.default_rng(len(shape))
    yield tuple(slice(None) for _ in shape)
    yield tuple(slice(size - 1, size) for size in shape)
    yield tuple(slice(-1, None) for _ in shape)
    yield tuple(slice(1, 1) for _ in shape)
    for _ in range(count):
        cuts = [sorted(rng.integers(0, size + 1, 2).tolist()) for size in shape]
        yield tuple(slice(*cut) for cut in cuts)


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_part_is_the_part_of_the_whole(name, layout):
    described = param(layout)
    whole = draw_param(described, Init(name), 5)
    assert whole.shape == described.shape
    for part in parts(described.shape):
        drawn = draw_param(described, Init(name), 5, part)
        expected = whole[part]
        assert drawn.shape == expected.shape
        assert drawn.dtype == np.float32
        assert drawn.flags.c_contiguous
        assert (drawn == expected).all()


@st.composite
def described_parts(draw):
    sized = draw(st.lists(st.tuples(st.integers(1, 7), st.sampled_from([S, B, I, O])), min_size=1, max_size=5))
    shape, axes = tuple(size for size, _ in sized), tuple(axis for _, axis in sized)
    part = [slice(*sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size))))) for size in shape]
    return ParamInfo("w", shape, "float32", axes, "dense"), part


@quick
@given(described_parts(), st.sampled_from(["he_normal", "he_uniform", "random_normal", "ones"]))
def test_any_part_of_any_axes(case, name):
    described, part = case
    whole = draw_param(described, Init(name), 5)
    assert (draw_param(described, Init(name), 5, part) == whole[tuple(part)]).all()
    # Element i counts row by row in the canonical layout: what a plain fill of the same law draws.
    order = sorted(range(len(described.axes)), key=lambda k: ([S, B, I, O].index(described.axes[k]), k))
    flat = np.empty(whole.size, np.float32)
    fill(flat, decide(Init(name), fans_of(described)), seed=5, name="w")
    assert (whole.transpose(order).reshape(-1) == flat).all()


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) - {"identity", "stft"}))
def test_a_layout_is_the_transposed_canonical_one(name):
    canonical = draw_param(ParamInfo("w", (2, 3, 4, 6), "float32", (S, S, I, O), "conv"), Init(name), 1)
    pytorch = draw_param(ParamInfo("w", (6, 4, 2, 3), "float32", (O, I, S, S), "conv"), Init(name), 1)
    assert (pytorch == canonical.transpose(3, 2, 0, 1)).all()
    assert pytorch.flags.c_contiguous
    assert (pytorch == sample(name, (6, 4, 2, 3), seed=1, name="w", axes=(O, I, S, S))).all()
    assert (canonical == sample(name, (2, 3, 4, 6), seed=1, name="w")).all()


def test_a_large_part_draws_nothing_else(monkeypatch):
    """A shard of a parameter far larger than memory."""
    described = ParamInfo("w", (2**20, 2**20), "float32", (O, I), "dense")
    part = (slice(2**19, 2**19 + 2), slice(2**20 - 3, 2**20))
    drawn = draw_param(described, Init("he_normal"), 0, part)
    for i, j in np.ndindex(2, 3):
        one = np.empty(1, np.float32)
        fill(
            one,
            decide(Init("he_normal"), Fans(2**20, 2**20)),
            seed=0,
            name="w",
            start=(2**20 - 3 + j) * 2**20 + 2**19 + i,
        )
        assert drawn[i, j] == one[0]


# -------------------------------------------------------------------------------------------------- boxes
@quick
@given(st.lists(st.integers(1, 6), max_size=4), st.integers(1, 50))
def test_boxes_cover_every_element_once(shape, limit):
    count = np.zeros(shape, int)
    for part in boxes(shape, limit):
        assert count[part].size <= limit
        assert count[part].size > 0
        count[part] += 1
    assert (count == 1).all()


# ------------------------------------------------------------------------------------------------- sample
@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4), (1, 1, 1, 1, 1, 2)])
def test_sample_gives_the_shape_that_was_asked_for(name, shape):
    array = sample(name, shape, seed=0)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert np.isfinite(array).all()


def test_sample_takes_every_way_of_writing_an_initializer():
    expected = sample("he_normal", (4, 3), seed=9)
    for init in ("kaiming_normal", "HeNormal()", Init("he_normal"), {"class_name": "HeNormal", "config": {}}):
        assert (sample(init, (4, 3), seed=9) == expected).all()
    assert (sample("he_normal", [np.int64(4), 3], seed=np.uint8(9), name="weight") == expected).all()


def test_sample_is_draw_param():
    for layout, (shape, axes, blocks) in LAYOUTS.items():
        array = sample("he_normal", shape, seed=2, name="w", axes=axes, **blocks)
        assert (array == draw_param(param(layout), Init("he_normal"), 2)).all()


def test_gates_and_groups_enter_the_fans():
    # Four gates side by side: each has its own fan-out; a group's inputs reach the units of that group only.
    one = sample("glorot_uniform", (30, 40), seed=0, name="w")
    for blocks in ({"gates": 4}, {"groups": 4}):
        packed = sample("glorot_uniform", (30, 40), seed=0, name="w", **blocks)
        ratio = math.sqrt((30 + 40) / (30 + 10))
        assert packed == pytest.approx(one * ratio, rel=1e-6)


AXES = "one of spatial, batch, in, out for each axis"
CENTRED = ("dirac", "hadamard", "scaled_orthogonal", "delta_orthogonal")
WRONG = [
    ("zeros", (3, 0), {}, "The shape is no shape", "whole numbers of 1 or more"),
    ("zeros", (-1,), {}, "The shape is no shape", "whole numbers"),
    ("zeros", 3, {}, "The shape is no shape", "whole numbers"),
    ("zeros", (3, 2.5), {}, "The shape is no shape", "whole numbers"),
    ("zeros", (3, None), {}, "The shape is no shape", "whole numbers"),
    ("zeros", "34", {}, "The shape is no shape", "whole numbers"),
    ("orthogonal", (3,), {}, "orthogonal does not fit this shape", "two axes or more"),
    ("orthogonal", (), {}, "orthogonal does not fit this shape", "two axes or more"),
    ("identity", (3,), {}, "identity does not fit this shape", "two axes"),
    ("identity", (2, 3, 4), {}, "identity does not fit this shape", "two axes"),
    ("sparse", (3,), {}, "sparse does not fit this shape", "two axes or more"),
    ("sinusoidal", (3,), {}, "sinusoidal does not fit this shape", "two axes or more"),
    *((name, (3,), {}, "does not fit this shape", "two axes or more") for name in CENTRED),
    *((name, (2, 2, 2, 2, 3, 4), {}, "does not fit this shape", "up to three spatial axes") for name in CENTRED),
    ("variance_scaling(distribution='orthogonal')", (3,), {}, "does not fit this shape", "two axes or more"),
    ("mirrored", (4,), {}, "mirrored does not fit this shape", "an even number"),
    ("mirrored", (4, 12), {"gates": 4}, "mirrored does not fit this shape", "an even number"),
    ("delta_orthogonal", (4, 12), {"gates": 4}, "delta_orthogonal does not fit this shape", "no more inputs"),
    ("stft", (4, 3), {}, "stft does not fit this shape", "(frame, 1, frequencies)"),
    ("stft", (4, 2, 3), {}, "stft does not fit this shape", "(frame, 1, frequencies)"),
    ("he_normal", (3, 2), {"seed": -1}, "The seed is not a 64-bit number", "0 to 2**64 - 1"),
    ("he_normal", (3, 2), {"seed": 2**64}, "The seed is not a 64-bit number", "0 to 2**64 - 1"),
    ("orthogonal", (3, 2), {"seed": 0.5}, "The seed is not a 64-bit number", "0 to 2**64 - 1"),
    ("zeros", (3, 2), {"seed": None}, "The seed is not a 64-bit number", "0 to 2**64 - 1"),
    ("zeros", (3, 4), {"axes": (I,)}, "The axes do not name those of the shape", AXES),
    ("zeros", (3, 4), {"axes": (I, O, O)}, "The axes do not name those of the shape", AXES),
    ("zeros", (3, 4), {"axes": (I, "output")}, "The axes do not name those of the shape", AXES),
    ("zeros", (3, 4), {"axes": "in"}, "The axes do not name those of the shape", AXES),
    ("zeros", (3, 4), {"axes": (0, 1)}, "The axes do not name those of the shape", AXES),
    ("zeros", (3, 4), {"axes": 1}, "The axes do not name those of the shape", AXES),
    *(
        ("zeros", (3, 4), {kind: count}, f"The {kind} do not fit this shape", "whole numbers that divide 4 units")
        for kind in ("gates", "groups")
        for count in (3, 8, 0, -1, 2.0, "2", None)
    ),
    ("zeros", (3, 4), {"gates": 4, "groups": 4}, "do not fit this shape", "divide 4 units"),
    ("zeros", (3, 4), {"gates": 2, "axes": (I, I)}, "The gates do not fit this shape", "divide 1 units"),
    (3, (3, 4), {}, "This is no initializer", "a name, a text"),
    (None, (3, 4), {}, "This is no initializer", "a name, a text"),
    ("random_uniform(minval=1)", (3, 2), {}, "wrong way round", "minval up to maxval"),
]  # fmt: skip


@pytest.mark.parametrize(("init", "shape", "other", "what", "allowed"), WRONG)
def test_what_cannot_be_drawn(init, shape, other, what, allowed):
    with pytest.raises(InvalidValueError) as error:
        sample(init, shape, **{"seed": 0, **other})
    assert what in error.value.what
    assert allowed in error.value.allowed


def test_a_name_that_is_no_initializer():
    with pytest.raises(UnknownNameError, match="Did you mean he_normal"):
        sample("he_norml", (3, 2), seed=0)
    assert issubclass(UnknownNameError, FaninError)
