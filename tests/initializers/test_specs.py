"""Names, texts and configs of initializers: every way of writing one is read back as the same one."""

import inspect
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.activations import ACTIVATIONS
from fanin.errors import FaninError, InvalidValueError, UnknownNameError
from fanin.initializers import INITIALIZERS, Fans, canonical, decide, deserialize, parse_call, serialize
from fanin.initializers.laws import Uniform
from fanin.keras import backend
from fanin.records import Call, Init

quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
GRAMMAR = re.compile(r"[^\n]+\. Given: [^\n]*\.( Allowed: [^\n]+\.)?(\nHint: [^\n]+)?")
OURS = {
    "delta_orthogonal",
    "dirac",
    "fan_in_uniform",
    "hadamard",
    "mirrored",
    "scaled_orthogonal",
    "sinusoidal",
    "sparse",
}
"""What Keras does not have."""
IN_KERAS = sorted(set(INITIALIZERS) - OURS)

numbers = st.floats(-1e6, 1e6) | st.integers(-1000, 1000) | st.floats(0, 1)
CANDIDATES = ("real", "imag", "hann", "hamming", "density", "spectrum", None, True, False)
CANDIDATES += ("fan_in", "fan_out", "fan_avg", "fan_geo_avg", "truncated_normal", "untruncated_normal", "uniform")
CANDIDATES += ("orthogonal", "lower", "upper", "both", "in", "out", *ACTIVATIONS)


def values(parameter):
    """Values that the table accepts for a parameter, found by asking it."""
    pool = numbers if isinstance(parameter.default, float) else st.sampled_from(CANDIDATES)
    return pool.filter(parameter.accepts)


@st.composite
def inits(draw, names=tuple(INITIALIZERS)):
    entry = INITIALIZERS[draw(st.sampled_from(names))]
    chosen = draw(st.sets(st.sampled_from(sorted(entry.parameters)))) if entry.parameters else ()
    return Init(entry.name, **{name: draw(values(entry.parameters[name])) for name in sorted(chosen)})


@quick
@given(inits())
def test_every_way_of_writing_it_comes_back(init):
    short = canonical(init)
    assert canonical(short) == short
    assert canonical(str(init)) == canonical(str(short)) == short
    assert deserialize(serialize(init)) == short
    assert canonical(json.loads(json.dumps(serialize(init)))) == short


@quick
@given(inits())
def test_only_what_differs_from_the_default_is_kept(init):
    entry = INITIALIZERS[init.name]
    full = {name: parameter.default for name, parameter in entry.parameters.items()} | init.params
    # A parameter that Keras's class lacks is written only where it says something.
    written = {k: v for k, v in full.items() if entry.parameters[k].shared or v != entry.parameters[k].default}
    assert serialize(init) == {"class_name": entry.class_name, "config": written}
    assert canonical(init).params == {k: v for k, v in init.params.items() if v != entry.parameters[k].default}
    assert canonical(Init(entry.name, **full)) == canonical(init)


@pytest.mark.parametrize("entry", INITIALIZERS.values(), ids=INITIALIZERS)
def test_every_name_of_an_entry_means_it(entry):
    for spelling in (entry.name, entry.class_name, entry.class_name.lower(), *entry.aliases):
        assert canonical(spelling) == Init(entry.name)
        assert canonical(f" {spelling} ( ) ") == Init(entry.name)
    assert entry.summary.endswith(".")
    assert entry.source
    assert all(parameter.accepts(parameter.default) for parameter in entry.parameters.values())


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("xavier_normal", "glorot_normal"),
        ("xavier_uniform", "glorot_uniform"),
        ("kaiming_normal", "he_normal"),
        ("kaiming_uniform", "he_uniform"),
        ("eye", "identity"),
        ("zero", "zeros"),
        ("one", "ones"),
        ("normal", "random_normal"),
        ("uniform", "random_uniform"),
        ("looks_linear", "mirrored"),
        ("zero_hadamard", "hadamard"),
    ],
)
def test_other_names(alias, name):
    assert canonical(alias) == canonical(Init(alias)) == Init(name)


def test_a_whole_number_is_a_number():
    assert canonical("random_normal(stddev=1)") == Init("random_normal", stddev=1.0)
    assert str(canonical("random_normal(stddev=1)")) == "random_normal(stddev=1.0)"


@pytest.mark.parametrize("bound", [math.inf, 1e300])
def test_bounds_may_be_infinite(bound):
    init = canonical(Init("truncated_normal", lower=-bound, upper=bound))
    assert init.params == {"lower": -bound, "upper": bound}
    assert deserialize(json.loads(json.dumps(serialize(init)))) == init
    assert canonical(str(init)) == init


def test_a_numpy_number_is_a_number():
    init = canonical(Init("random_normal", stddev=np.sqrt(0.25)))
    assert init == Init("random_normal", stddev=0.5)
    assert str(init) == "random_normal(stddev=0.5)"
    assert canonical(str(init)) == init


# ------------------------------------------------------------------------------------------------- errors
def says(error, *parts):
    message = str(error.value)
    assert GRAMMAR.fullmatch(message), message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("given_", "near"),
    [
        ("he_norml", "he_normal"),
        ("HeNorml", "he_normal"),
        ("xavier_unifrom", "xavier_uniform"),
        ("kaiming", "kaiming_normal"),
        ("orthogonl", "orthogonal"),
    ],
)
def test_did_you_mean(given_, near):
    with pytest.raises(UnknownNameError) as error:
        canonical(given_)
    says(error, "There is no such initializer", f"Given: {given_}.", "\nHint: Did you mean ", near)
    assert near in error.value.hint


def test_nothing_near_gives_the_whole_list_and_no_hint():
    with pytest.raises(UnknownNameError) as error:
        canonical("qqqq")
    says(error, *INITIALIZERS)
    assert error.value.hint is None


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ("random_normal(std=1)", UnknownNameError, ["parameter of random_normal", "mean, stddev"]),
        ("he_normal(scale=1)", UnknownNameError, ["he_normal takes no parameters", "scale=1"]),
        ("he_normal(seed=1)", UnknownNameError, ["he_normal takes no parameters", "seed=1"]),
        ("random_normal(stddev=-1)", InvalidValueError, ["stddev of random_normal", "-1", "0 or more"]),
        ("variance_scaling(scale=0)", InvalidValueError, ["scale of variance_scaling", "0", "above 0"]),
        ("variance_scaling(mode='fan')", InvalidValueError, ["Given: fan.", "fan_in, fan_out, fan_avg"]),
        ("variance_scaling(distribution='normal')", InvalidValueError, ["truncated_normal, untruncated_normal"]),
        ("constant(value='a')", InvalidValueError, ["a finite number"]),
        ("constant(value=True)", InvalidValueError, ["True", "a finite number"]),
        ("constant(value=1e999)", InvalidValueError, ["inf", "a finite number"]),
        ("constant(value=None)", InvalidValueError, ["Given: None.", "a finite number"]),
        ("stft(window='none such')", InvalidValueError, ["scipy.signal.windows"]),
        ("stft(side='up')", InvalidValueError, ["real, imag"]),
        ("variance_scaling(mode='fan_geo')", InvalidValueError, ["fan_in, fan_out, fan_avg, fan_geo_avg"]),
        ("variance_scaling(activation='rleu')", InvalidValueError, ["None, linear, relu"]),
        ("truncated_normal(lower='a')", InvalidValueError, ["lower of truncated_normal", "a number"]),
        ("truncated_normal(upper=None)", InvalidValueError, ["Given: None.", "a number"]),
        ("truncated_normal(upper=True)", InvalidValueError, ["Given: True.", "a number"]),
        ("truncated_normal(stddev=-0.1)", InvalidValueError, ["-0.1", "0 or more"]),
        ("truncated_normal(stddev=1e999)", InvalidValueError, ["inf", "0 or more"]),
        ("orthogonal(gain=1e999)", InvalidValueError, ["inf", "a finite number"]),
        ("orthogonal(gain='2')", InvalidValueError, ["a finite number"]),
        ("scaled_orthogonal(centre='middle')", InvalidValueError, ["lower, upper"]),
        ("delta_orthogonal(center='lower')", UnknownNameError, ["parameter of delta_orthogonal", "centre"]),
        ("dirac(groups=2)", UnknownNameError, ["parameter of dirac", "gain"]),
        ("hadamard(gain=None)", InvalidValueError, ["a finite number"]),
        ("mirrored(sides='left')", InvalidValueError, ["both, in, out"]),
        ("sinusoidal(scale=0)", InvalidValueError, ["above 0"]),
        ("sinusoidal(mode=None)", InvalidValueError, ["fan_in, fan_out"]),
        ("sparse(sparsity=1.1)", InvalidValueError, ["from 0 to 1"]),
        ("sparse(sparsity=-0.1)", InvalidValueError, ["from 0 to 1"]),
        ("sparse(stddev=-1)", InvalidValueError, ["0 or more"]),
    ],
)
def test_a_wrong_parameter(text, kind, parts):
    with pytest.raises(kind) as error:
        canonical(text)
    says(error, *parts)


UNREADABLE = [
    "",
    "he normal",
    "he_normal(",
    "he_normal)",
    "random_normal(0.1)",
    "random_normal(stddev=)",
    "random_normal(stddev=x)",
    "random_normal(stddev=1+1)",
    "constant(value=nan)",
    "constant(value=__import__('os'))",
    "random_normal(stddev=0.01)(mean=1.0)",
    "random_normal(mean=0.0).real(stddev=1.0)",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_text_that_is_no_call(text):
    with pytest.raises(InvalidValueError) as error:
        canonical(text)
    says(error, "The initializer cannot be read", text, "named parameters", "Hint: For example random_normal(")


WIDE = [(name, key) for name, entry in INITIALIZERS.items() for key in entry.parameters
        if isinstance(entry.parameters[key].default, float)]  # fmt: skip


@pytest.mark.parametrize("value", [10**400, math.nan, "1", None, [1.0], 1j], ids=lambda value: str(value)[:4])
@pytest.mark.parametrize(("name", "key"), WIDE)
def test_what_is_no_number(name, key, value):
    with pytest.raises(InvalidValueError, match=f"The parameter {key} of {name} is out of range") as error:
        canonical(Init(name, **{key: value}))
    assert error.value.given is not None
    assert error.value.allowed


def test_the_wrong_way_round():
    with pytest.raises(InvalidValueError) as error:
        decide(Init("random_uniform", minval=1.0, maxval=0.5), Fans(1, 1))
    says(error, "minval=1.0, maxval=0.5", "minval up to maxval")
    assert decide(Init("random_uniform", minval=0.5, maxval=0.5), Fans(1, 1)) == Uniform(0.5, 0.5)


def test_parse_call():
    assert parse_call("sgd", "optimizer") == Call("sgd")
    assert parse_call(" a.b(x=1, y='two', z=None) ", "model") == Call("a.b", x=1, y="two", z=None)
    assert parse_call("f(\nx=-1.5,\n)", "model") == Call("f", x=-1.5)
    with pytest.raises(InvalidValueError, match="The optimizer cannot be read"):
        parse_call("sgd(0.1)", "optimizer")


# ------------------------------------------------------------------------------------------------ configs
@pytest.mark.parametrize("config", [{}, {"name": "he_normal"}, {"class_name": "Zeros", "oops": 1}])
def test_a_config_that_is_none(config):
    with pytest.raises(InvalidValueError) as error:
        deserialize(config)
    says(error, "config cannot be read", repr(config), "'class_name'")


@pytest.mark.parametrize("config", [{"class_name": "Zeros"}, {"class_name": "Zeros", "config": None}])
def test_a_config_without_parameters(config):
    assert deserialize(config) == Init("zeros")


def test_a_config_of_an_unknown_class():
    with pytest.raises(UnknownNameError) as error:
        deserialize({"class_name": "HeNorml", "config": {}})
    says(error, "Given: HeNorml.", "he_normal")


# -------------------------------------------------------------------------------------------------- Keras
@pytest.fixture(scope="module")
def keras():
    backend.start(None)
    import keras

    return keras


OTHER = {
    "constant": {"value": 0.25},
    "orthogonal": {"gain": 1.5},
    "random_normal": {"mean": 0.5, "stddev": 0.125},
    "random_uniform": {"minval": -1.0, "maxval": 0.5},
    "truncated_normal": {"mean": -0.5, "stddev": 0.25},
    "variance_scaling": {"scale": 2.0, "mode": "fan_avg", "distribution": "untruncated_normal"},
    "stft": {"side": "imag", "window": "hamming", "scaling": None, "periodic": True},
}
WITH_KERAS = [(name, {}) for name in IN_KERAS] + sorted(OTHER.items())


def test_shared_parameters_are_those_of_keras(keras):
    for name in IN_KERAS:
        theirs = set(inspect.signature(getattr(keras.initializers, INITIALIZERS[name].class_name)).parameters)
        ours = {key for key, parameter in INITIALIZERS[name].parameters.items() if parameter.shared}
        assert theirs - {"seed", "input_axes", "output_axes"} == ours, name


def test_keras_has_sixteen_of_them(keras):
    assert [
        name for name in sorted(INITIALIZERS) if hasattr(keras.initializers, INITIALIZERS[name].class_name)
    ] == IN_KERAS
    assert len(IN_KERAS) == 16


@pytest.mark.parametrize(("name", "params"), WITH_KERAS)
def test_a_config_that_keras_writes_is_read(keras, name, params):
    written = keras.initializers.serialize(getattr(keras.initializers, INITIALIZERS[name].class_name)(**params))
    assert canonical(json.loads(json.dumps(written))) == Init(name, **params)


@pytest.mark.parametrize("name", [name for name in IN_KERAS if name.startswith(("he", "glorot", "lecun", "variance"))])
def test_a_config_whose_axes_keras_fixed_is_refused(keras, name):
    # Keras lets an initializer carry input_axes and output_axes; here the axes belong to the parameter.
    made = getattr(keras.initializers, INITIALIZERS[name].class_name)
    if "input_axes" not in made().get_config():
        pytest.skip("this Keras has no axes in its configs")
    written = keras.initializers.serialize(made(input_axes=[0], output_axes=[1]))
    with pytest.raises(FaninError):
        deserialize(written)


@pytest.mark.parametrize("name", [name for name in IN_KERAS if name.startswith(("he", "random", "orth"))])
def test_a_seed_in_a_config_is_refused(keras, name):
    written = keras.initializers.serialize(getattr(keras.initializers, INITIALIZERS[name].class_name)(seed=3))
    with pytest.raises(InvalidValueError) as error:
        canonical(written)
    says(error, "carries a seed", "'seed': 3", "Hint: Give the seed to sample()")


@pytest.mark.parametrize(("name", "params"), [*WITH_KERAS, ("identity", {"gain": 2.0})])
def test_keras_reads_what_we_write(keras, name, params):
    config = serialize(Init(name, **params))
    theirs = keras.initializers.deserialize(json.loads(json.dumps(config)))
    assert type(theirs).__name__.removesuffix("Initializer") == config["class_name"]
    assert {key: getattr(theirs, key) for key in config["config"]} == config["config"]
    assert config["config"].items() >= params.items()
