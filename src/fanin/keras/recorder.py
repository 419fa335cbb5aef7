"""Run a Keras model on symbolic tensors and write down every step, on any backend, without touching the model.

Keras itself puts a node into its graph for each layer or operation that is called on symbolic tensors. Here
these nodes go into a list, layers that are made of others are opened, and variables count as symbolic, too,
so that what a model does with its own weights is seen.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras.layers import Layer
from keras.src.backend import compute_output_spec
from keras.src.backend.common import global_state, keras_tensor
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.backend.common.variables import Variable, get_autocast_scope
from keras.src.layers import layer as layer_module
from keras.src.ops import nn as nn_module
from keras.src.ops import operation as operation_module

from fanin.keras.backend import KERAS
from fanin.keras.pointwise import Expression, measured

__all__ = ["Known", "Record", "Recorder", "record", "replaced"]

Expansions = Mapping[type, Callable[..., Any]]
"""From a class of layers to a function of (recorder, layer, *args, **kwargs) that records its steps."""

_SIDED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
_OPERATORS = (
    *(f"__{side}{name}__" for name in _SIDED for side in ("", "r")),
    *(f"__{name}__" for name in ("neg", "abs", "getitem", "lt", "le", "gt", "ge")),
)


@dataclass(frozen=True, eq=False)
class Known:
    """What a layer says about one of its steps.

    Attributes:
        kind: One of `OPS`, or ``same`` for a step that changes nothing, ``pointwise`` for an `expression`.
        variables: The parameters of the step, in the order of `Op.params`.
        name, value: As in `Op`.
        reason: Why it could not be read, for a step of kind ``other``.
    """

    kind: str
    variables: tuple[Any, ...] = ()
    name: str = ""
    value: float = 1.0
    expression: Expression | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Record:
    """One step.

    Attributes:
        run: What to call on the real values of `args` and `kwargs`.
        args, kwargs: What it was called on: symbolic tensors, variables, arrays and plain values.
        outputs: The symbolic tensors that it gave, flat.
        operation: The layer or operation that ran.
        place: The path of the innermost layer around it.
        known: Kind, parameters, name and value, where the layer says them; None where the operation does.
        signals: Which of the arguments are the step's inputs, where `known` is given.
        precision: The type to which variables are cast where it ran; None for their own.
    """

    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Any, ...]
    operation: Any
    place: str
    known: Known | None = None
    signals: tuple[Any, ...] = ()
    precision: str | None = None


class Recorder:
    """Takes down what layers and operations do while `record` is open.

    Args:
        model: Whose steps; its own name is left out of places.
        expansions: Layers that are not simply opened.
        rewrites: From the name of an operation's class to a function that does the same in other operations,
            or returns None where it does not apply.
    """

    def __init__(self, model: keras.Model, expansions: Expansions, rewrites: Mapping[str, Callable[..., Any]]):
        self.name, self.expansions, self.rewrites = model.name, expansions, rewrites
        # A model may reach through a variable to its array; the arrays are kept, so that their ids stay theirs.
        self._arrays = {id(variable.value): (variable.value, variable) for variable in model.variables}
        self.records: list[Record] = []
        self._places: list[str] = []

    @contextmanager
    def at(self, layer: Layer) -> Iterator[None]:
        """While open, steps belong to this layer."""
        path = str(layer.path or layer.name)
        self._places.append("" if path == self.name else path.removeprefix(f"{self.name}/"))
        try:
            yield
        finally:
            self._places.pop()

    def add(
        self,
        run: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        outputs: Any,
        operation: Any = None,
        known: Known | None = None,
        signals: tuple[Any, ...] = (),
    ) -> Any:
        """Take down a step; returns its outputs."""
        args, named, signals = keras.tree.map_structure(self._whole, (args, dict(kwargs), signals))
        scope = get_autocast_scope()
        flat = tuple(keras.tree.flatten(outputs))
        place = self._places[-1] if self._places else ""
        precision = scope.dtype if scope is not None else None
        self.records.append(Record(run, args, named, flat, operation, place, known, signals, precision))
        return outputs

    def _whole(self, value: Any) -> Any:
        """The variable that an array is the value of."""
        return self._arrays.get(id(value), (None, value))[1]

    def step(self, run: Callable[..., Any], *args: Any, known: Known, signals: tuple[Any, ...], **kwargs: Any) -> Any:
        """Take down a function of real tensors as one step; its output's shape is found by Keras."""
        return self.add(run, args, kwargs, compute_output_spec(run, *args, **kwargs), None, known, signals)

    def leaf(self, layer: Layer, known: Known, signals: tuple[Any, ...], *args: Any, **kwargs: Any) -> Any:
        """Take down a layer as one step."""
        outputs = layer.compute_output_spec(*args, **kwargs)
        return self.add(layer, args, kwargs, outputs, layer, known, signals)

    def node(self, operation: Any, call_args: tuple[Any, ...], call_kwargs: Mapping[str, Any], outputs: Any) -> None:
        """What Keras calls when an operation ran on symbolic tensors."""
        rewrite = self.rewrites.get(type(operation).__name__)
        same = rewrite(self, operation, *call_args, **call_kwargs) if rewrite is not None else None
        if same is None:
            self.add(_replayed(operation), call_args, call_kwargs, outputs, operation)
        else:
            self.add(_itself, (same,), {}, outputs, known=Known("same"), signals=(same,))

    def layer(self, layer: Layer, *args: Any, **kwargs: Any) -> Any:
        """What Keras calls when a layer runs on symbolic tensors: its steps one by one, or else all in one."""
        before = len(self.records)
        kinds: list[Any] = [kind for kind in type(layer).__mro__ if kind in self.expansions]
        # A subclass with a call of its own is another layer.
        expansion = self.expansions[kinds[0]] if kinds and type(layer).call is kinds[0].call else None
        try:
            if getattr(layer, "quantization_mode", None) is not None:
                raise TypeError("its weights are quantized")
            if expansion is not None:
                return expansion(self, layer, *args, **kwargs)
            outputs = self._opened(layer, *args, **kwargs)
            if any(not isinstance(each, keras.KerasTensor) for each in keras.tree.flatten(outputs)):
                raise TypeError("it computes outside of Keras")
            return outputs
        except Exception as error:  # whatever a user's code raises that was not written for symbolic tensors
            del self.records[before:]
            return self._closed(layer, error, *args, **kwargs)

    def _opened(self, layer: Layer, *args: Any, **kwargs: Any) -> Any:
        """A layer's own code run on symbolic tensors, with an activation that may be any function."""
        names = [
            name for name in ("activation", "function")
            if callable(vars(layer).get(name)) and not isinstance(vars(layer)[name], Layer)
        ]  # fmt: skip
        with replaced(layer, {name: partial(self._function, vars(layer)[name]) for name in names}):
            return layer.call(*args, **kwargs)

    def _function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A function handed to a layer, run on symbolic tensors, or taken down as one step where it cannot be."""
        before = len(self.records)
        try:
            return function(*args, **kwargs)
        except Exception as error:  # a function of the backend, such as jax.nn.relu, takes no symbolic tensors
            del self.records[before:]
            if len(args) != 1:
                raise
            name = getattr(function, "__name__", type(function).__name__)
            known = _unread(partial(function, **kwargs), name, error)
            return self.step(function, *args, known=known, signals=args, **kwargs)

    def _closed(self, layer: Layer, error: Exception, *args: Any, **kwargs: Any) -> Any:
        """A layer whose code cannot be read, as one step."""
        # Masks say which elements count; they are no signals.
        tensors = tuple(
            each
            for each in keras.tree.flatten((args, kwargs))
            if isinstance(each, keras.KerasTensor | Variable) and str(each.dtype) != "bool"
        )
        name, weights = type(layer).__name__, tuple(layer.trainable_variables)
        if weights or len(tensors) != 1:
            known = Known("other", weights, name, reason=_first_sentence(error))
        else:
            known = _unread(layer, name, error)
        return self.leaf(layer, known, tensors, *args, **kwargs)


def _itself(value: Any) -> Any:
    return value


def _replayed(operation: Any) -> Callable[..., Any]:
    """What an operation does to real tensors; the axes that it keeps in a list are a tuple meanwhile."""
    # Keras makes lists of single axes for symbolic tensors alone, and not all functions of JAX take a list.
    settings = {
        name: tuple(value)
        for name, value in vars(operation).items()
        if isinstance(value, list) and value and all(isinstance(each, int) for each in value)
    }
    if not settings:
        return operation.call  # type: ignore[no-any-return]

    def called(*args: Any, **kwargs: Any) -> Any:
        with replaced(operation, settings):
            return operation.call(*args, **kwargs)

    return called


def _unread(function: Callable[..., Any], name: str, error: Exception) -> Known:
    """A function of one tensor whose code cannot be read: of each element, if it behaves so."""
    expression = measured(function, name)
    if expression is not None:
        return Known("pointwise", expression=expression)
    return Known("other", name=name, reason=_first_sentence(error))


def _first_sentence(error: Exception) -> str:
    first = str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
    return first.rstrip(".") or type(error).__name__


@contextmanager
def replaced(owner: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """While open, an object or a module has other attributes; nothing that watches its attributes is told."""
    missing = object()
    before = {name: vars(owner).get(name, missing) for name in values}

    def put(name: str, value: Any) -> None:
        """A class or a module has no dictionary to write to, an object may watch its attributes."""
        if not isinstance(owner, Layer):
            setattr(owner, name, value)
        elif value is missing:
            vars(owner).pop(name, None)
        else:
            vars(owner)[name] = value

    try:
        for name, value in values.items():
            put(name, value)
        yield
    finally:
        for name, value in before.items():
            if value is missing and not isinstance(owner, Layer):
                delattr(owner, name)
            else:
                put(name, value)


@contextmanager
def record(recorder: Recorder, model: keras.Model) -> Iterator[None]:
    """While open, layers and operations called on symbolic tensors are taken down; then all is as before."""
    names = global_state.get_global_attribute("object_name_uids")
    counts = dict(names) if names is not None else None
    layers = list(model._flatten_layers())
    called = [layer._called for layer in layers]
    with ExitStack() as stack:
        stack.enter_context(KERAS)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(keras.StatelessScope())
        for owner, values in _replacements(recorder):
            stack.enter_context(replaced(owner, values))
        try:
            yield
        finally:
            for layer, value in zip(layers, called, strict=True):
                vars(layer)["_called"] = value
            if names is not None and counts is not None:
                names.clear()
                names.update(counts)


_Replacements = Iterator[tuple[Any, dict[str, Any]]]
"""Objects with their attributes that are others for a while; asked for one by one, each after the last is in place."""


def _replacements(recorder: Recorder) -> _Replacements:
    """What of Keras is another while a model is read."""
    yield nn_module.Conv, {"compute_output_spec": _convolved(nn_module.Conv.compute_output_spec)}
    yield from _symbolic_variables()
    yield operation_module, {"Node": recorder.node}
    yield layer_module, {"Node": lambda **_: None}
    yield from _taken_down_layers(recorder)
    yield from _variables_as_tensors()


def _convolved(shape_of: Callable[..., Any]) -> Callable[..., Any]:
    """Keras finds the shape of a convolution only where it has one group; the groups change nothing of it."""

    def convolved(operation: Any, inputs: Any, kernel: Any) -> Any:
        """The shape that Keras finds for a kernel over all channels."""
        last = (operation.data_format or keras.config.image_data_format()) == "channels_last"
        channels = inputs.shape[-1 if last else 1]
        whole = keras.KerasTensor((*kernel.shape[:-2], channels, kernel.shape[-1]), kernel.dtype)
        return shape_of(operation, inputs, whole)

    return convolved


def _symbolic_variables() -> _Replacements:
    """Variables count as symbolic for all of Keras's modules, so that operations on them are recorded."""
    original = keras_tensor.any_symbolic_tensors

    def any_symbolic(args: Any = None, kwargs: Any = None) -> bool:
        """Variables count, but not while Keras finds a shape by running a layer on its backend."""
        if in_symbolic_scope():
            return bool(original(args, kwargs))
        return any(isinstance(each, keras.KerasTensor | Variable) for each in keras.tree.flatten((args, kwargs)))

    for name, module in list(sys.modules.items()):
        if name.startswith("keras.src.") and vars(module).get("any_symbolic_tensors") is original:
            yield module, {"any_symbolic_tensors": any_symbolic}


def _taken_down_layers(recorder: Recorder) -> _Replacements:
    """Layers are told to the recorder, and none is built by it."""
    call = Layer.__call__

    def called(layer: Layer, *args: Any, **kwargs: Any) -> Any:
        """Steps get the place of the innermost layer."""
        with recorder.at(layer):
            return call(layer, *args, **kwargs)

    def built(layer: Layer, _: Any) -> None:
        """A layer that never ran must not be built by being looked at."""
        if not layer.built:
            raise ValueError(f"the layer {layer.name} is not built")

    yield Layer, {"symbolic_call": lambda layer, *args, **kwargs: recorder.layer(layer, *args, **kwargs)}
    yield Layer, {"__call__": called, "_maybe_build": built}


def _variables_as_tensors() -> _Replacements:
    """Python's operators on variables are taken down, and a backend's own operators leave them to Keras."""

    def operator(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A Python operator of variables that is taken down."""
        symbolic = getattr(keras.KerasTensor, name)
        return lambda variable, *rest: (plain if in_symbolic_scope() else symbolic)(variable, *rest)

    def converted(plain: Callable[..., Any]) -> Callable[..., Any]:
        """A conversion that a backend's own operators try, which then leave the operation to the variable."""

        def refuse(variable: Any, *args: Any, **kwargs: Any) -> Any:
            if in_symbolic_scope():
                return plain(variable, *args, **kwargs)
            raise TypeError("a variable is read through Keras alone")

        return refuse

    def left(plain: Callable[..., Any]) -> Callable[..., Any]:
        """JAX leaves an operation to what turns into nothing that it knows."""
        return lambda value, *args: plain(value, *args) if in_symbolic_scope() else value

    base, own = vars(Variable), vars(keras.Variable)
    yield Variable, {name: operator(name, base[name]) for name in _OPERATORS if base.get(name) is not None}
    yield keras.Variable, {name: converted(own[name]) for name in ("__tf_tensor__",) if name in own}
    yield keras.Variable, {name: left(own[name]) for name in ("__jax_array__",) if name in own}
    yield keras.KerasTensor, {"__jax_array__": left(keras.KerasTensor.__jax_array__)}
