"""What a PyTorch model does when it is called, written down: every function of torch, with what it took and gave."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Call", "Recorder", "Value", "argument", "canonical_name", "is_real", "memory_of", "values_in"]

_OPERATORS = {
    **{f"__{side}{name}__": name for name in ("add", "mul", "and", "or", "xor") for side in ("", "r", "i")},
    **{f"__{side}{name}__": name for name in ("sub", "pow", "matmul", "mod", "floordiv") for side in ("", "i")},
    **{f"__{name}__": name for name in ("neg", "abs", "gt", "lt", "ge", "le", "eq", "ne", "invert")},
    **{f"__r{name}__": f"r{name}" for name in ("sub", "pow", "matmul", "mod", "floordiv")},
    **dict.fromkeys(("__truediv__", "__itruediv__", "__div__", "__idiv__"), "div"),
    **dict.fromkeys(("__rtruediv__", "__rdiv__"), "rdiv"),
    "__getitem__": "getitem", "__setitem__": "setitem",
}  # fmt: skip
_SAME = {
    "multiply": "mul", "true_divide": "div", "divide": "div", "subtract": "sub", "negative": "neg", "absolute": "abs",
    "concat": "cat", "concatenate": "cat", "clip": "clamp", "mm": "matmul", "mv": "matmul", "bmm": "matmul",
    "dot": "matmul", "_threshold": "threshold", "_sparse_mm": "matmul", "spmm": "matmul",
    "swapaxes": "transpose", "swapdims": "transpose",
}  # fmt: skip
"""Functions that have two names."""
_IN_PLACE_OPERATORS = {name for name in _OPERATORS if name.startswith("__i") and name != "__invert__"}
_MADE_NEW = {"zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like",
             "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "bernoulli"}  # fmt: skip
"""Functions that take of a tensor its shape and type alone, or chance."""


@dataclass(eq=False)
class Value:
    """A tensor that was seen: handed in, held by the model, or what a call gave.

    Attributes:
        index: Its place in time, that of its first use where no call made it; -1 before that.
        kind: ``input``, ``param``, ``constant`` or ``step``.
        path: Of a parameter or a buffer; ``index`` of an input of whole numbers that choose.
        place: The innermost module that ran when it was first seen.
        call: What made it, and as which of its results.
        signal: Whether it was made of what the user handed in.
        learned: Whether it was made of parameters.
        passive: Whether it can carry no signal: made of neither, or of whole numbers and truth values alone.
        number: What it is, where it is a constant with one element.
        twin: Another value that this one is a multiple of, where no tensor of its own was ever seen.
        multiple: That multiple.
    """

    index: float
    kind: str
    shape: tuple[int, ...]
    floating: bool
    path: str = ""
    place: str = ""
    call: Call | None = None
    part: int = 0
    signal: bool = False
    learned: bool = False
    passive: bool = True
    number: float | None = None
    twin: Value | None = None
    multiple: float = 1.0

    @property
    def size(self) -> int:
        """The number of its elements."""
        return int(torch.Size(self.shape).numel())


@dataclass(eq=False)
class Call:
    """One call of a function of torch; in its arguments, tensors are replaced by their values."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    in_place: bool = False
    results: list[Value] = field(default_factory=list)


def canonical_name(function: Any) -> str:
    """One name for a function, its method, its operator and its in-place forms.

    Example:
        >>> canonical_name(Tensor.__iadd__), canonical_name(torch.relu_), canonical_name(Tensor.T.__get__)
        ('add', 'relu', 'T')
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in ("__get__", "__set__"):
        name = function.__self__.__name__
    name = _OPERATORS.get(name, name).split(".")[0]  # an overload of torch.ops has its own after a point
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return _SAME.get(name, name)


def values_in(thing: Any) -> Iterator[Value]:
    """The values in an argument, however it is nested."""
    if isinstance(thing, Value):
        yield thing
    elif isinstance(thing, tuple | list | dict):
        for each in thing.values() if isinstance(thing, dict) else thing:
            yield from values_in(each)


def argument(call: Call, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, however it was given."""
    return call.args[position] if position < len(call.args) else call.kwargs.get(name, default)


def memory_of(tensor: Tensor) -> int:
    """What memory a tensor lies in; sparse ones, and those within `torch.vmap`, are memory of their own."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except NotImplementedError:
        return id(tensor)


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor has values and not a shape alone."""
    return not tensor.is_meta


def _map(thing: Any, convert: Callable[[Tensor], Any]) -> Any:
    """The same nested arguments with every tensor converted."""
    if isinstance(thing, Tensor):
        return convert(thing)
    if isinstance(thing, list):
        return [_map(each, convert) for each in thing]
    if isinstance(thing, tuple) and not isinstance(thing, torch.Size):
        return tuple(_map(each, convert) for each in thing)
    if isinstance(thing, dict):
        return {key: _map(each, convert) for key, each in thing.items()}
    return thing


def _tensors(thing: Any) -> list[Tensor]:
    if isinstance(thing, Tensor):
        return [thing]
    return [each for part in thing for each in _tensors(part)] if isinstance(thing, tuple | list) else []


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a function that writes writes to: `out`, or else its first argument, however that was given."""
    out = kwargs.get("out")
    return out if out is not None else next(iter((*args, *kwargs.values())), None)


def _writes(function: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a function changes its first argument (or `out`) and gives it back."""
    name = str(getattr(function, "__name__", "")).split(".")[0]
    own = name.endswith("_") and not name.endswith("__")
    return own or name in _IN_PLACE_OPERATORS or bool(kwargs.get("inplace")) or kwargs.get("out") is not None


class Recorder(TorchFunctionMode):  # type: ignore[misc]
    """While entered, every function of torch on this thread is written down.

    Tensors are known by identity and held weakly, so that a recorded run needs no more memory than a plain one.

    Args:
        model: The model that will run; names the places.
        replaced: Functions to take apart, by name: each gets the recorder, the function and its arguments.
    """

    def __init__(self, model: nn.Module, replaced: Mapping[str, Callable[..., Any]]):
        super().__init__()
        self.values: list[Value] = []
        self.notes: dict[str, None] = {}
        self.made: dict[str, None] = {}
        self._known = WeakTensorKeyDictionary()
        self._writers: dict[int, Value] = {}
        self._replaced = replaced
        self._inside: set[str] = set()
        self._places = [""]
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._thread = threading.get_ident()
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._clock = itertools.count()

    # ------------------------------------------------------------------------------------- what others may do
    def seen(self, value: Value, tensor: Tensor) -> None:
        """Called with each new value and its tensor."""

    def overwriting(self) -> None:
        """Called before each call that writes to memory that is there already."""

    def finished(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        """Called after each call with what it really took and gave; what returns takes the result's place."""
        return result

    # ----------------------------------------------------------------------------------------------- tensors
    def leaf(self, tensor: Tensor, kind: str, path: str = "", number: float | None = None) -> Value:
        """Make a tensor known that no recorded call gave."""
        floating = tensor.is_floating_point() or tensor.is_complex()
        if (
            number is None
            and kind == "constant"
            and tensor.numel() == 1
            and is_real(tensor)
            and not tensor.is_complex()
        ):
            number = float(tensor)
        value = self._value(Value(
            -1, kind, tuple(tensor.shape), floating, path, self._places[-1],
            signal=kind == "input", learned=kind == "param", number=number,
            passive=kind == "constant" or (kind == "input" and not floating),
        ))  # fmt: skip
        self._bind(tensor, value)
        return value

    def value_of(self, tensor: Tensor) -> Value:
        """The value that a tensor has now."""
        entry = self._known.get(tensor)
        if entry is None:
            if tensor.grad_fn is not None:
                where = self._places[-1] or "the model"
                self.notes[f"At {where} a tensor comes from no step that was seen: it is taken for a constant."] = None
            if isinstance(tensor, nn.Parameter):
                self.made[self._places[-1] or "the model itself"] = None
            self.leaf(tensor, "constant")
            entry = self._known[tensor]
        value, version = entry
        if value.index < 0:
            value.index, value.place = next(self._clock), self._places[-1]
        writer = self._writers.get(memory_of(tensor)) if version != _version(tensor) else None
        if writer is None or writer is value:
            return value  # type: ignore[no-any-return]
        call = Call("written", torch.clone, (value, writer), {})  # another view of its memory was written to
        return self.record(call, [tensor])[0]

    def record(self, call: Call, results: list[Tensor]) -> list[Value]:
        """Write down a call that gave these tensors."""
        taken = [*values_in(call.args), *values_in(call.kwargs)]
        if call.name in _MADE_NEW:
            taken = []
        for part, tensor in enumerate(results):
            floating = tensor.is_floating_point() or tensor.is_complex()
            value = self._value(Value(
                next(self._clock), "step", tuple(tensor.shape), floating, place=self._places[-1], call=call, part=part,
                signal=any(each.signal for each in taken), learned=any(each.learned for each in taken),
                passive=not floating or all(each.passive for each in taken),
            ))  # fmt: skip
            call.results.append(value)
            self._bind(tensor, value)
        return call.results

    def _value(self, value: Value) -> Value:
        self.values.append(value)
        return value

    def _bind(self, tensor: Tensor, value: Value) -> None:
        self._known[tensor] = (value, _version(tensor))
        self.seen(value, tensor)

    def _keep(self, tensor: Any) -> None:
        """Remember the values of a parameter that the model is about to overwrite."""
        self.overwriting()
        entry = self._known.get(tensor) if isinstance(tensor, Tensor) and is_real(tensor) else None
        if entry is not None and entry[0].kind == "param":
            self._kept.append((tensor, tensor.detach().clone()))

    def give_back(self) -> None:
        """Undo what the model wrote to its parameters."""
        with torch.no_grad():
            for tensor, old in reversed(self._kept):
                tensor.copy_(old)

    # ------------------------------------------------------------------------------------------------- calls
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function and write it down."""
        kwargs = kwargs or {}
        if threading.get_ident() != self._thread:
            return function(*args, **kwargs)
        name = canonical_name(function)
        if name in self._replaced and name not in self._inside:
            self._inside.add(name)
            try:
                result = self._replaced[name](self, function, *args, **kwargs)
            finally:
                self._inside.discard(name)
            if result is not NotImplemented:
                return result
        writes = name == "setitem" or _writes(function, kwargs)
        if writes:
            self._keep(_first(args, kwargs))
        elif name == "embedding" and kwargs.get("max_norm") is not None:
            self._keep(args[1])
        call = Call(name, function, _map(tuple(args), self.value_of), _map(dict(kwargs), self.value_of), writes)
        result = function(*args, **kwargs)
        given = _tensors(result)
        if not given and name != "setitem":
            return result
        target = _first(args, kwargs) if writes else None
        if isinstance(target, Tensor) and (name == "setitem" or any(each is target for each in given)):
            value = self.record(call, [target])[0]
            self._writers[memory_of(target)] = value
        else:
            if isinstance(result, Tensor) and any(result is each for each in _tensors([*args, *kwargs.values()])):
                result = result.view_as(result)  # its own identity, lest what it was made of be taken for it
                given = [result]
            self.record(call, given)
        return self.finished(call, args, kwargs, result)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """While open, the recorder knows which module runs."""

        def enter(module: nn.Module, _: Any) -> None:
            if threading.get_ident() == self._thread:
                self._places.append(self._paths.get(id(module), self._places[-1]))

        def leave(*_: Any) -> None:
            if threading.get_ident() == self._thread and len(self._places) > 1:
                self._places.pop()

        hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else int(tensor._version)
