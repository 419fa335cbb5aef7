"""Which framework a model is of, and its adapter; nothing is imported before a model of it is met."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from fanin.errors import ModelError

__all__ = ["FRAMEWORKS", "Framework", "adapter_of", "framework_of"]


@dataclass(frozen=True)
class Framework:
    """A framework whose models fanin reads.

    Attributes:
        name: As in `fanin.records.ModelInfo`.
        package: The package that defines the class of all its models.
        root: That class's name.
        folder: The part of fanin that imports it.
        modal: Whether its models know whether they are trained; others are told at each call.
    """

    name: str
    package: str
    root: str
    folder: str
    modal: bool = True


FRAMEWORKS = (
    # Before torch: on that backend a Keras layer is a module as well.
    Framework("keras", "keras", "Layer", "fanin.keras", False),
    Framework("torch", "torch", "Module", "fanin.torch"),
    Framework("flax", "flax", "Module", "fanin.jax"),
)
"""In the order in which a model is tried."""


def framework_of(model: Any) -> Framework:
    """The framework of a model.

    Raises:
        ModelError: If it is a model of none.

    Example:
        >>> from torch import nn
        >>> framework_of(nn.Linear(3, 2)).name
        'torch'
    """
    classes = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    found = next((each for each in FRAMEWORKS if (each.package, each.root) in classes), None)
    if found is None:
        raise ModelError(
            "This is no model of a framework that fanin knows",
            given=type(model).__name__,
            allowed="a torch.nn.Module, a Keras model, a flax nnx module or a bound linen module",
        )
    return found


def adapter_of(model: Any) -> ModuleType:
    """The adapter that reads and writes a model: `describe`, `fill`, `values`, `probe`, `calibrate`."""
    return importlib.import_module(f"{framework_of(model).folder}.adapter")
