"""Activation functions as data: what theory and initializers need to know of each, without a framework."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, unknown_name

__all__ = ["ACTIVATIONS", "Activation", "activation", "saturation", "values_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # compared and cached by identity: a function need not be hashable
class Activation:
    """One activation function.

    Attributes:
        name: Its Keras name.
        phi: The function, vectorised.
        slope: Its derivative, vectorised; None where it is not known in closed form.
        kinks: Where its slope jumps.
        jumps: Where it jumps itself.
        marks: Other places where it changes so fast that a rule for smooth functions must be cut there.
        period: Of a function that oscillates, so that integrals over many periods know it.
        aliases: Other names of the same function.
    """

    name: str
    phi: Callable[[Any], Any]
    slope: Callable[[Any], Any] | None = None
    kinks: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    marks: tuple[float, ...] = ()
    period: float | None = None
    aliases: tuple[str, ...] = ()


def _erf(z: Any) -> Any:
    from scipy.special import erf  # heavy, and needed for two functions alone

    return erf(z)


def _density(z: Any) -> Any:
    return np.exp(-0.5 * np.square(z)) / math.sqrt(2 * math.pi)


def _sigmoid(z: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(z)))


def _sigmoid_slope(z: Any) -> Any:
    return 0.25 / np.square(np.cosh(np.clip(0.5 * np.asarray(z), -350, 350)))


def _softplus(z: Any) -> Any:
    return np.logaddexp(0.0, z)


def _elu(z: Any) -> Any:
    return np.where(np.asarray(z) > 0, z, np.expm1(np.minimum(z, 0.0)))


def _elu_slope(z: Any) -> Any:
    return np.where(np.asarray(z) > 0, 1.0, np.exp(np.minimum(z, 0.0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
"""Klambauer et al., NeurIPS 2017: the constants for which mean 0 and variance 1 are a fixed point."""


def _selu(z: Any) -> Any:
    return SELU_SCALE * np.where(np.asarray(z) > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0.0)))


def _selu_slope(z: Any) -> Any:
    return SELU_SCALE * np.where(np.asarray(z) > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0.0)))


def leaky_relu(slope: float) -> Callable[[Any], Any]:
    """Leaky ReLU with this slope below zero."""
    return lambda z: np.where(np.asarray(z) > 0, z, slope * np.asarray(z))


def _between(low: float, high: float, slope: float = 1.0) -> Callable[[Any], Any]:
    """The derivative of a ramp: `slope` between two kinks, 0 outside."""
    return lambda z: np.where((np.asarray(z) > low) & (np.asarray(z) < high), slope, 0.0)


def _gelu_slope(z: Any) -> Any:
    return 0.5 * (1 + _erf(np.asarray(z) / math.sqrt(2))) + z * _density(z)


def _gelu_tanh_inner(z: Any) -> tuple[Any, Any]:
    cubic, root = 0.044715, math.sqrt(2 / math.pi)
    return np.tanh(root * (z + cubic * np.asarray(z) ** 3)), root * (1 + 3 * cubic * np.square(z))


def _gelu_tanh(z: Any) -> Any:
    return 0.5 * np.asarray(z) * (1 + _gelu_tanh_inner(z)[0])


def _gelu_tanh_slope(z: Any) -> Any:
    value, inner = _gelu_tanh_inner(z)
    return 0.5 * (1 + value) + 0.5 * np.asarray(z) * (1 - value**2) * inner


def _mish_slope(z: Any) -> Any:
    value = np.tanh(_softplus(z))
    return value + np.asarray(z) * (1 - value**2) * _sigmoid(z)


def _hard_silu_slope(z: Any) -> Any:
    z = np.asarray(z)
    return np.where(z >= 3, 1.0, np.where(z <= -3, 0.0, z / 3 + 0.5))


_TABLE = (
    Activation("linear", lambda z: np.asarray(z) * 1.0, np.ones_like, aliases=("identity",)),
    Activation("relu", lambda z: np.maximum(z, 0.0), _between(0.0, math.inf), (0.0,)),
    Activation("relu6", lambda z: np.clip(z, 0.0, 6.0), _between(0.0, 6.0), (0.0, 6.0)),
    Activation("leaky_relu", leaky_relu(0.01), lambda z: np.where(np.asarray(z) > 0, 1.0, 0.01), (0.0,)),
    Activation("elu", _elu, _elu_slope, (0.0,)),
    Activation("selu", _selu, _selu_slope, (0.0,)),
    Activation("celu", _elu, _elu_slope, (0.0,)),
    Activation("gelu", lambda z: 0.5 * np.asarray(z) * (1 + _erf(np.asarray(z) / math.sqrt(2))), _gelu_slope),
    Activation("gelu_tanh", _gelu_tanh, _gelu_tanh_slope),
    Activation(
        "silu", lambda z: np.asarray(z) * _sigmoid(z),
        lambda z: _sigmoid(z) + np.asarray(z) * _sigmoid_slope(z), aliases=("swish",),
    ),
    Activation("mish", lambda z: np.asarray(z) * np.tanh(_softplus(z)), _mish_slope),
    Activation("softplus", _softplus, _sigmoid),
    Activation(
        "softsign", lambda z: np.asarray(z) / (1 + np.abs(z)), lambda z: 1 / np.square(1 + np.abs(z)), (0.0,)
    ),
    Activation("tanh", np.tanh, lambda z: 1 / np.square(np.cosh(np.clip(z, -350, 350)))),
    Activation(
        "hard_tanh", lambda z: np.clip(z, -1.0, 1.0), _between(-1.0, 1.0), (-1.0, 1.0), aliases=("hardtanh",)
    ),
    Activation("sigmoid", _sigmoid, _sigmoid_slope),
    Activation(
        "hard_sigmoid", lambda z: np.clip(np.asarray(z) / 6 + 0.5, 0.0, 1.0), _between(-3.0, 3.0, 1 / 6),
        (-3.0, 3.0), aliases=("hardsigmoid",),
    ),
    Activation(
        "hard_silu", lambda z: np.asarray(z) * np.clip(np.asarray(z) / 6 + 0.5, 0.0, 1.0), _hard_silu_slope,
        (-3.0, 3.0), aliases=("hard_swish", "hardswish"),
    ),
    Activation("erf", _erf, lambda z: 2 / math.sqrt(math.pi) * np.exp(-np.square(z))),
    Activation("sin", np.sin, np.cos, period=2 * math.pi),
    Activation("step", lambda z: np.heaviside(z, 0.5), np.zeros_like, jumps=(0.0,)),
    Activation("sign", np.sign, np.zeros_like, jumps=(0.0,)),
)  # fmt: skip

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({entry.name: entry for entry in _TABLE})
"""The activations by their Keras name."""

_NAMES = {spelling: entry for entry in _TABLE for spelling in (entry.name, *entry.aliases)}


def activation(given: "str | Activation | Callable[[Any], Any]") -> Activation:
    """The activation that a name or any vectorised function stands for.

    Args:
        given: A name, an `Activation`, or a function from a NumPy array to one of the same shape.

    Raises:
        UnknownNameError: If no activation has this name.
        InvalidValueError: If it is no function of an array.

    Example:
        >>> activation("swish").name
        'silu'
        >>> activation(lambda z: z**2).phi(np.array([3.0]))
        array([9.])
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        if given.lower() not in _NAMES:
            raise unknown_name("activation", given, _NAMES)
        return _NAMES[given.lower()]
    probe = np.array([-1.5, -0.25, 0.0, 0.25, 1.5])
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(given(probe), dtype=float)
    except Exception as error:  # whatever a user's function raises, it is not one that can be integrated
        raise InvalidValueError(
            "The activation cannot be called on a NumPy array",
            given=f"{getattr(given, '__name__', given)!s} ({type(error).__name__}: {error})",
            allowed="a name, or a function from an array to an array of the same shape",
        ) from None
    if values.shape != probe.shape:
        raise InvalidValueError(
            "The activation does not keep the shape of its input",
            given=f"{probe.shape} became {values.shape}",
            allowed="a function that works on each element",
        )
    return _measured(getattr(given, "__name__", "custom"), given)


_FIRST = 1.0137 * np.array([0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32])
"""Where the search begins: at numbers that no function has its corners at, because a corner there is not seen."""
_ROUGH = 4096


def _measured(name: str, phi: Callable[[Any], Any]) -> Activation:
    """A function of a user's, with its kinks and jumps found by halving what no polynomial fits.

    Raises:
        InvalidValueError: If it is not finite, or too rough to be told from noise.
    """
    size = float(np.abs(values_of(name, phi, np.linspace(-32, 32, 257))).max())
    ends, narrow = _halved(name, phi, size)
    found = _corners(narrow, ends)
    step = 1e-9 * np.maximum(1.0, np.abs(found))
    leap = np.abs(values_of(name, phi, found + step) - values_of(name, phi, found - step))
    broken = leap > 1e-6 * size
    apart = np.abs(ends[:, None] - found).min(axis=1) > 1e-6 if found.size else np.ones(len(ends), bool)
    return Activation(
        name,
        phi,
        kinks=tuple(found[~broken].tolist()),
        jumps=tuple(found[broken].tolist()),
        marks=tuple(ends[apart].tolist()) if apart.sum() <= _ROUGH else (),
    )


def _halved(name: str, phi: Callable[[Any], Any], size: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of the parts that a polynomial fits, and the middles of those too narrow to be halved again.

    Args:
        name, phi: The function.
        size: Its largest value, to which rounding is relative.

    Raises:
        InvalidValueError: As `_measured`.
    """
    nodes, _ = np.polynomial.legendre.leggauss(16)
    checks = np.array([-1.0, -0.71, -0.23, 0.41, 0.83, 1.0])
    to_checks = np.polynomial.legendre.legvander(checks, 15) @ np.linalg.inv(
        np.polynomial.legendre.legvander(nodes, 15)
    )
    edges = np.concatenate([-1.0091 * _FIRST[::-1], _FIRST])
    low, high = edges[:-1], edges[1:]
    marks, corners = [np.empty(0)], [np.empty(0)]
    for depth in range(60):
        middle, half = (low + high)[:, None] / 2, (high - low)[:, None] / 2
        values = values_of(name, phi, middle + half * nodes)
        off = np.abs(values @ to_checks.T - values_of(name, phi, middle + half * checks)).max(axis=1)
        spread = values.max(axis=1) - values.min(axis=1)
        # A corner is off by the same share of the spread at every width; rounding, of values and of u, is not.
        noise = 1e-16 * size + 2e-14 * np.abs(values).max(axis=1)
        noise += 4e-15 * np.abs(middle[:, 0]) * spread / (high - low)
        rough = off > 1e-9 * spread + noise
        narrow = rough & (high - low < 2e-13 * np.maximum(1.0, np.abs(low)))
        corners.append(middle[narrow, 0])
        if depth:
            marks.append(np.concatenate([low[~rough], high[~rough]]))
        rough &= ~narrow
        if not rough.any():
            break
        if rough.sum() > _ROUGH:
            raise InvalidValueError(
                "The activation is too rough to be integrated",
                given=f"{name}, no smooth part at {low[rough][0]:.3g}",
                allowed="a function that is smooth but for some corners and jumps",
                hint=_SINGLE_PRECISION if _is_single(name, phi) else None,
            )
        low, high = np.concatenate([low[rough], middle[rough, 0]]), np.concatenate([middle[rough, 0], high[rough]])
    return np.unique(np.concatenate(marks)), np.concatenate(corners)


_SINGLE_PRECISION = (
    "It computes in float32, whose rounding looks like noise here. Let it compute in float64: JAX does after "
    'jax.config.update("jax_enable_x64", True), PyTorch where it is given a torch.float64 tensor.'
)


def _is_single(name: str, phi: Callable[[Any], Any]) -> bool:
    """Whether every value is a number of single precision, which hardly one of those in double precision is."""
    values = values_of(name, phi, _FIRST)
    return bool((values.astype(np.float32) == values).all())


def _corners(narrow: Floats, ends: Floats) -> Floats:
    """Corners: in panels that stayed rough to the last, or else in the smallest that had to be made."""
    gaps = np.diff(ends)
    tiny = gaps < 1e-9 * np.maximum(1.0, np.abs(ends[:-1]))
    places = np.concatenate([narrow, (ends[:-1] + gaps / 2)[tiny]])
    widths = np.concatenate([np.zeros(len(narrow)), gaps[tiny]])
    order = np.argsort(places)
    places, widths = places[order], widths[order]
    cuts = np.flatnonzero(np.diff(places) > 1e-7) + 1
    best = [
        float(p[np.argmin(w)]) for p, w in zip(np.split(places, cuts), np.split(widths, cuts), strict=True) if p.size
    ]
    result = np.array(best)
    # Where it is known to 1e-9 a round number is the likeliest.
    return np.where(np.abs(result - np.round(result, 8)) < 1e-9, np.round(result, 8), result) + 0.0


_SATURATION = {"tanh": math.atanh(0.98), "sigmoid": math.log(0.99 / 0.01)}


def saturation(name: str) -> float:
    """The size of pre-activation from which on an activation is within 1 % of its bounds.

    Args:
        name: Of any activation.

    Returns:
        The size; infinite where there are no bounds on both sides, and for an unknown name.

    Example:
        >>> round(saturation("tanh"), 3), saturation("relu")
        (2.298, inf)
    """
    return _SATURATION.get(name, math.inf)


def values_of(name: str, phi: Callable[[Any], Any], u: Floats) -> Floats:
    """A function at these places, one after the other.

    Raises:
        InvalidValueError: If it cannot be called there, or a value is not finite.
    """
    allowed = "a function that is finite and works on each element of an array"
    if not u.size:
        return np.empty(u.shape)
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(phi(u.reshape(-1)), dtype=float).reshape(u.shape)
    except Exception as error:  # whatever a user's function raises
        given = f"{name} ({type(error).__name__}: {error})"
        raise InvalidValueError("The activation cannot be called on an array", given=given, allowed=allowed) from None
    if not np.isfinite(values).all():
        wrong = float(u[~np.isfinite(values)][0])
        raise InvalidValueError("The activation is not finite", given=f"{name}({wrong:.6g})", allowed=allowed)
    return values
