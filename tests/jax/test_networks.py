"""Which Flax models fit which data, and with which loss they are trained."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from fanin.errors import ModelError
from fanin.experiments.tasks import make_task
from fanin.jax.networks import network
from fanin.jax.runs import Network
from fanin.records import Call, ModelSpec, Settings, Task

SETTINGS = Settings(Call("adam"), 8, 1, 1)


def pictures(shape: tuple[int, ...], outputs: int = 3) -> Task:
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    return make_task("pictures", {"x": x, "y": np.arange(40) % outputs})


def made(task: Task, build: Callable[..., Any]) -> Network:
    return network(ModelSpec("file.py:build", "user", (), "", build), task, "", SETTINGS)


def head(width: int, outputs: int, *after: Callable[[Any], Any]) -> Callable[[], nnx.Module]:
    return lambda: nnx.Sequential(nnx.Linear(width, outputs, rngs=nnx.Rngs(0)), *after)


def convolution(x: Any) -> nnx.Module:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Conv(1, 2, (3, 2), rngs=rngs), lambda x: x.mean((1, 2)), nnx.Linear(2, 3, rngs=rngs))


@pytest.mark.parametrize(
    ("shape", "build", "taken"),
    [
        ((6, 5), head(30, 3), (30,)),
        ((6, 5), lambda: convolution(None), (6, 5, 1)),
        ((6, 5), lambda: nnx.Sequential(lambda x: x.sum(2), *head(6, 3)().layers), (6, 5)),
        ((6, 5, 2), lambda input_shape: head(math.prod(input_shape), 3)(), (60,)),
    ],
    ids=["flattened", "with a channel", "as they are", "asked for"],
)
def test_examples_are_laid_out_for_the_model(shape: Any, build: Any, taken: tuple[int, ...]) -> None:
    assert made(pictures(shape), build).input_shape == taken


def fails(*_: Any) -> Any:
    raise KeyError("my own mistake")


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (head(30, 7), r"output of shape \(batch, 7\), pictures has 3 classes"),
        (head(30, 3, lambda x: (x, x)), "no single array as output"),
        (head(5, 3, fails), r"fails on a batch of the data: KeyError: 'my own mistake'.*examples of shape \(6, 5\)"),
        (lambda: 3, "did not return a model of Flax nnx.*returned int"),
    ],
    ids=["width", "two outputs", "fails", "no model"],
)
def test_what_does_not_fit_is_named(build: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        made(pictures((6, 5)), build)


@pytest.mark.parametrize(
    ("outputs", "after", "kind"),
    [(3, (), "logits"), (3, (jax.nn.softmax,), "shares"), (3, (jax.nn.sigmoid,), "shares"),
     (1, (), "logit"), (1, (jax.nn.sigmoid, lambda x: x.reshape(-1, 1)), "share"), (2, (), "logits")],
)  # fmt: skip
def test_losses_are_those_of_plain_numpy(outputs: int, after: Any, kind: str) -> None:
    classes = max(outputs, 2)
    net = made(pictures((30,), classes), head(30, outputs, *after))
    rng = np.random.default_rng(1)
    out, y = rng.normal(size=(5, outputs)), np.arange(5, dtype=np.int32) % classes
    if kind.startswith("share"):
        out = 1 / (1 + np.exp(-out))
    ones = {"logit": 1 / (1 + np.exp(-out)), "share": out}
    tables = {"logits": np.exp(out), "shares": out}
    p = np.concatenate([1 - ones[kind], ones[kind]], axis=1) if outputs == 1 else tables[kind]
    p = p / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net.loss(y, out.astype(np.float32)), -np.log(p[np.arange(5), y]), rtol=1e-5)
    np.testing.assert_array_equal(net.metric(y, out.astype(np.float32)), p.argmax(axis=1) == y)
    wrong = np.full((5, outputs), np.nan, np.float32)
    assert not np.asarray(net.metric(y, wrong)).any()


def test_probabilities_of_one_keep_the_loss_finite() -> None:
    out, y = np.array([[1.0, 0, 0], [0, 1, 0]], np.float32), np.array([1, 1], np.int32)
    net = made(pictures((30,)), head(30, 3, jax.nn.softmax))
    np.testing.assert_allclose(net.loss(y, out), [-np.log(1e-7), 0], rtol=1e-3, atol=1e-6)


def test_targets_are_met_by_the_squared_error() -> None:
    rng = np.random.default_rng(0)
    task = make_task("line", {"x": rng.normal(size=(40, 4)).astype(np.float32), "y": rng.normal(size=(40, 2))})
    net = made(task, head(4, 2))
    y, out = rng.normal(size=(2, 5, 2)).astype(np.float32)
    for function in (net.loss, net.metric):
        np.testing.assert_allclose(function(y, out), ((y - out) ** 2).mean(axis=1), rtol=1e-6)
