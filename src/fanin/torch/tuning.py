"""Initial weights tuned on one batch: MetaInit and GradInit.

Both learn one positive factor for each weight, by the same descent: the logarithms of the factors move along
the signs of their slopes, with momentum and a rate that falls to zero, and the best factors met are kept. The
tuned weights are therefore never worse, by the method's own measure and on this batch, than those before.

A model in train mode is tuned with its random layers at work, which draw the same numbers at each step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.torch.backend import seeded
from fanin.torch.layouts import parameters
from fanin.torch.running import arguments, calling, preserved

__all__ = ["gradinit", "metainit"]

_EPSILON = 1e-5
"""MetaInit's guard against gradients near zero; a gradient well below it counts as vanished."""
_MOMENTUM = 0.9
_DECREASE = 0.1
"""By how much GradInit lets one optimizer step lower the loss, to first order, if no `gamma` is given."""
_SEED = 0
"""Of random targets and of what random layers draw."""

Loss = Callable[[Any, Any], Tensor]
Progress = Callable[[int, int], None]
_Objective = Callable[[Tensor], tuple[Tensor, bool]]
"""From the logarithms of the factors to what is to be small, and whether the method's constraint holds."""


@dataclass(frozen=True)
class _Rule:
    """The first step of an optimizer.

    Attributes:
        direction: From a gradient to the step at learning rate 1.
        norm: The order of the gradient's norm; to this power and times the learning rate, it is what the step
            takes off the loss, to first order.
    """

    direction: Callable[[Tensor], Tensor]
    norm: int
    learning_rate: float


_RULES = {
    "adam": _Rule(torch.sign, norm=1, learning_rate=1e-3),
    "sgd": _Rule(torch.clone, norm=2, learning_rate=0.1),
}


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
    _check_settings(steps=steps, rate=rate)
    tuned = _tuned(model, paths)
    frozen = {path: tensor.detach() for path, _, _, tensor in parameters(model)}

    with _differentiable(model):
        evaluate = _evaluator(model, example, targets, loss, may_draw=True)

        def quotient(logs: Tensor) -> tuple[Tensor, bool]:
            """The gradient quotient; it knows no constraint."""
            weights = _scaled(tuned, logs)
            gradients = _gradients(evaluate({**frozen, **weights}), weights)
            energy = sum((each.square().sum() for each in gradients.values()), start=torch.zeros(())) / 2
            products = _gradients(energy, weights)  # of the Hessian with the gradient
            terms = [_deviations(gradients[path], products[path]) for path in tuned]
            return torch.cat(terms).mean(), True

        logs = _descended(quotient, len(tuned), steps, rate, progress)
    return _apply(tuned, logs)


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
    if optimizer not in _RULES:
        raise unknown_name("optimizer whose first step is known", optimizer, _RULES)
    rule = _RULES[optimizer]
    learning_rate = rule.learning_rate if learning_rate is None else learning_rate
    _check_settings(steps=steps, rate=rate, learning_rate=learning_rate)
    gamma = (_DECREASE / learning_rate) ** (1 / rule.norm) if gamma is None else gamma
    _check_settings(gamma=gamma)
    tuned = _tuned(model, paths)
    moving = {
        path: tensor.detach().requires_grad_() for path, _, _, tensor in parameters(model) if tensor.requires_grad
    }

    with _differentiable(model):
        evaluate = _evaluator(model, example, targets, loss, may_draw=False)

        def after_step(logs: Tensor) -> tuple[Tensor, bool]:
            """The loss after the step, or the gradient's norm where that is too large."""
            weights = {**moving, **_scaled(tuned, logs)}
            gradients = _gradients(evaluate(weights), weights)
            norm = torch.cat([each.flatten() for each in gradients.values()]).norm(rule.norm)
            if norm > gamma:
                return norm, False
            return evaluate({p: w - learning_rate * rule.direction(gradients[p]) for p, w in weights.items()}), True

        logs = _descended(after_step, len(tuned), steps, rate, progress)
    return _apply(tuned, logs)


# ----------------------------------------------------------------------------------------------------- checks
def _check_settings(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < float("inf") or (name == "steps" and not isinstance(value, int)):
            allowed = "a whole number above zero" if name == "steps" else "a number above zero"
            raise InvalidValueError(f"The setting {name} is out of range", given=value, allowed=allowed)


def _tuned(model: nn.Module, paths: Sequence[str]) -> dict[str, Tensor]:
    """The parameters of these paths.

    Raises:
        UnknownNameError: If there is no such parameter.
        InvalidValueError: If no path is given.
        ModelError: If a parameter has no size that a factor could change, or takes no gradient.
    """
    known = {path: tensor for path, _, _, tensor in parameters(model)}
    for path in paths:
        if path not in known:
            raise unknown_name("parameter of the model", path, known)
    if not paths:
        raise InvalidValueError("No weight to tune is given", allowed=", ".join(known) or "a model with parameters")
    tuned = {path: known[path] for path in paths}
    without = ", ".join(path for path, tensor in tuned.items() if not tensor.requires_grad)
    if without:
        raise ModelError("A frozen parameter cannot be tuned", given=without, hint="Leave it out of paths.")
    zero = ", ".join(path for path, tensor in tuned.items() if not tensor.detach().any())
    if zero:
        raise ModelError("A parameter that is all zero has no size to tune", given=zero, hint="Leave it out of paths.")
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
            targets = _drawn_targets(outputs({}))
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
        shape = tuple(outputs.shape)
        wanted = shape if floating else (shape[:1] + shape[2:])
        if tuple(targets.shape) != wanted:
            raise ModelError(
                "The targets do not fit the outputs",
                given=tuple(targets.shape),
                allowed=f"{wanted} for outputs of shape {shape}",
                hint="Give a loss of your own.",
            )
        if floating:
            return nn.functional.mse_loss(outputs, targets)
        return nn.functional.cross_entropy(outputs, targets.long())

    return criterion


def _check_single(outputs: Any) -> None:
    if not isinstance(outputs, Tensor) or outputs.dim() < 2:
        raise ModelError(
            "No loss for these outputs is known",
            given=f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__,
            allowed="(batch, units, ...)",
            hint="Give targets and a loss of your own.",
        )


def _drawn_targets(outputs: Any) -> Any:
    """Random classes, or for a single output unit random numbers."""
    _check_single(outputs)
    rng = np.random.default_rng(_SEED)
    batch, classes, *places = outputs.shape
    if classes == 1:
        return rng.normal(size=tuple(outputs.shape))
    return rng.integers(classes, size=(batch, *places))


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
    guard = torch.where(gradient >= 0, _EPSILON, -_EPSILON)
    return ((gradient - product) / (gradient + guard) - 1).abs().flatten()


def _descended(objective: _Objective, count: int, steps: int, rate: float, progress: Progress | None) -> list[float]:
    """The logarithms of the best factors that the descent meets.

    Raises:
        ModelError: If a value or slope is not finite, or all slopes are zero at the start.
    """
    logs, velocity = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    best: tuple[bool, float, list[float]] | None = None
    for step in range(steps + 1):
        leaf = logs.clone().requires_grad_()
        value, holds, slopes = _measured(objective, leaf, step)
        if step == 0 and not slopes.any():
            hint = "Signal or gradient may have vanished: start from a recipe's weights."
            raise ModelError("The sizes of these weights change nothing", given="all derivatives are zero", hint=hint)
        if best is None or (not holds, value) < best[:2]:
            best = (not holds, value, logs.tolist())
        velocity = _MOMENTUM * velocity - (1 - _MOMENTUM) * rate * (1 - step / steps) * slopes.sign()
        logs = logs + velocity
        if progress is not None:
            progress(step, steps)
    assert best is not None, "there is at least one step"
    return best[2]


def _measured(objective: _Objective, leaf: Tensor, step: int) -> tuple[float, bool, Tensor]:
    """Value, constraint and slopes of an objective.

    Raises:
        ModelError: If they are not finite, or the model cannot be derived often enough.
    """
    try:
        value, holds = objective(leaf)
        slopes = _gradients(value, {"": leaf})[""].detach()
    except RuntimeError as error:  # for example: derivative for aten::hardsigmoid_backward is not implemented
        raise ModelError("PyTorch cannot derive the loss often enough", given=str(error).splitlines()[0]) from error
    if not (value.isfinite() and slopes.isfinite().all()):
        raise ModelError(
            "A derivative of the loss is not finite",
            given=f"{value.item()} at step {step}",
            hint="Start from a recipe's weights, or lower the rate.",
        )
    return value.item(), holds, slopes


def _apply(tuned: Mapping[str, Tensor], logs: Sequence[float]) -> dict[str, float]:
    """Multiply the weights by their factors; all of them, or none if it is interrupted."""
    factors = {path: float(np.exp(log)) for path, log in zip(tuned, logs, strict=True)}
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
