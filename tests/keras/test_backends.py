"""JAX, TensorFlow and PyTorch behind Keras: Keras's own tests pass, and every weight has the same bits."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fanin import sample
from fanin.initializers import INITIALIZERS

pytestmark = pytest.mark.slow  # three processes that import everything

BACKENDS = ("jax", "tensorflow", "torch")
SHIPPED = ("random_initializers_test.py", "constant_initializers_test.py")
# STFT is Keras's own class: each backend computes its sines in float32 in its own way.
TABLE = sorted(set(INITIALIZERS) - {"stft"})
SHAPES = {"identity": (6, 5), "delta_orthogonal": (3, 2, 4, 6)}
RANDOM = sorted(name for name in TABLE if INITIALIZERS[name].random)

CONFTEST = """
import keras
import pytest

def skip_if_backend(name, reason):
    return pytest.mark.skipif(keras.backend.backend() == name, reason=reason)
"""

# Every initializer that a layer takes is set: {case: (class, arguments, input shapes)}.
LAYERS = {
    "dense": ("Dense", {"units": 5}, [[None, 7]]),
    "einsum": ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": [9, 2, 5], "bias_axes": "e"}, [[2, 9, 6]]),
    "embedding": ("Embedding", {"input_dim": 7, "output_dim": 5}, [[None, 4]]),
    "conv1d": ("Conv1D", {"filters": 5, "kernel_size": 3}, [[None, 9, 6]]),
    "conv2d": ("Conv2D", {"filters": 4, "kernel_size": [3, 2], "groups": 2}, [[None, 9, 8, 6]]),
    "conv3d": ("Conv3D", {"filters": 5, "kernel_size": [3, 2, 1]}, [[None, 7, 6, 5, 4]]),
    "transposed1d": ("Conv1DTranspose", {"filters": 5, "kernel_size": 3}, [[None, 9, 6]]),
    "transposed2d": ("Conv2DTranspose", {"filters": 5, "kernel_size": [3, 2]}, [[None, 9, 8, 6]]),
    "transposed3d": ("Conv3DTranspose", {"filters": 5, "kernel_size": [3, 2, 1]}, [[None, 7, 6, 5, 4]]),
    "depthwise1d": ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, [[None, 9, 6]]),
    "depthwise2d": ("DepthwiseConv2D", {"kernel_size": [3, 2], "depth_multiplier": 2}, [[None, 9, 8, 6]]),
    "separable1d": ("SeparableConv1D", {"filters": 5, "kernel_size": 3}, [[None, 9, 6]]),
    "separable2d": ("SeparableConv2D", {"filters": 5, "kernel_size": 3}, [[None, 9, 8, 6]]),
    "rnn": ("SimpleRNN", {"units": 6}, [[None, 9, 6]]),
    "gru": ("GRU", {"units": 6}, [[None, 9, 6]]),
    # With unit_forget_bias Keras puts a bias together from two draws and ones.
    "lstm": ("LSTM", {"units": 6, "unit_forget_bias": False}, [[None, 9, 6]]),
    "convlstm": ("ConvLSTM1D", {"filters": 3, "kernel_size": 3, "unit_forget_bias": False}, [[None, 5, 9, 6]]),
    "attention": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [[None, 9, 6], [None, 9, 6]]),
    "grouped": (
        "GroupQueryAttention",
        {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
        [[None, 9, 6], [None, 9, 6]],
    ),
    "batchnorm": ("BatchNormalization", {}, [[None, 6]]),
    "layernorm": ("LayerNormalization", {}, [[None, 6]]),
    "groupnorm": ("GroupNormalization", {"groups": 2}, [[None, 6]]),
    "prelu": ("PReLU", {}, [[None, 6]]),
}

PROGRAM = """
import inspect, json, sys
import numpy as np
import keras
import pytest
import fanin.keras as initializers

given = json.loads(sys.argv[1])
folder = given["folder"]

def told(tensor):
    if isinstance(tensor, keras.Variable):
        tensor = tensor.value
    array = keras.ops.convert_to_numpy(tensor)
    return [list(array.shape), str(array.dtype), array.tobytes().hex()]

def made(name, seed):
    kind = initializers.get(name)
    return type(kind)(**({"seed": seed} if "seed" in kind.get_config() else {}))

found = {"backend": keras.backend.backend(), "table": {}, "layers": {}, "narrow": {}}
for name, shape in given["table"].items():
    found["table"][name] = told(made(name, 7)(shape))
    found["narrow"][name] = told(keras.ops.cast(made(name, 7)(shape, "bfloat16"), "float32"))

for case, (kind, arguments, shapes) in given["layers"].items():
    if not hasattr(keras.layers, kind):
        continue
    kind = getattr(keras.layers, kind)
    names = [n for n in inspect.signature(kind.__init__).parameters if n.endswith("_initializer")]
    own = {n: initializers.RandomNormal(seed=7) for n in names}
    layer = kind(**arguments, **own, name=case)
    layer.build(*[tuple(shape) for shape in shapes])
    found["layers"][case] = {weight.path: told(weight) for weight in layer.weights}

keras.utils.clear_session(free_memory=False)
shared = initializers.HeNormal(seed=7)
generator = keras.random.SeedGenerator(5)
inputs = keras.Input((9, 6))
x = keras.layers.Conv1D(6, 3, kernel_initializer=shared, name="conv")(inputs)
x = keras.layers.LSTM(6, recurrent_initializer=initializers.Orthogonal(seed=7, gates=4), name="memory")(x)
x = keras.layers.Dense(6, kernel_initializer=shared, name="hidden")(x)
x = keras.layers.Dense(6, kernel_initializer=initializers.Mirrored(seed=7, gain=2.0), name="mirror")(x)
head = initializers.VarianceScaling(2.0, activation="gelu", seed=generator)
model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer=head, name="head")(x))
found["model"] = {w.path: told(w) for w in model.weights if "kernel" in w.path and w.path != "memory/lstm_cell/kernel"}
model.save(f"{folder}/{found['backend']}.keras")
found["configs"] = {"own": [layer.get_config() for layer in model.layers[1:]]}

# A model that another backend has saved.
if given["other"]:
    loaded = keras.models.load_model(f"{folder}/{given['other']}.keras")
    found["configs"]["other"] = [layer.get_config() for layer in loaded.layers[1:]]
    found["loaded"] = {w.path: told(w) for w in loaded.weights if w.path in found["model"]}

# A few steps of training on top, traced and compiled by the backend.
model.compile("sgd", "mse", jit_compile=False)
rng = np.random.default_rng(0)
model.fit(rng.normal(size=(8, 9, 6)), rng.normal(size=(8, 3)), batch_size=4, verbose=0)
found["finite"] = all(bool(np.isfinite(keras.ops.convert_to_numpy(w.value)).all()) for w in model.weights)

class Counter:
    counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1

pytest.main(["-q", "-p", "no:cacheprovider", "-W", "default", *given["tests"]], plugins=[Counter()])
found["tests"] = Counter.counts
print("FOUND" + json.dumps(found))
"""


def environment(backend: str) -> dict[str, str]:
    return os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}


def shipped(folder: Path) -> list[str]:
    """Keras's own tests with one line changed, in a folder with the conftest that they want."""
    spec = find_spec("keras")
    assert spec is not None
    assert spec.origin is not None
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    line, ours = r"^from keras\.src import initializers$", "import fanin.keras as initializers"
    for name in SHIPPED:
        text = (Path(spec.origin).parent / "src" / "initializers" / name).read_text()
        changed, count = re.subn(line, ours, text, flags=re.MULTILINE)
        assert count == 1
        (folder / name).write_text(changed)
    return [str(folder / name) for name in SHIPPED]


def installed(backend: str) -> bool:
    return find_spec(backend) is not None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one process on each backend says; each reads the model that the one before has saved."""
    folder = tmp_path_factory.mktemp("backends")
    tests = shipped(folder)
    found: dict[str, dict[str, Any]] = {}
    for backend in filter(installed, BACKENDS):
        table = {name: SHAPES.get(name, (3, 2, 4, 6)) for name in TABLE}
        given = {"table": table, "layers": LAYERS, "folder": str(folder), "tests": tests}
        given["other"] = list(found)[-1] if found else None
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(given)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=environment(backend),
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
        assert lines, f"{backend}: {done.stderr[-3000:]}"
        found[backend] = json.loads(lines[0].removeprefix("FOUND")) | {"output": done.stdout}
    return found


@pytest.fixture(params=BACKENDS)
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    everything: dict[str, dict[str, Any]] = request.getfixturevalue("results")
    return everything[request.param]


def told(array: Any) -> list[Any]:
    """An array as the program on the other side writes it."""
    return [list(array.shape), str(array.dtype), array.tobytes().hex()]


def test_the_program_ran_on_the_backend(result: dict[str, Any], request: pytest.FixtureRequest) -> None:
    assert result["backend"] == request.node.callspec.params["result"]
    assert result["finite"]


def test_the_tests_that_keras_ships_pass(result: dict[str, Any]) -> None:
    # 20 tests in Keras 3.15; none may be skipped, either.
    spec = find_spec("keras.src.initializers")
    assert spec is not None
    assert spec.origin is not None
    texts = [(Path(spec.origin).parent / name).read_text() for name in SHIPPED]
    tests = sum(len(re.findall(r"^    def test_", text, flags=re.MULTILINE)) for text in texts)
    assert tests >= 15
    assert result["tests"] == {"passed": tests, "failed": 0, "skipped": 0}, result["output"][-6000:]


@pytest.mark.parametrize("name", TABLE)
def test_every_entry_of_the_table_is_that_of_sample(name: str, result: dict[str, Any]) -> None:
    expected = sample(name, SHAPES.get(name, (3, 2, 4, 6)), seed=7)
    assert result["table"][name] == told(expected)
    # bfloat16 is the upper half of float32; rounding is to nearest, ties to even.
    bits = expected.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    assert result["narrow"][name] == told(rounded)


@pytest.mark.parametrize("case", LAYERS)
def test_every_weight_of_a_layer_has_the_stream_of_its_path(case: str, result: dict[str, Any]) -> None:
    if case not in result["layers"]:
        pytest.skip("this Keras has no such layer")
    weights = result["layers"][case]
    assert weights
    for path, weight in weights.items():
        assert path.startswith(f"{case}/")
        assert weight == told(sample("random_normal", weight[0], seed=7, name=path)), path
    arrays = [np.frombuffer(bytes.fromhex(weight[2]), np.float32) for weight in weights.values()]
    # Numbers on a grid of 2**-24 or finer: 28 pairs of 300 collide with probability below 28 * 300 * 2**-23 = 0.1 %.
    assert all((a[: len(b)] != b[: len(a)]).all() for i, a in enumerate(arrays) for b in arrays[:i])


def test_a_model_is_that_of_sample(result: dict[str, Any]) -> None:
    expected = {
        "conv/kernel": sample("he_normal", (3, 6, 6), seed=7, name="conv/kernel"),
        "memory/lstm_cell/recurrent_kernel": sample(
            "orthogonal", (6, 24), seed=7, name="memory/lstm_cell/recurrent_kernel", gates=4
        ),
        "hidden/kernel": sample("he_normal", (6, 6), seed=7, name="hidden/kernel"),
        "mirror/kernel": sample("mirrored(gain=2.0)", (6, 6), seed=7, name="mirror/kernel"),
        # The first draw of SeedGenerator(5): its state is (5, 0).
        "head/kernel": sample(
            "variance_scaling(scale=2.0, activation='gelu')", (6, 3), seed=5 << 32, name="head/kernel"
        ),
    }
    assert result["model"] == {path: told(array) for path, array in expected.items()}


def test_all_backends_agree(results: dict[str, dict[str, Any]]) -> None:
    first, *others = results.values()
    for other in others:
        assert {key: other[key] for key in ("table", "narrow", "layers", "model")} == {
            key: first[key] for key in ("table", "narrow", "layers", "model")
        }


def test_a_model_saved_on_one_backend_is_read_on_another(results: dict[str, dict[str, Any]]) -> None:
    for before, after in zip(list(results.values()), list(results.values())[1:], strict=False):
        assert after["configs"]["other"] == before["configs"]["own"]
        assert after["loaded"] == before["model"]
