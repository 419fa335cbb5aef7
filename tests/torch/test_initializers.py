"""`fanin.torch` as a drop-in for `torch.nn.init`: names, memory, precision, seeds, and the bits of `fanin.sample`."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

import fanin
import fanin.torch as ours
from fanin.initializers import INITIALIZERS, fills
from fanin.initializers.laws import Normal, TruncatedNormal, Uniform
from fanin.torch import adapter

SHAPES = [(6,), (6, 4), (6, 4, 5), (6, 4, 5, 2), (6, 4, 3, 2, 2)]
"""No two axes alike but in the last; even sizes for mirrored, no more inputs than units for delta_orthogonal."""
SPECIAL = {
    "identity": "eye_",
    "random_normal": "normal_",
    "random_uniform": "uniform_",
}
"""Entries of the table whose function has PyTorch's name."""
ELEMENTWISE = {
    "normal_": ({"mean": 0.5, "std": 2}, "random_normal(mean=0.5, stddev=2.0)"),
    "uniform_": ({"a": -1, "b": 3.0}, "random_uniform(minval=-1.0, maxval=3.0)"),
    "trunc_normal_": (
        {"mean": 0.5, "std": 0.25, "a": 0.25, "b": 1.5},
        "truncated_normal(mean=0.5, stddev=0.25, lower=-1.0, upper=4.0)",
    ),
    "truncated_normal_": ({"stddev": 0.5}, "truncated_normal(stddev=0.5)"),
    "constant_": ({"val": 0.1}, "constant(value=0.1)"),
}
"""Function, its parameters, and the same in fanin's own words; these need no fans."""
SCALED = {
    "xavier_uniform_": ({"gain": 2}, "variance_scaling(scale=4.0, mode='fan_avg', distribution='uniform')"),
    "xavier_normal_": ({}, "variance_scaling(mode='fan_avg', distribution='untruncated_normal')"),
    "kaiming_uniform_": (
        {"nonlinearity": "linear", "mode": "FAN_OUT"},
        "variance_scaling(mode='fan_out', distribution='uniform')",
    ),
    "kaiming_normal_": (
        {"nonlinearity": "tanh", "mode": "fan_geo_avg"},
        f"variance_scaling(scale={(5 / 3) ** 2!r}, mode='fan_geo_avg', distribution='untruncated_normal')",
    ),
    "orthogonal_": ({"gain": 1.5}, "orthogonal(gain=1.5)"),
    "variance_scaling_": ({"activation": "gelu"}, "variance_scaling(activation='gelu')"),
    "delta_orthogonal_": ({"gain": 3.0, "centre": "upper"}, "delta_orthogonal(gain=3.0, centre='upper')"),
    **{f"{name}_": ({}, name) for name in INITIALIZERS if name.startswith(("glorot", "he_", "lecun"))},
    **{f"{name}_": ({}, name) for name in ("fan_in_uniform", "hadamard", "mirrored", "scaled_orthogonal")},
    "sinusoidal_": ({}, "sinusoidal"),
}
"""The same for laws of weights, which have two axes or more."""
EQUAL = [
    *((name, *words, shape) for name, words in ELEMENTWISE.items() for shape in [(), *SHAPES]),
    *((name, *words, shape) for name, words in SCALED.items() for shape in SHAPES[1:]),
]
LAWS = [Uniform(-1.0, 3.0), Normal(0.5, 2.0), TruncatedNormal(0.0, 0.25)]
FILLS = {Uniform: ("uniform_", {"a": -1.0, "b": 3.0}), Normal: ("normal_", {"mean": 0.5, "std": 2.0}),
         TruncatedNormal: ("truncated_normal_", {"stddev": 0.25})}  # fmt: skip


def in_canonical_layout(tensor):
    """(out, in, spatial...) as (spatial..., in, out)."""
    count = tensor.dim()
    return tensor.permute((*range(2, count), *reversed(range(min(count, 2))))).numpy()


def arguments(name, shape=(6, 4)):
    """What a function of this name needs besides the tensor, and a shape that it can fill."""
    needed = {"constant_": {"val": 0.5}, "sparse_": {"sparsity": 0.5}, "initialize_": {"init": "he_normal"}}
    return needed.get(name, {}), {"dirac_": (6, 4, 3), "stft_": (5, 1, 8)}.get(name, shape)


FUNCTIONS = sorted(name for name in ours.__all__ if name.endswith("_"))
ALIASES = sorted(name for name in ours.__all__ if not name.endswith("_") and name != "calculate_gain")


# ------------------------------------------------------------------------------------- names and signatures
def test_every_name_of_torch_nn_init_is_here():
    assert set(nn.init.__all__) <= set(ours.__all__)
    assert all(callable(getattr(ours, name)) for name in ours.__all__)
    assert ours.__all__ == sorted(ours.__all__)


@pytest.mark.parametrize("name", sorted(set(nn.init.__all__) - set(ALIASES)))
def test_the_parameters_begin_like_those_of_torch(name):
    def positional(function):
        return [
            (each.name, each.default)
            for each in inspect.signature(function).parameters.values()
            if each.kind is each.POSITIONAL_OR_KEYWORD
        ]

    theirs = positional(getattr(nn.init, name))
    assert positional(getattr(ours, name))[: len(theirs)] == theirs


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_initializer_of_the_table_has_its_function(name):
    function = SPECIAL.get(name, f"{name}_")
    assert function in ours.__all__
    given, shape = arguments(function)
    a, b = torch.empty(shape), torch.empty(shape)
    getattr(ours, function)(a, seed=5, **given)
    if name not in ("constant", "random_normal", "random_uniform", "sparse", "dirac"):  # whose defaults are PyTorch's
        assert torch.equal(a, ours.initialize_(b, name, seed=5))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_tensor_comes_back_filled(name):
    given, shape = arguments(name)
    tensor = torch.full(shape, math.nan)
    assert getattr(ours, name)(tensor, **given) is tensor
    assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_meta_tensor_comes_back_as_it_is(name):
    given, shape = arguments(name)
    tensor = torch.empty(shape, device="meta")
    state = torch.get_rng_state()
    assert getattr(ours, name)(tensor, **given) is tensor
    assert tensor.is_meta
    assert torch.equal(torch.get_rng_state(), state)


# --------------------------------------------------------------------------------------------------- the bits
@pytest.mark.parametrize(("name", "given", "text", "shape"), EQUAL, ids=lambda value: str(value)[:60])
def test_with_a_seed_the_values_are_those_of_sample(name, given, text, shape):
    tensor = getattr(ours, name)(torch.empty(shape), seed=2**64 - 3, name="net.0.weight", **given)
    array = in_canonical_layout(tensor)
    np.testing.assert_array_equal(array, fanin.sample(text, array.shape, seed=2**64 - 3, name="net.0.weight"))


def test_sparse_counts_the_rows_of_the_tensor_as_torch_does():
    tensor = ours.sparse_(torch.empty(7, 4), 0.5, std=0.3, seed=1)
    expected = fanin.sample("sparse(sparsity=0.5, stddev=0.3)", (7, 4), seed=1)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    linear = nn.Linear(7, 4)
    ours.sparse_(linear.weight, 0.5, std=0.3, seed=1, module=linear)
    np.testing.assert_array_equal(linear.weight.detach().T.numpy(), expected)


@pytest.mark.parametrize("axes", [("in", "out"), ("out", "in")])
def test_named_axes_gates_and_groups_are_those_of_sample(axes):
    tensor = ours.orthogonal_(torch.empty(12, 24), seed=3, axes=axes, gates=4)
    np.testing.assert_array_equal(tensor.numpy(), fanin.sample("orthogonal", (12, 24), seed=3, axes=axes, gates=4))
    kernel = ours.he_normal_(torch.empty(6, 2, 5), seed=3, groups=3, axes=("out", "in", "spatial"))
    expected = fanin.sample("he_normal", (5, 2, 6), seed=3, groups=3)
    np.testing.assert_array_equal(in_canonical_layout(kernel), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "given", "shape"), [
    ("normal_", {}, (6, 4, 3)), ("uniform_", {}, (50,)), ("trunc_normal_", {}, ()), ("orthogonal_", {}, (6, 4)),
    ("kaiming_uniform_", {}, (6, 4)), ("sparse_", {"sparsity": 0.5}, (6, 4)), ("dirac_", {}, (6, 4, 3)),
])  # fmt: skip
def test_other_precisions_are_rounded_from_float32(name, given, shape, dtype):
    function = getattr(ours, name)
    expected = function(torch.empty(shape), seed=4, **given).to(dtype)
    assert torch.equal(function(torch.empty(shape, dtype=dtype), seed=4, **given), expected)


@pytest.mark.parametrize("shape", [(2**22 + 5,), (2049, 2053)], ids=str)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_large_tensor_filled_in_parts_equals_one_draw(law, shape):
    name, given = FILLS[type(law)]
    expected = fills._elements(law, 8, "weight", 0, math.prod(shape))  # NumPy, at once
    tensor = getattr(ours, name)(torch.empty(shape), seed=8, **given)
    assert np.array_equal(in_canonical_layout(tensor).reshape(-1), expected)
    if isinstance(law, Normal):
        low = getattr(ours, name)(torch.empty(shape, dtype=torch.bfloat16), seed=8, **given)
        assert torch.equal(low, tensor.bfloat16())


@pytest.mark.parametrize("limit", [1, 2, 7, 30])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parts_leave_no_seam(monkeypatch, shape, limit):
    whole = [getattr(ours, name)(torch.empty(shape), seed=8, **given) for name, given in FILLS.values()]
    monkeypatch.setattr(adapter, "_CHUNK", limit)
    for (name, given), expected in zip(FILLS.values(), whole, strict=True):
        assert torch.equal(getattr(ours, name)(torch.empty(shape), seed=8, **given), expected)


# ----------------------------------------------------------------------------------------------------- memory
VIEWS = {
    "transposed": lambda base: base.T,
    "columns": lambda base: base[:, 2:5],
    "steps": lambda base: base[1::3, ::4],
    "transposed steps": lambda base: base[::2, 1::3].T,
    "row": lambda base: base[3],
    "column": lambda base: base[:, 3],
    "element": lambda base: base[3, 4],
    "inner": lambda base: base[2:6, 1:9].unflatten(1, (2, 4))[:, :, 1:3],
    "turned": lambda base: base.unflatten(0, (2, 6)).permute(2, 1, 0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_filled_and_its_neighbours_are_not(view, dtype):
    base = torch.full((12, 10), math.nan, dtype=dtype)
    part = VIEWS[view](base)
    inside = torch.zeros(12, 10)
    VIEWS[view](inside).fill_(1)
    for name in ("normal_", *(("orthogonal_",) if part.dim() > 1 else ())):
        base.fill_(math.nan)
        expected = getattr(ours, name)(torch.empty(part.shape, dtype=dtype), seed=6)
        assert getattr(ours, name)(part, seed=6) is part
        assert torch.equal(part, expected)
        assert torch.equal(torch.isnan(base), inside == 0)


LARGE_VIEWS = {
    "whole": lambda base: base,
    "transposed": lambda base: base.T,
    "columns": lambda base: base[:, 7:301],
    "steps": lambda base: base[1::2, ::3],
    "transposed steps": lambda base: base[::3, 1::2].T,
    "column": lambda base: base[:, 3],
    "kernel": lambda base: base[:, 5:455].unflatten(1, (50, 3, 3)),
    "channels last": lambda base: base.unflatten(1, (5, 2, 50)).permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("count", ["1", "3"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("view", LARGE_VIEWS)
def test_a_large_view_is_filled_by_compiled_code_in_place(monkeypatch, view, law, count):
    pytest.importorskip("numba")
    from fanin.initializers import compiled  # where it is loaded, it is used

    assert compiled
    monkeypatch.setenv("FANIN_THREADS", count)
    monkeypatch.setattr(fills, "_WORTH_A_THREAD", 1 << 12)
    base, inside = torch.full((1290, 500), math.nan), torch.zeros(1290, 500)
    part = LARGE_VIEWS[view](base)
    LARGE_VIEWS[view](inside).fill_(1)
    name, given = FILLS[type(law)]
    getattr(ours, name)(part, seed=9, **given)
    array = in_canonical_layout(part)
    assert np.array_equal(array, fills._elements(law, 9, "weight", 0, part.numel()).reshape(array.shape))
    assert torch.equal(torch.isnan(base), inside == 0)


def test_channels_last_is_only_another_order_in_memory():
    plain, turned = torch.empty(6, 4, 3, 5), torch.empty(6, 4, 3, 5).to(memory_format=torch.channels_last)
    assert torch.equal(ours.he_normal_(turned, seed=0), ours.he_normal_(plain, seed=0))
    assert turned.is_contiguous(memory_format=torch.channels_last)


# --------------------------------------------------------------------------------------------------- autograd
@pytest.mark.parametrize("shape", [(5,), (6, 4)], ids=str)
def test_a_parameter_stays_a_leaf_with_its_gradient(shape):
    weight = nn.Parameter(torch.ones(shape))
    weight.grad = torch.full(shape, 7.0)
    before = weight.grad
    assert ours.normal_(weight, seed=1) is weight
    assert weight.is_leaf
    assert weight.requires_grad
    assert weight.grad is before
    assert (before == 7).all()
    with torch.inference_mode():
        assert torch.equal(ours.normal_(torch.empty(shape), seed=1), weight)


@pytest.mark.parametrize("shape", [(5,), (6, 4), (1, 4)], ids=str)
@pytest.mark.parametrize("name", ["normal_", "zeros_"])
def test_autograd_learns_that_a_saved_tensor_was_overwritten(name, shape):
    """torch.nn.init is a change in place that backward refuses to compute with; a silent one gives wrong gradients."""
    weight = nn.Parameter(torch.ones(shape))
    loss = (weight * weight).sum()
    getattr(ours, name)(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---------------------------------------------------------------------------------------------------- seeds
def random_functions():
    plain = [*ELEMENTWISE, *SCALED, "sparse_"]
    return sorted(set(plain) - {"constant_", "hadamard_", "sinusoidal_"})


@pytest.mark.parametrize("name", random_functions())
def test_a_generator_is_used_and_moves_on(name):
    function, (given, shape) = getattr(ours, name), arguments(name)
    generator, whole = torch.Generator().manual_seed(3), torch.get_rng_state()
    start = generator.get_state()
    first = function(torch.empty(shape), generator=generator, **given)
    second = function(torch.empty(shape), generator=generator, **given)
    again = function(torch.empty(shape), generator=torch.Generator().manual_seed(3), **given)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(generator.get_state(), start)
    assert torch.equal(torch.get_rng_state(), whole)


@pytest.mark.parametrize("name", random_functions())
def test_manual_seed_decides_and_equals_a_generator(name):
    function, (given, shape) = getattr(ours, name), arguments(name)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first, second = function(torch.empty(shape), **given), function(torch.empty(shape), **given)
        torch.manual_seed(3)
        again = function(torch.empty(shape), **given)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(first, function(torch.empty(shape), generator=torch.Generator().manual_seed(3), **given))


@pytest.mark.parametrize("name", random_functions())
def test_a_seed_leaves_all_generators_alone_and_names_differ(name):
    function, (given, shape) = getattr(ours, name), arguments(name)
    state = torch.get_rng_state()
    first = function(torch.empty(shape), seed=np.int64(3), **given)
    assert torch.equal(first, function(torch.empty(shape), seed=3, name="weight", **given))
    assert not torch.equal(first, function(torch.empty(shape), seed=3, name="other", **given))
    assert not torch.equal(first, function(torch.empty(shape), seed=4, **given))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "name", ["zeros_", "ones_", "constant_", "eye_", "dirac_", "hadamard_", "stft_", "sinusoidal_"]
)
def test_what_is_not_random_leaves_the_generator_alone(name):
    """As in torch.nn.init: a bias set to zero must not change the next layer's weights, or the first dropout mask."""
    given, shape = arguments(name)
    state = torch.get_rng_state()
    getattr(ours, name)(torch.empty(shape), **given)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), 0.5])
def test_numbers_of_numpy_and_torch_are_numbers(number):
    expected = ours.normal_(torch.empty(3), std=0.5, seed=1)
    assert torch.equal(ours.normal_(torch.empty(3), std=number, seed=1), expected)
    ours.trunc_normal_(torch.empty(3), std=number)
    ours.xavier_normal_(torch.empty(3, 2), gain=number)
    assert (ours.constant_(torch.empty(3), number) == 0.5).all()
