"""The table of initializers: its entries hang together, and each law has the scale that its source gives it."""

import math
import re

import pytest

from fanin.activations import ACTIVATIONS
from fanin.errors import InvalidValueError
from fanin.initializers import INITIALIZERS, Fans, decide, fans
from fanin.initializers.laws import (
    Centred,
    Constant,
    Eye,
    Hadamard,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from fanin.records import Init
from fanin.theory import gain

ENTRIES = pytest.mark.parametrize("entry", INITIALIZERS.values(), ids=INITIALIZERS)
MODES = {
    "fan_in": lambda f: f.fan_in,
    "fan_out": lambda f: f.fan_out,
    "fan_avg": lambda f: (f.fan_in + f.fan_out) / 2,
    "fan_geo_avg": lambda f: math.sqrt(f.fan_in * f.fan_out),
}
SIZES = [Fans(50, 20), Fans(7, 300), Fans(27, 45, 9)]


# ---------------------------------------------------------------------------------------------------- hygiene
@ENTRIES
def test_an_entry_tells_what_it_is(entry):
    assert INITIALIZERS[entry.name] is entry
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", entry.name)
    assert re.fullmatch(r"([A-Z][a-z]*)+|STFT", entry.class_name)
    assert entry.class_name.lower() == entry.name.replace("_", "")
    assert entry.summary.endswith(".")
    assert len(entry.summary) < 120
    assert entry.source.strip() == entry.source != ""


@ENTRIES
def test_its_parameters_accept_their_defaults_and_no_nonsense(entry):
    for parameter in entry.parameters.values():
        assert parameter.accepts(parameter.default)
        assert parameter.allowed
        for nonsense in (math.nan, "no such thing", object(), [1], 1j):
            assert not parameter.accepts(nonsense)


def test_every_spelling_means_one_entry():
    spellings = [
        spelling
        for entry in INITIALIZERS.values()
        for spelling in {
            entry.name,
            entry.class_name,
            entry.class_name.lower(),
            f"{entry.class_name}Initializer",
            *entry.aliases,
        }
    ]
    assert len(spellings) == len(set(spellings))


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        INITIALIZERS["new"] = INITIALIZERS["zeros"]


def test_its_size_is_known():
    assert len(INITIALIZERS) == 24


# --------------------------------------------------------------------------------------------- variance_scaling
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform", "orthogonal"])
@pytest.mark.parametrize("mode", MODES)
def test_variance_scaling(mode, distribution, activation, sizes):
    init = Init("variance_scaling", scale=3.0, mode=mode, distribution=distribution, activation=activation)
    law = decide(init, sizes)
    factor = 1.0 if activation is None else gain(activation) ** 2
    assert law.variance == pytest.approx(3 * factor / MODES[mode](sizes), rel=1e-12)
    assert law.mean == 0
    kinds = {"uniform": Uniform, "untruncated_normal": Normal, "orthogonal": Orthogonal}
    assert type(law) is kinds.get(distribution, TruncatedNormal)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_scales(name):
    plain = decide(Init("variance_scaling"), SIZES[0]).variance
    assert decide(Init("variance_scaling", activation=name), SIZES[0]).variance == pytest.approx(
        plain * gain(name) ** 2
    )


def test_relu_makes_he_and_linear_changes_nothing():
    he = decide(Init("variance_scaling", activation="relu"), SIZES[0])
    assert he.variance == pytest.approx(decide(Init("he_normal"), SIZES[0]).variance)
    assert decide(Init("variance_scaling", activation="linear"), SIZES[0]).variance == pytest.approx(1 / 50)


def test_a_weight_without_inputs_is_scaled_as_if_it_had_one():
    assert decide(Init("he_normal"), Fans(0, 5)).variance == pytest.approx(2)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_variance_is_the_one_of_the_source(sizes):
    fan_in, fan_out = sizes.fan_in, sizes.fan_out
    expected = {
        **{f"glorot_{d}": 2 / (fan_in + fan_out) for d in ("normal", "uniform")},
        **{f"he_{d}": 2 / fan_in for d in ("normal", "uniform")},
        **{f"lecun_{d}": 1 / fan_in for d in ("normal", "uniform")},
        "fan_in_uniform": 1 / (3 * fan_in),
        "random_normal": 0.05**2,
        "random_uniform": 0.05**2 / 3,
        "truncated_normal": (0.05 * 0.87962566103423978) ** 2,
        "orthogonal": 1 / max(fan_in, sizes.columns),
    }
    for name, variance in expected.items():
        assert decide(Init(name), sizes).variance == pytest.approx(variance), name


# ----------------------------------------------------------------------------------------------- structured laws
def test_laws_of_a_square_a_wide_and_a_tall_weight():
    wide, tall, square = Fans(3, 5), Fans(5, 3), Fans(4, 4)
    assert decide(Init("orthogonal", gain=2.0), wide) == Orthogonal(2.0, 3, 5)
    assert decide(Init("identity", gain=2.0), tall) == Eye(2.0, 5, 3)
    assert decide(Init("hadamard"), wide) == Centred(Hadamard(1.0, 3, 5), 1, upper=False)
    for sizes in (tall, square):
        assert decide(Init("hadamard"), sizes) == Centred(Eye(1.0, sizes.rows, sizes.columns), 1, upper=False)
    assert decide(Init("scaled_orthogonal"), wide).matrix.gain == pytest.approx(math.sqrt(5 / 3))
    for sizes in (tall, square):
        assert decide(Init("scaled_orthogonal"), sizes).matrix.gain == 1
    conv = fans((3, 3, 4, 8), ("spatial", "spatial", "in", "out"))
    assert decide(Init("delta_orthogonal", centre="upper"), conv) == Centred(Orthogonal(1.0, 4, 8), 9, upper=True)
    assert decide(Init("dirac"), conv) == Centred(Eye(1.0, 4, 8), 9, upper=False)


@pytest.mark.parametrize(("sparsity", "zeros"), [(0.0, 0), (0.5, 5), (0.91, 10), (0.9, 9), (1.0, 10)])
def test_sparse_rounds_up(sparsity, zeros):
    assert decide(Init("sparse", sparsity=sparsity), Fans(10, 4)) == Sparse(0.01, zeros, 10)


def test_constants():
    assert [decide(Init(name), SIZES[0]) for name in ("zeros", "ones")] == [Constant(0.0), Constant(1.0)]
    assert decide(Init("constant", value=-2.5), SIZES[0]) == Constant(-2.5)


# ------------------------------------------------------------------------------------------ what does not fit
INF = math.inf
MISFITS = [
    (Init("random_uniform", minval=1.0), Fans(4, 4), "minval=1.0, maxval=0.05", "minval up to maxval"),
    (Init("truncated_normal", lower=2.0), Fans(4, 4), "lower=2.0, upper=2.0", "lower below upper"),
    (Init("truncated_normal", lower=3.0), Fans(4, 4), "lower=3.0, upper=2.0", "lower below upper"),
    (Init("truncated_normal", lower=40.0, upper=50.0), Fans(4, 4), "lower=40.0", "lower below upper"),
    (Init("truncated_normal", lower=-INF, upper=-38.0), Fans(4, 4), "upper=-38.0", "lower below upper"),
    (Init("truncated_normal", lower=INF, upper=INF), Fans(4, 4), "lower=inf", "lower below upper"),
    (Init("delta_orthogonal"), Fans(5, 4), "5 inputs, 4 units", "no more inputs than units"),
    (Init("delta_orthogonal"), Fans(45, 36, 9), "5 inputs, 4 units", "no more inputs than units"),
    (Init("mirrored"), Fans(3, 4), "3 inputs, 4 units, sides=both", "an even number"),
    (Init("mirrored"), Fans(4, 3), "4 inputs, 3 units, sides=both", "an even number"),
    (Init("mirrored", sides="in"), Fans(3, 4), "sides=in", "an even number"),
    (Init("mirrored", sides="out"), Fans(4, 3), "sides=out", "an even number"),
    (Init("mirrored"), Fans(18, 36, 6), "3 inputs, 6 units", "an even number"),
    (Init("sinusoidal"), Fans(2, 2), "2 inputs, 2 units", "three inputs or three units"),
    (Init("sinusoidal"), Fans(1, 1), "1 inputs, 1 units", "three inputs or three units"),
]


@pytest.mark.parametrize(("init", "sizes", "given", "allowed"), MISFITS, ids=str)
def test_a_weight_that_a_law_does_not_fit(init, sizes, given, allowed):
    with pytest.raises(InvalidValueError, match=init.name) as error:
        decide(init, sizes)
    assert given in error.value.given
    assert allowed in error.value.allowed


def test_what_fits_only_just():
    assert decide(Init("mirrored", sides="in"), Fans(4, 3)).inputs
    assert decide(Init("mirrored", sides="out"), Fans(3, 4)).outputs
    assert decide(Init("sinusoidal"), Fans(3, 1)).rows == 3
    assert decide(Init("random_uniform", minval=0.05), Fans(1, 1)) == Uniform(0.05, 0.05)
    assert decide(Init("truncated_normal", lower=37.0, upper=INF), Fans(1, 1)).low == 37
