"""The drop-in initializers on Keras's JAX backend: Keras's names, calls and configs, fanin's values.

What they do in layers and models is in test_initializers_in_models.py.
"""

import inspect
import json
import math
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import fanin.keras as initializers
from fanin import sample
from fanin.errors import FaninError
from fanin.initializers import INITIALIZERS
from fanin.keras import backend

backend.start(None)

Z = 5.0
"""Standard errors a moment may be off: a false alarm in less than one of a million fixed seeds."""
# STFT is Keras's own class, computed in float32 by Keras's operations: equal to a tolerance, not to the bit.
SHAPES = {"stft": (16, 1, 9), "identity": (6, 5), "delta_orthogonal": (3, 2, 4, 6)}
BITWISE = sorted(set(INITIALIZERS) - {"stft"})
SEEDED = sorted(name for name, entry in INITIALIZERS.items() if entry.random)
PUBLIC = [name for name in dir(keras.initializers) if not name.startswith("_")]
CLASSES = sorted({getattr(keras.initializers, name).__name__ for name in PUBLIC if name[0].isupper()} - {"Initializer"})


def shape_of(name: str) -> tuple[int, ...]:
    return SHAPES.get(name, (3, 2, 4, 6))


def made(name: str, **given: Any) -> Any:
    seed = {"seed": 7} if INITIALIZERS[name].random else {}
    return getattr(initializers, INITIALIZERS[name].class_name)(**seed, **given)


def numbers(tensor: Any) -> Any:
    return keras.ops.convert_to_numpy(tensor.value if isinstance(tensor, keras.Variable) else tensor)


def same(tensor: Any, expected: Any) -> bool:
    array = numbers(tensor)
    return array.shape == expected.shape and array.dtype == expected.dtype and array.tobytes() == expected.tobytes()


# -------------------------------------------------------------------------------------------- names and calls
@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_of_keras_is_here(name: str) -> None:
    assert hasattr(initializers, name)
    assert name in dir(initializers)


@pytest.mark.parametrize("name", CLASSES)
def test_keras_parameters_come_first_with_keras_defaults(name: str) -> None:
    theirs, ours = (
        [(p.name, p.default, p.kind) for p in inspect.signature(getattr(module, name)).parameters.values()]
        for module in (keras.initializers, initializers)
    )
    assert ours[: len(theirs)] == theirs
    # What is added is given by keyword alone.
    added = {kind for *_, kind in ours[len(theirs) :]}
    assert added <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_whole_table_is_reachable_by_every_name(name: str) -> None:
    entry = INITIALIZERS[name]
    kind = getattr(initializers, entry.class_name)
    assert getattr(initializers, name) is kind
    assert issubclass(kind, keras.initializers.Initializer)
    for spelling in (name, entry.class_name, f"{entry.class_name}Initializer", *entry.aliases):
        assert type(initializers.get(spelling)) is kind


def test_get_takes_what_keras_takes() -> None:
    mine = initializers.HeNormal(seed=3)
    array = np.arange(6, dtype="float32").reshape(2, 3)
    assert initializers.get(None) is None
    assert initializers.get(mine) is mine
    assert type(initializers.get(initializers.HeNormal)) is initializers.HeNormal
    assert initializers.get(keras.ops.zeros) is keras.ops.zeros
    assert same(initializers.get(array)((2, 3)), array)
    with pytest.raises(ValueError, match="Expected `shape` to be"):
        initializers.get(array)((3, 3))
    with pytest.raises(ValueError, match="Could not interpret"):
        initializers.get(1.5)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(FaninError, match=r"Hint: Did you mean he_normal") as caught:
        initializers.get("he_norml")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(AttributeError, match="he_norml"):
        _ = initializers.he_norml


def test_importing_loads_no_framework() -> None:
    program = """
import sys, fanin.keras
dir(fanin.keras)
print(sorted({name.split('.')[0] for name in sys.modules} & {'keras', 'jax', 'tensorflow', 'torch', 'numba'}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


# -------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize("name", BITWISE)
def test_outside_of_a_layer_values_are_those_of_sample(name: str) -> None:
    assert same(made(name)(shape_of(name)), sample(name, shape_of(name), seed=7))


def test_stft_is_that_of_sample_up_to_rounding() -> None:
    # Keras computes angles up to 2 pi 15 * 8 / 16 < 48 in float32: each is off by less than 48 * 2**-22.
    np.testing.assert_allclose(numbers(made("stft")((16, 1, 9))), sample("stft", (16, 1, 9), seed=0), atol=48 * 2**-22)


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("RandomNormal", {"mean": 1.0, "stddev": 0.5}, "random_normal(mean=1.0, stddev=0.5)"),
        ("RandomUniform", {"minval": 0, "maxval": 2}, "random_uniform(minval=0, maxval=2)"),
        ("TruncatedNormal", {"stddev": 2.0}, "truncated_normal(stddev=2.0)"),
        ("TruncatedNormal", {"lower": -1.0, "upper": 3.0}, "truncated_normal(lower=-1.0, upper=3.0)"),
        ("Orthogonal", {"gain": 2.0}, "orthogonal(gain=2.0)"),
        ("Sparse", {"sparsity": 0.5}, "sparse(sparsity=0.5)"),
        ("Mirrored", {"sides": "out"}, "mirrored(sides='out')"),
        ("Dirac", {"centre": "upper"}, "dirac(centre='upper')"),
        ("VarianceScaling", {"scale": 3.0, "mode": "fan_geo_avg"}, "variance_scaling(scale=3.0, mode='fan_geo_avg')"),
        ("VarianceScaling", {"activation": "gelu"}, "variance_scaling(activation='gelu')"),
        ("VarianceScaling", {"distribution": "orthogonal"}, "variance_scaling(distribution='orthogonal')"),
        ("VarianceScaling", {"distribution": "normal"}, "variance_scaling"),  # Keras's normal is cut, JAX's is not
        ("VarianceScaling", {"distribution": "Uniform"}, "variance_scaling(distribution='uniform')"),
        ("VarianceScaling", {"mode": "fan_out", "seed": 2**64 - 1}, "variance_scaling(mode='fan_out')"),
    ],
)
def test_parameters_reach_the_law(kind: str, given: dict[str, Any], text: str) -> None:
    init = getattr(initializers, kind)(**{"seed": 7, **given})
    assert same(init((3, 2, 4, 6)), sample(text, (3, 2, 4, 6), seed=given.get("seed", 7)))
    assert same(init.clone()((3, 2, 4, 6)), numbers(init((3, 2, 4, 6))))


def test_the_gain_of_an_activation_is_that_of_he() -> None:
    ours, he = initializers.VarianceScaling(activation="relu", seed=1), initializers.HeNormal(seed=1)
    np.testing.assert_allclose(numbers(ours((9, 8))), numbers(he((9, 8))), rtol=2**-21)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", BITWISE)
def test_narrow_types_are_rounded_from_float32(name: str, dtype: str) -> None:
    expected = sample(name, shape_of(name), seed=7).astype(numbers(keras.ops.zeros((), dtype)).dtype)
    assert same(made(name)(shape_of(name), dtype=dtype), expected)


@pytest.mark.parametrize("name", SEEDED)
def test_float64(name: str) -> None:
    import jax

    with jax.enable_x64(True):
        assert same(made(name)(shape_of(name), "float64"), sample(name, shape_of(name), seed=7).astype("float64"))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float16"])
def test_policies(policy: str) -> None:
    layer = layers.Dense(4, kernel_initializer=initializers.HeNormal(seed=7), dtype=policy, name="head")
    layer.build((None, 3))
    kind = numbers(keras.ops.zeros((), "float32" if policy.startswith("mixed") else policy)).dtype
    assert same(layer.kernel, sample("he_normal", (3, 4), seed=7, name="head/kernel").astype(kind))


def test_a_scalar_a_list_and_an_empty_weight() -> None:
    assert same(initializers.RandomNormal(seed=7)(()), sample("random_normal", (), seed=7))
    assert same(initializers.RandomNormal(seed=7)(list(np.array([2, 3]))), sample("random_normal", (2, 3), seed=7))
    assert numbers(initializers.HeNormal(seed=7)((0, 3))).shape == (0, 3)


# -------------------------------------------------------------------------------------------- options
def test_the_gates_of_an_lstm_are_orthogonal_one_by_one() -> None:
    layer = layers.LSTM(16, recurrent_initializer=initializers.Orthogonal(seed=7, gates=4), name="memory")
    layer.build((None, 5, 3))
    kernel = numbers(layer.cell.recurrent_kernel).astype("float64")
    for block in np.split(kernel, 4, axis=1):
        # Entries are off by 2**-24 of themselves, so a product of unit columns by 2**-23 or less.
        np.testing.assert_allclose(block.T @ block, np.eye(16), atol=2**-22)
    assert len({block.tobytes() for block in np.split(kernel, 4, axis=1)}) == 4


def test_the_variance_of_a_depthwise_kernel_counts_positions_alone() -> None:
    axes = ("spatial", "spatial", "batch", "out")
    init = initializers.HeNormal(seed=7, axes=axes)
    layer = layers.DepthwiseConv2D((3, 2), depth_multiplier=8, depthwise_initializer=init, name="depth")
    layer.build((None, 9, 9, 128))
    kernel = numbers(layer.kernel)
    assert same(layer.kernel, sample("he_normal", (3, 2, 128, 8), seed=7, name="depth/kernel", axes=axes))
    # A cut normal has less kurtosis than a normal, so (sample variance / variance) has a variance below 2 / n.
    assert abs(np.mean(kernel.astype("float64") ** 2) * 6 / 2 - 1) < Z * math.sqrt(2 / kernel.size)


def test_groups_count_into_fan_out() -> None:
    init = initializers.VarianceScaling(mode="fan_out", seed=7, groups=2)
    layer = layers.Conv2D(6, 3, groups=2, kernel_initializer=init, name="conv")
    layer.build((None, 9, 9, 4))
    expected = sample("variance_scaling(mode='fan_out')", (3, 3, 2, 6), seed=7, name="conv/kernel", groups=2)
    assert same(layer.kernel, expected)


def test_input_and_output_axes_mean_what_they_mean_in_keras() -> None:
    init = initializers.LecunUniform(seed=7, input_axes=[0, 1], output_axes=(2,))
    assert same(init((3, 4, 5)), sample("lecun_uniform", (3, 4, 5), seed=7, axes=("in", "in", "out")))
    only = initializers.LecunUniform(seed=7, input_axes=[0, 1])  # Keras needs both
    assert same(only((3, 4, 5)), sample("lecun_uniform", (3, 4, 5), seed=7))
    batch = initializers.HeNormal(seed=7, input_axes=[-2], output_axes=[-1])
    assert same(batch((3, 4, 5)), sample("he_normal", (3, 4, 5), seed=7, axes=("batch", "in", "out")))


# -------------------------------------------------------------------------------------------- seeds
def test_without_a_seed_keras_decides() -> None:
    def draw(seed: int) -> bytes:
        keras.utils.set_random_seed(seed)
        init = initializers.GlorotUniform()
        assert init.get_config()["seed"] is None
        assert same(init((4, 5)), numbers(init((4, 5))))  # as in Keras, an initializer keeps the seed it found
        return numbers(init((4, 5))).tobytes() + numbers(initializers.GlorotUniform()((4, 5))).tobytes()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1)[:80] != draw(1)[80:]


def test_a_seed_generator_gives_new_values_at_each_call_and_starts_again_in_a_clone() -> None:
    init = initializers.GlorotUniform(seed=keras.random.SeedGenerator(5))
    first, second = init((4, 5)), init((4, 5))
    assert [same(first, sample("glorot_uniform", (4, 5), seed=5 << 32 | count)) for count in range(2)] == [True, False]
    assert same(second, sample("glorot_uniform", (4, 5), seed=5 << 32 | 1))
    assert numbers(init.seed.state).tolist() == [5, 2]
    for revived in (init.clone(), initializers.GlorotUniform(seed=init.get_config()["seed"])):
        assert same(revived((4, 5)), numbers(first))


def test_a_numpy_integer_is_a_seed_that_can_be_written() -> None:
    init = initializers.HeNormal(seed=np.int64(7))
    assert same(init((4, 5)), sample("he_normal", (4, 5), seed=7))
    assert json.loads(json.dumps(init.get_config()))["seed"] == 7


# -------------------------------------------------------------------------------------------- configs
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CLASSES),
    *((name, {"seed": 3}) for name in CLASSES if "seed" in inspect.signature(getattr(initializers, name)).parameters),
    ("RandomNormal", {"mean": 1.0, "stddev": 2.0, "seed": 3}),
    ("TruncatedNormal", {"mean": 1.0, "stddev": 2.0}),
    ("RandomUniform", {"minval": 0.0, "maxval": 1.0}),
    ("HeNormal", {"input_axes": [0], "output_axes": [1, 2]}),
    ("VarianceScaling", {"scale": 2.0, "mode": "fan_avg", "distribution": "uniform"}),
    ("VarianceScaling", {"distribution": "normal"}),
    ("VarianceScaling", {"distribution": "UNTRUNCATED_NORMAL"}),
    ("Orthogonal", {"gain": 2.0}),
    ("Constant", {"value": 2.0}),
]
FANIN: list[tuple[str, dict[str, Any]]] = [
    ("HeNormal", {"axes": ("spatial", "spatial", "batch", "out")}),
    ("Orthogonal", {"gates": 2, "groups": 3}),
    ("VarianceScaling", {"activation": "tanh", "mode": "fan_geo_avg", "distribution": "orthogonal"}),
    ("TruncatedNormal", {"lower": -1.0, "upper": math.inf}),
    ("Mirrored", {"sides": "in", "gain": 2.0}),
    ("DeltaOrthogonal", {"centre": "upper"}),
    ("Sparse", {"sparsity": 0.5}),
    ("Sinusoidal", {"mode": "fan_in"}),
]


@pytest.mark.parametrize(("name", "given"), CONFIGS)
def test_the_config_is_the_one_that_keras_writes(name: str, given: dict[str, Any]) -> None:
    theirs = getattr(keras.initializers, name)(**given).get_config()
    assert getattr(initializers, name)(**given).get_config() == theirs


@pytest.mark.parametrize(("name", "given"), CONFIGS + FANIN)
def test_configs_go_round(name: str, given: dict[str, Any]) -> None:
    init = getattr(initializers, name)(**given)
    config = init.get_config()
    written = json.loads(json.dumps(initializers.serialize(init)))
    for revived in (
        type(init).from_config(config),
        init.clone(),
        initializers.deserialize(written),
        initializers.get(written),
        keras.initializers.get(written),
        keras.saving.deserialize_keras_object(written),
        initializers.deserialize({"class_name": name, "config": config}),
        initializers.get({"class_name": name, "config": config}),
    ):
        assert type(revived) is type(init)
        assert revived.get_config() == config


@keras.saving.register_keras_serializable(package="theirs")
class HeNormal(keras.initializers.Initializer):  # type: ignore[misc]
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.ones(shape, dtype)


def test_a_class_of_someone_else_with_the_same_name_stays_theirs() -> None:
    written = initializers.serialize(HeNormal())
    assert type(keras.initializers.deserialize(written)) is HeNormal
    assert type(initializers.deserialize(written)) is HeNormal
    short = {"class_name": "HeNormal", "config": {}}
    assert type(initializers.deserialize(short, custom_objects={"HeNormal": HeNormal})) is HeNormal


# -------------------------------------------------------------------------------------------- mistakes
def wrong(name: str, shape: Any = (4, 6), dtype: Any = None, **given: Any) -> Any:
    return pytest.param(name, given, shape, dtype, id=f"{name}-{given or shape}-{dtype}")


@pytest.mark.parametrize(
    ("name", "given", "shape", "dtype"),
    [
        wrong("RandomNormal", stddev=-1.0),
        wrong("RandomNormal", mean=math.nan),
        wrong("RandomNormal", stddev="big"),
        wrong("RandomUniform", minval=1.0, maxval=0.0),
        wrong("TruncatedNormal", lower=1.0, upper=1.0),
        wrong("Orthogonal", gain=math.inf),
        wrong("Orthogonal", shape=(4,)),
        wrong("Orthogonal", gates=4),
        wrong("HeNormal", seed=-1),
        wrong("HeNormal", seed=2**64),
        wrong("HeNormal", seed=1.5),
        wrong("HeNormal", seed="seven"),
        wrong("HeNormal", dtype="int32"),
        wrong("HeNormal", dtype="complex64"),
        wrong("HeNormal", axes=("in",)),
        wrong("HeNormal", axes=("in", "up")),
        wrong("HeNormal", gates=0),
        wrong("HeNormal", groups=0),
        wrong("HeNormal", groups=1.5),
        wrong("HeNormal", input_axes=[5], output_axes=[1]),
        wrong("Mirrored", shape=(3, 5)),
        wrong("Mirrored", sides="left"),
        wrong("DeltaOrthogonal", shape=(6, 4)),
        wrong("Dirac", centre="middle"),
        wrong("Sparse", sparsity=2.0),
        wrong("VarianceScaling", activation="rellu"),
    ],
)
def test_mistakes_are_told(name: str, given: dict[str, Any], shape: Any, dtype: Any) -> None:
    with pytest.raises(FaninError) as caught:
        getattr(initializers, name)(**{"seed": 7, **given})(shape, dtype)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_unknown_parameter_is_refused(name: str) -> None:
    with pytest.raises((TypeError, FaninError)):
        getattr(initializers, INITIALIZERS[name].class_name)(gatez=4)


@pytest.mark.parametrize(
    ("given", "beginning"),
    [
        *(({"scale": scale}, "Argument `scale` must be positive float") for scale in (-1.0, 0, math.nan, "x", None)),
        *(({"mode": mode}, "Invalid `mode` argument:") for mode in ("fan", None, 1)),
        *(({"distribution": kind}, "Invalid `distribution` argument:") for kind in ("cauchy", None, 1)),
    ],
)
def test_mistakes_of_variance_scaling_begin_with_keras_words(given: dict[str, Any], beginning: str) -> None:
    with pytest.raises(FaninError) as caught:
        initializers.VarianceScaling(**given)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(beginning)
