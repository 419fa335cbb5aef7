"""`jax.nn.initializers` with fanin's draws: the same factories, and the laws that it lacks.

Each factory returns ``init(key, shape, dtype, out_sharding)``. Besides JAX's parameters it takes ``name``
(the stream; the key alone tells parameters apart in Flax), ``gates`` and ``groups`` (blocks packed side by
side in the out axes). The key is reduced to the 64-bit seed: ``jax.random.key(7)`` is the seed 7 of
``fanin.sample``.

With a concrete key the weights are drawn on the host, and with `out_sharding` each device's part alone.
Under `jit` and `vmap` the same host code is called back, so the bits are the same there.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, constant, ones, zeros
from jax.sharding import NamedSharding, PartitionSpec

from fanin.errors import InvalidValueError, unknown_name
from fanin.initializers import INITIALIZERS, canonical, decide, draw_param
from fanin.initializers.draws import layout
from fanin.initializers.fans import fans_of
from fanin.records import Axis, Init, ParamInfo

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "dirac",
    "fan_in_uniform",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "identity",
    "initializer",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "mirrored",
    "normal",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "scaled_orthogonal",
    "sinusoidal",
    "sparse",
    "stft",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Axes = int | Sequence[int]


def initializer(
    init: str | Init,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
    *,
    name: str = "weight",
    gates: int = 1,
    groups: int = 1,
) -> Initializer:
    """Any initializer of fanin's table, as JAX wants it.

    Args:
        init: Its name, its text or an `Init`.
        in_axis, out_axis, batch_axis: As in ``jax.nn.initializers.variance_scaling``; other axes are spatial.
        dtype: The type where the call names none.
        name: The stream.
        gates, groups: Blocks packed side by side in the out axes.

    Example:
        >>> weights = initializer("variance_scaling(activation='gelu')")(jax.random.key(7), (3, 2))
        >>> import fanin
        >>> bool((weights == fanin.sample("variance_scaling(activation='gelu')", (3, 2), seed=7)).all())
        True
    """
    return _make(canonical(init), (in_axis, out_axis, batch_axis), dtype, name, gates, groups)


def _make(
    law: Init, axes: tuple[Axes, Axes, Axes], dtype: Any, name: str, gates: int = 1, groups: int = 1, ndim: int = 0
) -> Initializer:
    default = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = default, out_sharding: Any = None) -> jax.Array:
        """An array drawn with a key, called as JAX calls its initializers."""
        shape = tuple(int(size) for size in shape)
        kind = _dtype(dtype)
        named = _named_axes(shape, *axes)
        if len(shape) < ndim:
            raise InvalidValueError(f"{law.name} does not fit this shape", given=shape, allowed=f"{ndim} axes or more")
        if 0 in shape:
            return jnp.zeros(shape, kind)
        param = ParamInfo(name, shape, str(kind), layout(shape, named, gates, groups), "dense", gates, groups)
        decide(law, fans_of(param))  # so that a mistake is told here, not from inside a callback
        data = _key_data(key)

        def draw(words: Any, part: Sequence[slice] | None = None) -> np.ndarray[Any, Any]:
            return draw_param(param, law, _seed(np.asarray(words)), part).astype(kind)

        if not isinstance(data, jax.core.Tracer):
            if out_sharding is None:
                return jnp.asarray(draw(data))
            return jax.make_array_from_callback(shape, _sharding(out_sharding), lambda part: draw(data, part))
        result = jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, kind), data, vmap_method="sequential")
        return result if out_sharding is None else jax.sharding.reshard(result, out_sharding)

    return init


def _dtype(dtype: Any) -> np.dtype[Any]:
    kind = jnp.result_type(float) if dtype is None else jax.dtypes.canonicalize_dtype(dtype)
    if not jnp.issubdtype(kind, jnp.floating):
        raise InvalidValueError("Weights of this type cannot be drawn", given=str(kind), allowed="a real floating type")
    weights: np.dtype[Any] = np.dtype(kind)
    return weights


def _named_axes(shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[Axis, ...]:
    named: list[Axis] = ["spatial"] * len(shape)
    kinds: tuple[tuple[Axis, Axes], ...] = (("in", in_axis), ("out", out_axis), ("batch", batch_axis))
    for kind, positions in kinds:
        for position in (positions,) if isinstance(positions, int) else positions:
            if -len(shape) <= position < len(shape):
                named[position] = kind
            elif len(shape) > 1 or position not in (-2, -1):  # a vector has an out axis alone, a scalar none
                raise InvalidValueError(
                    f"The {kind} axis is not one of the shape's", given=position, allowed=f"{shape}"
                )
    return tuple(named)


def _key_data(key: Any) -> Any:
    """The words of one key, typed or raw."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = jax.random.key_data(key) if typed else key
    if getattr(data, "ndim", None) != 1 or data.dtype != jnp.uint32:
        given = f"{getattr(key, 'dtype', type(key).__name__)}{list(getattr(key, 'shape', ()))}"
        raise InvalidValueError("The key is not one key", given=given, allowed="jax.random.key(seed)")
    return data


def _seed(words: np.ndarray[Any, Any]) -> int:
    """64 bits of a key: its two words, or a hash of more."""
    if words.size == 2:
        return int(words[0]) << 32 | int(words[1])
    digest = hashlib.blake2b(words.astype("<u4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _sharding(given: Any) -> Any:
    if isinstance(given, PartitionSpec):
        return NamedSharding(jax.sharding.get_mesh(), given)
    return given


def _positive(value: Any, what: str) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__") or not math.isfinite(float(value)):
        raise InvalidValueError(f"The {what} is not a finite number", given=value)
    return float(value)


def uniform(scale: float = 1e-2, dtype: Any = None, *, name: str = "weight") -> Initializer:
    """Uniform from 0 to `scale`."""
    return _make(canonical(Init("random_uniform", minval=0.0, maxval=_positive(scale, "scale"))), _ANY, dtype, name)


def normal(stddev: float = 1e-2, dtype: Any = None, *, name: str = "weight") -> Initializer:
    """Normal with mean 0 and this standard deviation."""
    return _make(canonical(Init("random_normal", stddev=_positive(stddev, "stddev"))), _ANY, dtype, name)


def truncated_normal(
    stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0, *, name: str = "weight"
) -> Initializer:
    """Normal cut at `lower` and `upper` standard deviations; `stddev` is that before the cut."""
    law = Init("truncated_normal", stddev=_positive(stddev, "stddev"), lower=float(lower), upper=float(upper))
    return _make(canonical(law), _ANY, dtype, name)


_ANY: tuple[Axes, Axes, Axes] = (-2, -1, ())
_DISTRIBUTIONS = {"normal": "untruncated_normal"}
"""JAX's `normal` is not cut, Keras's of the same name is."""


def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
    *,
    name: str = "weight",
    gates: int = 1,
    groups: int = 1,
) -> Initializer:
    """Variance ``scale / fan``; `mode` and `distribution` are JAX's, and ``orthogonal``.

    Raises:
        InvalidValueError: If the scale, the mode or the distribution is not allowed, or the shape has one axis.
    """
    law = Init(
        "variance_scaling",
        scale=_positive(scale, "scale"),
        mode=mode,
        distribution=_DISTRIBUTIONS.get(distribution, distribution),
    )
    return _make(canonical(law), (in_axis, out_axis, batch_axis), dtype, name, gates, groups, ndim=2)


def orthogonal(
    scale: float = 1.0, column_axis: int = -1, dtype: Any = None, *, name: str = "weight", gates: int = 1
) -> Initializer:
    """Orthonormal rows or columns (Haar), times `scale`; one matrix for each gate."""
    law = canonical(Init("orthogonal", gain=_positive(scale, "scale")))
    return _around(law, column_axis, dtype, name, gates, spatial=False)


def delta_orthogonal(
    scale: float = 1.0, column_axis: int = -1, dtype: Any = None, *, name: str = "weight"
) -> Initializer:
    """Orthonormal rows at the kernel's centre, zeros beside it; three to five axes, no more inputs than units."""
    law = canonical(Init("delta_orthogonal", gain=_positive(scale, "scale")))
    return _around(law, column_axis, dtype, name, 1, spatial=True)


def _around(law: Init, column_axis: int, dtype: Any, name: str, gates: int, *, spatial: bool) -> Initializer:
    """A law about one column axis, whose other axes are rows, or positions of a kernel up to the last two."""
    default = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = default, out_sharding: Any = None) -> jax.Array:
        if len(shape) < 2 or (spatial and not 3 <= len(shape) <= 5):
            allowed = "3, 4 or 5 axes" if spatial else "two axes or more"
            raise InvalidValueError(f"{law.name} does not fit this shape", given=tuple(shape), allowed=allowed)
        if not -len(shape) <= column_axis < len(shape):
            raise InvalidValueError("The column axis is none of the shape's", given=column_axis, allowed=f"{shape}")
        out = column_axis % len(shape)
        rows = [axis for axis in range(len(shape)) if axis != out and (not spatial or axis >= len(shape) - 2)]
        return _make(law, (rows, out, ()), dtype, name, gates)(key, shape, dtype, out_sharding)

    return init


def _named(name: str) -> Callable[..., Initializer]:
    """A factory for one entry of the table; its parameters and JAX's axes are taken by keyword."""
    entry = INITIALIZERS[name]

    def factory(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, **given: Any) -> Any:
        params = {key: given.pop(key) for key in entry.parameters if key in given}
        ndim = 2 if not entry.parameters else 0  # fixed laws are those that scale by the fans
        law, stream = canonical(Init(name, **params)), given.pop("name", "weight")
        for key in given:
            if key not in ("gates", "groups"):
                known = {*entry.parameters, "in_axis", "out_axis", "batch_axis", "dtype", "name", "gates", "groups"}
                raise unknown_name(f"parameter of {name}", key, known)
        return _make(law, (in_axis, out_axis, batch_axis), dtype, stream, ndim=ndim, **given)

    factory.__name__ = factory.__qualname__ = name
    parameters = ", ".join(entry.parameters) or "none"
    factory.__doc__ = f"{entry.summary}\n\nSource: {entry.source}. Parameters: {parameters}."
    return factory


dirac = _named("dirac")
fan_in_uniform = _named("fan_in_uniform")
glorot_normal = xavier_normal = _named("glorot_normal")
glorot_uniform = xavier_uniform = _named("glorot_uniform")
hadamard = _named("hadamard")
he_normal = kaiming_normal = _named("he_normal")
he_uniform = kaiming_uniform = _named("he_uniform")
identity = _named("identity")
lecun_normal = _named("lecun_normal")
lecun_uniform = _named("lecun_uniform")
mirrored = _named("mirrored")
random_normal = _named("random_normal")
random_uniform = _named("random_uniform")
scaled_orthogonal = _named("scaled_orthogonal")
sinusoidal = _named("sinusoidal")
sparse = _named("sparse")
stft = _named("stft")
