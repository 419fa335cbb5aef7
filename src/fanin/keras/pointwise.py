"""Functions of each element that a model is made of, composed and evaluated in NumPy, and known by their values."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fanin.activations import ACTIVATIONS, leaky_relu

__all__ = ["IDENTITY", "OPERATIONS", "Expression", "apply", "function_name", "measured", "settle"]

Floats = NDArray[np.float64]

_GRID = np.concatenate([np.linspace(-9, 9, 1801), np.linspace(-30, 30, 119)])
"""Where two functions are compared; 0 and the corners of the common ones are among them."""
_CLOSE = 1e-6
"""Functions that differ by less are one in float32."""


@dataclass(frozen=True, eq=False)
class Expression:
    """A function of each element of one signal, and how a reader would write it of a signal x."""

    function: Callable[[Any], Any]
    text: str


IDENTITY = Expression(lambda z: z, "x")

_NAMED = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign",
    "Silu": "silu", "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Selu": "selu", "HardTanh": "hard_tanh",
    "Erf": "erf", "Mish": "mish",
}  # fmt: skip
_NUMPY = {
    "Absolute": "abs", "Abs": "abs", "Arcsinh": "arcsinh", "Arctan": "arctan", "Cbrt": "cbrt", "Ceil": "ceil",
    "Cos": "cos", "Cosh": "cosh", "Exp": "exp", "Exp2": "exp2", "Expm1": "expm1", "Floor": "floor", "Log": "log",
    "Log10": "log10", "Log1p": "log1p", "Log2": "log2", "LogicalNot": "logical_not", "Negative": "negative",
    "Reciprocal": "reciprocal", "Round": "round", "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Sqrt": "sqrt",
    "Square": "square", "Tan": "tan", "Tanh": "tanh", "Trunc": "trunc",
}  # fmt: skip
_INFIX: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "Add": ("+", np.add), "Subtract": ("-", np.subtract), "Multiply": ("*", np.multiply), "Divide": ("/", np.divide),
    "TrueDivide": ("/", np.divide), "FloorDivide": ("//", np.floor_divide), "Mod": ("%", np.mod),
    "Power": ("**", np.power), "Less": ("<", np.less), "LessEqual": ("<=", np.less_equal), "Greater": (">", np.greater),
    "GreaterEqual": (">=", np.greater_equal), "Equal": ("==", np.equal), "NotEqual": ("!=", np.not_equal),
    "LogicalAnd": ("&", np.logical_and), "LogicalOr": ("|", np.logical_or),
}  # fmt: skip
_OF_SEVERAL: Mapping[str, Callable[..., Any]] = {
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Where": np.where,
    "Heaviside": np.heaviside,
}


def _elu(z: Any, alpha: float) -> Any:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))


def _celu(z: Any, alpha: float) -> Any:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) / alpha))


def _gelu(z: Any, approximate: bool) -> Any:
    return ACTIVATIONS["gelu_tanh" if approximate else "gelu"].phi(z)


def _relu(z: Any, negative_slope: float, max_value: float | None, threshold: float) -> Any:
    """Keras's ReLU: below the threshold a line through the threshold, above it the value, cut at the top."""
    above = z if max_value is None else np.minimum(z, max_value)
    return np.where(z >= threshold, above, negative_slope * (z - threshold))


def _soft_shrink(z: Any, threshold: float) -> Any:
    return np.sign(z) * np.maximum(np.abs(z) - threshold, 0.0)


def _hard_shrink(z: Any, threshold: float) -> Any:
    return np.where(np.abs(z) > threshold, z, 0.0)


def _threshold(z: Any, threshold: float, default_value: float) -> Any:
    return np.where(z > threshold, z, default_value)


def _sparse_plus(z: Any) -> Any:
    return np.where(z <= -1, 0.0, np.where(z < 1, 0.25 * (z + 1) ** 2, z))


_OF_ONE: Mapping[str, Callable[..., Any]] = {
    **{name: ACTIVATIONS[known].phi for name, known in _NAMED.items()},
    **{name: getattr(np, known) for name, known in _NUMPY.items()},
    "Celu": _celu,
    "Clip": lambda z, x_min, x_max: np.clip(z, x_min, x_max),
    "Elu": _elu,
    "Gelu": _gelu,
    "HardShrink": _hard_shrink,
    "LeakyRelu": lambda z, negative_slope: leaky_relu(negative_slope)(z),
    "LogSigmoid": lambda z: -np.logaddexp(0.0, -z),
    "ReLU": _relu,
    "Rsqrt": lambda z: 1 / np.sqrt(z),
    "SoftShrink": _soft_shrink,
    "SparsePlus": _sparse_plus,
    "SparseSigmoid": lambda z: np.clip(0.5 * (z + 1), 0.0, 1.0),
    "Squareplus": lambda z, b: 0.5 * (z + np.sqrt(z**2 + b)),
    "TanhShrink": lambda z: z - np.tanh(z),
    "Threshold": _threshold,
}
"""From the name of Keras's class to the same in NumPy; further arguments are attributes of the operation."""

OPERATIONS = frozenset({*_OF_ONE, *_INFIX, *_OF_SEVERAL})
"""The operations that work on each element."""


def apply(operation: Any, operands: Sequence[Expression | float]) -> Expression:
    """An operation of Keras on functions of one signal and on numbers."""
    kind = type(operation).__name__
    texts = [each.text if isinstance(each, Expression) else f"{each:g}" for each in operands]
    functions = [_function(each) for each in operands]
    if kind in _OF_ONE:
        return _of_one(operation, functions[0], texts[0])
    if kind in _INFIX:
        symbol, combine = _INFIX[kind]
        text = f" {symbol} ".join(f"({each})" if " " in each else each for each in texts)
    else:
        combine, text = _OF_SEVERAL[kind], f"{kind.lower()}({', '.join(texts)})"
    return Expression(lambda z: combine(*(function(z) for function in functions)), text)


def _function(operand: Expression | float) -> Callable[[Any], Any]:
    if isinstance(operand, Expression):
        return operand.function
    return lambda z: np.float64(operand)


def _of_one(operation: Any, inner: Callable[[Any], Any], text: str) -> Expression:
    """A function of one argument, with the operation's attributes for the others that it has."""
    function = _OF_ONE[type(operation).__name__]
    names = [] if isinstance(function, np.ufunc) else list(inspect.signature(function).parameters)[1:]
    attributes = {name: getattr(operation, name) for name in names if hasattr(operation, name)}
    kind = type(operation).__name__
    label = _NAMED.get(kind) or _NUMPY.get(kind) or function_name(kind)
    given = ", ".join(f"{value:g}" if isinstance(value, float) else f"{value}" for value in attributes.values())
    label = f"{label}({given})" if given else label
    return Expression(lambda z: function(inner(z), **attributes), label if text == "x" else f"{label}({text})")


def function_name(kind: str) -> str:
    """The name of the function that stands for an operation's class.

    Example:
        >>> function_name("LeakyRelu"), function_name("ReLU")
        ('leaky_relu', 'relu')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", kind).lower()


def settle(expression: Expression) -> tuple[str, str, float, Callable[[Any], Any] | None]:
    """What a function is: kind, name, value and function of an `Op`; of kind ``same`` where it changes nothing.

    Example:
        >>> settle(Expression(lambda z: 0.5 * z, "x * 0.5"))
        ('scale', '', 0.5, None)
        >>> settle(Expression(lambda z: np.maximum(z, 0), "maximum(x, 0)"))
        ('activation', 'relu', 1.0, None)
    """
    with np.errstate(all="ignore"):
        values = np.asarray(expression.function(_GRID), float) * np.ones_like(_GRID)
        slope = float(expression.function(np.ones(1))[0]) if values.size else 1.0
        if np.isfinite(slope) and slope and np.allclose(values, slope * _GRID, rtol=_CLOSE, atol=0):
            return ("same" if abs(slope - 1) < _CLOSE else "scale"), "", slope, None
        for entry in ACTIVATIONS.values():
            if np.allclose(values, entry.phi(_GRID), rtol=_CLOSE, atol=_CLOSE, equal_nan=True):
                return "activation", entry.name, 1.0, None
    function = expression.function
    return "activation", expression.text, 1.0, lambda z: np.asarray(function(np.asarray(z, np.float64)), np.float64)


def measured(function: Callable[..., Any], name: str) -> Expression | None:
    """A function of real tensors as a function of each element, or None where it is none.

    It is called twice on the same values in other places and in another shape: a function of each element
    gives the same values in those places. It computes in float32, as the model does.
    """
    values = _GRID.astype(np.float32)
    mixed = np.random.default_rng(0).permutation(len(values))
    try:
        plain = _called(function, values[:, None])
        other = _called(function, values[mixed].reshape(-1, 40))
    except Exception:  # whatever the user's function raises, it is none that works on any shape
        return None
    if plain.shape != (len(values), 1) or other.shape != (len(values) // 40, 40):
        return None
    if not np.allclose(plain[mixed, 0], other.reshape(-1), rtol=1e-5, atol=1e-6, equal_nan=True):
        return None
    return Expression(lambda z: _called(function, np.asarray(z, np.float32)), name)


def _called(function: Callable[..., Any], array: NDArray[np.float32]) -> Floats:
    return np.asarray(keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(array))), np.float64)
