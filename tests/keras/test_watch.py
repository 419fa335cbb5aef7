"""A watched training against one whose batches are taken one by one."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from fanin.errors import InvalidValueError
from fanin.keras.watch import Course, Watch

RNG = np.random.default_rng(2)
X = RNG.normal(size=(10, 4)).astype(np.float32)
Y = RNG.normal(size=(10, 3)).astype(np.float32)


def network() -> keras.Model:
    keras.utils.set_random_seed(6)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh", name="one"), layers.Dense(3, name="two")])
    model.compile(keras.optimizers.SGD(0.2), "mse")
    return model


def slow(epochs: int) -> Course:
    model = network()
    losses: list[float] = []
    updates: dict[str, list[float]] = {"one/kernel": [], "two/kernel": []}
    for start in [*range(0, 10, 4)] * epochs:
        kernels = [model.get_layer(path.split("/")[0]).kernel for path in updates]
        before = [np.array(kernel.value) for kernel in kernels]
        model.reset_metrics()
        losses.append(float(model.train_on_batch(X[start : start + 4], Y[start : start + 4])))
        for path, kernel, old in zip(updates, kernels, before, strict=True):
            updates[path].append(0.5 * np.log10(np.mean((np.array(kernel.value) - old) ** 2) / np.mean(old**2)))
    return Course(tuple(losses), {path: tuple(each) for path, each in updates.items()})


def test_a_course_is_that_of_single_batches() -> None:
    model, watch = network(), Watch()
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=[watch])
    expected = slow(2)
    np.testing.assert_allclose(watch.course.losses, expected.losses, rtol=1e-5)
    assert list(watch.course.updates) == list(expected.updates)
    for path, ratios in expected.updates.items():
        np.testing.assert_allclose(watch.course.updates[path], ratios, atol=1e-4)
    assert watch.course.infinite_step is None
    plain = network()
    alone = plain.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert history.history == alone.history  # watching changes nothing
    for one, other in zip(model.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one.value), np.asarray(other.value))


def test_some_batches_alone_and_the_first_that_breaks() -> None:
    model, watch = network(), Watch(every=2)
    spoiled = Y.copy()
    spoiled[5] = np.inf
    model.fit(X, spoiled, batch_size=4, shuffle=False, verbose=0, callbacks=[watch])
    assert watch.course.infinite_step == 1
    ratios = watch.course.updates["two/kernel"]
    assert math.isfinite(ratios[0])
    assert math.isnan(ratios[1])
    model.fit(X, Y, batch_size=5, verbose=0, callbacks=[watch])
    assert len(watch.course.losses) == 2  # each training is watched anew
    with pytest.raises(InvalidValueError, match="1 or more"):
        Watch(every=0)


def test_what_is_not_trained_does_not_change() -> None:
    model, watch = network(), Watch()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, Y, batch_size=10, verbose=0, callbacks=[watch])
    assert watch.course.updates["one/kernel"] == (-math.inf,)
    model.get_layer("one").kernel.assign(np.zeros((4, 5)))
    model.fit(X, Y, batch_size=10, verbose=0, callbacks=[watch])
    assert watch.course.updates["one/kernel"] == (-math.inf,)  # nothing of nothing
