"""`keras.initializers` with fanin's draws: the same classes and aliases, and the laws that it lacks.

An initializer's values depend on its seed *and on the variable's path*, so that layers which share a seeded
initializer start differently. Outside of a layer the stream is called ``weight``, as in ``fanin.sample``.
Every class takes, besides its own parameters, ``axes``, ``gates`` and ``groups``, which tell what Keras's
convention (..., in, out) does not: see ``fanin.sample``.

Works on Keras's JAX, TensorFlow and PyTorch backends. Import ``fanin.keras`` before loading a saved model.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import keras
from keras.initializers import Constant, Identity, IdentityInitializer, Initializer, Ones, Zeros

from fanin.errors import InvalidValueError, unknown_name
from fanin.initializers import INITIALIZERS
from fanin.keras.drawn import Axes, Drawn, Layout

__all__ = [
    "STFT",
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "FanInUniform",
    "GlorotNormal",
    "GlorotUniform",
    "Hadamard",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Mirrored",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "STFTInitializer",
    "ScaledOrthogonal",
    "Sinusoidal",
    "Sparse",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "delta_orthogonal",
    "deserialize",
    "dirac",
    "fan_in_uniform",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "mirrored",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "scaled_orthogonal",
    "serialize",
    "sinusoidal",
    "sparse",
    "stft",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]


class _Scaled(Drawn, keras.initializers.VarianceScaling):  # type: ignore[misc]
    """The laws that scale by the fans and take nothing but a seed and a layout.

    Keras's EinsumDense tells its axes to initializers of Keras's class, so they are of that class, too.
    """

    keras_axes = True

    def __init__(self, seed: Any = None, input_axes: Axes = None, output_axes: Axes = None, **layout: Unpack[Layout]):
        super().__init__({}, seed, input_axes, output_axes, **layout)


_registered = keras.saving.register_keras_serializable(package="fanin")


@_registered
class GlorotNormal(_Scaled):
    """Truncated normal, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    law = "glorot_normal"


@_registered
class GlorotUniform(_Scaled):
    """Uniform, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    law = "glorot_uniform"


@_registered
class HeNormal(_Scaled):
    """Truncated normal, variance 2 / fan_in (He et al. 2015).

    Example:
        >>> import fanin
        >>> layer = keras.layers.Dense(2, kernel_initializer=HeNormal(seed=7), name="head")
        >>> layer.build((None, 3))
        >>> expected = fanin.sample("he_normal", (3, 2), seed=7, name="head/kernel")
        >>> bool(keras.ops.all(layer.kernel == expected))
        True
    """

    law = "he_normal"


@_registered
class HeUniform(_Scaled):
    """Uniform, variance 2 / fan_in (He et al. 2015)."""

    law = "he_uniform"


@_registered
class LecunNormal(_Scaled):
    """Truncated normal, variance 1 / fan_in (LeCun et al. 1998)."""

    law = "lecun_normal"


@_registered
class LecunUniform(_Scaled):
    """Uniform, variance 1 / fan_in (LeCun et al. 1998)."""

    law = "lecun_uniform"


@_registered
class FanInUniform(_Scaled):
    """Uniform within 1 / sqrt(fan_in): what PyTorch's Linear and Conv start with."""

    law = "fan_in_uniform"


@_registered
class RandomNormal(Drawn):
    """Normal, `stddev` a standard deviation whatever the layer."""

    law = "random_normal"

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        super().__init__({"mean": mean, "stddev": stddev}, seed)


@_registered
class TruncatedNormal(Drawn):
    """Normal cut at two `stddev`, or at any `lower` and `upper` number of them; `stddev` is that before the cut."""

    law = "truncated_normal"

    def __init__(
        self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None, *, lower: float = -2.0, upper: float = 2.0
    ):
        super().__init__({"mean": mean, "stddev": stddev, "lower": lower, "upper": upper}, seed)


@_registered
class RandomUniform(Drawn):
    """Uniform between two bounds whatever the layer."""

    law = "random_uniform"

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        super().__init__({"minval": minval, "maxval": maxval}, seed)


@_registered
class VarianceScaling(Drawn, keras.initializers.VarianceScaling):  # type: ignore[misc]
    """Variance `scale` / fan; the distributions are Keras's and ``orthogonal``, `activation` multiplies by its gain."""

    law, keras_axes = "variance_scaling", True

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
        *,
        activation: str | None = None,
        **layout: Unpack[Layout],
    ):
        distribution = distribution.lower() if isinstance(distribution, str) else distribution
        params = {
            "scale": scale,
            "mode": mode,
            # In Keras, unlike in JAX and PyTorch, a normal that is not said to be untruncated is truncated.
            "distribution": "truncated_normal" if distribution == "normal" else distribution,
            "activation": activation,
        }
        try:
            super().__init__(params, seed, input_axes, output_axes, **layout)
        except InvalidValueError as error:
            raise _in_keras_words(error) from None


def _in_keras_words(error: InvalidValueError) -> InvalidValueError:
    """The error with the beginning that Keras's own has, for those who look for it."""
    words = {"scale": "Argument `scale` must be positive float"}
    words |= {name: f"Invalid `{name}` argument: it is none of the known" for name in ("mode", "distribution")}
    what = next((text for name, text in words.items() if f"parameter {name} " in error.what), error.what)
    return InvalidValueError(what, given=error.given, allowed=error.allowed, hint=error.hint)


@_registered
class Orthogonal(Drawn):
    """Orthonormal rows or columns (Haar), times `gain`; with ``gates=4`` one matrix for each gate of an LSTM."""

    law = "orthogonal"

    def __init__(self, gain: float = 1.0, seed: Any = None, **layout: Unpack[Layout]):
        super().__init__({"gain": gain}, seed, **layout)


class _AtCentre(Drawn):
    """The laws with a gain and a place in the middle of the kernel."""

    def __init__(self, gain: float = 1.0, seed: Any = None, *, centre: str = "lower", **layout: Unpack[Layout]):
        super().__init__({"gain": gain, "centre": centre}, seed, **layout)


@_registered
class ScaledOrthogonal(_AtCentre):
    """Orthogonal at the kernel's centre, times max(1, sqrt(units / inputs)) (Martens et al. 2021)."""

    law = "scaled_orthogonal"


@_registered
class DeltaOrthogonal(_AtCentre):
    """Orthonormal rows at the kernel's centre, zeros beside it (Xiao et al. 2018)."""

    law = "delta_orthogonal"


@_registered
class Dirac(_AtCentre):
    """A diagonal at the kernel's centre: a convolution that passes its input on."""

    law = "dirac"


@_registered
class Hadamard(_AtCentre):
    """Ones and zeros; where a layer widens, part of a Hadamard matrix (ZerO, Zhao et al. 2022)."""

    law = "hadamard"


@_registered
class Mirrored(Drawn):
    """Orthogonal blocks and their negatives: a ReLU network that starts as a linear one (Balduzzi et al. 2017)."""

    law = "mirrored"

    def __init__(self, gain: float = 1.0, sides: str = "both", seed: Any = None, **layout: Unpack[Layout]):
        super().__init__({"gain": gain, "sides": sides}, seed, **layout)


@_registered
class Sinusoidal(Drawn):
    """A sine wave of its own for each unit (Fernandez-Hernandez et al. 2025); no randomness."""

    law = "sinusoidal"

    def __init__(self, scale: float = 1.0, mode: str = "fan_avg", seed: Any = None, **layout: Unpack[Layout]):
        super().__init__({"scale": scale, "mode": mode}, seed, **layout)


@_registered
class Sparse(Drawn):
    """Normal, but only a share 1 - `sparsity` of each unit's inputs is connected (Martens 2010)."""

    law = "sparse"

    def __init__(self, sparsity: float = 0.9, stddev: float = 0.01, seed: Any = None, **layout: Unpack[Layout]):
        super().__init__({"sparsity": sparsity, "stddev": stddev}, seed, **layout)


@_registered
class STFT(keras.initializers.STFT):  # type: ignore[misc]
    """Short-time Fourier transform as a kernel; Keras's own, but computed in float32 whatever the type."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """The kernel, rounded once."""
        return keras.ops.cast(super().__call__(shape, "float32"), keras.backend.standardize_dtype(dtype))


OrthogonalInitializer = Orthogonal
STFTInitializer = STFT
constant = Constant
delta_orthogonal = DeltaOrthogonal
dirac = Dirac
fan_in_uniform = FanInUniform
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
hadamard = Hadamard
he_normal = HeNormal
he_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
mirrored = Mirrored
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
scaled_orthogonal = ScaledOrthogonal
sinusoidal = Sinusoidal
sparse = Sparse
stft = STFT
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

_CLASSES = {entry.class_name: globals()[entry.class_name] for entry in INITIALIZERS.values()}
_SPELLINGS = {
    spelling: _CLASSES[entry.class_name]
    for entry in INITIALIZERS.values()
    for spelling in (entry.name, entry.class_name, f"{entry.class_name}Initializer", *entry.aliases)
}


def serialize(initializer: Any) -> dict[str, Any]:
    """The config of an initializer, as Keras writes it into a model."""
    return keras.saving.serialize_keras_object(initializer)  # type: ignore[no-any-return]


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The inverse of `serialize`. A config without a module means the class here, also under Keras's name."""
    name = str(config.get("class_name", "")).removeprefix("fanin>")
    registered, module = config.get("registered_name"), config.get("module")
    ours = module is None if registered in (None, name) else registered == f"fanin>{name}"
    if not ours or name in (custom_objects or {}) or name not in _SPELLINGS:
        return keras.initializers.deserialize(config, custom_objects)
    return _SPELLINGS[name].from_config(dict(config.get("config") or {}))


def get(identifier: Any) -> Any:
    """An initializer from a name, a config, a class, a function or an array, as ``keras.initializers.get``.

    Example:
        >>> get("he_normal").get_config()
        {'input_axes': None, 'output_axes': None, 'seed': None}
    """
    if isinstance(identifier, str):
        if identifier not in _SPELLINGS:
            raise unknown_name("initializer", identifier, _SPELLINGS)
        return _SPELLINGS[identifier]()
    if isinstance(identifier, dict):
        return deserialize(identifier)
    return keras.initializers.get(identifier)
