"""Signals, gradients and calibration against the same networks written out in NumPy."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.keras.adapter import describe, values
from fanin.keras.calibration import calibrate
from fanin.keras.probe import probe
from tests.keras import traced_models


def rms(array: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(array, np.float64)))))


def network() -> keras.Model:
    """Two layers with a residual addition and a multiplier."""

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.one = layers.Dense(5, "tanh", bias_initializer="ones", name="one")
            self.two = layers.Dense(5, use_bias=False, name="two")

        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=(5,), name="scale", initializer="random_normal")

        def call(self, x: Any) -> Any:
            h = self.one(x)
            return h + self.scale * self.two(h)

    keras.utils.set_random_seed(3)
    return Net()


X = np.random.default_rng(5).normal(size=(4, 7)).astype(np.float32)


def test_other_values_are_those_of_a_model_that_holds_them() -> None:
    model, other = network(), network()
    model(X)
    other(X)
    for variable in other.trainable_variables:
        variable.assign(-3 * variable.value)
    given = {path: values(other, path) for path in ("one/kernel", "one/bias", "two/kernel", "scale")}
    before, goal = [values(model, path) for path in given], np.ones((4, 5), np.float32)
    found, expected = probe(model, X, goal, "mse", values=given), probe(other, X, goal, "mse")
    assert found == expected
    assert found.loss != probe(model, X, goal, "mse").loss
    assert all(np.array_equal(values(model, path), each) for path, each in zip(given, before, strict=True))
    with pytest.raises(UnknownNameError, match="no_such"):
        probe(model, X, values={"no_such": goal})
    with pytest.raises(ModelError, match="another shape"):
        probe(model, X, values={"scale": goal})


def test_signals_and_gradients_are_those_of_plain_numpy() -> None:
    model = network()
    model(X)
    found = probe(model, X)
    w, b, v, s = (values(model, path).astype(np.float64) for path in ("one/kernel", "one/bias", "two/kernel", "scale"))
    z = X @ w + b
    h = np.tanh(z)
    u = h @ v
    y = h + s * u
    r = np.random.Generator(np.random.Philox(0)).standard_normal(y.shape)
    d_u = r * s
    d_h = r + d_u @ v.T
    d_z = d_h * (1 - h**2)
    assert found.layers == ("0:input", "1:one", "2:one", "3:two", "4:param", "5:mul", "6:add")
    signals = [X, z, h, u, s, s * u, y]
    gradients = [d_z @ w.T, d_z, d_h, d_u, (r * u).sum(axis=0), r, r]
    # Sums of at most 7 float32 numbers: a relative error of 1e-5 is a hundred roundings.
    np.testing.assert_allclose(found.signal_rms, [rms(each) for each in signals], rtol=1e-5)
    np.testing.assert_allclose(found.gradient_rms, [rms(each) for each in gradients], rtol=1e-5)


def test_whole_numbers_and_what_is_not_used_have_no_gradient() -> None:
    tokens, unused = keras.Input((9,), dtype="int32"), keras.Input((4,))
    x = layers.Dense(3)(layers.Embedding(11, 6)(tokens))
    model = keras.Model([tokens, unused], [x, ops.argmax(x, axis=-1)])
    found = probe(model, (np.arange(18).reshape(2, 9) % 11, np.ones((2, 4), np.float32)))
    kinds = [op.kind for op in describe(model).ops]
    assert kinds == ["input", "input", "lookup", "weight", "other"]
    assert [math.isnan(value) for value in found.signal_rms] == [True, False, False, False, True]
    assert [math.isnan(value) for value in found.gradient_rms] == [True, True, False, False, True]


def test_probing_runs_in_the_mode_of_the_call_and_changes_nothing() -> None:
    inputs = keras.Input((7,))
    x = layers.BatchNormalization(momentum=0.5)(layers.Dense(5)(inputs))
    model = keras.Model(inputs, layers.Dropout(0.5, seed=1)(x))
    before = [np.asarray(variable.value) for variable in model.variables]
    plain, again = probe(model, X), probe(model, X)
    trained = probe(model, {"inputs": X, "training": True})
    assert plain == again
    assert plain.signal_rms[3] == plain.signal_rms[2]  # dropout does nothing in inference
    assert trained.signal_rms[2] == pytest.approx(1.0, rel=2e-3)  # but for the norm's epsilon
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.value), value)


def slow_calibration(model: keras.Model, targets: dict[str, float]) -> dict[str, float]:
    """The same in NumPy, for the network above."""
    w, b, v = (values(model, path).astype(np.float64) for path in ("one/kernel", "one/bias", "two/kernel"))
    factors = {}
    if "one/kernel" in targets:
        factors["one/kernel"] = math.sqrt(targets["one/kernel"] / np.mean((X @ w) ** 2))
        w = w * factors["one/kernel"]
    factors["two/kernel"] = math.sqrt(targets["two/kernel"] / np.mean((np.tanh(X @ w + b) @ v) ** 2))
    return factors


@pytest.mark.parametrize("targets", [{"two/kernel": 2.0}, {"two/kernel": 0.5, "one/kernel": 3.0}])
def test_calibration_is_that_of_plain_numpy(targets: dict[str, float]) -> None:
    model = network()
    model(X)
    before = {path: values(model, path) for path in ("one/kernel", "one/bias", "two/kernel", "scale")}
    expected = slow_calibration(model, targets)
    factors = calibrate(model, X, targets)
    assert list(factors) == [path for path in ("one/kernel", "two/kernel") if path in targets]
    assert factors == pytest.approx(expected, rel=1e-5)
    for path, value in before.items():
        np.testing.assert_allclose(values(model, path), value * factors.get(path, 1.0), rtol=1e-6)
    assert calibrate(model, X, targets) == pytest.approx(dict.fromkeys(targets, 1.0), rel=1e-5)


def test_calibration_of_the_variance() -> None:
    model = keras.Sequential([keras.Input((7,)), layers.Dense(5, name="d")])
    calibrate(model, X + 3, {"d/kernel": 2.0}, of="variance")
    assert np.var((X + 3) @ values(model, "d/kernel")) == pytest.approx(2.0, rel=1e-5)


def test_what_cannot_be_calibrated_changes_nothing() -> None:
    model = keras.Sequential(
        [keras.Input((7,)), layers.Dense(5, name="one"), layers.Dense(4, kernel_initializer="zeros", name="two")]
    )
    before = values(model, "one/kernel")
    with pytest.raises(ModelError, match=r"two/kernel is zero or not finite.*second moment 0"):
        calibrate(model, X, {"one/kernel": 1.0, "two/kernel": 1.0})
    with pytest.raises(UnknownNameError, match="three/kernel"):
        calibrate(model, X, {"three/kernel": 1.0})
    with pytest.raises(ModelError, match=r"one/bias.*one/kernel, two/kernel"):
        calibrate(model, X, {"one/bias": 1.0})
    for target in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidValueError, match="not above 0"):
            calibrate(model, X, {"one/kernel": target})
    with pytest.raises(UnknownNameError, match="kurtosis"):
        calibrate(model, X, {"one/kernel": 1.0}, of="kurtosis")  # type: ignore[arg-type]
    np.testing.assert_array_equal(values(model, "one/kernel"), before)


# ------------------------------------------------------------------------------------------------ statistics
def slow_statistics(array: Any) -> dict[str, Any]:
    """All that is said of one step's output, from its definition."""
    wide = np.asarray(array, np.float64)
    finite = wide[np.isfinite(wide)]
    rows = [row.ravel() for row in wide[:32]]
    cosines = [
        float(a @ b / math.sqrt((a @ a) * (b @ b)))
        for i, a in enumerate(rows) for b in rows[:i] if a @ a > 0 and b @ b > 0
    ]  # fmt: skip
    gram = np.array([[a @ b for a in rows] for b in rows])
    units = wide.reshape(-1, wide.shape[-1])
    return {
        "signal_rms": math.sqrt(np.mean(wide**2)), "mean": wide.mean(),
        "quantiles": np.quantile(finite, np.linspace(0, 1, 11)), "cosine": np.mean(cosines) if cosines else math.nan,
        "rank": np.trace(gram) ** 2 / np.sum(gram**2), "infinite": wide.size - finite.size,
        "lowest": units.min(axis=0), "highest": units.max(axis=0),
    }  # fmt: skip


def test_every_statistic_is_that_of_its_definition() -> None:
    model = network()
    x = np.random.default_rng(8).normal(size=(40, 7)).astype(np.float32)
    model(x)
    found = probe(model, x)
    w, b = (values(model, path) for path in ("one/kernel", "one/bias"))
    z = x @ w + b
    for at, array in enumerate((x, z, np.tanh(z))):
        for name, expected in slow_statistics(array).items():
            np.testing.assert_allclose(getattr(found, name)[at], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    at = found.layers.index("4:param")
    assert math.isnan(found.cosine[at])
    assert len(found.lowest[at]) == 0
    np.testing.assert_allclose(found.outputs[0], model(x), rtol=1e-5, atol=1e-6)
    assert math.isnan(found.loss)


def test_the_loss_and_its_gradients_are_those_of_plain_numpy() -> None:
    model = keras.Sequential([keras.Input((7,)), layers.Dense(5, name="one"), layers.Dense(3, name="two")])
    model.compile("sgd", "mse")
    targets = np.random.default_rng(9).normal(size=(4, 3)).astype(np.float32)
    before = [np.array(variable.value) for variable in model.variables]
    v, w = (values(model, path).astype(np.float64) for path in ("one/kernel", "two/kernel"))
    h = X @ v
    d = 2 * (h @ w - targets) / targets.size
    for loss in (None, "mse"):
        found = probe(model, X, targets, loss)
        assert found.loss == pytest.approx(np.mean((h @ w - targets) ** 2), rel=1e-5)
        np.testing.assert_allclose(found.gradient_rms, [rms(d @ w.T @ v.T), rms(d @ w.T), rms(d)], rtol=1e-4)
        expected = {
            "one/kernel": rms(X.T @ d @ w.T), "one/bias": rms((d @ w.T).sum(axis=0)),
            "two/kernel": rms(h.T @ d), "two/bias": rms(d.sum(axis=0)),
        }  # fmt: skip
        assert found.param_gradients == pytest.approx(expected, rel=1e-4)
    with pytest.raises(InvalidValueError, match="no targets"):
        probe(model, X, loss="mse")

    def failing(targets: Any, outputs: Any) -> Any:
        raise RuntimeError("not today")

    with pytest.raises(ModelError, match="not today"):
        probe(model, X, targets, failing)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.value), value)


def test_the_loss_of_a_model_with_masks_and_regularisers_is_its_own() -> None:
    """Against Keras's own loss of the model's own outputs."""
    tokens = keras.Input((6,), dtype="int32")
    x = layers.LSTM(4, return_sequences=True)(layers.Embedding(9, 5, mask_zero=True)(tokens))
    model = keras.Model(tokens, {"each": layers.Dense(3, kernel_regularizer="l2")(x), "mean": ops.mean(x, axis=(1, 2))})
    ids = np.random.default_rng(3).integers(0, 3, (4, 6))
    targets = {"each": np.random.default_rng(4).integers(0, 3, (4, 6)), "mean": np.ones(4, np.float32)}
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = probe(model, ids, targets, {"each": entropy, "mean": "mae"})
    outputs = model(ids)
    logits = np.asarray(outputs["each"], np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = -np.take_along_axis(logs, targets["each"][..., None], -1)[..., 0]
    expected = picked[ids != 0].mean() + np.mean(np.abs(1 - np.asarray(outputs["mean"])))
    assert (ids == 0).any()
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert [output.shape for output in found.outputs] == [(4, 6, 3), (4,)]


def test_sizes_beyond_the_squares_of_float32_and_what_is_not_finite() -> None:
    model = keras.Sequential([keras.Input((7,)), layers.Dense(5, use_bias=False, name="d"), layers.ReLU()])
    for scale in (1e25, 1e-25):
        found = probe(model, X * np.float32(scale))
        expected = rms((X.astype(np.float64) * scale) @ values(model, "d/kernel"))
        assert found.signal_rms[1] == pytest.approx(expected, rel=1e-5)
        assert found.rank[1] == pytest.approx(probe(model, X).rank[1], rel=1e-4)
    spoiled = X.copy()
    spoiled[0, 0], spoiled[1, 0] = np.nan, np.inf
    found = probe(model, spoiled, np.ones((4, 5), np.float32), "mse")
    assert found.infinite[:2] == (2, 10)
    assert math.isnan(found.loss)
    assert math.isnan(found.cosine[0])
    finite = spoiled[np.isfinite(spoiled)]
    assert (found.quantiles[0][0], found.quantiles[0][-1]) == (finite.min(), finite.max())


def test_channels_first_put_units_on_the_second_axis() -> None:
    convolution = layers.Conv2D(4, (3, 2), data_format="channels_first", name="c")
    inputs = keras.Input((2, 6, 5))
    x = layers.BatchNormalization(axis=1)(layers.Activation("relu")(convolution(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    found = probe(model, np.ones((3, 2, 6, 5), np.float32))
    kinds = [op.kind for op in describe(model, np.ones((3, 2, 6, 5), np.float32)).ops]
    assert kinds == ["input", "weight", "activation", "norm", "move", "weight"]
    assert [len(each) for each in found.lowest] == [5, 4, 4, 4, 64, 3]


def test_a_gradient_that_is_blocked_is_zero_and_one_that_is_not_wanted_is_none() -> None:
    inputs = keras.Input((7,))
    blocked = ops.stop_gradient(layers.Dense(5, name="blocked")(inputs))
    chosen = ops.argmax(layers.Dense(2, name="out")(inputs))
    model = keras.Model(inputs, [layers.Dense(3, name="head")(blocked), chosen])
    found = probe(model, X)
    assert found.param_gradients["blocked/kernel"] == 0.0
    assert math.isnan(found.param_gradients["out/kernel"])
    assert found.param_gradients["head/kernel"] > 0


def test_a_gradient_that_is_not_finite_is_infinite() -> None:
    inputs = keras.Input((7,))
    hidden = layers.Dense(5, name="hidden")(inputs)
    model = keras.Model(inputs, ops.sqrt(ops.square(hidden - ops.stop_gradient(hidden))))
    assert probe(model, X).param_gradients["hidden/kernel"] == math.inf


def test_half_precision_is_measured_in_float32() -> None:
    inputs = keras.Input((7,))
    model = keras.Model(inputs, layers.Dense(5, dtype="float16", use_bias=False, name="d")(inputs))
    found = probe(model, X * 200, np.zeros((4, 5), np.float16), "mse")
    expected = (X * 200).astype(np.float16).astype(np.float64) @ values(model, "d/kernel").astype(np.float64)
    assert found.signal_rms[1] == pytest.approx(rms(expected), rel=2e-3)
    assert np.square(expected).max() > 65504  # its square is none of float16
    assert found.outputs[0].dtype == np.float32


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda x: ops.norm(x, axis=1), lambda z: np.sqrt(np.sum(z**2, 1))),
        (lambda x: ops.quantile(x, 0.25, axis=2), lambda z: np.quantile(z, 0.25, axis=2)),
        (lambda x: ops.rot90(x, axes=[1, 2]), lambda z: np.rot90(z, axes=(1, 2))),
        (lambda x: ops.transpose(x, [0, 2, 1]), lambda z: np.swapaxes(z, 1, 2)),
    ],
    ids=["norm", "quantile", "rot90", "transpose"],
)
def test_axes_that_keras_keeps_in_lists(operation: Any, expected: Any) -> None:
    inputs = keras.Input((3, 5))
    node = operation(inputs)
    model, x = keras.Model(inputs, node), np.random.default_rng(2).normal(size=(4, 3, 5)).astype(np.float32)
    kept = dict(vars(model.operations[-1]))
    np.testing.assert_allclose(probe(model, x).outputs[0], expected(x.astype(np.float64)), rtol=1e-5)
    assert vars(model.operations[-1]) == kept
    assert any(isinstance(value, list) for name, value in kept.items() if name.startswith("ax"))


PROGRAM = """
import json, sys
import keras
import numpy as np
sys.path.insert(0, sys.argv[1])
import traced_models
from fanin.keras.adapter import describe, fill, values
from fanin.keras.calibration import calibrate
from fanin.keras.probe import probe
from fanin.records import Init, Plan, PlanEntry

found = {"backend": keras.backend.backend()}
for name, make in traced_models.MODELS.items():
    keras.utils.clear_session(free_memory=False)
    model, example = make()
    info = describe(model, example)
    weights = [param for param in info.params if param.role != "norm"]
    fill(model, Plan(tuple(PlanEntry(param, Init("random_normal", stddev=0.3), "") for param in weights), seed=5))
    before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]
    signals = probe(model, example)
    same = all(
        np.array_equal(keras.ops.convert_to_numpy(variable.value), value)
        for variable, value in zip(model.variables, before)
    )
    if keras.backend.backend() == "torch":
        same = same and all(variable.value.grad is None for variable in model.trainable_variables)
    path = next(op.params[0] for op in info.ops if op.kind == "weight")
    output = keras.tree.flatten(model(example))[0]
    found[name] = {
        "ops": [[op.kind, op.name, list(op.inputs), list(op.shape), list(op.params), op.value] for op in info.ops],
        "params": [[param.path, list(param.axes), param.role, param.gates] for param in info.params],
        "notes": list(info.notes), "layers": signals.layers, "same": same,
        "signal": signals.signal_rms, "gradient": signals.gradient_rms,
        "own": float(np.sqrt(np.mean(np.square(keras.ops.convert_to_numpy(output))))),
        "output": info.outputs[0], "factor": calibrate(model, example, {path: 2.0}),
    }
print("FOUND" + json.dumps(found))
"""


def ran(backend: str) -> dict[str, Any]:
    """What the program says on a backend."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, f"{backend}: {done.stderr[-3000:]}"
    return dict(json.loads(lines[0].removeprefix("FOUND")))


@pytest.mark.slow
def test_all_backends_see_the_same() -> None:
    """One program on each backend, from the same weights: the same steps, and the same numbers but for rounding."""
    backends = [name for name in ("jax", "tensorflow", "torch") if find_spec(name) is not None]
    first, *others = [ran(backend) for backend in backends]
    assert first["backend"] == "jax"
    for name in traced_models.MODELS:
        told = first[name]
        assert told["notes"] == []
        assert told["same"]
        # The output of the model itself, run by Keras.
        assert told["signal"][told["output"]] == pytest.approx(told["own"], rel=1e-5)
        for other in others:
            for key in ("ops", "params", "notes", "layers", "same"):
                assert other[name][key] == told[key], (other["backend"], name, key)
            # float32 sums in another order, through ten layers.
            for key in ("signal", "gradient"):
                np.testing.assert_allclose(other[name][key], told[key], rtol=2e-3, err_msg=f"{other['backend']} {name}")
            assert other[name]["factor"] == pytest.approx(told["factor"], rel=1e-3)
