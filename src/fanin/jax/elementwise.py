"""Functions of one signal, put together from JAX's elementwise steps as functions of NumPy arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.activations import ACTIVATIONS, leaky_relu

__all__ = ["ELEMENTWISE", "IDENTITY", "SAME", "Function", "Named", "compose", "evaluate", "named"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Function:
    """A function of each element of one signal.

    Attributes:
        text: The function as text, with ``x`` for the signal.
        apply: The function of NumPy arrays.
        is_atom: Whether its text needs no parentheses inside of another.
    """

    text: str
    apply: Callable[[Any], Any]
    is_atom: bool = True


IDENTITY = Function("x", lambda x: x)


def _special(name: str) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        """A function of SciPy's."""
        from scipy import special  # heavy, and needed for few functions alone

        return getattr(special, name)(x)

    return apply


def _logistic(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x)))


ELEMENTWISE: Mapping[str, tuple[str, Callable[..., Any]]] = MappingProxyType({
    "abs": ("abs({})", np.abs),
    "acos": ("acos({})", np.arccos),
    "acosh": ("acosh({})", np.arccosh),
    "add": ("{} + {}", np.add),
    "add_any": ("{} + {}", np.add),
    "and": ("{} & {}", np.bitwise_and),
    "asin": ("asin({})", np.arcsin),
    "asinh": ("asinh({})", np.arcsinh),
    "atan": ("atan({})", np.arctan),
    "atan2": ("atan2({}, {})", np.arctan2),
    "atanh": ("atanh({})", np.arctanh),
    "cbrt": ("cbrt({})", np.cbrt),
    "ceil": ("ceil({})", np.ceil),
    "clamp": ("clip({1}, {0}, {2})", lambda low, x, high: np.clip(x, low, high)),
    "cos": ("cos({})", np.cos),
    "cosh": ("cosh({})", np.cosh),
    "div": ("{} / {}", np.true_divide),
    "eq": ("{} == {}", np.equal),
    "erf": ("erf({})", _special("erf")),
    "erf_inv": ("erfinv({})", _special("erfinv")),
    "erfc": ("erfc({})", _special("erfc")),
    "exp": ("exp({})", np.exp),
    "exp2": ("exp2({})", np.exp2),
    "expm1": ("expm1({})", np.expm1),
    "floor": ("floor({})", np.floor),
    "ge": ("{} >= {}", np.greater_equal),
    "gt": ("{} > {}", np.greater),
    "is_finite": ("isfinite({})", np.isfinite),
    "le": ("{} <= {}", np.less_equal),
    "lgamma": ("lgamma({})", _special("gammaln")),
    "log": ("log({})", np.log),
    "log1p": ("log1p({})", np.log1p),
    "logistic": ("sigmoid({})", _logistic),
    "lt": ("{} < {}", np.less),
    "max": ("max({}, {})", np.maximum),
    "min": ("min({}, {})", np.minimum),
    "mul": ("{} * {}", np.multiply),
    "ne": ("{} != {}", np.not_equal),
    "neg": ("-{}", np.negative),
    "not": ("~{}", np.logical_not),
    "or": ("{} | {}", np.bitwise_or),
    "pow": ("{} ** {}", np.power),
    "rem": ("{} % {}", np.fmod),
    "round": ("round({})", np.round),
    "rsqrt": ("{} ** -0.5", lambda x: 1 / np.sqrt(x)),
    "select_n": ("where({0}, {2}, {1})", lambda which, no, yes: np.where(which, yes, no)),
    "sign": ("sign({})", np.sign),
    "sin": ("sin({})", np.sin),
    "sinh": ("sinh({})", np.sinh),
    "sqrt": ("sqrt({})", np.sqrt),
    "square": ("{} ** 2", np.square),
    "sub": ("{} - {}", np.subtract),
    "tan": ("tan({})", np.tan),
    "tanh": ("tanh({})", np.tanh),
})  # fmt: skip
"""JAX's elementwise primitives by name: as text of their arguments, and as functions of NumPy arrays."""
SAME = ("convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "name")
"""Primitives that keep every value, or round it."""
_LONGEST = 60
"""Characters of a function's text."""
_ARRAYS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = MappingProxyType({
    "broadcast_in_dim": lambda x, params: _spread(x, params["shape"], params["broadcast_dimensions"]),
    "expand_dims": lambda x, params: np.expand_dims(x, tuple(params["dimensions"])),
    "integer_pow": lambda x, params: np.power(x, params["y"]),
    "reduce_max": lambda x, params: np.max(x, axis=tuple(params["axes"])),
    "reduce_sum": lambda x, params: np.sum(x, axis=tuple(params["axes"])),
    "reshape": lambda x, params: np.reshape(x, params["new_sizes"]),
    "squeeze": lambda x, params: np.squeeze(x, tuple(params["dimensions"])),
    "transpose": lambda x, params: np.transpose(x, params["permutation"]),
    **dict.fromkeys(SAME, lambda x, params: x),
})  # fmt: skip
"""Primitives on one array that are not elementwise, or have parameters."""


def _spread(x: Any, shape: tuple[int, ...], places: tuple[int, ...]) -> Any:
    sizes = [np.shape(x)[list(places).index(axis)] if axis in places else 1 for axis in range(len(shape))]
    return np.broadcast_to(np.reshape(x, sizes), shape)


def evaluate(primitive: str, params: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    """A step on NumPy arrays; None if it is not one of those that NumPy can do here."""
    with np.errstate(all="ignore"):
        if primitive in _ARRAYS:
            return _ARRAYS[primitive](inputs[0], params)
        return ELEMENTWISE[primitive][1](*inputs) if primitive in ELEMENTWISE else None


def compose(primitive: str, params: Mapping[str, Any], inputs: list[Function | float]) -> Function | None:
    """One more elementwise step on functions of one signal and numbers; None if the primitive is none.

    Example:
        >>> compose("sin", {}, [compose("mul", {}, [30.0, Function("x", lambda x: x)])]).text
        'sin(30 * x)'
    """
    if primitive in SAME:
        return _as_function(inputs[0])
    if primitive == "integer_pow":
        primitive, inputs = "pow", [*inputs, float(params["y"])]
    if primitive not in ELEMENTWISE:
        return None
    pattern, apply = ELEMENTWISE[primitive]
    functions = [_as_function(each) for each in inputs]
    infix = pattern.startswith(("{}", "-", "~"))
    texts = [f"({each.text})" if infix and not each.is_atom else each.text for each in functions]
    text = pattern.format(*texts)
    short = len(text) <= _LONGEST
    composed = text if short else f"{primitive}(...)"
    return Function(composed, lambda x: apply(*(each.apply(x) for each in functions)), not (infix and short))


def _as_function(given: Function | float) -> Function:
    return given if isinstance(given, Function) else Function(f"{given:.6g}", lambda x: given, given >= 0)


@dataclass(frozen=True)
class Named:
    """What a function of each element is.

    Attributes:
        kind: ``activation``, ``scale`` or ``same``.
        name: For an activation: the name in the table, or a readable text.
        value: For a scale: the number.
        function: For an activation that no table knows.
    """

    kind: str
    name: str = ""
    value: float = 1.0
    function: Callable[[Any], Any] | None = None


_GRID = np.concatenate([np.linspace(-12, 12, 481), [-30.0, -20.0, 20.0, 30.0, -1e-3, 1e-3]])
_CLOSE = 2e-6
"""Constants in a trace have the precision of float32."""


def _elu(alpha: float) -> Callable[[Any], Any]:
    return lambda z: np.where(np.asarray(z) > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))


def _celu(alpha: float) -> Callable[[Any], Any]:
    return lambda z: np.where(np.asarray(z) > 0, z, alpha * np.expm1(np.minimum(z, 0.0) / alpha))


def _floor(function: Callable[[Any], Any]) -> float:
    """How far a function goes below zero at its left end."""
    return -float(function(np.float64(-1000.0)))


_FAMILIES: tuple[tuple[str, Callable[[Callable[[Any], Any]], float], Callable[[float], Callable[[Any], Any]]], ...] = (
    ("leaky_relu({:.6g})", lambda f: -float(f(np.float64(-1.0))), leaky_relu),
    ("elu(alpha={:.6g})", _floor, _elu),
    ("celu(alpha={:.6g})", _floor, _celu),
)
"""Families with one number: their text, how to read the number off a function, and the function for a number."""


def named(function: Function) -> Named:
    """What a composed function is: one of the table of activations, one of a known family, or a function of its own.

    Example:
        >>> named(Function("max(x, 0)", lambda x: np.maximum(x, 0.0))).name
        'relu'
        >>> named(Function("x / 8", lambda x: x / 8)).value
        0.125
    """

    def apply(x: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(function.apply(np.asarray(x, np.float64)), np.float64) + np.zeros(np.shape(x))

    values = apply(_GRID)
    factor = float(apply(np.float64(1.0)))
    everywhere = np.ones(_GRID.shape, bool)
    if _agree(values, factor * _GRID, everywhere):
        return Named("same") if abs(factor - 1) < _CLOSE else Named("scale", value=factor)
    for entry in ACTIVATIONS.values():
        smooth = np.abs(np.subtract.outer(_GRID, np.array(entry.jumps))).min(axis=1, initial=1.0) > 1e-9
        if _agree(values, np.asarray(entry.phi(_GRID), np.float64), smooth):
            return Named("activation", entry.name)
    for text, read, family in _FAMILIES:
        number = float(f"{read(apply):.6g}")
        if 0 < number < np.inf and _agree(values, family(number)(_GRID), everywhere):
            return Named("activation", text.format(number), function=family(number))
    return Named("activation", function.text, function=apply)


def _agree(values: Floats, others: Floats, where: Any) -> bool:
    return bool(np.allclose(values[where], others[where], rtol=_CLOSE, atol=_CLOSE))
