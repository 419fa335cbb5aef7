"""MetaInit and GradInit on Keras models: the factors of a loss written by hand, and nothing else changed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.jax.tuning import gradinit_factors, metainit_factors
from fanin.keras import tuning
from fanin.keras.adapter import describe
from fanin.keras.tuning import gradinit, metainit

pytestmark = pytest.mark.slow  # third derivatives take long to compile; tests/torch has the same, fast

VERBS = {"metainit": (metainit, metainit_factors), "gradinit": (gradinit, gradinit_factors)}


def dense(last: str | None) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(5, "tanh", name="a"), layers.Dense(4, activation=last, name="b")]
    )


def data(classes: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, *shape)).astype(np.float32), rng.integers(classes, size=8)


@pytest.mark.parametrize(("last", "verb"), [(None, "metainit"), ("softmax", "gradinit")])
def test_the_factors_are_those_of_the_same_loss_written_by_hand(last: str | None, verb: str) -> None:
    on_model, on_loss = VERBS[verb]
    model, (x, y) = dense(last), data(4, (3,))
    parameters = {variable.path: jnp.asarray(variable.value) for variable in model.trainable_variables}
    prefix = next(iter(parameters)).removesuffix("a/kernel")

    def loss(weights: Any, batch: Any) -> Any:
        a, b = (lambda h, n=name: h @ weights[f"{prefix}{n}/kernel"] + weights[f"{prefix}{n}/bias"] for name in "ab")
        return -jax.nn.log_softmax(b(jnp.tanh(a(batch))))[jnp.arange(8), y].mean()

    given = {"steps": 10, "rate": 0.2}
    expected = on_loss(loss, parameters, x, paths=[f"{prefix}a/kernel", f"{prefix}b/kernel"], **given)
    found = on_model(model, x, y, paths=["a/kernel", "b/kernel"], **given)
    assert any(abs(np.log(factor)) > 0.05 for factor in found.values())
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("norm_dropout", "metainit"),
        ("norm_dropout", "gradinit"),
        pytest.param("attention", "gradinit", marks=pytest.mark.slow),
        pytest.param("recurrent", "gradinit", marks=pytest.mark.slow),
        pytest.param("convolutions", "gradinit", marks=pytest.mark.slow),
    ],
)
def test_nothing_but_the_tuned_weights_changes(
    name: str, verb: str, networks: dict[str, Callable[[], keras.Model]]
) -> None:
    model = networks[name]()
    x, y = data(3, (6, 5, 2))
    paths = [param.path for param in describe(model).params if param.path.endswith("kernel")][:2]
    before = {id(variable): np.array(variable.value) for variable in model.variables}
    told: list[tuple[int, int]] = []
    given = {"paths": paths, "steps": 2, "progress": lambda *at: told.append(at)}
    factors = VERBS[verb][0](model, x, y, **given)
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert list(factors) == paths
    assert any(factor != 1 for factor in factors.values())
    for variable in model.variables:
        path = variable.path.removeprefix(f"{model.name}/")
        if path in factors:
            expected = before[id(variable)] * np.float32(factors[path])
            np.testing.assert_allclose(np.array(variable.value), expected, rtol=1e-6)
        else:
            np.testing.assert_array_equal(np.array(variable.value), before[id(variable)])


def test_a_loss_of_ones_own_takes_targets_first() -> None:
    x, y = data(4, (3,))
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    seen: list[tuple[Any, Any]] = []

    def loss(targets: Any, outputs: Any) -> Any:
        seen.append((targets.shape, outputs.shape))
        return own(targets, outputs)

    assert gradinit(dense(None), x, y, loss=loss, paths=["a/kernel"], steps=2)["a/kernel"] != 1
    assert set(seen) == {((8,), (8, 4))}
    with pytest.raises(InvalidValueError, match="needs targets"):
        metainit(dense(None), x, loss=loss, paths=["a/kernel"])


def test_targets_can_be_drawn() -> None:
    x, _ = data(4, (3,))
    assert metainit(dense(None), x, paths=["a/kernel"], steps=2)["a/kernel"] != 1


def stop(done: int, total: int) -> None:
    if done == 1:
        raise KeyboardInterrupt


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"paths": ["a/kernle"]}, UnknownNameError, "Did you mean a/kernel"),
        ({"paths": ["a/bias"]}, ModelError, "all zero"),
        ({"targets": np.full(8, 9)}, ModelError, "no class"),
        ({"example": (np.zeros((8, 3)), np.zeros((8, 3)))}, ModelError, "argument|called"),
        ({"progress": stop}, KeyboardInterrupt, None),
    ],
)
def test_a_failure_changes_nothing(
    verb: str, wrong: dict[str, Any], kind: type[BaseException], text: str | None
) -> None:
    model, (x, y) = dense(None), data(4, (3,))
    before = [np.array(variable.value) for variable in model.variables]
    with pytest.raises(kind, match=text):
        VERBS[verb][0](model, **{"example": x, "targets": y, "paths": ["a/kernel"], "steps": 3, **wrong})
    for variable, array in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable.value), array)


@pytest.mark.parametrize("verb", VERBS)
def test_another_backend_is_refused(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ModelError, match="KERAS_BACKEND=jax"):
        VERBS[verb][0](dense(None), np.zeros((8, 3)), np.zeros(8, int), paths=["a/kernel"])
