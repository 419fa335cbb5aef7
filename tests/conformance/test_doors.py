"""One table: every law x framework x type, through each framework's own call, against the NumPy specification.

What a door gives is the specification's float32 array, rounded once to the type asked for; so mean, variance,
distribution and support, which test_laws.py holds the specification to, hold behind every door.
"""

import ml_dtypes
import numpy as np
import pytest
import torch

import fanin
import fanin.jax
import fanin.torch
from fanin.initializers import INITIALIZERS
from fanin.keras.backend import start

start(None)
import keras  # noqa: E402 - the backend is chosen first

import fanin.keras  # noqa: E402

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SHAPES = {"identity": (6, 8), "stft": (8, 1, 5), "delta_orthogonal": (3, 2, 6, 8)}
TORCH_NAMES = {"identity": "eye_", "random_normal": "normal_", "random_uniform": "uniform_"}
# PyTorch's functions of these names have defaults, or a centre, of their own.
TORCH_DEFAULTS = {
    "random_normal": {"std": 0.05},
    "random_uniform": {"a": -0.05, "b": 0.05},
    "constant": {"val": 0.0},
    "sparse": {"sparsity": 0.9, "axes": ("out", "in")},
}
ENTRIES = [name for name in INITIALIZERS if name != "dirac"]


def shape_of(name):
    return SHAPES.get(name, (6, 8) if name == "sparse" else (3, 6, 8))


def through_torch(name, shape, kind):
    order = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
    tensor = torch.full([shape[i] for i in order], torch.nan, dtype=getattr(torch, kind))
    function = getattr(fanin.torch, TORCH_NAMES.get(name, f"{name}_"))
    assert function(tensor, seed=7, name="w", **TORCH_DEFAULTS.get(name, {})) is tensor
    return tensor.permute(tuple(np.argsort(order))).float().numpy()


def through_keras(name, shape, kind):
    initializer = fanin.keras.get(name)
    initializer.seed = 7
    with keras.name_scope("w"):
        return np.asarray(initializer(shape, dtype=kind)).astype(np.float32)


def through_jax(name, shape, kind):
    import jax

    factory = getattr(fanin.jax, name)
    if name in ("zeros", "ones"):
        return np.asarray(factory(jax.random.key(7), shape, kind)).astype(np.float32)
    initializer = {
        "constant": lambda: factory(0.0),
        "variance_scaling": lambda: factory(1.0, "fan_in", "truncated_normal", name="w"),
        "truncated_normal": lambda: factory(0.05, name="w"),
    }.get(name, lambda: factory(name="w"))()
    return np.asarray(initializer(jax.random.key(7), shape, kind)).astype(np.float32)


DOORS = {"torch": through_torch, "keras": through_keras, "jax": through_jax}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ENTRIES)
def test_a_door_gives_the_specification_rounded_once(name, door, kind):
    shape = shape_of(name)
    expected = fanin.sample(name, shape, seed=7, name="w").astype(TYPES[kind]).astype(np.float32)
    given = DOORS[door](name, shape, kind)
    assert given.shape == shape
    tolerance = 2e-7 if (door, name) == ("keras", "stft") else 0  # Keras's own, which computes in float32
    np.testing.assert_allclose(given, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("centre", ["lower", "upper"])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_goes_through_every_door(centre, groups):
    shape = (4, 3, 3, 6)  # an even and an odd size
    expected = fanin.sample(f"dirac(centre='{centre}')", shape, seed=0, groups=groups)
    import jax

    through = fanin.jax.dirac(centre=centre, groups=groups)(jax.random.key(0), shape)
    assert (np.asarray(through) == expected).all()
    assert (np.asarray(fanin.keras.Dirac(centre=centre, groups=groups)(shape)) == expected).all()
    tensor = torch.empty(6, 3, 4, 3)
    if centre == "upper":
        assert (fanin.torch.dirac_(tensor, groups).permute(2, 3, 1, 0).numpy() == expected).all()
        assert torch.equal(tensor, torch.nn.init.dirac_(torch.empty(6, 3, 4, 3), groups))


def test_every_entry_is_behind_every_door():
    for name in INITIALIZERS:
        assert hasattr(fanin.torch, TORCH_NAMES.get(name, f"{name}_")), name
        assert hasattr(fanin.keras, name), name
        assert hasattr(fanin.keras, INITIALIZERS[name].class_name), name
        assert hasattr(fanin.jax, name), name
