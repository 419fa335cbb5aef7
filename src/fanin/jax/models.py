"""Flax models as pure functions of their parameters; while one is traced, each module's call leaves a mark."""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
from flax import nnx, traverse_util
from flax.core import unfreeze
from flax.core.meta import AxisMetadata
from jax.ad_checkpoint import checkpoint_name

from fanin.errors import ModelError
from fanin.jax.program import PREFIX

__all__ = [
    "ATTENTION",
    "Call",
    "Parts",
    "Recorder",
    "flat_weights",
    "nested_weights",
    "parts_of",
    "rebox",
    "variables_of",
    "walk",
]

ATTENTION = "attention"
"""What `Call.module` is for a call of an attention function."""
_LOCK = threading.RLock()
"""Held while classes of Flax are changed for the length of a trace."""
_NUMBERS = itertools.count()
"""Never the same twice: JAX remembers what it traced, with marks that an earlier trace left in it."""
_LINEN_ATTENTION = nn.MultiHeadDotProductAttention
_FUNCTIONS = ((nnx, "dot_product_attention"), (nn, "dot_product_attention"), (jax.nn, "dot_product_attention"))
"""Functions whose calls are marked, as users spell them."""


@dataclass(frozen=True)
class Call:
    """One marked call: of a module, or of a function that is one thing (then `module` is its name)."""

    path: str
    module: Any


@dataclass
class Recorder:
    """The calls of one trace, in order; only those made by the thread that traces."""

    calls: dict[int, Call] = field(default_factory=dict)
    stack: list[Call] = field(default_factory=list)
    thread: int = field(default_factory=threading.get_ident)

    @contextmanager
    def enter(self, path: str | None, module: Any) -> Iterator[int]:
        """A marked call; one without a path has that of the call around it."""
        around = self.stack[-1].path if self.stack else ""
        call = Call(around if path is None else path, module)
        number = next(_NUMBERS)
        self.calls[number] = call
        self.stack.append(call)
        try:
            with jax.named_scope(f"{PREFIX}{number}"):
                yield number
        finally:
            self.stack.pop()

    def attention(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An attention function that marks its call, and which of its arguments is which."""

        @functools.wraps(function)
        def marked(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            """The same, with marks."""
            if threading.get_ident() != self.thread:
                return function(query, key, value, *args, **kwargs)
            with self.enter(None, ATTENTION) as number:
                named = [checkpoint_name(each, f"{PREFIX}{number}") for each in (query, key, value)]
                return function(*named, *args, **kwargs)

        return marked


@dataclass(frozen=True)
class Parts:
    """A model taken apart.

    Attributes:
        arrays: Its parameters by path, in the model's order.
        shared: The other paths of a parameter.
        modules: Modules by path, where they are known before the model runs.
        state: The other arrays that it holds.
        call: From arrays, state, arguments and keywords to the model's outputs, marking calls.
        advance: From the same to the outputs and the state as it is after the call, without marks.
    """

    arrays: Mapping[str, Any]
    shared: Mapping[str, tuple[str, ...]]
    modules: Mapping[str, Any]
    state: Sequence[Any]
    call: Callable[[Mapping[str, Any], Sequence[Any], Sequence[Any], Mapping[str, Any], Recorder], Any]
    advance: Callable[[Mapping[str, Any], Sequence[Any], Sequence[Any], Mapping[str, Any]], tuple[Any, Sequence[Any]]]


def parts_of(model: Any) -> Parts:
    """Take a model apart.

    Raises:
        ModelError: If it is no nnx module and no bound linen module.
    """
    if isinstance(model, nnx.Module):
        return _nnx_parts(model)
    if isinstance(model, nn.Module):
        if model.scope is None:
            raise ModelError(
                "The linen module has no parameters of its own",
                given=type(model).__name__,
                hint="Bind it to its variables: model.bind(variables).",
            )
        return _linen_parts(model)
    raise ModelError(
        "This is no model of Flax", given=type(model).__name__, allowed="an nnx.Module, or module.bind(variables)"
    )


# ---------------------------------------------------------------------------------------------------------- nnx
def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """What an nnx object or a container holds, in the order in which it was put there."""
    if isinstance(node, nnx.Pytree):
        yield from ((name, value) for name, value in vars(node).items() if not name.startswith("_pytree__"))
    elif isinstance(node, Mapping):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, list | tuple):
        yield from ((str(index), value) for index, value in enumerate(node))


def walk(node: Any, path: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Paths and all modules and variables below a node, shared ones at each of their paths."""
    if isinstance(node, nnx.Module | nnx.Variable):
        yield path, node
    if id(node) in above or isinstance(node, nnx.Variable):
        return
    for name, child in _children(node):
        yield from walk(child, f"{path}/{name}" if path else name, (*above, id(node)))


def variables_of(model: nnx.Module) -> dict[str, Any]:
    """The parameters of an nnx model, each at its first path."""
    found: dict[int, tuple[str, Any]] = {}
    for path, node in walk(model):
        if isinstance(node, nnx.Param):
            found.setdefault(id(node), (path, node))
    return dict(found.values())


def _paths(model: nnx.Module) -> tuple[list[str], dict[str, list[str]]]:
    """The first path of each parameter, in the model's order; and by it the others of one that is shared."""
    first: dict[int, str] = {}
    others: dict[str, list[str]] = {}
    for path, node in walk(model):
        if isinstance(node, nnx.Param):
            if id(node) in first:
                others.setdefault(first[id(node)], []).append(path)
            first.setdefault(id(node), path)
    return list(first.values()), others


def _nnx_parts(model: nnx.Module) -> Parts:
    """`parts_of` for nnx: its call runs a copy, so that nothing of the model changes."""
    first, others = _paths(model)
    modules = {path: node for path, node in walk(model) if isinstance(node, nnx.Module)}
    names = {other: path for path, more in others.items() for other in more} | {path: path for path in others}
    graph, weights, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    keys: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    for key, variable in nnx.to_flat_state(weights):
        path = "/".join(map(str, key))
        path = names.get(path, path)
        keys[path], variables[path] = key, variable
    leaves, structure = jax.tree.flatten(rest)

    def call(
        arrays: Mapping[str, Any],
        state: Sequence[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        recorder: Recorder,
    ) -> Any:
        """Run a copy of the model that holds these arrays."""
        copy = holding(arrays, state)
        with _marking(copy, recorder):
            return copy(*args, **kwargs)

    def holding(arrays: Mapping[str, Any], state: Sequence[Any]) -> Any:
        """A copy of the model that holds these arrays."""
        pairs = [(keys[path], variables[path].replace(value)) for path, value in arrays.items()]
        return nnx.merge(graph, nnx.from_flat_state(pairs), jax.tree.unflatten(structure, state))

    def advance(
        arrays: Mapping[str, Any], state: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Sequence[Any]]:
        """Run a copy of the model; what it holds for the first time afterwards is dropped."""
        copy = holding(arrays, state)
        outputs = copy(*args, **kwargs)
        after = dict(nnx.to_flat_state(nnx.split(copy, nnx.Param, ...)[2]))  # type: ignore[misc]
        kept = [(key, after[key]) for key, _ in nnx.to_flat_state(rest)]
        return outputs, jax.tree.leaves(nnx.from_flat_state(kept))

    order = [path for path in first if path in keys] + [path for path in keys if path not in first]
    arrays = {path: variables[path].get_value() for path in order}
    shared = {path: tuple(dict.fromkeys(more)) for path, more in others.items()}
    return Parts(arrays, shared, modules, leaves, call, advance)


@contextmanager
def _marking(model: nnx.Module, recorder: Recorder) -> Iterator[None]:
    """While open, each call of one of the model's modules is recorded; the model is a copy that may be changed."""
    paths: dict[int, str] = {}
    owners: dict[tuple[type, str], Any] = {}
    for path, node in walk(model):
        if not isinstance(node, nnx.Module) or id(node) in paths:
            continue
        paths[id(node)] = path
        if isinstance(node, nnx.MultiHeadAttention):
            node.attention_fn = recorder.attention(node.attention_fn)
        for method in ("__call__", "attend"):
            owner = next((each for each in type(node).__mro__ if method in vars(each)), None)
            if owner is not None:
                owners[owner, method] = vars(owner)[method]

    def marked(function: Callable[..., Any]) -> Callable[..., Any]:
        """A method that records its calls."""

        @functools.wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            """The same, recorded."""
            if threading.get_ident() != recorder.thread:
                return function(self, *args, **kwargs)
            with recorder.enter(paths.get(id(self)), self):
                return function(self, *args, **kwargs)

        return call

    with _replaced({place: marked(function) for place, function in owners.items()}), _functions(recorder):
        yield


@contextmanager
def _replaced(functions: Mapping[tuple[Any, str], Any]) -> Iterator[None]:
    """While open, these attributes of classes and modules have other values."""
    with _LOCK:
        before = {(owner, name): vars(owner)[name] for owner, name in functions}
        try:
            for (owner, name), function in functions.items():
                setattr(owner, name, function)
            yield
        finally:
            for (owner, name), function in before.items():
                setattr(owner, name, function)


def _functions(recorder: Recorder) -> Any:
    return _replaced({(module, name): recorder.attention(getattr(module, name)) for module, name in _FUNCTIONS})


# -------------------------------------------------------------------------------------------------------- linen
def _linen_parts(model: nn.Module) -> Parts:
    """`parts_of` for linen: its call applies the unbound module, and drops what that changes."""
    module, variables = model.unbind()
    collections: dict[str, Any] = unfreeze(dict(variables))
    boxed = flat_weights(collections)
    collections.pop("params", None)
    rngs = {name: rng.as_jax_rng() for name, rng in ((model.scope and model.scope.rngs) or {}).items()}
    leaves, structure = jax.tree.flatten((collections, rngs))

    def call(
        arrays: Mapping[str, Any],
        state: Sequence[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        recorder: Recorder,
    ) -> Any:
        """Apply the module to these arrays."""
        with nn.intercept_methods(_interceptor(recorder)), _functions(recorder):
            return advance(arrays, state, args, kwargs)[0]

    def advance(
        arrays: Mapping[str, Any], state: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Sequence[Any]]:
        """Apply the module to these arrays; random numbers are other ones the next time."""
        others, keys = jax.tree.unflatten(structure, state)
        weights = {key: rebox(value, arrays["/".join(key)]) for key, value in boxed.items()}
        held = {**others, "params": nested_weights(weights)}
        outputs, changed = module.apply(held, *args, rngs=keys, mutable=list(others), **kwargs)
        after = {name: changed.get(name, each) for name, each in others.items()}
        return outputs, jax.tree.leaves((after, {name: jax.random.fold_in(key, 1) for name, key in keys.items()}))

    arrays = {"/".join(key): unbox(value) for key, value in boxed.items()}
    return Parts(arrays, {}, {}, leaves, call, advance)


def flat_weights(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """The parameters among a linen module's variables, in their boxes, by the parts of their paths."""
    flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(variables.get("params", {}))  # type: ignore
    return flat


def nested_weights(flat: Mapping[tuple[str, ...], Any]) -> Any:
    """The inverse of `flat_weights`."""
    return traverse_util.unflatten_dict(flat)  # type: ignore[no-untyped-call]


def unbox(value: Any) -> Any:
    """The array in a box that carries its axes' names."""
    return value.unbox() if isinstance(value, AxisMetadata) else value


def rebox(box: Any, array: Any) -> Any:
    """An array in a box like this one."""
    return box.replace_boxed(array) if isinstance(box, AxisMetadata) else array


def _interceptor(recorder: Recorder) -> Callable[..., Any]:
    """What linen calls in place of each method of a module."""

    def intercept(run: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        """Record a call of a linen module's method, and of the attention function that it uses."""
        module = context.module
        if context.method_name == "setup":
            return run(*args, **kwargs)
        with recorder.enter("/".join(module.path), module):
            if not isinstance(module, _LINEN_ATTENTION):
                return run(*args, **kwargs)
            function = module.attention_fn
            object.__setattr__(module, "attention_fn", recorder.attention(function))
            try:
                return run(*args, **kwargs)
            finally:
                object.__setattr__(module, "attention_fn", function)

    return intercept
