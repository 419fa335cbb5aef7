"""Trials, statistics, losses and setups of Flax models against optax by hand and NumPy."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.jax.adapter import describe, loss_function, probe, setup, trial, values

RNG = np.random.default_rng(7)
X = RNG.standard_normal((40, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 40)
ENTROPY = "softmax_cross_entropy_with_integer_labels"


class Net(nnx.Module):
    """Two layers with a normalisation and dropout."""

    def __init__(self, rate=0.3):
        rngs = nnx.Rngs(0)
        self.one = nnx.Linear(5, 7, rngs=rngs)
        self.norm = nnx.BatchNorm(7, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.two = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, x):
        return self.two(self.drop(jax.nn.relu(self.norm(self.one(x)))))


def plain(model):
    leaves = jax.tree.leaves(nnx.state(model))
    typed = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [np.asarray(jax.random.key_data(leaf) if key else leaf) for leaf, key in zip(leaves, typed, strict=True)]


def by_hand(model, transformation, steps):
    """The loop of Flax's documentation, on the model itself."""
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)

    def loss(model):
        return optax.losses.softmax_cross_entropy_with_integer_labels(model(X), CLASSES).mean()

    @nnx.jit
    def step(model, optimizer):
        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    return [float(step(model, optimizer)) for _ in range(steps)]


def test_a_trial_is_flax_s_own_loop_and_leaves_the_model():
    model = Net()
    before = plain(model)
    model.eval()
    found = trial(model, X, CLASSES, loss=ENTROPY, optimizer=optax.sgd(0.1, 0.9), steps=4)
    again = trial(model, X, CLASSES, loss=ENTROPY, optimizer="sgd(learning_rate=0.1, momentum=0.9)", steps=4)
    assert found == again
    assert model.drop.deterministic
    for old, new in zip(before, plain(model), strict=True):
        np.testing.assert_array_equal(old, new)
    model.train()
    np.testing.assert_allclose(found.losses[:4], by_hand(model, optax.sgd(0.1, 0.9), 4), rtol=2e-5)
    for path, value in found.values.items():
        np.testing.assert_allclose(value, values(model, path), atol=1e-5, err_msg=path)


def test_all_that_is_told_is_that_of_plain_numpy():
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    goals = RNG.standard_normal((40, 3))
    start = {"kernel": RNG.standard_normal((5, 3)), "bias": RNG.standard_normal(3)}
    found = trial(model, X, goals, loss="squared_error", optimizer="sgd", learning_rate=0.2, steps=3, values=start)
    w, b = start["kernel"], start["bias"]
    losses, gradients, updates = [], [], []
    for _ in range(4):
        y = X @ w + b
        losses.append(np.mean((y - goals) ** 2))
        d = 2 * (y - goals) / y.size
        gradients.append(np.sqrt(np.mean((X.T @ d) ** 2)))
        updates.append(0.2 * gradients[-1] / np.sqrt(np.mean(w**2)))
        last = w, b, y
        w, b = w - 0.2 * X.T @ d, b - 0.2 * d.sum(axis=0)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(found.values["kernel"], last[0], rtol=1e-5)
    np.testing.assert_allclose(found.outputs[0], last[2], rtol=1e-4, atol=1e-5)
    assert found.gradients["kernel"] == pytest.approx(max(gradients[:3]), rel=1e-5)
    np.testing.assert_allclose(10 ** np.array(found.updates["kernel"]), updates[:3], rtol=1e-4)


def test_a_cut_takes_a_last_activation_away():
    model = nnx.Sequential(
        nnx.Linear(5, 7, rngs=nnx.Rngs(0)), jax.nn.relu, nnx.Linear(7, 3, rngs=nnx.Rngs(1)), jax.nn.softmax
    )
    kinds = [op.kind for op in describe(model, X).ops]
    assert kinds[-2:] == ["weight", "softmax"]
    cut = trial(model, X, CLASSES, loss=ENTROPY, steps=3, cut=len(kinds) - 2)
    shorter = nnx.Sequential(*model.layers[:-1])
    assert cut.losses == pytest.approx(trial(shorter, X, CLASSES, loss=ENTROPY, steps=3).losses, rel=1e-5)
    with pytest.raises(ModelError, match="no such step"):
        trial(model, X, CLASSES, loss=ENTROPY, cut=17)


def test_a_linen_model_with_statistics_that_move():
    class Module(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(7)(x))
            return {"out": nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))}

    module = Module()
    variables = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X, True)
    model = module.bind(variables, rngs={"dropout": jax.random.key(2)})

    def loss(outputs, targets):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs["out"], targets)

    example = (X, True)
    found = trial(model, example, CLASSES, loss=loss, optimizer="sgd", steps=3)
    assert len(set(found.losses)) == 4
    assert found == trial(model, example, CLASSES, loss=loss, optimizer="sgd", steps=3)
    vitals = probe(model, example, CLASSES, loss)
    assert vitals.loss == pytest.approx(found.losses[0], rel=1e-5)
    assert {path: vitals.param_gradients[path] for path in found.gradients} == vitals.param_gradients


def test_a_trial_stops_where_the_loss_is_not_finite_or_time_is_up():
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    goals = RNG.standard_normal((40, 3))
    found = trial(model, X, goals, loss="squared_error", optimizer="sgd", learning_rate=1e20, steps=20)
    assert found.diverged
    assert all(map(math.isfinite, found.losses[:-1]))
    assert len(trial(model, X, goals, loss="squared_error", seconds=0.0).losses) == 3
    assert len(trial(model, X, goals, loss="squared_error", steps=0).losses) == 1


def test_what_cannot_be_is_refused():
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    cases = [
        (ModelError, "cannot be computed", {"loss": lambda outputs, targets: outputs @ targets}),
        (UnknownNameError, "Did you mean squared_error", {"loss": "squared_eror"}),
        (UnknownNameError, "optimizer of optax", {"optimizer": "adams"}),
        (InvalidValueError, "no optimizer", {"optimizer": 3}),
        (InvalidValueError, "fixed", {"optimizer": optax.sgd(0.1), "learning_rate": 0.2}),
        (UnknownNameError, "nowhere", {"values": {"nowhere": np.ones(3)}}),
        (ModelError, "another shape", {"values": {"kernel": np.ones(3)}}),
        (InvalidValueError, "steps", {"steps": -1}),
        (InvalidValueError, "no loss", {"loss": 3}),
    ]
    for kind, words, given in cases:
        with pytest.raises(kind, match=words):
            trial(model, X, CLASSES, **{"loss": ENTROPY, **given})
    with pytest.raises(InvalidValueError, match="no targets"):
        probe(model, X, loss=ENTROPY)


# -------------------------------------------------------------------------------------------------- statistics
def test_every_statistic_is_that_of_its_definition():
    model = nnx.Sequential(nnx.Linear(5, 7, rngs=nnx.Rngs(0)), jnp.tanh)
    goals = RNG.standard_normal((40, 7))
    found = probe(model, X, goals, "squared_error")
    w, b = values(model, "layers/0/kernel").astype(np.float64), values(model, "layers/0/bias")
    z = X @ w + b
    y = np.tanh(z)
    d = 2 * (y - goals) / y.size * (1 - y**2)
    assert found.loss == pytest.approx(np.mean((y - goals) ** 2), rel=1e-5)
    assert found.param_gradients["layers/0/kernel"] == pytest.approx(np.sqrt(np.mean((X.T @ d) ** 2)), rel=1e-4)
    for at, array in enumerate((X.astype(np.float64), z, y)):
        gram = array[:32] @ array[:32].T
        lengths = np.sqrt(np.diag(gram))
        cosines = (gram / np.outer(lengths, lengths))[np.triu_indices(32, 1)]
        assert found.signal_rms[at] == pytest.approx(np.sqrt(np.mean(array**2)), rel=1e-5)
        assert found.mean[at] == pytest.approx(array.mean(), abs=1e-6)
        np.testing.assert_allclose(found.quantiles[at], np.quantile(array, np.linspace(0, 1, 11)), rtol=1e-4, atol=1e-6)
        assert found.cosine[at] == pytest.approx(cosines.mean(), abs=1e-5)
        assert found.rank[at] == pytest.approx(np.trace(gram) ** 2 / np.sum(gram**2), rel=1e-5)
        np.testing.assert_allclose(found.lowest[at], array.min(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.highest[at], array.max(axis=0), rtol=1e-4, atol=1e-6)
    spoiled = X.copy()
    spoiled[3, 0] = np.inf
    assert probe(model, spoiled).infinite == (1, 7, 0)


def test_losses_and_setups():
    logits = RNG.standard_normal((6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert loss_function(ENTROPY)(logits, labels) == pytest.approx(-np.mean(logs[np.arange(6), labels]), rel=1e-5)
    model = Net()
    found = setup(model, "adam(learning_rate=0.1)", ENTROPY)
    assert (found.training, found.optimizer, found.learning_rate, found.loss) == (True, "adam", 0.1, ENTROPY)
    model.eval()
    found = setup(model, optax.sgd(0.1), lambda outputs, targets: outputs)
    assert (found.training, found.learning_rate) == (False, None)
    assert setup(model).optimizer == setup(model).loss == ""


def test_short_names_stand_for_the_two_losses_that_are_used_most():
    logits, kinds = np.array([[2.0, 0.0, 1.0], [0.5, 0.0, -1.0]], np.float32), np.array([0, 2])
    by_hand = -(logits - np.log(np.exp(logits).sum(1, keepdims=True)))[[0, 1], kinds].mean()
    assert loss_function("cross_entropy")(logits, kinds) == pytest.approx(by_hand, rel=1e-6)
    assert loss_function("mse")(logits, np.zeros((2, 3))) == pytest.approx((logits**2).mean(), rel=1e-6)


def test_an_optimizer_of_nnx_is_the_transformation_that_it_holds():
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    given = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    losses = [trial(model, X, CLASSES, loss=ENTROPY, optimizer=each, steps=3).losses for each in (given, "sgd(lr=0.1)")]
    np.testing.assert_allclose(*losses, rtol=1e-6)
