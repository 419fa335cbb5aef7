"""PyTorch's optimizers by their names, for one run or for many at once."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fanin.errors import InvalidValueError, unknown_name
from fanin.records import Call

__all__ = ["Optimizers", "is_elementwise", "optimizers"]

Optimizers = Callable[[list[dict[str, Any]]], Optimizer]
"""Makes an optimizer for groups of parameters, each with its own learning rate."""

_ELEMENTWISE = frozenset(
    ("adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam", "rmsprop", "rprop", "sgd")
)
"""Every number is updated by its own gradient alone, so that stacked runs are updated as they would be apart."""
_UNSUITED = ("LBFGS", "SparseAdam")
"""They want a function to call again, or sparse gradients."""
_OURS = ("foreach", "fused", "capturable", "differentiable")


def _known() -> dict[str, type[Optimizer]]:
    return {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, Optimizer) and value is not Optimizer and name not in _UNSUITED
    }


def is_elementwise(call: Call) -> bool:
    """Whether runs may be stacked for this optimizer."""
    return call.name.lower() in _ELEMENTWISE


def optimizers(call: Call, parameters: list[nn.Parameter]) -> Optimizers:
    """What makes the optimizer that a text like ``sgd(momentum=0.9)`` names.

    Args:
        call: Name and parameters, as `torch.optim` has them; the learning rate comes with each group.
        parameters: Of the model, to try it on.

    Raises:
        UnknownNameError, InvalidValueError: If there is none, or it does not take these parameters.

    Example:
        >>> weight = nn.Parameter(torch.zeros(3, 2))
        >>> make = optimizers(Call("sgd", momentum=0.9), [weight])
        >>> make([{"params": [weight], "lr": 0.1}]).param_groups[0]["momentum"]
        0.9
    """
    known = _known()
    if call.name.lower() not in known:
        raise unknown_name("optimizer of PyTorch", call.name, known)
    if {"lr", "learning_rate"} & set(call.params):
        raise InvalidValueError(
            "The learning rate is not a parameter of the optimizer here", given=str(call), hint="Use --lr."
        )
    chosen = sorted(set(_OURS) & set(call.params))
    if chosen:
        raise InvalidValueError(
            "How the optimizer is computed is chosen by measurement", given=str(call), hint=f"Leave {chosen[0]} out."
        )
    kind = known[call.name.lower()]
    quick = {"fused": True} if "fused" in inspect.signature(kind).parameters else {}

    def make(groups: list[dict[str, Any]]) -> Optimizer:
        return kind(groups, **call.params, **quick)

    try:
        make([{"params": parameters, "lr": 0.01}])
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InvalidValueError(f"The optimizer cannot be made: {error}", given=str(call)) from None
    return make
