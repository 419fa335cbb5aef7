"""One network written in Keras and in PyTorch, one seed, one name for each weight: the same network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import fanin.torch.adapter as in_torch
from fanin.initializers import INITIALIZERS, draw_param
from fanin.initializers.fans import canonical_order, fans_of
from fanin.keras.backend import start
from fanin.records import Init

start(None)

import keras  # noqa: E402 - only after the backend is decided
from keras import layers  # noqa: E402

import fanin.keras.adapter as in_keras  # noqa: E402


class Flatten(nn.Module):
    """Channels last, as Keras keeps them."""

    def forward(self, x):
        return x.movedim(1, -1).flatten(1)


def dense():
    ours = keras.Sequential(
        [keras.Input((784,)), layers.Dense(37, "relu", name="hidden"), layers.Dense(10, name="head")]
    )
    theirs = nn.Sequential(nn.Linear(784, 37), nn.ReLU(), nn.Linear(37, 10))
    return ours, theirs, {"hidden": "0", "head": "2"}, (784,)


def convolutions():
    ours = keras.Sequential(
        [
            keras.Input((9, 8, 4)),
            layers.Conv2D(6, (3, 2), activation="relu", name="first"),
            layers.Conv2D(9, (2, 3), groups=3, activation="relu", name="grouped"),
            layers.Conv2DTranspose(5, (3, 2), name="up"),
            layers.Flatten(),
            layers.Dense(7, name="head"),
        ]
    )
    theirs = nn.Sequential(
        nn.Conv2d(4, 6, (3, 2)), nn.ReLU(), nn.Conv2d(6, 9, (2, 3), groups=3), nn.ReLU(),
        nn.ConvTranspose2d(9, 5, (3, 2)), Flatten(), nn.Linear(8 * 6 * 5, 7),
    )  # fmt: skip
    return ours, theirs, {"first": "0", "grouped": "2", "up": "4", "head": "6"}, (9, 8, 4)


NETWORKS = {"dense": dense, "convolutions": convolutions}
LAWS = sorted(
    name
    for name, entry in INITIALIZERS.items()
    if name not in ("stft", "mirrored", "delta_orthogonal", "identity", "dirac")
)
"""The others do not fit every weight of these networks (odd sizes, more inputs than units, two axes alone)."""
SEED = 2**63 + 11


def initialise(module, model, law, common):
    """Draw every parameter under its common name; weights by the law, biases normal. Returns those by that name."""
    drawn = {}
    for param in module.describe(model).params:
        init = Init(law) if param.axes else Init("random_normal", stddev=0.1)
        axes = param.axes or ("out",)
        drawn[param.path] = draw_param(replace(param, path=common[param.path], axes=axes), init, SEED)
    module.write(model, drawn)
    return {common[path]: array for path, array in drawn.items()}


def both(name, law):
    ours, theirs, layer_names, shape = NETWORKS[name]()
    common_of_keras = {f"{layer}/{own}": f"{layer}.{own}" for layer in layer_names for own in ("kernel", "bias")}
    common_of_torch = {
        f"{number}.{own}": f"{layer}.{'kernel' if own == 'weight' else own}"
        for layer, number in layer_names.items()
        for own in ("weight", "bias")
    }
    initialise(in_keras, ours, law, common_of_keras)
    initialise(in_torch, theirs, law, common_of_torch)
    return ours, theirs, common_of_keras, common_of_torch, shape


def canonical_values(param, array):
    """The values in canonical order; a batch axis of one, with which PyTorch's groups begin, is no axis."""
    array = np.asarray(array).reshape(param.shape)
    array = array.transpose(canonical_order(param.axes)) if param.axes else array
    return array.reshape([size for size, axis in zip(array.shape, sorted_axes(param), strict=True) if axis != "batch"])


def sorted_axes(param):
    return [param.axes[i] for i in canonical_order(param.axes)] if param.axes else ["out"] * len(param.shape)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_are_identical(name, law):
    ours, theirs, common_of_keras, common_of_torch, _ = both(name, law)
    first = {
        common_of_keras[param.path]: (param, variable)
        for param, variable in zip(in_keras.describe(ours).params, ours.trainable_variables, strict=True)
    }
    second = {
        common_of_torch[param.path]: (param, parameter.detach())
        for param, parameter in zip(in_torch.describe(theirs).params, theirs.parameters(), strict=True)
    }
    assert first.keys() == second.keys()
    for path, (param, variable) in first.items():
        other, parameter = second[path]
        if param.axes:
            assert fans_of(param) == fans_of(other), path
        np.testing.assert_array_equal(canonical_values(param, variable), canonical_values(other, parameter), path)


@pytest.mark.parametrize("law", ["he_normal", "glorot_uniform", "orthogonal"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_equal(name, law):
    ours, theirs, _, _, shape = both(name, law)
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    first = np.asarray(ours(x))
    with torch.no_grad():
        signal = torch.from_numpy(x)
        second = theirs(signal.movedim(-1, 1) if x.ndim == 4 else signal).numpy()
        # Rounding does at most n * 2**-24 of the sum of the magnitudes of a sum's n terms; over layers these add up.
        for parameter in theirs.parameters():
            parameter.abs_()
        size = theirs(signal.abs().movedim(-1, 1) if x.ndim == 4 else signal.abs()).numpy()
    terms = sum(fans_of(param).fan_in + 1 for param in in_torch.describe(theirs).params if param.axes)
    bound = 2 * terms * 2.0**-24 * size  # once for each framework
    assert first.shape == second.shape
    assert (np.abs(first - second) <= bound).all()
    assert bound.max() < np.abs(second).max() / 10  # so that equal means something


def test_another_name_gives_other_weights():
    """The name, not the order of the layers, decides: swapping two names swaps two streams."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    first, second = (p for p in in_torch.describe(model).params if p.axes)
    a, b = draw_param(first, Init("he_normal"), 0), draw_param(second, Init("he_normal"), 0)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(draw_param(replace(second, path=first.path), Init("he_normal"), 0), a)
