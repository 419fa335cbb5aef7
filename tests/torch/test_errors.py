"""Wrong use of `fanin.torch`: every mistake is told in the words of the call, and leaves the tensor as it was."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import fanin.torch as ours
from fanin.errors import FaninError

NAN, INF = math.nan, math.inf
WEIGHT, KERNEL, BIAS = (4, 3), (4, 3, 5), (5,)
CASES = [
    # function, shape, positional, keywords, words that the message must have besides the function's name
    ("normal_", WEIGHT, (), {"std": -1.0}, ["std", "-1.0"]),
    ("normal_", WEIGHT, (), {"std": NAN}, ["std", "nan"]),
    ("normal_", WEIGHT, (), {"std": INF}, ["std", "inf"]),
    ("normal_", WEIGHT, (), {"std": "0.1"}, ["std", "0.1"]),
    ("normal_", WEIGHT, (), {"std": None}, ["std", "None"]),
    ("normal_", WEIGHT, (), {"std": 1j}, ["std", "1j"]),
    ("normal_", WEIGHT, (), {"std": np.array([1.0, 2.0])}, ["std"]),
    ("normal_", WEIGHT, (), {"std": torch.tensor([1.0, 2.0])}, ["std"]),
    ("normal_", WEIGHT, (NAN,), {}, ["mean", "nan"]),
    ("normal_", WEIGHT, (), {"mean": -INF}, ["mean", "-inf"]),
    ("uniform_", WEIGHT, (2, 1), {}, [r"\ba\b", r"\bb\b"]),
    ("uniform_", WEIGHT, (NAN,), {}, [r"\ba\b", "nan"]),
    ("uniform_", WEIGHT, (), {"b": INF}, [r"\bb\b", "inf"]),
    ("uniform_", WEIGHT, (), {"b": "1"}, [r"\bb\b"]),
    ("trunc_normal_", WEIGHT, (), {"std": -1.0}, ["std", "-1.0"]),
    ("trunc_normal_", WEIGHT, (), {"std": 0}, ["std"]),
    ("trunc_normal_", WEIGHT, (), {"std": "1"}, ["std"]),
    ("trunc_normal_", WEIGHT, (), {"std": 10**400}, ["std"]),
    ("trunc_normal_", WEIGHT, (), {"mean": INF}, ["mean", "inf"]),
    ("trunc_normal_", WEIGHT, (), {"a": NAN}, [r"\ba\b", "nan"]),
    ("trunc_normal_", WEIGHT, (), {"a": 2.0, "b": 1.0}, [r"\ba\b", r"\bb\b", r"2\.0", r"1\.0"]),
    ("trunc_normal_", WEIGHT, (), {"a": 1.0, "b": 1.0}, [r"\ba\b", r"\bb\b"]),
    ("trunc_normal_", WEIGHT, (), {"std": 0.5, "a": 20.0, "b": 21.0}, [r"\ba\b", r"\bb\b", "20", "21"]),
    ("trunc_normal_", WEIGHT, (), {"a": INF, "b": INF}, [r"\ba\b", r"\bb\b"]),
    ("constant_", WEIGHT, (NAN,), {}, ["val", "nan"]),
    ("constant_", WEIGHT, ("a",), {}, ["val"]),
    ("constant_", WEIGHT, (None,), {}, ["val", "None"]),
    ("xavier_uniform_", BIAS, (), {}, [r"\(5,\)", "two axes"]),
    ("xavier_normal_", (), (), {}, ["two axes"]),
    ("xavier_normal_", WEIGHT, (NAN,), {}, ["gain", "nan"]),
    ("xavier_normal_", WEIGHT, (), {"gain": "relu"}, ["gain", "relu"]),
    ("xavier_uniform_", WEIGHT, (), {"gain": 1e200}, ["gain"]),
    ("kaiming_uniform_", BIAS, (), {}, [r"\(5,\)", "two axes"]),
    ("kaiming_normal_", BIAS, (), {}, [r"\(5,\)", "two axes"]),
    ("kaiming_normal_", WEIGHT, (), {"mode": "fan_middle"}, ["mode", "fan_middle", "fan_in, fan_out"]),
    ("kaiming_normal_", WEIGHT, (), {"mode": None}, ["mode", "None"]),
    ("kaiming_normal_", WEIGHT, (), {"nonlinearity": "relo"}, ["nonlinearity|activation", "relo", "relu"]),
    ("kaiming_normal_", WEIGHT, (), {"nonlinearity": 3}, ["nonlinearity|activation", "3"]),
    ("kaiming_normal_", WEIGHT, ("x",), {}, [r"\ba\b|slope", "x"]),
    ("kaiming_normal_", WEIGHT, (NAN,), {}, [r"\ba\b|slope", "nan"]),
    ("kaiming_normal_", WEIGHT, (True,), {}, [r"\ba\b|slope", "True"]),
    ("orthogonal_", BIAS, (), {}, [r"\(5,\)", "two axes"]),
    ("orthogonal_", WEIGHT, (NAN,), {}, ["gain", "nan"]),
    ("orthogonal_", WEIGHT, ("a",), {}, ["gain"]),
    ("eye_", BIAS, (), {}, [r"\(5,\)", "two axes"]),
    ("eye_", KERNEL, (), {}, [r"\(4, 3, 5\)", "two axes", "dirac_"]),
    ("sparse_", BIAS, (0.5,), {}, [r"\(5,\)", "two axes"]),
    ("sparse_", KERNEL, (0.5,), {}, [r"\(4, 3, 5\)", "two axes"]),
    ("sparse_", WEIGHT, (1.5,), {}, ["sparsity", "1.5"]),
    ("sparse_", WEIGHT, (NAN,), {}, ["sparsity", "nan"]),
    ("sparse_", WEIGHT, (0.5, -1.0), {}, ["std", "-1.0"]),
    ("dirac_", WEIGHT, (), {}, [r"\(4, 3\)", "3, 4 or 5 axes"]),
    ("dirac_", (4, 3, 1, 1, 1, 1), (), {}, ["3, 4 or 5 axes"]),
    ("dirac_", KERNEL, (3,), {}, ["groups", "3"]),
    ("dirac_", KERNEL, (0,), {}, ["groups", "0"]),
    ("dirac_", KERNEL, (1.5,), {}, ["groups", "1.5"]),
    ("glorot_normal_", WEIGHT, (), {"groups": 3}, ["groups", "3"]),
    ("normal_", WEIGHT, (), {"gates": 3}, ["gates", "3"]),
    ("normal_", WEIGHT, (), {"groups": 3}, ["groups", "3"]),
    ("normal_", WEIGHT, (), {"axes": ("in",)}, ["axes", "in"]),
    ("normal_", WEIGHT, (), {"axes": ("in", "up")}, ["axes", "up"]),
    ("normal_", WEIGHT, (), {"name": 3}, ["name", "3"]),
    ("normal_", WEIGHT, (), {"module": 3}, ["module"]),
    ("normal_", WEIGHT, (), {"module": nn.Linear(3, 4)}, ["module", "Linear", "weight, bias"]),
    ("kaiming_normal_", WEIGHT, (), {"module": nn.ReLU()}, ["module", "ReLU"]),
    ("normal_", WEIGHT, (), {"seed": 1, "generator": torch.Generator()}, ["seed", "generator"]),
    ("zeros_", WEIGHT, (), {"seed": 1, "generator": torch.Generator()}, ["seed", "generator"]),
    ("normal_", WEIGHT, (), {"generator": 42}, ["generator", "42"]),
    ("normal_", WEIGHT, (), {"seed": -1}, ["seed", "-1"]),
    ("normal_", WEIGHT, (), {"seed": 2**64}, ["seed", str(2**64)]),
    ("normal_", WEIGHT, (), {"seed": 1.5}, ["seed", "1.5"]),
    ("normal_", WEIGHT, (), {"seed": "7"}, ["seed", "7"]),
    ("delta_orthogonal_", (2, 3), (), {}, ["3 inputs", "2 units"]),
    ("mirrored_", (3, 3), (), {}, ["even"]),
    ("sinusoidal_", (2, 2), (), {}, ["three"]),
    ("stft_", WEIGHT, (), {}, ["frequencies"]),
    ("variance_scaling_", WEIGHT, (), {"mode": "fan_middle"}, ["mode", "fan_middle"]),
    ("truncated_normal_", WEIGHT, (), {"stddev": -1}, ["stddev", "-1"]),
    ("truncated_normal_", WEIGHT, (), {"lower": 2, "upper": 1}, ["lower", "upper"]),
    ("initialize_", WEIGHT, ("he_norml",), {}, ["he_norml", "Did you mean he_normal"]),
    ("initialize_", WEIGHT, (3,), {}, ["initializer", "3"]),
    ("initialize_", WEIGHT, ("orthogonal(gain='a')",), {}, ["gain", "orthogonal"]),
]  # fmt: skip
SHARED = {"seed", "generator", "gates", "groups", "axes", "name", "module", "nonlinearity"}
"""Options that mean the same in every function: naming the option is enough."""
KERAS_WORDS = (
    r"stddev|minval|maxval|lower|upper|random_\w+|truncated_normal|variance_scaling|identity|scale\b|__|\bdirac\b"
)


def identifier(case):
    function, shape, positional, keywords, _ = case
    return f"{function}{shape}-{positional}-{keywords}"[:70]


def refusal(function, tensor, positional, keywords):
    with pytest.raises(FaninError) as caught:
        getattr(ours, function)(tensor, *positional, **keywords)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=identifier)
def test_a_mistake_is_told_in_the_words_of_the_call(case):
    function, shape, positional, keywords, words = case
    message = refusal(function, torch.empty(shape), positional, keywords)
    for word in words:
        assert re.search(word, message), word
    if not SHARED & set(keywords) and function != "initialize_" and "slope" not in message:
        assert re.search(rf"\b{function.removesuffix('_')}_?\b", message)
    own = ("truncated_normal_", "variance_scaling_", "initialize_")
    if function not in own and "nonlinearity" not in keywords:
        assert not re.search(KERAS_WORDS, message)


@pytest.mark.parametrize("case", CASES, ids=identifier)
def test_a_mistake_leaves_tensor_and_generator_as_they_were(case):
    function, shape, positional, keywords, _ = case
    bits = torch.randint(-(2**31), 2**31, shape, dtype=torch.int64, generator=torch.Generator().manual_seed(0))
    bits = bits.to(torch.int32)
    tensor = bits.clone().view(torch.float32)  # any bits, so some are not numbers
    state = torch.get_rng_state()
    with pytest.raises(FaninError):
        getattr(ours, function)(tensor, *positional, **keywords)
    assert torch.equal(tensor.view(torch.int32), bits)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("case", CASES, ids=identifier)
def test_a_mistake_shows_on_a_meta_tensor_too(case):
    """Otherwise it would show only when the model is drawn, long after it was built."""
    function, shape, positional, keywords, _ = case
    refusal(function, torch.empty(shape, device="meta"), positional, keywords)


FILLING = sorted(name for name in ours.__all__ if name.endswith("_"))
NEEDED = {"constant_": (0.5,), "sparse_": (0.5,), "initialize_": ("he_normal",)}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool, torch.complex64, torch.uint8], ids=str)
@pytest.mark.parametrize("function", FILLING)
def test_only_real_floating_tensors_are_filled(function, dtype):
    tensor = torch.ones(6, 4, 3, dtype=dtype) if function == "dirac_" else torch.ones(6, 4, dtype=dtype)
    message = refusal(function, tensor, NEEDED.get(function, ()), {})
    assert function in message
    assert str(dtype) in message
    assert (tensor == 1).all()


@pytest.mark.parametrize(
    "given", [[1.0, 2.0], np.zeros((3, 2), np.float32), None, 3.0], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("function", FILLING)
def test_only_tensors_are_filled(function, given):
    message = refusal(function, given, NEEDED.get(function, ()), {})
    assert function in message
    assert type(given).__name__ in message


@pytest.mark.parametrize("function", FILLING)
def test_a_misspelt_keyword_is_refused(function):
    """Ignored, `sed=0` would give other weights each time, and `std=` of a law without one another law."""
    tensor = torch.full((6, 4, 3) if function == "dirac_" else (6, 4), 7.0)
    for wrong in ({"sed": 0}, {"standard_deviation": 3.0}):
        with pytest.raises(FaninError):
            getattr(ours, function)(tensor, *NEEDED.get(function, ()), **wrong)
    assert (tensor == 7).all()


def test_a_sparse_tensor_is_refused():
    tensor = torch.eye(3).to_sparse()
    with pytest.raises(FaninError, match="layout"):
        ours.normal_(tensor)
    assert torch.equal(tensor.to_dense(), torch.eye(3))


def test_memory_that_is_shared_between_elements_is_refused_as_torch_does():
    base = torch.ones(3)
    for function in (nn.init.normal_, ours.normal_, ours.orthogonal_):
        with pytest.raises((RuntimeError, FaninError)):
            function(base.expand(4, 3))
    assert (base == 1).all()
