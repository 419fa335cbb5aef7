"""Initial weights tuned on one batch: MetaInit and GradInit for Keras models on the JAX backend.

`fanin.jax.tuning` says how they work. A model is tuned as in inference: without dropout, and with the moving
statistics of its normalisation layers. Losses that layers add (regularisers) are left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from fanin.errors import ModelError
from fanin.keras.adapter import describe
from fanin.keras.backend import KERAS
from fanin.keras.layouts import restored_on_failure, variables_of
from fanin.keras.trace import call_arguments

__all__ = ["gradinit", "metainit"]

_SMALLEST = 1e-7
"""Probabilities below it count as this, as in Keras's own cross-entropy."""

Criterion = Callable[[Any, Any], Any]


def metainit(
    model: keras.Model, example: Any, targets: Any = None, *, loss: Criterion | None = None, **settings: Any
) -> dict[str, float]:
    """Tune the sizes of weights so that the gradient changes least along itself; the model changes at the end only.

    Args:
        model: A built model.
        example: What it is called on, with one argument. Random numbers of the right shape serve, too.
        targets: Integers for cross-entropy (classes on the last axis; of probabilities where the model ends in a
            softmax, of logits otherwise), or numbers of the output's shape for the mean squared error. Without
            them: random classes, or random numbers for a single output.
        loss: For everything else; a Keras loss, or a function of (targets, outputs). It needs targets.
        **settings: `paths`, `steps`, `rate` and `progress` of `fanin.jax.tuning.metainit_factors`.

    Returns:
        The factor that each weight was multiplied by.

    Raises:
        ModelError: If Keras is on another backend than JAX, or the model does not take the example.
        UnknownNameError, InvalidValueError, ModelError: As for `fanin.jax.tuning.metainit_factors`.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        >>> list(metainit(model, keras.random.normal((8, 3)), paths=["d/kernel"], steps=5))
        ['d/kernel']
    """
    with KERAS:
        _check_backend()
        from fanin.jax.tuning import metainit_factors

        return _apply(model, metainit_factors(*_problem(model, example, targets, loss), **settings))


def gradinit(
    model: keras.Model, example: Any, targets: Any, *, loss: Criterion | None = None, **settings: Any
) -> dict[str, float]:
    """Tune the sizes of weights so that the loss after one optimizer step is smallest; the model changes at the end.

    Args:
        model, example, targets, loss: As for `metainit`, but targets are needed.
        **settings: `paths`, `steps`, `rate`, `learning_rate`, `gamma`, `optimizer` and `progress` of
            `fanin.jax.tuning.gradinit_factors`.

    Returns:
        The factor that each weight was multiplied by. Errors are those of `metainit`.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
        >>> x = keras.random.normal((4, 3))
        >>> list(gradinit(model, x, [0, 1, 0, 1], paths=["d/kernel"], steps=5))
        ['d/kernel']
    """
    with KERAS:
        _check_backend()
        from fanin.jax.tuning import gradinit_factors

        return _apply(model, gradinit_factors(*_problem(model, example, targets, loss, may_draw=False), **settings))


def _check_backend() -> None:
    if keras.backend.backend() != "jax":
        raise ModelError(
            "Weights are tuned on Keras's JAX backend",
            given=keras.backend.backend(),
            allowed="jax",
            hint="Set the environment variable KERAS_BACKEND=jax before importing keras.",
        )


def _problem(
    model: keras.Model, example: Any, targets: Any, loss: Criterion | None, *, may_draw: bool = True
) -> tuple[Any, Any, Any]:
    """What is to be tuned, as JAX sees it: loss, parameters by path, batch."""
    import jax
    import jax.numpy as jnp

    from fanin.jax.tuning import criterion, drawn_targets, loss_of
    from fanin.keras.taps import forward

    info = describe(model, example)
    args, kwargs = call_arguments(model, example)
    if len(args) != 1 or kwargs:
        raise ModelError("A model is tuned on one argument", given=f"{len(args)} and {len(kwargs)} by keyword")
    variables = variables_of(model)
    parameters = {path: variable.value for path, variable in variables.items()}
    batch = args[0], [variable.value for variable in model.non_trainable_variables]
    probabilities = loss is None and [info.ops[output].kind for output in info.outputs] == ["softmax"]

    def outputs(weights: Mapping[str, Any], batch: Any) -> Any:
        """What the model with these parameters returns; logits where it returns probabilities."""
        found, _, _ = forward(model, [weights[path] for path in variables], batch[1], batch[0], training=False)
        return jnp.log(jnp.maximum(found, _SMALLEST)) if probabilities else found

    if targets is None and may_draw:
        targets = drawn_targets(jax.eval_shape(outputs, parameters, batch), loss)
    turned = criterion(targets) if loss is None else lambda outputs, targets: loss(targets, outputs)
    return loss_of(outputs, turned), parameters, (batch, jnp.asarray(targets))


def _apply(model: keras.Model, factors: dict[str, float]) -> dict[str, float]:
    """Multiply the weights by their factors; all of them, or none if it is interrupted."""
    variables = {path: variable for path, variable in variables_of(model).items() if path in factors}
    with restored_on_failure(list(variables.values())):
        for path, variable in variables.items():
            variable.assign(variable.value * factors[path])
    return factors
