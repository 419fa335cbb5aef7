"""The way from an initializer of `fanin.keras` to a tensor on Keras's backend."""

import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict, Unpack

import keras
import numpy as np
from keras.initializers import Initializer
from keras.src.backend.common.name_scope import current_path

from fanin.errors import InvalidValueError, unknown_name
from fanin.initializers import INITIALIZERS, Fans, canonical, decide
from fanin.initializers.draws import draw_law
from fanin.initializers.draws import layout as checked_layout
from fanin.initializers.fans import fans_of
from fanin.initializers.streams import check_seed
from fanin.records import Axis, Init, ParamInfo

__all__ = ["Axes", "Drawn", "Layout"]

Axes = Sequence[int] | None
Named = Sequence[Axis] | None


class Layout(TypedDict, total=False):
    """What Keras's convention (..., in, out) does not tell of a shape; as in ``fanin.sample``."""

    axes: Named
    gates: int
    groups: int


class Drawn(Initializer):  # type: ignore[misc]
    """What all initializers here share: a law of fanin's table, a seed and a layout.

    Args:
        params: The parameters of the law by their name in the table.
        seed: An integer, a ``keras.random.SeedGenerator`` or None, as in Keras.
        input_axes, output_axes: As in Keras: the positions that count into fan-in and fan-out, all others in neither.
        **layout: As in ``fanin.sample``.
    """

    law: ClassVar[str]
    keras_axes: ClassVar[bool] = False
    """Whether Keras's class has ``input_axes`` and ``output_axes``."""

    def __init__(
        self,
        params: Mapping[str, Any],
        seed: Any,
        input_axes: Axes = None,
        output_axes: Axes = None,
        **layout: Unpack[Layout],
    ):
        canonical(Init(self.law, **params))
        for key in layout:
            if key not in Layout.__annotations__:
                raise unknown_name(f"keyword of {type(self).__name__}", key, Layout.__annotations__)
        self._init_seed = seed
        if seed is None:
            # Python's generator is the one that keras.utils.set_random_seed seeds for Keras's initializers.
            seed = random.getrandbits(63)
        elif isinstance(seed, dict):
            seed = keras.saving.deserialize_keras_object(seed)
        elif not isinstance(seed, keras.random.SeedGenerator):
            seed = check_seed(seed)
        for name, value in params.items():
            setattr(self, name, value)
        self.seed = seed
        self.input_axes, self.output_axes = input_axes, output_axes
        self.axes = layout.get("axes")
        self.gates, self.groups = layout.get("gates", 1), layout.get("groups", 1)

    def _params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in INITIALIZERS[self.law].parameters if hasattr(self, name)}

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Draw a tensor of this shape and type on Keras's backend."""
        shape = tuple(int(size) for size in shape)
        kind = keras.backend.standardize_dtype(dtype)
        if "float" not in kind:
            raise InvalidValueError(
                f"{type(self).__name__} cannot draw this type", given=kind, allowed="a real floating type"
            )
        if 0 in shape:
            return keras.ops.zeros(shape, kind)
        axes = checked_layout(shape, self.axes or self._keras_axes(len(shape)), self.gates, self.groups)
        param = ParamInfo(_variable_path(), shape, kind, axes, "dense", self.gates, self.groups)
        # Keras counts the length of a vector as both of its fans.
        fans = Fans(*shape, *shape) if len(shape) == 1 and self.axes is None else fans_of(param)
        array = draw_law(param, decide(Init(self.law, **self._params()), fans), self._seed())
        return keras.ops.cast(keras.ops.convert_to_tensor(array), kind)

    def _keras_axes(self, count: int) -> Named:
        if self.input_axes is None or self.output_axes is None:
            return None
        axes: list[Axis] = ["batch"] * count
        kinds: tuple[tuple[Axis, Sequence[int]], ...] = (("in", self.input_axes), ("out", self.output_axes))
        for kind, positions in kinds:
            for position in positions:
                if not -count <= position < count:
                    raise InvalidValueError(
                        f"The {kind}put axis is none of the shape's", given=position, allowed=f"{count} axes"
                    )
                axes[position] = kind
        return axes

    def _seed(self) -> int:
        if not isinstance(self.seed, keras.random.SeedGenerator):
            return int(self.seed)
        try:
            high, low = (int(word) for word in np.asarray(keras.ops.convert_to_numpy(self.seed.next())).ravel())
        except Exception as error:  # each backend has an error of its own for a value that is not there yet
            raise InvalidValueError(
                "A SeedGenerator cannot be read while a function is being compiled",
                given=type(error).__name__,
                hint="Build the layer before compiling, or give an integer as the seed.",
            ) from None
        return (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; where only Keras's parameters are used, exactly what Keras writes."""
        extra = {
            "axes": None if self.axes is None else list(self.axes),
            "gates": self.gates,
            "groups": self.groups,
        }
        table = INITIALIZERS[self.law].parameters
        params = {
            name: value for name, value in self._params().items() if table[name].shared or value != table[name].default
        }
        return {
            **params,
            **({"input_axes": self.input_axes, "output_axes": self.output_axes} if self.keras_axes else {}),
            "seed": keras.saving.serialize_keras_object(self._init_seed),
            **{key: value for key, value in extra.items() if value not in (None, 1)},
        }


def _variable_path() -> str:
    """The path of the variable that is being created, or of the scope, or ``weight`` outside of both.

    Keras hands an initializer a shape and a type, not the variable; it is found on the stack, where it waits
    for its value. The scope alone would give a layer's kernel and recurrent kernel the same stream.
    """
    frame = sys._getframe(2)
    for _ in range(8):
        found = frame.f_locals.get("self") if frame is not None else None
        if isinstance(found, keras.Variable):
            return str(found.path)
        if frame is None or frame.f_back is None:
            break
        frame = frame.f_back
    return str(current_path() or "weight")
