"""Gains of each convention: quadrature in 25 digits, closed forms, published numbers, functions of one's own."""

import math
import subprocess
import sys

import numpy as np
import pytest

from fanin.activations import ACTIVATIONS, activation, leaky_relu
from fanin.errors import InvalidValueError, UnknownNameError
from fanin.theory import gain
from fanin.theory.gains import KINDS
from tests.oracles.activations import second_moment
from tests.oracles.theory import moments as theory_moments

PRECISE = 1e-9
# research/theory.md, ten digits.
PUBLISHED = {
    "sigmoid": 1.8462285453,
    "tanh": 1.5925374197,
    "gelu": 1.5335304412,
    "silu": 1.6765324703,
    "mish": 1.4868475813,
    "erf": 1.4671669505,
    "elu": 1.2451983007,
}
CDF = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
PDF = math.exp(-0.5) / math.sqrt(2 * math.pi)
CLOSED = {  # E[phi^2]
    "linear": 1.0,
    "relu": 0.5,
    "leaky_relu": (1 + 0.01**2) / 2,
    "erf": 2 / math.pi * math.asin(2 / 3),
    "sin": (1 - math.exp(-2)) / 2,
    "sign": 1.0,
    "step": 0.5,
    "hard_tanh": (2 * CDF - 1 - 2 * PDF) + 2 * (1 - CDF),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_against_quadrature(name):
    assert gain(name) == pytest.approx(float(1 / second_moment(name) ** 0.5), rel=PRECISE)


@pytest.mark.parametrize("name", CLOSED)
def test_against_closed_forms(name):
    assert gain(name) == pytest.approx(CLOSED[name] ** -0.5, rel=PRECISE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_against_published_numbers(name):
    assert gain(name) == pytest.approx(PUBLISHED[name], abs=5.1e-11)


def test_selu_is_its_own_fixed_point():
    # Mean 0 and variance 1 is the fixed point of Klambauer et al., so the mean square is 1.
    assert gain("selu") == pytest.approx(1.0, rel=PRECISE)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, -1.0])
def test_leaky_slopes(slope):
    assert gain(leaky_relu(slope)) == pytest.approx(math.sqrt(2 / (1 + slope**2)), rel=PRECISE)


def test_aliases_and_case():
    assert gain("swish") == gain("silu") == gain("SiLU".lower()) == gain(activation("silu"))


def in_place(z):
    out = z.copy()
    out[out < 0] = 0
    return out


FUNCTIONS = {
    "relu": [lambda z: np.maximum(z, 0), lambda z: z * (z > 0), in_place, lambda z: z * (z > 0).astype(float)],
    "tanh": [np.tanh, lambda z: np.sinh(z) / np.cosh(z), lambda z: np.array([math.tanh(v) for v in z])],
    "step": [lambda z: np.heaviside(z, 0.5)],
    "hard_tanh": [lambda z: np.clip(z, -1, 1)],
}
PAIRS = [(name, function) for name, functions in FUNCTIONS.items() for function in functions]


@pytest.mark.parametrize(("name", "function"), PAIRS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(PAIRS)])
def test_a_function_has_the_gain_of_its_name(name, function):
    """A function need only do what is asked of it: take a NumPy array and give one of the same shape."""
    assert gain(function) == pytest.approx(gain(name), rel=PRECISE)


def test_functions_that_grow_and_jump():
    assert gain(np.exp) == pytest.approx(math.exp(-1), rel=PRECISE)  # E exp(2z) = e^2
    assert gain(lambda z: np.heaviside(z - 0.123, 0.5)) == pytest.approx(
        (0.5 * math.erfc(0.123 / math.sqrt(2))) ** -0.5, rel=PRECISE
    )
    assert gain(lambda z: 1e-30 * np.asarray(z)) == pytest.approx(1e30, rel=PRECISE)


# The other conventions ---------------------------------------------------------------------------------------

CENTRED = {  # 1 / std phi(z): research/theory.md, ten digits
    "tanh": 1.5925374197,
    "relu": 1.7128585505,
    "gelu": 1.7009262434,
    "silu": 1.7871872221,
    "elu": 1.2708434179,
    "sigmoid": 4.8013133720,
}
PYTORCH = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 0.75, "leaky_relu": (2 / 1.0001) ** 0.5}
BACKWARD = {
    "linear": 1.0,
    "relu": 2**0.5,
    "leaky_relu": (2 / 1.0001) ** 0.5,
    "sin": ((1 + math.exp(-2)) / 2) ** -0.5,
    "erf": (4 / math.pi / 5**0.5) ** -0.5,
    "hard_tanh": (2 * CDF - 1) ** -0.5,
}
EDGE = {"linear": 1.0, "relu": 2**0.5, "leaky_relu": (2 / 1.0001) ** 0.5, "tanh": 1.0, "erf": (math.pi / 4) ** 0.5,
        "gelu": 1.98305826**0.5, "silu": 1.98800468**0.5, "relu6": 2**0.5, "elu": 1.0}  # fmt: skip


@pytest.mark.parametrize("name", CENTRED)
def test_centred(name):
    assert gain(name, kind="centred") == pytest.approx(CENTRED[name], abs=5.1e-11)


@pytest.mark.parametrize("name", PYTORCH)
def test_pytorch(name):
    assert gain(name, kind="pytorch") == pytest.approx(PYTORCH[name], rel=1e-15)


def test_pytorch_itself():
    torch = pytest.importorskip("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert gain(name, kind="pytorch") == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - set(PYTORCH)))
def test_pytorch_has_no_other(name):
    with pytest.raises(InvalidValueError, match="PyTorch has no gain") as error:
        gain(name, kind="pytorch")
    assert error.value.given == name
    assert "leaky_relu" in error.value.allowed


@pytest.mark.parametrize("name", BACKWARD)
def test_backward(name):
    assert gain(name, kind="backward") == pytest.approx(BACKWARD[name], rel=PRECISE)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"step", "sign"}))
def test_backward_and_centred_against_quadrature(name):
    true = theory_moments(name, 1.0)
    assert gain(name, kind="backward") == pytest.approx(float(true["slope_second"] ** -0.5), rel=PRECISE)
    spread = true["second"] - true["mean"] ** 2
    assert gain(name, kind="centred") == pytest.approx(float(spread**-0.5), rel=PRECISE)


@pytest.mark.parametrize("name", EDGE)
def test_edge_of_chaos(name):
    """Known, or from variances that were published to 5e-9."""
    assert gain(name, kind="edge_of_chaos") == pytest.approx(EDGE[name], rel=2e-9)


@pytest.mark.parametrize("name", ["step", "sign"])
def test_jumps_let_no_gradient_through(name):
    for kind in ("backward", "edge_of_chaos"):
        with pytest.raises(InvalidValueError, match="has no"):
            gain(name, kind=kind)


def test_a_constant_has_no_centred_gain():
    with pytest.raises(InvalidValueError, match="no gain of this kind"):
        gain(lambda z: 0 * z + 1, kind="backward")


def test_every_convention_is_named():
    assert set(KINDS) == {"second_moment", "centred", "backward", "edge_of_chaos", "pytorch"}
    assert all(KINDS.values())
    for kind in ("secondmoment", "", None, 3):
        with pytest.raises(UnknownNameError, match="no such kind of gain") as error:
            gain("relu", kind=kind)
        assert "edge_of_chaos" in error.value.allowed


# What has none -----------------------------------------------------------------------------------------------


def test_zero_has_no_gain():
    for kind in ("second_moment", "centred", "backward"):
        with pytest.raises(InvalidValueError, match="The activation has no gain of this kind") as error:
            gain(lambda z: 0 * z, kind=kind)
        assert error.value.given.startswith("<lambda>, ")
        assert error.value.allowed == "a function with a finite mean square above 0"


@pytest.mark.parametrize("function", [lambda z: z * np.nan, lambda z: np.where(np.asarray(z) > 2, np.inf, z)])
def test_what_is_not_finite_has_no_gain(function):
    with pytest.raises(InvalidValueError, match="is not finite") as error:
        gain(function)
    assert error.value.given.startswith("<lambda>(")


def test_a_function_with_an_infinite_mean_square_has_no_gain():
    # phi(z)^2 times the density is constant: its integral has no end.
    with pytest.raises(InvalidValueError, match="no mean square"):
        gain(lambda z: np.exp(np.asarray(z) ** 2 / 4))


def test_a_function_that_is_nan_on_one_side_has_no_gain():
    """In a process of its own, because what went wrong here once was the interpreter."""
    program = """if True:
        import numpy as np
        from fanin.errors import InvalidValueError
        from fanin.theory import gain
        try:
            with np.errstate(all="ignore"):
                gain(np.log)
        except InvalidValueError:
            print("refused")
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr[:500]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [*((each, "cannot be called on a NumPy array") for each in (3, None, [1.0])),
     *((each, "does not keep the shape") for each in (lambda _: 1.0, lambda z: z[:-1]))],
)  # fmt: skip
def test_what_is_no_activation(wrong, message):
    with pytest.raises(InvalidValueError, match=message):
        gain(wrong)


def test_an_unknown_name():
    with pytest.raises(UnknownNameError, match="no such activation"):
        gain("tahn")
