"""What recorded calls mean in the words of `fanin.records.OPS`, one at a time, in executed order."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fanin.records import Axis
from fanin.torch.record import Call, Value, argument, values_in
from fanin.torch.replay import number_of

__all__ = ["MOVES", "POINTWISE", "Read", "Reader", "Reading", "Slot", "Source"]

MOVES = frozenset((
    "view", "reshape", "view_as", "reshape_as", "permute", "transpose", "t", "T", "mT", "H", "mH", "adjoint",
    "movedim", "moveaxis", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze", "expand", "expand_as",
    "broadcast_to", "repeat", "repeat_interleave", "tile", "chunk", "split",
    "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind", "getitem", "select", "narrow", "slice",
    "take", "gather", "take_along_dim", "index_select", "masked_select", "index", "topk", "sort", "roll", "flip",
    "fliplr", "flipud", "rot90", "diagonal", "diag", "tril", "triu", "contiguous", "clone", "detach", "data", "alias",
    "to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "requires_grad", "positive",
    "real", "view_as_complex", "view_as_real", "conj", "resolve_conj", "pad", "constant_pad_nd", "unfold", "im2col",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "interpolate", "upsample", "grid_sample", "as_strided",
    "atleast_1d", "atleast_2d", "atleast_3d", "identity", "result", "__deepcopy__",
))  # fmt: skip
"""Functions that give the values of their first tensor in other places or of another precision."""
POINTWISE = frozenset((
    "relu", "relu6", "leaky_relu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "tanhshrink", "hardtanh", "sigmoid", "hardsigmoid", "hardswish", "hardshrink", "softshrink", "log_sigmoid",
    "logsigmoid", "threshold", "erf", "erfc", "erfinv", "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan",
    "asinh", "acosh", "atanh", "sinc", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logit", "sqrt",
    "rsqrt", "square", "pow", "rpow", "abs", "neg", "reciprocal", "rdiv", "sign", "sgn", "clamp", "clamp_min",
    "clamp_max", "floor", "ceil", "round", "trunc", "frac", "add", "sub", "rsub", "mul", "div", "where", "masked_fill",
    "maximum", "minimum", "max", "min", "gt", "lt", "ge", "le", "eq", "ne", "logical_not", "logical_and", "logical_or",
    "heaviside", "nan_to_num", "xlogy", "fmod", "remainder", "atan2", "logaddexp",
))  # fmt: skip
"""Functions that work element by element; those of two tensors are chains only where both come from one."""
_MASKING = MOVES | {"add", "sub", "rsub", "mul", "where", "masked_fill", "clamp", "gt", "lt", "ge", "le", "eq", "ne"}


@dataclass(frozen=True)
class Source:
    """The parameter that a weight comes from.

    Attributes:
        scale: By what number the model multiplies it at each call.
        moves: The calls that turn it, the last one first; each takes one value that comes from the parameter.
        magnitude: The parameter that holds its lengths (weight normalisation).
        normalised: Whether the model takes its scale out again.
    """

    param: Value
    scale: float = 1.0
    moves: tuple[tuple[Call, Value], ...] = ()
    magnitude: Value | None = None
    normalised: bool = False


@dataclass(frozen=True)
class Slot:
    """A parameter in the place of a weight: what each axis of the tensor that stands there means."""

    value: Value
    source: Source
    labels: tuple[Axis, ...]
    role: str
    groups: int = 1


@dataclass(eq=False)
class Reading:
    """What one value is: the kind of step that made it, with what that takes.

    Attributes:
        root: For a chain of functions of each element: what the chain begins with.
        slot: For a weight or a lookup.
        note: What the user should know if the step matters.
    """

    kind: str
    inputs: list[Value] = field(default_factory=list)
    params: list[Value] = field(default_factory=list)
    name: str = ""
    value: float = 1.0
    root: Value | None = None
    slot: Slot | None = None
    note: str = ""


Read = Callable[["Reader", Value, Call], Reading | None]
"""How one value is read, given the call that made it; None for not understood."""


class Reader:
    """Reads values one after the other; each one's makers have to be read before.

    Args:
        table: From the canonical names of functions to how they are read.
    """

    def __init__(self, table: dict[str, Read]):
        self.readings: dict[Value, Reading] = {}
        self._table = table
        self._constants: dict[Value, Value] = {}

    def read(self, value: Value) -> Reading:
        """What a value is; read once."""
        if value not in self.readings:
            self.readings[value] = self._read(value)
        return self.readings[value]

    def _read(self, value: Value) -> Reading:
        call = value.call
        if call is None:
            own = value.kind == "param"
            return Reading(value.kind, params=[value] if own else [], name="" if own else value.path)
        if value.passive and not value.signal and not value.learned:
            return Reading("constant", name=call.name)
        found = self._chain(value, call) if call.name in POINTWISE else None
        if found is None:
            found = _move(self, value, call) if call.name in MOVES else None
        if found is None and call.name in self._table:
            found = self._table[call.name](self, value, call)
        if found is not None:
            return found
        return Reading("constant", name=call.name) if value.passive and not value.learned else _others(value, call)

    def _chain(self, value: Value, call: Call) -> Reading | None:
        """A function of each element of one value, seen through those that came before."""
        taken = [each for each in values_in([call.args, call.kwargs]) if number_of(each) is None]
        roots = {self.root(each) for each in taken}
        if len(roots) != 1 or next(iter(roots)).shape != value.shape or len(call.results) > 1:
            return None
        (root,) = roots
        return Reading("activation", [root], root=root)

    def root(self, value: Value) -> Value:
        """What a chain of functions of each element begins with; the value itself where it is no chain."""
        return self.readings[value].root or value if value in self.readings else value

    def constant(self, value: Value) -> Value:
        """A value that carries no signal, as one whose making does not matter."""
        if value.call is None and value.kind == "constant":
            return value
        if value not in self._constants:
            made = Value(value.index - 0.5, "constant", value.shape, value.floating, place=value.place, twin=value)
            self._constants[value] = made
            self.readings[made] = Reading("constant", name=value.call.name if value.call is not None else value.path)
        return self._constants[value]

    def scaled(self, value: Value, reading: Reading, factor: float) -> Reading:
        """The reading of a value that is `factor` times what `reading` says."""
        if factor == 1:
            return reading
        made = self._before(value, 0.25, reading)
        made.twin, made.multiple = value, 1 / factor if factor else 0.0
        return Reading("scale", [made], value=factor)

    def _before(self, value: Value, earlier: float, reading: Reading) -> Value:
        """A value that stands between a call and what it takes, and has no tensor."""
        made = Value(value.index - earlier, "step", value.shape, value.floating, place=value.place, call=value.call,
                     signal=value.signal, learned=value.learned, passive=False)  # fmt: skip
        self.readings[made] = reading
        return made

    # --------------------------------------------------------------------------------------------- weights
    def source(self, value: Value | None) -> Source | None:
        """The parameter that a value is, turned, scaled or normalised; None if it is anything else."""
        scale, normalised, magnitude = 1.0, False, None
        moves: list[tuple[Call, Value]] = []
        while value is not None and value.learned and not value.signal:
            if value.kind == "param":
                return Source(value, scale, tuple(moves), magnitude, normalised)
            call, reading = value.call, self.read(value)
            if reading.kind == "scale" and reading.inputs[0].call is call:
                reading = self.readings[reading.inputs[0]]
            if call is None:
                return None
            following = None
            if call.name == "_weight_norm":
                following, magnitude = call.args[0], call.args[1]
            elif reading.kind == "norm":
                following, normalised = reading.inputs[0], True
            elif call.name in ("mul", "div"):
                following, factor, spectral = _scaled_by(call)
                scale, normalised = scale * factor, normalised or spectral
            elif call.name in MOVES:
                following = next((each for each in values_in([call.args, call.kwargs]) if each.learned), None)
                moves.append((call, value))
            value = following
        return None

    def weight(
        self,
        value: Value,
        inputs: list[Value],
        slot: Value,
        labels: tuple[Axis, ...],
        role: str = "dense",
        *,
        groups: int = 1,
        bias: Value | None = None,
        times: float = 1.0,
    ) -> Reading | None:
        """The reading of a product with a parameter; None if what stands there is no parameter."""
        source = self.source(slot)
        if source is None:
            return None
        shift = self.source(bias)
        params = [source.param, *([shift.param] if shift is not None else [])]
        reading = Reading("weight", inputs, params, value=times)
        reading.slot = Slot(slot, source, labels, role, groups)
        if bias is not None and shift is None:
            reading.note = "A bias that is computed from something else is left out"
        if bias is None or source.scale == 1:
            return self.scaled(value, reading, source.scale)
        reading.params = [source.param]  # the bias comes after the scale
        product = self._before(value, 0.25, reading)
        scale = self._before(value, 0.125, Reading("scale", [product], value=source.scale))
        return Reading("add", [scale, bias])

    def is_mask(self, value: Value) -> bool:
        """Whether a value that carries no signal comes from truth values or whole numbers."""
        waiting, seen = [value], set()
        while waiting:
            each = waiting.pop()
            if not each.floating:
                return True
            if each not in seen and each.call is not None and each.call.name in _MASKING:
                waiting += [*values_in(each.call.args), *values_in(each.call.kwargs)]
            seen.add(each)
        return False


def _scaled_by(call: Call) -> tuple[Value | None, float, bool]:
    """The operand of a product that goes on, the number it is multiplied by, and whether that undoes its scale."""
    first, second = argument(call, 0, "input"), argument(call, 1, "other")
    turned = call.name == "mul" and not (isinstance(first, Value) and first.learned)
    main, factor = (second, first) if turned else (first, second)
    if not isinstance(main, Value):
        return None, 1.0, False
    number = number_of(factor)
    if number is not None:
        return main, number if call.name == "mul" else 1 / number, False
    if isinstance(factor, Value) and call.name == "div" and factor.size == 1 and factor.learned:
        return main, 1.0, True  # spectral normalisation
    mask = isinstance(factor, Value) and factor.passive and call.name == "mul"
    return (main if mask else None), 1.0, False


def _move(reader: Reader, value: Value, call: Call) -> Reading | None:
    """The values of the first tensor in other places; rows of a table where whole numbers choose them."""
    taken = list(values_in([call.args, call.kwargs]))
    if not taken:
        return None
    main, *rest = taken
    if call.name == "grid_sample" and any(not each.passive for each in rest):
        return _others(value, call)  # the places are worked out by the model as well
    if main.learned and not main.signal and any(each.signal or each.shape for each in rest):
        source = reader.source(main)
        if source is not None and call.name in ("getitem", "index_select", "index"):
            units: list[Axis] = ["out"] * (len(main.shape) - 1)
            slot = Slot(main, source, ("batch", *units), "embedding")
            return reader.scaled(value, Reading("lookup", rest[:1], [source.param], slot=slot), source.scale)
    return Reading("move", [main], name=call.name)


def _others(value: Value, call: Call) -> Reading:
    """A step that is not understood, with all that it takes."""
    taken = list(dict.fromkeys(each for each in values_in([call.args, call.kwargs]) if each.signal or each.learned))
    return Reading("other", taken, name=call.name, note=f"What {call.name} does to a signal is not understood")
