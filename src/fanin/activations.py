"""Activation functions as data: what theory and initializers need to know of each, without a framework."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, unknown_name

__all__ = ["ACTIVATIONS", "Activation", "activation"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Activation:
    """One activation function.

    Attributes:
        name: Its Keras name.
        phi: The function, vectorised.
        kinks: Where it or its slope jumps.
        aliases: Other names of the same function.
    """

    name: str
    phi: Callable[[Any], Any]
    kinks: tuple[float, ...] = ()
    aliases: tuple[str, ...] = ()


def _erf(z: Any) -> Any:
    from scipy.special import erf  # heavy, and needed for two functions alone

    return erf(z)


def _sigmoid(z: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(z)))


def _softplus(z: Any) -> Any:
    return np.logaddexp(0.0, z)


def _elu(z: Any) -> Any:
    return np.where(np.asarray(z) > 0, z, np.expm1(np.minimum(z, 0.0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
"""Klambauer et al., NeurIPS 2017: the constants for which mean 0 and variance 1 are a fixed point."""


def _selu(z: Any) -> Any:
    return SELU_SCALE * np.where(np.asarray(z) > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0.0)))


def leaky_relu(slope: float) -> Callable[[Any], Any]:
    """Leaky ReLU with this slope below zero."""
    return lambda z: np.where(np.asarray(z) > 0, z, slope * np.asarray(z))


_TABLE = (
    Activation("linear", lambda z: np.asarray(z) * 1.0, aliases=("identity",)),
    Activation("relu", lambda z: np.maximum(z, 0.0), (0.0,)),
    Activation("relu6", lambda z: np.clip(z, 0.0, 6.0), (0.0, 6.0)),
    Activation("leaky_relu", leaky_relu(0.01), (0.0,)),
    Activation("elu", _elu, (0.0,)),
    Activation("selu", _selu, (0.0,)),
    Activation("celu", _elu, (0.0,)),
    Activation("gelu", lambda z: 0.5 * np.asarray(z) * (1 + _erf(np.asarray(z) / math.sqrt(2)))),
    Activation(
        "gelu_tanh",
        lambda z: 0.5 * np.asarray(z) * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * np.asarray(z) ** 3))),
    ),
    Activation("silu", lambda z: np.asarray(z) * _sigmoid(z), aliases=("swish",)),
    Activation("mish", lambda z: np.asarray(z) * np.tanh(_softplus(z))),
    Activation("softplus", _softplus),
    Activation("softsign", lambda z: np.asarray(z) / (1 + np.abs(z)), (0.0,)),
    Activation("tanh", np.tanh),
    Activation("hard_tanh", lambda z: np.clip(z, -1.0, 1.0), (-1.0, 1.0), ("hardtanh",)),
    Activation("sigmoid", _sigmoid),
    Activation("hard_sigmoid", lambda z: np.clip(np.asarray(z) / 6 + 0.5, 0.0, 1.0), (-3.0, 3.0), ("hardsigmoid",)),
    Activation(
        "hard_silu",
        lambda z: np.asarray(z) * np.clip(np.asarray(z) / 6 + 0.5, 0.0, 1.0),
        (-3.0, 3.0),
        ("hard_swish", "hardswish"),
    ),
    Activation("erf", _erf),
    Activation("sin", np.sin),
    Activation("step", lambda z: np.heaviside(z, 0.5), (0.0,)),
    Activation("sign", np.sign, (0.0,)),
)

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
    return Activation(getattr(given, "__name__", "custom"), given)
