"""From an initializer and a described parameter to its values, whole or any rectangular part."""

import math
import operator
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError
from fanin.initializers.fans import Fans, axes_of, axes_of_shape, canonical_order, fans_of
from fanin.initializers.fills import fill_box
from fanin.initializers.laws import Draw, Independent
from fanin.initializers.specs import canonical, decide
from fanin.initializers.streams import check_seed
from fanin.initializers.structures import build, check
from fanin.records import Axis, Init, ParamInfo

__all__ = ["boxes", "check_fit", "draw_law", "draw_param", "gate_factors", "law_of", "layout", "sample"]

Floats = NDArray[np.float32]
Index = Sequence[slice]
"""A rectangular part: one slice for each axis, with steps of 1."""


def draw_param(param: ParamInfo, init: Init, seed: int, part: Index | None = None) -> Floats:
    """The values of a described parameter in its framework's own layout.

    Args:
        param: Its named axes give the fans and the canonical layout, its path the stream.
        init: The initializer.
        seed: 0 to 2**64 - 1.
        part: Only this part of the parameter, for a shard. Laws with independent elements draw nothing else.

    Raises:
        InvalidValueError: If the initializer does not fit the parameter.
    """
    return draw_law(param, decide(init, fans_of(param)), seed, part)


def draw_law(param: ParamInfo, draw: Draw, seed: int, part: Index | None = None) -> Floats:
    """`draw_param` for a law that is decided already."""
    named = axes_of(param)
    order = canonical_order(named)
    cuts = [slice(0, size) for size in param.shape] if part is None else part
    edges = [cut.indices(size)[:2] for cut, size in zip(cuts, param.shape, strict=True)]
    shape = tuple(param.shape[i] for i in order)
    if isinstance(draw, Independent):
        array = np.empty([max(0, high - low) for low, high in edges], np.float32)
        corner = [edges[i][0] for i in order]
        fill_box(array.transpose(order), draw, seed=seed, name=param.path, shape=shape, corner=corner)
        return array
    axes = [named[i] for i in order]
    whole = build(draw, shape, axes, param.gates * param.groups, seed, param.path).transpose(np.argsort(order))
    # Not ascontiguousarray, which would give a scalar an axis.
    return np.asarray(whole[tuple(slice(low, high) for low, high in edges)], order="C")


def law_of(param: ParamInfo, init: Init) -> Draw:
    """What an initializer draws for a described parameter.

    Raises:
        InvalidValueError: If it means nothing on this parameter; the message begins with the parameter's path.

    Example:
        >>> law_of(ParamInfo("w", (3, 2), "float32", ("in", "out"), "dense"), Init("zeros"))
        Constant(value=0.0)
    """
    try:
        law = decide(init, fans_of(param))
        # A law that would be another with other fans needs them, and what is no weight has none.
        if not param.axes and law != decide(init, Fans(7, 11)):
            raise InvalidValueError(
                f"{init.name} needs fan-in and fan-out", given=f"shape {param.shape}",
                allowed="zeros, ones, constant, random_normal, random_uniform or truncated_normal",
            )  # fmt: skip
        check_fit(param, law)
    except InvalidValueError as error:
        raise InvalidValueError(
            f"{param.path}: {error.what}", given=error.given, allowed=error.allowed, hint=error.hint
        ) from None
    return law


def gate_factors(param: ParamInfo, scales: Sequence[float]) -> Floats:
    """The factor of each entry, one for each gate, in a shape that spreads over the parameter's.

    Args:
        param: Its gates lie side by side in the `out` axes, read as one.
        scales: As in `fanin.records.PlanEntry`; none at all for factors of 1.

    Raises:
        InvalidValueError: If there is not one for each gate.

    Example:
        >>> bias = ParamInfo("b", (8,), "float32", ("out",), "bias", gates=4)
        >>> gate_factors(bias, (0.0, 1.0, 0.0, 0.0)).tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    if scales and len(scales) != param.gates:
        raise InvalidValueError(
            f"{param.path}: there is not one factor for each gate", given=scales, allowed=f"{param.gates} numbers"
        )
    if len(set(scales)) < 2:
        return np.full((1,) * len(param.shape), scales[0] if scales else 1.0, np.float32)
    sizes = [size if axis == "out" else 1 for size, axis in zip(param.shape, axes_of(param), strict=True)]
    return np.repeat(np.asarray(scales, np.float32), math.prod(sizes) // len(scales)).reshape(sizes)


def check_fit(param: ParamInfo, draw: Draw) -> None:
    """Refuse a law that means nothing on this parameter's shape, before anything is drawn.

    Raises:
        InvalidValueError: If it does not fit.
    """
    if not isinstance(draw, Independent):
        axes = axes_of(param)
        order = canonical_order(axes)
        check(draw, [param.shape[i] for i in order], [axes[i] for i in order], param.shape)


def boxes(shape: Sequence[int], limit: int) -> Iterator[tuple[slice, ...]]:
    """Rectangular parts of at most `limit` elements that make up an array, cut along its first axes.

    Example:
        >>> [tuple((cut.start, cut.stop) for cut in part) for part in boxes((3, 2), 4)]
        [((0, 2), (0, 2)), ((2, 3), (0, 2))]
    """
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    rest = tuple(slice(0, size) for size in shape[1:])
    step = max(1, limit // max(1, inner))
    for low in range(0, shape[0], step):
        outer = slice(low, min(low + step, shape[0]))
        if inner > limit:
            yield from ((outer, *part) for part in boxes(shape[1:], limit))
        else:
            yield (outer, *rest)


def sample(
    init: str | Init,
    shape: Sequence[int],
    *,
    seed: int,
    name: str = "weight",
    axes: Sequence[Axis] | None = None,
    gates: int = 1,
    groups: int = 1,
) -> Floats:
    """Draw a weight.

    Args:
        init: An initializer, its name or its text.
        shape: The sizes of the axes, in the canonical layout (spatial..., in, out) unless `axes` says otherwise.
        seed: 0 to 2**64 - 1. The same seed, name and shape give the same bits always and everywhere.
        name: Another name gives independent numbers under the same seed.
        axes: What each axis means: ``spatial``, ``batch``, ``in`` or ``out``.
        gates: How many weights lie side by side in the `out` axes, read as one (4 in an LSTM, 3 in packed attention).
        groups: How many groups a convolution has; its `in` axis is that of one group.

    Returns:
        A float32 array of this shape.

    Raises:
        UnknownNameError, InvalidValueError: If the initializer, the shape or the seed cannot be.

    Example:
        >>> sample("glorot_uniform", (3, 2), seed=0).shape
        (3, 2)
        >>> recurrent = sample("orthogonal", (5, 20), seed=0, gates=4)  # an LSTM of 5 units
        >>> bool(np.allclose(recurrent[:, 5:10].T @ recurrent[:, 5:10], np.eye(5), atol=1e-6))
        True
    """
    seed = check_seed(seed)
    if not isinstance(name, str):
        raise InvalidValueError("The name is no text", given=name)
    sizes = list(shape) if isinstance(shape, Iterable) else []
    if not isinstance(shape, Iterable) or any(not hasattr(size, "__index__") or size < 1 for size in sizes):
        raise InvalidValueError("The shape is no shape", given=shape, allowed="whole numbers of 1 or more")
    shape = tuple(operator.index(size) for size in sizes)
    param = ParamInfo(name, shape, "float32", layout(shape, axes, gates, groups), "dense", gates, groups)
    return draw_param(param, canonical(init), seed)


def layout(shape: Sequence[int], axes: Sequence[Axis] | None, gates: int, groups: int) -> tuple[Axis, ...]:
    """The axes of a weight, checked against its shape; those of the canonical layout where none are given."""
    named = axes_of_shape(shape) if axes is None else tuple(axes) if isinstance(axes, Iterable) else (axes,)
    if len(named) != len(shape) or not set(named) <= {"spatial", "batch", "in", "out"}:
        raise InvalidValueError(
            "The axes do not name those of the shape",
            given=f"axes {tuple(named)} for the shape {tuple(shape)}",
            allowed="one of spatial, batch, in, out for each axis",
        )
    units = math.prod(size for size, axis in zip(shape, named, strict=True) if axis == "out")
    for kind, count, others in (("gates", gates, 1), ("groups", groups, gates)):
        if not hasattr(count, "__index__") or count < 1 or units % (count * others):
            raise InvalidValueError(
                f"The {kind} do not fit this shape", given=count, allowed=f"whole numbers that divide {units} units"
            )
    return named
