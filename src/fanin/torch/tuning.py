"""Initial weights tuned on one batch: MetaInit and GradInit.

`fanin.recipes.tuning` says how they work. A model in train mode is tuned with its random layers at work, which
draw the same numbers at each step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

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
    drawn_targets,
    first_step,
    refuse_zero,
)
from fanin.torch.backend import seeded
from fanin.torch.layouts import parameters
from fanin.torch.running import arguments, calling, preserved

__all__ = ["gradinit", "metainit"]

_SEED = 0
"""Of what random layers draw."""

Loss = Callable[[Any, Any], Tensor]
_Objective = Callable[[Tensor], tuple[Tensor, bool]]
"""From the logarithms of the factors to what is to be small, and whether the method's constraint holds."""
_Evaluate = Callable[[Mapping[str, Tensor]], Tensor]
"""From parameters by path to the loss."""
_DIRECTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"adam": torch.sign, "sgd": torch.clone}
"""From a gradient to the optimizer's first step at learning rate 1."""


def metainit(
    model: nn.Module,
    example: Any,
    targets: Any = None,
    *,
    loss: Loss | None = None,
    paths: Sequence[str],
    steps: int = 100,
    rate: float = 0.1,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Tune the sizes of weights so that the gradient changes least along itself (MetaInit, NeurIPS 2019).

    What is made small is the gradient quotient, mean abs((g - H g) / (g +- 1e-5) - 1) over the tuned weights,
    with g the loss's gradient and H its Hessian. Other than in the paper, steps are relative to a weight's
    norm, and all are taken on one batch. The model is changed at the end only, and not at all on failure.

    Args:
        model: In the mode in which it is to be tuned; buffers, gradients and random states stay as they are.
        example: What the model is called on: an array, a tuple of arguments or a mapping of keyword arguments.
            Random numbers of the right shape serve, too.
        targets: Integers for cross-entropy on logits (classes on axis 1), or numbers of the output's shape for
            the mean squared error. Without them: random classes, or random numbers for a single output.
        loss: From (outputs, targets) to one number, or to one for each example; it needs targets.
        paths: The weights to tune, by name in the model.
        steps: How often the factors change; each costs one gradient, one product with the Hessian, and the
            derivative of both.
        rate: The largest relative change of a weight in one step.
        progress: Told after each step (steps done, steps).

    Returns:
        The factor that each weight was multiplied by.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such weight, or a setting is out of range.
        ModelError: If a weight is zero or frozen, the model does not take the example, the loss or one of its
            derivatives is not finite, or no factor changes the gradient quotient.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> factors = metainit(net, torch.randn(8, 3), paths=["0.weight", "2.weight"], steps=10)
        >>> list(factors)
        ['0.weight', '2.weight']
    """
    check_settings(steps=steps, rate=rate)
    tuned = _tuned(model, paths)
    with _differentiable(model):
        evaluate = _evaluator(model, example, targets, loss, may_draw=True)
        frozen = {path: tensor.detach() for path, _, _, tensor in parameters(model)}
        factors = descended(_measure(_quotient(evaluate, tuned, frozen)), list(tuned), steps, rate, progress)
    return _apply(tuned, factors)


def gradinit(
    model: nn.Module,
    example: Any,
    targets: Any,
    *,
    loss: Loss | None = None,
    paths: Sequence[str],
    steps: int = 100,
    rate: float = 0.1,
    learning_rate: float | None = None,
    gamma: float | None = None,
    optimizer: Literal["adam", "sgd"] = "adam",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Tune the sizes of weights so that the loss after one optimizer step is smallest (GradInit, 2102.08098).

    Where the gradient's norm (of order 1 for Adam, 2 for SGD) is above `gamma`, that norm is made smaller
    instead. All parameters that require a gradient take the step; those in `paths` are tuned. Other than in the
    paper, one batch serves both for the step and for the loss after it, and the factors follow the signs of
    their slopes. The model is changed at the end only, and not at all on failure.

    Args:
        model, example, targets, loss, paths, steps, rate, progress: As for `metainit`, but targets are needed.
        learning_rate: That of the training to come; 0.001 for Adam, 0.1 for SGD.
        gamma: The largest norm allowed. Where nothing is said, that at which the step lowers the loss by 0.1
            to first order: 0.1 / learning_rate for Adam, the square root of that for SGD.
        optimizer: Adam's first step has the learning rate's size in each number, whatever the gradient's.

    Returns:
        The factor that each weight was multiplied by.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: As for `metainit`.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> x, y = torch.randn(8, 3), torch.tensor([0, 1] * 4)
        >>> factors = gradinit(net, x, y, paths=["0.weight", "2.weight"], steps=10, optimizer="sgd")
        >>> all(factor > 0 for factor in factors.values())
        True
    """
    check_settings(steps=steps, rate=rate)
    step, direction = first_step(optimizer, learning_rate, gamma), _DIRECTIONS[optimizer]
    tuned = _tuned(model, paths)
    with _differentiable(model):
        evaluate = _evaluator(model, example, targets, loss, may_draw=False)
        moving = {
            path: tensor.detach().requires_grad_() for path, _, _, tensor in parameters(model) if tensor.requires_grad
        }
        objective = _after_step(evaluate, tuned, moving, step, direction)
        factors = descended(_measure(objective), list(tuned), steps, rate, progress)
    return _apply(tuned, factors)


# ----------------------------------------------------------------------------------------------------- checks
def _tuned(model: nn.Module, paths: Sequence[str]) -> dict[str, Tensor]:
    """The parameters of these paths.

    Raises:
        UnknownNameError: If there is no such parameter.
        InvalidValueError: If no path is given.
        ModelError: If a parameter has no size that a factor could change, or takes no gradient.
    """
    known = {path: tensor for path, _, _, tensor in parameters(model)}
    tuned = {path: known[path] for path in checked_paths(paths, known)}
    without = ", ".join(path for path, tensor in tuned.items() if not tensor.requires_grad)
    if without:
        raise ModelError("A frozen parameter cannot be tuned", given=without, hint="Leave it out of paths.")
    refuse_zero(path for path, tensor in tuned.items() if not tensor.detach().any())
    return tuned


# ------------------------------------------------------------------------------------------------------- loss
@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """While open, attention has second derivatives; afterwards the model's state is what it was."""
    with preserved(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _evaluator(
    model: nn.Module, example: Any, targets: Any, loss: Loss | None, *, may_draw: bool
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The loss as a function of parameters, at the same random numbers each time."""

    def outputs(weights: Mapping[str, Tensor]) -> Any:
        """What a model with these parameters and copies of the buffers returns."""
        values = {**{path: buffer.clone() for path, buffer in model.named_buffers()}, **weights}
        args, kwargs = arguments(model, example)
        with calling(), seeded(_SEED):
            return torch.func.functional_call(model, values, args, kwargs)

    if targets is None:
        if loss is not None or not may_draw:
            raise InvalidValueError("The loss needs targets", given="None", allowed="an array of targets")
        with torch.no_grad():
            given = outputs({})
            _check_single(given)
            targets = drawn_targets(given.shape, axis=1)
    (goal,), _ = arguments(model, (targets if loss is not None else torch.as_tensor(targets),))
    criterion = loss or _criterion(goal)

    def evaluate(weights: Mapping[str, Tensor]) -> Tensor:
        """The loss, a single number.

        Raises:
            ModelError: If it is none, or not finite.
        """
        given = outputs(weights)
        with calling():
            value = criterion(given, goal)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ModelError("The loss is not a number", given=type(value).__name__, allowed="a floating tensor")
        if not value.isfinite().all():
            raise ModelError("The loss is not finite", given=value.mean().item(), hint="Start from a recipe's weights.")
        return value.mean()

    return evaluate


def _criterion(targets: Tensor) -> Loss:
    """The loss for targets of this type."""
    floating = targets.is_floating_point()

    def criterion(outputs: Any, targets: Tensor) -> Tensor:
        """The mean squared error or the cross-entropy, once outputs and targets are known to fit."""
        _check_single(outputs)
        check_targets(targets.shape, outputs.shape, None if floating else 1)
        if floating:
            return nn.functional.mse_loss(outputs, targets)
        return nn.functional.cross_entropy(outputs, targets.long())

    return criterion


def _check_single(outputs: Any) -> None:
    check_output(outputs, "(batch, units, ...)")


# --------------------------------------------------------------------------------------------------- calculus
def _scaled(tuned: Mapping[str, Tensor], logs: Tensor) -> dict[str, Tensor]:
    """The weights times their factors, whose logarithms are given; their types are kept."""
    return {
        path: (tensor.detach() * log.exp()).to(tensor.dtype)
        for (path, tensor), log in zip(tuned.items(), logs, strict=True)
    }


def _gradients(value: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The derivatives of a number, which can be derived again; zeros for weights that it does not depend on."""
    if not value.requires_grad:
        return {path: torch.zeros_like(weight) for path, weight in weights.items()}
    found = torch.autograd.grad(value, list(weights.values()), create_graph=True, materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def _deviations(gradient: Tensor, product: Tensor) -> Tensor:
    """How far the gradient after a step along itself is from the gradient, number by number."""
    guard = torch.where(gradient >= 0, EPSILON, -EPSILON)
    return ((gradient - product) / (gradient + guard) - 1).abs().flatten()


def _quotient(evaluate: _Evaluate, tuned: Mapping[str, Tensor], frozen: Mapping[str, Tensor]) -> _Objective:
    """MetaInit: the gradient quotient."""

    def quotient(logs: Tensor) -> tuple[Tensor, bool]:
        """The quotient; it knows no constraint."""
        weights = _scaled(tuned, logs)
        gradients = _gradients(evaluate({**frozen, **weights}), weights)
        energy = sum((each.square().sum() for each in gradients.values()), start=torch.zeros(())) / 2
        products = _gradients(energy, weights)  # of the Hessian with the gradient
        terms = [_deviations(gradients[path], products[path]) for path in tuned]
        return torch.cat(terms).mean(), True

    return quotient


def _after_step(
    evaluate: _Evaluate,
    tuned: Mapping[str, Tensor],
    moving: Mapping[str, Tensor],
    step: FirstStep,
    direction: Callable[[Tensor], Tensor],
) -> _Objective:
    """GradInit: the loss after the step, or the gradient's norm where that is too large."""

    def after_step(logs: Tensor) -> tuple[Tensor, bool]:
        """One of the two, and whether it is the loss."""
        weights = {**moving, **_scaled(tuned, logs)}
        gradients = _gradients(evaluate(weights), weights)
        norm = torch.cat([each.flatten() for each in gradients.values()]).norm(step.norm)
        if norm > step.gamma:
            return norm, False
        return evaluate({p: w - step.learning_rate * direction(gradients[p]) for p, w in weights.items()}), True

    return after_step


def _measure(objective: _Objective) -> Measure:
    """Value, constraint and slopes of an objective.

    Raises:
        ModelError: If the model cannot be derived often enough.
    """

    def measure(logs: NDArray[np.float64]) -> Measured:
        """The three at these factors."""
        leaf = torch.tensor(logs, requires_grad=True)
        try:
            value, holds = objective(leaf)
            slopes = _gradients(value, {"": leaf})[""].detach()
        except RuntimeError as error:  # for example: derivative for aten::hardsigmoid_backward is not implemented
            given = str(error).splitlines()[0]
            raise ModelError("PyTorch cannot derive the loss often enough", given=given) from error
        return Measured(value.item(), holds, slopes.numpy())

    return measure


def _apply(tuned: Mapping[str, Tensor], factors: dict[str, float]) -> dict[str, float]:
    """Multiply the weights by their factors; all of them, or none if it is interrupted."""
    before = {path: tensor.detach().clone() for path, tensor in tuned.items()}
    with torch.no_grad():
        try:
            for path, tensor in tuned.items():
                tensor.mul_(factors[path])
        except BaseException:
            for path, tensor in tuned.items():
                tensor.copy_(before[path])
            raise
    return factors
