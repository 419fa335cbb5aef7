"""Every initializer in one table: its names, its parameters, its source, and the law that it means.

Adding an initializer is one entry here; the command line, the drop-in modules of the frameworks, the
documentation and the conformance tests find it in this table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fanin.activations import ACTIVATIONS
from fanin.errors import InvalidValueError
from fanin.initializers.fans import Fans
from fanin.initializers.laws import (
    TRUNCATED_STD,
    Centred,
    Constant,
    Draw,
    Eye,
    Fourier,
    Hadamard,
    Mirrored,
    Normal,
    Orthogonal,
    Sinusoidal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from fanin.records import Value

__all__ = ["INITIALIZERS", "Initializer", "Parameter"]


@dataclass(frozen=True)
class Parameter:
    """A parameter's default and what it may be, as a test and as words.

    Attributes:
        shared: False for a parameter that Keras's class of the same name does not have.
    """

    default: Value
    allowed: str
    accepts: Callable[[Any], bool]
    shared: bool = True


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
        random: Whether a seed changes the values.
    """

    name: str
    class_name: str
    summary: str
    source: str
    parameters: Mapping[str, Parameter]
    law: Callable[[Fans, Mapping[str, Any]], Draw]
    aliases: tuple[str, ...] = ()
    random: bool = True


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


def _bound(default: float) -> Parameter:
    def accepts(value: Any) -> bool:
        return _is_number(value) or (isinstance(value, float) and not math.isnan(value))

    return Parameter(default, "a number, which may be infinite", accepts, shared=False)


def _one_of(default: Value, *options: Value, shared: bool = True) -> Parameter:
    return Parameter(default, ", ".join(map(str, options)), lambda value: value in options, shared)


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
    fixed = {"scale": scale, "mode": mode, "distribution": distribution, "activation": None}
    return lambda fans, _: _variance_scaling(fans, fixed)


def _variance_scaling(fans: Fans, params: Mapping[str, Any]) -> Draw:
    gain = 1.0
    if params["activation"] is not None:
        from fanin.theory.gains import gain as gain_of  # integrates, so it is needed for this parameter alone

        gain = gain_of(params["activation"])
    variance = gain**2 * params["scale"] / max(1.0, getattr(fans, params["mode"]))
    match params["distribution"]:
        case "uniform":
            limit = math.sqrt(3 * variance)
            return Uniform(-limit, limit)
        case "untruncated_normal":
            return Normal(0.0, math.sqrt(variance))
        case "orthogonal":
            size = max(fans.fan_in, fans.columns)
            return Orthogonal(math.sqrt(variance * size), fans.fan_in, fans.columns)
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


def _truncated(_: Fans, params: Mapping[str, Any]) -> Draw:
    low, high = params["lower"], params["upper"]
    # Beyond 37 standard deviations on one side no float64 probability is left to draw from.
    if not low < high or low > 37 or high < -37:
        raise InvalidValueError(
            "The bounds of truncated_normal hold no probability",
            given=f"lower={low}, upper={high}",
            allowed="lower below upper, both in standard deviations from the mean",
        )
    return TruncatedNormal(params["mean"], params["stddev"], low, high)


def _centred(matrix: Orthogonal | Eye | Hadamard, fans: Fans, params: Mapping[str, Any]) -> Draw:
    return Centred(matrix, fans.receptive, params["centre"] == "upper")


def _delta_orthogonal(fans: Fans, params: Mapping[str, Any]) -> Draw:
    if fans.rows > fans.columns:
        raise InvalidValueError(
            "delta_orthogonal does not fit this shape",
            given=f"{fans.rows} inputs, {fans.columns} units",
            allowed="no more inputs than units",
            hint="With more inputs, scaled_orthogonal keeps the size of the signal.",
        )
    return _centred(Orthogonal(params["gain"], fans.rows, fans.columns), fans, params)


def _scaled_orthogonal(fans: Fans, params: Mapping[str, Any]) -> Draw:
    gain = params["gain"] * max(1.0, math.sqrt(fans.columns / fans.rows))
    return _centred(Orthogonal(gain, fans.rows, fans.columns), fans, params)


def _hadamard(fans: Fans, params: Mapping[str, Any]) -> Draw:
    kind = Hadamard if fans.columns > fans.rows else Eye
    return _centred(kind(params["gain"], fans.rows, fans.columns), fans, params)


def _mirrored(fans: Fans, params: Mapping[str, Any]) -> Draw:
    inputs, outputs = params["sides"] in ("both", "in"), params["sides"] in ("both", "out")
    if (inputs and fans.rows % 2) or (outputs and fans.columns % 2):
        raise InvalidValueError(
            "mirrored does not fit this shape",
            given=f"{fans.rows} inputs, {fans.columns} units, sides={params['sides']}",
            allowed="an even number on each side that is mirrored",
            hint="sides='out' is for a first layer, sides='in' for a last one.",
        )
    block = Orthogonal(params["gain"], fans.fan_in // (1 + inputs), fans.columns // (1 + outputs))
    return Mirrored(block, inputs, outputs)


def _sinusoidal(fans: Fans, params: Mapping[str, Any]) -> Draw:
    draw = Sinusoidal(math.sqrt(params["scale"] / getattr(fans, params["mode"])), fans.fan_in, fans.columns)
    if fans.fan_in <= 2 and fans.columns <= 2:
        raise InvalidValueError(
            "sinusoidal does not fit this shape: all of its waves would be 0",
            given=f"{fans.fan_in} inputs, {fans.columns} units",
            allowed="three inputs or three units, or more",
        )
    return draw


def _sparse(fans: Fans, params: Mapping[str, Any]) -> Draw:
    return Sparse(params["stddev"], math.ceil(params["sparsity"] * fans.fan_in), fans.fan_in)


_GLOROT = "Glorot and Bengio, AISTATS 2010"
_HE = "He et al., ICCV 2015, arXiv:1502.01852"
_LECUN = "LeCun et al., Efficient BackProp, 1998"
_KERAS = "Keras 3"
_MOMENTS = {"mean": _number(0.0), "stddev": _not_negative(0.05)}
_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
_GAIN = {"gain": _number(1.0)}
_CENTRE = {"centre": _one_of("lower", "lower", "upper")}
"""The middle of an even kernel: ``lower`` is that of 'same' padding in Keras and JAX, ``upper`` PyTorch's k // 2."""

_TABLE = (
    Initializer(
        "zeros", "Zeros", "All weights 0.", _KERAS, {}, lambda *_: Constant(0.0), ("zero",), random=False,
    ),
    Initializer(
        "ones", "Ones", "All weights 1.", _KERAS, {}, lambda *_: Constant(1.0), ("one",), random=False,
    ),
    Initializer(
        "constant", "Constant", "All weights the same value.", _KERAS, {"value": _number(0.0)},
        lambda _, p: Constant(p["value"]), random=False,
    ),
    Initializer(
        "identity", "Identity", "A diagonal of `gain`; two axes only.", _KERAS, _GAIN,
        lambda f, p: Eye(p["gain"], f.fan_in, f.columns), ("eye",), random=False,
    ),
    Initializer(
        "stft", "STFT", "Short-time Fourier transform as a kernel (frame, 1, frequencies).", _KERAS,
        {
            "side": _one_of("real", "real", "imag"),
            "window": Parameter("hann", "a name of scipy.signal.windows, or None", _is_window),
            "scaling": _one_of("density", "density", "spectrum", None),
            "periodic": _one_of(False, False, True),
        },
        lambda _, p: Fourier(p["side"], p["window"], p["scaling"], p["periodic"]), random=False,
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
        {**_MOMENTS, "lower": _bound(-2.0), "upper": _bound(2.0)}, _truncated,
    ),
    Initializer(
        "variance_scaling", "VarianceScaling", "Variance `scale` / fan, times the squared gain of `activation`.",
        _KERAS,
        {
            "scale": _positive(1.0),
            "mode": _one_of("fan_in", *_MODES),
            "distribution": _one_of(
                "truncated_normal", "truncated_normal", "untruncated_normal", "uniform", "orthogonal"
            ),
            "activation": _one_of(None, None, *ACTIVATIONS, shared=False),
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
        "orthogonal", "Orthogonal", "Orthonormal rows or columns (Haar), times `gain`; gate by gate.",
        "Saxe et al., ICLR 2014, arXiv:1312.6120; Stewart, SIAM J. Numer. Anal. 17, 1980", _GAIN,
        lambda f, p: Orthogonal(p["gain"], f.fan_in, f.columns),
    ),
    Initializer(
        "scaled_orthogonal", "ScaledOrthogonal",
        "Orthogonal at the kernel's centre, times max(1, sqrt(units / inputs)): keeps the size of the signal.",
        "Martens et al., Deep Kernel Shaping, 2021, arXiv:2110.01765", {**_GAIN, **_CENTRE}, _scaled_orthogonal,
    ),
    Initializer(
        "delta_orthogonal", "DeltaOrthogonal",
        "Orthonormal rows at the kernel's centre, zeros beside it; no more inputs than units.",
        "Xiao et al., ICML 2018, arXiv:1806.05393", {**_GAIN, **_CENTRE}, _delta_orthogonal,
    ),
    Initializer(
        "dirac", "Dirac", "A diagonal of `gain` at the kernel's centre: a convolution that passes its input on.",
        "PyTorch", {**_GAIN, **_CENTRE},
        lambda f, p: _centred(Eye(p["gain"], f.rows, f.columns), f, p), random=False,
    ),
    Initializer(
        "hadamard", "Hadamard", "Ones and zeros; where a layer widens, part of a Hadamard matrix (ZerO).",
        "Zhao et al., TMLR 2022, arXiv:2110.12661", {**_GAIN, **_CENTRE}, _hadamard, ("zero_hadamard",), random=False,
    ),
    Initializer(
        "mirrored", "Mirrored",
        "Orthogonal blocks and their negatives, so that a ReLU network starts as a linear one (looks-linear).",
        "Balduzzi et al., ICML 2017, arXiv:1702.08591", {**_GAIN, "sides": _one_of("both", "both", "in", "out")},
        _mirrored, ("looks_linear",),
    ),
    Initializer(
        "sinusoidal", "Sinusoidal", "A sine wave of its own for each unit, root mean square sqrt(`scale` / fan).",
        "Fernandez-Hernandez et al., NeurIPS 2025, arXiv:2505.12909",
        {"scale": _positive(1.0), "mode": _one_of("fan_avg", *_MODES)}, _sinusoidal, random=False,
    ),
    Initializer(
        "sparse", "Sparse", "Normal, but only a share 1 - `sparsity` of each unit's inputs is connected.",
        "Martens, ICML 2010",
        {
            "sparsity": Parameter(
                0.9, "a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1
            ),
            "stddev": _not_negative(0.01),
        },
        _sparse,
    ),
)  # fmt: skip

INITIALIZERS: Mapping[str, Initializer] = MappingProxyType({entry.name: entry for entry in _TABLE})
"""The initializers by their Keras name."""
