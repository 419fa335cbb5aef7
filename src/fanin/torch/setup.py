"""How a PyTorch model is set up for training: what is trained, by what, and what the optimizer does not know of."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fanin.records import Setup
from fanin.torch.layouts import parameters
from fanin.torch.losses import loss_of
from fanin.torch.optimizers import chosen_by
from fanin.torch.running import hidden

__all__ = ["setup"]


def setup(model: nn.Module, optimizer: Optimizer | str | None = None, loss: Any = None) -> Setup:
    """How a model is set up for training; nothing is run or changed.

    Args:
        model: Any module.
        optimizer: What it is trained by, or its name with parameters: ``adam``, ``sgd(lr=0.1, momentum=0.9)``.
        loss: What is made small: a module, a function of outputs and targets, or a name in `torch.nn.functional`.

    Returns:
        Frozen are parameters that require no gradient; forgotten those that do and that the optimizer does not hold.
        Unregistered are tensors that require a gradient, alone or in modules, and are held in plain attributes,
        lists, tuples or dictionaries. The learning rate and the momentum are the largest of the optimizer's groups;
        the learning rate is None where a scheduler changes it.

    Raises:
        UnknownNameError, InvalidValueError: If there is no such optimizer or loss.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
        >>> _ = model[0].requires_grad_(False)
        >>> found = setup(model, "sgd(lr=0.1)", nn.MSELoss())
        >>> found.frozen, found.optimizer, found.learning_rate, found.loss
        (('0.weight', '0.bias'), 'sgd', 0.1, 'MSELoss')
    """
    chosen = chosen_by(optimizer)
    known = [(path, tensor) for path, _, _, tensor in parameters(model)]
    given = optimizer is not None
    return Setup(
        training=model.training,
        frozen=tuple(path for path, tensor in known if not tensor.requires_grad),
        forgotten=tuple(path for path, tensor in known if tensor.requires_grad and not chosen.holds(tensor)),
        unregistered=tuple(_unregistered(model)),
        optimizer=chosen.name if given else "",
        learning_rate=chosen.learning_rate if given and not chosen.scheduled else None,
        momentum=chosen.momentum if given else 0.0,
        loss="" if loss is None else loss_of(loss).name,
    )


def _unregistered(model: nn.Module) -> Iterator[str]:
    """Where leaf tensors that require a gradient are; what was computed from others is trained through them."""
    own = {id(tensor) for tensor in model.parameters()}
    places = [*model.named_buffers()]
    for place, thing in hidden(model):
        places += [(place, thing)] if isinstance(thing, Tensor) else [
            (f"{place}.{path}", tensor) for path, tensor in (*thing.named_parameters(), *thing.named_buffers())
        ]  # fmt: skip
    for place, tensor in places:
        if tensor.requires_grad and tensor.is_leaf and id(tensor) not in own:
            own.add(id(tensor))
            yield place
