"""Reading, checking and writing initializers: from any spelling to the one `Init`, and to what it draws."""

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fanin.errors import InvalidValueError, UnknownNameError, unknown_name
from fanin.initializers.fans import Fans
from fanin.initializers.laws import Draw
from fanin.initializers.table import INITIALIZERS, Initializer
from fanin.records import Call, Init, Value

__all__ = ["SPELLINGS", "canonical", "decide", "deserialize", "parse_call", "serialize"]

SPELLINGS = {
    spelling: entry
    for entry in INITIALIZERS.values()
    for spelling in (
        entry.name,
        entry.class_name,
        entry.class_name.lower(),
        f"{entry.class_name}Initializer",
        *entry.aliases,
    )
}
"""The initializers by every name that is understood."""
_CALL = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(\(.*\))?\s*", re.DOTALL)


def _literal(node: ast.expr) -> Any:
    """A Python literal; infinity, too, which Python writes as a name."""
    sign, inner = (-1, node.operand) if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else (1, node)
    return sign * math.inf if isinstance(inner, ast.Name) and inner.id == "inf" else ast.literal_eval(node)


def parse_call(text: str, kind: str) -> Call:
    """Read ``name`` or ``name(key=value, ...)``; values are Python literals.

    Args:
        text: What the user wrote.
        kind: What it should name, for the error.

    Example:
        >>> parse_call("sgd(momentum=0.9)", "optimizer").params
        {'momentum': 0.9}
    """
    match = _CALL.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        node = ast.parse(f"f{match[2] or '()'}", mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
            raise ValueError(text)
        params = {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
        if len(params) < len(node.keywords):  # a name twice, or **
            raise ValueError(text)
    except (ValueError, SyntaxError):
        raise InvalidValueError(
            f"The {kind} cannot be read",
            given=text,
            allowed="a name, or a name with named parameters in parentheses",
            hint="For example random_normal(stddev=0.01), quoted for the shell.",
        ) from None
    return Call(match[1], **params)


def _lookup(name: str) -> Initializer:
    if name not in SPELLINGS:
        raise unknown_name("initializer", name, {*INITIALIZERS, *(a for e in INITIALIZERS.values() for a in e.aliases)})
    return SPELLINGS[name]


def canonical(init: str | Init | Mapping[str, Any]) -> Init:
    """The one `Init` that stands for every way of writing the same initializer.

    Aliases become Keras names, parameters equal to their default are dropped, all are checked.

    Args:
        init: A name or a text like ``random_normal(stddev=0.01)``, an `Init`, or a Keras config.

    Raises:
        UnknownNameError: If no initializer has this name, or it has no such parameter.
        InvalidValueError: If a parameter is out of its range.

    Example:
        >>> print(canonical("kaiming_normal"), canonical("RandomNormal(stddev=0.05)"))
        he_normal random_normal
    """
    if isinstance(init, Mapping):
        return deserialize(init)
    call = parse_call(init, "initializer") if isinstance(init, str) else init
    if not isinstance(call, Call):
        raise InvalidValueError("This is no initializer", given=init, allowed="a name, a text, an Init or a config")
    entry = _lookup(call.name)
    kept: dict[str, Value] = {}
    for key, value in call.params.items():
        if key not in entry.parameters:
            if not entry.parameters:
                raise UnknownNameError(f"{entry.name} takes no parameters", given=f"{key}={value!r}")
            raise unknown_name(f"parameter of {entry.name}", key, entry.parameters)
        parameter = entry.parameters[key]
        value = value.item() if isinstance(value, np.generic) else value  # noqa: PLW2901 - the same number
        if not parameter.accepts(value):
            raise InvalidValueError(
                f"The parameter {key} of {entry.name} is out of range",
                given="None" if value is None else value,
                allowed=parameter.allowed,
            )
        if value != parameter.default:
            whole = type(value) is int and isinstance(parameter.default, float)
            kept[key] = float(value) if whole else value  # type: ignore[arg-type]
    return Init(entry.name, **kept)


def decide(init: Init, fans: Fans) -> Draw:
    """What an initializer draws for a weight with these fans.

    Example:
        >>> decide(Init("he_normal"), Fans(50, 20)).variance.__round__(12)
        0.04
    """
    init = canonical(init)
    entry = INITIALIZERS[init.name]
    defaults = {name: parameter.default for name, parameter in entry.parameters.items()}
    return entry.law(fans, {**defaults, **init.params})


def serialize(init: str | Init) -> dict[str, Any]:
    """The form that Keras writes: class name and full config.

    Example:
        >>> serialize("random_normal(stddev=0.01)")
        {'class_name': 'RandomNormal', 'config': {'mean': 0.0, 'stddev': 0.01}}
    """
    init = canonical(init)
    entry = INITIALIZERS[init.name]
    defaults = {name: parameter.default for name, parameter in entry.parameters.items() if parameter.shared}
    return {"class_name": entry.class_name, "config": {**defaults, **init.params}}


_CONFIG = "{'class_name': ..., 'config': {...}}"
_KERAS_AXES = ("input_axes", "output_axes")


def deserialize(config: Mapping[str, Any]) -> Init:
    """The inverse of `serialize`; also reads what Keras itself writes.

    Raises:
        InvalidValueError: If the config carries a seed: a seed belongs to a draw, not to an initializer.

    Example:
        >>> print(deserialize({"class_name": "Orthogonal", "config": {"gain": 2.0, "seed": None}}))
        orthogonal(gain=2.0)
    """
    unknown = set(config) - {"class_name", "config", "module", "registered_name"}
    if "class_name" not in config or unknown:
        raise InvalidValueError(
            "The initializer's config cannot be read",
            given=dict(config),
            allowed=_CONFIG,
        )
    name, params = config["class_name"], config.get("config") or {}
    if not isinstance(name, str) or not isinstance(params, Mapping):
        raise InvalidValueError("The initializer's config cannot be read", given=dict(config), allowed=_CONFIG)
    # Keras 3.15 writes two axes with every law that has fans; they mean something only when they are set.
    params = {key: value for key, value in params.items() if key not in _KERAS_AXES or value is not None}
    if params.pop("seed", None) is not None:
        raise InvalidValueError(
            "The initializer's config carries a seed",
            given=dict(config),
            hint="Give the seed to sample() or compare(); an initializer here is a law without one.",
        )
    return canonical(Init(name, **params))
