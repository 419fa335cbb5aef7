"""Running a user's model for our own ends, and leaving it as it was."""

import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fanin.errors import ModelError

__all__ = ["arguments", "build", "calling", "hidden", "need_values", "preserved", "swap", "tensors_of", "uncompiled"]


def arguments(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An example as positional and keyword arguments, copied to where the model is.

    Args:
        model: Whose first parameter says the device, and the type that NumPy's floating numbers get.
        example: An array, a tuple of positional arguments, or a mapping of keyword arguments.
    """
    own = next((each for each in model.parameters()), None)

    def ready(thing: Any) -> Any:
        """A tensor of our own, which the model may overwrite."""
        if isinstance(thing, np.ndarray | np.generic):
            tensor = torch.from_numpy(np.array(thing, order="C"))
            floating = tensor.is_floating_point() and own is not None and own.is_floating_point()
            thing = tensor.to(own.dtype) if floating and own is not None else tensor
        if not isinstance(thing, Tensor):
            return thing
        stays = own is None or thing.is_meta  # what has no values cannot be given any
        made = thing.detach().to(thing.device if stays else own.device).clone()  # type: ignore[union-attr]
        return made.requires_grad_(thing.requires_grad)  # a loss may take the gradient by it

    if isinstance(example, Mapping):
        return (), {str(key): pytree.tree_map(ready, value) for key, value in example.items()}
    return tuple(pytree.tree_map(ready, each) for each in (example if isinstance(example, tuple) else (example,))), {}


def _containers(module: nn.Module) -> list[tuple[Any, Any]]:
    """The lists, dictionaries and sets that a module holds, each with what it holds."""
    return [
        (each, list(each.items() if isinstance(each, dict) else each))
        for each in vars(module).values()
        if isinstance(each, list | dict | set)
    ]


@contextmanager
def preserved(*models: nn.Module) -> Iterator[None]:
    """Whatever happens inside: attributes, buffers, the modes and random states are the same afterwards.

    The values of parameters and their gradients are not looked after.
    """
    beside = [thing for model in models for _, thing in hidden(model)]
    modules = list(dict.fromkeys(
        module for each in (*models, *beside) if isinstance(each, nn.Module) for module in each.modules()
    ))  # fmt: skip
    held = [(module, dict(vars(module)), _containers(module)) for module in modules]
    lying = [each for each in beside if isinstance(each, Tensor) and each.layout == torch.strided]
    tensors = {id(each): each for each in (*lying, *(each for module in modules for each in _held_tensors(module)))}
    copies = [(each, each.detach().clone()) for each in tensors.values() if not each.is_meta]
    states = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.backends.mha.set_fastpath_enabled(False)  # it computes a whole layer in one unseen call
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, attributes, containers in held:
            _restore(module, attributes, containers)
        with torch.no_grad():
            for tensor, old in copies:
                if not torch.equal(tensor, old):  # memory that elements share cannot be written to
                    tensor.copy_(old)


_OWN = frozenset(vars(nn.Module()))
"""What every module has."""


def hidden(model: nn.Module) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Tensors and modules in plain attributes, lists, tuples and dictionaries of modules, where PyTorch looks for none.

    Each comes once, with its place; modules held in this way are searched as well. What is a module, a parameter or a
    buffer of the model, too, is left out.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> model.others = [nn.Linear(2, 2)]
        >>> [place for place, _ in hidden(model)]
        ['others[0]']
    """
    waiting = list(model.named_modules())
    seen = {id(each) for _, each in (*waiting, *model.named_parameters(), *model.named_buffers())}
    while waiting:
        path, module = waiting.pop(0)
        for name, value in vars(module).items():
            for place, thing in _within(value, f"{path}.{name}" if path else name, set()) if name not in _OWN else ():
                if id(thing) in seen:
                    continue
                seen.add(id(thing))
                yield place, thing
                if isinstance(thing, nn.Module):
                    parts = list(thing.named_modules(prefix=place))
                    waiting += parts
                    seen |= {id(each) for _, each in (*parts, *thing.named_parameters(), *thing.named_buffers())}


def _within(thing: Any, place: str, above: set[int]) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """The tensors and modules in a thing, with their places; `above` are the containers that it lies in."""
    if isinstance(thing, Tensor | nn.Module):
        yield place, thing
    if not isinstance(thing, list | tuple | dict) or id(thing) in above:
        return
    for key, each in thing.items() if isinstance(thing, dict) else enumerate(thing):
        yield from _within(each, f"{place}[{key!r}]", above | {id(thing)})


def _held_tensors(module: nn.Module) -> list[Tensor]:
    """Buffers and tensors that are plain attributes; sparse ones are never overwritten."""
    every = (*module._buffers.values(), *vars(module).values())
    return [each for each in every if isinstance(each, Tensor) and each.layout == torch.strided]


def _restore(module: nn.Module, attributes: dict[str, Any], containers: list[tuple[Any, Any]]) -> None:
    own = vars(module)
    own.clear()
    own.update(attributes)
    for container, old in containers:
        if isinstance(container, list):
            container[:] = old
        else:
            container.clear()
            container.update(old)


def swap(model: nn.Module, convert: Callable[[Tensor], Tensor], convert_held: Callable[[Tensor], Tensor]) -> None:
    """Put other tensors in the place of parameters, and of buffers and plain attributes; for use in `preserved`.

    A tied parameter stays tied: each is converted once.
    """
    made: dict[int, Tensor] = {}

    def once(tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        if id(tensor) not in made:
            made[id(tensor)] = function(tensor)
        return made[id(tensor)]

    for module in list(model.modules()):
        for name, tensor in module._parameters.items():
            if tensor is not None:
                module._parameters[name] = once(tensor, convert)
        for names in (module._buffers, vars(module)):
            for name, tensor in list(names.items()):
                if isinstance(tensor, Tensor):
                    names[name] = once(tensor, convert_held)
        if isinstance(module, nn.RNNBase):  # it keeps a list of its weights beside them
            vars(module)["_flat_weights"] = [getattr(module, name, None) for name in module._flat_weights_names]


def build(model: nn.Module, example: Any) -> None:
    """Give lazy modules the parameters that they make at their first call; nothing else changes.

    Raises:
        ModelError: If the model cannot be run on the example, or holds modules that `torch.jit` has compiled: their
            parameters cannot be exchanged for a run, so that they would be changed.

    Example:
        >>> model = nn.Sequential(nn.LazyLinear(2))
        >>> build(model, np.zeros((5, 3), np.float32))
        >>> model[0].weight.shape
        torch.Size([2, 3])
    """
    scripted = next((path for path, each in model.named_modules() if isinstance(each, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise ModelError(
            "The model was compiled by torch.jit, and cannot be looked into", given=scripted or type(model).__name__,
            hint="Hand in the module that it was made from.",
        )  # fmt: skip
    if not any(isinstance(each, nn.parameter.UninitializedParameter) for each in model.parameters()):
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # averages stay as they are, and nothing is dropped
    try:
        with torch.no_grad(), calling():
            args, kwargs = arguments(model, example)
            model(*args, **kwargs)
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def calling() -> Iterator[None]:
    """Turn whatever a user's model raises into our own error."""
    try:
        yield
    except Exception as error:  # a user's model may raise anything
        text = str(error).strip().splitlines()
        raise ModelError(
            "The model could not be run on the example",
            given=f"{type(error).__name__}: {text[0] if text else ''}",
            hint="The example is what the model is called with, batch in front: an array, a tuple of positional "
            "arguments or a mapping of keyword arguments, of the right shapes and types.",
        ) from error


def uncompiled() -> AbstractContextManager[Any]:
    """While open, code is run as it stands, not compiled."""
    # The compiler is heavy, and it is there where a model was compiled.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def need_values(model: nn.Module) -> None:
    """Refuse a model that has shapes alone."""
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                "The model has no values to measure", given=f"{path}, on the meta device", hint="Initialise it first."
            )


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors that a model returns, in order, however they are nested."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [each for value in output.values() for each in tensors_of(value)]
    if isinstance(output, tuple | list):
        return [each for value in output for each in tensors_of(value)]
    if is_dataclass(output) and not isinstance(output, type):
        return [each for one in fields(output) for each in tensors_of(getattr(output, one.name))]
    if isinstance(output, torch.distributions.Distribution):
        return [each for each in vars(output).values() if isinstance(each, Tensor)]
    return []
