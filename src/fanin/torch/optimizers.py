"""PyTorch's optimizers by their names, for one run or for many at once."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fanin.errors import InvalidValueError, unknown_name
from fanin.initializers import parse_call
from fanin.records import Call
from fanin.training import refuse_rate

__all__ = ["Chosen", "Optimizers", "chosen_by", "is_elementwise", "optimizers"]

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


def _kind(call: Call) -> type[Optimizer]:
    known = _known()
    if call.name.lower() not in known:
        raise unknown_name("optimizer of PyTorch", call.name, known)
    return known[call.name.lower()]


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
    kind = _kind(call)
    refuse_rate(call)
    chosen = sorted(set(_OURS) & set(call.params))
    if chosen:
        raise InvalidValueError(
            "How the optimizer is computed is chosen by measurement", given=str(call), hint=f"Leave {chosen[0]} out."
        )
    quick = {"fused": True} if "fused" in inspect.signature(kind).parameters else {}

    def make(groups: list[dict[str, Any]]) -> Optimizer:
        return kind(groups, **call.params, **quick)

    try:
        make([{"params": parameters, "lr": 0.01}])
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InvalidValueError(f"The optimizer cannot be made: {error}", given=str(call)) from None
    return make


# ------------------------------------------------------------------------------------- one as a user has chosen it
_DEFAULT = Call("adam", lr=1e-3)


@dataclass(frozen=True)
class Chosen:
    """An optimizer as a user chose it, apart from what it has done so far.

    Attributes:
        kind: Its class.
        settings: What the class is called with.
        groups: The settings of each group and the identities of its parameters; None stands for all.
        scheduled: Whether a scheduler changes the learning rate; the groups have that from which it starts.
    """

    kind: type[Optimizer]
    settings: Mapping[str, Any]
    groups: tuple[tuple[Mapping[str, Any], frozenset[int] | None], ...]
    scheduled: bool = False

    @property
    def name(self) -> str:
        """As in the table of optimizers."""
        return self.kind.__name__.lower()

    @property
    def learning_rate(self) -> float | None:
        """The largest of the groups; None for a class that finds its own."""
        return max((group["lr"] for group, _ in self.groups if group["lr"] is not None), default=None)

    @property
    def momentum(self) -> float:
        """The largest of the groups."""
        return max(float(group.get("momentum", 0)) for group, _ in self.groups)

    def holds(self, tensor: Tensor) -> bool:
        """Whether it trains a parameter of the model."""
        return any(held is None or id(tensor) in held for _, held in self.groups)

    def make(self, copies: Mapping[int, Tensor], learning_rate: float | None = None) -> Optimizer | None:
        """A fresh one of the same class and settings; None where it has nothing to train.

        Args:
            copies: What to train, by the identity of what each is a copy of.
            learning_rate: In place of its own; several groups keep their ratios.

        Raises:
            InvalidValueError: If the class cannot be called with its settings, or does not take these parameters.
        """
        groups = []
        for group, held in self.groups:
            params = [copy for own, copy in copies.items() if held is None or own in held]
            ratio = group["lr"] / self.learning_rate if group["lr"] is not None and self.learning_rate else 1.0
            rate = group["lr"] if learning_rate is None else learning_rate * ratio
            groups += [{**group, "lr": rate, "params": params}] if params else []
        return _made(self.kind, groups, self.settings) if groups else None


def _made(kind: type[Optimizer], groups: list[Any], settings: Mapping[str, Any]) -> Optimizer:
    try:
        return kind(groups, **settings)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        given = f"{kind.__name__} with {dict(settings)}"
        raise InvalidValueError(f"The optimizer cannot be made: {error}", given=given) from None


def chosen_by(optimizer: Optimizer | str | None) -> Chosen:
    """What a user means by an optimizer.

    Args:
        optimizer: One of PyTorch's classes or anybody's, which is not touched; or a text, such as ``adam(lr=0.1)``
            or ``sgd(learning_rate=0.1, momentum=0.9)``; None is Adam with a learning rate of 0.001.

    Raises:
        UnknownNameError, InvalidValueError: If there is none, or it does not take these parameters.

    Example:
        >>> chosen_by("sgd(learning_rate=0.1, momentum=0.9)").learning_rate
        0.1
    """
    if isinstance(optimizer, Optimizer):
        takes = inspect.signature(type(optimizer)).parameters
        settings = {key: value for key, value in optimizer.defaults.items() if key in takes}
        groups = tuple((_settings(group), frozenset(map(id, group["params"]))) for group in optimizer.param_groups)
        scheduled = any("initial_lr" in group for group in optimizer.param_groups)
        return Chosen(type(optimizer), settings, groups, scheduled)
    if not isinstance(optimizer, str | None):
        raise InvalidValueError(
            "This is no optimizer", given=optimizer, allowed="a torch.optim.Optimizer, or a text like adam(lr=0.001)"
        )
    call = _DEFAULT if optimizer is None else parse_call(optimizer, "optimizer")
    kind = _kind(call)
    settings = {"lr" if key == "learning_rate" else key: value for key, value in call.params.items()}
    if len(settings) < len(call.params):
        raise InvalidValueError("The learning rate is given twice", given=str(call))
    tried = _made(kind, [nn.Parameter(torch.zeros(1, 1))], settings)  # says what the class takes by default
    return Chosen(kind, settings, ((_settings(tried.param_groups[0]), None),))


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group is told beside its parameters, before a scheduler changed it."""
    kept = {key: value for key, value in group.items() if key not in ("params", "param_names", "initial_lr")}
    rate = group.get("initial_lr", group.get("lr"))
    return {**kept, "lr": None if rate is None else float(rate)}
