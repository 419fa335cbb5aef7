"""Losses as users give them: a name in `torch.nn.functional`, a module, or any function of outputs and targets."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.initializers import parse_call
from fanin.torch.running import arguments, preserved, tensors_of

__all__ = ["USUAL", "Loss", "loss_function", "loss_of", "own_loss", "targets_of"]


@dataclass(frozen=True)
class Loss:
    """A loss that a user chose.

    Attributes:
        name: What to call it.
        function: From outputs and targets to one number.
        modules: What it is made of that has a state.
    """

    name: str
    function: Callable[[Any, Any], Any]
    modules: tuple[nn.Module, ...] = ()

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss, of one element.

        Raises:
            ModelError: If it cannot be computed, or is not one floating number.
        """
        try:
            value = self.function(outputs, targets)
        except ModelError:
            raise
        except Exception as error:  # a user's loss may raise anything
            text = str(error).strip().splitlines()
            raise ModelError(
                f"The loss {self.name} could not be computed: {type(error).__name__}: {text[0] if text else ''}",
                given=f"outputs {_shown(outputs)} and targets {_shown(targets)}",
                hint="It is called as loss(outputs, targets), with what the model returns and with what was given.",
            ) from error
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() != 1:
            raise ModelError(
                f"The loss {self.name} is not one number",
                given=_shown(value),
                allowed="a floating tensor of one element",
                hint="A loss for each example wants a mean: reduction='mean'.",
            )
        return value.reshape(())


def loss_of(loss: Any) -> Loss:
    """What a user means by a loss.

    Args:
        loss: A name in `torch.nn.functional`, with parameters where it takes some (``cross_entropy(label_smoothing=
            0.1)``); a module; or a function. It is called as loss(outputs, targets).

    Raises:
        UnknownNameError, InvalidValueError: If there is no such loss, or it cannot be called.

    Example:
        >>> loss_of("mse_loss").name, loss_of(nn.CrossEntropyLoss()).name
        ('mse_loss', 'CrossEntropyLoss')
    """
    if isinstance(loss, str):
        return _named(loss)
    if isinstance(loss, type):
        raise InvalidValueError("The loss is a class", given=loss.__name__, hint=f"Make one: {loss.__name__}().")
    if isinstance(loss, nn.Module):
        return Loss(type(loss).__name__, loss, (loss,))
    if not callable(loss):
        raise InvalidValueError(
            "This is no loss",
            given="None" if loss is None else loss,
            allowed="a name in torch.nn.functional, a module or a function of outputs and targets",
        )
    inner = loss.func if isinstance(loss, partial) else loss
    return Loss(getattr(inner, "__name__", type(inner).__name__), loss)


def own_loss(outputs: Any, targets: Any = None) -> Any:
    """The loss that a model returns with its outputs, as those of ``transformers`` do if labels are among their inputs.

    Returns:
        None where it returns none.

    Example:
        >>> own_loss({"loss": torch.tensor(2.0), "logits": torch.zeros(3)}), own_loss(torch.zeros(3))
        (tensor(2.), None)
    """
    found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    single = isinstance(found, Tensor) and found.is_floating_point() and found.numel() == 1
    return found if single else None


def _known() -> dict[str, Callable[..., Any]]:
    """The losses of `torch.nn.functional` that need outputs and targets alone."""
    found: dict[str, Callable[..., Any]] = {}
    for name, function in vars(functional).items():
        if inspect.isfunction(function) and not name.startswith("_"):
            names = list(inspect.signature(function).parameters.values())
            if [each.name for each in names if each.default is each.empty] == ["input", "target"]:
                found[name] = function
    return found


def _named(text: str) -> Loss:
    call, known = parse_call(text, "loss"), _known()
    if call.name not in known:
        raise unknown_name("loss of PyTorch", call.name, known)
    function = known[call.name]
    allowed = [each for each in inspect.signature(function).parameters if each not in ("input", "target")]
    for key in call.params:
        if key not in allowed:
            raise unknown_name(f"parameter of {call.name}", key, allowed)

    def of_one(outputs: Any, targets: Any) -> Any:
        """The loss of the only tensor that the model returns."""
        given = tensors_of(outputs)
        if len(given) != 1:
            raise ModelError(
                f"The loss {call.name} is of one tensor, and the model returns {len(given)}",
                given=_shown(outputs),
                hint="Give a function of what the model returns and the targets.",
            )
        return function(given[0], targets, **call.params)

    return Loss(text, of_one)


def _shown(thing: Any) -> str:
    """A value in the words of an error."""
    if isinstance(thing, Tensor):
        return f"of shape {tuple(thing.shape)} and type {str(thing.dtype).removeprefix('torch.')}"
    return f"of type {type(thing).__name__}"


def targets_of(model: nn.Module, targets: Any) -> Any:
    """Targets where the model is; NumPy's whole numbers as int64, which PyTorch's losses want."""
    return arguments(model, (pytree.tree_map(_whole, targets),))[0][0]


def _whole(thing: Any) -> Any:
    integers = isinstance(thing, np.ndarray | np.generic) and np.issubdtype(thing.dtype, np.integer)
    return thing.astype(np.int64) if integers else thing


def loss_function(loss: Any) -> Callable[[NDArray[Any] | tuple[NDArray[Any], ...], Any], float]:
    """A loss as a function of NumPy arrays: outputs first, then targets.

    Args:
        loss: As in `loss_of`.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such loss.

    Example:
        >>> loss_function("mse_loss")(np.zeros((3, 2)), np.full((3, 2), 2.0))
        4.0
    """
    found = loss_of(loss)
    held = [each for module in found.modules for each in (*module.parameters(), *module.buffers())]

    def tensor(array: Any) -> Any:
        """An array where the loss has its own tensors; floating numbers as float32."""
        if not isinstance(array, np.ndarray | np.generic):
            return array
        made = torch.from_numpy(np.array(_whole(array), order="C"))
        made = made.float() if made.is_floating_point() else made
        return made.to(held[0].device) if held else made

    def compute(outputs: NDArray[Any] | tuple[NDArray[Any], ...], targets: Any) -> float:
        """The loss of these outputs."""
        with preserved(*found.modules), torch.no_grad():
            return float(found(pytree.tree_map(tensor, outputs), pytree.tree_map(tensor, targets)))

    return compute


def _of_words(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy where classes are on the last axis."""
    return nn.functional.cross_entropy(outputs.movedim(-1, 1), targets)


USUAL: Mapping[str, tuple[str, Any]] = {
    "classes": ("cross_entropy", "cross_entropy"), "words": ("cross_entropy", _of_words),
    "shares": ("cross_entropy", "cross_entropy"), "chance": ("binary_cross_entropy", "binary_cross_entropy"),
    "logit": ("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits"),
    "numbers": ("mse_loss", "mse_loss"),
}  # fmt: skip
"""By kind of outputs: the loss that is taken where none was given, with its name; PyTorch has none of shares."""
