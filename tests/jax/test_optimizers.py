"""Optimizers of optax by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fanin.errors import FaninError, InvalidValueError, UnknownNameError
from fanin.jax.optimizers import optimizers
from fanin.records import Call


@pytest.mark.parametrize(
    "call",
    [Call("sgd", momentum=0.9, nesterov=True), Call("Adam", b1=0.8), Call("lamb")],
    ids=lambda call: call.name,
)
def test_two_steps_are_those_of_optax(call: Call) -> None:
    """The learning rate may be traced, and stacked."""
    weights = {"matrix": jnp.arange(6.0).reshape(3, 2), "vector": jnp.array([0.5, -2.0])}

    def stepped(made: optax.GradientTransformation) -> dict[str, jax.Array]:
        own, held = weights, made.init(weights)
        for _ in range(2):
            updates, held = made.update(jax.tree.map(jnp.sin, own), held, own)
            own = optax.apply_updates(own, updates)
        return own

    rates = [0.1, 0.02]
    together = jax.vmap(lambda rate: stepped(optimizers(call)(rate)))(jnp.array(rates))
    for i, rate in enumerate(rates):
        plain = stepped(getattr(optax, call.name.lower())(rate, **call.params))
        for name, value in plain.items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-6)
            assert (value != weights[name]).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (Call("adamm"), UnknownNameError, "optimizer of optax.*adamm[\\s\\S]*Did you mean adam"),
        (Call("lbfgs"), UnknownNameError, "optimizer of optax"),
        (Call("scale_by_learning_rate"), UnknownNameError, "optimizer of optax"),
        (Call("adam", beta_1=0.9), InvalidValueError, "cannot be made.*beta_1"),
        (Call("adam", learning_rate=0.1), InvalidValueError, "Use --lr"),
    ],
    ids=str,
)
def test_what_is_no_optimizer_is_named(call: Call, error: type[FaninError], message: str) -> None:
    with pytest.raises(error, match=message):
        optimizers(call)
