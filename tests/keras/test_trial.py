"""Trials against `train_on_batch` on a clone, and against descent written out in NumPy."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from keras.optimizers.schedules import ExponentialDecay

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.keras.adapter import describe, values
from fanin.keras.layouts import is_generator, state_of
from fanin.keras.trial import trial

RNG = np.random.default_rng(4)
X = RNG.normal(size=(12, 6, 5, 2)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 12)
ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((6, 5, 2)), layers.Flatten(), layers.Dense(7, "tanh"), layers.Dense(3)])


def convolutions() -> keras.Model:
    """With statistics that move, dropout, a regulariser and a constraint."""
    return keras.Sequential([
        keras.Input((6, 5, 2)), layers.Conv2D(4, (3, 2), activation="relu", kernel_regularizer="l2"),
        layers.BatchNormalization(momentum=0.7), layers.Dropout(0.4, seed=3), layers.Flatten(),
        layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.6), activity_regularizer="l1"),
    ])  # fmt: skip


def half() -> keras.Model:
    inputs = keras.Input((6, 5, 2))
    x = layers.Dense(7, "relu", dtype="mixed_float16")(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Dense(3, dtype="float32")(x))
    model.dtype_policy = keras.DTypePolicy("mixed_float16")
    return model


def everything(model: keras.Model) -> list[np.ndarray]:
    optimizer = getattr(model, "optimizer", None)
    held = [*model.variables, *(optimizer.variables if optimizer is not None else [])]
    return [array(variable) for variable in held]


def array(variable: keras.Variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable.value))


def match(copy: keras.Model, model: keras.Model) -> None:
    for mine, own in zip(copy.variables, model.variables, strict=True):
        mine.assign(array(own))


def clone(model: keras.Model) -> keras.Model:
    """The same model, whose random layers start where those of a trial do."""
    copy = keras.models.clone_model(model)
    match(copy, model)
    if model.dtype_policy.name == "mixed_float16":
        copy.dtype_policy = model.dtype_policy
    pairs = zip(model.non_trainable_variables, copy.non_trainable_variables, strict=True)
    for mine, other in pairs:
        if is_generator(mine):
            other.assign(state_of(model, mine, 0))
    return copy


@pytest.mark.parametrize(
    ("build", "make"),
    [
        (plain, lambda: keras.optimizers.AdamW(ExponentialDecay(0.05, 2, 0.5), clipnorm=0.5)),
        pytest.param(
            convolutions, lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), marks=pytest.mark.slow
        ),
        (half, lambda: keras.optimizers.Adam(0.01)),
    ],
    ids=["plain", "convolutions", "half"],
)
def test_a_trial_is_what_fit_does(
    build: Callable[[], keras.Model], make: Callable[[], keras.optimizers.Optimizer]
) -> None:
    keras.utils.set_random_seed(1)
    model, optimizer = build(), make()
    before = everything(model)
    found = trial(model, X, CLASSES, loss=ENTROPY, optimizer=optimizer, steps=5)
    copy = clone(model)
    copy.compile(make(), ENTROPY)
    expected = [float(copy.train_on_batch(X, CLASSES, return_dict=True)["loss"]) for _ in range(5)]
    # Both run the same operations in float32; the compilers may order sums differently.
    np.testing.assert_allclose(found.losses[:5], expected, rtol=1e-3 if build is half else 2e-5)
    assert len(found.losses) == 6
    for (path, value), variable in zip(found.values.items(), copy.trainable_variables, strict=True):
        np.testing.assert_allclose(value, array(variable), atol=2e-3 if build is half else 1e-5, err_msg=path)
    assert not optimizer.built
    for old, new in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)


def descent(steps: int, rate: float) -> dict[str, Any]:
    """Two layers trained by hand on the mean squared error."""
    v, w = WEIGHTS["one/kernel"].astype(np.float64), WEIGHTS["two/kernel"].astype(np.float64)
    record: dict[str, Any] = {"losses": [], "gradients": [[], []], "updates": [[], []]}
    for _ in range(steps + 1):
        h = np.tanh(ROWS @ v)
        y = h @ w
        record["losses"].append(np.mean((y - GOALS) ** 2))
        record |= {"outputs": y, "values": (v, w)}
        d = 2 * (y - GOALS) / y.size
        slopes = ROWS.T @ ((d @ w.T) * (1 - h**2)), h.T @ d
        for i, (slope, value) in enumerate(zip(slopes, (v, w), strict=True)):
            record["gradients"][i].append(np.sqrt(np.mean(slope**2)))
            record["updates"][i].append(rate * np.sqrt(np.mean(slope**2) / np.mean(value**2)))
        v, w = v - rate * slopes[0], w - rate * slopes[1]
    return record


ROWS, GOALS = RNG.normal(size=(9, 4)), RNG.normal(size=(9, 2))
WEIGHTS = {"one/kernel": RNG.normal(size=(4, 6)), "two/kernel": RNG.normal(size=(6, 2))}


def small() -> keras.Model:
    return keras.Sequential([
        keras.Input((4,)), layers.Dense(6, "tanh", use_bias=False, name="one"),
        layers.Dense(2, use_bias=False, name="two"),
    ])  # fmt: skip


def test_all_that_is_told_is_that_of_plain_numpy() -> None:
    found = trial(small(), ROWS, GOALS, loss="mse", optimizer="sgd", learning_rate=0.3, steps=4, values=WEIGHTS)
    expected = descent(4, 0.3)
    np.testing.assert_allclose(found.losses, expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(found.outputs[0], expected["outputs"], rtol=1e-4, atol=1e-6)
    for i, path in enumerate(WEIGHTS):
        np.testing.assert_allclose(found.values[path], expected["values"][i], rtol=1e-5, atol=1e-6)
        # The last gradient is of no step.
        assert found.gradients[path] == pytest.approx(max(expected["gradients"][i][:4]), rel=1e-5)
        np.testing.assert_allclose(10 ** np.array(found.updates[path]), expected["updates"][i][:4], rtol=1e-4)
    assert not found.diverged


def test_the_same_call_gives_the_same_numbers_whatever_was_drawn_between() -> None:
    model = convolutions()
    first = trial(model, X, CLASSES, loss=ENTROPY, steps=3)
    keras.random.normal((3,))
    second = trial(model, X, CLASSES, loss=ENTROPY, steps=3)
    assert first == second
    np.testing.assert_array_equal(first.outputs[0], second.outputs[0])


def test_a_trial_stops_where_the_loss_is_not_finite() -> None:
    model = small()
    model.compile("adam", "mse")
    before = everything(model)
    found = trial(model, ROWS, GOALS, optimizer="sgd", learning_rate=1e25, steps=20, values=WEIGHTS)
    assert found.diverged
    assert 2 <= len(found.losses) < 21
    assert all(map(math.isfinite, found.losses[:-1]))
    for old, new in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_cut_takes_a_last_activation_away() -> None:
    inputs = keras.Input((6, 5, 2))
    x = layers.BatchNormalization()(layers.Dense(7, "relu")(layers.Flatten()(inputs)))
    head = layers.Dense(3, "softmax", name="head", kernel_regularizer="l2")
    with_softmax = keras.Model(inputs, head(layers.Dropout(0.3)(x)))
    kinds = [op.kind for op in describe(with_softmax, X).ops]
    assert kinds[-2:] == ["weight", "softmax"]
    cut = trial(with_softmax, X, CLASSES, loss=ENTROPY, steps=4, cut=len(kinds) - 2)
    with_softmax.get_layer("head").activation = keras.activations.linear
    without = trial(with_softmax, X, CLASSES, loss=ENTROPY, steps=4)
    np.testing.assert_allclose(cut.losses, without.losses, rtol=1e-5)
    np.testing.assert_allclose(cut.outputs[0], without.outputs[0], rtol=1e-4, atol=1e-5)
    whole = trial(with_softmax, X, CLASSES, loss=ENTROPY, steps=4, cut=len(kinds) - 2)
    assert whole.losses == pytest.approx(without.losses, rel=1e-5)
    with pytest.raises(ModelError, match=r"no such step.*99.*0 to"):
        trial(with_softmax, X, CLASSES, loss=ENTROPY, cut=99)


def test_several_inputs_and_outputs_and_a_frozen_layer() -> None:
    tokens, numbers = keras.Input((4,), dtype="int32", name="tokens"), keras.Input((3,), name="numbers")
    table = layers.Embedding(9, 5, name="table")(tokens)
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(table), layers.Dense(2, name="frozen")(numbers)])
    model = keras.Model([tokens, numbers], {"a": layers.Dense(3, name="a")(x), "b": layers.Dense(1, name="b")(x)})
    model.get_layer("frozen").trainable = False
    copy = keras.models.clone_model(model)
    model.compile("adam", {"a": ENTROPY, "b": "mse"})
    example = RNG.integers(0, 9, (8, 4)), RNG.normal(size=(8, 3)).astype(np.float32)
    targets = {"a": RNG.integers(0, 3, 8), "b": RNG.normal(size=(8, 1)).astype(np.float32)}
    found = trial(model, example, targets, steps=3)
    match(copy, model)
    copy.compile("adam", {"a": ENTROPY, "b": "mse"})
    expected = [copy.train_on_batch([*example], targets, return_dict=True)["loss"] for _ in range(3)]
    np.testing.assert_allclose(found.losses[:3], expected, rtol=2e-5)
    assert [output.shape for output in found.outputs] == [(8, 3), (8, 1)]
    assert list(found.values) == ["table/embeddings", "a/kernel", "a/bias", "b/kernel", "b/bias"]


def test_a_thawed_copy_trains_as_one_that_was_never_frozen() -> None:
    """One layer is frozen as a whole, of another one variable; both are again, also if something raises."""

    def network() -> keras.Model:
        return keras.Sequential([keras.Input((4,)), *(layers.Dense(n, "tanh", name=f"d{n}") for n in (5, 3, 2))])

    model, twin = network(), network()
    match(twin, model)
    model.get_layer("d5").trainable = False
    model.get_layer("d3").kernel.trainable = False
    frozen = [each.trainable for each in (model, *model.layers, *model.variables)]
    found = trial(model, ROWS, GOALS, loss="mse", steps=3, thaw=True)
    assert found.losses == trial(twin, ROWS, GOALS, loss="mse", steps=3).losses
    assert len(found.values) == 6
    with pytest.raises(ModelError):
        trial(model, ROWS[:, :3], GOALS, loss="mse", steps=3, thaw=True)
    assert [each.trainable for each in (model, *model.layers, *model.variables)] == frozen


def test_what_the_loss_does_not_depend_on_stays() -> None:
    inputs = keras.Input((4,))
    used, unused = layers.Dense(2, name="used")(inputs), layers.Dense(3, name="unused")(inputs)
    model = keras.Model(inputs, [used, unused])
    found = trial(model, ROWS, [GOALS, np.zeros((9, 3))], loss=["mse", None], steps=2)
    assert found.gradients["unused/kernel"] == 0.0
    assert found.updates["unused/kernel"] == (-np.inf, -np.inf)
    assert found.gradients["used/kernel"] > 0
    np.testing.assert_array_equal(found.values["unused/kernel"], values(model, "unused/kernel"))


def test_a_model_without_anything_to_train() -> None:
    model = small()
    model.trainable = False
    found = trial(model, ROWS, GOALS, loss="mse", steps=2)
    assert len(set(found.losses)) == 1
    assert found.values == found.gradients == found.updates == {}


def test_a_constant_that_changed_is_seen_although_programs_are_kept() -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.table = layers.Dense(2), np.ones((9, 4), np.float32)

        def call(self, x: Any) -> Any:
            return self.dense(x + self.table)

    model = Net()
    model(ROWS.astype(np.float32))
    first = trial(model, ROWS.astype(np.float32), GOALS, loss="mse", steps=1)
    model.table = np.full((9, 4), 3.0, np.float32)
    second = trial(model, ROWS.astype(np.float32), GOALS, loss="mse", steps=1)
    for found, shift in ((first, 1), (second, 3)):
        outputs = (ROWS + shift) @ array(model.dense.kernel)
        assert found.losses[0] == pytest.approx(np.mean((outputs - GOALS) ** 2), rel=1e-5)


def test_time_ends_a_trial_after_two_steps() -> None:
    assert len(trial(small(), ROWS, GOALS, loss="mse", steps=40, seconds=0.0).losses) == 3
    assert len(trial(small(), ROWS, GOALS, loss="mse", steps=0).losses) == 1


def test_what_cannot_be_is_refused_and_nothing_changes() -> None:
    def failing(targets: Any, outputs: Any) -> Any:
        raise RuntimeError("not today")

    model = convolutions()
    model.compile("adam", ENTROPY)
    before = everything(model)
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ModelError, "not today", {"loss": failing}),
        (UnknownNameError, "Did you mean mean_squared_error", {"loss": "mean_squared_eror"}),
        (UnknownNameError, "optimizer", {"optimizer": "adams"}),
        (InvalidValueError, "This is no optimizer", {"optimizer": 3}),
        (UnknownNameError, "nowhere", {"values": {"nowhere": np.ones(3)}}),
        (ModelError, "another shape", {"values": {"conv2d/bias": np.ones(3)}}),
        (InvalidValueError, "steps", {"steps": -1}),
    ]
    path = next(iter(describe(model).params)).path
    for kind, words, given in cases:
        if "values" in given:
            given["values"] = {key.replace("conv2d/bias", path): value for key, value in given["values"].items()}
        with pytest.raises(kind, match=words):
            trial(model, X, CLASSES, **given)
    for old, new in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)
