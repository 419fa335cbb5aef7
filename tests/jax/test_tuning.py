"""MetaInit and GradInit in JAX: the same factors as in PyTorch, and what they do to models of Flax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fanin.errors import FaninError, InvalidValueError, ModelError, UnknownNameError
from fanin.jax.tuning import criterion, drawn_targets, gradinit, gradinit_factors, metainit, metainit_factors

pytestmark = pytest.mark.slow  # third derivatives take long to compile; tests/torch has the same, fast

WEIGHTS = ["first", "second"]
FACTORS = {"metainit": metainit_factors, "gradinit": gradinit_factors}
VERBS = {"metainit": metainit, "gradinit": gradinit}


def small(seed: int = 0, factor: float = 1.0) -> tuple[dict[str, Any], Any, Any]:
    """Parameters of a network with 3 inputs, 4 units and 2 outputs, inputs and targets, in float64."""
    rng = np.random.default_rng(seed)
    shapes = {"first": (3, 4), "first bias": (4,), "second": (4, 2), "second bias": (2,)}
    weights = {name: factor * rng.normal(size=shape) for name, shape in shapes.items()}
    return weights, rng.normal(size=(6, 3)), rng.normal(size=(6, 2))


def loss(weights: Any, batch: Any) -> Any:
    x, y = batch
    hidden = jnp.tanh(x @ weights["first"] + weights["first bias"])
    return jnp.mean((hidden @ weights["second"] + weights["second bias"] - y) ** 2)


def cross_entropy(weights: Any, batch: Any) -> Any:
    x, y = batch
    hidden = jax.nn.relu(x @ weights["first"] + weights["first bias"])
    return criterion(y)(hidden @ weights["second"] + weights["second bias"], y)


# ------------------------------------------------------------------------------------------------ against PyTorch
def twin(torch: Any, weights: Any, activation: Any) -> Any:
    """The same network in PyTorch, whose matrices are turned."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), activation, torch.nn.Linear(4, 2)).double()
    for parameter, array in zip(net.parameters(), weights.values(), strict=True):
        parameter.data = torch.from_numpy(array.T.copy())
    return net


@pytest.mark.parametrize(
    ("kind", "verb", "settings"),
    [
        ("numbers", "metainit", {}),
        ("classes", "gradinit", {"optimizer": "adam", "learning_rate": 0.02}),
        ("numbers", "gradinit", {"optimizer": "sgd", "learning_rate": 0.05, "gamma": 0.3}),
    ],
)
def test_pytorch_and_jax_find_the_same_factors(kind: str, verb: str, settings: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from fanin.torch import tuning

    weights, x, y = small(0, 1.5)
    y = y if kind == "numbers" else (y[:, 0] > 0).astype(np.int64)
    activation = torch.nn.Tanh() if kind == "numbers" else torch.nn.ReLU()
    given = {**settings, "steps": 25, "rate": 0.2}
    net = twin(torch, weights, activation)
    expected = getattr(tuning, verb)(net, x, y, paths=["0.weight", "2.weight"], **given)
    with jax.enable_x64(True):
        arrays, batch = jax.tree.map(jnp.asarray, (weights, (x, y)))
        used = loss if kind == "numbers" else lambda w, b: cross_entropy(w, (b[0], y))
        found = FACTORS[verb](used, arrays, batch, paths=WEIGHTS, **given)
    assert any(abs(np.log(factor)) > 0.1 for factor in found.values())
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)


# ---------------------------------------------------------------------------------------------------- pure functions
@pytest.mark.parametrize("verb", FACTORS)
def test_factors_come_once_and_in_the_order_asked(verb: str) -> None:
    weights, x, y = jax.tree.map(jnp.asarray, small())
    told: list[tuple[int, int]] = []
    given = {"paths": ["second", "first", "second"], "steps": 2}
    found = FACTORS[verb](loss, weights, (x, y), progress=lambda *at: told.append(at), **given)
    assert list(found) == ["second", "first"]
    assert told == [(0, 2), (1, 2), (2, 2)]


MISTAKES: dict[str, tuple[dict[str, Any], type[FaninError], str]] = {
    "unknown": ({"paths": ["frist"]}, UnknownNameError, "Did you mean first"),
    "none": ({"paths": []}, InvalidValueError, "No weight to tune"),
    "steps": ({"steps": 0}, InvalidValueError, "steps is out of range"),
    "part of a step": ({"steps": 1.5}, InvalidValueError, "whole number"),
    "rate": ({"rate": float("nan")}, InvalidValueError, "rate is out of range"),
    "zero": ({"second": 0.0}, ModelError, "all zero.*second"),
    "not finite": ({"second": 1e30}, ModelError, "loss is not finite"),
    "constant": ({"loss": lambda w, b: jnp.sum(w["first bias"])}, ModelError, "change nothing"),
}


@pytest.mark.parametrize("verb", FACTORS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str, verb: str) -> None:
    wrong, kind, text = MISTAKES[mistake]
    weights, x, y = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), small())
    given = {"paths": WEIGHTS, "loss": loss, "steps": 2, **wrong}
    if "second" in given:
        weights["second"] = jnp.full((4, 2), given.pop("second"), jnp.float32)
    with pytest.raises(kind, match=text):
        FACTORS[verb](given.pop("loss"), weights, (x, y), **given)


@pytest.mark.parametrize("wrong", [{"optimizer": "adma"}, {"gamma": -1.0}, {"learning_rate": 0.0}])
def test_gradinit_checks_its_own_settings(wrong: dict[str, Any]) -> None:
    weights, x, y = jax.tree.map(jnp.asarray, small())
    with pytest.raises(FaninError):
        gradinit_factors(loss, weights, (x, y), paths=WEIGHTS, **wrong)


@pytest.mark.parametrize(
    ("targets", "outputs", "text"),
    [
        ([0, 1, 5], (3, 4), "no class"),
        ([0, -1, 2], (3, 4), "no class"),
        ([0, 1], (3, 4), r"do not fit.*\(3,\)"),
        ([[0.5], [1.0]], (2, 3), r"do not fit.*\(2, 3\)"),
        ([True, False], (2, 3), "no numbers"),
        ([0, 1], (2,), "No loss for these outputs"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Any, outputs: tuple[int, ...], text: str) -> None:
    array = np.asarray(targets, np.float32 if isinstance(targets[0], list) else None)
    with pytest.raises(ModelError, match=text):
        criterion(array)(jnp.zeros(outputs), jnp.asarray(array))


# --------------------------------------------------------------------------------------------------------- Flax
def network(nnx: Any) -> Any:
    """Batch normalisation, dropout, and a head that is used twice."""

    class Network(nnx.Module):  # type: ignore[misc]
        def __init__(self, rngs: Any):
            self.first = nnx.Linear(5, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.4, rngs=rngs)
            self.head = nnx.Linear(4, 3, rngs=rngs)
            self.again = self.head

        def __call__(self, x: Any, *, scale: float = 1.0) -> Any:
            h = self.dropout(jax.nn.tanh(self.norm(self.first(x))))
            return self.head(h) + self.again(scale * h)

    return Network(nnx.Rngs(0))


def leaves(nnx: Any, model: Any) -> dict[str, Any]:
    """Every array of a model by path, keys of random streams as numbers."""
    flat = nnx.to_flat_state(nnx.state(model))
    values = {"/".join(map(str, key)): each.get_value() for key, each in flat}
    return {
        path: np.array(jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value)
        for path, value in values.items()
    }


@pytest.mark.parametrize(("verb", "training"), [("metainit", True), ("gradinit", False)])
def test_nothing_but_the_tuned_weights_of_an_nnx_model_changes(verb: str, training: bool) -> None:
    nnx = pytest.importorskip("flax.nnx")
    model = network(nnx)
    model.train() if training else model.eval()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype(np.float32), rng.integers(3, size=6)
    before = leaves(nnx, model)
    paths = ["first/kernel", "head/kernel"]
    factors = VERBS[verb](model, {"x": x, "scale": 0.5}, y, paths=paths, steps=3)
    after = leaves(nnx, model)
    assert list(factors) == paths
    assert all(factor != 1 for factor in factors.values())
    assert set(after) == set(before)
    scaled = {path.replace("again", "head"): path for path in before}
    for path in paths:
        np.testing.assert_allclose(after[scaled[path]], before[scaled[path]] * factors[path], rtol=1e-6)
    for path in set(before) - {scaled[path] for path in paths}:
        np.testing.assert_array_equal(after[path], before[path])


def test_an_interruption_leaves_an_nnx_model_as_it_was() -> None:
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    before = leaves(nnx, model)

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metainit(model, np.ones((4, 3), np.float32), np.array([0, 1, 1, 0]), paths=["kernel"], progress=stop)
    for path, array in leaves(nnx, model).items():
        np.testing.assert_array_equal(array, before[path])


def test_random_targets_are_classes_or_numbers_of_one_output() -> None:
    classes, numbers = np.random.default_rng(0).integers(4, size=(7, 2)), np.random.default_rng(0).normal(size=(7, 1))
    np.testing.assert_array_equal(drawn_targets(jnp.zeros((7, 2, 4)), None), classes)
    np.testing.assert_array_equal(drawn_targets(jnp.zeros((7, 1)), None), numbers)
    nnx = pytest.importorskip("flax.nnx")
    model, x = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    assert metainit(model, x, paths=["kernel"], steps=3)["kernel"] != 1


def test_what_is_no_nnx_model_or_does_not_run_is_refused() -> None:
    nnx = pytest.importorskip("flax.nnx")
    linen = pytest.importorskip("flax.linen")
    model, x = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), np.ones((4, 3), np.float32)
    with pytest.raises(ModelError, match="could not be run"):
        metainit(model, x[:, :2], paths=["kernel"])
    with pytest.raises(InvalidValueError, match="needs targets"):
        metainit(model, x, loss=lambda out, y: out.mean(), paths=["kernel"])
    with pytest.raises(ModelError, match="no numbers"):
        gradinit(model, x, None, paths=["kernel"])
    with pytest.raises(ModelError, match="metainit_factors"):
        metainit(linen.Dense(2).bind({"params": {"kernel": jnp.ones((3, 2))}}), x, paths=["kernel"])
