"""Signals, gradients and calibration of Flax models, against the same models written out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.jax.adapter import calibrate, calibrated, describe, probe, values
from fanin.jax.models import variables_of

RNG = np.random.default_rng(1)
X = RNG.standard_normal((4, 5)).astype(np.float32)


class Net(nnx.Module):
    """Two layers with a normalisation, dropout and a branch that is added."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.one = nnx.Linear(5, 7, rngs=rngs)
        self.norm = nnx.BatchNorm(7, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.two = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, x):
        return self.two(self.drop(jax.nn.relu(self.norm(self.one(x)))))


@pytest.fixture(scope="module")
def net():
    return Net()


def plain(state):
    """Every array of a model's state, keys included, as NumPy's."""
    leaves = jax.tree.leaves(state)
    typed = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [np.asarray(jax.random.key_data(leaf) if key else leaf) for leaf, key in zip(leaves, typed, strict=True)]


def filled_by(build):
    """An nnx model whose parameters are random numbers, made without running its initializers."""
    model = nnx.eval_shape(build)
    for variable in variables_of(model).values():
        variable.set_value(jnp.asarray(RNG.standard_normal(variable.shape) * 0.5, variable.get_value().dtype))
    return model


def rms(values):
    return float(np.sqrt(np.square(np.asarray(values, np.float64)).mean()))


# -------------------------------------------------------------------------------------------------------- probe
def test_other_values_are_those_of_a_model_that_holds_them():
    model, other = (filled_by(lambda: nnx.Linear(5, 3, rngs=nnx.Rngs(0))) for _ in range(2))
    given = {path: values(other, path) for path in ("kernel", "bias")}
    goal = np.ones((4, 3), np.float32)

    def loss(outputs, targets):
        return jnp.mean((outputs - targets) ** 2)

    found = probe(model, X, goal, loss, values=given)
    assert found == probe(other, X, goal, loss)
    assert found.loss != probe(model, X, goal, loss).loss
    with pytest.raises(UnknownNameError, match="no_such"):
        probe(model, X, values={"no_such": goal})
    with pytest.raises(ModelError, match="another shape"):
        probe(model, X, values={"bias": goal})


def test_signals_and_gradients_are_those_of_the_chain_rule():
    """The oracle: a network of two layers, differentiated by hand."""
    model = filled_by(lambda: nnx.Sequential(nnx.Linear(5, 7, rngs=nnx.Rngs(0)), jnp.tanh,
                                             nnx.Linear(7, 3, rngs=nnx.Rngs(0))))  # fmt: skip
    v, a, w, b = (values(model, f"layers/{name}") for name in ("0/kernel", "0/bias", "2/kernel", "2/bias"))
    z = X @ v + a
    h = np.tanh(z)
    d_out = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    d_h = d_out @ w.T
    d_z = d_h * (1 - h**2)
    signals = probe(model, X)
    assert signals.layers == ("0:input", "1:layers/0", "2:activation", "3:layers/2")
    expected = [rms(each) for each in (X, z, h, h @ w + b)]
    np.testing.assert_allclose(signals.signal_rms, expected, rtol=1e-5)
    np.testing.assert_allclose(signals.gradient_rms, [rms(each) for each in (d_z @ v.T, d_z, d_h, d_out)], rtol=1e-5)


def test_nothing_of_the_model_changes(net):
    before, mode = plain(nnx.state(net)), (net.drop.deterministic, net.norm.use_running_average)
    call = nnx.Linear.__call__
    info, signals = describe(net, X), probe(net, X)
    assert [op.kind for op in info.ops] == ["input", "weight", "norm", "activation", "dropout", "weight"]
    assert signals.signal_rms[2] == pytest.approx(1, abs=0.01)  # the batch's own moments, as in training
    assert signals.signal_rms[4] > 1.1 * signals.signal_rms[3]  # dropout is on
    for one, other in zip(before, plain(nnx.state(net)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (net.drop.deterministic, net.norm.use_running_average) == mode
    with pytest.raises(ModelError, match="does not run"):
        describe(net, X[:, :3])
    assert nnx.Linear.__call__ is call


def test_a_gradient_that_is_not_finite_is_infinite():
    model = nnx.Sequential(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), lambda x: jnp.sqrt((x - jax.lax.stop_gradient(x)) ** 2))
    assert set(probe(model, X).param_gradients.values()) == {jnp.inf}


def test_a_derivative_of_ones_own_is_kept():
    """A straight-through estimator hands its gradient on, where the derivative of a sign is zero."""

    @jax.custom_vjp
    def through(x):
        return jnp.sign(x)

    through.defvjp(lambda x: (through(x), None), lambda _, g: (g,))
    model = filled_by(lambda: nnx.Sequential(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), through))
    signals = probe(model, X)
    assert signals.gradient_rms[1] == pytest.approx(signals.gradient_rms[2]) != 0


def test_steps_inside_a_derivative_of_ones_own_are_measured_too():
    @jax.custom_jvp
    def scaled(x, w):
        return jnp.tanh(x @ w)

    scaled.defjvp(lambda given, tangents: jax.jvp(lambda x, w: jnp.tanh(x @ w), given, tangents))

    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.zeros((5, 3)))

        def __call__(self, x):
            return scaled(x, self.w[...])

    model = filled_by(Model)
    z = X @ values(model, "w")
    np.testing.assert_allclose(probe(model, X).signal_rms, [rms(X), rms(z), rms(np.tanh(z))], rtol=1e-5)


def test_whole_numbers_have_no_signal():
    model = filled_by(lambda: nnx.Embed(6, 4, rngs=nnx.Rngs(0)))
    signals = probe(model, np.array([[0, 3, 5]]))
    assert np.isnan([signals.signal_rms[0], signals.gradient_rms[0]]).all()
    assert signals.signal_rms[1] == pytest.approx(rms(values(model, "embedding")[[0, 3, 5]]))


def test_shapes_alone_cannot_be_measured():
    model = nnx.eval_shape(lambda: nnx.Linear(5, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ModelError, match="shapes alone"):
        probe(model, X)


# ---------------------------------------------------------------------------------------------------- calibration
@pytest.mark.parametrize("of", ["second_moment", "variance"])
def test_each_weight_is_scaled_after_those_before_it(of):
    """The oracle goes through the layers one by one with the weights that it has scaled."""
    moment = {"second_moment": lambda z: np.square(z).mean(), "variance": np.var}[of]
    model = filled_by(lambda: nnx.Sequential(nnx.Linear(5, 7, rngs=nnx.Rngs(0)), jnp.tanh,
                                             nnx.Linear(7, 3, rngs=nnx.Rngs(0))))  # fmt: skip
    v, a, w, b = (values(model, f"layers/{name}") for name in ("0/kernel", "0/bias", "2/kernel", "2/bias"))
    first = np.sqrt(1.5 / moment(X @ v))
    second = np.sqrt(0.25 / moment(np.tanh(X @ v * first + a) @ w))
    factors = calibrate(model, X, {"layers/2/kernel": 0.25, "layers/0/kernel": 1.5}, of=of)
    assert list(factors) == ["layers/0/kernel", "layers/2/kernel"]
    np.testing.assert_allclose(list(factors.values()), [first, second], rtol=1e-5)
    np.testing.assert_allclose(values(model, "layers/2/kernel"), w * second, rtol=1e-5)
    np.testing.assert_array_equal(values(model, "layers/2/bias"), b)


def test_a_tied_table_settles():
    class Tied(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.embed, self.mix = nnx.Embed(6, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            return self.embed.attend(x + jnp.tanh(self.mix(x)))

    model, tokens = filled_by(Tied), np.array([[0, 3, 5, 1]])
    calibrate(model, tokens, {"embed/embedding": 0.4, "mix/kernel": 1.0})
    np.testing.assert_allclose(np.square(np.asarray(model(tokens))).mean(), 0.4, rtol=1e-2)


def test_linen_gets_new_variables():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, bias_init=nn.initializers.ones)(x)

    variables = {"params": {"Dense_0": {"kernel": jnp.asarray(RNG.standard_normal((5, 3)), jnp.float32),
                                        "bias": jnp.ones(3)}}}  # fmt: skip
    model = Model().bind(variables)
    scaled, factors = calibrated(model, X, {"Dense_0/kernel": 2.0})
    kernel = np.asarray(scaled["params"]["Dense_0"]["kernel"])
    np.testing.assert_allclose(np.square(X @ kernel).mean(), 2.0, rtol=1e-5)
    np.testing.assert_allclose(kernel, values(model, "Dense_0/kernel") * factors["Dense_0/kernel"], rtol=1e-6)
    with pytest.raises(ModelError, match="calibrated"):
        calibrate(model, X, {"Dense_0/kernel": 2.0})


def test_what_cannot_be_calibrated_is_named_and_left():
    model = filled_by(lambda: nnx.Sequential(nnx.Linear(5, 7, rngs=nnx.Rngs(0)), nnx.Linear(7, 3, rngs=nnx.Rngs(0))))
    variables_of(model)["layers/1/kernel"].set_value(jnp.zeros((7, 3)))
    before = values(model, "layers/0/kernel")
    both = {"layers/0/kernel": 1.0, "layers/1/kernel": 1.0}
    for targets, error, message in (
        (both, ModelError, "layers/1/kernel"),
        ({"layers/0/bias": 1.0}, ModelError, "layers/0/bias"),
        ({"layers/0/kernl": 1.0}, UnknownNameError, "layers/0/kernel"),
        ({"layers/0/kernel": -1.0}, InvalidValueError, "-1"),
    ):
        with pytest.raises(error, match=message):
            calibrate(model, X, targets)
    with pytest.raises(UnknownNameError, match="variance"):
        calibrate(model, X, both, of="varience")
    np.testing.assert_array_equal(values(model, "layers/0/kernel"), before)
