"""The laws that are known: what the values of a parameter may turn out to follow, with the names to say so."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fanin.errors import InvalidValueError
from fanin.initializers import canonical, decide
from fanin.initializers.draws import check_fit
from fanin.initializers.fans import Fans, fans_of
from fanin.initializers.laws import Constant, Draw, Fourier, Normal, TruncatedNormal, Uniform
from fanin.recipes.defaults import keras_default, torch_default
from fanin.recipes.evidence import Measured, Random, failed, likelihood, tells
from fanin.recipes.verdicts import Values, is_certain, misfit
from fanin.records import Init, ModelInfo, ParamInfo, PlanEntry

__all__ = ["REPEATED", "Known", "known_laws", "look_alikes"]


@dataclass(frozen=True)
class Known:
    """A law as it would be drawn for one parameter, and the names it goes by.

    Attributes:
        param: How the parameter is read for it: a mistaken reading is a law as well.
        scales: A factor for each gate.
    """

    names: tuple[str, ...]
    law: Draw
    param: ParamInfo
    scales: tuple[float, ...] = ()


def _scaled(scale: float, mode: str, distribution: str = "untruncated_normal") -> Init:
    return Init("variance_scaling", scale=scale, mode=mode, distribution=distribution)


_ANYWHERE = (
    ("GPT-2's N(0, 0.02)", Init("random_normal", stddev=0.02)),
    ("BERT's truncated normal, 0.02", Init("truncated_normal", stddev=0.02)),
    ("N(0, 1)", Init("random_normal", stddev=1.0)),
    *((name, Init(name)) for name in ("random_normal", "random_uniform", "truncated_normal")),
)
"""Laws that do not depend on fans."""
_BY_FANS = (
    *((name, Init(name)) for name in ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
                                      "lecun_normal", "fan_in_uniform")),
    ("xavier_normal_ of PyTorch (not truncated)", _scaled(1.0, "fan_avg")),
    ("kaiming_normal_ of PyTorch (not truncated)", _scaled(2.0, "fan_in")),
    ("kaiming_normal_ of PyTorch (not truncated), fan_out", _scaled(2.0, "fan_out")),
    ("kaiming_uniform_ of PyTorch, fan_out", _scaled(2.0, "fan_out", "uniform")),
    ("normal (not truncated), variance 1 / fan_in", _scaled(1.0, "fan_in")),
    ("glorot_uniform times 5/3, PyTorch's gain of tanh", _scaled(25 / 9, "fan_avg", "uniform")),
    ("glorot_uniform times sqrt(2), the gain of relu", _scaled(2.0, "fan_avg", "uniform")),
    ("xavier_normal_ of PyTorch (not truncated) times 5/3, its gain of tanh", _scaled(25 / 9, "fan_avg")),
    ("xavier_normal_ of PyTorch (not truncated) times sqrt(2), the gain of relu", _scaled(2.0, "fan_avg")),
)  # fmt: skip
"""Laws of independent entries whose variance depends on fans."""
_STRUCTURED = (
    "identity", "orthogonal", "scaled_orthogonal", "delta_orthogonal", "dirac", "dirac(centre='upper')", "hadamard",
    "mirrored", "mirrored(sides='in')", "mirrored(sides='out')", "sinusoidal", "sparse",
)  # fmt: skip
_FRAMEWORKS = {"torch": "PyTorch", "keras": "Keras", "flax": "Flax"}


def known_laws(info: ModelInfo) -> Callable[[ParamInfo], tuple[Known, ...]]:
    """From a parameter of a model to the laws that its values may follow, each once with all of its names."""
    defaults = [
        (name, {entry.param.path: entry for entry in recipe(info).entries})
        for name, recipe in (("PyTorch's default", torch_default), ("Keras's default", keras_default))
    ]
    own, foreign = reversed(defaults) if info.framework == "keras" else defaults

    def default(param: ParamInfo, name: str, entries: dict[str, PlanEntry]) -> Iterator[Known]:
        """What a framework draws, if it draws anything."""
        init, scales = entries[param.path].init, entries[param.path].scales
        if init is not None:
            yield Known((name,), decide(init, fans_of(param)), param, scales)

    def candidates(param: ParamInfo) -> Iterator[Known]:
        """Each name by itself, the usual ones first."""
        yield from default(param, *own)
        fans = fans_of(param) if {"in", "spatial"} & set(param.axes) else None
        counted = _counted(param, info.framework)
        if fans is not None:
            yield from (Known((name,), decide(init, fans), param) for name, init in _BY_FANS)
            yield from _structured(param)
        yield from (Known((name,), decide(init, fans_of(param)), param) for name, init in _ANYWHERE)
        if param.role == "embedding":
            stddev = 1 / math.sqrt(param.shape[param.axes.index("out")])
            init = Init("random_normal", stddev=stddev)
            yield Known(("N(0, 1 / width), Flax's default",), decide(init, fans_of(param)), param)
        if counted is not None and counted != fans:
            words = _miscounted(param, fans, counted, info.framework)
            right = set() if fans is None else {decide(init, fans) for _, init in _BY_FANS}
            mistaken = ((name, decide(init, counted)) for name, init in _BY_FANS)
            yield from (Known((words(name),), law, param) for name, law in mistaken if law not in right)
        yield from default(param, *foreign)

    def merged(param: ParamInfo) -> tuple[Known, ...]:
        """Laws that are the same are one, with several names."""
        found: dict[tuple[Draw, ParamInfo, tuple[float, ...]], Known] = {}
        for each in candidates(param):
            key = (each.law, each.param, each.scales)
            known = found.get(key)
            found[key] = each if known is None else replace(known, names=(*known.names, *each.names))
        return tuple(found.values())

    return merged


def _structured(param: ParamInfo) -> Iterator[Known]:
    """The laws with structure that fit; for gates that lie side by side also as one matrix, which is a mistake."""
    readings = [("", param)]
    if param.gates > 1:
        readings.append((" over the packed matrix, not gate by gate", replace(param, gates=1)))
    for words, reading in readings:
        for text in _STRUCTURED if not words else ("orthogonal",):
            try:
                law = decide(canonical(text), fans_of(reading))
                check_fit(reading, law)
            except InvalidValueError:
                continue
            yield Known((f"{text}{words}",), law, reading)


def _counted(param: ParamInfo, framework: str) -> Fans | None:
    """The fans that a framework's own initializers read off the bare shape; None where they refuse."""
    shape = param.shape
    if param.role == "transposed_conv" and framework == "torch" and "batch" in param.axes:
        shape = (shape[0] * shape[1], *shape[2:])  # the groups, which the description takes apart
    if len(shape) < 2:
        return None
    if framework == "torch":
        receptive = math.prod(shape[2:])
        return Fans(shape[1] * receptive, shape[0] * receptive, receptive)
    receptive = math.prod(shape[:-2])
    return Fans(shape[-2] * receptive, shape[-1] * receptive, receptive)


def _miscounted(param: ParamInfo, fans: Fans | None, counted: Fans, framework: str) -> Callable[[str], str]:
    """How to name a law that was drawn with the framework's fans where these are not the parameter's."""
    title = _FRAMEWORKS.get(framework, framework)
    if fans is None:
        return lambda name: f"{name}, fan-in {counted.fan_in} and fan-out {counted.fan_out} as {title} counts them"
    if param.gates > 1 and counted.fan_in == fans.fan_in:
        share = (fans.fan_in + fans.fan_out) / (counted.fan_in + counted.fan_out)
        amount = "half" if math.isclose(share, 0.5) else f"{share:.3g} of"
        each = "each of q, k, v" if param.role == "attention" and param.gates == 3 else "each gate"
        packed = {"glorot_uniform": "Xavier", "glorot_normal": "Xavier (truncated normal)"}
        return lambda name: (
            f"{packed[name]} over the packed matrix: {amount} the variance for {each}"
            if name in packed else f"{name} over the packed matrix"
        )  # fmt: skip
    if (counted.fan_in, counted.fan_out) == (fans.fan_out, fans.fan_in):
        return lambda name: f"{name} with fan-in and fan-out swapped"
    if counted.fan_in == fans.fan_in:
        return lambda name: f"{name} with the fan-out of all groups"
    return lambda name: f"{name}, fan-in {counted.fan_in} instead of {fans.fan_in} as {title} counts it"


# ------------------------------------------------------------------------------------------------------- search
_ODDS = math.log(1000)
"""A law that makes the values a thousand times less likely than another one is not named beside it."""
REPEATED = 0.1
"""Share of repeated numbers that no float32 generator reaches in a sample: uniform ones of 23 bits repeat 1.2 %."""


def look_alikes(
    known: tuple[Known, ...], values: Values, level: float, wish: tuple[Init, Draw] | None = None
) -> tuple[str, ...]:
    """The names of the laws that values may follow, the likeliest first; empty where nothing fits or can be told.

    Args:
        known: Of the parameter, from `known_laws`.
        values: What it holds.
        level: Rate of false alarms of each test that a law has to pass.
        wish: What was planned, to say how many times larger the values are.
    """
    measured = values.measured
    if measured.low == measured.high:
        names = {0.0: "zeros", 1.0: "ones"}
        return (names.get(measured.low, f"constant(value={measured.low:.6g})"),)
    certain, random = [], []
    for each in known:
        if not _worth_a_look(each, measured, level) or misfit(each.param, each.law, each.scales, values, level):
            continue
        if isinstance(each.law, Random):
            random.append((likelihood(each.law, measured), each.names))
        else:
            certain.append(each.names)
    best = max((found for found, _ in random), default=0.0)
    likely = [names for found, names in sorted(random, key=lambda pair: -pair[0]) if found >= best - _ODDS]
    fitting = tuple(name for names in (*certain, *likely) for name in names)
    return fitting or tuple(_free(values, level, wish))


def _worth_a_look(each: Known, measured: Measured, level: float) -> bool:
    """Whether a law is neither ruled out by the variance alone nor beyond what so few values can tell."""
    if isinstance(each.law, Constant | Fourier):
        return bool(each.scales)
    if isinstance(each.law, Random):
        return tells(each.law, measured.size, level)
    second = each.law.variance + each.law.mean**2
    return math.isclose(measured.second(0.0), second, rel_tol=0.01 if is_certain(each.law) else 0.3)


def _free(values: Values, level: float, wish: tuple[Init, Draw] | None) -> Iterator[str]:
    """The family that values follow at a size of their own; or that they repeat."""
    measured, param = values.measured, values.param
    if measured.repeated > REPEATED:
        yield f"repeated numbers: {100 * measured.repeated:.0f} % occur more than once"
        return
    stderr = measured.stddev / math.sqrt(measured.size)
    centre = 0.0 if abs(measured.mean) < 5 * stderr else measured.mean
    reach = max(measured.high - centre, centre - measured.low) * (1 + 1 / measured.size)
    families: tuple[tuple[str, Random], ...] = (
        ("normal", Normal(centre, measured.stddev)),
        ("truncated normal", TruncatedNormal(centre, reach / 2)),
        ("uniform", Uniform(centre - reach, centre + reach)),
    )
    fitting = [
        (likelihood(law, measured), name, law)
        for name, law in families
        if tells(law, measured.size, level) and not failed(law, measured, level)
    ]
    if not fitting:
        return
    _, name, law = max(fitting, key=lambda each: each[0])
    stddev = math.sqrt(law.variance)
    if wish is not None and type(wish[1]) is type(law) and centre == wish[1].mean and wish[1].variance > 0:
        yield f"{stddev / math.sqrt(wish[1].variance):.4g} times {wish[0]}"
    at = f" about {centre:.3g}" if centre else ""
    fan_in = fans_of(param).fan_in
    share = f", variance {stddev**2 * fan_in:.3g} / fan_in" if {"in", "spatial"} & set(param.axes) else ""
    yield f"{name}{at}, standard deviation {stddev:.3g}{share}"
