"""Every initializer in one table: its names, its parameters, its source, and the law that it means.

Adding an initializer is one entry here; the command line, the documentation and the conformance tests find
it in this table.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fanin.errors import InvalidValueError, UnknownNameError, unknown_name
from fanin.initializers.fans import Fans
from fanin.initializers.laws import (
    TRUNCATED_STD,
    Constant,
    Draw,
    Eye,
    Fourier,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
)
from fanin.records import Call, Init, Value

__all__ = [
    "INITIALIZERS",
    "Initializer",
    "Parameter",
    "canonical",
    "decide",
    "deserialize",
    "parse_call",
    "serialize",
]


@dataclass(frozen=True)
class Parameter:
    """A parameter's default and what it may be, as a test and as words."""

    default: Value
    allowed: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Initializer:
    """One entry of the table.

    Attributes:
        name: The Keras name in lower case.
        class_name: The Keras class, used when serialising.
        summary: One sentence.
        source: Where the rule comes from.
        parameters: The parameters by name.
        law: From the fans and the parameters to what is drawn.
        aliases: Other names of the same thing.
    """

    name: str
    class_name: str
    summary: str
    source: str
    parameters: Mapping[str, Parameter]
    law: Callable[[Fans, Mapping[str, Any]], Draw]
    aliases: tuple[str, ...] = ()


_LARGEST = 3.4028234663852886e38
"""The largest float32: weights are drawn in float32."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _number(default: float) -> Parameter:
    return Parameter(default, "a finite number", _is_number)


def _not_negative(default: float) -> Parameter:
    return Parameter(default, "a number of 0 or more", lambda value: _is_number(value) and value >= 0)


def _positive(default: float) -> Parameter:
    return Parameter(default, "a number above 0", lambda value: _is_number(value) and value > 0)


def _one_of(default: Value, *options: Value) -> Parameter:
    return Parameter(default, ", ".join(map(str, options)), lambda value: value in options)


def _is_window(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    from scipy.signal import get_window  # heavy, and needed for this law alone

    try:
        get_window(value, 8)
    except (ValueError, TypeError):
        return False
    return True


def _scaling(scale: float, mode: str, distribution: str) -> Callable[[Fans, Mapping[str, Any]], Draw]:
    """The law of an initializer that is variance_scaling with everything fixed."""
    return lambda fans, _: _variance_scaling(fans, {"scale": scale, "mode": mode, "distribution": distribution})


def _variance_scaling(fans: Fans, params: Mapping[str, Any]) -> Draw:
    variance = params["scale"] / max(1.0, getattr(fans, params["mode"]))
    match params["distribution"]:
        case "uniform":
            limit = math.sqrt(3 * variance)
            return Uniform(-limit, limit)
        case "untruncated_normal":
            return Normal(0.0, math.sqrt(variance))
        case _:
            return TruncatedNormal(0.0, math.sqrt(variance) / TRUNCATED_STD)


def _uniform(_: Fans, params: Mapping[str, Any]) -> Draw:
    if params["minval"] > params["maxval"]:
        raise InvalidValueError(
            "The bounds of random_uniform are the wrong way round",
            given=f"minval={params['minval']}, maxval={params['maxval']}",
            allowed="minval up to maxval",
        )
    return Uniform(params["minval"], params["maxval"])


_GLOROT = "Glorot and Bengio, AISTATS 2010"
_HE = "He et al., ICCV 2015, arXiv:1502.01852"
_LECUN = "LeCun et al., Efficient BackProp, 1998"
_KERAS = "Keras 3"
_MOMENTS = {"mean": _number(0.0), "stddev": _not_negative(0.05)}

_TABLE = (
    Initializer("zeros", "Zeros", "All weights 0.", _KERAS, {}, lambda *_: Constant(0.0), ("zero",)),
    Initializer("ones", "Ones", "All weights 1.", _KERAS, {}, lambda *_: Constant(1.0), ("one",)),
    Initializer(
        "constant", "Constant", "All weights the same value.", _KERAS, {"value": _number(0.0)},
        lambda _, p: Constant(p["value"]),
    ),
    Initializer(
        "identity", "Identity", "A diagonal of `gain`; two axes only.", _KERAS, {"gain": _number(1.0)},
        lambda _, p: Eye(p["gain"]), ("eye",),
    ),
    Initializer(
        "stft", "STFT", "Short-time Fourier transform as a kernel (frame, 1, frequencies).", _KERAS,
        {
            "side": _one_of("real", "real", "imag"),
            "window": Parameter("hann", "a name of scipy.signal.windows, or None", _is_window),
            "scaling": _one_of("density", "density", "spectrum", None),
            "periodic": _one_of(False, False, True),
        },
        lambda _, p: Fourier(p["side"], p["window"], p["scaling"], p["periodic"]),
    ),
    Initializer(
        "random_normal", "RandomNormal", "Normal, `stddev` a standard deviation whatever the layer.", _KERAS,
        _MOMENTS, lambda _, p: Normal(p["mean"], p["stddev"]), ("normal",),
    ),
    Initializer(
        "random_uniform", "RandomUniform", "Uniform between two bounds whatever the layer.", _KERAS,
        {"minval": _number(-0.05), "maxval": _number(0.05)}, _uniform, ("uniform",),
    ),
    Initializer(
        "truncated_normal", "TruncatedNormal",
        "Normal cut at two `stddev`; the standard deviation that remains is 0.8796 `stddev`.", _KERAS,
        _MOMENTS, lambda _, p: TruncatedNormal(p["mean"], p["stddev"]),
    ),
    Initializer(
        "variance_scaling", "VarianceScaling", "Variance `scale` / fan.", _KERAS,
        {
            "scale": _positive(1.0),
            "mode": _one_of("fan_in", "fan_in", "fan_out", "fan_avg"),
            "distribution": _one_of("truncated_normal", "truncated_normal", "untruncated_normal", "uniform"),
        },
        _variance_scaling,
    ),
    Initializer(
        "glorot_normal", "GlorotNormal", "Truncated normal, variance 2 / (fan_in + fan_out).", _GLOROT, {},
        _scaling(1.0, "fan_avg", "truncated_normal"), ("xavier_normal",),
    ),
    Initializer(
        "glorot_uniform", "GlorotUniform", "Uniform, variance 2 / (fan_in + fan_out).", _GLOROT, {},
        _scaling(1.0, "fan_avg", "uniform"), ("xavier_uniform",),
    ),
    Initializer(
        "he_normal", "HeNormal", "Truncated normal, variance 2 / fan_in.", _HE, {},
        _scaling(2.0, "fan_in", "truncated_normal"), ("kaiming_normal",),
    ),
    Initializer(
        "he_uniform", "HeUniform", "Uniform, variance 2 / fan_in.", _HE, {},
        _scaling(2.0, "fan_in", "uniform"), ("kaiming_uniform",),
    ),
    Initializer(
        "lecun_normal", "LecunNormal", "Truncated normal, variance 1 / fan_in.", _LECUN, {},
        _scaling(1.0, "fan_in", "truncated_normal"),
    ),
    Initializer(
        "lecun_uniform", "LecunUniform", "Uniform, variance 1 / fan_in.", _LECUN, {},
        _scaling(1.0, "fan_in", "uniform"),
    ),
    Initializer(
        "fan_in_uniform", "FanInUniform",
        "Uniform within 1 / sqrt(fan_in), variance 1 / (3 fan_in); what PyTorch's Linear and Conv start with.",
        "torch.nn.Linear.reset_parameters", {}, _scaling(1 / 3, "fan_in", "uniform"),
    ),
    Initializer(
        "orthogonal", "Orthogonal", "Orthonormal rows or columns (Haar), times `gain`.",
        "Saxe et al., ICLR 2014, arXiv:1312.6120; Mezzadri, Notices AMS 54, 2007", {"gain": _number(1.0)},
        lambda _, p: Orthogonal(p["gain"]),
    ),
)  # fmt: skip

INITIALIZERS: Mapping[str, Initializer] = MappingProxyType({entry.name: entry for entry in _TABLE})
"""The initializers by their Keras name."""

_NAMES = {
    spelling: entry
    for entry in _TABLE
    for spelling in (
        entry.name,
        entry.class_name,
        entry.class_name.lower(),
        f"{entry.class_name}Initializer",
        *entry.aliases,
    )
}
_CALL = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(\(.*\))?\s*", re.DOTALL)


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
        params = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
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
    if name not in _NAMES:
        raise unknown_name("initializer", name, {*INITIALIZERS, *(a for e in _TABLE for a in e.aliases)})
    return _NAMES[name]


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
    defaults = {name: parameter.default for name, parameter in entry.parameters.items()}
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
