"""Initial weights tuned on one batch: MetaInit and GradInit; `fanin.recipes.tuning` says how they work.

`metainit` and `gradinit` tune models of Flax NNX; `metainit_factors` and `gradinit_factors` take any loss of
named arrays and change nothing. Importing this loads JAX, not Flax.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError
from fanin.recipes.tuning import (
    EPSILON,
    FirstStep,
    Measure,
    Measured,
    Progress,
    check_output,
    check_settings,
    check_targets,
    checked_paths,
    descended,
    first_step,
    refuse_zero,
)
from fanin.recipes.tuning import drawn_targets as drawn

__all__ = ["criterion", "drawn_targets", "gradinit", "gradinit_factors", "loss_of", "metainit", "metainit_factors"]

Weights = Mapping[str, Any]
Loss = Callable[[Weights, Any], Any]
"""From parameters by path, and a batch (arrays, in any nesting), to one number."""
Criterion = Callable[[Any, Any], Any]
"""From outputs and targets to one number."""
_Objective = Callable[[Any, Weights, Any], tuple[Any, tuple[Any, Any]]]
"""From logarithms of factors, parameters and batch to (what is to be small, (whether the constraint holds, loss))."""


_DIRECTIONS: Mapping[str, Callable[[Any], Any]] = {"adam": jnp.sign, "sgd": lambda gradient: gradient}
"""From a gradient to the optimizer's first step at learning rate 1."""


def metainit_factors(
    loss: Loss,
    parameters: Weights,
    batch: Any,
    *,
    paths: Sequence[str],
    steps: int = 100,
    rate: float = 0.1,
    progress: Progress | None = None,
) -> dict[str, float]:
    """The factors of weights at which the gradient changes least along itself (MetaInit, NeurIPS 2019).

    What is made small is the gradient quotient, mean abs((g - H g) / (g +- 1e-5) - 1) over the tuned weights,
    with g the loss's gradient and H its Hessian. Other than in the paper, steps are relative to a weight's
    norm, and all are taken on one batch.

    Args:
        loss: From (parameters, batch) to one number; traced by JAX, so it must be pure.
        parameters: Arrays by path.
        batch: What the loss takes.
        paths: The weights to tune, keys of `parameters`.
        steps: How often the factors change; each costs one gradient, one product with the Hessian, and the
            derivative of both.
        rate: The largest relative change of a weight in one step.
        progress: Told after each step (steps done, steps).

    Returns:
        The factor to multiply each weight by.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such weight, or a setting is out of range.
        ModelError: If a weight is zero, the loss or one of its derivatives is not finite, or no factor changes
            the gradient quotient.

    Example:
        >>> weights = {"first": jnp.full((3, 4), 0.1), "second": jnp.full((4, 2), 0.1)}
        >>> def loss(w, x):
        ...     return jnp.mean((jnp.tanh(x @ w["first"]) @ w["second"] - 1) ** 2)
        >>> factors = metainit_factors(loss, weights, jnp.ones((8, 3)), paths=["first", "second"], steps=5)
        >>> list(factors)
        ['first', 'second']
    """
    check_settings(steps=steps, rate=rate)
    paths = _checked(parameters, paths)
    return descended(_measure(_quotient(loss, paths), parameters, batch), paths, steps, rate, progress)


def gradinit_factors(
    loss: Loss,
    parameters: Weights,
    batch: Any,
    *,
    paths: Sequence[str],
    steps: int = 100,
    rate: float = 0.1,
    learning_rate: float | None = None,
    gamma: float | None = None,
    optimizer: Literal["adam", "sgd"] = "adam",
    progress: Progress | None = None,
) -> dict[str, float]:
    """The factors of weights at which the loss after one optimizer step is smallest (GradInit, 2102.08098).

    Where the gradient's norm (of order 1 for Adam, 2 for SGD) is above `gamma`, that norm is made smaller
    instead. All parameters take the step; those in `paths` are tuned. Other than in the paper, one batch serves
    both for the step and for the loss after it, and the factors follow the signs of their slopes.

    Args:
        loss, parameters, batch, paths, steps, rate, progress: As for `metainit_factors`.
        learning_rate: That of the training to come; 0.001 for Adam, 0.1 for SGD.
        gamma: The largest norm allowed. Where nothing is said, that at which the step lowers the loss by 0.1
            to first order: 0.1 / learning_rate for Adam, the square root of that for SGD.
        optimizer: Adam's first step has the learning rate's size in each number, whatever the gradient's.

    Returns:
        The factor to multiply each weight by.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: As for `metainit_factors`.

    Example:
        >>> def loss(w, x):
        ...     return jnp.mean((jnp.tanh(x @ w["w"]) - 1) ** 2)
        >>> weights, x = {"w": jnp.full((3, 2), 0.1)}, jnp.ones((8, 3))
        >>> gradinit_factors(loss, weights, x, paths=["w"], steps=5)["w"] > 1
        True
    """
    check_settings(steps=steps, rate=rate)
    step, direction = first_step(optimizer, learning_rate, gamma), _DIRECTIONS[optimizer]
    paths = _checked(parameters, paths)
    objective = _after_step(loss, paths, step, direction)
    return descended(_measure(objective, parameters, batch), paths, steps, rate, progress)


def metainit(
    model: Any, example: Any, targets: Any = None, *, loss: Criterion | None = None, **settings: Any
) -> dict[str, float]:
    """Tune the sizes of a model's weights by `metainit_factors`; the model changes at the end only, or not at all.

    Args:
        model: An NNX module, in the mode in which it is to be tuned; its other state stays as it is, and random
            layers draw the same numbers at each step.
        example: What the model is called on: an array, a tuple of arguments or a mapping of keyword arguments.
            Random numbers of the right shape serve, too.
        targets: Integers for cross-entropy on logits (classes on the last axis), or numbers of the output's
            shape for the mean squared error. Without them: random classes, or random numbers for one output.
        loss: From (outputs, targets) to one number, or to one for each example; it needs targets.
        **settings: `paths`, `steps`, `rate` and `progress` of `metainit_factors`.

    Returns:
        The factor that each weight was multiplied by.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: As for `metainit_factors`, or if the model does not take
            the example.

    Example:
        >>> from flax import nnx
        >>> net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> list(metainit(net, jnp.ones((8, 3)), paths=["kernel"], steps=5))
        ['kernel']
    """
    outputs, parameters, batch = _function_of(model, example)
    if targets is None:
        targets = drawn_targets(jax.eval_shape(outputs, parameters, batch), loss)
    value = loss_of(outputs, loss or criterion(targets))
    return _apply(model, metainit_factors(value, parameters, (batch, jnp.asarray(targets)), **settings))


def gradinit(
    model: Any, example: Any, targets: Any, *, loss: Criterion | None = None, **settings: Any
) -> dict[str, float]:
    """Tune the sizes of a model's weights by `gradinit_factors`; the model changes at the end only, or not at all.

    Args:
        model, example, targets, loss: As for `metainit`, but targets are needed.
        **settings: `paths`, `steps`, `rate`, `learning_rate`, `gamma`, `optimizer` and `progress` of
            `gradinit_factors`.

    Returns:
        The factor that each weight was multiplied by. Errors are those of `metainit`.

    Example:
        >>> from flax import nnx
        >>> net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> list(gradinit(net, jnp.ones((4, 3)), jnp.array([0, 1, 0, 1]), paths=["kernel"], steps=5))
        ['kernel']
    """
    outputs, parameters, batch = _function_of(model, example)
    value = loss_of(outputs, loss or criterion(targets))
    return _apply(model, gradinit_factors(value, parameters, (batch, jnp.asarray(targets)), **settings))


# ----------------------------------------------------------------------------------------------------- losses
def criterion(targets: Any) -> Criterion:
    """The loss for targets of this type; called on outputs that they do not fit, it raises a `ModelError`."""
    given = np.asarray(targets)
    floating = bool(jnp.issubdtype(given.dtype, jnp.floating))
    if not floating and not jnp.issubdtype(given.dtype, jnp.integer):
        raise ModelError("The targets are no numbers", given=str(given.dtype), allowed="integers or floating numbers")
    lowest, highest = (0, -1) if floating else (int(given.min()), int(given.max()))

    def loss(outputs: Any, targets: Any) -> Any:
        """The mean over the batch, classes on the last axis."""
        _check_single(outputs)
        check_targets(targets.shape, outputs.shape, None if floating else -1)
        if floating:
            return jnp.mean(jnp.square(outputs - targets))
        if lowest < 0 or highest >= outputs.shape[-1]:
            allowed = f"0 to {outputs.shape[-1] - 1}"
            hint = "Give a loss of your own."
            raise ModelError("A target is no class", given=f"{lowest} to {highest}", allowed=allowed, hint=hint)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[..., None], -1))

    return loss


def loss_of(outputs: Callable[[Weights, Any], Any], loss: Criterion) -> Loss:
    """The loss as a function of parameters and of (batch, targets), the mean where it is not one number yet."""
    return lambda weights, pair: jnp.mean(loss(outputs(weights, pair[0]), pair[1]))


def drawn_targets(outputs: Any, loss: Criterion | None) -> Any:
    """Random classes for outputs of this shape, or for a single output unit random numbers.

    Raises:
        InvalidValueError: If there is a loss of the user's own: only the user knows what it takes.
        ModelError: If the outputs are not one array with the batch in front.
    """
    if loss is not None:
        raise InvalidValueError("A loss of your own needs targets", given="None", allowed="an array of targets")
    _check_single(outputs)
    return drawn(outputs.shape, axis=-1)


def _check_single(outputs: Any) -> None:
    check_output(outputs, "(batch, ..., units)")


# --------------------------------------------------------------------------------------------------- calculus
def _scaled(parameters: Weights, paths: Sequence[str], logs: Any) -> dict[str, Any]:
    """The weights of these paths times their factors, whose logarithms are given; their types are kept."""
    factors = jnp.exp(logs)
    return {path: (parameters[path] * factors[i]).astype(parameters[path].dtype) for i, path in enumerate(paths)}


def _deviations(gradient: Any, product: Any) -> Any:
    """How far the gradient after a step along itself is from the gradient, number by number."""
    guard = jnp.where(gradient >= 0, EPSILON, -EPSILON)
    return jnp.abs((gradient - product) / (gradient + guard) - 1).ravel()


def _checked(parameters: Weights, paths: Sequence[str]) -> list[str]:
    """The paths, each once; refused are those of no parameter, and of one without a size that a factor could change."""
    chosen = checked_paths(paths, parameters)
    refuse_zero(path for path in chosen if not jnp.any(parameters[path]))
    return chosen


def _quotient(loss: Loss, paths: Sequence[str]) -> _Objective:
    """MetaInit: the gradient quotient."""

    def quotient(logs: Any, parameters: Weights, batch: Any) -> tuple[Any, tuple[Any, Any]]:
        """The quotient; it knows no constraint."""
        tuned = _scaled(parameters, paths, logs)
        slope = jax.grad(lambda weights: loss({**parameters, **weights}, batch))
        gradients = slope(tuned)
        _, products = jax.jvp(slope, (tuned,), (gradients,))  # of the Hessian with the gradient
        terms = [_deviations(gradients[path], products[path]) for path in paths]
        return jnp.mean(jnp.concatenate(terms)), (True, loss({**parameters, **tuned}, batch))

    return quotient


def _after_step(loss: Loss, paths: Sequence[str], step: FirstStep, direction: Callable[[Any], Any]) -> _Objective:
    """GradInit: the loss after the step, or the gradient's norm where that is too large."""

    def after_step(logs: Any, parameters: Weights, batch: Any) -> tuple[Any, tuple[Any, Any]]:
        """One of the two, and whether it is the loss."""
        weights = {**parameters, **_scaled(parameters, paths, logs)}
        before, gradients = jax.value_and_grad(loss)(weights, batch)
        norm = jnp.linalg.norm(jnp.concatenate([each.ravel() for each in gradients.values()]), step.norm)

        def after() -> Any:
            return loss({p: w - step.learning_rate * direction(gradients[p]) for p, w in weights.items()}, batch)

        return jax.lax.cond(norm > step.gamma, lambda: norm, after), (norm <= step.gamma, before)

    return after_step


def _measure(objective: _Objective, parameters: Weights, batch: Any) -> Measure:
    """Value, constraint and slopes of an objective.

    Raises:
        ModelError: If the loss is not finite.
    """
    compiled = jax.jit(jax.value_and_grad(objective, has_aux=True))

    def measure(logs: NDArray[np.float64]) -> Measured:
        """The three at these factors."""
        (value, (holds, loss)), slopes = compiled(jnp.asarray(logs), parameters, batch)
        if not np.isfinite(loss):
            hint = "Start from a recipe's weights, or lower the rate."
            raise ModelError("The loss is not finite", given=float(loss), hint=hint)
        return Measured(float(value), bool(holds), np.asarray(slopes, np.float64))

    return measure


# ------------------------------------------------------------------------------------------------------- Flax
def _function_of(model: Any, example: Any) -> tuple[Callable[[Weights, Any], Any], Weights, Any]:
    """An NNX model as a function of parameters and of the arrays in its example; these two."""
    from flax import nnx

    from fanin.jax.models import Recorder, parts_of
    from fanin.jax.tracing import arguments

    if not isinstance(model, nnx.Module):
        hint = "Give metainit_factors or gradinit_factors a loss of named arrays."
        raise ModelError("Only NNX modules are tuned in place", given=type(model).__name__, hint=hint)
    parts = parts_of(model)
    leaves, structure = jax.tree.flatten(arguments(example))
    dynamic = {i: jnp.asarray(leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray | jax.Array)}

    def outputs(weights: Weights, batch: Any) -> Any:
        """What a copy of the model with these parameters returns."""
        args, kwargs = jax.tree.unflatten(structure, [batch[0].get(i, leaf) for i, leaf in enumerate(leaves)])
        try:
            return parts.call(weights, batch[1], args, kwargs, Recorder())
        except Exception as error:  # a user's model may raise anything
            told = f"{type(error).__name__}: {error}"
            raise ModelError("The model could not be run on the example", given=told) from error

    return outputs, parts.arrays, (dynamic, list(parts.state))


def _apply(model: Any, factors: dict[str, float]) -> dict[str, float]:
    """Multiply the weights by their factors; all of them, or none if it is interrupted."""
    from fanin.jax.adapter import scaling, write_all

    write_all(model, {path: scaling(factor) for path, factor in factors.items()})
    return factors
